//! Section "Security rules", 7: money is unsigned 64-bit cents, checked; never a float.

use core::fmt;
use core::str::FromStr;

use x402_types::Malformed;

/// The greatest integer of a JSON document that every reader takes exactly.
pub(crate) const MAX_SAFE: u64 = (1 << 53) - 1;
/// The atomic units of a plan's price on chain in one cent: six decimals against two.
const UNITS_PER_CENT: u64 = 10_000;

/// An amount of money in cents of its currency, at most 2^53-1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Cents(u64);

impl Cents {
    /// The amount 0.
    pub const ZERO: Self = Self(0);
    /// The least that a card is charged, and the least limit of a delegation.
    pub const LEAST: Self = Self(50);
    /// The most that a card is charged at once.
    pub const MOST: Self = Self(99_999_999);

    /// Returns the number of cents.
    #[must_use]
    pub const fn value(self) -> u64 {
        self.0
    }

    /// Converts a plan's price with six decimals, as Nevermined's SDK and contracts have it: 1,000,000 is one dollar.
    ///
    /// # Errors
    /// The price is no whole number of cents.
    pub fn of_six_decimals(units: u64) -> Result<Self, Malformed> {
        if units.is_multiple_of(UNITS_PER_CENT) {
            Self::try_from(units / UNITS_PER_CENT)
        } else {
            Err(Malformed::new("a price in whole cents: a multiple of 10000"))
        }
    }

    /// Returns the sum, unless it is over 2^53-1.
    #[must_use]
    pub fn plus(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).and_then(|sum| Self::try_from(sum).ok())
    }

    /// Returns the difference, unless `other` is more.
    #[must_use]
    pub fn minus(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// Returns the price of so many purchases, unless it is over 2^53-1.
    #[must_use]
    pub fn times(self, purchases: u64) -> Option<Self> {
        self.0.checked_mul(purchases).and_then(|product| Self::try_from(product).ok())
    }

    /// Returns the fee of so many basis points, rounded down; it is never above the price.
    #[must_use]
    pub fn fee(self, basis_points: BasisPoints) -> Self {
        let fee = u128::from(self.0).saturating_mul(basis_points.0.into()) / 10_000;
        Self(u64::try_from(fee).unwrap_or(self.0).min(self.0))
    }
}

impl TryFrom<u64> for Cents {
    type Error = Malformed;

    fn try_from(cents: u64) -> Result<Self, Malformed> {
        if cents <= MAX_SAFE { Ok(Self(cents)) } else { Err(Malformed::new("cents: an integer of at most 2^53-1")) }
    }
}

impl fmt::Display for Cents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A share in hundredths of a percent, 0 to 10,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BasisPoints(u16);

impl TryFrom<u16> for BasisPoints {
    type Error = Malformed;

    fn try_from(points: u16) -> Result<Self, Malformed> {
        if points <= 10_000 { Ok(Self(points)) } else { Err(Malformed::new("basis points: 0 to 10000")) }
    }
}

/// A currency that cards are charged in. Both have two decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Currency {
    /// United States dollar.
    Usd,
    /// The euro.
    Eur,
}

impl Currency {
    /// Returns the code of ISO 4217, in lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Usd => "usd",
            Self::Eur => "eur",
        }
    }
}

impl FromStr for Currency {
    type Err = Malformed;

    fn from_str(code: &str) -> Result<Self, Malformed> {
        match code {
            "usd" => Ok(Self::Usd),
            "eur" => Ok(Self::Eur),
            _ => Err(Malformed::new("a currency in lower case: usd or eur")),
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_with_six_decimals_is_whole_cents_or_refused() {
        assert_eq!(Cents::of_six_decimals(1_000_000), Cents::try_from(100));
        assert_eq!(Cents::of_six_decimals(0), Ok(Cents::ZERO));
        assert_eq!(Cents::of_six_decimals(10_000), Cents::try_from(1));
        for units in [1, 9_999, 10_001, 1_000_001, u64::MAX] {
            assert!(Cents::of_six_decimals(units).is_err(), "{units}");
        }
    }

    #[test]
    fn sums_and_prices_end_before_they_wrap() {
        let most = Cents::try_from(MAX_SAFE).unwrap();
        assert!(Cents::try_from(MAX_SAFE + 1).is_err());
        assert_eq!(most.plus(Cents(1)), None);
        assert_eq!(most.times(2), None);
        assert_eq!(Cents(700).times(u64::MAX), None);
        assert_eq!(Cents::ZERO.minus(Cents(1)), None);
        assert_eq!(Cents(700).times(3), Some(Cents(2_100)));
    }

    #[test]
    fn a_fee_is_rounded_down_and_never_above_the_price() {
        let fee = |cents, points| Cents(cents).fee(BasisPoints::try_from(points).unwrap()).value();
        assert_eq!(
            [fee(700, 250), fee(701, 250), fee(99, 1), fee(700, 10_000), fee(MAX_SAFE, 10_000)],
            [17, 17, 0, 700, MAX_SAFE]
        );
        assert!(BasisPoints::try_from(10_001).is_err());
    }
}
