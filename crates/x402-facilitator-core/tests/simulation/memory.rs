//! A process's memory as somebody might write it, between the machine and the memory that the library has.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use x402_facilitator_core::{
    CommitError, HeldLedger, LaneId, LaneView, Lease, Ledger, OwnerId, Payment, Share, Slot, SlotId, Write,
};
use x402_types::{Fault, PaymentKey, UnixSeconds};

use crate::bugs::{Bug, forget_carriers, recall_carriers};

pub struct Keeps {
    held: HeldLedger,
    bug: Bug,
    kept: Mutex<BTreeMap<PaymentKey, Payment>>,
}

impl Keeps {
    pub fn new(held: HeldLedger, bug: Bug) -> Self {
        Self { held, bug, kept: Mutex::default() }
    }

    fn keep(&self, row: &Payment) {
        self.kept.lock().unwrap().insert(row.key.clone(), row.clone());
    }
}

#[async_trait]
impl Ledger for Keeps {
    async fn claim(&self, payment: Payment) -> Result<Payment, Fault> {
        self.held.claim(payment).await
    }

    async fn read(&self, key: &PaymentKey) -> Result<Option<Payment>, Fault> {
        let kept = self.kept.lock().unwrap().get(key).cloned();
        let row = match kept {
            Some(kept) => Some(kept),
            None => self.held.read(key).await?,
        };
        if let (Bug::StaleMemory, Some(row)) = (self.bug, &row) {
            self.keep(row);
        }
        Ok(row)
    }

    async fn payments(&self, keys: &[PaymentKey]) -> Result<Vec<Payment>, Fault> {
        self.held.payments(keys).await
    }

    async fn unanswered(&self, prefix: &[u8]) -> Result<Vec<Arc<Payment>>, Fault> {
        self.held.unanswered(prefix).await
    }

    async fn slots(&self, ids: &[SlotId]) -> Result<Vec<Slot>, Fault> {
        self.held.slots(ids).await
    }

    async fn lease(&self, lane: &LaneId, owner: &OwnerId, seconds: u64) -> Result<Option<Lease>, Fault> {
        self.held.lease(lane, owner, seconds).await
    }

    async fn share(&self, owner: &OwnerId, seconds: u64) -> Result<Share, Fault> {
        self.held.share(owner, seconds).await
    }

    async fn due(&self, lane: &LaneId, now: UnixSeconds, limit: usize) -> Result<Vec<PaymentKey>, Fault> {
        self.held.due(lane, now, limit).await
    }

    async fn lane(&self, lane: &LaneId, ready: usize) -> Result<LaneView, Fault> {
        let mut view = self.held.lane(lane, ready).await?;
        if self.bug == Bug::FailedMemberBatched {
            view.ready.iter_mut().for_each(forget_carriers);
        }
        Ok(view)
    }

    async fn commit(&self, mut write: Write) -> Result<(), CommitError> {
        if self.bug == Bug::FailedMemberBatched {
            for row in &mut write.payments {
                if let Ok(Some(stored)) = self.held.read(&row.key).await {
                    recall_carriers(row, &stored);
                }
            }
        }
        if self.bug == Bug::KeptBeforeStored {
            for row in &write.payments {
                let mut row = row.clone();
                row.version += 1;
                self.keep(&row);
            }
        }
        self.held.commit(write).await
    }

    fn behind(&self) -> Option<&dyn Ledger> {
        // The two bugs are of somebody who reads answers from memory, too.
        if matches!(self.bug, Bug::StaleMemory | Bug::KeptBeforeStored) { None } else { self.held.behind() }
    }

    async fn forget(&self, now: UnixSeconds, limit: usize) -> Result<usize, Fault> {
        self.held.forget(now, limit).await
    }
}
