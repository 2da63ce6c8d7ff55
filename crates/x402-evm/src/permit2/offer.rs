//! The seller's half: requirements that are paid by Permit2, `scheme_exact_evm.md` §2 "Phase 1" and `scheme_upto_evm.md`
//! "Phase 1".

use std::sync::Arc;

use alloy_primitives::Address;
use x402_types::{
    AmountRule, ChainId, Claim, EvmAddress, Members, Offer, PaymentKey, PaymentKeyFn, Rejection, SchemeName, Terms,
};

use super::payload::UncheckedPermit;
use crate::exact::{Price, PriceError};
use crate::token::{Token, Tokens};

/// The seller's half of payments by Permit2: builds requirements, and derives the payment key of a claim. Any ERC-20 can be
/// paid so; a payer must have approved Permit2 for it.
#[derive(Debug, Clone)]
pub struct ByPermit2 {
    tokens: Tokens,
}

impl Default for ByPermit2 {
    /// Knows the default assets of all networks.
    fn default() -> Self {
        Self::new(Tokens::for_permit2(&x402_types::Assets::default()))
    }
}

impl ByPermit2 {
    /// Creates a seller's half for these tokens.
    #[must_use]
    pub const fn new(tokens: Tokens) -> Self {
        Self { tokens }
    }

    /// Builds requirements of `exact` with a price in the network's default dollar token.
    ///
    /// ```
    /// use x402_evm::permit2::ByPermit2;
    ///
    /// let base = "eip155:8453".parse()?;
    /// let offer = ByPermit2::default().exact(base, "0x90F79bf6EB2c4f870365E785982E1f101E93b906".parse()?, "$0.10".parse()?)?;
    /// assert_eq!(offer.terms.extra.text("assetTransferMethod").as_deref(), Some("permit2"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The token cannot represent the price, or the network has no dollar token.
    pub fn exact(&self, network: ChainId, pay_to: Address, price: Price) -> Result<Offer, PriceError> {
        let token = self.tokens.dollar(network).ok_or(PriceError::UnknownToken)?;
        offer(token, SchemeName::EXACT, pay_to, price, None)
    }

    /// Builds requirements of `exact` with a price in a given token.
    /// # Errors
    /// The token cannot represent the price, the price is in dollars and the token is not, or the token is unknown.
    pub fn exact_in(
        &self,
        network: ChainId,
        token: Address,
        pay_to: Address,
        price: Price,
    ) -> Result<Offer, PriceError> {
        let token = self.tokens.find(network, token).ok_or(PriceError::UnknownToken)?;
        offer(token, SchemeName::EXACT, pay_to, price, None)
    }

    /// Builds requirements of `upto` with a maximum in the network's default dollar token. `facilitator` is the account
    /// that settles: an address that the facilitator names in `GET /supported`.
    /// # Errors
    /// The token cannot represent the maximum, or the network has no dollar token.
    pub fn upto(
        &self,
        network: ChainId,
        pay_to: Address,
        most: Price,
        facilitator: Address,
    ) -> Result<Offer, PriceError> {
        let token = self.tokens.dollar(network).ok_or(PriceError::UnknownToken)?;
        offer(token, SchemeName::UPTO, pay_to, most, Some(facilitator))
    }

    /// Builds requirements of `upto` with a maximum in a given token.
    /// # Errors
    /// The token cannot represent the maximum, the maximum is in dollars and the token is not, or the token is unknown.
    pub fn upto_in(
        &self,
        network: ChainId,
        token: Address,
        pay_to: Address,
        most: Price,
        facilitator: Address,
    ) -> Result<Offer, PriceError> {
        let token = self.tokens.find(network, token).ok_or(PriceError::UnknownToken)?;
        offer(token, SchemeName::UPTO, pay_to, most, Some(facilitator))
    }
}

fn offer(
    token: &Token,
    scheme: SchemeName,
    pay_to: Address,
    price: Price,
    facilitator: Option<Address>,
) -> Result<Offer, PriceError> {
    let mut extra = Members::new();
    extra.insert_text("assetTransferMethod", "permit2");
    // A payer who has approved nothing signs a permit of the token itself under this domain.
    if let Some(domain) = token.domain.as_ref().filter(|_| token.permits) {
        extra.insert_text("name", &domain.name);
        extra.insert_text("version", &domain.version);
    }
    if let Some(facilitator) = facilitator {
        extra.insert_text("facilitatorAddress", EvmAddress::from(facilitator).as_str());
    }
    let rule = if facilitator.is_some() { AmountRule::AtMost } else { AmountRule::Equal };
    let (asset, pay_to) = (EvmAddress::from(token.address).to_string(), EvmAddress::from(pay_to).to_string());
    Ok(Offer {
        terms: Terms::new(scheme, token.network, price.in_token(token)?, asset, pay_to).with_extra(extra),
        key: Arc::new(PermitKey { rule }),
    })
}

/// Derives the payment key from network, payer and nonce.
#[derive(Debug, Clone, Copy)]
struct PermitKey {
    rule: AmountRule,
}

impl PaymentKeyFn for PermitKey {
    fn key(&self, claim: &Claim) -> Result<PaymentKey, Rejection> {
        Ok(UncheckedPermit::read(&claim.payload)?.key(claim.terms.network))
    }

    fn amount_rule(&self) -> AmountRule {
        self.rule
    }

    /// "The upto scheme supports the authorization flow only": before the work is done nothing has been used.
    fn settles_upfront(&self) -> bool {
        self.rule == AmountRule::Equal
    }
}
