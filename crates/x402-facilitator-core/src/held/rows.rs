//! The rows that are held, with their order, and what is not known of them. Nothing here waits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use x402_types::{PaymentKey, UnixSeconds};

use crate::{LaneId, LaneView, Lease, Payment, Slot, SlotId, StepState, Write};

/// The open payments that are held, and the lanes that they belong to.
#[derive(Default)]
pub(super) struct Rows {
    /// Whether the open payments of every lane are held.
    all: bool,
    payments: BTreeMap<PaymentKey, Arc<Payment>>,
    lanes: BTreeMap<LaneId, Lane>,
    /// The payments that calls to the ledger are about at this moment.
    running: BTreeMap<PaymentKey, Running>,
    /// The payments that may have changed unnoticed, with the moment since which.
    doubted: BTreeMap<PaymentKey, u64>,
    /// A number that counts the moments.
    moment: u64,
}

/// The slots of a lane are read again at least at every so many looks while a write of them may still take effect.
const RARELY: u32 = 32;
/// The number of looks after a call of which it is not known how it ended: the last is several seconds later.
const LOOKS_SOON: u8 = 5;

/// The calls that are about one payment.
#[derive(Default)]
struct Running {
    calls: usize,
    /// The newest version that one of them has seen: an older one came late.
    newest: u64,
}

#[derive(Default)]
struct Lane {
    fence: u64,
    /// Whether every open payment of the lane is held.
    loaded: bool,
    due: BTreeSet<(UnixSeconds, PaymentKey)>,
    ready: BTreeSet<(UnixSeconds, PaymentKey)>,
    /// The next nonce and the slots, if they are known: the open ones, and used ones that carried a held payment.
    slots: Option<(u64, BTreeMap<u64, Slot>)>,
    /// The number of writes of slots that began or ended.
    writes: u64,
    /// The number of those that run.
    writing: usize,
    looked: UnixSeconds,
    /// The number of looks into the ledger that follow soon, because a write may still be under way unnoticed.
    looks_soon: u8,
    /// The number of looks since a write of slots of which it is not known how it ended: it may still take effect. `None`
    /// once a later write has taken the nonce that it could have taken.
    unsure_for: Option<u32>,
}

impl Lane {
    fn forget_slot(&mut self, nonce: u64, payments: &BTreeMap<PaymentKey, Arc<Payment>>) {
        let Some((_, slots)) = &mut self.slots else { return };
        let over = |slot: &Slot| slot.used && !slot.payments.iter().any(|key| payments.contains_key(key));
        if slots.get(&nonce).is_some_and(over) {
            slots.remove(&nonce);
        }
    }
}

fn is_ready(payment: &Payment) -> bool {
    payment.steps.last().is_some_and(|step| step.state == StepState::Ready)
}

