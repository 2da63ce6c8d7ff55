//! The error codes of the document's table, with their HTTP status.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Malformed;

/// Generates the variant, its code and its status from one table.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal $status:literal;)*) => {
        /// The reason why a payment was refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// Every code, for tables and documents.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Returns the code as it is written in `error` of the refusal's body.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// Returns the HTTP status of a refusal with this code.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }
        }
    };
}

codes! {
    /// The challenge or the payment has expired, or the challenge is unknown.
    Expired = "expired" 402;
    /// The amount is too low.
    Insufficient = "insufficient" 402;
    /// The version, scheme, network or asset differs from the challenge's.
    Mismatch = "mismatch" 402;
    /// The payment was already used.
    Replay = "replay" 409;
    /// The payment header is malformed.
    InvalidSchema = "invalid_schema" 400;
    /// The request differs from the one that the challenge is bound to.
    InvalidBinding = "invalid_binding" 400;
    /// The proof was refused, or its type is switched off. The document's table lacks this code; existing servers send
    /// it.
    VerificationFailed = "verification_failed" 402;
}

impl Code {
    const EXPECTED: &'static str = "an error code of x402.v1";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Code {
    type Err = Malformed;

    fn from_str(s: &str) -> Result<Self, Malformed> {
        let found = Self::ALL.iter().copied().find(|code| code.as_str() == s);
        found.ok_or(Malformed::new(Self::EXPECTED))
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::parsed::deserialize(deserializer, Self::EXPECTED)
    }
}
