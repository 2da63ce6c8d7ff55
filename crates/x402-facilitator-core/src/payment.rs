//! A payment's row, the work that it needs, and the effect of events on it. All functions are pure.

use x402_types::{Claim, ErrorReason, Fault, Identity, PaymentKey, UnixSeconds};

use crate::{
    LaneId, NextStep, Observation, OnceKey, Parcel, Receipt, RequestId, SlotId, StepName, StepProof, TxId, Verified,
};

/// The row of a payment.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Payment {
    /// The identity of the authorization.
    pub key: PaymentKey,
    /// The claim to settle, with the request that it belongs to.
    pub claim: Claim,
    /// The payer that verification determined.
    pub payer: String,
    /// The lane that carries the payment.
    pub lane: LaneId,
    /// The steps so far, oldest first; only the last can be undecided.
    pub steps: Vec<Step>,
    /// The final result, if it is known.
    pub answer: Option<Result<Receipt, ErrorReason>>,
    /// The request that is being answered: the newest that waits for the result, then the one that received the
    /// success.
    pub request: RequestId,
    /// Whether the payment was made, and no request has received the success yet. Rows written before this member
    /// existed count as `false`: an older process may have returned the success, so it is not returned again.
    pub untold: bool,
    /// The third party's transaction that spent the authorization before anything was sent.
    pub spent_by: Option<TxId>,
    /// The number of times that the answer was reopened.
    pub reopened: u32,
    /// The time at which the payment was claimed; 0 in rows that were written before this member existed.
    pub claimed: UnixSeconds,
    /// The time at which the row needs attention again.
    pub due: UnixSeconds,
    /// The number of consecutive waits of the payment: the intervals grow.
    pub waits: u32,
    /// The time until which the row must be kept.
    pub keep_until: UnixSeconds,
    /// A number that the ledger increases with every commit; 0 in a row that is not stored yet.
    pub version: u64,
}

/// One action that must happen on the far side.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Step {
    /// The name of the action.
    pub name: StepName,
    /// The key that lets the step happen only once.
    pub once_key: OnceKey,
    /// A resource that the step needs exclusively while it is open: no other payment's step with this value, as its
    /// once key or its exclusive resource, runs meanwhile. It is released when the step is decided; the once key of a
    /// proven step is kept.
    pub exclusive: Option<OnceKey>,
    /// Every parcel that was ever to be sent for the step, oldest first. Any of them may still land.
    pub parcels: Vec<Parcel>,
    /// The slots that ever carried the step, oldest first.
    pub carriers: Vec<SlotId>,
    /// The state of the step.
    pub state: StepState,
}

/// The state of a step.
#[derive(Debug, Clone, PartialEq)]
pub enum StepState {
    /// The newest parcel waits for a slot.
    Ready,
    /// The step is in a slot that may still land.
    InFlight,
    /// Every slot that carried the step is used, and the step was not seen to happen. It may still land.
    Unaccounted,
    /// The step happened.
    Proven(StepProof),
    /// The step can never happen.
    Dead(ErrorReason),
}

/// The maximum number of seconds between two checks of a waiting payment.
const LONGEST_WAIT: u64 = 30;
/// The number of consecutive fruitless plans of an unaccounted step. Afterwards it is only observed, and planned again
/// only at intervals that double each time: an eventual change is noticed, at a negligible cost.
const PLANNED_UNACCOUNTED: u32 = 8;

/// The work that a row needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Todo {
    /// No work: the row has its answer.
    Nothing,
    /// A call of [`crate::Mechanism::plan`].
    Plan,
    /// A call of [`crate::Mechanism::observe`] for the last step.
    Observe {
        /// Whether [`crate::Mechanism::plan`] follows if nothing was observed.
        replan: bool,
    },
}

