//! §6: settlement. "1. Check client balance. 2. If balance insufficient, execute `order` UserOperation first. 3. Wait
//! for `order` transaction confirmation. 4. Execute `redeem` UserOperation."
//!
//! The next step follows from the steps of the row and from the chain; this module keeps no state.

use x402_facilitator_core::{NextStep, OnceKey, Payment, Receipt, Step, StepName, StepProof, StepState};
use x402_types::nvm::{Code, Operation};
use x402_types::{AtomicAmount, ErrorReason, Fault, Members, RawJson, Refusal, UnixSeconds};

use super::check::{Asking, Examined, Intent, has_reverted};
use super::mechanism::{NvmMechanism, ORDER, REDEEM};
use super::operation::{Carried, once_key, parcel, payer, slot};
use crate::Bundle;

/// The seconds after which a claim without a step is simulated again before anything is sent.
const STALE: u64 = 5;
/// The seconds between two reads of missing credits.
const POLL: u64 = 2;
/// The number of blocks before the final one that are searched as well.
const LOOK_BACK: u64 = 512;

impl NvmMechanism {
    pub(super) async fn next(&self, payment: &Payment, now: UnixSeconds) -> Result<NextStep, Fault> {
        let pays_by_order = self.plan_of(payment)?.is_pay_as_you_go();
        match payment.steps.last().map(|step| (step, &step.state)) {
            Some((_, StepState::Ready | StepState::InFlight)) => Ok(NextStep::Wait(now.plus(1))),
            Some((step, StepState::Unaccounted)) => self.again(payment, step, now).await,
            Some((step, StepState::Proven(proof))) if step.name == REDEEM => {
                self.settled(payment, proof, proof.amount).await
            }
            // "Pay-as-you-go plans mint nothing: there the order is the payment."
            Some((_, StepState::Proven(proof))) if pays_by_order => {
                self.settled(payment, proof, AtomicAmount::ZERO).await
            }
            Some((_, StepState::Proven(_) | StepState::Dead(_))) | None => match payment.proven(&ORDER) {
                Some(_) => self.redeem_alone(payment, now).await,
                None => self.begin(payment, now).await,
            },
        }
    }

    /// Plans the first steps, while nothing is proven yet.
    async fn begin(&self, payment: &Payment, now: UnixSeconds) -> Result<NextStep, Fault> {
        // A step that landed and failed takes precedence over a later reason.
        let failed = |reason: ErrorReason| {
            Ok(NextStep::Failed(if payment.steps.is_empty() { reason } else { Code::SettlementFailed.reason() }))
        };
        if self.is_used_up(payment) {
            return failed(Code::SettlementFailed.reason());
        }
        let begun = async {
            // "Every check is repeated, both keys' revocation included, before an order is sent."
            let examined = self.examine(&payment.claim, &payment.key, Asking::Settle, now).await?;
            let short = examined.is_short();
            if short && examined.suffices_alone() {
                return Ok(None);
            }
            let intent = self.intend(&examined, &payment.key, short, payer(&payment.lane)?).await?;
            // The payment was verified a moment ago, and a failing redemption costs only gas.
            if short || !payment.steps.is_empty() || now > payment.due.plus(STALE) {
                self.rehearse(&examined, &intent).await?;
            }
            Ok::<_, Refusal>(Some((examined, intent)))
        };
        match begun.await {
            // The credits suffice unless the others take them. One of those may have taken its own already, which then
            // count twice until its end is seen: nothing is ordered, and nothing fails, before.
            Ok(None) => Ok(NextStep::Wait(now.plus(1))),
            Ok(Some((examined, Intent { order: Some(order), .. }))) => {
                self.step(
                    ORDER,
                    &order,
                    Some(self.order_in_flight(&examined)),
                    examined.order.as_ref().and_then(|k| k.valid_until()),
                )
                .await
            }
            Ok(Some((examined, Intent { redeem: Some(redeem), .. }))) => {
                self.step(REDEEM, &redeem, None, examined.redeem.valid_until()).await
            }
            Ok(Some(_)) => Err(Fault::broken("a plan without an order and a redemption")),
            Err(Refusal::Rejection(why)) => failed(why.reason),
            Err(Refusal::Fault(fault)) => Err(fault),
        }
    }

    /// Plans the redemption after the order. "Until it has answered, the facilitator drives the redeem on, over
    /// restarts, with at most 3 operation slots." A redemption that lacks credits waits until the key expires.
    async fn redeem_alone(&self, payment: &Payment, now: UnixSeconds) -> Result<NextStep, Fault> {
        let failed = Ok(NextStep::Failed(Code::SettlementFailed.reason()));
        if self.is_used_up(payment) {
            return failed;
        }
        let examined = match self.examine(&payment.claim, &payment.key, Asking::Redeem, now).await {
            Ok(examined) => examined,
            // The key expired or was revoked: no redemption can happen any more.
            Err(Refusal::Rejection(_)) => return failed,
            Err(Refusal::Fault(fault)) => return Err(fault),
        };
        // The order was made for this redemption: other pending payments do not reduce its credits.
        if examined.balance < examined.need {
            return Ok(NextStep::Wait(now.plus(POLL)));
        }
        let intent = match self.intend(&examined, &payment.key, false, payer(&payment.lane)?).await {
            Ok(intent) => intent,
            Err(Refusal::Rejection(_)) => return failed,
            Err(Refusal::Fault(fault)) => return Err(fault),
        };
        match self.rehearse(&examined, &intent).await {
            Ok(()) => {}
            Err(Refusal::Rejection(_)) => return Ok(NextStep::Wait(now.plus(POLL))),
            Err(Refusal::Fault(fault)) => return Err(fault),
        }
        let redeem = intent.redeem.ok_or_else(|| Fault::broken("a redemption of a plan that has none"))?;
        self.step(REDEEM, &redeem, None, examined.redeem.valid_until()).await
    }

