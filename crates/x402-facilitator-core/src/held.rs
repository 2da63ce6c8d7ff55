//! The open payments of the leased lanes in memory, in front of a durable ledger.
//!
//! Memory is never ahead of the ledger. A write goes to the ledger first; only its `Ok` changes memory, and any other
//! result makes the rows of the write doubtful: they are read again before they are used. Rows carry versions and every
//! write is checked against them, so a stale row in memory can delay a payment by one conflict, and can move nothing.
//!
//! Where this value is the only way to the ledger ([`HeldLedger::alone`]), memory holds every open payment. Otherwise
//! ([`HeldLedger::shared`]) it holds the lanes that were leased through it, and looks into the ledger at an interval for
//! payments that other processes have claimed into them. Answers for callers are then read from the ledger itself
//! ([`Ledger::behind`]): another process may have taken a lane over.

mod rows;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use x402_types::{Fault, PaymentKey, UnixSeconds};

use self::rows::Rows;
use crate::{CommitError, LaneId, LaneView, Lease, Ledger, OwnerId, Payment, Share, Slot, SlotId, Write};

/// The seconds between two looks for unknown payments where other processes claim, too.
const LOOK_SHARED: u64 = 1;
/// The same where none does: a claim whose caller disconnected may have been stored unnoticed.
const LOOK_ALONE: u64 = 10;
/// The number of payments that are loaded at once.
const LOAD: usize = 500;

/// A ledger that keeps the open payments of the leased lanes in memory.
pub struct HeldLedger {
    inner: Arc<dyn Ledger>,
    rows: Mutex<Rows>,
    alone: bool,
}

impl core::fmt::Debug for HeldLedger {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("HeldLedger")
            .field("alone", &self.alone)
            .field("open", &self.rows().len())
            .finish_non_exhaustive()
    }
}

impl HeldLedger {
    /// Holds a ledger that nothing else writes to, and loads all of its open payments.
    /// # Errors
    /// The ledger cannot be read.
    pub async fn alone(inner: Arc<dyn Ledger>) -> Result<Self, Fault> {
        let mut rows = Rows::new(true);
        for row in inner.unanswered(&[]).await? {
            rows.put(row);
        }
        Ok(Self { inner, rows: Mutex::new(rows), alone: true })
    }

    /// Holds the lanes that are leased through this value, of a ledger that other processes write to as well.
    #[must_use]
    pub fn shared(inner: Arc<dyn Ledger>) -> Self {
        Self { inner, rows: Mutex::new(Rows::new(false)), alone: false }
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        // Every change of the rows is whole before anything that could panic.
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a call about these payments runs, until the result is dropped.
    fn begin(&self, keys: Vec<PaymentKey>, writes: Option<LaneId>, changes: bool) -> Operation<'_> {
        let since = self.rows().begin(&keys, writes.as_ref());
        Operation { held: self, keys, lane: writes, since, unsure: changes }
    }

    /// Reads payments from the ledger, and holds those that belong here.
    async fn fetch(&self, keys: Vec<PaymentKey>) -> Result<Vec<Payment>, Fault> {
        let mut operation = self.begin(keys, None, false);
        let found = self.inner.payments(&operation.keys).await?;
        operation.found(&found);
        Ok(found)
    }

    /// Reads doubtful payments again.
    async fn resolve(&self) -> Result<(), Fault> {
        let doubtful = self.rows().doubtful();
        if !doubtful.is_empty() {
            self.fetch(doubtful).await?;
        }
        Ok(())
    }

    /// Loads the open payments of a lane that was leased.
    async fn load(&self, lease: &Lease) -> Result<(), Fault> {
        self.rows().begin_lane(lease);
        let keys = self.inner.due(&lease.lane, UnixSeconds(u64::MAX), usize::MAX).await?;
        for keys in keys.chunks(LOAD) {
            self.fetch(keys.to_vec()).await?;
        }
        self.rows().loaded(lease);
        Ok(())
    }

    /// Looks for payments of a lane that were claimed past this value.
    async fn look(&self, lane: &LaneId, now: UnixSeconds, limit: usize) -> Result<(), Fault> {
        let interval = if self.alone { LOOK_ALONE } else { LOOK_SHARED };
        let Some(held) = self.rows().looks(lane, now, interval) else { return Ok(()) };
        // Payments in memory may be due in the ledger for longer than unknown ones.
        let due = self.inner.due(lane, now, limit.saturating_add(held)).await?;
        let unknown: Vec<PaymentKey> = {
            let rows = self.rows();
            due.into_iter().filter(|key| rows.get(key).is_none()).collect()
        };
        if !unknown.is_empty() {
            self.fetch(unknown).await?;
        }
        Ok(())
    }
}

/// A call to the ledger that runs.
struct Operation<'a> {
    held: &'a HeldLedger,
    keys: Vec<PaymentKey>,
    /// The lane whose slots it writes.
    lane: Option<LaneId>,
    /// The moment at which it began.
    since: u64,
    /// Whether the rows may have changed without it being known how.
    unsure: bool,
}

impl Operation<'_> {
    /// Takes the rows that the ledger named. A payment that it did not name does not exist.
    fn found(&mut self, found: &[Payment]) {
        let mut rows = self.held.rows();
        for key in &self.keys {
            rows.settle_doubt(key, self.since);
        }
        for row in found {
            rows.put(Arc::new(row.clone()));
        }
    }
}

impl Drop for Operation<'_> {
    fn drop(&mut self) {
        self.held.rows().end(&self.keys, self.lane.as_ref(), self.unsure);
    }
}

