//! The error codes of the document's table, with their HTTP status.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Malformed;

/// One table makes the variant, its code and its status.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal $status:literal;)*) => {
        /// Why a payment was refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// Every code, for tables and documents.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code on the wire: `error` of the refusal's body.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// The HTTP status it is answered with.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }
        }
    };
}

codes! {
    /// Challenge or payment expired, or the challenge is not known.
    Expired = "expired" 402;
    /// Amount too low.
    Insufficient = "insufficient" 402;
    /// Version, scheme, network or asset differ.
    Mismatch = "mismatch" 402;
    /// Payment already used.
    Replay = "replay" 409;
    /// Malformed payment header.
    InvalidSchema = "invalid_schema" 400;
    /// Request binding mismatch.
    InvalidBinding = "invalid_binding" 400;
    /// The proof was refused, or its type is switched off. Not in the document's table; existing servers send it.
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
