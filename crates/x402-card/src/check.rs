//! Section "Verify": the checks in their order; the first failure answers. Nothing is charged, minted, burned or counted.

use x402_types::nvm::card::{CardCode, CardPayload, CardRequirements, Processor};
use x402_types::{Claim, Fault, PaymentKey, Refusal, Rejection, UnixSeconds};

use crate::jws::refused;
use crate::key::payment_key;
use crate::mechanism::CardMechanism;
use crate::{CardPlan, Cents, Delegation, DelegationStatus, TokenBinding, TokenClaims};

/// A payment that passed every check.
pub(crate) struct Examined {
    pub(crate) token: TokenClaims,
}

impl CardMechanism {
    /// Checks a payment: plan, token, record, card, credits.
    pub(crate) async fn examine(&self, claim: &Claim, now: UnixSeconds) -> Result<Examined, Refusal> {
        let plan = self.plan_asked(claim)?;
        let payload = CardPayload::from_raw(&claim.payload)?;
        let token = TokenClaims::verified(&payload.token, &self.parts.keys)?;
        let of_payer = |rejection: Rejection| rejection.of(token.subject.as_str());
        token.check(&self.parts.issuer, self.longest_life, now).map_err(of_payer)?;
        let record = self.parts.delegations.read(&token.delegation).await?;
        // Another user's delegation answers as one that there is not.
        let record = record.filter(|record| record.owner == token.subject).ok_or_else(|| {
            of_payer(coded(CardCode::DelegationNotFound, "payload.token: no such delegation", "BCK.X402.0019"))
        })?;
        check_record(&token, &record, now).map_err(of_payer)?;
        check_request(&token, &record, plan, claim).map_err(of_payer)?;
        let card = self.parts.cards.card(&record.owner, &record.payment_method).await?;
        match card {
            None => {
                return Err(
                    of_payer(coded(CardCode::DelegationInactive, "the card is not enrolled", "BCK.X402.0027")).into()
                );
            }
            Some(card) if card.removed => {
                return Err(
                    of_payer(coded(CardCode::DelegationInactive, "the card was removed", "BCK.X402.0028")).into()
                );
            }
            Some(_) => {}
        }
        // The books are a table here: no address belongs to a subscriber, so none can be compared.
        if payload.authorization.is_some() {
            let why = "payload.authorization: expected none, for no contract counts these credits";
            return Err(of_payer(coded(CardCode::InvalidPayload, why, "BCK.X402.0035")).into());
        }
        let key = payment_key(claim, &token)?;
        let missing = self.missing(plan, plan.need(claim.terms.amount), &token.subject, &key).await?;
        if missing > 0 || plan.is_pay_as_you_go() {
            let (_, price) = plan.purchase(missing).map_err(of_payer)?;
            may_buy(plan, &record, price).map_err(of_payer)?;
        }
        Ok(Examined { token })
    }

    /// Finds the plan of a claim.
    pub(crate) fn plan_asked(&self, claim: &Claim) -> Result<&CardPlan, Rejection> {
        let entry = CardRequirements::try_from(&claim.terms)
            .map_err(|why| CardCode::InvalidPayload.because(format!("accepted: {why}")))?;
        let plan = self.parts.plans.find(entry.plan_id).ok_or_else(|| {
            coded(CardCode::InvalidPayload, "accepted.planId: this plan is not served here", "BCK.X402.0002")
        })?;
        if Processor::of_network(claim.terms.network) != Some(plan.processor) {
            let why = "accepted.network: another processor than the plan's";
            return Err(coded(CardCode::InvalidPayload, why, "BCK.X402.0013"));
        }
        Ok(plan)
    }

