//! A payment's row, what it wants, and what an event does to it. Pure.

use x402_types::{Claim, ErrorReason, Fault, Identity, PaymentKey, UnixSeconds};

use crate::{
    LaneId, NextStep, Observation, OnceKey, Parcel, Receipt, RequestId, SlotId, StepName, StepProof, TxId, Verified,
};

/// The row of a payment.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Payment {
    /// The identity of its authorization.
    pub key: PaymentKey,
    /// What is to be settled, and whose request it is.
    pub claim: Claim,
    /// Who pays, as verification found.
    pub payer: String,
    /// What carries it.
    pub lane: LaneId,
    /// What was done so far, oldest first; only the last can be undecided.
    pub steps: Vec<Step>,
    /// How it ended.
    pub answer: Option<Result<Receipt, ErrorReason>>,
    /// The request that is answered: the newest that waits for the end, then the one that its success was told to.
    pub request: RequestId,
    /// It was made, and nobody was told so yet. Rows of before this was stored say `false`: an older process may have
    /// told it, so it is not told again.
    pub untold: bool,
    /// The transaction, not one of ours, that spent its authorization before anything was sent.
    pub spent_by: Option<TxId>,
    /// How often its answer was taken back.
    pub reopened: u32,
    /// When it was claimed. 0 in rows of before this was stored.
    pub claimed: UnixSeconds,
    /// When it wants to be looked at again.
    pub due: UnixSeconds,
    /// How often in a row it was looked at and had to wait: it is looked at ever less often.
    pub waits: u32,
    /// How long the row must be kept.
    pub keep_until: UnixSeconds,
    /// Counted up by the ledger with every commit; 0 in a row that is not stored yet.
    pub version: u64,
}

/// One thing that must happen on the far side.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Step {
    /// What it does.
    pub name: StepName,
    /// What lets it happen once.
    pub once_key: OnceKey,
    /// What it needs for itself while it is open: no other payment's step under this, as its once key or as this, goes
    /// on beside it. It is given back when the step is decided; the once key of a proven step is kept.
    pub exclusive: Option<OnceKey>,
    /// Everything that was ever to be sent for it, oldest first. Any of them may still land.
    pub parcels: Vec<Parcel>,
    /// The slots it ever travelled in, oldest first.
    pub carriers: Vec<SlotId>,
    /// How far it is.
    pub state: StepState,
}

/// How far a step is.
#[derive(Debug, Clone, PartialEq)]
pub enum StepState {
    /// Its newest parcel waits for a slot.
    Ready,
    /// In a slot that may still land.
    InFlight,
    /// Every slot that it travelled in is used, and it has not been seen to happen. It may still land.
    Unaccounted,
    /// It happened.
    Proven(StepProof),
    /// It can never happen.
    Dead(ErrorReason),
}

/// Seconds between two looks at a payment that waits, at most.
const LONGEST_WAIT: u64 = 30;
/// How many looks in a row an unaccounted step is planned again at to no avail. Then it is observed only, but for looks
/// that lie twice as far from the first each time: what changes in the end is found out, at a cost that does not count.
const PLANNED_UNACCOUNTED: u32 = 8;

/// What a row wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Todo {
    /// It has its answer.
    Nothing,
    /// [`crate::Mechanism::plan`].
    Plan,
    /// [`crate::Mechanism::observe`] of the last step.
    Observe {
        /// And, where nothing is to be seen, [`crate::Mechanism::plan`].
        replan: bool,
    },
}

/// What happened to a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The mechanism said what comes next.
    Planned(NextStep),
    /// The last step's newest parcel is in this slot.
    InFlight(SlotId),
    /// A final block was looked at.
    Observed {
        /// What it said.
        observation: Observation,
        /// Every slot that the step travelled in was used before the block was looked at.
        spent: bool,
    },
    /// The request asks once more after an answer that may be taken back.
    Reopen,
    /// A request is to be told that the payment was made. Stored before the request hears of it.
    Told(RequestId),
}

/// What one request for the payment may hear of it. Success is told once; only a caller that named its
/// request may have it again, for to every other server the same answer again is another sale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Telling {
    /// There is no success to tell: it is under way, or it failed.
    Nothing,
    /// Success, once [`Event::Told`] is stored.
    Due,
    /// Success: it was stored for this very request.
    Stored,
    /// Success, as one that was told before.
    Replayed,
    /// No success: another request was told it.
    Spent,
}

impl Step {
    /// A step for which nothing was to be sent yet.
    #[must_use]
    pub const fn new(name: StepName, once_key: OnceKey) -> Self {
        Self { name, once_key, exclusive: None, parcels: Vec::new(), carriers: Vec::new(), state: StepState::Ready }
    }

