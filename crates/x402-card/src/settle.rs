//! Section "Settle": reserve, open, charge, mint, burn; release or refund. The next step follows from the steps of the row
//! and from the delegation; this module keeps no state.

use sha2::{Digest, Sha256};
use x402_facilitator_core::{NextStep, OnceKey, Payment, Receipt, Step, StepName, StepProof, StepState, TxId};
use x402_types::nvm::card::{CardCode, CardPayload};
use x402_types::{AtomicAmount, AuthorizationKind, ErrorReason, Fault, Members, PaymentKey, RawJson, UnixSeconds};

use crate::check::may_buy;
use crate::mechanism::CardMechanism;
use crate::order::{DEADLINE, Expected, MARK, Order, name_of};
use crate::processor::{Intent, IntentStatus, ProcessorCall};
use crate::stores::ChargeResult;
use crate::{CardPlan, Cents, Delegation, TokenClaims};

/// The step that counts the charge.
pub(crate) const RESERVE: StepName = StepName::new("reserve");
/// The step that creates the intent.
pub(crate) const OPEN: StepName = StepName::new("open");
/// The step that charges the card.
pub(crate) const CHARGE: StepName = StepName::new("charge");
/// The step that adds the credits that were bought.
pub(crate) const MINT: StepName = StepName::new("mint");
/// The step that takes the credits that were used.
pub(crate) const BURN: StepName = StepName::new("burn");
/// The step that takes the count back.
pub(crate) const RELEASE: StepName = StepName::new("release");
/// The step that pays the charge back.
pub(crate) const REFUND: StepName = StepName::new("refund");
/// The step that stores what became of a charge whose count stays.
pub(crate) const RECORD: StepName = StepName::new("record");

/// The keys under which a confirmation is tried.
const CONFIRMATIONS: usize = 2;
/// The burns of one payment without a repetition of its request.
const BURNS: usize = 5;
/// The seconds between two looks at an intent that is being processed.
const PACE: u64 = 2;

/// A payment with what its steps need.
struct Settling<'a> {
    payment: &'a Payment,
    plan: &'a CardPlan,
    record: Delegation,
    name: String,
    need: u64,
}

impl Settling<'_> {
    fn holder(&self) -> &str {
        &self.record.owner
    }

    /// Returns the key of a step, from its parts.
    fn once(&self, step: &str, of: &[&str]) -> OnceKey {
        let mut hash = Sha256::new();
        for part in of {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let mut key = format!("card-{step}:").into_bytes();
        key.extend_from_slice(&hash.finalize());
        OnceKey(key)
    }

    /// Returns the resource of a purchase: one at a time for each subscriber and plan.
    fn purchase(&self) -> OnceKey {
        self.once("topup", &[self.payment.claim.terms.network.as_str(), self.holder(), &self.plan.id.to_string()])
    }

    fn steps(&self, name: StepName) -> impl Iterator<Item = &Step> {
        self.payment.steps.iter().filter(move |step| step.name == name)
    }

    fn proven(&self, name: &StepName) -> Option<&StepProof> {
        self.payment.proven(name)
    }

    /// Returns the cents and the purchases that were counted.
    fn counted(&self) -> Result<(u64, u64), Fault> {
        let step = self.steps(RESERVE).last().ok_or_else(|| Fault::broken("a charge that was not counted"))?;
        match Order::of(step)? {
            Order::Reserve { cents, purchases, .. } => Ok((cents, purchases)),
            _ => Err(Fault::broken("a step of another kind")),
        }
    }

    fn intent(&self) -> Option<String> {
        self.proven(&OPEN).map(|proof| proof.tx.as_str().to_owned())
    }
}