/// An event of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The mechanism planned the next step.
    Planned(NextStep),
    /// The last step's newest parcel is in this slot.
    InFlight(SlotId),
    /// The last step was observed in a final block.
    Observed {
        /// The outcome according to the block.
        observation: Observation,
        /// Whether every slot that carried the step was used before the block was read.
        spent: bool,
    },
    /// The request is repeated after an answer that may be reopened.
    Reopen,
    /// A request is about to receive the success. This is stored before the request learns it.
    Told(RequestId),
}

/// The result that one request may receive for a payment. Success is returned once; only a caller that named its
/// request may receive it again, because any other server would deliver the resource again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Telling {
    /// There is no success: the payment is in progress, or failed.
    Nothing,
    /// Success, once [`Event::Told`] is stored.
    Due,
    /// Success: it was stored for this request.
    Stored,
    /// Success, marked as returned before.
    Replayed,
    /// No success: another request received it.
    Spent,
}

impl Step {
    /// Makes a step without a parcel.
    #[must_use]
    pub const fn new(name: StepName, once_key: OnceKey) -> Self {
        Self { name, once_key, exclusive: None, parcels: Vec::new(), carriers: Vec::new(), state: StepState::Ready }
    }

    /// Returns whether the step has happened or never can.
    #[must_use]
    pub const fn is_decided(&self) -> bool {
        matches!(self.state, StepState::Proven(_) | StepState::Dead(_))
    }

    /// Returns every once key that the step may hold.
    pub fn once_keys(&self) -> impl Iterator<Item = &OnceKey> {
        core::iter::once(&self.once_key).chain(&self.exclusive)
    }

    /// Returns the once keys that the step holds: no other payment may hold one of them.
    pub fn held(&self) -> impl Iterator<Item = &OnceKey> {
        let live = !matches!(self.state, StepState::Dead(_));
        let exclusive = self.exclusive.as_ref().filter(|_| !self.is_decided());
        live.then_some(&self.once_key).into_iter().chain(exclusive)
    }

    /// Returns the proof of the step, if it happened.
    #[must_use]
    pub const fn proven(&self) -> Option<&StepProof> {
        if let StepState::Proven(proof) = &self.state { Some(proof) } else { None }
    }
}

impl Payment {
    /// Creates the row of a payment that was verified and is to be settled.
    #[must_use]
    pub fn new(verified: Verified, lane: LaneId, request: RequestId, now: UnixSeconds) -> Self {
        let (claim, key, verdict) = verified.into_parts();
        let row = Self::from_row(key, claim, verdict.payer, lane, request);
        Self { claimed: now, due: now, keep_until: verdict.keep_until, ..row }
    }

    /// Makes a row from a ledger's stored members; all others are empty until the ledger sets them. Only
    /// [`claim`](crate::Settlement::claim) begins a payment.
    #[must_use]
    pub const fn from_row(key: PaymentKey, claim: Claim, payer: String, lane: LaneId, request: RequestId) -> Self {
        Self {
            key,
            claim,
            payer,
            lane,
            steps: Vec::new(),
            answer: None,
            request,
            untold: false,
            spent_by: None,
            reopened: 0,
            claimed: UnixSeconds(0),
            due: UnixSeconds(0),
            waits: 0,
            keep_until: UnixSeconds(0),
            version: 0,
        }
    }

