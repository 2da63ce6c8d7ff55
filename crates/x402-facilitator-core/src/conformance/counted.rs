//! A ledger that counts: a test of cost counts calls and rows instead of time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use x402_types::{Fault, PaymentKey, UnixSeconds};

use crate::{CommitError, LaneId, LaneView, Lease, Ledger, OwnerId, Payment, Share, Slot, SlotId, Write};

/// A ledger that counts the calls to another one.
pub struct Counted {
    inner: Arc<dyn Ledger>,
    counts: Mutex<Counts>,
}

/// The calls to a ledger, and the rows in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counts {
    /// The calls that read.
    pub reads: u64,
    /// The rows that they returned.
    pub rows_read: u64,
    /// The calls that write: claims and commits.
    pub commits: u64,
    /// The payments in them.
    pub payments_written: u64,
    /// The slots in them.
    pub slots_written: u64,
}

impl Counted {
    /// Counts the calls to this ledger.
    #[must_use]
    pub fn new(inner: Arc<dyn Ledger>) -> Self {
        Self { inner, counts: Mutex::default() }
    }

    /// Returns the counts since the last call, and begins anew.
    pub fn take(&self) -> Counts {
        core::mem::take(&mut *self.counts())
    }

    fn note_read(&self, rows: usize) {
        let mut counts = self.counts();
        counts.reads = counts.reads.saturating_add(1);
        counts.rows_read = counts.rows_read.saturating_add(number(rows));
    }

    fn note_write(&self, payments: usize, slots: usize) {
        let mut counts = self.counts();
        counts.commits = counts.commits.saturating_add(1);
        counts.payments_written = counts.payments_written.saturating_add(number(payments));
        counts.slots_written = counts.slots_written.saturating_add(number(slots));
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

impl core::fmt::Debug for Counted {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Counted").field("counts", &*self.counts()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Ledger for Counted {
    async fn claim(&self, payment: Payment) -> Result<Payment, Fault> {
        self.note_write(1, 0);
        self.inner.claim(payment).await
    }

    async fn read(&self, key: &PaymentKey) -> Result<Option<Payment>, Fault> {
        let row = self.inner.read(key).await?;
        self.note_read(row.iter().count());
        Ok(row)
    }

    async fn payments(&self, keys: &[PaymentKey]) -> Result<Vec<Payment>, Fault> {
        let rows = self.inner.payments(keys).await?;
        self.note_read(rows.len());
        Ok(rows)
    }

    async fn unanswered(&self, prefix: &[u8]) -> Result<Vec<Arc<Payment>>, Fault> {
        let rows = self.inner.unanswered(prefix).await?;
        self.note_read(rows.len());
        Ok(rows)
    }

    async fn slots(&self, ids: &[SlotId]) -> Result<Vec<Slot>, Fault> {
        let rows = self.inner.slots(ids).await?;
        if !ids.is_empty() {
            self.note_read(rows.len());
        }
        Ok(rows)
    }

    async fn lease(&self, lane: &LaneId, owner: &OwnerId, seconds: u64) -> Result<Option<Lease>, Fault> {
        self.inner.lease(lane, owner, seconds).await
    }

    async fn share(&self, owner: &OwnerId, seconds: u64) -> Result<Share, Fault> {
        self.inner.share(owner, seconds).await
    }

    async fn due(&self, lane: &LaneId, now: UnixSeconds, limit: usize) -> Result<Vec<PaymentKey>, Fault> {
        let due = self.inner.due(lane, now, limit).await?;
        self.note_read(due.len());
        Ok(due)
    }

    async fn lane(&self, lane: &LaneId, ready: usize) -> Result<LaneView, Fault> {
        let view = self.inner.lane(lane, ready).await?;
        self.note_read(view.open.len().saturating_add(view.ready.len()));
        Ok(view)
    }

    async fn commit(&self, write: Write) -> Result<(), CommitError> {
        self.note_write(write.payments.len(), write.slots.len());
        self.inner.commit(write).await
    }

    async fn forget(&self, now: UnixSeconds, limit: usize) -> Result<usize, Fault> {
        self.inner.forget(now, limit).await
    }
}