impl CardMechanism {
    /// Plans what comes next.
    pub(crate) async fn next(&self, payment: &Payment, now: UnixSeconds) -> Result<NextStep, Fault> {
        let plan = self.plan_asked(&payment.claim).map_err(Fault::broken)?;
        let payload = CardPayload::from_raw(&payment.claim.payload).map_err(Fault::broken)?;
        // The signature was verified when the payment was claimed.
        let token = TokenClaims::unverified(&payload.token).map_err(Fault::broken)?;
        let Some(record) = self.parts.delegations.read(&token.delegation).await? else {
            return match payment.steps.is_empty() {
                true => Ok(NextStep::Failed(CardCode::DelegationNotFound.reason())),
                false => Err(Fault::broken("a delegation with a charge is gone")),
            };
        };
        let it = Settling {
            need: plan.need(payment.claim.terms.amount),
            name: name_of(&payment.key),
            payment,
            plan,
            record,
        };
        let Some(last) = payment.steps.last() else { return self.begin(&it).await };
        match &last.state {
            StepState::Ready | StepState::InFlight => Ok(NextStep::Wait(now.plus(1))),
            StepState::Unaccounted if last.name == CHARGE => self.charge_again(&it, last, now).await,
            StepState::Unaccounted => Ok(again(last)),
            StepState::Proven(proof) => self.after(&it, last, proof, now).await,
            StepState::Dead(reason) => self.instead(&it, last, reason).await,
        }
    }

    /// Plans the first step: the credits are there, or are bought.
    async fn begin(&self, it: &Settling<'_>) -> Result<NextStep, Fault> {
        let missing = self.missing(it.plan, it.need, it.holder(), &it.payment.key).await?;
        if missing == 0 && !it.plan.is_pay_as_you_go() {
            return self.burn(it);
        }
        let bought = it.plan.purchase(missing).and_then(|bought| {
            // The limit is counted with the charge, not read before it.
            may_buy(it.plan, &it.record, Cents::ZERO).map(|()| bought)
        });
        let (purchases, price) = match bought {
            Ok(bought) => bought,
            Err(rejection) => return Ok(NextStep::Failed(rejection.reason)),
        };
        let order = Order::Reserve {
            payment: it.name.clone(),
            delegation: it.record.id.to_string(),
            cents: price.value(),
            purchases,
        };
        self.step(RESERVE, it.once("reserve", &[&it.name]), Some(it.purchase()), &order)
    }

    /// Plans what follows a step that happened.
    async fn after(
        &self,
        it: &Settling<'_>,
        last: &Step,
        proof: &StepProof,
        now: UnixSeconds,
    ) -> Result<NextStep, Fault> {
        let name = &last.name;
        if *name == RESERVE {
            return self.after_count(it, now).await;
        }
        if *name == OPEN {
            let confirmation = 1;
            return match stopped(it, now) {
                None => self.confirm(it, proof.tx.as_str(), confirmation),
                Some(why) => self.cancel(it, proof.tx.as_str(), why),
            };
        }
        if *name == CHARGE {
            return if it.plan.is_pay_as_you_go() {
                self.recorded(it, ChargeResult::Succeeded)
            } else {
                self.mint(it, proof.tx.as_str())
            };
        }
        if *name == MINT {
            return self.burn(it);
        }
        if *name == BURN {
            return self.settled(it, Some(proof)).await;
        }
        if *name == REFUND {
            return self.release(it, Some(CardCode::MintFailed.reason()), None, Some(proof.tx.as_str()));
        }
        match Order::of(last)? {
            Order::Release { why: Some(why), .. } => Ok(NextStep::Failed(ErrorReason::from_wire(&why))),
            // Other payments have left credits for this one: nothing was bought.
            Order::Release { why: None, .. } => self.burn(it),
            Order::Record { result, .. } if result == ChargeResult::Succeeded.as_str() => self.settled(it, None).await,
            Order::Record { .. } => Ok(NextStep::Failed(CardCode::MintFailed.reason())),
            _ => Err(Fault::broken(format_args!("an unknown step {name}"))),
        }
    }

    /// Plans what follows the count: nothing is bought if the credits are there by now, or if the delegation has ended.
    async fn after_count(&self, it: &Settling<'_>, now: UnixSeconds) -> Result<NextStep, Fault> {
        if let Some(why) = stopped(it, now) {
            return self.release(it, Some(why.reason()), None, None);
        }
        let is_enough = self.missing(it.plan, it.need, it.holder(), &it.payment.key).await? == 0;
        if is_enough && !it.plan.is_pay_as_you_go() {
            return self.release(it, None, None, None);
        }
        self.open(it)
    }

