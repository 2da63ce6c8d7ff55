//! Counts the commits of a ledger.

use std::sync::Arc;

use async_trait::async_trait;
use x402_facilitator_core::{
    CommitError, LaneId, LaneView, Lease, Ledger, OwnerId, Payment, Share, Slot, SlotId, Write,
};
use x402_types::{Fault, PaymentKey, UnixSeconds};

use super::{Metrics, names};

/// A ledger whose commits are counted by result. It passes everything on unchanged.
pub struct CountedLedger {
    inner: Arc<dyn Ledger>,
    metrics: Metrics,
}

impl CountedLedger {
    /// Wraps a ledger.
    #[must_use]
    pub fn new(inner: Arc<dyn Ledger>, metrics: Metrics) -> Self {
        Self { inner, metrics }
    }
}

impl std::fmt::Debug for CountedLedger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CountedLedger")
    }
}

#[async_trait]
impl Ledger for CountedLedger {
    async fn claim(&self, payment: Payment) -> Result<Payment, Fault> {
        let claimed = self.inner.claim(payment).await;
        self.metrics.add(&names::COMMITS, &[if claimed.is_ok() { "stored" } else { "fault" }], 1);
        claimed
    }

    async fn read(&self, key: &PaymentKey) -> Result<Option<Payment>, Fault> {
        self.inner.read(key).await
    }

    async fn payments(&self, keys: &[PaymentKey]) -> Result<Vec<Payment>, Fault> {
        self.inner.payments(keys).await
    }

    async fn unanswered(&self, prefix: &[u8]) -> Result<Vec<Arc<Payment>>, Fault> {
        self.inner.unanswered(prefix).await
    }

    async fn slots(&self, ids: &[SlotId]) -> Result<Vec<Slot>, Fault> {
        self.inner.slots(ids).await
    }

    async fn lease(&self, lane: &LaneId, owner: &OwnerId, seconds: u64) -> Result<Option<Lease>, Fault> {
        self.inner.lease(lane, owner, seconds).await
    }

    async fn share(&self, owner: &OwnerId, seconds: u64) -> Result<Share, Fault> {
        self.inner.share(owner, seconds).await
    }

    async fn due(&self, lane: &LaneId, now: UnixSeconds, limit: usize) -> Result<Vec<PaymentKey>, Fault> {
        self.inner.due(lane, now, limit).await
    }

    async fn lane(&self, lane: &LaneId, ready: usize) -> Result<LaneView, Fault> {
        self.inner.lane(lane, ready).await
    }

    async fn commit(&self, write: Write) -> Result<(), CommitError> {
        let committed = self.inner.commit(write).await;
        let result = match &committed {
            Ok(()) => "stored",
            Err(CommitError::Fault(_)) => "fault",
            Err(_) => "conflict",
        };
        self.metrics.add(&names::COMMITS, &[result], 1);
        committed
    }

    fn behind(&self) -> Option<&dyn Ledger> {
        self.inner.behind()
    }

    async fn forget(&self, now: UnixSeconds, limit: usize) -> Result<usize, Fault> {
        self.inner.forget(now, limit).await
    }
}
