//! [Revert data](https://docs.soliditylang.org/en/latest/abi-spec.html#errors): what a call gave back in place of an
//! answer.

use core::fmt;

use alloy_primitives::{Bytes, FixedBytes, U256};
use alloy_sol_types::{Panic, Revert as ErrorString, SolError};

use crate::contract::error_name;

/// What a call reverted with.
///
/// Its `Display` is for people: Solidity's own message or the error's name where it is known, else the bytes. A
/// message is the contract's own text, so it is escaped and cut at 256 characters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Revert(Bytes);

/// Characters of a contract's message that are shown.
const MAX_SHOWN: usize = 256;

impl Revert {
    /// Revert data as they are.
    #[must_use]
    pub const fn new(data: Bytes) -> Self {
        Self(data)
    }

    /// The bytes.
    #[must_use]
    pub const fn data(&self) -> &Bytes {
        &self.0
    }

    /// What they begin with.
    #[must_use]
    pub fn selector(&self) -> Option<FixedBytes<4>> {
        self.0.first_chunk::<4>().map(FixedBytes::from)
    }

    /// The error's signature, as `InvalidNonce()`, if it is one that accounts, policies or EntryPoints revert with.
    #[must_use]
    pub fn name(&self) -> Option<&'static str> {
        error_name(self.selector()?)
    }

    /// Solidity's `Error(string)`.
    #[must_use]
    pub fn message(&self) -> Option<String> {
        ErrorString::abi_decode(&self.0).ok().map(|error| error.reason)
    }

    /// Solidity's `Panic(uint256)`.
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
        // solc's own encoding of require(false, "no") and of a division by zero.
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