    /// Whether it has happened or never can.
    #[must_use]
    pub const fn is_decided(&self) -> bool {
        matches!(self.state, StepState::Proven(_) | StepState::Dead(_))
    }

    /// Every once key that it may hold.
    pub fn once_keys(&self) -> impl Iterator<Item = &OnceKey> {
        core::iter::once(&self.once_key).chain(&self.exclusive)
    }

    /// The once keys that it holds: no other payment may hold one of them.
    pub fn held(&self) -> impl Iterator<Item = &OnceKey> {
        let live = !matches!(self.state, StepState::Dead(_));
        let exclusive = self.exclusive.as_ref().filter(|_| !self.is_decided());
        live.then_some(&self.once_key).into_iter().chain(exclusive)
    }

    /// What is known of it, if it happened.
    #[must_use]
    pub const fn proven(&self) -> Option<&StepProof> {
        if let StepState::Proven(proof) = &self.state { Some(proof) } else { None }
    }
}

impl Payment {
    /// The row of a payment that was checked and is to be settled.
    #[must_use]
    pub fn new(verified: Verified, lane: LaneId, request: RequestId, now: UnixSeconds) -> Self {
        let (claim, key, verdict) = verified.into_parts();
        let row = Self::from_row(key, claim, verdict.payer, lane, request);
        Self { claimed: now, due: now, keep_until: verdict.keep_until, ..row }
    }

    /// A row as a ledger reads it back; the members that are not given here are empty until the ledger sets them. Only
    /// [`Settlement::claim`](crate::Settlement::claim) begins a payment.
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

    /// Whose request it is.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.claim.identity
    }

    /// The last step, if it is not decided.
    #[must_use]
    pub fn open_step(&self) -> Option<&Step> {
        self.steps.last().filter(|step| !step.is_decided())
    }

    /// What is known of the step of that name, if it happened.
    #[must_use]
    pub fn proven(&self, name: &StepName) -> Option<&StepProof> {
        self.steps.iter().filter(|step| step.name == *name).find_map(Step::proven)
    }

    /// What the row wants.
    #[must_use]
    pub fn todo(&self) -> Todo {
        if self.answer.is_some() {
            return Todo::Nothing;
        }
        match self.steps.last().map(|step| &step.state) {
            None | Some(StepState::Proven(_) | StepState::Dead(_)) => Todo::Plan,
            Some(StepState::Ready | StepState::InFlight) => Todo::Observe { replan: false },
            // A read that refuses again and again will not change its mind for being repeated.
            Some(StepState::Unaccounted) => {
                Todo::Observe { replan: self.waits < PLANNED_UNACCOUNTED || self.waits.is_power_of_two() }
            }
        }
    }

    /// Whether the answer may be taken back: a settlement that failed with a proven step (order without redeem)
    /// takes up its next step again when the same request asks once more, as long as its row must be kept.
    #[must_use]
    pub fn may_reopen(&self, now: UnixSeconds) -> bool {
        matches!(self.answer, Some(Err(_)))
            && now < self.keep_until
            && self.steps.iter().any(|step| step.proven().is_some())
    }

    /// What one request for this payment may hear. `named`: its caller named it. `lost`: the request that it was told
    /// to ended without passing it on.
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

    /// The transaction that paid, as far as that is known.
    #[must_use]
    pub fn paid_by(&self) -> Option<&TxId> {
        match &self.answer {
            Some(Ok(receipt)) => receipt.transaction.as_ref(),
            _ => self.spent_by.as_ref().or_else(|| Some(&self.steps.last()?.proven()?.tx)),
        }
    }

    /// What an event does. `poll`: after how many seconds it wants to be looked at again.
    ///
    /// # Errors
    /// The event breaks a rule; the row is as it was.
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
            // A plan that says "not yet" must not be asked for again at once.
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
                    // Whatever left before may still land: only the same once key keeps it from happening twice.
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

    /// It was looked at to no avail: the next look is the later, up to [`LONGEST_WAIT`].
    fn wait(&mut self, now: UnixSeconds, poll: u64) {
        if let Some(doublings) = self.waits.checked_sub(1) {
            let wait = poll.saturating_mul(1_u64.checked_shl(doublings).unwrap_or(u64::MAX));
            self.due = self.due.max(now.plus(wait.min(LONGEST_WAIT)));
        }
        self.waits = self.waits.saturating_add(1);
    }

    /// It wants to be looked at again at the usual pace: another payment has to move first.
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
            // It is on its way, and may be seen in the next block.
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
