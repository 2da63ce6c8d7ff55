//! [Revert data](https://docs.soliditylang.org/en/latest/abi-spec.html#errors): what a call returns when it fails.

use core::fmt;

use alloy_primitives::{Bytes, FixedBytes, U256};
use alloy_sol_types::{Panic, Revert as ErrorString, SolError};

use crate::contract::error_name;

/// The revert data of a call.
///
/// `Display` formats it for people: Solidity's own message, or the error's name if it is known, otherwise the bytes. A
/// message is text from the contract, so it is escaped and cut at 256 characters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Revert(Bytes);

/// The maximum number of displayed characters of a contract's message.
const MAX_SHOWN: usize = 256;

impl Revert {
    /// Wraps revert data.
    #[must_use]
    pub const fn new(data: Bytes) -> Self {
        Self(data)
    }

    /// Returns the bytes.
    #[must_use]
    pub const fn data(&self) -> &Bytes {
        &self.0
    }

    /// Returns the selector with which the data begin.
    #[must_use]
    pub fn selector(&self) -> Option<FixedBytes<4>> {
        self.0.first_chunk::<4>().map(FixedBytes::from)
    }

    /// Returns the error's signature, such as `InvalidNonce()`, if accounts, policies or EntryPoints use it.
    #[must_use]
    pub fn name(&self) -> Option<&'static str> {
        error_name(self.selector()?)
    }

    /// Returns the message of Solidity's `Error(string)`.
    #[must_use]
    pub fn message(&self) -> Option<String> {
        ErrorString::abi_decode(&self.0).ok().map(|error| error.reason)
    }

    /// Returns the code of Solidity's `Panic(uint256)`.
    #[must_use]
    pub fn panic_code(&self) -> Option<U256> {
        Panic::abi_decode(&self.0).ok().map(|panic| panic.code)
    }
}

impl fmt::Display for Revert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nothing");
        }
        if let Some(message) = self.message() {
            return message.chars().take(MAX_SHOWN).try_for_each(|c| write!(f, "{}", c.escape_debug()));
        }
        if let Some(code) = self.panic_code() {
            return write!(f, "Panic({code})");
        }
        let shown = self.0.get(..MAX_SHOWN / 2).unwrap_or(&self.0);
        match self.name() {
            Some(name) if self.0.len() == 4 => f.write_str(name),
            Some(name) => write!(f, "{name} {}", alloy_primitives::hex::encode_prefixed(shown)),
            None => write!(f, "{}", alloy_primitives::hex::encode_prefixed(shown)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::hex;

    #[test]
    fn known_errors_have_names_and_messages() {
        let shown = |data: &[u8]| Revert::new(data.to_vec().into()).to_string();
        assert_eq!(shown(&[]), "nothing");
        assert_eq!(shown(&hex!("756688fe")), "InvalidNonce()");
        // The expected bytes are solc's own encoding of require(false, "no") and of a division by zero.
        let error = hex!(
            "08c379a0"
            "0000000000000000000000000000000000000000000000000000000000000020"
            "0000000000000000000000000000000000000000000000000000000000000002"
            "6e6f000000000000000000000000000000000000000000000000000000000000"
        );
        assert_eq!(shown(&error), "no");
        let panic = hex!("4e487b710000000000000000000000000000000000000000000000000000000000000012");
        assert_eq!(shown(&panic), "Panic(18)");
        assert_eq!(
            shown(&hex!("3e4983f60000000000000000000000000000000000000000000000000000000000000002")),
            "PolicyFailed(uint256) 0x3e4983f60000000000000000000000000000000000000000000000000000000000000002"
        );
        assert_eq!(shown(&hex!("01020304")), "0x01020304");
    }

    #[test]
    fn a_contract_s_message_cannot_write_to_the_terminal() {
        let data = ErrorString::from("\u{1b}[2J".to_owned()).abi_encode();
        assert_eq!(Revert::new(data.into()).to_string(), "\\u{1b}[2J");
        let long = ErrorString::from("a".repeat(1000)).abi_encode();
        assert_eq!(Revert::new(long.into()).to_string().len(), MAX_SHOWN);
    }
}
