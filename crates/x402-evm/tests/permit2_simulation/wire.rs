//! The ledger behind a wire: a process may die on either side of a commit, and an answer may be lost.

use std::sync::Arc;

use async_trait::async_trait;
use x402_facilitator_core::{
    CommitError, LaneId, LaneView, Lease, Ledger, MemoryLedger, OwnerId, Payment, Share, Slot, SlotId, Write,
};
use x402_types::{Fault, PaymentKey, UnixSeconds};

use crate::world::Hop;

pub struct Wire {
    pub ledger: Arc<MemoryLedger>,
    pub hop: Hop,
}

#[async_trait]
impl Ledger for Wire {
    async fn claim(&self, payment: Payment) -> Result<Payment, Fault> {
        self.hop.there().await?;
        let row = self.ledger.claim(payment).await;
        self.hop.back().await?;
        row
    }

    async fn read(&self, key: &PaymentKey) -> Result<Option<Payment>, Fault> {
        self.hop.there().await?;
        self.ledger.read(key).await
    }

    async fn payments(&self, keys: &[PaymentKey]) -> Result<Vec<Payment>, Fault> {
        self.hop.there().await?;
        self.ledger.payments(keys).await
    }

    async fn unanswered(&self, prefix: &[u8]) -> Result<Vec<Arc<Payment>>, Fault> {
        self.hop.there().await?;
        self.ledger.unanswered(prefix).await
    }

    async fn slots(&self, ids: &[SlotId]) -> Result<Vec<Slot>, Fault> {
        self.hop.there().await?;
        self.ledger.slots(ids).await
    }

    async fn lease(&self, lane: &LaneId, owner: &OwnerId, seconds: u64) -> Result<Option<Lease>, Fault> {
        self.hop.there().await?;
        self.ledger.lease(lane, owner, seconds).await
    }

    async fn share(&self, _owner: &OwnerId, _seconds: u64) -> Result<Share, Fault> {
        Ok(Share::ALL)
    }

    async fn due(&self, lane: &LaneId, now: UnixSeconds, limit: usize) -> Result<Vec<PaymentKey>, Fault> {
        self.hop.there().await?;
        self.ledger.due(lane, now, limit).await
    }

    async fn lane(&self, lane: &LaneId, ready: usize) -> Result<LaneView, Fault> {
        self.hop.there().await?;
        self.ledger.lane(lane, ready).await
    }

    async fn commit(&self, write: Write) -> Result<(), CommitError> {
        self.hop.there().await?;
        let done = self.ledger.commit(write).await;
        self.hop.back().await?;
        done
    }

    async fn forget(&self, now: UnixSeconds, limit: usize) -> Result<usize, Fault> {
        self.ledger.forget(now, limit).await
    }
}
