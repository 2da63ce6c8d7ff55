//! The state of a step, as the processor, the delegations and the books show it. Money is proven by a look-up alone.

use x402_facilitator_core::{MAX_PARCELS, Observation, Step, StepProof, StepState, TxId};
use x402_types::nvm::card::CardCode;
use x402_types::{AtomicAmount, ErrorReason, Fault};

use crate::account::{CardAccount, Found};
use crate::mechanism::CardMechanism;
use crate::order::{Expected, Order, hash_of};
use crate::processor::{Intent, IntentStatus, ProcessorCall};
use crate::stores::{ChargeResult, ChargeState};

impl CardMechanism {
    /// Decides a step.
    pub(crate) async fn look(&self, step: &Step) -> Result<Observation, Fault> {
        let order = Order::of(step)?;
        let happened = |amount: u64| Ok(Observation::Proven(StepProof::new(TxId::from(order.name()), amount.into())));
        if order.call().is_some() && self.parts.account.is_under_way(&order.name()) {
            // The answer is a moment away, and makes this due again.
            return Ok(Observation::Pending);
        }
        match &order {
            Order::Reserve { payment, cents, .. } => {
                let charge = self.parts.delegations.charge(&hash_of(payment)?).await?;
                match charge.map(|charge| charge.state) {
                    None => Ok(Observation::Pending),
                    Some(ChargeState::Counted | ChargeState::Released) => happened(*cents),
                    Some(ChargeState::Refused(why)) => Ok(Observation::Dead(why.code().reason())),
                }
            }
            Order::Open { expect, call } => self.opened(expect, call).await,
            Order::Confirm { intent, expect, .. } => self.charged(intent, expect, None).await,
            Order::Cancel { intent, expect, why, .. } => {
                let is_answered = step.state == StepState::Unaccounted;
                self.charged(intent, expect, Some((why, is_answered))).await
            }
            Order::Mint { id, credits, .. } => self.posted(id, *credits, CardCode::MintFailed).await,
            Order::Burn { id, credits, .. } => self.posted(id, *credits, CardCode::BurnFailed).await,
            Order::Release { payment, .. } => {
                let charge = self.parts.delegations.charge(&hash_of(payment)?).await?;
                let released = charge.filter(|charge| charge.state == ChargeState::Released);
                released.map_or(Ok(Observation::Pending), |charge| happened(charge.cents.value()))
            }
            Order::Refund { intent, expect, call } => {
                let is_used_up = step.state == StepState::Unaccounted && step.parcels.len() >= MAX_PARCELS;
                self.refunded(intent, expect, call, is_used_up).await
            }
            Order::Record { payment, result, .. } => {
                let charge = self.parts.delegations.charge(&hash_of(payment)?).await?;
                let wanted = ChargeResult::of_word(result);
                let recorded = charge.filter(|charge| charge.end.as_ref().map(|end| end.result) == wanted);
                recorded.map_or(Ok(Observation::Pending), |charge| happened(charge.cents.value()))
            }
        }
    }

    /// Looks for the intent that moves no money yet.
    async fn opened(&self, expect: &Expected, call: &ProcessorCall) -> Result<Observation, Fault> {
        let account = &self.parts.account;
        if let Some(intent) = account.opened(&expect.payment) {
            return proven(&intent, expect);
        }
        if let Some(error) = account.refused(call.key.as_deref().unwrap_or_default()) {
            return Ok(Observation::Dead(error.reason().reason()));
        }
        match account.find_intent(expect).await? {
            Found::One(intent) => {
                expect.check(&intent)?;
                account.note_opened(&expect.payment, intent.clone());
                proven(&intent, expect)
            }
            // A charge begins only after this step: an intent that appears later is never confirmed.
            Found::None(date) if CardAccount::is_late(expect.claimed, date) => {
                Ok(Observation::Dead(CardCode::PaymentFailed.reason()))
            }
            Found::None(_) => Ok(Observation::Pending),
        }
    }

