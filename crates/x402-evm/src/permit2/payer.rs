//! The client's half: signs one permit for the terms.

use std::sync::Arc;

use alloy_primitives::{Address, U256};
use async_trait::async_trait;
use x402_types::{
    ErrorReason, EvmAddress, MadePayment, MakePayment, Refusal, Rejection, SchemeName, SigningContext, Terms, Version,
};

use super::approval::ApproveToken;
use super::message::{self, Permit, Witness};
use super::payload::PermitPayload;
use crate::exact::SignAs;
use crate::token::Tokens;

/// Pays `exact` and `upto` by Permit2, with a [`Key`](crate::key::Key), with any other [`Sign`](crate::key::Sign), or for
/// a deployed smart account with a [`SignAs`].
///
/// It signs for known tokens only; [`Payer::with_any_token`] makes it sign also for others. The permit's spender is
/// always x402's proxy, so that it can pay only the recipient of the terms.
pub struct Payer<S> {
    signer: S,
    tokens: Tokens,
    any_token: bool,
    approver: Option<Arc<dyn ApproveToken>>,
}

impl<S: SignAs> core::fmt::Debug for Payer<S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Payer").field("address", &self.signer.account()).finish_non_exhaustive()
    }
}

/// Terms that one permit can pay.
struct Payable {
    chain_id: u64,
    token: Address,
    witness: Witness,
}

impl<S: SignAs> Payer<S> {
    /// Creates a payer in the default assets.
    #[must_use]
    pub fn new(signer: S) -> Self {
        Self { signer, tokens: Tokens::for_permit2(&x402_types::Assets::default()), any_token: false, approver: None }
    }

    /// Pays only in these tokens.
    #[must_use]
    pub fn with_tokens(mut self, tokens: Tokens) -> Self {
        self.tokens = tokens;
        self
    }

    /// Pays also in unknown tokens.
    #[must_use]
    pub fn with_any_token(mut self) -> Self {
        self.any_token = true;
        self
    }

    /// Approves Permit2 where a server refuses a payment because the allowance is short. Without an approver the refusal is the
    /// caller's to read.
    #[must_use]
    pub fn with_approver(mut self, approver: Arc<dyn ApproveToken>) -> Self {
        self.approver = Some(approver);
        self
    }

    /// Returns the payer's address.
    #[must_use]
    pub fn address(&self) -> Address {
        self.signer.account()
    }

    fn prepare(&self, terms: &Terms) -> Result<Payable, Rejection> {
        let bad = |why: &'static str| Rejection::new(ErrorReason::INVALID_PAYMENT_REQUIREMENTS).because(why);
        let other = |why: &'static str| Rejection::new(ErrorReason::UNSUPPORTED_SCHEME).because(why);
        if !takes_permit(terms) {
            return Err(other("scheme: expected `exact` or `upto` by Permit2"));
        }
        if terms.version != Version::V2 {
            return Err(other("x402Version: version 1 knows no Permit2"));
        }
        let chain_id = terms.network.evm_chain();
        let chain_id =
            chain_id.map_err(|why| Rejection::new(ErrorReason::INVALID_NETWORK).because(format!("network: {why}")))?;
        let address = |text: &str| text.parse::<EvmAddress>().and_then(Address::try_from).ok();
        let token = address(&terms.asset).ok_or_else(|| bad("asset: expected an EVM address"))?;
        if self.tokens.find(terms.network, token).is_none() && !self.any_token {
            return Err(bad("asset: not a token that this client knows"));
        }
        let to = address(&terms.pay_to).ok_or_else(|| bad("payTo: expected an EVM address"))?;
        if to.is_zero() {
            return Err(bad("payTo: the zero address"));
        }
        if terms.amount.is_zero() {
            return Err(bad("amount: zero"));
        }
        let facilitator = match terms.scheme == SchemeName::UPTO {
            true => {
                let named = terms.extra.text("facilitatorAddress").and_then(|text| address(&text));
                let named = named.filter(|named| !named.is_zero());
                Some(named.ok_or_else(|| bad("extra.facilitatorAddress: expected the account that settles"))?)
            }
            false => None,
        };
        Ok(Payable { chain_id, token, witness: Witness { to, facilitator, valid_after: U256::ZERO } })
    }
}

/// Returns whether terms are paid by Permit2.
pub(super) fn takes_permit(terms: &Terms) -> bool {
    match (&terms.scheme, terms.extra.text("assetTransferMethod").as_deref()) {
        (scheme, Some("permit2")) => [SchemeName::EXACT, SchemeName::UPTO].contains(scheme),
        // Permit2 is the only method of `upto`.
        (scheme, None) => *scheme == SchemeName::UPTO,
        _ => false,
    }
}

#[async_trait]
impl<S: SignAs> MakePayment for Payer<S> {
    fn can_pay(&self, terms: &Terms) -> bool {
        self.prepare(terms).is_ok()
    }

    fn objection(&self, terms: &Terms) -> Option<Rejection> {
        self.prepare(terms).err()
    }

    async fn make_payment(&self, terms: &Terms, context: &SigningContext<'_>) -> Result<MadePayment, Refusal> {
        let Payable { chain_id, token, witness } = self.prepare(terms)?;
        let valid_until = context.now.plus(terms.max_timeout_seconds.get());
        let authorization = Permit {
            from: self.signer.account(),
            token,
            amount: terms.amount,
            spender: witness.proxy(),
            nonce: U256::from_be_bytes(context.entropy),
            deadline: U256::from(valid_until.0),
            witness,
        };
        let signature = self.signer.sign_digest(authorization.digest(message::domain(chain_id))).await?;
        let payload = PermitPayload { authorization, signature };
        let payer = EvmAddress::from(authorization.from).to_string();
        let made = MadePayment::new(payload.to_json(), payer, authorization.key(terms.network), valid_until);
        Ok(if witness.facilitator.is_some() { made.with_settlement_at_most() } else { made })
    }

    async fn remedy(&self, terms: &Terms, refused: &ErrorReason) -> Result<bool, Refusal> {
        let Some(approver) = self.approver.as_ref().filter(|_| *refused == ErrorReason::PERMIT2_ALLOWANCE_REQUIRED)
        else {
            return Ok(false);
        };
        let token = self.prepare(terms)?.token;
        Ok(approver.approve(terms.network, self.signer.account(), token, terms.amount).await?)
    }
}
