//! A success that was stored as told and did not reach its caller.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use x402_facilitator_core::{
    CommitError, LaneId, LaneView, Lease, Ledger, MemoryLedger, NextStep, OwnerId, Payment, Settlement, Share, Slot,
    SlotId, Write,
};
use x402_types::{Fault, PaymentKey, UnixSeconds};

use crate::toy::*;

/// Stores what a caller writes, and says once that it failed.
struct Hides(Arc<MemoryLedger>, AtomicBool);

#[async_trait]
impl Ledger for Hides {
    async fn claim(&self, payment: Payment) -> Result<Payment, Fault> {
        self.0.claim(payment).await
    }
    async fn read(&self, key: &PaymentKey) -> Result<Option<Payment>, Fault> {
        self.0.read(key).await
    }
    async fn payments(&self, keys: &[PaymentKey]) -> Result<Vec<Payment>, Fault> {
        self.0.payments(keys).await
    }
    async fn unanswered(&self, prefix: &[u8]) -> Result<Vec<Arc<Payment>>, Fault> {
        self.0.unanswered(prefix).await
    }
    async fn slots(&self, ids: &[SlotId]) -> Result<Vec<Slot>, Fault> {
        self.0.slots(ids).await
    }
    async fn lease(&self, lane: &LaneId, owner: &OwnerId, seconds: u64) -> Result<Option<Lease>, Fault> {
        self.0.lease(lane, owner, seconds).await
    }
    async fn share(&self, owner: &OwnerId, seconds: u64) -> Result<Share, Fault> {
        self.0.share(owner, seconds).await
    }

    async fn due(&self, lane: &LaneId, now: UnixSeconds, limit: usize) -> Result<Vec<PaymentKey>, Fault> {
        self.0.due(lane, now, limit).await
    }
    async fn lane(&self, lane: &LaneId, ready: usize) -> Result<LaneView, Fault> {
        self.0.lane(lane, ready).await
    }
    async fn commit(&self, write: Write) -> Result<(), CommitError> {
        self.0.commit(write).await?;
        if self.1.swap(false, Ordering::Relaxed) { Err(Fault::store("the answer was lost").into()) } else { Ok(()) }
    }
    async fn forget(&self, now: UnixSeconds, limit: usize) -> Result<usize, Fault> {
        self.0.forget(now, limit).await
    }
}

#[test]
fn the_next_caller_is_told_in_its_place() {
    let bench = Bench::new();
    let hides = Arc::new(Hides(Arc::clone(&bench.ledger), AtomicBool::new(false)));
    let settlement = Settlement::new(OwnerId::from("two"), Arc::clone(&hides) as Arc<dyn Ledger>)
        .with_mechanism(Arc::new(bench.toy.clone()))
        .unwrap()
        .with_rail(Arc::new(bench.toy.clone()))
        .unwrap();
    let key = settlement.key(&claim(1, "a")).unwrap();
    let first = settlement.begin_request();
    assert_eq!(wait(settlement.settle(&first, &claim(1, "a"), NOW)), Ok(pending(None)));
    bench.finish(1, NextStep::Settled(receipt()));
    hides.1.store(true, Ordering::Relaxed);
    assert!(wait(settlement.look(&first, &key)).is_err());
    assert!(!bench.row(1).untold, "it is stored as told");
    drop(first);
    let settle = |call| wait(settlement.settle(&call, &claim(1, "a"), NOW)).unwrap();
    assert_eq!(settle(settlement.begin_request()), settled(false));
    assert_eq!(settle(settlement.begin_request()), spent("0x01"));
    assert_eq!(settle(settlement.begin_request().named()), settled(true));
}
