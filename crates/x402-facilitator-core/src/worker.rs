//! The settlement machine from the workers' side: read a row, make one call, store its result.
//!
//! Nothing is kept in memory, so recovery is the normal loop. A worker needs the lane's lease; every commit carries its
//! fence, and bytes are sent only after the commit that stored them.

use x402_types::{Fault, PaymentKey, UnixSeconds};

use crate::draft::stage;
use crate::{
    CommitError, Doing, Event, Happening, LaneView, Lease, MAX_PARCELS, Mechanism, Next, NextStep, Nonces, Observation,
    Parcel, Payment, PaymentDraft, Rail, Receipt, Settlement, Slot, SlotId, Stage, Step, StoredDrafts, Todo, TxId,
    Write,
};

/// The result of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// There was nothing to do yet.
    Idle,
    /// A row changed; there may be more to do at once.
    Moved,
    /// Another writer was first. Nothing was stored or sent; the next round sees the current rows.
    Overtaken,
}

impl Settlement {
    /// Advances one payment by one call, and stores the result: plans its next step, or observes the last. When the payment
    /// is due again is stored as well, for a worker that keeps no agenda.
    /// # Errors
    /// The result could not be determined, or a mechanism violated a rule. The call will be repeated.
    pub async fn advance(&self, lease: &Lease, key: &PaymentKey, now: UnixSeconds) -> Result<Progress, Fault> {
        let Some(draft) = self.draft(key, now).await? else { return Ok(Progress::Idle) };
        let stored = self.store_one(lease, draft, true, now).await;
        stored.map(|(progress, _)| progress).inspect_err(|fault| self.faulted(Doing::Advance, fault, now))
    }

    /// Makes a payment's one call: plans its next step, or observes the last. Stores nothing. `None` means that there is
    /// nothing to do: the payment has its answer, or does not exist.
    /// # Errors
    /// The result could not be determined, or a mechanism violated a rule. The call will be repeated.
    pub async fn draft(&self, key: &PaymentKey, now: UnixSeconds) -> Result<Option<PaymentDraft>, Fault> {
        let draft = self.drafted(key, now).await;
        draft.inspect_err(|fault| self.faulted(Doing::Advance, fault, now))
    }

    async fn drafted(&self, key: &PaymentKey, now: UnixSeconds) -> Result<Option<PaymentDraft>, Fault> {
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
        if after.todo() == Todo::Plan && after.due <= now && after.steps.last().is_some_and(Step::is_decided) {
            match self.with_plan(mechanism.as_ref(), &after, now).await {
                Ok(planned) => after = planned,
                // The observation is stored all the same. The next round plans again.
                Err(fault) => self.faulted(Doing::Advance, &fault, now),
            }
        }
        Ok(Some(PaymentDraft { before, after }))
    }

    /// Returns a payment with its next plan.
    async fn with_plan(
        &self,
        mechanism: &dyn Mechanism,
        payment: &Payment,
        now: UnixSeconds,
    ) -> Result<Payment, Fault> {
        let plan = self.planned(mechanism, payment, now).await?;
        let mut after = payment.clone();
        after.apply(Event::Planned(plan), now, self.pace.poll)?;
        Ok(after)
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
        // An older copy of the ledger does not know what was done for this payment, unless a block has proven it.
        if self.holds_back(mechanism) && !matches!(plan, NextStep::Settled(_) | NextStep::Wait(_)) {
            return Ok(NextStep::Wait(now.plus(self.pace.poll)));
        }
        let most = mechanism.max_parcels().min(MAX_PARCELS);
        let is_over = payment.open_step().is_some_and(|step| step.parcels.len() >= most);
        Ok(if is_over && matches!(plan, NextStep::Do { .. }) { NextStep::Wait(now.plus(self.pace.poll)) } else { plan })
    }

