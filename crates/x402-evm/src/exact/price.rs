//! Prices as a seller writes them: `$0.10`, or atomic units. All arithmetic uses integers.

use core::str::FromStr;

use x402_types::{AtomicAmount, Dollars};

use crate::token::Token;

/// The price of a seller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Price {
    /// A price in US dollars, in the network's default dollar token or in a given one.
    Dollars(Dollars),
    /// A price in atomic units of a token.
    Atomic(AtomicAmount),
}

/// The reason why a price cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PriceError {
    /// The text is malformed.
    #[error("expected a price such as `$0.10`: a dollar sign, digits, and perhaps a point and digits")]
    Malformed,
    /// The price has more decimal places than the token.
    #[error("the price has {given} decimals, the token {decimals}")]
    Decimals {
        /// The decimal places of the price.
        given: u8,
        /// The decimal places of the token.
        decimals: u8,
    },
    /// The price is zero.
    #[error("the price is zero")]
    Zero,
    /// The price exceeds 2^256-1 atomic units.
    #[error("the price is over 2^256-1 atomic units")]
    TooLarge,
    /// The token is unknown on this network, or none of the network's tokens represents dollars.
    #[error("expected a known token of the network, found another")]
    UnknownToken,
    /// One unit of this token is not one US dollar.
    #[error(
        "expected a token that represents dollars, or a price in atomic units; found a price in dollars for another token"
    )]
    NotDollar,
    /// The token's EIP-712 name and version are not configured.
    #[error("the token's EIP-712 name and version are not configured")]
    MissingDomain,
}

/// Converts a price to atomic units of a token with so many decimals. Nothing of it is dropped.
fn atomic(price: Dollars, decimals: u8) -> Result<AtomicAmount, PriceError> {
    let given = price.decimals();
    if given > decimals {
        return Err(PriceError::Decimals { given, decimals });
    }
    let amount = price.to_atomic(decimals).ok_or(PriceError::TooLarge)?;
    if amount.is_zero() { Err(PriceError::Zero) } else { Ok(amount) }
}

impl Price {
    /// Returns the price in atomic units of a token.
    pub(crate) fn in_token(self, token: &Token) -> Result<AtomicAmount, PriceError> {
        match self {
            Self::Dollars(_) if !token.dollar => Err(PriceError::NotDollar),
            Self::Dollars(dollars) => atomic(dollars, token.decimals),
            Self::Atomic(amount) if amount.is_zero() => Err(PriceError::Zero),
            Self::Atomic(amount) => Ok(amount),
        }
    }
}

impl FromStr for Price {
    type Err = PriceError;

    /// Parses only dollars: a number without `$` would be ambiguous.
    fn from_str(text: &str) -> Result<Self, PriceError> {
        let text = Some(text).filter(|text| text.starts_with('$')).ok_or(PriceError::Malformed)?;
        text.parse().map(Self::Dollars).map_err(|_| PriceError::Malformed)
    }
}

impl TryFrom<&str> for Price {
    type Error = PriceError;

    fn try_from(text: &str) -> Result<Self, PriceError> {
        text.parse()
    }
}

impl From<AtomicAmount> for Price {
    fn from(amount: AtomicAmount) -> Self {
        Self::Atomic(amount)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str, decimals: u8) -> Result<AtomicAmount, PriceError> {
        atomic(text.parse().unwrap(), decimals)
    }

    #[test]
    fn dollars_become_atomic_units() {
        for (text, decimals, atomic) in [
            ("$0.10", 6, "100000"),
            ("$1", 6, "1000000"),
            ("$0.000001", 6, "1"),
            ("$10.5", 18, "10500000000000000000"),
            ("$7", 0, "7"),
        ] {
            assert_eq!(asked(text, decimals).unwrap().to_string(), atomic, "{text}");
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        let long = format!("${}", "9".repeat(78));
        for text in [
            "", "$", "0.10", "$ 0.10", "$0.10 ", "$-1", "$+1", "$1e3", "$1_000", "$1,000", "$01", "$00.1", "$.5",
            "$1.", "$1.2.3", "$0x10", "$١", "USD 1", "€1", "$NaN", &long,
        ] {
            assert_eq!(text.parse::<Price>(), Err(PriceError::Malformed), "{text:?}");
        }
    }

    #[test]
    fn what_the_token_cannot_hold_is_refused() {
        assert_eq!(asked("$0.0000001", 6), Err(PriceError::Decimals { given: 7, decimals: 6 }));
        assert_eq!(asked("$0.00", 6), Err(PriceError::Zero));
        assert_eq!(asked("$1", 78), Err(PriceError::TooLarge));
        assert_eq!(asked(&format!("${}", "9".repeat(77)), 18), Err(PriceError::TooLarge));
    }
}