    /// Returns the caller and the request that the payment belongs to.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.claim.identity
    }

    /// Returns the last step, if it is not decided.
    #[must_use]
    pub fn open_step(&self) -> Option<&Step> {
        self.steps.last().filter(|step| !step.is_decided())
    }

    /// Returns the proof of the step with this name, if it happened.
    #[must_use]
    pub fn proven(&self, name: &StepName) -> Option<&StepProof> {
        self.steps.iter().filter(|step| step.name == *name).find_map(Step::proven)
    }

    /// Determines the work that the row needs.
    #[must_use]
    pub fn todo(&self) -> Todo {
        if self.answer.is_some() {
            return Todo::Nothing;
        }
        match self.steps.last().map(|step| &step.state) {
            None | Some(StepState::Proven(_) | StepState::Dead(_)) => Todo::Plan,
            Some(StepState::Ready | StepState::InFlight) => Todo::Observe { replan: false },
            // A read that is refused repeatedly does not succeed by repetition.
            Some(StepState::Unaccounted) => {
                Todo::Observe { replan: self.waits < PLANNED_UNACCOUNTED || self.waits.is_power_of_two() }
            }
        }
    }

    /// Returns whether the answer may be reopened: a settlement that failed with a proven step (order without redeem)
    /// continues with its next step when the same request is repeated, as long as its row must be kept.
    #[must_use]
    pub fn may_reopen(&self, now: UnixSeconds) -> bool {
        matches!(self.answer, Some(Err(_)))
            && now < self.keep_until
            && self.steps.iter().any(|step| step.proven().is_some())
    }

    /// Determines the result that one request may receive for this payment. `named` means that its caller named it,
    /// `lost` that the request that was to receive the success ended before it did.
    #[must_use]
    pub fn telling(&self, request: &RequestId, named: bool, lost: bool) -> Telling {
        match &self.answer {
            None | Some(Err(_)) => Telling::Nothing,
            Some(Ok(_)) if self.untold || lost => Telling::Due,
            Some(Ok(_)) if self.request == *request => Telling::Stored,
            Some(Ok(_)) if named => Telling::Replayed,
            Some(Ok(_)) => Telling::Spent,
        }
    }

    /// Returns the transaction that paid, as far as it is known.
    #[must_use]
    pub fn paid_by(&self) -> Option<&TxId> {
        match &self.answer {
            Some(Ok(receipt)) => receipt.transaction.as_ref(),
            _ => self.spent_by.as_ref().or_else(|| Some(&self.steps.last()?.proven()?.tx)),
        }
    }

    /// Applies an event. `poll` is the number of seconds after which the row needs attention again.
    /// # Errors
    /// The event violates a rule; the row is unchanged.
    pub fn apply(&mut self, event: Event, now: UnixSeconds, poll: u64) -> Result<(), Fault> {
        match event {
            Event::Reopen => return self.reopen(now),
            Event::Told(request) => return self.told(request),
            _ => {}
        }
        if self.answer.is_some() {
            return Err(Fault::broken("an event after the answer"));
        }
        match event {
            Event::Planned(plan) => self.planned(plan, now, poll),
            Event::InFlight(slot) => match self.steps.last_mut() {
                Some(step) if step.state == StepState::Ready => {
                    step.carriers.push(slot);
                    step.state = StepState::InFlight;
                    self.waits = 0;
                    self.due = now.plus(poll);
                    Ok(())
                }
                _ => Err(Fault::broken("put into a slot what was not ready")),
            },
            Event::Observed { observation, spent } => self.observed(observation, spent, now, poll),
            Event::Reopen | Event::Told(_) => Ok(()),
        }
    }

    fn planned(&mut self, plan: NextStep, now: UnixSeconds, poll: u64) -> Result<(), Fault> {
        match plan {
            // A plan of "not yet" must not be requested again at once.
            NextStep::Wait(until) => {
                self.due = until.max(now.plus(1));
                self.wait(now, poll);
                return Ok(());
            }
            NextStep::Do { name, once_key, exclusive, parcel } => {
                if self
                    .steps
                    .iter()
                    .any(|step| step.proven().is_some() && (step.name == name || step.once_key == once_key))
                {
                    return Err(Fault::broken(format_args!("the proven step {name} was planned again")));
                }
                match self.steps.last_mut().filter(|step| !step.is_decided()) {
                    None => self.steps.push(Step { exclusive, parcels: vec![parcel], ..Step::new(name, once_key) }),
                    Some(step) if step.state != StepState::Unaccounted => {
                        return Err(Fault::broken(format_args!("{name} was planned over an open step")));
                    }
                    // Bytes sent earlier may still land: only the same once key keeps the step from happening twice.
                    Some(step) if step.once_key != once_key || step.name != name || step.exclusive != exclusive => {
                        return Err(Fault::broken(format_args!("{name} was rebuilt under another once key")));
                    }
                    Some(step) => {
                        step.parcels.push(parcel);
                        step.state = StepState::Ready;
                    }
                }
                self.due = now.plus(poll);
            }
            NextStep::Settled(_) | NextStep::Failed(_) | NextStep::Spent { .. } if self.open_step().is_some() => {
                return Err(Fault::broken("answered over an open step"));
            }
            NextStep::Settled(receipt) => {
                self.answer = Some(Ok(receipt));
                self.untold = true;
            }
            NextStep::Failed(reason) => self.answer = Some(Err(reason)),
            NextStep::Spent { reason, transaction } => {
                self.answer = Some(Err(reason));
                self.spent_by = Some(transaction);
            }
        }
        self.waits = 0;
        Ok(())
    }

    /// Records a fruitless check: the next one is later, up to [`LONGEST_WAIT`].
    fn wait(&mut self, now: UnixSeconds, poll: u64) {
        if let Some(doublings) = self.waits.checked_sub(1) {
            let wait = poll.saturating_mul(1_u64.checked_shl(doublings).unwrap_or(u64::MAX));
            self.due = self.due.max(now.plus(wait.min(LONGEST_WAIT)));
        }
        self.waits = self.waits.saturating_add(1);
    }

    /// Moves a ready payment behind the others: nothing could be signed for it now. The wait doubles with each time, up to
    /// [`LONGEST_WAIT`].
    pub(crate) fn defer(&mut self, now: UnixSeconds, poll: u64) {
        self.waits = self.waits.saturating_add(1);
        let wait = poll.max(1).saturating_mul(1_u64.checked_shl(self.waits).unwrap_or(u64::MAX));
        self.due = now.plus(wait.min(LONGEST_WAIT));
    }

    /// Sets the next check to the usual interval: another payment has to move first.
    pub(crate) fn yields(&mut self, now: UnixSeconds, poll: u64) {
        self.due = now.plus(poll.max(1));
    }

    fn observed(&mut self, observation: Observation, spent: bool, now: UnixSeconds, poll: u64) -> Result<(), Fault> {
        let Some(step) = self.steps.last_mut().filter(|step| !step.is_decided()) else {
            return Err(Fault::broken("observed what is decided"));
        };
        self.due = now;
        match observation {
            Observation::Proven(proof) => step.state = StepState::Proven(proof),
            Observation::Dead(reason) => step.state = StepState::Dead(reason),
            Observation::Pending if spent && step.state == StepState::InFlight => step.state = StepState::Unaccounted,
            Observation::Pending if step.state == StepState::Unaccounted => {
                self.due = now.plus(poll);
                self.wait(now, poll);
                return Ok(());
            }
            // Nothing of it was sent, so nothing is to be seen but its cancellation or its end.
            Observation::Pending if step.state == StepState::Ready && step.carriers.is_empty() => {
                self.due = now.plus(poll.max(LONGEST_WAIT));
            }
            // The step is in flight, and may be visible in the next block.
            Observation::Pending => self.due = now.plus(poll),
        }
        self.waits = 0;
        Ok(())
    }

    fn told(&mut self, request: RequestId) -> Result<(), Fault> {
        if !matches!(self.answer, Some(Ok(_))) {
            return Err(Fault::broken("told a success that there is not"));
        }
        self.request = request;
        self.untold = false;
        Ok(())
    }

    fn reopen(&mut self, now: UnixSeconds) -> Result<(), Fault> {
        if !self.may_reopen(now) {
            return Err(Fault::broken("reopened what is not open to it"));
        }
        self.answer = None;
        self.reopened = self.reopened.saturating_add(1);
        self.waits = 0;
        self.due = now;
        Ok(())
    }
}
