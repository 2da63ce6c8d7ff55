//! The ledger behind a wire: calls and answers get lost, and a crash may strike on either side.

use std::sync::Arc;

use async_trait::async_trait;
use x402_facilitator_core::{
    CommitError, LaneId, LaneView, Lease, Ledger, MemoryLedger, OwnerId, Payment, Slot, SlotId, Write,
};
use x402_types::{Fault, PaymentKey, UnixSeconds};

use crate::bugs::{Bug, forget_parcels, hide_gaps};
use crate::chain::Tx;
use crate::world::World;

pub struct Wire {
    pub world: World,
    pub ledger: Arc<MemoryLedger>,
    pub bug: Bug,
}

#[async_trait]
impl Ledger for Wire {
    async fn claim(&self, payment: Payment) -> Result<Payment, Fault> {
        self.world.there().await?;
        let row = self.ledger.claim(payment).await?;
        self.world.back().await?;
        Ok(row)
    }

    async fn read(&self, key: &PaymentKey) -> Result<Option<Payment>, Fault> {
        self.world.there().await?;
        let mut row = self.ledger.read(key).await?;
        if self.bug == Bug::ParcelsForgotten {
            row = row.map(forget_parcels);
        }
        self.world.back().await?;
        Ok(row)
    }

    async fn payments(&self, keys: &[PaymentKey]) -> Result<Vec<Payment>, Fault> {
        self.world.there().await?;
        let mut rows = self.ledger.payments(keys).await?;
        if self.bug == Bug::ParcelsForgotten {
            rows = rows.into_iter().map(forget_parcels).collect();
        }
        self.world.back().await?;
        Ok(rows)
    }

    async fn unanswered(&self, prefix: &[u8]) -> Result<Vec<Arc<Payment>>, Fault> {
        self.world.there().await?;
        let rows = self.ledger.unanswered(prefix).await?;
        self.world.back().await?;
        Ok(rows)
    }

    async fn slots(&self, ids: &[SlotId]) -> Result<Vec<Slot>, Fault> {
        self.world.there().await?;
        let slots = self.ledger.slots(ids).await?;
        self.world.back().await?;
        Ok(slots)
    }

    async fn lease(&self, lane: &LaneId, owner: &OwnerId, seconds: u64) -> Result<Option<Lease>, Fault> {
        self.world.there().await?;
        let lease = self.ledger.lease(lane, owner, seconds).await?;
        self.world.back().await?;
        Ok(lease)
    }

    async fn due(&self, lane: &LaneId, now: UnixSeconds, limit: usize) -> Result<Vec<PaymentKey>, Fault> {
        self.world.there().await?;
        let due = self.ledger.due(lane, now, limit).await?;
        self.world.back().await?;
        Ok(due)
    }

    async fn lane(&self, lane: &LaneId, ready: usize) -> Result<LaneView, Fault> {
        self.world.there().await?;
        let mut view = self.ledger.lane(lane, ready).await?;
        if self.bug == Bug::NoGapFilling {
            hide_gaps(&self.ledger, lane, &mut view).await?;
        }
        self.world.back().await?;
        Ok(view)
    }

    async fn commit(&self, write: Write) -> Result<(), CommitError> {
        self.world.there().await?;
        let attempts = write.slots.iter().flat_map(|slot| slot.attempts.iter());
        let stored: Vec<_> =
            attempts.map(|attempt| serde_json::from_slice::<Tx>(&attempt.bytes).unwrap().hash()).collect();
        let tells = write.lease.is_none() && write.payments.iter().any(|row| matches!(row.answer, Some(Ok(_))));
        let done = if tells && self.bug == Bug::ToldInMemory { Ok(()) } else { self.ledger.commit(write).await };
        match &done {
            Ok(()) => self.world.with(|world| world.stored.extend(stored)),
            Err(CommitError::Fenced) => self.world.tally("fenced"),
            Err(CommitError::Conflict) => self.world.tally("conflict"),
            Err(CommitError::Taken(_)) => self.world.tally("keyed"),
            Err(_) => {}
        }
        self.world.back().await?;
        done
    }

    async fn forget(&self, now: UnixSeconds, limit: usize) -> Result<usize, Fault> {
        self.ledger.forget(now, limit).await
    }
}
