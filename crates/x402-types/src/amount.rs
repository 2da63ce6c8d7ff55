//! Amounts in a token's smallest unit: x402 v2 §5.1.2 `amount`, a decimal string.

use core::fmt;
use core::str::FromStr;

use ruint::aliases::U256;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Malformed;

/// An amount in atomic units, 0 to 2^256-1.
///
/// There is one spelling: decimal digits, without a sign, leading zero, exponent, underscore or prefix. On the wire an
/// amount is a string; a JSON number is refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct AtomicAmount(U256);

impl AtomicAmount {
    /// The grammar that a string must match.
    pub const EXPECTED: &'static str =
        "a decimal string of atomic units, without sign or leading zero, at most 2^256-1";
    /// The amount 0.
    pub const ZERO: Self = Self(U256::ZERO);

    /// Returns the amount as a 256-bit integer.
    #[must_use]
    pub const fn value(self) -> U256 {
        self.0
    }

    /// Returns whether the amount is 0.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl From<U256> for AtomicAmount {
    fn from(value: U256) -> Self {
        Self(value)
    }
}

impl From<u64> for AtomicAmount {
    fn from(value: u64) -> Self {
        Self(U256::from(value))
    }
}

impl From<AtomicAmount> for U256 {
    fn from(amount: AtomicAmount) -> Self {
        amount.0
    }
}

impl FromStr for AtomicAmount {
    type Err = Malformed;

    #[inline]
    fn from_str(s: &str) -> Result<Self, Malformed> {
        const BAD: Malformed = Malformed::new(AtomicAmount::EXPECTED);
        let bytes = s.as_bytes();
        if bytes.is_empty() || bytes.len() > 78 || (bytes.len() > 1 && s.starts_with('0')) {
            return Err(BAD);
        }
        if !bytes.iter().all(u8::is_ascii_digit) {
            return Err(BAD);
        }
        if bytes.len() <= 19 {
            // The length was checked above, so the digits fit.
            let digit = |sum: u64, b: &u8| sum.wrapping_mul(10).wrapping_add(u64::from(b & 15));
            return Ok(bytes.iter().fold(0, digit).into());
        }
        U256::from_str_radix(s, 10).map(Self).map_err(|_| BAD)
    }
}

impl TryFrom<&str> for AtomicAmount {
    type Error = Malformed;

    fn try_from(s: &str) -> Result<Self, Malformed> {
        s.parse()
    }
}

impl fmt::Display for AtomicAmount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for AtomicAmount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Serialize for AtomicAmount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AtomicAmount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::parsed::deserialize(deserializer, Self::EXPECTED)
    }
}

/// The relation of the settled amount to the authorized one. The scheme determines it, and server, routes and
/// settlement machine read it from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AmountRule {
    /// The settled amount is the authorized one: `exact`.
    #[default]
    Equal,
    /// The settled amount is the used one, at most the authorized one: `upto`, the credits of a plan.
    AtMost,
}

impl AmountRule {
    /// Returns whether this amount may be settled under that authorization.
    #[must_use]
    pub fn allows(self, settled: AtomicAmount, authorized: AtomicAmount) -> bool {
        match self {
            Self::Equal => settled == authorized,
            Self::AtMost => settled <= authorized,
        }
    }

    /// Returns the amount to settle for a used and an authorized amount.
    #[must_use]
    pub fn settles(self, authorized: AtomicAmount, used: AtomicAmount) -> AtomicAmount {
        match self {
            Self::Equal => authorized,
            Self::AtMost => authorized.min(used),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: &str = "115792089237316195423570985008687907853269984665640564039457584007913129639935";

    #[test]
    fn canonical_decimals_round_trip() {
        for s in ["0", "1", "10000", "18446744073709551615", "18446744073709551616", MAX] {
            assert_eq!(s.parse::<AtomicAmount>().unwrap().to_string(), s);
        }
    }

    #[test]
    fn every_other_spelling_is_refused() {
        let over = "115792089237316195423570985008687907853269984665640564039457584007913129639936";
        for s in ["", "00", "01", "+1", "-1", "1e3", "1_000", "0x10", "0b1", " 1", "1 ", "1.0", "١", over, "1\n"] {
            assert!(s.parse::<AtomicAmount>().is_err(), "{s:?}");
        }
        assert!(serde_json::from_str::<AtomicAmount>("1000").is_err());
    }

    #[test]
    fn what_is_settled_is_what_was_authorized_or_less_by_the_scheme_s_word() {
        let amount = |value: u64| AtomicAmount::from(value);
        for (rule, settled, authorized, allowed) in [
            (AmountRule::Equal, 10, 10, true),
            (AmountRule::Equal, 9, 10, false),
            (AmountRule::Equal, 11, 10, false),
            (AmountRule::AtMost, 10, 10, true),
            (AmountRule::AtMost, 0, 10, true),
            (AmountRule::AtMost, 11, 10, false),
        ] {
            assert_eq!(rule.allows(amount(settled), amount(authorized)), allowed, "{rule:?} {settled} of {authorized}");
        }
        for (rule, used, settled) in
            [(AmountRule::Equal, 3, 10), (AmountRule::AtMost, 3, 3), (AmountRule::AtMost, 30, 10)]
        {
            assert_eq!(rule.settles(amount(10), amount(used)), amount(settled), "{rule:?} {used}");
        }
    }
}
