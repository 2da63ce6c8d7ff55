//! The ledger in memory: for tests, examples and `--dev`. Its content is lost when the process ends.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use x402_types::{Fault, PaymentKey, UnixSeconds};

use crate::{
    CommitError, LaneId, LaneView, Lease, Ledger, OnceKey, OwnerId, Payment, Share, Slot, SlotId, Step, StepState,
    Write,
};

/// A ledger in memory.
pub struct MemoryLedger {
    clock: Box<dyn Fn() -> UnixSeconds + Send + Sync>,
    rows: Mutex<Rows>,
}

impl MemoryLedger {
    /// Creates an empty ledger, with the clock by which leases are counted.
    pub fn new(clock: impl Fn() -> UnixSeconds + Send + Sync + 'static) -> Self {
        Self { clock: Box::new(clock), rows: Mutex::default() }
    }

    /// Returns every payment, ordered by key.
    #[must_use]
    pub fn all_payments(&self) -> Vec<Payment> {
        self.rows().payments.values().map(|row| Payment::clone(row)).collect()
    }

    /// Returns every slot, by lane and nonce.
    #[must_use]
    pub fn all_slots(&self) -> Vec<Slot> {
        self.rows().slots.values().cloned().collect()
    }

    /// Returns how many entries [`Ledger::forget`] has visited since the ledger was created, the measure of its cost.
    #[must_use]
    pub fn forget_looked_at(&self) -> u64 {
        self.rows().looked_at
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        // A poisoned lock is harmless: a commit checks everything before it changes anything, and the changes
        // themselves cannot panic.
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemoryLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.rows();
        f.debug_struct("MemoryLedger")
            .field("payments", &rows.payments.len())
            .field("slots", &rows.slots.len())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Ledger for MemoryLedger {
    async fn claim(&self, payment: Payment) -> Result<Payment, Fault> {
        let mut rows = self.rows();
        if let Some(row) = rows.payments.get(&payment.key) {
            return Ok(Payment::clone(row));
        }
        let payment = Payment { version: 1, ..payment };
        rows.put(payment.clone());
        Ok(payment)
    }

    async fn read(&self, key: &PaymentKey) -> Result<Option<Payment>, Fault> {
        Ok(self.rows().payments.get(key).map(|row| Payment::clone(row)))
    }

    async fn payments(&self, keys: &[PaymentKey]) -> Result<Vec<Payment>, Fault> {
        let rows = self.rows();
        Ok(keys.iter().filter_map(|key| rows.payments.get(key)).map(|row| Payment::clone(row)).collect())
    }

    async fn unanswered(&self, prefix: &[u8]) -> Result<Vec<Arc<Payment>>, Fault> {
        let rows = self.rows();
        let from = PaymentKey::from_bytes(prefix);
        let of_prefix = rows.payments.range(from..).take_while(|(key, _)| key.as_bytes().starts_with(prefix));
        Ok(of_prefix.map(|(_, payment)| payment).filter(|payment| payment.answer.is_none()).map(Arc::clone).collect())
    }

    async fn slots(&self, ids: &[SlotId]) -> Result<Vec<Slot>, Fault> {
        let rows = self.rows();
        Ok(ids.iter().filter_map(|id| rows.slots.get(id).cloned()).collect())
    }

    async fn lease(&self, lane: &LaneId, owner: &OwnerId, seconds: u64) -> Result<Option<Lease>, Fault> {
        let now = (self.clock)();
        let mut rows = self.rows();
        let held =
            rows.leases.entry(lane.clone()).or_insert_with(|| Held { owner: owner.clone(), fence: 1, until: now });
        if held.owner != *owner {
            if held.until > now {
                return Ok(None);
            }
            held.owner = owner.clone();
            held.fence = held.fence.saturating_add(1);
        }
        held.until = now.plus(seconds);
        Ok(Some(Lease { lane: lane.clone(), fence: held.fence }))
    }

    /// Returns everything: a ledger in memory is one process's.
    async fn share(&self, _owner: &OwnerId, _seconds: u64) -> Result<Share, Fault> {
        Ok(Share::ALL)
    }

    async fn due(&self, lane: &LaneId, now: UnixSeconds, limit: usize) -> Result<Vec<PaymentKey>, Fault> {
        let rows = self.rows();
        let due = rows.unanswered_of(lane).take_while(|payment| payment.due <= now).take(limit);
        Ok(due.map(|payment| payment.key.clone()).collect())
    }

    async fn lane(&self, lane: &LaneId, ready: usize) -> Result<LaneView, Fault> {
        let rows = self.rows();
        let is_ready = |payment: &&Payment| payment.steps.last().is_some_and(|step| step.state == StepState::Ready);
        let open = rows.open.range(SlotId { lane: lane.clone(), nonce: 0 }..).take_while(|id| id.lane == *lane);
        Ok(LaneView {
            next: rows.next.get(lane).copied().unwrap_or(0),
            open: open.filter_map(|id| rows.slots.get(id).cloned()).collect(),
            ready: rows.unanswered_of(lane).filter(is_ready).take(ready).cloned().collect(),
        })
    }

    async fn commit(&self, write: Write) -> Result<(), CommitError> {
        self.rows().commit(write)
    }

    async fn forget(&self, now: UnixSeconds, limit: usize) -> Result<usize, Fault> {
        Ok(self.rows().forget(now, limit))
    }
}

#[derive(Default)]
struct Rows {
    payments: BTreeMap<PaymentKey, Arc<Payment>>,
    /// The payments without an answer, by lane and due time.
    due: BTreeSet<(LaneId, UnixSeconds, PaymentKey)>,
    /// The payments with an answer, by the time until which they must be kept.
    answered: BTreeSet<(UnixSeconds, PaymentKey)>,
    /// The number of entries that [`Rows::forget`] has visited.
    looked_at: u64,
    /// The holder of each once key.
    once_keys: BTreeMap<OnceKey, PaymentKey>,
    slots: BTreeMap<SlotId, Slot>,
    /// The unused slots.
    open: BTreeSet<SlotId>,
    next: BTreeMap<LaneId, u64>,
    leases: BTreeMap<LaneId, Held>,
}

struct Held {
    owner: OwnerId,
    fence: u64,
    until: UnixSeconds,
}

impl Rows {
    fn unanswered_of(&self, lane: &LaneId) -> impl Iterator<Item = &Payment> {
        let nothing = PaymentKey::from_bytes(&[]);
        let from = (lane.clone(), UnixSeconds(0), nothing);
        let of_lane = self.due.range(from..).take_while(move |(of, ..)| of == lane);
        of_lane.filter_map(|(.., key)| self.payments.get(key)).map(|row| &**row)
    }

    fn put(&mut self, payment: Payment) {
        let at = |payment: &Payment| (payment.lane.clone(), payment.due, payment.key.clone());
        if let Some(old) = self.payments.get(&payment.key) {
            self.due.remove(&at(old));
            self.answered.remove(&(old.keep_until, old.key.clone()));
        }
        if payment.answer.is_none() {
            self.due.insert(at(&payment));
        } else {
            self.answered.insert((payment.keep_until, payment.key.clone()));
        }
        self.payments.insert(payment.key.clone(), Arc::new(payment));
    }

    fn commit(&mut self, write: Write) -> Result<(), CommitError> {
        let Write { lease, next, payments, slots } = write;
        let allowed = match &lease {
            Some(lease) => {
                self.leases.get(&lease.lane).is_some_and(|held| held.fence == lease.fence)
                    && payments.iter().all(|payment| payment.lane == lease.lane)
                    && slots.iter().all(|slot| slot.id.lane == lease.lane)
            }
            None => next.is_none() && slots.is_empty(),
        };
        if !allowed {
            return Err(CommitError::Fenced);
        }
        let keys: BTreeSet<&PaymentKey> = payments.iter().map(|payment| &payment.key).collect();
        let ids: BTreeSet<&SlotId> = slots.iter().map(|slot| &slot.id).collect();
        let current = keys.len() == payments.len()
            && ids.len() == slots.len()
            && payments.iter().all(|new| self.payments.get(&new.key).is_some_and(|old| old.version == new.version))
            && slots.iter().all(|new| self.slots.get(&new.id).map_or(0, |old| old.version) == new.version);
        let lane = lease.map(|lease| lease.lane);
        let moves = next.zip(lane);
        let in_step = moves.as_ref().is_none_or(|(next, lane)| self.next.get(lane).copied().unwrap_or(0) == next.from);
        if !current || !in_step {
            return Err(CommitError::Conflict);
        }
        self.check_once_keys(&payments)?;
        self.take_once_keys(&payments);
        for payment in payments {
            self.put(Payment { version: payment.version.saturating_add(1), ..payment });
        }
        for slot in slots {
            if slot.used {
                self.open.remove(&slot.id);
            } else {
                self.open.insert(slot.id.clone());
            }
            self.slots.insert(slot.id.clone(), Slot { version: slot.version.saturating_add(1), ..slot });
        }
        if let Some((next, lane)) = moves {
            self.next.insert(lane, next.to);
        }
        Ok(())
    }

    /// Checks that each once key has one live step. Keys that the write releases are free for those that it takes.
    fn check_once_keys(&self, payments: &[Payment]) -> Result<(), CommitError> {
        let mut taken: BTreeMap<&OnceKey, &PaymentKey> = BTreeMap::new();
        for (once_key, key) in payments.iter().flat_map(held) {
            if *taken.entry(once_key).or_insert(key) != key {
                return Err(CommitError::Taken(once_key.clone()));
            }
        }
        for (once_key, key) in taken {
            let holder = self.once_keys.get(once_key).filter(|holder| *holder != key);
            if holder.is_some_and(|holder| payments.iter().all(|payment| payment.key != *holder)) {
                return Err(CommitError::Taken(once_key.clone()));
            }
        }
        Ok(())
    }

    fn take_once_keys(&mut self, payments: &[Payment]) {
        for payment in payments {
            for once_key in payment.steps.iter().flat_map(Step::once_keys) {
                if self.once_keys.get(once_key) == Some(&payment.key) {
                    self.once_keys.remove(once_key);
                }
            }
        }
        for (once_key, key) in payments.iter().flat_map(held) {
            self.once_keys.insert(once_key.clone(), key.clone());
        }
    }

    fn forget(&mut self, now: UnixSeconds, limit: usize) -> usize {
        let mut over = Vec::new();
        for (keep_until, key) in &self.answered {
            if *keep_until >= now || over.len() == limit {
                break;
            }
            self.looked_at = self.looked_at.saturating_add(1);
            let Some(payment) = self.payments.get(key) else { continue };
            if carriers(payment).all(|id| self.slots.get(id).is_none_or(|slot| slot.used)) {
                over.push(key.clone());
            }
        }
        for key in &over {
            let Some(payment) = self.payments.remove(key) else { continue };
            self.answered.remove(&(payment.keep_until, payment.key.clone()));
            for once_key in payment.steps.iter().flat_map(Step::once_keys) {
                self.looked_at = self.looked_at.saturating_add(1);
                if self.once_keys.get(once_key) == Some(&payment.key) {
                    self.once_keys.remove(once_key);
                }
            }
            for id in carriers(&payment) {
                self.looked_at = self.looked_at.saturating_add(1);
                let is_empty = |slot: &Slot| !slot.payments.iter().any(|key| self.payments.contains_key(key));
                if self.slots.get(id).is_some_and(is_empty) {
                    self.slots.remove(id);
                }
            }
        }
        over.len()
    }
}

fn carriers(payment: &Payment) -> impl Iterator<Item = &SlotId> {
    payment.steps.iter().flat_map(|step| step.carriers.iter())
}

fn held(payment: &Payment) -> impl Iterator<Item = (&OnceKey, &PaymentKey)> {
    payment.steps.iter().flat_map(Step::held).map(|once_key| (once_key, &payment.key))
}
