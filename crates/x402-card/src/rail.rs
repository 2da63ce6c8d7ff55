//! The transport of a card payment's steps: a call of the processor, a count of the delegation, a move in the books.

use std::sync::Arc;

use async_trait::async_trait;
use x402_facilitator_core::{Attempt, Delivery, LaneId, Nonces, Parcel, Rail, SlotId, TxId};
use x402_types::nvm::card::Processor;
use x402_types::{Fault, UnixSeconds};

use crate::account::{CardAccount, Found};
use crate::order::{Expected, Order, hash_of};
use crate::processor::{Intent, IntentStatus, ProcessorCall};
use crate::stores::{Books, ChargeEnd, ChargeResult, CreditMove, Delegations, MoveKind, NewCharge};
use crate::{Cents, DelegationId};

/// The number of lanes by default.
pub const LANES: usize = 8;

/// The current time.
pub type Now = Arc<dyn Fn() -> UnixSeconds + Send + Sync>;

/// The rail of card payments. Nothing on it is numbered, and nothing is forgotten.
pub struct CardRail {
    account: Arc<CardAccount>,
    delegations: Arc<dyn Delegations>,
    books: Arc<dyn Books>,
    lanes: Vec<LaneId>,
    now: Now,
}

impl core::fmt::Debug for CardRail {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("CardRail").field("account", &self.account).field("lanes", &self.lanes).finish_non_exhaustive()
    }
}

/// Returns the lanes of payments by card.
///
/// # Errors
/// The processor has no network.
pub fn lanes(processor: Processor, number: usize) -> Result<Vec<LaneId>, Fault> {
    let network = processor.network().ok_or_else(|| Fault::broken("the card processor has no network"))?;
    Ok((0..number.max(1)).map(|number| LaneId::new(network, &number.to_string())).collect())
}

impl CardRail {
    /// Creates the rail. `now` decides until when a delegation may be counted.
    #[must_use]
    pub fn new(
        account: Arc<CardAccount>,
        delegations: Arc<dyn Delegations>,
        books: Arc<dyn Books>,
        lanes: Vec<LaneId>,
        now: Now,
    ) -> Self {
        Self { account, delegations, books, lanes, now }
    }

    async fn reserve(&self, payment: &str, delegation: &str, cents: u64) -> Result<(), Fault> {
        let charge = NewCharge {
            payment: hash_of(payment)?,
            delegation: delegation.parse::<DelegationId>().map_err(Fault::broken)?,
            cents: Cents::try_from(cents).map_err(Fault::broken)?,
        };
        self.delegations.reserve(charge, (self.now)()).await.map(drop)
    }

    async fn post(&self, id: String, plan: &str, holder: String, credits: u64, kind: MoveKind) -> Result<(), Fault> {
        let plan = plan.parse().map_err(Fault::broken)?;
        self.books.post(&CreditMove::new(id, plan, holder, credits, kind)).await
    }

    /// Creates the intent, and remembers the answer.
    async fn open(&self, expect: &Expected, call: &ProcessorCall) -> Result<Delivery, Fault> {
        let answer = self.account.calls().call(call).await?;
        match answer.read::<Intent>()? {
            Ok(intent) => {
                expect.check(&intent)?;
                self.account.note_opened(&expect.payment, intent);
            }
            Err(error) => self.account.note_refused(call.key.as_deref().unwrap_or_default(), error),
        }
        Ok(Delivery::Answered)
    }

    /// Changes an intent, unless a look-up shows that this is done or no longer allowed. The first send needs no look-up:
    /// the plan is a moment old.
    async fn change(&self, intent: &str, expect: &Expected, order: &Order, first: bool) -> Result<Delivery, Fault> {
        let Some(call) = order.call() else { return Err(Fault::broken("a change of an intent without a call")) };
        let is_late = CardAccount::is_late(expect.claimed, Some((self.now)()));
        if is_late && matches!(order, Order::Confirm { .. }) {
            // Nothing is charged any more: the next plan cancels.
            return Ok(Delivery::Answered);
        }
        if !first {
            let seen = self.account.intent(intent).await?;
            expect.check(&seen)?;
            let is_open = match order {
                Order::Confirm { .. } => seen.status == IntentStatus::RequiresConfirmation,
                _ => !matches!(seen.status, IntentStatus::Succeeded | IntentStatus::Canceled),
            };
            if !is_open {
                return Ok(Delivery::Answered);
            }
        }
        let answer = self.account.calls().call(call).await?;
        // The processor may have executed the call although it answers with a fault of its own: the look-up decides. A
        // confirmation is then not repeated under this key, which would answer the same for a day.
        if matches!(order, Order::Confirm { .. }) && answer.status >= 500 {
            return Ok(Delivery::Answered);
        }
        answer.read::<serde::de::IgnoredAny>()?.map_or(Ok(Delivery::Answered), |_| Ok(Delivery::Answered))
    }

