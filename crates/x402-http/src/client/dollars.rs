//! Sums in US dollars, for limits and budgets.

use core::fmt;
use core::str::FromStr;

use x402_types::{AtomicAmount, Malformed};

/// A sum in US dollars, in millionths.
///
/// Its text is `1`, `0.10` or `$0.10`: digits, at most six of them after the decimal point; without sign, exponent,
/// separator or leading zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dollars(u64);

impl Dollars {
    /// One dollar.
    pub const ONE: Self = Self(1_000_000);

    /// The sum in millionths of a dollar.
    #[must_use]
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// Converts the sum to atomic units of a token that is worth one dollar, rounded down.
    #[must_use]
    pub fn to_atomic(self, decimals: u8) -> AtomicAmount {
        if let Some(missing) = 6u8.checked_sub(decimals) {
            return AtomicAmount::from(self.0 / 10u64.pow(u32::from(missing)));
        }
        let zeros = usize::from(decimals.saturating_sub(6));
        let text = if self.0 == 0 { "0".to_owned() } else { format!("{}{}", self.0, "0".repeat(zeros)) };
        // This overflows only for tokens with 70 or more decimals: nothing may be paid in them.
        text.parse().unwrap_or(AtomicAmount::ZERO)
    }
}

impl FromStr for Dollars {
    type Err = Malformed;

    fn from_str(s: &str) -> Result<Self, Malformed> {
        const BAD: Malformed =
            Malformed::new("a sum in dollars such as `0.10`, with at most six digits behind the point");
        let s = s.strip_prefix('$').unwrap_or(s);
        let (whole, part) = s.split_once('.').map_or((s, None), |(whole, part)| (whole, Some(part)));
        let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        let part_fits = part.is_none_or(|part| digits(part) && part.len() <= 6);
        if !digits(whole) || !part_fits || (whole.len() > 1 && whole.starts_with('0')) {
            return Err(BAD);
        }
        let micros: u64 = format!("{:0<6}", part.unwrap_or_default()).parse().map_err(|_| BAD)?;
        let whole: u64 = whole.parse().map_err(|_| BAD)?;
        whole.checked_mul(1_000_000).and_then(|whole| whole.checked_add(micros)).map(Self).ok_or(BAD)
    }
}

impl fmt::Display for Dollars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling() {
        for (text, micros) in
            [("1", 1_000_000), ("0.10", 100_000), ("$0.10", 100_000), ("0", 0), ("12.345678", 12_345_678)]
        {
            assert_eq!(text.parse(), Ok(Dollars(micros)), "{text}");
        }
        for text in ["", "$", ".1", "1.", "01", "+1", "-1", "1e3", "1_0", "1,0", "0.1234567", " 1", "18446744073710"] {
            assert!(text.parse::<Dollars>().is_err(), "{text}");
        }
    }

    #[test]
    fn in_atomic_units() {
        assert_eq!(Dollars::ONE.to_atomic(6).to_string(), "1000000");
        assert_eq!(Dollars::ONE.to_atomic(18).to_string(), "1000000000000000000");
        assert_eq!(Dollars::ONE.to_atomic(2).to_string(), "100");
        assert_eq!(Dollars(1).to_atomic(2), AtomicAmount::ZERO);
        assert_eq!(Dollars::ONE.to_atomic(255), AtomicAmount::ZERO);
    }
}
