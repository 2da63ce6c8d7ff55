//! Sums in US dollars as people write them: prices, caps and budgets. Integers only.

use core::fmt;
use core::str::FromStr;

use crate::{AtomicAmount, Malformed, U256};

/// A sum in US dollars, exact to the last digit written: `1`, `$1`, `0.10` or `$0.10`.
///
/// Digits, and perhaps a point and digits, at most 77 in all; no sign, exponent, separator, space or leading zero, and
/// neither `.5` nor `1.`. Two sums are equal where both are written alike: `$1` and `$1.00` are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Dollars {
    digits: U256,
    decimals: u8,
}

impl Dollars {
    /// The sum of one US dollar.
    pub const ONE: Self = Self { digits: U256::ONE, decimals: 0 };

    /// Returns the number of digits behind the point.
    #[must_use]
    pub const fn decimals(self) -> u8 {
        self.decimals
    }

    /// Converts the sum to the smallest unit of a token of which one is a dollar, and drops what is smaller than that
    /// unit. Returns `None` if the result is over 2^256-1.
    #[must_use]
    pub fn to_atomic(self, decimals: u8) -> Option<AtomicAmount> {
        let power = |digits: u8| U256::from(10).checked_pow(U256::from(digits));
        let amount = match decimals.checked_sub(self.decimals) {
            Some(missing) => self.digits.checked_mul(power(missing)?)?,
            None => self.digits / power(self.decimals - decimals)?,
        };
        Some(amount.into())
    }
}

impl FromStr for Dollars {
    type Err = Malformed;

    fn from_str(s: &str) -> Result<Self, Malformed> {
        const BAD: Malformed = Malformed::new("a sum in dollars such as `0.10`, with at most 77 digits");
        let number = s.strip_prefix('$').unwrap_or(s);
        let (whole, fraction) = match number.split_once('.') {
            Some((_, "")) => return Err(BAD),
            Some(parts) => parts,
            None => (number, ""),
        };
        let digits = [whole, fraction].concat();
        let canonical = !whole.is_empty() && (whole.len() == 1 || !whole.starts_with('0'));
        // 77 digits always fit into 256 bits.
        if !canonical || !digits.bytes().all(|b| b.is_ascii_digit()) || digits.len() > 77 {
            return Err(BAD);
        }
        let decimals = u8::try_from(fraction.len()).map_err(|_| BAD)?;
        Ok(Self { digits: U256::from_str_radix(&digits, 10).map_err(|_| BAD)?, decimals })
    }
}

impl fmt::Display for Dollars {
    /// Writes the digits as they were read, behind a dollar sign.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = usize::from(self.decimals);
        let digits = format!("{:0>width$}", self.digits.to_string(), width = decimals + 1);
        let (whole, fraction) = digits.split_at(digits.len() - decimals);
        if fraction.is_empty() { write!(f, "${whole}") } else { write!(f, "${whole}.{fraction}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling() {
        let most = "9".repeat(77);
        for text in ["$1", "$0.10", "$0", "$12.345678", "$0.0000001", "$10.00", &format!("${most}")] {
            assert_eq!(text.parse::<Dollars>().unwrap().to_string(), text);
            assert_eq!(text[1..].parse::<Dollars>(), text.parse(), "{text}");
        }
        let long = format!("${most}9");
        for text in [
            "",
            "$",
            "$$1",
            ".1",
            "1.",
            "01",
            "+1",
            "-1",
            "1e3",
            "1_0",
            "1,0",
            " 1",
            "1 ",
            "1.2.3",
            "0x10",
            "١",
            "NaN",
            "1$",
            &long,
            &format!("0.{most}"),
        ] {
            assert!(text.parse::<Dollars>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn in_atomic_units() {
        for (text, decimals, atomic) in [
            ("1", 6, "1000000"),
            ("1", 18, "1000000000000000000"),
            ("1", 2, "100"),
            ("0.000001", 2, "0"),
            ("1.999", 2, "199"),
            ("0.0000001", 18, "100000000000"),
        ] {
            let dollars: Dollars = text.parse().unwrap();
            assert_eq!(dollars.to_atomic(decimals).unwrap().to_string(), atomic, "{text}");
        }
        assert_eq!(Dollars::ONE.to_atomic(78), None);
        assert_eq!(Dollars::ONE.to_atomic(255), None);
        assert_eq!("9".repeat(77).parse::<Dollars>().unwrap().to_atomic(18), None);
    }
}
