//! A payment's next state, which one call found out and nothing has stored yet.
//!
//! A worker collects drafts: what one block shows of many payments is one commit, and a step that finds a slot at once is
//! stored together with its slot.

use x402_types::{Fault, PaymentKey, UnixSeconds};

use crate::{
    CommitError, Doing, Event, Happening, Lease, MAX_PARCELS, Mechanism, NextStep, Observation, Payment, Progress,
    Receipt, Settlement, Step, StepState, Todo, TxId, Write,
};

/// A payment's next state that is not stored yet. [`Settlement::draft`] makes it; [`Settlement::store`] or
/// [`Settlement::carry_drafts`] stores it. Dropping it loses nothing but the call that made it.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    pub(crate) before: Payment,
    pub(crate) after: Payment,
}

impl Draft {
    /// Returns the payment's key.
    #[must_use]
    pub const fn key(&self) -> &PaymentKey {
        &self.after.key
    }

    /// Returns whether a step waits for a slot: [`Settlement::carry_drafts`] stores it together with its slot.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.after.steps.last().is_some_and(|step| step.state == StepState::Ready) && !self.is_unchanged()
    }

    /// Returns whether nothing but the time of the next attention differs, which need not be stored: a restart looks at
    /// every unanswered payment at once.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        let Self { before, after } = self;
        before.waits == after.waits && before.answer == after.answer && before.steps == after.steps
    }

    /// Returns the payment's state once the draft is stored.
    #[must_use]
    pub fn stage(&self) -> Stage {
        stage(&self.after)
    }
}

/// What a payment needs next, as far as its worker knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Nothing: the payment has its answer.
    Answered,
    /// The payment's next call, at this time or at the next block if that comes first.
    Open(UnixSeconds),
    /// Another writer was first. Nothing was stored; the next draft begins with the current row.
    Overtaken,
}

pub(crate) fn stage(payment: &Payment) -> Stage {
    if payment.answer.is_some() { Stage::Answered } else { Stage::Open(payment.due) }
}

/// What became of each draft.
pub type Stored = Vec<(PaymentKey, Result<Stage, Fault>)>;

impl Settlement {
    /// Advances one payment by one call, and stores the result: plans its next step, or observes the last.
    /// # Errors
    /// The result could not be determined, or a mechanism violated a rule. The call will be repeated.
    pub async fn advance(&self, lease: &Lease, key: &PaymentKey, now: UnixSeconds) -> Result<Progress, Fault> {
        let Some(draft) = self.draft(key, now).await? else { return Ok(Progress::Idle) };
        if draft.is_unchanged() {
            return Ok(Progress::Idle);
        }
        let stored = self.store_one(lease, draft, now).await;
        stored.map(|(progress, _)| progress).inspect_err(|fault| self.faulted(Doing::Advance, fault, now))
    }

    /// Makes a payment's one call: plans its next step, or observes the last. Stores nothing. `None` means that there is
    /// nothing to do: the payment has its answer, or does not exist.
    /// # Errors
    /// The result could not be determined, or a mechanism violated a rule. The call will be repeated.
    pub async fn draft(&self, key: &PaymentKey, now: UnixSeconds) -> Result<Option<Draft>, Fault> {
        let draft = self.drafted(key, now).await;
        draft.inspect_err(|fault| self.faulted(Doing::Advance, fault, now))
    }

    async fn drafted(&self, key: &PaymentKey, now: UnixSeconds) -> Result<Option<Draft>, Fault> {
        let Some(before) = self.ledger.read(key).await? else { return Ok(None) };
        let mechanism = self.mechanism(&before.claim).map_err(Fault::broken)?;
        let event = match before.todo() {
            Todo::Nothing => return Ok(None),
            Todo::Plan => Event::Planned(self.planned(mechanism.as_ref(), &before, now).await?),
            Todo::Observe { replan } => {
                let Some(step) = before.open_step() else { return Ok(None) };
                // Load the slots *before* observing the chain. The other way round a slot could close in between, and
                // the step would count as lost without having looked at the block that contains it.
                let slots = self.ledger.slots(&step.carriers).await?;
                let sent: Vec<TxId> =
                    slots.iter().flat_map(|slot| slot.attempts.iter().map(|attempt| attempt.tx.clone())).collect();
                match mechanism.observe(step, &sent).await? {
                    Observation::Pending if replan => {
                        Event::Planned(self.planned(mechanism.as_ref(), &before, now).await?)
                    }
                    observation => {
                        let spent = slots.len() == step.carriers.len() && slots.iter().all(|slot| slot.used);
                        Event::Observed { observation, spent }
                    }
                }
            }
        };
        let mut after = before.clone();
        after.apply(event, now, self.pace.poll)?;
        // The step is decided: the answer or the next step is stored in the same commit, if it can be determined now.
        if after.todo() == Todo::Plan
            && after.due <= now
            && after.steps.last().is_some_and(Step::is_decided)
            && let Ok(plan) = self.planned(mechanism.as_ref(), &after, now).await
        {
            after.apply(Event::Planned(plan), now, self.pace.poll)?;
        }
        Ok(Some(Draft { before, after }))
    }

