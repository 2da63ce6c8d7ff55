//! [ERC-7769](https://eips.ethereum.org/EIPS/eip-7769): bundlers by JSON-RPC, and the meaning of their error codes.
//!
//! The wire types are this crate's own: alloy's cannot parse the responses of real bundlers, and treat a pending
//! operation as an error.

#[cfg(feature = "rpc")]
mod client;
#[cfg(feature = "rpc")]
pub(crate) mod wire;

#[cfg(feature = "rpc")]
pub use client::{BundlerClient, GasEstimate};

use core::fmt;

/// A bundler's reason for refusing an operation. An operation that landed or is pending is refused, too: look it up by
/// its hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the bundler refuses the operation ({code}): {}", shown(.message))]
pub struct BundlerError {
    /// The error code.
    pub code: BundlerCode,
    /// The bundler's own message, for people.
    pub message: Box<str>,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        /// An error code of ERC-7769.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum BundlerCode {
            $($(#[$doc])* $name,)*
            /// A code that reveals nothing about the operation, which may have been accepted.
            Other(i64),
        }

        impl BundlerCode {
            /// Returns the number on the wire.
            #[must_use]
            pub const fn number(self) -> i64 {
                match self {
                    $(Self::$name => $code,)*
                    Self::Other(code) => code,
                }
            }

            const fn known(code: i64) -> Option<Self> {
                match code {
                    $($code => Some(Self::$name),)*
                    _ => None,
                }
            }
        }

        impl fmt::Display for BundlerCode {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$name => f.write_str($text),)*
                    Self::Other(code) => write!(f, "code {code}"),
                }
            }
        }
    };
}

codes! {
    /// "Invalid UserOperation struct/fields". Alto answers -32601, too.
    Fields = -32602, "invalid fields";
    /// "Transaction rejected by EntryPoint's simulation, during wallet creation or validation".
    Account = -32500, "rejected in validation";
    /// "Transaction rejected by paymaster's validatePaymasterUserOp".
    Paymaster = -32501, "rejected by the paymaster";
    /// "Transaction rejected because of opcode validation".
    Opcode = -32502, "forbidden opcode or storage";
    /// "UserOperation out of time-range": too soon, expired, or about to expire.
    TimeRange = -32503, "out of its time range";
    /// "Transaction rejected because paymaster (or signature aggregator) is throttled/banned".
    Throttled = -32504, "throttled or banned";
    /// "Transaction rejected because paymaster (or signature aggregator) stake or unstake-delay is too low".
    Stake = -32505, "stake too low";
    /// "Transaction rejected because wallet specified unsupported signature aggregator".
    Aggregator = -32506, "unsupported aggregator";
    /// "Transaction rejected because of wallet signature check failed".
    Signature = -32507, "wrong signature";
    /// "Transaction rejected because paymaster balance can't cover all pending UserOperations".
    PaymasterBalance = -32508, "the paymaster's balance is too low";
    /// The execution reverted while gas was estimated. The code is ERC-4337's own, and not in ERC-7769.
    Execution = -32521, "its call reverts";
}

impl BundlerCode {
    /// Converts from the number on the wire.
    #[must_use]
    pub const fn new(code: i64) -> Self {
        match Self::known(code) {
            Some(known) => known,
            None if code == -32601 => Self::Fields,
            None => Self::Other(code),
        }
    }

    /// Returns whether the code concerns the operation. Any other code (an internal error, a rate limit) leaves it
    /// unknown whether the bundler accepted the operation.
    #[must_use]
    pub const fn is_refusal(self) -> bool {
        !matches!(self, Self::Other(_))
    }
}

impl BundlerError {
    /// Returns the EntryPoint's code `AAmn`, if the message contains one.
    #[must_use]
    pub fn entry_point_code(&self) -> Option<&str> {
        let starts = self.message.match_indices("AA").map(|(at, _)| at);
        starts.filter_map(|at| self.message.get(at..at.saturating_add(4))).find(|code| {
            let digits = code.bytes().skip(2).all(|byte| byte.is_ascii_digit());
            digits && code.len() == 4
        })
    }

    /// Returns whether the bundler reports that it has the operation already. ERC-7769 has no code for this.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.message.to_ascii_lowercase().contains("already known")
    }
}

/// Escapes a bundler's message, so that it cannot control a terminal.
fn shown(message: &str) -> String {
    message.chars().take(300).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_of_the_document_has_a_name() {
        for code in (-32508..=-32500).chain([-32602, -32521]) {
            let known = BundlerCode::new(code);
            assert!(known.is_refusal(), "{code}");
            assert_eq!(known.number(), code);
        }
        assert_eq!(BundlerCode::new(-32601), BundlerCode::Fields);
        for code in [-32603, -32000, -32005, 429, 0] {
            assert_eq!(BundlerCode::new(code), BundlerCode::Other(code));
            assert!(!BundlerCode::new(code).is_refusal());
        }
    }

    #[test]
    fn messages_name_codes_of_the_entry_point() {
        let error = |message: &str| BundlerError { code: BundlerCode::Account, message: message.into() };
        assert_eq!(error("UserOperation reverted: AA24 signature error").entry_point_code(), Some("AA24"));
        assert_eq!(error("AAA: AA2x, AA23 reverted").entry_point_code(), Some("AA23"));
        assert_eq!(error("AA").entry_point_code(), None);
        assert_eq!(
            error("\u{1b}[2J").to_string(),
            "the bundler refuses the operation (rejected in validation): \\u{1b}[2J"
        );
    }
}