    /// Plans what follows a step that can never happen.
    async fn instead(&self, it: &Settling<'_>, last: &Step, reason: &ErrorReason) -> Result<NextStep, Fault> {
        let name = &last.name;
        if *name == RESERVE {
            return Ok(NextStep::Failed(reason.clone()));
        }
        if *name == OPEN {
            return self.release(it, Some(reason.clone()), None, None);
        }
        if *name == CHARGE {
            let intent = self.parts.account.intent(&it.intent().unwrap_or_default()).await?;
            let decline = intent.last_payment_error.as_ref().and_then(|error| error.decline()).map(str::to_owned);
            return self.release(it, Some(reason.clone()), decline, None);
        }
        if *name == MINT {
            return self.refund(it);
        }
        if *name == REFUND {
            return self.recorded(it, ChargeResult::Owed);
        }
        if *name == BURN {
            let has_bought = it.proven(&MINT).is_some();
            let reopened = usize::try_from(it.payment.reopened).unwrap_or(usize::MAX);
            let burns = it.steps(BURN).count();
            // A repetition of the request runs the burn alone, once each time.
            if has_bought && burns <= reopened {
                return self.burn(it);
            }
            // Another payment took the credits first: they are bought now.
            if !has_bought && it.proven(&RESERVE).is_none() && burns < BURNS.saturating_add(reopened) {
                return self.begin(it).await;
            }
            return Ok(NextStep::Failed(reason.clone()));
        }
        Err(Fault::broken(format_args!("the step {name} cannot fail")))
    }

    /// Plans the charge again, after an answer that shows no effect: by what the intent allows.
    async fn charge_again(&self, it: &Settling<'_>, last: &Step, now: UnixSeconds) -> Result<NextStep, Fault> {
        let (id, last_order) = match Order::of(last)? {
            ref order @ (Order::Confirm { ref intent, .. } | Order::Cancel { ref intent, .. }) => {
                (intent.clone(), order.clone())
            }
            _ => return Err(Fault::broken("a charge without an intent")),
        };
        let Intent { status, .. } = self.parts.account.intent(&id).await?;
        let orders = last.parcels.iter().map(|parcel| Order::read(&parcel.bytes));
        let confirmations = orders.filter(|order| matches!(order, Ok(Order::Confirm { .. }))).count();
        match status {
            IntentStatus::Succeeded | IntentStatus::Canceled => Ok(NextStep::Wait(now.plus(1))),
            IntentStatus::Processing => Ok(NextStep::Wait(now.plus(PACE))),
            IntentStatus::RequiresConfirmation if matches!(last_order, Order::Confirm { .. }) => {
                match stopped(it, now) {
                    Some(why) => self.cancel(it, &id, why),
                    None if confirmations < CONFIRMATIONS => self.confirm(it, &id, confirmations.saturating_add(1)),
                    None => self.cancel(it, &id, CardCode::PaymentFailed),
                }
            }
            // The intent did not charge, and is not to charge any more.
            _ => {
                let why = match last_order {
                    Order::Cancel { why, .. } => why,
                    _ => CardCode::PaymentFailed.as_str().to_owned(),
                };
                self.cancel_because(it, &id, why)
            }
        }
    }

    fn open(&self, it: &Settling<'_>) -> Result<NextStep, Fault> {
        let expect = self.expected(it)?;
        let (amount, plan) = (expect.cents.to_string(), it.plan.id.to_string());
        let mark = format!("metadata[{MARK}]");
        let mut form = vec![
            ("amount", amount.as_str()),
            ("currency", it.plan.currency.as_str()),
            ("customer", it.record.customer.as_str()),
            ("payment_method", it.record.payment_method.as_str()),
            ("payment_method_types[0]", "card"),
            (mark.as_str(), it.name.as_str()),
            ("metadata[x402_plan]", plan.as_str()),
        ];
        let fee = it.plan.merchant.as_ref().map(|merchant| {
            let price = Cents::try_from(expect.cents).unwrap_or_default();
            (merchant.account.as_str(), price.fee(merchant.fee).to_string())
        });
        if let Some((account, fee)) = &fee {
            form.push(("transfer_data[destination]", account));
            form.push(("application_fee_amount", fee));
        }
        let call = ProcessorCall::post("/v1/payment_intents", &form, key(it, "o"));
        let once = it.once("open", &[self.parts.account.name(), &it.name]);
        self.step(OPEN, once, Some(it.purchase()), &Order::Open { expect, call })
    }

