//! The client's half: it presents the token of a delegation for the plans that it was given.

use async_trait::async_trait;
use x402_types::nvm::PlanId;
use x402_types::nvm::card::{CardCode, CardPayload, CardRequirements, Processor};
use x402_types::{
    AtomicAmount, Fault, MadePayment, MakePayment, RawJson, Refusal, Rejection, SchemeName, SigningContext, Terms,
    UnixSeconds,
};
use zeroize::Zeroizing;

use crate::key::payment_key;
use crate::{Cents, TokenClaims};

/// The seconds that a token must still be valid: the server works, and settles afterwards.
const LEAST_LIFE: u64 = 120;

/// A plan that a client pays for, and the most that it may cost. The server's entry has neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlanLimit {
    /// The plan's id.
    pub plan: PlanId,
    /// The most credits of one request.
    pub credits: u64,
    /// The most that the client takes one purchase to cost; the facilitator's delegation is the bound.
    pub purchase: Cents,
}

impl PlanLimit {
    /// Creates the limits of a plan.
    #[must_use]
    pub const fn new(plan: PlanId, credits: u64, purchase: Cents) -> Self {
        Self { plan, credits, purchase }
    }
}

/// A client that pays with a delegated card.
pub struct CardPayer {
    token: Zeroizing<String>,
    claims: TokenClaims,
    plans: Vec<PlanLimit>,
}

impl CardPayer {
    /// Creates a payer with the token of a delegation, or better of an access token, which is bound to its plan, and the
    /// plans that it may pay for. The token's claims are read without being trusted.
    ///
    /// # Errors
    /// `INVALID_TOKEN`: the text is no token of this scheme; `INSUFFICIENT_BALANCE`: the delegation covers no purchase of
    /// a plan.
    pub fn new(token: impl Into<String>, plans: impl IntoIterator<Item = PlanLimit>) -> Result<Self, Rejection> {
        let token = Zeroizing::new(token.into());
        let claims = TokenClaims::unverified(&token)?;
        let plans: Vec<PlanLimit> = plans.into_iter().collect();
        if let Some(plan) = plans.iter().find(|plan| plan.purchase > claims.limit) {
            let why = format!("plan {}: one purchase is above the delegation's limit", plan.plan);
            return Err(CardCode::InsufficientBalance.because(why));
        }
        Ok(Self { token, claims, plans })
    }

    fn check(&self, terms: &Terms) -> Result<(), Rejection> {
        let refuse = |why: &str| Err(CardCode::InvalidPayload.because(why));
        let Ok(entry) = CardRequirements::try_from(terms) else {
            return refuse("accepts: expected an entry of nvm:card-delegation");
        };
        let processor = Processor::of_network(terms.network);
        if processor != Some(Processor::Stripe) || processor != self.claims.processor {
            return refuse("network: not the processor of the delegation");
        }
        let Some(limit) = self.plans.iter().find(|limit| limit.plan == entry.plan_id) else {
            return refuse("planId: not on the client's list");
        };
        if self.claims.plan.is_some_and(|plan| plan != entry.plan_id) {
            return refuse("planId: the token is for another plan");
        }
        if terms.amount > AtomicAmount::from(limit.credits) {
            return refuse("amount: more credits than the client allows");
        }
        Ok(())
    }
}

impl core::fmt::Debug for CardPayer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("CardPayer").field("claims", &self.claims).field("plans", &self.plans).finish_non_exhaustive()
    }
}

#[async_trait]
impl MakePayment for CardPayer {
    fn can_pay(&self, terms: &Terms) -> bool {
        self.check(terms).is_ok()
    }

    fn objection(&self, terms: &Terms) -> Option<Rejection> {
        if terms.scheme == SchemeName::NVM_CARD_DELEGATION { self.check(terms).err() } else { None }
    }

    async fn make_payment(&self, terms: &Terms, context: &SigningContext<'_>) -> Result<MadePayment, Refusal> {
        self.check(terms)?;
        if self.claims.expires_at <= context.now.plus(LEAST_LIFE) {
            return Err(CardCode::ExpiredToken.because("the token ends within 120 seconds").into());
        }
        let payload = RawJson::of(&CardPayload::new(self.token.as_str())).map_err(Fault::broken)?;
        let claim = x402_types::Claim::of_payload(terms.clone(), payload.clone());
        let key = payment_key(&claim, &self.claims)?;
        let until: UnixSeconds = self.claims.expires_at;
        Ok(MadePayment::new(payload, self.claims.subject.clone(), key, until))
    }
}
