//! EVM addresses on the wire, and their [EIP-55](https://eips.ethereum.org/EIPS/eip-55) checksum, which is verified
//! only where an address is used.

use core::fmt;
use core::str::FromStr;

#[cfg(feature = "alloy")]
use alloy_primitives::Address;
use const_hex as hex;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Malformed, keccak256};

/// An EVM address: `0x` and 40 hex digits. The text is kept as it was received.
///
/// Parsing checks only the shape. [`EvmAddress::checked`] also checks the case as EIP-55 requires: all lower case, all
/// upper case, or the right checksum; any other mixture is refused. Two values are equal if their texts are equal;
/// compare [`EvmAddress::to_bytes`] to compare the addresses themselves.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EvmAddress([u8; 42]);

impl EvmAddress {
    /// The grammar that a string must match.
    pub const EXPECTED: &'static str = "an EVM address: `0x` and 40 hex digits";

    /// Returns the text as it was received.
    #[must_use]
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Returns the 20 bytes, whatever the case of the digits.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 20] {
        let mut out = [0u8; 20];
        let digits = self.0.get(2..).unwrap_or_default();
        let read = hex::decode_to_slice(digits, &mut out);
        debug_assert_eq!(read, Ok(()), "reading it checked the digits");
        out
    }

    /// Returns the 20 bytes, if the text is in one case or has the right checksum.
    ///
    /// # Errors
    /// The text is in mixed case and does not match the checksum of EIP-55.
    pub fn checked(&self) -> Result<[u8; 20], Malformed> {
        let digits = self.0.get(2..).unwrap_or_default();
        let one_case = !digits.iter().any(u8::is_ascii_uppercase) || !digits.iter().any(u8::is_ascii_lowercase);
        if one_case || self.checksummed() == *self {
            Ok(self.to_bytes())
        } else {
            Err(Malformed::new("an EVM address in one case or with its EIP-55 checksum"))
        }
    }

    /// Returns the address, whatever the case of its digits.
    #[cfg(feature = "alloy")]
    #[must_use]
    pub fn unchecked(&self) -> Address {
        Address::new(self.to_bytes())
    }
}

impl From<[u8; 20]> for EvmAddress {
    /// Formats the address with its EIP-55 checksum.
    fn from(address: [u8; 20]) -> Self {
        let mut text = *b"0x0000000000000000000000000000000000000000";
        let mut nibbles = address.iter().flat_map(|b| [b >> 4, b & 15]);
        for to in text.iter_mut().skip(2) {
            let nibble = nibbles.next().unwrap_or(0);
            *to = if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
        }
        Self(text).checksummed()
    }
}

#[cfg(feature = "alloy")]
impl From<Address> for EvmAddress {
    /// Formats the address with its EIP-55 checksum.
    fn from(address: Address) -> Self {
        address.into_array().into()
    }
}

impl EvmAddress {
    fn checksummed(mut self) -> Self {
        self.0.get_mut(2..).unwrap_or_default().make_ascii_lowercase();
        let hash = keccak256(self.0.get(2..).unwrap_or_default());
        let nibbles = hash.iter().flat_map(|b| [b >> 4, b & 15]);
        for (to, nibble) in self.0.iter_mut().skip(2).zip(nibbles) {
            if nibble >= 8 {
                to.make_ascii_uppercase();
            }
        }
        self
    }
}

#[cfg(feature = "alloy")]
impl TryFrom<EvmAddress> for Address {
    type Error = Malformed;

    /// Converts to an address, if [`EvmAddress::checked`] accepts the case.
    fn try_from(text: EvmAddress) -> Result<Self, Malformed> {
        text.checked().map(Self::new)
    }
}

impl FromStr for EvmAddress {
    type Err = Malformed;

    #[inline]
    fn from_str(s: &str) -> Result<Self, Malformed> {
        const BAD: Malformed = Malformed::new(EvmAddress::EXPECTED);
        let text: [u8; 42] = s.as_bytes().try_into().map_err(|_| BAD)?;
        match text.split_first_chunk::<2>() {
            Some((b"0x", digits)) if hex::check_raw(digits) => Ok(Self(text)),
            _ => Err(BAD),
        }
    }
}

impl fmt::Display for EvmAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for EvmAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for EvmAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for EvmAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::parsed::deserialize(deserializer, Self::EXPECTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The examples of EIP-55 itself.
    const EIP55: [&str; 8] = [
        "0x52908400098527886E0F7030069857D2E4169EE7",
        "0x8617E340B3D01FA5F11F306F4090FD50E238070D",
        "0xde709f2102306220921060314715629080e2fb77",
        "0x27b1fdb04752bbc536007a920d24acb045561c26",
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
        "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
        "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
    ];

    #[test]
    fn eip55_examples_pass_and_are_written_again() {
        for s in EIP55 {
            let text: EvmAddress = s.parse().unwrap();
            let address = text.checked().unwrap();
            assert_eq!(EvmAddress::from(address).as_str(), s);
            let lower: EvmAddress = s.to_lowercase().parse().unwrap();
            assert_eq!(lower.checked().unwrap(), address);
        }
    }

    #[test]
    fn one_wrong_letter_case_is_refused_when_used() {
        let text: EvmAddress = "0x5aAeb6053f3E94C9b9A09f33669435E7Ef1BeAed".parse().unwrap();
        assert!(text.checked().is_err());
        for s in [
            "",
            "0x",
            "5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
            "0X5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
            "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeg",
        ] {
            assert!(s.parse::<EvmAddress>().is_err());
        }
    }
}
