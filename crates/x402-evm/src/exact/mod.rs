//! The scheme `exact` on EVM chains by EIP-3009:
//! [`scheme_exact_evm.md`](https://github.com/coinbase/x402/blob/main/specs/schemes/exact/scheme_exact_evm.md) §1.

#[cfg(feature = "facilitator")]
mod authorization;
#[cfg(any(feature = "libsecp256k1", feature = "verify"))]
mod check;
#[cfg(feature = "facilitator")]
mod deployment;
#[cfg(feature = "facilitator")]
mod mechanism;
mod payer;
mod price;
#[cfg(feature = "facilitator")]
mod probe;
#[cfg(feature = "facilitator")]
mod spent;
mod terms;

#[cfg(any(feature = "libsecp256k1", feature = "verify"))]
pub use check::{Checked, ExactPolicy};
#[cfg(feature = "facilitator")]
pub use mechanism::ExactMechanism;
pub use payer::{Payer, SignAs};
pub use price::{Price, PriceError};
#[cfg(feature = "facilitator")]
pub use probe::TRANSFER_GAS;
pub use x402_types::Dollars;

#[cfg(feature = "facilitator")]
pub(crate) use authorization::tx_id;
#[cfg(feature = "facilitator")]
pub(crate) use mechanism::{KEEP, LOOK_BACK, parcel};
#[cfg(feature = "facilitator")]
pub(crate) use probe::VIEW_GAS;
#[cfg(feature = "facilitator")]
pub(crate) use spent::SpentElsewhere;

use std::sync::Arc;

use alloy_primitives::Address;
use x402_types::{ChainId, Claim, EvmAddress, Members, Offer, PaymentKey, PaymentKeyFn, Rejection, SchemeName, Terms};

use crate::eip3009::UncheckedPayload;
use crate::permit2::ByPermit2;
use crate::token::{Token, Tokens};

/// The seller's half: builds requirements, and derives the payment key of a claim.
#[derive(Debug, Clone)]
pub struct Exact {
    tokens: Tokens,
    others: Option<ByPermit2>,
}

impl Default for Exact {
    /// Knows the default assets of all networks. The few that have no EIP-3009 are paid by Permit2.
    fn default() -> Self {
        Self { tokens: Tokens::default(), others: Some(ByPermit2::default()) }
    }
}

impl Exact {
    /// Creates a seller's half for these tokens, which are paid by EIP-3009 alone.
    #[must_use]
    pub const fn new(tokens: Tokens) -> Self {
        Self { tokens, others: None }
    }

    /// Builds requirements with a price in the network's default dollar token.
    ///
    /// ```
    /// use x402_evm::exact::{Exact, Price};
    ///
    /// let base = "eip155:8453".parse()?;
    /// let offer = Exact::default().requirements(base, "0x90F79bf6EB2c4f870365E785982E1f101E93b906".parse()?, "$0.10".parse()?)?;
    /// assert_eq!(offer.terms.amount.to_string(), "100000");
    /// assert_eq!(offer.terms.extra.text("name").as_deref(), Some("USD Coin"));
    /// assert!("$1e3".parse::<Price>().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The token cannot represent the price, or the network has no dollar token.
    pub fn requirements(&self, network: ChainId, pay_to: Address, price: Price) -> Result<Offer, PriceError> {
        match (self.tokens.dollar(network), &self.others) {
            (Some(token), _) => Self::offer(token, pay_to, price),
            (None, Some(others)) => others.exact(network, pay_to, price),
            (None, None) => Err(PriceError::UnknownToken),
        }
    }

    /// Builds requirements with a price in a given token.
    /// # Errors
    /// The token cannot represent the price, the price is in dollars and the token is not, or the token is unknown.
    pub fn requirements_in(
        &self,
        network: ChainId,
        token: Address,
        pay_to: Address,
        price: Price,
    ) -> Result<Offer, PriceError> {
        match (self.tokens.find(network, token), &self.others) {
            (Some(token), _) => Self::offer(token, pay_to, price),
            (None, Some(others)) => others.exact_in(network, token, pay_to, price),
            (None, None) => Err(PriceError::UnknownToken),
        }
    }

    fn offer(token: &Token, pay_to: Address, price: Price) -> Result<Offer, PriceError> {
        let amount = price.in_token(token)?;
        let domain = token.domain.as_ref().ok_or(PriceError::MissingDomain)?;
        let mut extra = Members::new();
        extra.insert_text("name", &domain.name);
        extra.insert_text("version", &domain.version);
        Ok(Offer {
            terms: Terms::new(
                SchemeName::EXACT,
                token.network,
                amount,
                EvmAddress::from(token.address).to_string(),
                EvmAddress::from(pay_to).to_string(),
            )
            .with_extra(extra),
            key: Arc::new(Eip3009Key { token: token.address }),
        })
    }
}

/// Derives the payment key from network, token, payer and nonce.
#[derive(Debug, Clone, Copy)]
struct Eip3009Key {
    token: Address,
}

impl PaymentKeyFn for Eip3009Key {
    fn key(&self, claim: &Claim) -> Result<PaymentKey, Rejection> {
        Ok(UncheckedPayload::read(&claim.payload)?.key(claim.terms.network, self.token))
    }
}