    /// Stores drafts of one lane, all in one commit if the rows allow it: what did not change is not written, and a
    /// draft that the rows do not allow keeps none of the others back.
    pub async fn store(&self, lease: &Lease, drafts: Vec<PaymentDraft>, now: UnixSeconds) -> StoredDrafts {
        let (same, mut drafts): (Vec<PaymentDraft>, Vec<PaymentDraft>) =
            drafts.into_iter().partition(PaymentDraft::is_unchanged);
        let mut stored: StoredDrafts =
            same.into_iter().map(|draft| (draft.after.key.clone(), Ok(draft.stage()))).collect();
        if drafts.len() > 1 {
            drafts.iter_mut().for_each(|draft| self.tell(&mut draft.after));
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
                Err(CommitError::Conflict | CommitError::Taken(_)) => {
                    drafts.iter_mut().for_each(|draft| self.untell(&mut draft.after));
                }
                Err(CommitError::Fenced) => {
                    drafts.iter_mut().for_each(|draft| self.untell(&mut draft.after));
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
        drafts: impl IntoIterator<Item = PaymentDraft, IntoIter: Send> + Send,
        now: UnixSeconds,
    ) -> StoredDrafts {
        let mut stored = StoredDrafts::new();
        for draft in drafts {
            let key = draft.after.key.clone();
            let one = self.store_one(lease, draft, false, now).await;
            let one = one.map(|(_, stage)| stage).inspect_err(|fault| self.faulted(Doing::Advance, fault, now));
            stored.push((key, one));
        }
        stored
    }

    /// Stores one draft. `paced` stores also when a payment is due again of which nothing else changed.
    async fn store_one(
        &self,
        lease: &Lease,
        draft: PaymentDraft,
        paced: bool,
        now: UnixSeconds,
    ) -> Result<(Progress, Stage), Fault> {
        let PaymentDraft { mut before, mut after } = draft;
        self.tell(&mut after);
        let write = Write { lease: Some(lease.clone()), payments: vec![after.clone()], ..Write::default() };
        let done = self.ledger.commit(write).await;
        if !matches!(done, Ok(()) | Err(CommitError::Fault(_))) {
            self.untell(&mut after);
        }
        match done {
            Ok(()) => {
                self.moved(&before, &after, now);
                Ok((Progress::Moved, stage(&after)))
            }
            // Another payment of this payer holds the same once key: wait for its end. Nothing of this one has changed.
            Err(CommitError::Taken(_)) => {
                before.yields(now, self.pace.poll);
                let stage = stage(&before);
                if paced {
                    let write = Write { lease: Some(lease.clone()), payments: vec![before], ..Write::default() };
                    settle_commit(self.ledger.commit(write).await)?;
                }
                Ok((Progress::Idle, stage))
            }
            done => settle_commit(done).map(|progress| (progress, Stage::Overtaken)),
        }
    }

    /// Marks a new success for the request that waits for it in this process, so that one write stores both. If the
    /// request ends before it finds the success, or if the write's result is unknown, the next request receives it.
    fn tell(&self, after: &mut Payment) {
        if after.untold && self.in_flight.begin_telling(&after.request) {
            after.untold = false;
        }
    }

    /// Takes the mark back: nothing was stored.
    fn untell(&self, after: &mut Payment) {
        if matches!(after.answer, Some(Ok(_))) && !after.untold {
            self.in_flight.withdraw(&after.request);
            after.untold = true;
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

/// The result of a round of a lane.
#[derive(Debug)]
pub struct Carried {
    /// The lane's progress, or its first failure: the rest of the round was done as far as possible.
    pub lane: Result<Progress, Fault>,
    /// The result of storing each draft of the round, and after it the payments that are due because the far side has
    /// answered.
    pub drafts: StoredDrafts,
}

impl Settlement {
    /// Runs one round for one lane: closes final slots, fills gaps, rebroadcasts open slots, loads ready payments.
    /// # Errors
    /// The first failure; the rest of the round was done as far as possible.
    pub async fn carry(&self, lease: &Lease, now: UnixSeconds) -> Result<Progress, Fault> {
        self.carry_drafts(lease, Vec::new(), now).await.lane
    }

    /// Runs one round for one lane as [`Settlement::carry`] does, and stores drafts: one that finds a slot in one commit
    /// with the slot, before anything is sent, the others in the same commit to wait for one.
    pub async fn carry_drafts(&self, lease: &Lease, drafts: Vec<PaymentDraft>, now: UnixSeconds) -> Carried {
        let seen = async {
            let rail = self.rail(&lease.lane)?.as_ref();
            let nonces = rail.nonces(&lease.lane).await?;
            Ok::<_, Fault>((rail, nonces, self.ledger.lane(&lease.lane, 0).await?))
        };
        let (rail, nonces, view) = match seen.await {
            Ok(seen) => seen,
            Err(fault) => {
                self.faulted(Doing::Carry, &fault, now);
                // The account's nonces are unknown, and the drafts are not.
                return Carried { lane: Err(fault), drafts: self.store(lease, drafts, now).await };
            }
        };
        let progress = Progress::Idle;
        let (numbered, fault, drafts_stored) = (nonces.is_some(), None, Vec::new());
        let mut round = Round { settlement: self, rail, lease, now, numbered, progress, fault, drafts: drafts_stored };
        round.close(&view, nonces).await;
        round.rebroadcast(&view, nonces).await;
        round.load(view, drafts, nonces).await;
        Carried { lane: round.fault.map_or(Ok(round.progress), Err), drafts: round.drafts }
    }
}

/// One round of one lane.
pub(crate) struct Round<'a> {
    pub(crate) settlement: &'a Settlement,
    pub(crate) rail: &'a dyn Rail,
    pub(crate) lease: &'a Lease,
    pub(crate) now: UnixSeconds,
    /// Whether the lane has nonces.
    pub(crate) numbered: bool,
    pub(crate) progress: Progress,
    pub(crate) fault: Option<Fault>,
    /// The result of storing each draft, and after it the payments whose slots were answered.
    pub(crate) drafts: StoredDrafts,
}

/// A payment in a round: its draft, and its state in the slot that it found.
struct Cargo {
    draft: PaymentDraft,
    aboard: Option<Payment>,
}

impl Round<'_> {
    /// Fills nonces without a slot, and puts ready payments and drafts into new slots. The drafts for which there is no
    /// room are stored to wait.
    async fn load(&mut self, view: LaneView, drafts: Vec<PaymentDraft>, nonces: Option<Nonces>) {
        let LaneView { next: from, open, .. } = view;
        let mut slots = Vec::new();
        let head = nonces.map_or(0, |nonces| nonces.head);
        if nonces.is_some() {
            for nonce in self.gaps(head..from, &open).await {
                self.fill(nonce, &[], &mut slots).await;
            }
        }
        let mut next = from.max(head);
        let in_the_air = open.iter().filter(|slot| slot.id.nonce >= head).count();
        let room = self.settlement.most_in_flight(&self.lease.lane).saturating_sub(in_the_air);
        let ready = self
            .ready(room.saturating_mul(self.rail.most_aboard().max(1)))
            .await
            .into_iter()
            .map(|payment| PaymentDraft { before: payment.clone(), after: payment });
        let (batches, left) = self.batches(ready.chain(drafts), room);
        let mut cargo: Vec<Cargo> = left.into_iter().map(|draft| Cargo { draft, aboard: None }).collect();
        for batch in batches {
            let parcels: Vec<Parcel> = batch.iter().filter_map(|draft| newest_parcel(&draft.after)).cloned().collect();
            // A refusal to sign has used up nothing: the next batch takes the nonce, and other payments the room of the
            // next round.
            let Some(id) = self.fill(next, &parcels, &mut slots).await else {
                for mut draft in batch {
                    draft.after.defer(self.now, self.settlement.pace.poll);
                    cargo.push(Cargo { draft, aboard: None });
                }
                continue;
            };
            next = next.saturating_add(1);
            for draft in batch {
                let mut aboard = draft.after.clone();
                let applied = aboard.apply(Event::InFlight(id.clone()), self.now, self.settlement.pace.poll);
                let aboard = applied.map(|()| aboard).map_err(|fault| self.failed(fault)).ok();
                if let (Some(aboard), Some(slot)) = (&aboard, slots.last_mut()) {
                    slot.payments.push(aboard.key.clone());
                }
                cargo.push(Cargo { draft, aboard });
            }
        }
        // A payment that was ready before and found no slot has not changed.
        cargo.retain(|cargo| cargo.aboard.is_some() || !cargo.draft.is_unchanged());
        if !slots.is_empty() || !cargo.is_empty() {
            let moved = slots.iter().any(|slot| slot.id.nonce >= from).then_some(Next { from, to: next });
            self.store_and_send(moved, cargo, slots).await;
        }
    }

    /// Returns the payments that were stored to wait for a slot, at most as many as there is room for.
    async fn ready(&mut self, room: usize) -> Vec<Payment> {
        if room == 0 {
            return Vec::new();
        }
        match self.settlement.ledger.lane(&self.lease.lane, room).await {
            Ok(view) => view.ready,
            Err(fault) => {
                self.failed(fault);
                Vec::new()
            }
        }
    }

    /// Stores payments with their slots in one commit, and then sends the slots.
    async fn store_and_send(&mut self, next: Option<Next>, cargo: Vec<Cargo>, slots: Vec<Slot>) {
        let payments = cargo.iter().map(|cargo| cargo.aboard.as_ref().unwrap_or(&cargo.draft.after).clone()).collect();
        let write = Write { lease: Some(self.lease.clone()), next, payments, slots: slots.clone() };
        match self.settlement.ledger.commit(write).await {
            Ok(()) => {
                self.progress = Progress::Moved;
                for Cargo { draft: PaymentDraft { before, after }, aboard } in &cargo {
                    let after = aboard.as_ref().unwrap_or(after);
                    self.settlement.moved(before, after, self.now);
                    self.drafts.push((after.key.clone(), Ok(stage(after))));
                }
                slots.iter().for_each(|slot| self.stored(slot));
                self.send(slots).await;
            }
            // A row, or the lane's next nonce, is not as it was read. The drafts are stored without slots, each for
            // itself, and the next round loads those that are ready.
            Err(CommitError::Conflict | CommitError::Taken(_)) => {
                self.progress = Progress::Overtaken;
                let drafts = cargo.into_iter().map(|cargo| cargo.draft).filter(|draft| !draft.is_unchanged());
                let stored = self.settlement.store_each(self.lease, drafts, self.now).await;
                self.drafts.extend(stored);
            }
            Err(CommitError::Fenced) => {
                self.progress = Progress::Overtaken;
                let keys = cargo.into_iter().map(|cargo| cargo.draft.after.key);
                self.drafts.extend(keys.map(|key| (key, Ok(Stage::Overtaken))));
            }
            Err(CommitError::Fault(fault)) => {
                let drafts = cargo.into_iter().map(|cargo| cargo.draft).filter(|draft| !draft.is_unchanged());
                self.drafts.extend(drafts.map(|draft| (draft.after.key, Err(fault.clone()))));
                self.failed(fault);
            }
        }
    }

    /// Signs for a new slot.
    async fn fill(&mut self, nonce: u64, parcels: &[Parcel], slots: &mut Vec<Slot>) -> Option<SlotId> {
        let id = SlotId { lane: self.lease.lane.clone(), nonce };
        match self.rail.sign(&id, parcels, None).await {
            Ok(attempt) => {
                let due = self.now.plus(self.patience(1));
                slots.push(Slot { attempts: vec![attempt], opened: self.now, due, ..Slot::new(id.clone()) });
                Some(id)
            }
            Err(fault) => {
                self.failed(fault);
                None
            }
        }
    }

    /// Groups payments that share a transaction, into at most `room` batches; the second list is the rest. A payment that
    /// failed to land once is sent alone: it may be what makes the others revert.
    fn batches(
        &self,
        ready: impl Iterator<Item = PaymentDraft>,
        room: usize,
    ) -> (Vec<Vec<PaymentDraft>>, Vec<PaymentDraft>) {
        let fresh = |draft: &PaymentDraft| draft.after.steps.last().is_some_and(|step| step.carriers.is_empty());
        let (mut batches, mut left): (Vec<Vec<PaymentDraft>>, _) = (Vec::new(), Vec::new());
        let most = self.rail.most_aboard();
        // The first batch that is not full.
        let mut begin = 0;
        for draft in ready {
            let Some(parcel) = newest_parcel(&draft.after) else { continue };
            let fits = |batch: &&mut Vec<PaymentDraft>| {
                let aboard: Vec<&Parcel> = batch.iter().filter_map(|draft| newest_parcel(&draft.after)).collect();
                batch.iter().all(fresh) && self.rail.fits(&aboard, parcel)
            };
            let is_full = batches.len() >= room;
            while batches.get(begin).is_some_and(|batch| batch.len() >= most) {
                begin = begin.saturating_add(1);
            }
            let mut open = batches.iter_mut().skip(begin).filter(|batch| batch.len() < most);
            match open.find(|batch| fresh(&draft) && fits(batch)) {
                Some(batch) => batch.push(draft),
                None if is_full => left.push(draft),
                None => batches.push(vec![draft]),
            }
        }
        (batches, left)
    }
}

fn newest_parcel(payment: &Payment) -> Option<&Parcel> {
    payment.steps.last()?.parcels.last()
}
