//! The settlement machine from the workers' side: read a row, make one call, store its result.
//!
//! Nothing is kept in memory, so recovery is the normal loop. A worker needs the lane's lease; every commit carries its
//! fence, and bytes are sent only after the commit that stored them.

use core::future::{Future, poll_fn};
use core::ops::Range;
use core::pin::Pin;
use core::task::Poll;
use std::collections::BTreeMap;

use x402_types::{Fault, UnixSeconds};

use crate::draft::{settle_commit, stage};
use crate::{
    CommitError, Doing, Draft, Event, Happening, LaneView, Lease, Next, Nonces, Parcel, Payment, Rail, Settlement,
    Slot, SlotId, Stage, StepState, Stored, TxId, Write,
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

/// The maximum number of missing nonces that one round fills.
const MAX_GAPS: usize = 16;
/// The maximum number of nonces that one round looks up for missing ones.
const MAX_LOOKED_UP: usize = 64;
/// The number of resends after which a slot on a lane without nonces is given up, so that its step can be rebuilt.
const PATIENCE: u32 = 2;

/// What a round of a lane came to.
#[derive(Debug)]
pub struct Carried {
    /// The lane's progress, or its first failure: the rest of the round was done as far as possible.
    pub lane: Result<Progress, Fault>,
    /// What became of each draft of the round.
    pub drafts: Stored,
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
    pub async fn carry_drafts(&self, lease: &Lease, drafts: Vec<Draft>, now: UnixSeconds) -> Carried {
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
        let mut round = Round { settlement: self, rail, lease, now, progress, fault: None, drafts: Vec::new() };
        round.close(&view, nonces).await;
        round.rebroadcast(&view, nonces).await;
        round.load(view, drafts, nonces).await;
        Carried { lane: round.fault.map_or(Ok(round.progress), Err), drafts: round.drafts }
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
    /// What became of each draft.
    drafts: Stored,
}

/// A payment in a round: its draft, and its state in the slot that it found.
struct Cargo {
    draft: Draft,
    aboard: Option<Payment>,
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
            self.commit(used).await;
        }
    }

    /// Rebroadcasts stored slots until their nonces are final: each is sent again, with a higher fee every second time,
    /// or used up by an empty transaction when its payments are decided.
    async fn rebroadcast(&mut self, view: &LaneView, nonces: Option<Nonces>) {
        let head = nonces.map_or(0, |nonces| nonces.head);
        let (mut again, mut given_up, mut signed) = (Vec::new(), Vec::new(), Vec::new());
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
                given_up.push(Slot { used: true, ..slot });
                continue;
            }
            if nonces.is_some() && slot.resends.is_multiple_of(2) {
                match self.rail.sign(&slot.id, &load, slot.attempts.last()).await {
                    Ok(attempt) if slot.attempts.contains(&attempt) => {}
                    Ok(attempt) => {
                        slot.attempts.push(attempt);
                        signed.push(slot.id.clone());
                    }
                    Err(fault) => self.failed(fault),
                }
            }
            again.push(slot);
        }
        let all: Vec<Slot> = again.iter().cloned().chain(given_up).collect();
        if !all.is_empty() && self.commit(all).await {
            again.iter().filter(|slot| signed.contains(&slot.id)).for_each(|slot| self.stored(slot));
            self.send(again).await;
        }
    }

    /// Fills nonces without a slot, and puts ready payments and drafts into new slots. The drafts for which there is no
    /// room are stored to wait.
    async fn load(&mut self, view: LaneView, drafts: Vec<Draft>, nonces: Option<Nonces>) {
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
        let ready = self.ready(room).await.into_iter().map(|payment| Draft { before: payment.clone(), after: payment });
        let (batches, left) = self.batches(ready.chain(drafts), room);
        let mut cargo: Vec<Cargo> = left.into_iter().map(|draft| Cargo { draft, aboard: None }).collect();
        for batch in batches {
            let parcels: Vec<Parcel> = batch.iter().filter_map(|draft| newest_parcel(&draft.after)).cloned().collect();
            // A refusal to sign has used up nothing: the next batch takes the nonce.
            let Some(id) = self.fill(next, &parcels, &mut slots).await else {
                cargo.extend(batch.into_iter().map(|draft| Cargo { draft, aboard: None }));
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
                for Cargo { draft: Draft { before, after }, aboard } in &cargo {
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

    /// Finds the nonces without a slot. If the key was used elsewhere, the head moved past this ledger's nonces, and a
    /// reorganisation may have taken that back: without a transaction for the nonces in between, no later one can ever
    /// land.
    async fn gaps(&mut self, nonces: Range<u64>, open: &[Slot]) -> Vec<u64> {
        let is_open = |nonce: &u64| open.iter().any(|slot| slot.id.nonce == *nonce);
        let id = |nonce| SlotId { lane: self.lease.lane.clone(), nonce };
        let ids: Vec<SlotId> = nonces.filter(|nonce| !is_open(nonce)).take(MAX_LOOKED_UP).map(id).collect();
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

    /// Groups payments that share a transaction, into at most `room` batches; the second list is the rest. A payment that
    /// failed to land once is sent alone: it may be what makes the others revert.
    fn batches(&self, ready: impl Iterator<Item = Draft>, room: usize) -> (Vec<Vec<Draft>>, Vec<Draft>) {
        let fresh = |draft: &Draft| draft.after.steps.last().is_some_and(|step| step.carriers.is_empty());
        let (mut batches, mut left): (Vec<Vec<Draft>>, _) = (Vec::new(), Vec::new());
        for draft in ready {
            let Some(parcel) = newest_parcel(&draft.after) else { continue };
            let fits = |batch: &&mut Vec<Draft>| {
                let aboard: Vec<&Parcel> = batch.iter().filter_map(|draft| newest_parcel(&draft.after)).collect();
                batch.iter().all(fresh) && self.rail.fits(&aboard, parcel)
            };
            let is_full = batches.len() >= room;
            match batches.iter_mut().find(|batch| fresh(&draft) && fits(batch)) {
                Some(batch) => batch.push(draft),
                None if is_full => left.push(draft),
                None => batches.push(vec![draft]),
            }
        }
        (batches, left)
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

    /// Commits slots, and returns whether they were stored.
    async fn commit(&mut self, slots: Vec<Slot>) -> bool {
        let write = Write { lease: Some(self.lease.clone()), slots, ..Write::default() };
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
                    self.commit(slots).await;
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