#[async_trait]
impl Ledger for HeldLedger {
    async fn claim(&self, payment: Payment) -> Result<Payment, Fault> {
        let key = payment.key.clone();
        if let Some(row) = self.rows().get(&key) {
            return Ok(Payment::clone(row));
        }
        let mut operation = self.begin(vec![key], None, true);
        let row = self.inner.claim(payment).await?;
        operation.found(core::slice::from_ref(&row));
        operation.unsure = false;
        Ok(row)
    }

    async fn read(&self, key: &PaymentKey) -> Result<Option<Payment>, Fault> {
        if let Some(row) = self.rows().get(key) {
            return Ok(Some(Payment::clone(row)));
        }
        let mut operation = self.begin(vec![key.clone()], None, false);
        let row = self.inner.read(key).await?;
        operation.found(row.as_slice());
        Ok(row)
    }

    async fn payments(&self, keys: &[PaymentKey]) -> Result<Vec<Payment>, Fault> {
        let mut found: Vec<Option<Payment>> = {
            let rows = self.rows();
            keys.iter().map(|key| rows.get(key).map(|row| Payment::clone(row))).collect()
        };
        let unknown: Vec<PaymentKey> =
            keys.iter().zip(&found).filter(|(_, row)| row.is_none()).map(|(key, _)| key.clone()).collect();
        if !unknown.is_empty() {
            for row in self.fetch(unknown).await? {
                let at = keys.iter().zip(&found).position(|(key, known)| known.is_none() && *key == row.key);
                if let Some(place) = at.and_then(|at| found.get_mut(at)) {
                    *place = Some(row);
                }
            }
        }
        Ok(found.into_iter().flatten().collect())
    }

    async fn unanswered(&self, prefix: &[u8]) -> Result<Vec<Arc<Payment>>, Fault> {
        if !self.alone {
            return self.inner.unanswered(prefix).await;
        }
        self.resolve().await?;
        Ok(self.rows().of_prefix(prefix))
    }

    async fn slots(&self, ids: &[SlotId]) -> Result<Vec<Slot>, Fault> {
        let mut found: Vec<Option<Slot>> = {
            let rows = self.rows();
            ids.iter().map(|id| rows.slot(id).cloned()).collect()
        };
        let unknown: Vec<SlotId> =
            ids.iter().zip(&found).filter(|(_, slot)| slot.is_none()).map(|(id, _)| id.clone()).collect();
        if !unknown.is_empty() {
            for slot in self.inner.slots(&unknown).await? {
                let at = ids.iter().zip(&found).position(|(id, known)| known.is_none() && *id == slot.id);
                if let Some(place) = at.and_then(|at| found.get_mut(at)) {
                    *place = Some(slot);
                }
            }
        }
        Ok(found.into_iter().flatten().collect())
    }

    async fn lease(&self, lane: &LaneId, owner: &OwnerId, seconds: u64) -> Result<Option<Lease>, Fault> {
        let lease = self.inner.lease(lane, owner, seconds).await?;
        match &lease {
            None => self.rows().drop_lane(lane),
            // The owner gave the lane back.
            Some(_) if seconds == 0 => self.rows().drop_lane(lane),
            Some(lease) if self.alone => self.rows().lease(lease),
            Some(lease) if self.rows().is_held(lease) => {}
            Some(lease) => self.load(lease).await?,
        }
        Ok(lease)
    }

    async fn share(&self, owner: &OwnerId, seconds: u64) -> Result<Share, Fault> {
        self.inner.share(owner, seconds).await
    }

    async fn due(&self, lane: &LaneId, now: UnixSeconds, limit: usize) -> Result<Vec<PaymentKey>, Fault> {
        self.resolve().await?;
        self.look(lane, now, limit).await?;
        let held = self.rows().due(lane, now, limit);
        match held {
            Some(due) => Ok(due),
            None => self.inner.due(lane, now, limit).await,
        }
    }

    async fn lane(&self, lane: &LaneId, ready: usize) -> Result<LaneView, Fault> {
        self.resolve().await?;
        let held = self.rows().view(lane, ready);
        if let Some(view) = held {
            return Ok(view);
        }
        let began = self.rows().writes(lane);
        let view = self.inner.lane(lane, ready).await?;
        if let Some(began) = began {
            self.rows().put_view(lane, began, &view);
        }
        Ok(view)
    }

    async fn commit(&self, write: Write) -> Result<(), CommitError> {
        let keys = write.payments.iter().map(|payment| payment.key.clone()).collect();
        let lane = write.lease.as_ref().filter(|_| write.next.is_some() || !write.slots.is_empty());
        let mut operation = self.begin(keys, lane.map(|lease| lease.lane.clone()), true);
        let done = self.inner.commit(write.clone()).await;
        match &done {
            Ok(()) => {
                operation.unsure = false;
                self.rows().committed(write, operation.since);
            }
            Err(CommitError::Fenced) => {
                operation.unsure = false;
                if let Some(lease) = &write.lease {
                    self.rows().fenced(lease);
                }
            }
            Err(_) => {}
        }
        done
    }

    fn behind(&self) -> Option<&dyn Ledger> {
        if self.alone { None } else { Some(self.inner.as_ref()) }
    }

    async fn forget(&self, now: UnixSeconds, limit: usize) -> Result<usize, Fault> {
        // Only answered payments are forgotten, and none of them is held.
        self.inner.forget(now, limit).await
    }
}