    /// Looks at the intent that is confirmed or canceled: it is the lasting guard of the charge. `cancel`: why it is
    /// canceled, and whether the processor has answered the cancellation.
    ///
    /// A cancellation may be refused although the intent is not final. The charge then ends without one: when no
    /// confirmation of this facilitator can find anything to charge.
    async fn charged(&self, id: &str, expect: &Expected, cancel: Option<(&str, bool)>) -> Result<Observation, Fault> {
        let (intent, date) = self.parts.account.dated_intent(id).await?;
        expect.check(&intent)?;
        match intent.status {
            IntentStatus::Succeeded if intent.amount_received != expect.cents => {
                Err(Fault::broken(format_args!("the intent {id} of the card processor received another amount")))
            }
            IntentStatus::Succeeded => proven(&intent, expect),
            IntentStatus::Canceled => Ok(Observation::Dead(reason(&intent, cancel.map(|(why, _)| why)))),
            // The result is unknown while the intent is processed; a capture is never planned here.
            IntentStatus::Processing | IntentStatus::RequiresCapture => Ok(Observation::Pending),
            IntentStatus::RequiresPaymentMethod | IntentStatus::RequiresConfirmation | IntentStatus::RequiresAction => {
                // A confirmation brings no card, so that an intent without one cannot be charged after the deadline.
                // One that has a card waits until no call of that time can still arrive.
                let is_over = match intent.status {
                    IntentStatus::RequiresPaymentMethod => CardAccount::is_late(expect.claimed, date),
                    _ => CardAccount::is_long_over(expect.claimed, date),
                };
                Ok(match cancel {
                    Some((why, true)) if is_over => Observation::Dead(reason(&intent, Some(why))),
                    _ => Observation::Pending,
                })
            }
        }
    }

    async fn posted(&self, id: &str, credits: u64, failure: CardCode) -> Result<Observation, Fault> {
        Ok(match self.parts.books.posted(id).await? {
            None => Observation::Pending,
            Some(true) => Observation::Proven(StepProof::new(TxId::from(id), credits.into())),
            Some(false) => Observation::Dead(failure.reason()),
        })
    }

    /// Looks for the refund. `is_used_up`: every attempt was answered, and none is left.
    async fn refunded(
        &self,
        intent: &str,
        expect: &Expected,
        call: &ProcessorCall,
        is_used_up: bool,
    ) -> Result<Observation, Fault> {
        let account = &self.parts.account;
        Ok(match account.find_refund(intent, &expect.payment).await? {
            Found::One(refund) => match refund.status.as_str() {
                "succeeded" | "pending" if refund.amount == expect.cents => {
                    Observation::Proven(StepProof::new(TxId::from(refund.id), refund.amount.into()))
                }
                "succeeded" | "pending" => {
                    return Err(Fault::broken(format_args!("the refund {} has another amount", refund.id)));
                }
                "failed" | "canceled" => Observation::Dead(CardCode::MintFailed.reason()),
                _ => Observation::Pending,
            },
            Found::None(_) if account.refused(call.key.as_deref().unwrap_or_default()).is_some() => {
                Observation::Dead(CardCode::MintFailed.reason())
            }
            // The refusals were forgotten with the processes that read them: a list that is a day younger has no refund.
            Found::None(date) if is_used_up && CardAccount::is_long_over(expect.claimed, date) => {
                Observation::Dead(CardCode::MintFailed.reason())
            }
            Found::None(_) => Observation::Pending,
        })
    }
}

/// Proves a step by an intent.
fn proven(intent: &Intent, expect: &Expected) -> Result<Observation, Fault> {
    let amount: AtomicAmount = expect.cents.into();
    Ok(Observation::Proven(StepProof::new(TxId::from(intent.id.as_str()), amount)))
}

/// Returns why an intent was canceled: by the bank's reason, else by this facilitator's.
fn reason(intent: &Intent, why: Option<&str>) -> ErrorReason {
    match (&intent.last_payment_error, why) {
        (Some(error), _) => error.reason().reason(),
        (None, Some(why)) => ErrorReason::from_wire(why),
        // Another party canceled it.
        (None, None) => CardCode::PaymentFailed.reason(),
    }
}
