//! The slots of a lane that are in flight: closed when their nonces are final, rebroadcast until then, and the nonces that
//! nothing holds.

use core::future::{Future, poll_fn};
use core::ops::Range;
use core::pin::Pin;
use core::task::Poll;
use std::collections::{BTreeMap, BTreeSet};

use x402_types::Fault;

use crate::worker::{Progress, Round, settle_commit};
use crate::{Delivery, Doing, Happening, LaneView, Nonces, Parcel, Slot, SlotId, Stage, StepState, TxId, Write};

/// The maximum number of missing nonces that one round fills.
const MAX_GAPS: usize = 16;
/// The maximum number of nonces that one round looks up for missing ones.
const MAX_LOOKED_UP: usize = 64;
/// The number of resends after which a slot on a lane without nonces is given up, so that its step can be rebuilt.
const PATIENCE: u32 = 2;

impl Round<'_> {
    /// Closes slots: a nonce below finality is permanently used, whatever used it.
    pub(crate) async fn close(&mut self, view: &LaneView, nonces: Option<Nonces>) {
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
    pub(crate) async fn rebroadcast(&mut self, view: &LaneView, nonces: Option<Nonces>) {
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
            let is_forgotten = slot.resends > PATIENCE && self.rail.forgets();
            if nonces.is_none() && (load.is_empty() || is_forgotten) {
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

    /// Finds the nonces without a slot. If the key was used elsewhere, the head moved past this ledger's nonces, and a
    /// reorganisation may have taken that back: without a transaction for the nonces in between, no later one can ever
    /// land.
    pub(crate) async fn gaps(&mut self, nonces: Range<u64>, open: &[Slot]) -> Vec<u64> {
        let used: BTreeSet<u64> = open.iter().map(|slot| slot.id.nonce).collect();
        let id = |nonce| SlotId { lane: self.lease.lane.clone(), nonce };
        let ids: Vec<SlotId> = nonces.filter(|nonce| !used.contains(nonce)).take(MAX_LOOKED_UP).map(id).collect();
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
    pub(crate) fn stored(&self, slot: &Slot) {
        if let Some(attempt) = slot.attempts.last() {
            self.settlement.notice(Happening::Stored { slot, attempt }, self.now);
        }
    }

    /// Sends the newest attempts all at once, lowest nonce first.
    pub(crate) async fn send(&mut self, slots: Vec<Slot>) {
        let rail = self.rail;
        let newest = || slots.iter().filter_map(|slot| Some((slot, slot.attempts.last()?)));
        let sends = newest().map(|(_, attempt)| rail.send(attempt)).collect();
        let mut taken = BTreeMap::new();
        for (sent, (slot, attempt)) in join(sends).await.into_iter().zip(newest()) {
            match sent {
                Ok(sent) => {
                    self.settlement.notice(Happening::Sent { slot, attempt }, self.now);
                    taken.insert(slot.id.clone(), (attempt.tx.clone(), sent));
                }
                Err(fault) => self.failed(fault),
            }
        }
        self.note_sent(&taken).await;
    }

    /// Stores which attempts the far side accepted, and closes the slots that it has answered on a lane without nonces.
    /// Without this they are sent nevertheless, but not named to callers, and sent again.
    async fn note_sent(&mut self, sent: &BTreeMap<SlotId, (TxId, Delivery)>) {
        let ids: Vec<SlotId> = sent.keys().cloned().collect();
        if ids.is_empty() {
            return;
        }
        let (mut changed, mut answered) = (Vec::new(), Vec::new());
        match self.settlement.ledger.slots(&ids).await {
            Ok(slots) => {
                for slot in slots.into_iter().filter(|slot| !slot.payments.is_empty()) {
                    let Some((tx, state)) = sent.get(&slot.id) else { continue };
                    let is_answered = !self.numbered && *state == Delivery::Answered;
                    if slot.taken.as_ref() == Some(tx) && (slot.used || !is_answered) {
                        continue;
                    }
                    if is_answered {
                        answered.extend(slot.payments.iter().cloned());
                    }
                    changed.push(Slot { taken: Some(tx.clone()), used: slot.used || is_answered, ..slot });
                }
            }
            Err(fault) => self.failed(fault),
        }
        if !changed.is_empty() && self.commit(changed).await {
            // The effect of the answer is observed at once, not at the usual interval.
            self.drafts.extend(answered.into_iter().map(|key| (key, Ok(Stage::Open(self.now)))));
        }
    }

    /// Returns the seconds until a slot is sent again: longer each time, up to six times the interval.
    pub(crate) fn patience(&self, resends: u32) -> u64 {
        self.settlement.pace.rebroadcast.saturating_mul(u64::from(resends.clamp(1, 6)))
    }

    pub(crate) fn failed(&mut self, fault: Fault) {
        self.settlement.faulted(Doing::Carry, &fault, self.now);
        self.fault.get_or_insert(fault);
    }
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
