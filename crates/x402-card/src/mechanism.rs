//! The scheme for a facilitator: `nvm:card-delegation`, its checks, steps and proofs.

use std::sync::Arc;

use async_trait::async_trait;
use x402_facilitator_core::{LaneId, Ledger, Mechanism, NextStep, Observation, Payment, Step, TxId, Verdict};
use x402_types::nvm::card::{CardPayload, Processor};
use x402_types::v2::SupportedKind;
use x402_types::{
    AmountRule, ChainId, Claim, Fault, Members, PaymentKey, Refusal, Rejection, SchemeName, UnixSeconds, Version,
};

use crate::account::CardAccount;
use crate::key::payment_key;
use crate::stores::{Books, Cards, Delegations};
use crate::{CardPlans, LONGEST_LIFE, TokenClaims, TokenKeys};

/// The seconds after a token's end for which a payment's row is kept: 30 days.
const KEPT: u64 = 30 * 86_400;

/// The parts of the mechanism.
#[derive(Clone)]
pub struct CardParts {
    /// The facilitator's URL, `iss` of its tokens.
    pub issuer: String,
    /// The keys of its tokens.
    pub keys: TokenKeys,
    /// The plans that are served.
    pub plans: CardPlans,
    /// The account at the processor.
    pub account: Arc<CardAccount>,
    /// The store of delegations.
    pub delegations: Arc<dyn Delegations>,
    /// The books of credits.
    pub books: Arc<dyn Books>,
    /// The handles of cards.
    pub cards: Arc<dyn Cards>,
    /// The ledger, in which other payments of a subscriber are found.
    pub ledger: Arc<dyn Ledger>,
    /// The lanes of the rail.
    pub lanes: Vec<LaneId>,
}

impl core::fmt::Debug for CardParts {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("CardParts")
            .field("issuer", &self.issuer)
            .field("account", &self.account)
            .finish_non_exhaustive()
    }
}

/// The mechanism of `nvm:card-delegation` for Stripe.
pub struct CardMechanism {
    pub(crate) parts: CardParts,
    pub(crate) network: ChainId,
    pub(crate) longest_life: u64,
}

impl core::fmt::Debug for CardMechanism {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("CardMechanism").field("issuer", &self.parts.issuer).finish_non_exhaustive()
    }
}

impl CardMechanism {
    /// Creates the mechanism.
    ///
    /// # Errors
    /// The processor has no network.
    pub fn new(parts: CardParts) -> Result<Self, Fault> {
        let network = Processor::Stripe.network().ok_or_else(|| Fault::broken("the card processor has no network"))?;
        Ok(Self { parts, network, longest_life: LONGEST_LIFE })
    }

    /// Sets the longest life of a token, in seconds; 30 days by default.
    #[must_use]
    pub const fn with_longest_life(mut self, seconds: u64) -> Self {
        self.longest_life = seconds;
        self
    }

    /// Returns the parts.
    #[must_use]
    pub const fn parts(&self) -> &CardParts {
        &self.parts
    }
}

#[async_trait]
impl Mechanism for CardMechanism {
    fn kinds(&self) -> Vec<SupportedKind> {
        vec![SupportedKind {
            x402_version: Version::V2,
            scheme: SchemeName::NVM_CARD_DELEGATION,
            network: Processor::Stripe.network_name(),
            extra: Members::new(),
            rest: Members::new(),
        }]
    }

    fn amount_rule(&self) -> AmountRule {
        AmountRule::AtMost
    }

    fn lanes(&self) -> Vec<LaneId> {
        self.parts.lanes.clone()
    }

    fn has_nonce_on_chain(&self) -> bool {
        false
    }

    /// Derives the key of a token whose signature is this facilitator's: no claim is read before.
    fn key(&self, claim: &Claim) -> Result<PaymentKey, Rejection> {
        self.plan_asked(claim)?;
        let token = TokenClaims::verified(&CardPayload::from_raw(&claim.payload)?.token, &self.parts.keys)?;
        payment_key(claim, &token)
    }

    fn payer(&self, key: &PaymentKey) -> Option<String> {
        String::from_utf8(key.payer()?.to_vec()).ok()
    }

    async fn verify(&self, claim: &Claim, now: UnixSeconds) -> Result<Verdict, Refusal> {
        let examined = self.examine(claim, now).await?;
        let keep_until = examined.token.expires_at.plus(KEPT);
        Ok(Verdict::new(examined.token.subject, self.parts.lanes.clone(), keep_until))
    }

    async fn plan(&self, payment: &Payment, now: UnixSeconds) -> Result<NextStep, Fault> {
        self.next(payment, now).await
    }

    async fn observe(&self, step: &Step, _sent: &[TxId]) -> Result<Observation, Fault> {
        self.look(step).await
    }
}