    /// Plans another attempt, since bytes were sent and did not land. The same nonce is used again if the operation may
    /// succeed now, for example without the init code of an account that was deployed meanwhile.
    async fn again(&self, payment: &Payment, step: &Step, now: UnixSeconds) -> Result<NextStep, Fault> {
        let wait = Ok(NextStep::Wait(now.plus(POLL)));
        // An account can distinguish a transaction from its simulation. A bundle that reverts as a whole does not use
        // the nonce.
        if has_reverted(step) {
            if let Ok(account) = payment.payer.parse::<x402_types::EvmAddress>().and_then(TryInto::try_into) {
                self.unreliable.note(account, &payment.key, now);
            }
            return wait;
        }
        let last = step.parcels.last().ok_or_else(|| Fault::broken("a step without a parcel"))?;
        let carried = Carried::read(last)?;
        let operation = if step.name == ORDER { Operation::Order } else { Operation::Redeem };
        let asking = if payment.proven(&ORDER).is_some() { Asking::Redeem } else { Asking::Settle };
        let tried = async {
            let examined = self.examine(&payment.claim, &payment.key, asking, now).await?;
            let ordering = operation == Operation::Order;
            let mut intent = self.intend(&examined, &payment.key, ordering, payer(&payment.lane)?).await?;
            if !ordering {
                intent.order = None;
            }
            // Another nonce makes another operation: it must be certain that the first one can never happen.
            let bundle = if ordering { intent.order.clone() } else { intent.redeem.clone() };
            let same = bundle.filter(|bundle| once_key(self.network, bundle).as_ref() == Ok(&step.once_key));
            match same {
                None => Ok(None),
                Some(bundle) => self.rehearse(&examined, &intent).await.map(|()| Some((examined, bundle))),
            }
        };
        debug_assert_eq!(
            slot(self.network, self.entry_point.address, carried.op.sender, carried.op.nonce),
            step.once_key
        );
        match tried.await {
            Ok(Some((examined, bundle))) => {
                let key = if operation == Operation::Order { examined.order.as_ref() } else { Some(&examined.redeem) };
                let until = key.and_then(super::keys::Key::valid_until);
                self.step(step.name.clone(), &bundle, step.exclusive.clone(), until).await
            }
            Ok(None) | Err(Refusal::Rejection(_)) => wait,
            Err(Refusal::Fault(fault)) => Err(fault),
        }
    }

    async fn step(
        &self,
        name: StepName,
        bundle: &Bundle,
        exclusive: Option<OnceKey>,
        until: Option<u64>,
    ) -> Result<NextStep, Fault> {
        let since = self.chain.head().await?.finalized.saturating_sub(LOOK_BACK);
        Ok(NextStep::Do {
            name,
            once_key: once_key(self.network, bundle)?,
            exclusive,
            parcel: parcel(bundle, since, until)?,
        })
    }

    /// Returns the key that ensures "One order in flight per (network, account, plan)."
    fn order_in_flight(&self, examined: &Examined<'_>) -> OnceKey {
        let id = examined.plan.id.value().to_be_bytes::<32>();
        OnceKey([b"order", self.network.as_str().as_bytes(), examined.presented.account.as_slice(), &id].concat())
    }

    /// Returns whether a step has used all its operations. Each reopening allows as many again.
    fn is_used_up(&self, payment: &Payment) -> bool {
        let tried = |name: &StepName| payment.steps.iter().filter(|step| step.name == *name).count();
        let times = usize::try_from(payment.reopened).unwrap_or(usize::MAX).saturating_add(1);
        let most = self.policy.slots.saturating_mul(times);
        tried(&ORDER) >= most.saturating_add(usize::from(payment.proven(&ORDER).is_some())) || tried(&REDEEM) >= most
    }

    async fn settled(&self, payment: &Payment, proof: &StepProof, redeemed: AtomicAmount) -> Result<NextStep, Fault> {
        let mut extra = Members::new();
        let number = |number: AtomicAmount| RawJson::of(&number).map_err(Fault::broken);
        extra.insert("creditsRedeemed", number(redeemed)?);
        let plan = self.plan_of(payment)?;
        if !plan.is_pay_as_you_go()
            && let Ok(account) = payment.payer.parse::<x402_types::EvmAddress>().and_then(TryInto::try_into)
            // The balance is optional: the payment is made, whether or not the balance can be read.
            && let Ok(balance) = self.credits.credits(plan.id, account).await
        {
            extra.insert("remainingBalance", number(balance.into())?);
        }
        if let Some(order) = payment.proven(&ORDER) {
            extra.insert_text("orderTx", order.tx.as_str());
        }
        let mut receipt = Receipt::new(Some(proof.tx.clone()), self.network, payment.payer.clone());
        receipt.extra = extra;
        Ok(NextStep::Settled(receipt))
    }

    /// Returns the plan of a row, which was served when the payment was claimed.
    pub(super) fn plan_of(&self, payment: &Payment) -> Result<&super::Plan, Fault> {
        let id = payment.claim.terms.asset.parse().ok();
        id.and_then(|id| self.plans.find(id)).ok_or_else(|| Fault::broken("a stored claim names an unknown plan"))
    }
}
