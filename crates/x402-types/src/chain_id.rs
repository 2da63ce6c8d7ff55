//! [CAIP-2](https://chainagnostic.org/CAIPs/caip-2) network identifiers, as x402 v2 §5.1.2 uses them.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{EvmAddress, Malformed};

/// The longest identifier: 8 bytes of namespace, a colon, 32 bytes of reference.
const MAX: usize = 41;

/// A network: `namespace:reference`, for example `eip155:8453`.
///
/// The grammar is `[-a-z0-9]{3,8}:[-_a-zA-Z0-9]{1,32}`, and in the `eip155` namespace the reference is a canonical
/// `u64`: digits only, no sign, no leading zero. The text is held inline, so that copying it allocates nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId {
    text: [u8; MAX],
    len: u8,
    colon: u8,
}

impl ChainId {
    /// The grammar that a string must match.
    pub const EXPECTED: &'static str = "a CAIP-2 network such as `eip155:8453`";

    /// Creates the identifier of an EVM chain.
    #[must_use]
    pub fn eip155(chain: u64) -> Self {
        let mut digits = [0u8; 20];
        let mut at = digits.len();
        let mut left = chain;
        loop {
            at = at.saturating_sub(1);
            if let Some(digit) = digits.get_mut(at) {
                *digit = b'0' + u8::try_from(left % 10).unwrap_or(0);
            }
            left /= 10;
            if left == 0 {
                break;
            }
        }
        let mut text = [0u8; MAX];
        let mut len = 0u8;
        for (to, from) in text.iter_mut().zip(b"eip155:".iter().chain(digits.iter().skip(at))) {
            *to = *from;
            len = len.saturating_add(1);
        }
        Self { text, len, colon: 6 }
    }

    /// Returns the whole identifier.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let bytes = self.text.get(..usize::from(self.len)).unwrap_or_default();
        core::str::from_utf8(bytes).unwrap_or_default()
    }

    /// Returns the part before the colon: `eip155`, `solana`, …
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.as_str().get(..usize::from(self.colon)).unwrap_or_default()
    }

    /// Returns the part after the colon.
    #[must_use]
    pub fn reference(&self) -> &str {
        self.as_str().get(usize::from(self.colon) + 1..).unwrap_or_default()
    }

    /// Returns whether two texts name one account or contract of this network: in the namespace `eip155` they are compared
    /// as addresses, in every other one as texts.
    #[must_use]
    pub fn same_account(&self, a: &str, b: &str) -> bool {
        let value = |text: &str| text.parse::<EvmAddress>().and_then(|address| address.checked()).ok();
        a == b || (self.namespace() == "eip155" && value(a).is_some_and(|a| value(b) == Some(a)))
    }

    /// Returns the EVM chain number, if the namespace is `eip155`.
    #[must_use]
    pub fn eip155_chain(&self) -> Option<u64> {
        if self.namespace() == "eip155" { self.reference().parse().ok() } else { None }
    }

    /// Returns the EVM chain number, for code that serves no other networks.
    ///
    /// # Errors
    /// [`NotEvm`] if the namespace is not `eip155`, or the number is over 2^64-1.
    pub fn evm_chain(&self) -> Result<u64, NotEvm> {
        self.eip155_chain().ok_or(NotEvm(*self))
    }
}

/// The error that a network is not an EVM chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not an EVM chain")]
pub struct NotEvm(pub ChainId);

impl FromStr for ChainId {
    type Err = Malformed;

    #[inline]
    fn from_str(s: &str) -> Result<Self, Malformed> {
        const BAD: Malformed = Malformed::new(ChainId::EXPECTED);
        let bytes = s.as_bytes();
        let colon = match bytes.strip_prefix(b"eip155:") {
            // The usual case. A number of 19 digits fits into a u64.
            Some([first, rest @ ..])
                if rest.len() < 19
                    && first.is_ascii_digit()
                    && rest.iter().all(u8::is_ascii_digit)
                    && (*first != b'0' || rest.is_empty()) =>
            {
                6
            }
            _ => checked_colon(s)?,
        };
        let mut text = [0u8; MAX];
        text.get_mut(..bytes.len()).ok_or(BAD)?.copy_from_slice(bytes);
        let len = u8::try_from(bytes.len()).map_err(|_| BAD)?;
        Ok(Self { text, len, colon })
    }
}

/// Returns the position of the colon, if the identifier is well-formed.
fn checked_colon(s: &str) -> Result<u8, Malformed> {
    const BAD: Malformed = Malformed::new(ChainId::EXPECTED);
    let (namespace, reference) = s.split_once(':').ok_or(BAD)?;
    let small = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if !(3..=8).contains(&namespace.len()) || !namespace.bytes().all(small) {
        return Err(BAD);
    }
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if !(1..=32).contains(&reference.len()) || !reference.bytes().all(word) {
        return Err(BAD);
    }
    if namespace == "eip155" {
        let canonical = reference.bytes().all(|b| b.is_ascii_digit())
            && (reference.len() == 1 || !reference.starts_with('0'))
            && reference.parse::<u64>().is_ok();
        if !canonical {
            return Err(Malformed::new("an `eip155` network whose reference is a u64 without leading zeros"));
        }
    }
    u8::try_from(namespace.len()).map_err(|_| BAD)
}

impl TryFrom<&str> for ChainId {
    type Error = Malformed;

    fn try_from(s: &str) -> Result<Self, Malformed> {
        s.parse()
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl Serialize for ChainId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ChainId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::parsed::deserialize(deserializer, Self::EXPECTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caip2_accepts_the_identifiers_of_its_document() {
        for s in ["eip155:1", "eip155:84532", "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", "stellar:pubnet", "abc:_"] {
            assert_eq!(s.parse::<ChainId>().unwrap().as_str(), s);
        }
        assert_eq!(ChainId::eip155(84532), "eip155:84532".parse().unwrap());
        assert_eq!(ChainId::eip155(u64::MAX).eip155_chain(), Some(u64::MAX));
        assert_eq!(ChainId::eip155(0).as_str(), "eip155:0");
    }

    /// What an account is belongs to the namespace: base58 and card numbers have one spelling each.
    #[test]
    fn accounts_are_compared_as_their_namespace_has_it() {
        let (lower, mixed) =
            ("0x036cbd53842c5426634e7929541ec2318f3dcf7e", "0x036CbD53842c5426634e7929541eC2318f3dCF7e");
        let same = |network: &str, a, b| network.parse::<ChainId>().unwrap().same_account(a, b);
        assert!(same("eip155:84532", lower, mixed) && same("eip155:84532", mixed, mixed));
        assert!(!same("eip155:84532", lower, "0x136cbd53842c5426634e7929541ec2318f3dcf7e"));
        // A wrong checksum is no address.
        assert!(!same("eip155:84532", lower, "0x036cBD53842c5426634e7929541eC2318f3dCF7e"));
        for network in ["solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", "card:visa"] {
            assert!(same(network, "abcDEF", "abcDEF") && !same(network, "abcDEF", "abcdef"), "{network}");
            assert!(!same(network, lower, mixed), "{network}");
        }
    }

    #[test]
    fn caip2_refuses_every_other_spelling() {
        for s in [
            "",
            ":",
            "eip155:",
            ":1",
            "base",
            "EIP155:1",
            "eip155:+1",
            "eip155:01",
            "eip155:1 ",
            "eip155:1\n",
            "ab:1",
            "eip155:18446744073709551616",
            "abcdefghi:1",
            "eip155:1:2",
            "solana:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "eip155:0x1",
        ] {
            assert!(s.parse::<ChainId>().is_err(), "{s:?}");
        }
    }
}