impl Rows {
    pub(super) fn new(all: bool) -> Self {
        Self { all, ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.payments.len()
    }

    /// Returns a row that is held and not doubtful.
    pub(super) fn get(&self, key: &PaymentKey) -> Option<&Arc<Payment>> {
        self.payments.get(key).filter(|_| !self.doubted.contains_key(key))
    }

    pub(super) fn of_prefix(&self, prefix: &[u8]) -> Vec<Arc<Payment>> {
        let from = PaymentKey::from_bytes(prefix);
        let rows = self.payments.range(from..).take_while(|(key, _)| key.as_bytes().starts_with(prefix));
        rows.map(|(_, row)| Arc::clone(row)).collect()
    }

    pub(super) fn slot(&self, id: &SlotId) -> Option<&Slot> {
        self.lanes.get(&id.lane)?.slots.as_ref()?.1.get(&id.nonce)
    }

    pub(super) fn due(&self, lane: &LaneId, now: UnixSeconds, limit: usize) -> Option<Vec<PaymentKey>> {
        let lane = self.lanes.get(lane).filter(|lane| lane.loaded)?;
        let due = lane.due.iter().take_while(|(due, _)| *due <= now).take(limit);
        Some(due.map(|(_, key)| key.clone()).collect())
    }

    pub(super) fn view(&self, lane: &LaneId, ready: usize) -> Option<LaneView> {
        let lane = self.lanes.get(lane).filter(|lane| lane.loaded)?;
        let (next, slots) = lane.slots.as_ref()?;
        let ready = lane.ready.iter().take(ready).filter_map(|(_, key)| self.payments.get(key));
        Some(LaneView {
            next: *next,
            open: slots.values().filter(|slot| !slot.used).cloned().collect(),
            ready: ready.map(|row| Payment::clone(row)).collect(),
        })
    }

    /// Notes that a call about these payments begins, and whether it writes slots of a lane. Returns the moment.
    pub(super) fn begin(&mut self, keys: &[PaymentKey], lane: Option<&LaneId>) -> u64 {
        for key in keys {
            self.running.entry(key.clone()).or_default().calls += 1;
        }
        if let Some(lane) = lane.and_then(|lane| self.lanes.get_mut(lane)) {
            lane.writes = lane.writes.wrapping_add(1);
            lane.writing = lane.writing.saturating_add(1);
        }
        self.moment
    }

    /// Notes that a call ended. If it is `unsure` how it ended, what it was about is doubtful.
    pub(super) fn end(&mut self, keys: &[PaymentKey], lane: Option<&LaneId>, unsure: bool) {
        for key in keys {
            if let Some(running) = self.running.get_mut(key) {
                running.calls = running.calls.saturating_sub(1);
                if running.calls == 0 {
                    self.running.remove(key);
                }
            }
            // Where no lane is held, no row of it is.
            if unsure && (self.all || !self.lanes.is_empty()) {
                self.moment = self.moment.wrapping_add(1);
                self.doubted.insert(key.clone(), self.moment);
                self.lanes.values_mut().for_each(|lane| lane.looks_soon = LOOKS_SOON);
            }
        }
        if let Some(lane) = lane.and_then(|lane| self.lanes.get_mut(lane)) {
            lane.writes = lane.writes.wrapping_add(1);
            lane.writing = lane.writing.saturating_sub(1);
            if unsure {
                lane.slots = None;
                lane.unsure_for = Some(0);
            }
        }
    }

    pub(super) fn doubtful(&self) -> Vec<PaymentKey> {
        self.doubted.keys().cloned().collect()
    }

    /// Ends a doubt by a call that began at this moment, after the doubt came up.
    pub(super) fn settle_doubt(&mut self, key: &PaymentKey, since: u64) {
        if self.doubted.get(key).is_some_and(|doubt| *doubt <= since) {
            self.doubted.remove(key);
        }
    }

    /// Holds a row that the ledger named, unless a newer one is known.
    pub(super) fn put(&mut self, row: Arc<Payment>) {
        if let Some(running) = self.running.get_mut(&row.key) {
            if row.version < running.newest {
                return;
            }
            running.newest = row.version;
        }
        if self.payments.get(&row.key).is_some_and(|held| held.version > row.version) {
            return;
        }
        self.remove(&row.key);
        if self.all && !self.lanes.contains_key(&row.lane) {
            self.lanes.insert(row.lane.clone(), Lane { loaded: true, ..Lane::default() });
        }
        let open = self.lanes.get_mut(&row.lane).filter(|_| row.answer.is_none());
        if let Some(lane) = open {
            lane.due.insert((row.due, row.key.clone()));
            if is_ready(&row) {
                lane.ready.insert((row.due, row.key.clone()));
            }
            self.payments.insert(row.key.clone(), row);
        }
    }

    fn remove(&mut self, key: &PaymentKey) {
        let Some(old) = self.payments.remove(key) else { return };
        let Some(lane) = self.lanes.get_mut(&old.lane) else { return };
        let at = (old.due, old.key.clone());
        lane.due.remove(&at);
        lane.ready.remove(&at);
    }

    /// Holds what a write changed.
    pub(super) fn committed(&mut self, write: Write, since: u64) {
        let Write { lease, next, payments, slots } = write;
        let mut carriers: Vec<u64> = slots.iter().filter(|slot| slot.used).map(|slot| slot.id.nonce).collect();
        let lane = lease.map(|lease| lease.lane);
        if next.is_some()
            && let Some(lane) = lane.as_ref().and_then(|lane| self.lanes.get_mut(lane))
        {
            lane.unsure_for = None;
        }
        if let Some((known, held)) = lane.as_ref().and_then(|lane| self.lanes.get_mut(lane)?.slots.as_mut()) {
            if let Some(next) = next {
                *known = next.to;
            }
            for slot in slots {
                held.insert(slot.id.nonce, Slot { version: slot.version.saturating_add(1), ..slot });
            }
        }
        for payment in payments {
            self.settle_doubt(&payment.key, since);
            if payment.answer.is_some() {
                carriers.extend(payment.steps.iter().flat_map(|step| &step.carriers).map(|id| id.nonce));
            }
            self.put(Arc::new(Payment { version: payment.version.saturating_add(1), ..payment }));
        }
        if let Some(lane) = lane.and_then(|lane| self.lanes.get_mut(&lane)) {
            carriers.into_iter().for_each(|nonce| lane.forget_slot(nonce, &self.payments));
        }
    }

    /// Notes that another owner has a lane.
    pub(super) fn fenced(&mut self, lease: &Lease) {
        let held = self.lanes.get_mut(&lease.lane).filter(|lane| lane.fence == lease.fence);
        match held {
            Some(lane) if self.all => lane.slots = None,
            Some(_) => self.drop_lane(&lease.lane),
            None => {}
        }
    }

    /// Forgets a lane, unless all are held.
    pub(super) fn drop_lane(&mut self, lane: &LaneId) {
        if !self.all
            && let Some(lane) = self.lanes.remove(lane)
        {
            for (_, key) in lane.due {
                self.payments.remove(&key);
            }
        }
    }

    /// Returns whether a lane is held under this lease.
    pub(super) fn is_held(&self, lease: &Lease) -> bool {
        self.lanes.get(&lease.lane).is_some_and(|lane| lane.loaded && lane.fence == lease.fence)
    }

    /// Notes the lease of a lane whose payments are held whoever works it.
    pub(super) fn lease(&mut self, lease: &Lease) {
        let lane = self.lanes.entry(lease.lane.clone()).or_default();
        lane.loaded = true;
        if lane.fence != lease.fence {
            (lane.fence, lane.slots) = (lease.fence, None);
        }
    }

    /// Begins to hold a lane: writes from now on are held, and what was stored before is loaded.
    pub(super) fn begin_lane(&mut self, lease: &Lease) {
        self.drop_lane(&lease.lane);
        self.lanes.insert(lease.lane.clone(), Lane { fence: lease.fence, ..Lane::default() });
    }

    /// Notes that what was stored before is loaded.
    pub(super) fn loaded(&mut self, lease: &Lease) {
        if let Some(lane) = self.lanes.get_mut(&lease.lane).filter(|lane| lane.fence == lease.fence) {
            lane.loaded = true;
        }
    }

    /// Returns a number that changes with every write of the lane's slots, if none runs and the lane is held.
    pub(super) fn writes(&self, lane: &LaneId) -> Option<u64> {
        self.lanes.get(lane).filter(|lane| lane.writing == 0).map(|lane| lane.writes)
    }

    /// Holds the lane's slots, if none was written since that number was read.
    pub(super) fn put_view(&mut self, lane: &LaneId, writes: u64, view: &LaneView) {
        if self.writes(lane) != Some(writes) {
            return;
        }
        if let Some(lane) = self.lanes.get_mut(lane) {
            let slots = view.open.iter().map(|slot| (slot.id.nonce, slot.clone())).collect();
            lane.slots = Some((view.next, slots));
        }
    }

    /// Returns how many payments of the lane are held, if it is time to look for others.
    pub(super) fn looks(&mut self, lane: &LaneId, now: UnixSeconds, interval: u64) -> Option<usize> {
        let lane = self.lanes.get_mut(lane).filter(|lane| lane.loaded)?;
        let interval = if lane.looks_soon > 0 { 1 } else { interval };
        if now.0 == u64::MAX || now < lane.looked.plus(interval) {
            return None;
        }
        lane.looked = now;
        lane.looks_soon = lane.looks_soon.saturating_sub(1);
        // A write that takes effect after its caller has given up leaves a slot that is neither sent nor closed.
        if let Some(looks) = &mut lane.unsure_for {
            *looks = looks.saturating_add(1);
            if looks.is_power_of_two() || looks.is_multiple_of(RARELY) {
                lane.slots = None;
            }
        }
        Some(lane.due.len())
    }
}
