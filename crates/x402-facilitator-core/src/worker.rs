//! The settlement machine from the workers' side: read a row, make one call, store its result.
//!
//! Nothing is kept in memory, so recovery is the normal loop. A worker needs the lane's lease; every commit carries its
//! fence, and bytes are sent only after the commit that stored them.

use core::future::{Future, poll_fn};
use core::ops::Range;
use core::pin::Pin;
use core::task::Poll;
use std::collections::BTreeMap;

use x402_types::{Fault, PaymentKey, UnixSeconds};

use crate::{
    CommitError, Doing, Event, Happening, LaneView, Lease, MAX_PARCELS, Mechanism, Next, NextStep, Nonces, Observation,
    Parcel, Payment, Rail, Receipt, Settlement, Slot, SlotId, Step, StepState, Todo, TxId, Write,
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

/// The maximum number of a lane's slots in flight. Nodes keep 64 transactions of one account.
const MAX_OPEN: usize = 64;
/// The maximum number of missing nonces that one round fills.
const MAX_GAPS: usize = 16;
/// The number of resends after which a slot on a lane without nonces is given up, so that its step can be rebuilt.
const PATIENCE: u32 = 2;

impl Settlement {
    /// Advances one payment by one call: plans its next step, or observes the last.
    /// # Errors
    /// The result could not be determined, or a mechanism violated a rule. The call will be repeated.
    pub async fn advance(&self, lease: &Lease, key: &PaymentKey, now: UnixSeconds) -> Result<Progress, Fault> {
        let progress = self.advanced(lease, key, now).await;
        progress.inspect_err(|fault| self.faulted(Doing::Advance, fault, now))
    }

    async fn advanced(&self, lease: &Lease, key: &PaymentKey, now: UnixSeconds) -> Result<Progress, Fault> {
        let Some(before) = self.ledger.read(key).await? else { return Ok(Progress::Idle) };
        let mechanism = self.mechanism(&before.claim).map_err(Fault::broken)?;
        let event = match before.todo() {
            Todo::Nothing => return Ok(Progress::Idle),
            Todo::Plan => Event::Planned(self.planned(mechanism.as_ref(), &before, now).await?),
            Todo::Observe { replan } => {
                let Some(step) = before.open_step() else { return Ok(Progress::Idle) };
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
                // What was observed is stored all the same. The next round plans again.
                Err(fault) => self.faulted(Doing::Advance, &fault, now),
            }
        }
        self.store(lease, before, after, now).await
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
        let most = mechanism.max_parcels().min(MAX_PARCELS);
        let is_over = payment.open_step().is_some_and(|step| step.parcels.len() >= most);
        Ok(if is_over && matches!(plan, NextStep::Do { .. }) { NextStep::Wait(now.plus(self.pace.poll)) } else { plan })
    }

    async fn store(
        &self,
        lease: &Lease,
        mut before: Payment,
        after: Payment,
        now: UnixSeconds,
    ) -> Result<Progress, Fault> {
        let write = Write { lease: Some(lease.clone()), payments: vec![after.clone()], ..Write::default() };
        match self.ledger.commit(write).await {
            Ok(()) => {
                self.moved(&before, &after, now);
                Ok(Progress::Moved)
            }
            // Another payment of this payer holds the same nonce of the far side: wait for its end.
            Err(CommitError::Taken(_)) => {
                before.yields(now, self.pace.poll);
                let write = Write { lease: Some(lease.clone()), payments: vec![before], ..Write::default() };
                settle_commit(self.ledger.commit(write).await)?;
                Ok(Progress::Idle)
            }
            done => settle_commit(done),
        }
    }

    /// Notifies the observer of a payment's changes.
    fn moved(&self, before: &Payment, after: &Payment, now: UnixSeconds) {
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

    /// Runs one round for one lane: closes final slots, fills gaps, rebroadcasts open slots, loads ready payments.
    /// # Errors
    /// The first failure; the rest of the round was done as far as possible.
    pub async fn carry(&self, lease: &Lease, now: UnixSeconds) -> Result<Progress, Fault> {
        let seen = async {
            let rail = self.rail(&lease.lane)?.as_ref();
            let nonces = rail.nonces(&lease.lane).await?;
            Ok::<_, Fault>((rail, nonces, self.ledger.lane(&lease.lane).await?))
        };
        let (rail, nonces, view) = seen.await.inspect_err(|fault| self.faulted(Doing::Carry, fault, now))?;
        let mut round = Round { settlement: self, rail, lease, now, progress: Progress::Idle, fault: None };
        round.close(&view, nonces).await;
        round.rebroadcast(&view, nonces).await;
        round.load(view, nonces).await;
        round.fault.map_or(Ok(round.progress), Err)
    }
}

fn settle_commit(done: Result<(), CommitError>) -> Result<Progress, Fault> {
    match done {
        Ok(()) => Ok(Progress::Moved),
        Err(CommitError::Fault(fault)) => Err(fault),
        Err(CommitError::Fenced | CommitError::Conflict | CommitError::Taken(_)) => Ok(Progress::Overtaken),
    }
}

/// One round of one lane.
struct Round<'a> {
    settlement: &'a Settlement,
    rail: &'a dyn Rail,
    lease: &'a Lease,
    now: UnixSeconds,
    progress: Progress,
    fault: Option<Fault>,
}

impl Round<'_> {
    /// Closes slots: a nonce below finality is permanently used, whatever used it.
    async fn close(&mut self, view: &LaneView, nonces: Option<Nonces>) {
        let Some(nonces) = nonces else { return };
        let used: Vec<Slot> = view
            .open
            .iter()
            .filter(|slot| slot.id.nonce < nonces.finalized)
            .map(|slot| Slot { used: true, ..slot.clone() })
            .collect();
        if !used.is_empty() {
            self.commit(None, Vec::new(), used).await;
        }
    }

    /// Rebroadcasts stored slots until their nonces are final: each is sent again, with a higher fee every second time,
    /// or used up by an empty transaction when its payments are decided.
    async fn rebroadcast(&mut self, view: &LaneView, nonces: Option<Nonces>) {
        let head = nonces.map_or(0, |nonces| nonces.head);
        let mut again = Vec::new();
        let now = self.now;
        for slot in view.open.iter().filter(|slot| slot.id.nonce >= head && slot.due <= now) {
            let mut slot = slot.clone();
            let load = match self.undecided(&slot).await {
                Ok(load) => load,
                Err(fault) => {
                    self.failed(fault);
                    continue;
                }
            };
            slot.resends = slot.resends.saturating_add(1);
            slot.due = self.now.plus(self.patience(slot.resends));
            if nonces.is_none() && (load.is_empty() || slot.resends > PATIENCE) {
                // The far side may forget a parcel at any time: the step is rebuilt under the same once key.
                slot.used = true;
                self.commit(None, Vec::new(), vec![slot]).await;
                continue;
            }
            let signed = slot.attempts.len();
            if nonces.is_some() && slot.resends.is_multiple_of(2) {
                match self.rail.sign(&slot.id, &load, slot.attempts.last()).await {
                    Ok(attempt) if slot.attempts.contains(&attempt) => {}
                    Ok(attempt) => slot.attempts.push(attempt),
                    Err(fault) => self.failed(fault),
                }
            }
            if self.commit(None, Vec::new(), vec![slot.clone()]).await {
                if slot.attempts.len() > signed {
                    self.stored(&slot);
                }
                again.push(slot);
            }
        }
        self.send(again).await;
    }

    /// Fills nonces without a slot, and puts ready payments into new slots.
    async fn load(&mut self, view: LaneView, nonces: Option<Nonces>) {
        let LaneView { next: from, open, ready } = view;
        let mut slots = Vec::new();
        let mut payments = Vec::new();
        let head = nonces.map_or(0, |nonces| nonces.head);
        if nonces.is_some() {
            for nonce in self.gaps(head..from, &open).await {
                self.fill(nonce, &[], &mut slots).await;
            }
        }
        let mut next = from.max(head);
        let in_the_air = open.iter().filter(|slot| slot.id.nonce >= head).count();
        let mut room = MAX_OPEN.saturating_sub(in_the_air);
        for batch in self.batches(ready) {
            if room == 0 {
                break;
            }
            let parcels: Vec<Parcel> = batch.iter().filter_map(newest_parcel).cloned().collect();
            // A refusal to sign has used up nothing: the next batch takes the nonce.
            let Some(id) = self.fill(next, &parcels, &mut slots).await else { continue };
            let Some(slot) = slots.last_mut() else { continue };
            for mut payment in batch {
                match payment.apply(Event::InFlight(id.clone()), self.now, self.settlement.pace.poll) {
                    Ok(()) => {
                        slot.payments.push(payment.key.clone());
                        payments.push(payment);
                    }
                    Err(fault) => self.failed(fault),
                }
            }
            next = next.saturating_add(1);
            room = room.saturating_sub(1);
        }
        if slots.is_empty() {
            return;
        }
        let new = slots.clone();
        let moved = slots.iter().any(|slot| slot.id.nonce >= from).then_some(Next { from, to: next });
        if self.commit(moved, payments, slots).await {
            new.iter().for_each(|slot| self.stored(slot));
            self.send(new).await;
        }
    }

    /// Finds the nonces without a slot. If the key was used elsewhere, the head moved past this ledger's nonces, and a
    /// reorganisation may have taken that back: without a transaction for the nonces in between, no later one can ever
    /// land.
    async fn gaps(&mut self, nonces: Range<u64>, open: &[Slot]) -> Vec<u64> {
        let is_open = |nonce: &u64| open.iter().any(|slot| slot.id.nonce == *nonce);
        let id = |nonce| SlotId { lane: self.lease.lane.clone(), nonce };
        let ids: Vec<SlotId> = nonces.filter(|nonce| !is_open(nonce)).take(MAX_OPEN).map(id).collect();
        if ids.is_empty() {
            return Vec::new();
        }
        // A lagging node reports nonces as unused whose slots are closed.
        match self.settlement.ledger.slots(&ids).await {
            Ok(closed) => {
                let missing = ids.iter().filter(|id| closed.iter().all(|slot| slot.id != **id));
                missing.take(MAX_GAPS).map(|id| id.nonce).collect()
            }
            Err(fault) => {
                self.failed(fault);
                Vec::new()
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

    /// Groups payments that share a transaction. A payment that failed to land once is sent alone: it may be what makes
    /// the others revert.
    fn batches(&self, ready: Vec<Payment>) -> Vec<Vec<Payment>> {
        let fresh = |payment: &Payment| payment.steps.last().is_some_and(|step| step.carriers.is_empty());
        let mut batches: Vec<Vec<Payment>> = Vec::new();
        for payment in ready {
            let Some(parcel) = newest_parcel(&payment) else { continue };
            let fits = |batch: &&mut Vec<Payment>| {
                let aboard: Vec<&Parcel> = batch.iter().filter_map(newest_parcel).collect();
                fresh(&payment) && batch.iter().all(fresh) && self.rail.fits(&aboard, parcel)
            };
            if let Some(batch) = batches.iter_mut().find(fits) {
                batch.push(payment);
            } else {
                batches.push(vec![payment]);
            }
        }
        batches
    }

    /// Returns the parcels of a slot that are still worth landing.
    async fn undecided(&self, slot: &Slot) -> Result<Vec<Parcel>, Fault> {
        let mut load = Vec::new();
        for key in &slot.payments {
            let payment = self.settlement.ledger.read(key).await?;
            let aboard = payment
                .as_ref()
                .and_then(|payment| payment.steps.last())
                .filter(|step| step.state == StepState::InFlight && step.carriers.last() == Some(&slot.id));
            load.extend(aboard.and_then(|step| step.parcels.last()).cloned());
        }
        Ok(load)
    }

    async fn commit(&mut self, next: Option<Next>, payments: Vec<Payment>, slots: Vec<Slot>) -> bool {
        let write = Write { lease: Some(self.lease.clone()), next, payments, slots };
        match settle_commit(self.settlement.ledger.commit(write).await) {
            Ok(Progress::Moved) => {
                self.progress = Progress::Moved;
                true
            }
            Ok(Progress::Idle | Progress::Overtaken) => {
                self.progress = Progress::Overtaken;
                false
            }
            Err(fault) => {
                self.failed(fault);
                false
            }
        }
    }

    /// Notifies the observer that a slot's newest attempt is stored.
    fn stored(&self, slot: &Slot) {
        if let Some(attempt) = slot.attempts.last() {
            self.settlement.notice(Happening::Stored { slot, attempt }, self.now);
        }
    }

    /// Sends the newest attempts all at once, lowest nonce first.
    async fn send(&mut self, slots: Vec<Slot>) {
        let rail = self.rail;
        let newest = || slots.iter().filter_map(|slot| Some((slot, slot.attempts.last()?)));
        let sends = newest().map(|(_, attempt)| rail.send(attempt)).collect();
        let mut taken = BTreeMap::new();
        for (sent, (slot, attempt)) in join(sends).await.into_iter().zip(newest()) {
            match sent {
                Ok(()) => {
                    self.settlement.notice(Happening::Sent { slot, attempt }, self.now);
                    taken.insert(slot.id.clone(), attempt.tx.clone());
                }
                Err(fault) => self.failed(fault),
            }
        }
        self.note_taken(&taken).await;
    }

    /// Stores which attempts the far side accepted. Without this they are sent nevertheless, but not named to callers.
    async fn note_taken(&mut self, taken: &BTreeMap<SlotId, TxId>) {
        let ids: Vec<SlotId> = taken.keys().cloned().collect();
        if ids.is_empty() {
            return;
        }
        match self.settlement.ledger.slots(&ids).await {
            Ok(slots) => {
                let new = |slot: &Slot| !slot.payments.is_empty() && slot.taken.as_ref() != taken.get(&slot.id);
                let slots = slots.into_iter().filter(new);
                let slots: Vec<Slot> = slots.map(|slot| Slot { taken: taken.get(&slot.id).cloned(), ..slot }).collect();
                if !slots.is_empty() {
                    self.commit(None, Vec::new(), slots).await;
                }
            }
            Err(fault) => self.failed(fault),
        }
    }

    /// Returns the seconds until a slot is sent again: longer each time, up to six times the interval.
    fn patience(&self, resends: u32) -> u64 {
        self.settlement.pace.rebroadcast.saturating_mul(u64::from(resends.clamp(1, 6)))
    }

    fn failed(&mut self, fault: Fault) {
        self.settlement.faulted(Doing::Carry, &fault, self.now);
        self.fault.get_or_insert(fault);
    }
}

fn newest_parcel(payment: &Payment) -> Option<&Parcel> {
    payment.steps.last()?.parcels.last()
}

/// Runs futures concurrently, polling them first in their order.
pub(crate) async fn join<T>(mut futures: Vec<Pin<Box<dyn Future<Output = T> + Send + '_>>>) -> Vec<T> {
    let mut done: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    poll_fn(|context| {
        let mut waits = false;
        for (future, done) in futures.iter_mut().zip(&mut done).filter(|(_, done)| done.is_none()) {
            match future.as_mut().poll(context) {
                Poll::Ready(value) => *done = Some(value),
                Poll::Pending => waits = true,
            }
        }
        if waits { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    done.into_iter().flatten().collect()
}