    /// Refunds, unless a look-up shows that this was done.
    async fn refund(
        &self,
        intent: &str,
        expect: &Expected,
        call: &ProcessorCall,
        first: bool,
    ) -> Result<Delivery, Fault> {
        if !first && matches!(self.account.find_refund(intent, &expect.payment).await?, Found::One(_)) {
            return Ok(Delivery::Answered);
        }
        let answer = self.account.calls().call(call).await?;
        if let Err(error) = answer.read::<serde::de::IgnoredAny>()? {
            self.account.note_refused(call.key.as_deref().unwrap_or_default(), error);
        }
        Ok(Delivery::Answered)
    }
}

#[async_trait]
impl Rail for CardRail {
    fn lanes(&self) -> Vec<LaneId> {
        self.lanes.clone()
    }

    fn fits(&self, aboard: &[&Parcel], _next: &Parcel) -> bool {
        aboard.is_empty()
    }

    async fn nonces(&self, _lane: &LaneId) -> Result<Option<Nonces>, Fault> {
        Ok(None)
    }

    fn forgets(&self) -> bool {
        false
    }

    async fn sign(&self, _: &SlotId, load: &[Parcel], _: Option<&Attempt>) -> Result<Attempt, Fault> {
        let parcel = load.first().ok_or_else(|| Fault::broken("a card payment's slot without a parcel"))?;
        let name = Order::read(&parcel.bytes)?.name();
        self.account.signed(&name);
        Ok(Attempt::new(TxId::from(name), parcel.bytes.clone(), 0))
    }

    async fn send(&self, attempt: &Attempt) -> Result<Delivery, Fault> {
        let order = Order::read(&attempt.bytes)?;
        let name = order.name();
        let first = self.account.is_first(&name);
        let _under_way = self.account.begin(&name);
        match order {
            Order::Reserve { payment, delegation, cents, .. } => {
                self.reserve(&payment, &delegation, cents).await?;
            }
            Order::Open { ref expect, ref call } => return self.open(expect, call).await,
            Order::Confirm { ref intent, ref expect, .. } | Order::Cancel { ref intent, ref expect, .. } => {
                return self.change(intent, expect, &order, first).await;
            }
            Order::Refund { intent, expect, call } => return self.refund(&intent, &expect, &call, first).await,
            Order::Mint { id, payment, intent, plan, holder, credits } => {
                let end = ChargeEnd::new(ChargeResult::Succeeded, Some(intent));
                self.delegations.record(&hash_of(&payment)?, end).await?;
                self.post(id, &plan, holder, credits, MoveKind::Mint).await?;
                self.account.forget_opened(&payment);
            }
            Order::Burn { id, plan, holder, credits } => {
                self.post(id, &plan, holder, credits, MoveKind::Burn).await?;
            }
            Order::Release { payment, why, intent, refund, .. } => {
                let result = if refund.is_some() { ChargeResult::Refunded } else { ChargeResult::Failed };
                let end = ChargeEnd { refund, failure: why, ..ChargeEnd::new(result, intent) };
                self.delegations.release(&hash_of(&payment)?, end).await?;
                self.account.forget_opened(&payment);
            }
            Order::Record { payment, intent, result } => {
                let result = ChargeResult::of_word(&result).ok_or_else(|| Fault::broken("an unknown result"))?;
                self.delegations.record(&hash_of(&payment)?, ChargeEnd::new(result, Some(intent))).await?;
            }
        }
        Ok(Delivery::Answered)
    }
}