    fn confirm(&self, it: &Settling<'_>, intent: &str, number: usize) -> Result<NextStep, Fault> {
        let path = format!("/v1/payment_intents/{intent}/confirm");
        // No payment method: a confirmation that comes late, after a decline, finds none to charge.
        let call = ProcessorCall::post(path, &[("off_session", "true")], key(it, &format!("c{number}")));
        let order = Order::Confirm { intent: intent.to_owned(), expect: self.expected(it)?, call };
        self.step(CHARGE, self.charge_once(it, intent), Some(it.purchase()), &order)
    }

    fn cancel(&self, it: &Settling<'_>, intent: &str, why: CardCode) -> Result<NextStep, Fault> {
        self.cancel_because(it, intent, why.as_str().to_owned())
    }

    fn cancel_because(&self, it: &Settling<'_>, intent: &str, why: String) -> Result<NextStep, Fault> {
        let path = format!("/v1/payment_intents/{intent}/cancel");
        let call = ProcessorCall::post(path, &[("cancellation_reason", "abandoned")], key(it, "x"));
        let order = Order::Cancel { intent: intent.to_owned(), expect: self.expected(it)?, call, why };
        self.step(CHARGE, self.charge_once(it, intent), Some(it.purchase()), &order)
    }

    fn charge_once(&self, it: &Settling<'_>, intent: &str) -> OnceKey {
        it.once("charge", &[self.parts.account.name(), intent])
    }

    fn mint(&self, it: &Settling<'_>, intent: &str) -> Result<NextStep, Fault> {
        let (_, purchases) = it.counted()?;
        let credits = purchases.checked_mul(it.plan.credits).ok_or_else(|| Fault::broken("too many credits"))?;
        let order = Order::Mint {
            id: format!("mint-{}", it.name),
            payment: it.name.clone(),
            intent: intent.to_owned(),
            plan: it.plan.id.to_string(),
            holder: it.holder().to_owned(),
            credits,
        };
        self.step(MINT, it.once("mint", &[&it.name]), Some(it.purchase()), &order)
    }

    /// Plans the next burn. A burn that the books refused has an id of its own.
    fn burn(&self, it: &Settling<'_>) -> Result<NextStep, Fault> {
        let burns = it.steps(BURN).count();
        let id = match burns {
            0 => format!("burn-{}", it.name),
            more => format!("burn-{}-{more}", it.name),
        };
        let once = it.once("burn", &[&id]);
        let (plan, holder) = (it.plan.id.to_string(), it.holder().to_owned());
        self.step(BURN, once, None, &Order::Burn { id, plan, holder, credits: it.need })
    }

    fn release(
        &self,
        it: &Settling<'_>,
        why: Option<ErrorReason>,
        decline: Option<String>,
        refund: Option<&str>,
    ) -> Result<NextStep, Fault> {
        let order = Order::Release {
            payment: it.name.clone(),
            why: why.map(|why| why.as_str().to_owned()),
            decline,
            intent: it.intent(),
            refund: refund.map(str::to_owned),
        };
        self.step(RELEASE, it.once("release", &[&it.name]), Some(it.purchase()), &order)
    }

    fn refund(&self, it: &Settling<'_>) -> Result<NextStep, Fault> {
        let charge = it.proven(&CHARGE).ok_or_else(|| Fault::broken("a refund of no charge"))?;
        let intent = charge.tx.as_str().to_owned();
        let mark = format!("metadata[{MARK}]");
        let mut form = vec![("payment_intent", intent.as_str()), (mark.as_str(), it.name.as_str())];
        if it.plan.merchant.is_some() {
            form.extend([("reverse_transfer", "true"), ("refund_application_fee", "true")]);
        }
        let call = ProcessorCall::post("/v1/refunds", &form, key(it, "r"));
        let once = it.once("refund", &[self.parts.account.name(), &intent]);
        let order = Order::Refund { intent, expect: self.expected(it)?, call };
        self.step(REFUND, once, Some(it.purchase()), &order)
    }