    /// Plans the next step, within the limit of parcels. Sent bytes may still land, so a step that had all of its
    /// parcels is not failed: it waits for its observation.
    async fn planned(&self, mechanism: &dyn Mechanism, payment: &Payment, now: UnixSeconds) -> Result<NextStep, Fault> {
        let plan = mechanism.plan(payment, now).await?;
        if let NextStep::Settled(Receipt { amount: Some(amount), .. }) = &plan {
            let asked = payment.claim.terms.amount;
            if !mechanism.amount_rule().allows(*amount, asked) {
                return Err(Fault::broken(format_args!("{amount} was settled where {asked} was asked")));
            }
        }
        let most = mechanism.max_parcels().min(MAX_PARCELS);
        let is_over = payment.open_step().is_some_and(|step| step.parcels.len() >= most);
        Ok(if is_over && matches!(plan, NextStep::Do { .. }) { NextStep::Wait(now.plus(self.pace.poll)) } else { plan })
    }

    /// Stores drafts of one lane, all in one commit if the rows allow it: what did not change is not written, and a
    /// draft that the rows do not allow keeps none of the others back.
    pub async fn store(&self, lease: &Lease, drafts: Vec<Draft>, now: UnixSeconds) -> Stored {
        let (same, drafts): (Vec<Draft>, Vec<Draft>) = drafts.into_iter().partition(Draft::is_unchanged);
        let mut stored: Stored = same.into_iter().map(|draft| (draft.after.key.clone(), Ok(draft.stage()))).collect();
        if drafts.len() > 1 {
            let payments = drafts.iter().map(|draft| draft.after.clone()).collect();
            let write = Write { lease: Some(lease.clone()), payments, ..Write::default() };
            match self.ledger.commit(write).await {
                Ok(()) => {
                    for draft in drafts {
                        self.moved(&draft.before, &draft.after, now);
                        stored.push((draft.after.key.clone(), Ok(draft.stage())));
                    }
                    return stored;
                }
                Err(CommitError::Conflict | CommitError::Taken(_)) => {}
                Err(CommitError::Fenced) => {
                    stored.extend(drafts.into_iter().map(|draft| (draft.after.key, Ok(Stage::Overtaken))));
                    return stored;
                }
                Err(CommitError::Fault(fault)) => {
                    self.faulted(Doing::Advance, &fault, now);
                    stored.extend(drafts.into_iter().map(|draft| (draft.after.key, Err(fault.clone()))));
                    return stored;
                }
            }
        }
        stored.extend(self.store_each(lease, drafts, now).await);
        stored
    }

    /// Stores each draft in a commit of its own.
    pub(crate) async fn store_each(
        &self,
        lease: &Lease,
        drafts: impl IntoIterator<Item = Draft, IntoIter: Send> + Send,
        now: UnixSeconds,
    ) -> Stored {
        let mut stored = Stored::new();
        for draft in drafts {
            let key = draft.after.key.clone();
            let one = self.store_one(lease, draft, now).await;
            let one = one.map(|(_, stage)| stage).inspect_err(|fault| self.faulted(Doing::Advance, fault, now));
            stored.push((key, one));
        }
        stored
    }

    async fn store_one(&self, lease: &Lease, draft: Draft, now: UnixSeconds) -> Result<(Progress, Stage), Fault> {
        let Draft { mut before, after } = draft;
        let write = Write { lease: Some(lease.clone()), payments: vec![after.clone()], ..Write::default() };
        match self.ledger.commit(write).await {
            Ok(()) => {
                self.moved(&before, &after, now);
                Ok((Progress::Moved, stage(&after)))
            }
            // Another payment of this payer holds the same once key: wait for its end. Nothing of this one has changed.
            Err(CommitError::Taken(_)) => {
                before.yields(now, self.pace.poll);
                Ok((Progress::Idle, stage(&before)))
            }
            done => settle_commit(done).map(|progress| (progress, Stage::Overtaken)),
        }
    }

    /// Notifies the observer of a payment's changes.
    pub(crate) fn moved(&self, before: &Payment, after: &Payment, now: UnixSeconds) {
        let payment = after;
        for (at, step) in after.steps.iter().enumerate().skip(before.steps.len().saturating_sub(1)) {
            let old = before.steps.get(at);
            if step.is_decided() && !old.is_some_and(Step::is_decided) {
                self.notice(Happening::Landed { payment, step }, now);
            } else if step.parcels.len() > old.map_or(0, |old| old.parcels.len()) {
                self.notice(Happening::Planned { payment, step }, now);
            }
        }
        if before.answer.is_none() && after.answer.is_some() {
            self.notice(Happening::Answered { payment }, now);
        }
    }
}

pub(crate) fn settle_commit(done: Result<(), CommitError>) -> Result<Progress, Fault> {
    match done {
        Ok(()) => Ok(Progress::Moved),
        Err(CommitError::Fault(fault)) => Err(fault),
        Err(CommitError::Fenced | CommitError::Conflict | CommitError::Taken(_)) => Ok(Progress::Overtaken),
    }
}