    /// Returns the credits that a payment lacks: what other payments of this subscriber are using counts as used.
    pub(crate) async fn missing(
        &self,
        plan: &CardPlan,
        need: u64,
        holder: &str,
        key: &PaymentKey,
    ) -> Result<u64, Fault> {
        if plan.is_pay_as_you_go() {
            return Ok(0);
        }
        // The credits first: those that another payment adds in between are not counted, and those that it uses count
        // twice, so that nothing is used twice.
        let credits = self.parts.books.credits(plan.id, holder).await?;
        let used = self.used_by_others(plan, holder, key).await?;
        Ok(need.saturating_sub(credits.saturating_sub(used)))
    }
}

/// Compares the token's copies with the record.
fn check_record(token: &TokenClaims, record: &Delegation, now: UnixSeconds) -> Result<(), Rejection> {
    let status = record.status(now);
    if let Some(code) = status.nvm_code() {
        let why = match status {
            DelegationStatus::Revoked => "the delegation was revoked",
            DelegationStatus::Expired => "the delegation has expired",
            _ => "the delegation is exhausted",
        };
        return Err(coded(CardCode::DelegationInactive, why, code));
    }
    let differs = if token.customer != record.customer {
        "nvm.providerCustomerId"
    } else if token.payment_method != record.payment_method {
        "nvm.providerPaymentMethodId"
    } else if token.processor.is_some_and(|processor| processor != record.processor) {
        "nvm.provider"
    } else if token.currency != record.currency {
        "nvm.currency"
    } else if token.expires_at > record.expires_at {
        "exp"
    } else {
        return Ok(());
    };
    Err(refused(&format!("{differs}: not the delegation's")))
}

/// Compares the token and the record with the request.
fn check_request(token: &TokenClaims, record: &Delegation, plan: &CardPlan, claim: &Claim) -> Result<(), Rejection> {
    let refuse = |why: &str, code: &str| Err(coded(CardCode::InvalidPayload, why, code));
    if token.processor.is_none() {
        return refuse("nvm.provider: a delegation of a smart account pays no plan by card", "BCK.DELEGATION.0008");
    }
    if token.processor != Some(plan.processor) {
        return refuse("nvm.provider: another processor than accepted.network", "BCK.X402.0013");
    }
    if [token.plan, record.plan].iter().flatten().any(|only| *only != plan.id) {
        return refuse("nvm.planId: the delegation is for another plan", "BCK.X402.0014");
    }
    let TokenBinding { agent, resource, verb, .. } = &token.binding;
    let extra = |name: &str| claim.terms.extra.text(name);
    let fits = |bound: Option<String>, asked: Option<String>| bound.is_none() || bound == asked;
    if !fits(agent.map(|agent| agent.to_string()), extra("agentId"))
        || !fits(verb.clone(), extra("httpVerb"))
        || !fits(resource.clone(), claim.resource.as_ref().map(|resource| resource.url.clone()))
    {
        return refuse("payload.token: bound to another request", "BCK.X402.0013");
    }
    Ok(())
}

/// Checks what a purchase would fail by for certain.
pub(crate) fn may_buy(plan: &CardPlan, record: &Delegation, price: Cents) -> Result<(), Rejection> {
    if plan.currency != record.currency {
        return Err(CardCode::CurrencyMismatch.because("the plan's currency is not the delegation's"));
    }
    let seller = plan.merchant.as_ref().map(|merchant| merchant.account.as_str());
    if record.merchant.is_some() && record.merchant.as_deref() != seller {
        return Err(CardCode::MerchantAccountInvalid.because("the delegation allows another seller's account alone"));
    }
    if price > record.remaining() {
        let refusal = coded(CardCode::InsufficientBalance, "the delegation's limit does not cover it", "BCK.X402.0023");
        return Err(refusal
            .detail("spendingLimitCents", &record.limit.to_string())
            .detail("spentCents", &record.spent.to_string())
            .detail("requestedAmountCents", &price.to_string()));
    }
    Ok(())
}

/// Makes a refusal with Nevermined's own code.
fn coded(code: CardCode, why: &str, nvm_code: &str) -> Rejection {
    code.because(why).detail("nvmCode", nvm_code)
}