    fn recorded(&self, it: &Settling<'_>, result: ChargeResult) -> Result<NextStep, Fault> {
        let order = Order::Record {
            payment: it.name.clone(),
            intent: it.intent().unwrap_or_default(),
            result: result.as_str().to_owned(),
        };
        self.step(RECORD, it.once("record", &[&it.name]), Some(it.purchase()), &order)
    }

    fn expected(&self, it: &Settling<'_>) -> Result<Expected, Fault> {
        let (cents, _) = it.counted()?;
        Ok(Expected {
            payment: it.name.clone(),
            cents,
            currency: it.plan.currency.as_str().to_owned(),
            customer: it.record.customer.clone(),
            method: it.record.payment_method.clone(),
            livemode: self.parts.account.livemode(),
            claimed: it.payment.claimed.0,
        })
    }

    fn step(
        &self,
        name: StepName,
        once_key: OnceKey,
        exclusive: Option<OnceKey>,
        order: &Order,
    ) -> Result<NextStep, Fault> {
        Ok(NextStep::Do { name, once_key, exclusive, parcel: order.parcel()? })
    }

    async fn settled(&self, it: &Settling<'_>, burn: Option<&StepProof>) -> Result<NextStep, Fault> {
        let number = |number: u64| RawJson::of(&AtomicAmount::from(number)).map_err(Fault::broken);
        let mut extra = Members::new();
        let charge = it.proven(&CHARGE).map(|proof| proof.tx.clone());
        let transaction: Option<TxId> = burn.map_or_else(|| charge.clone(), |burn| Some(burn.tx.clone()));
        extra.insert("creditsRedeemed", number(if burn.is_some() { it.need } else { 0 })?);
        // The balance is for information: the payment is made, whether or not it can be read.
        if burn.is_some()
            && let Ok(credits) = self.parts.books.credits(it.plan.id, it.holder()).await
        {
            extra.insert("remainingBalance", number(credits)?);
        }
        if let Some(charge) = charge {
            extra.insert_text("orderTx", charge.as_str());
        }
        let mut receipt = Receipt::new(transaction, self.network, it.payment.payer.clone());
        receipt.extra = extra;
        Ok(NextStep::Settled(receipt))
    }

    /// Returns the credits that other payments of a subscriber use of a plan: those that are being burned, and those that
    /// were bought for a payment.
    pub(crate) async fn used_by_others(&self, plan: &CardPlan, holder: &str, key: &PaymentKey) -> Result<u64, Fault> {
        let kind = AuthorizationKind::NvmCardDelegation;
        let prefix = PaymentKey::prefix(kind, self.network, &[], holder.as_bytes());
        let (mut used, id) = (0_u64, plan.id.to_string());
        for other in self.parts.ledger.unanswered(&prefix).await? {
            let burns = other.steps.iter().any(|step| step.name == BURN && !step.is_decided());
            let buys = other.proven(&RESERVE).is_some()
                && other.proven(&BURN).is_none()
                && !other.steps.iter().any(|step| [RELEASE, REFUND, RECORD].contains(&step.name));
            if other.key != *key && other.claim.terms.asset == id && (burns || buys) {
                used = used.saturating_add(plan.need(other.claim.terms.amount));
            }
        }
        Ok(used)
    }
}

/// Plans a step again under the same bytes.
fn again(step: &Step) -> NextStep {
    match step.parcels.last() {
        Some(parcel) => NextStep::Do {
            name: step.name.clone(),
            once_key: step.once_key.clone(),
            exclusive: step.exclusive.clone(),
            parcel: parcel.clone(),
        },
        None => NextStep::Wait(UnixSeconds(0)),
    }
}

/// Returns why the card may not be charged any more, before a confirmation has left.
fn stopped(it: &Settling<'_>, now: UnixSeconds) -> Option<CardCode> {
    if !it.record.may_charge(now) {
        Some(CardCode::DelegationInactive)
    } else if now.0 >= it.payment.claimed.0.saturating_add(DEADLINE) {
        Some(CardCode::PaymentFailed)
    } else {
        None
    }
}

/// Returns the idempotency key of a call.
fn key(it: &Settling<'_>, step: &str) -> String {
    format!("x402-{}-{step}", it.name)
}
