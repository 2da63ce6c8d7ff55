//! The settlement of a payment, and the wait for its end.

use std::time::Duration;

use tokio::time::Instant;
use x402_facilitator_core::{InFlightRequest, Outcome, Payment};
use x402_types::{Claim, Fault, PaymentKey, Refusal};

use super::Engine;
use super::waiters::Waiter;
use crate::clock::now;
use crate::dialect::{Dialect, Settled};

/// The time after which a waiting caller's payment is looked up although nothing woke it: another process may have
/// brought it to its end. It doubles with each look.
const FIRST_LOOK: Duration = Duration::from_millis(500);
/// The longest time for which a request whose wait is over waits for a write that names it.
const STORING: Duration = Duration::from_secs(2);
/// The longest time between two such looks.
const LONGEST_LOOK: Duration = Duration::from_secs(5);

impl Engine {
    /// Settles a payment for a caller, and waits for its end as long as is configured. A success is answered once. A
    /// caller that named its request (`may_replay`) may get it again: the claim's identity is that name.
    ///
    /// # Errors
    /// The payment is refused; or its outcome could not be found out: it is unknown, not failed.
    pub(crate) async fn settle_as(
        &self,
        claim: &Claim,
        may_replay: bool,
        dialect: &dyn Dialect,
    ) -> Result<Settled, Refusal> {
        let Some(payment) = self.hooked(claim) else { return self.settle_now(claim, may_replay, dialect).await };
        let settled = match self.before_settle(&payment).await {
            Ok(()) => self.settle_now(claim, may_replay, dialect).await,
            Err(refusal) => Err(self.refusal_of_payer(claim, refusal)),
        };
        self.observe_answer(&payment, settled.as_ref().map(|settled| &settled.outcome));
        settled
    }

    /// Does the same without the hooks.
    async fn settle_now(&self, claim: &Claim, may_replay: bool, dialect: &dyn Dialect) -> Result<Settled, Refusal> {
        let may_replay = may_replay || self.is_replaying(&claim.identity.caller);
        self.admit_new(claim).await?;
        let request = self.settlement.begin_request();
        let request = if may_replay { request.named() } else { request };
        // The wait begins before the first look, so that no answer is missed between look and wait.
        let waiter = self.settlement.key(claim).ok().map(|key| self.waiters.begin(key));
        let outcome = match self.settlement.settle(&request, claim, now()).await {
            Ok(outcome) => outcome,
            Err(Refusal::Rejection(rejection)) => return Err(self.of_payer(claim, rejection).into()),
            Err(Refusal::Fault(fault)) => return Err(fault.into()),
        };
        let mut waiter = waiter.ok_or_else(|| Fault::broken("a settled claim without a key"))?;
        let mut outcome = match outcome {
            Outcome::Pending { .. } => self.end_of(&request, &mut waiter, outcome).await?,
            outcome => outcome,
        };
        if let (Outcome::Settled { receipt, .. }, false) = (&mut outcome, self.extensions.is_empty()) {
            let mut response = receipt.to_response(claim.terms.version, false);
            self.extensions.on_receipt(claim, claim.resource.as_ref(), &mut response, now());
            self.records.add(claim, &response, now());
            receipt.extensions = response.extensions;
        }
        // Nothing may wait or fail between the moment that a success is stored as reported and its answer.
        let row = match outcome {
            Outcome::Settled { .. } => None,
            _ if !dialect.tells_steps() => None,
            _ => self.settlement.payment(waiter.key()).await?,
        };
        Ok(Settled { outcome, row })
    }

    /// Returns a payment, if it has a row. If it has no answer yet, one is awaited for at most this time.
    ///
    /// # Errors
    /// The ledger failed.
    pub async fn payment_within(&self, key: &PaymentKey, wait: Duration) -> Result<Option<Payment>, Fault> {
        let deadline = Instant::now() + wait;
        let mut waiter = self.waiters.begin(key.clone());
        let mut pause = FIRST_LOOK;
        loop {
            let found = self.settlement.payment(key).await?;
            let open = found.as_ref().is_some_and(|payment| payment.answer.is_none());
            let at = Instant::now();
            if !open || at >= deadline {
                return Ok(found);
            }
            // Another process may bring the payment to its end.
            if tokio::time::timeout_at(deadline.min(at + pause), waiter.answered()).await.is_err() {
                pause = pause.saturating_mul(2).min(LONGEST_LOOK);
            }
        }
    }

    /// Waits for the end of a payment, as long as is configured. A payment that only waits its turn is pending, too, and no
    /// transaction is named: its caller may repeat the request. Since published servers take such an answer for a refusal,
    /// it is given later than one that names a transaction.
    async fn end_of(
        &self,
        request: &InFlightRequest,
        waiter: &mut Waiter<'_>,
        mut outcome: Outcome,
    ) -> Result<Outcome, Fault> {
        let begun = Instant::now();
        // If the row cannot be read now, its worker finds it a moment later.
        if let Ok(Some(row)) = self.settlement.payment(waiter.key()).await {
            self.hand_over(&row.lane, row.key);
        }
        request.begin_waiting();
        let mut pause = FIRST_LOOK;
        let mut stored_by = None;
        while !outcome.is_final() {
            let at = Instant::now();
            let usual = begun + self.patience.wait;
            let deadline = if at < usual { usual } else { begun + self.patience.wait_with(&outcome) };
            let woken = tokio::time::timeout_at(deadline.min(at + pause), waiter.answered()).await.is_ok();
            // One more look after the deadline: the end may have coincided with it, and may come from another process.
            let looked = self.settlement.look(request, waiter.key()).await;
            let ends = begun + self.patience.wait_with(looked.as_ref().unwrap_or(&outcome));
            let last = Instant::now() >= ends;
            match looked {
                Ok(found) => outcome = found,
                Err(fault) if last => return Err(fault),
                Err(fault) => tracing::debug!(key = %waiter.key(), %fault, "a payment could not be looked up"),
            }
            if !last {
                pause = if woken { pause } else { pause.saturating_mul(2).min(LONGEST_LOOK) };
                continue;
            }
            // The request waits a moment longer while a success is being stored for it.
            let stored_by = *stored_by.get_or_insert_with(|| Instant::now() + STORING);
            if request.end_waiting() || Instant::now() >= stored_by {
                break;
            }
            tokio::time::sleep(STORING / 100).await;
        }
        Ok(outcome)
    }
}
