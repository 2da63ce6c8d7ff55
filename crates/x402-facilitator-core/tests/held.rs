//! What is held of a ledger is what the ledger said last.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)]
#![allow(
    unreachable_pub,
    missing_docs,
    missing_debug_implementations,
    dead_code,
    reason = "a test has no public surface"
)]

#[path = "counts/many.rs"]
mod many;

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use x402_facilitator_core::{
    CommitError, HeldLedger, LaneId, LaneView, Lease, Ledger, MemoryLedger, Next, OwnerId, Payment, RequestId, Share,
    Slot, SlotId, Write,
};
use x402_types::{Fault, PaymentKey, UnixSeconds};

use crate::many::{claim, wait};

/// A ledger of which an answer can be lost, or can take for ever.
struct Unsteady {
    inner: MemoryLedger,
    loses: AtomicBool,
    hangs: AtomicBool,
    /// Whether a call that hangs has not reached the rows yet.
    late: AtomicBool,
    /// Whether the next read of several payments yields once.
    slow: AtomicBool,
    /// Whether the next commit takes effect when its caller has given up.
    parks: AtomicBool,
    parked: Mutex<Option<Write>>,
    reads: Mutex<u32>,
}

impl Unsteady {
    fn new() -> Arc<Self> {
        let inner = MemoryLedger::new(|| UnixSeconds(100));
        Arc::new(Self {
            inner,
            loses: AtomicBool::new(false),
            hangs: AtomicBool::new(false),
            late: AtomicBool::new(false),
            slow: AtomicBool::new(false),
            parks: AtomicBool::new(false),
            parked: Mutex::new(None),
            reads: Mutex::new(0),
        })
    }

    fn reads(&self) -> u32 {
        std::mem::take(&mut self.reads.lock().unwrap())
    }

    async fn answer(&self) -> Result<(), Fault> {
        if self.hangs.swap(false, Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if self.loses.swap(false, Ordering::Relaxed) { Err(Fault::store("the answer was lost")) } else { Ok(()) }
    }
}

#[async_trait]
impl Ledger for Unsteady {
    async fn claim(&self, payment: Payment) -> Result<Payment, Fault> {
        if self.late.swap(false, Ordering::Relaxed) {
            self.answer().await?;
        }
        let row = self.inner.claim(payment).await?;
        self.answer().await.map(|()| row)
    }
    async fn read(&self, key: &PaymentKey) -> Result<Option<Payment>, Fault> {
        *self.reads.lock().unwrap() += 1;
        self.inner.read(key).await
    }
    async fn payments(&self, keys: &[PaymentKey]) -> Result<Vec<Payment>, Fault> {
        *self.reads.lock().unwrap() += 1;
        let found = self.inner.payments(keys).await;
        let mut first = self.slow.swap(false, Ordering::Relaxed);
        std::future::poll_fn(|_| if std::mem::take(&mut first) { Poll::Pending } else { Poll::Ready(()) }).await;
        found
    }
    async fn unanswered(&self, prefix: &[u8]) -> Result<Vec<Arc<Payment>>, Fault> {
        *self.reads.lock().unwrap() += 1;
        self.inner.unanswered(prefix).await
    }
    async fn slots(&self, ids: &[SlotId]) -> Result<Vec<Slot>, Fault> {
        *self.reads.lock().unwrap() += 1;
        self.inner.slots(ids).await
    }
    async fn lease(&self, lane: &LaneId, owner: &OwnerId, seconds: u64) -> Result<Option<Lease>, Fault> {
        self.inner.lease(lane, owner, seconds).await
    }
    async fn share(&self, owner: &OwnerId, seconds: u64) -> Result<Share, Fault> {
        self.inner.share(owner, seconds).await
    }

    async fn due(&self, lane: &LaneId, now: UnixSeconds, limit: usize) -> Result<Vec<PaymentKey>, Fault> {
        *self.reads.lock().unwrap() += 1;
        self.inner.due(lane, now, limit).await
    }
    async fn lane(&self, lane: &LaneId, ready: usize) -> Result<LaneView, Fault> {
        *self.reads.lock().unwrap() += 1;
        self.inner.lane(lane, ready).await
    }
    async fn commit(&self, write: Write) -> Result<(), CommitError> {
        if self.parks.swap(false, Ordering::Relaxed) {
            *self.parked.lock().unwrap() = Some(write);
            return Err(Fault::store("no answer").into());
        }
        self.inner.commit(write).await?;
        Ok(self.answer().await?)
    }
    async fn forget(&self, now: UnixSeconds, limit: usize) -> Result<usize, Fault> {
        self.inner.forget(now, limit).await
    }
}

fn lane() -> LaneId {
    LaneId::from("eip155:84532/0xaa")
}

fn key(number: u8) -> PaymentKey {
    PaymentKey::from_bytes(&[9, number])
}

fn payment(number: u8) -> Payment {
    let request = RequestId { owner: OwnerId::from("one"), number: 1 };
    Payment::from_row(key(number), claim(u32::from(number)), "payer".to_owned(), lane(), request)
}

fn lease(ledger: &dyn Ledger, owner: &str) -> Option<Lease> {
    wait(ledger.lease(&lane(), &OwnerId::from(owner), 60)).unwrap()
}

fn due(ledger: &dyn Ledger, now: u64) -> Vec<PaymentKey> {
    wait(ledger.due(&lane(), UnixSeconds(now), 100)).unwrap()
}

fn read(ledger: &dyn Ledger, number: u8) -> Payment {
    wait(ledger.read(&key(number))).unwrap().unwrap()
}

/// Sets another payer, for something that a row can differ by.
fn changed(ledger: &dyn Ledger, lease: Option<&Lease>, number: u8, payer: &str) -> Result<(), CommitError> {
    let mut row = read(ledger, number);
    row.payer = payer.to_owned();
    wait(ledger.commit(Write { lease: lease.cloned(), payments: vec![row], ..Write::default() }))
}

fn held(inner: &Arc<Unsteady>, alone: bool) -> HeldLedger {
    let inner = Arc::clone(inner) as Arc<dyn Ledger>;
    if alone { wait(HeldLedger::alone(inner)).unwrap() } else { HeldLedger::shared(inner) }
}

#[test]
fn what_was_stored_before_is_loaded_once() {
    for alone in [true, false] {
        let inner = Unsteady::new();
        for number in 1..=3 {
            wait(inner.claim(payment(number))).unwrap();
        }
        let held = held(&inner, alone);
        lease(&held, "one").unwrap();
        assert_eq!(due(&held, 100), [key(1), key(2), key(3)]);
        wait(held.lane(&lane(), 10)).unwrap();
        inner.reads();
        for number in 1..=3 {
            assert_eq!(read(&held, number), read(&inner.inner, number));
        }
        assert_eq!(wait(held.payments(&[key(3), key(1)])).unwrap().len(), 2);
        assert_eq!((due(&held, 100).len(), wait(held.lane(&lane(), 10)).unwrap().open.len()), (3, 0));
        assert_eq!(inner.reads(), 0, "alone {alone}");
    }
}

#[test]
fn a_write_whose_answer_was_lost_is_read_again() {
    for alone in [true, false] {
        let inner = Unsteady::new();
        wait(inner.claim(payment(1))).unwrap();
        let held = held(&inner, alone);
        let lease = lease(&held, "one").unwrap();
        inner.loses.store(true, Ordering::Relaxed);
        assert!(matches!(changed(&held, Some(&lease), 1, "another"), Err(CommitError::Fault(_))));
        let row = read(&held, 1);
        assert_eq!((&*row.payer, row.version), ("another", 2), "alone {alone}");
        // The same for a slot and the next nonce, and for a claim.
        inner.loses.store(true, Ordering::Relaxed);
        let next = Some(x402_facilitator_core::Next { from: 0, to: 1 });
        let slot = Slot::new(SlotId { lane: lane(), nonce: 0 });
        wait(held.lane(&lane(), 0)).unwrap();
        let write = Write { lease: Some(lease), next, slots: vec![slot], ..Write::default() };
        assert!(wait(held.commit(write)).is_err());
        let view = wait(held.lane(&lane(), 0)).unwrap();
        assert_eq!((view.next, view.open.len()), (1, 1));
        inner.loses.store(true, Ordering::Relaxed);
        assert!(wait(held.claim(payment(2))).is_err());
        assert_eq!(due(&held, 100), [key(1), key(2)]);
    }
}

#[test]
fn a_claim_whose_caller_went_away_is_found() {
    for alone in [true, false] {
        let inner = Unsteady::new();
        let held = held(&inner, alone);
        lease(&held, "one").unwrap();
        assert_eq!(due(&held, 100), []);
        inner.hangs.store(true, Ordering::Relaxed);
        let mut claim: Pin<Box<dyn Future<Output = _> + Send>> = held.claim(payment(1));
        assert!(claim.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(claim);
        assert_eq!(due(&held, 100), [key(1)], "alone {alone}");
        // Its write was still under way when the caller went: one look comes too early, and another one soon.
        inner.hangs.store(true, Ordering::Relaxed);
        let mut late: Pin<Box<dyn Future<Output = _> + Send>> = held.claim(payment(2));
        inner.late.store(true, Ordering::Relaxed);
        assert!(late.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(late);
        assert_eq!(due(&held, 100), [key(1)]);
        wait(inner.inner.claim(payment(2))).unwrap();
        assert_eq!(due(&held, 102), [key(1), key(2)], "alone {alone}");
    }
}

#[test]
fn a_row_that_another_process_changed_is_read_again_after_the_conflict() {
    let inner = Unsteady::new();
    let (one, two) = (held(&inner, false), held(&inner, false));
    wait(one.claim(payment(1))).unwrap();
    let lease = lease(&one, "one").unwrap();
    assert_eq!(due(&one, 100), [key(1)]);
    changed(&two, None, 1, "another").unwrap();
    assert_eq!(&*read(&one, 1).payer, "payer", "held, and old");
    assert_eq!(changed(&one, Some(&lease), 1, "a third"), Err(CommitError::Conflict));
    assert_eq!(&*read(&one, 1).payer, "another");
    changed(&one, Some(&lease), 1, "a third").unwrap();
    assert_eq!(read(&inner.inner, 1).version, 3);
}

#[test]
fn a_lane_that_another_process_took_is_not_held() {
    let inner = Unsteady::new();
    let clock = Arc::new(std::sync::atomic::AtomicU64::new(100));
    let time = Arc::clone(&clock);
    let ledger: Arc<dyn Ledger> = Arc::new(MemoryLedger::new(move || UnixSeconds(time.load(Ordering::Relaxed))));
    drop(inner);
    let (one, two) = (HeldLedger::shared(Arc::clone(&ledger)), HeldLedger::shared(Arc::clone(&ledger)));
    wait(one.claim(payment(1))).unwrap();
    let old = lease(&one, "one").unwrap();
    assert_eq!(due(&one, 100), [key(1)]);
    clock.store(200, Ordering::Relaxed);
    let new = lease(&two, "two").unwrap();
    changed(&two, Some(&new), 1, "another").unwrap();
    // It learns of it by a write, or by asking for the lease.
    assert_eq!(changed(&one, Some(&old), 1, "a third"), Err(CommitError::Fenced));
    assert_eq!(&*read(&one, 1).payer, "another");
    assert_eq!(lease(&one, "one"), None);
    clock.store(300, Ordering::Relaxed);
    lease(&one, "one").unwrap();
    changed(&two, None, 1, "a fourth").unwrap();
    assert_eq!(&*read(&one, 1).payer, "another", "held again");
}

#[test]
fn what_another_process_claims_is_looked_for_once_a_second() {
    let inner = Unsteady::new();
    let held = held(&inner, false);
    lease(&held, "one").unwrap();
    assert_eq!(due(&held, 100), []);
    wait(inner.claim(payment(1))).unwrap();
    inner.reads();
    assert_eq!((due(&held, 100).len(), inner.reads()), (0, 0));
    assert_eq!(due(&held, 101), [key(1)]);
    assert_eq!(inner.reads(), 2);
    assert_eq!((due(&held, 101).len(), inner.reads()), (1, 0));
    read(&held, 1);
    assert_eq!(inner.reads(), 0);
}

#[test]
fn a_payment_that_is_answered_while_others_are_read_is_not_lost() {
    let inner = Unsteady::new();
    let held = held(&inner, true);
    let lease = lease(&held, "one").unwrap();
    wait(held.claim(payment(1))).unwrap();
    wait(inner.inner.claim(payment(2))).unwrap();
    // The second payment is not held, and the read of it takes a while.
    inner.slow.store(true, Ordering::Relaxed);
    let keys = [key(1), key(2)];
    let mut both: Pin<Box<dyn Future<Output = _> + Send>> = held.payments(&keys);
    assert!(both.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let mut row = read(&held, 1);
    row.answer = Some(Err(x402_types::ErrorReason::INSUFFICIENT_FUNDS));
    wait(held.commit(Write { lease: Some(lease), payments: vec![row], ..Write::default() })).unwrap();
    let found: Vec<PaymentKey> = wait(both).unwrap().into_iter().map(|row: Payment| row.key).collect();
    assert_eq!(found, keys);
}

#[test]
fn a_process_without_a_lane_remembers_no_doubts() {
    let inner = Unsteady::new();
    let held = held(&inner, false);
    for number in 1..=100 {
        // The claims fail before they are stored.
        inner.late.store(true, Ordering::Relaxed);
        inner.loses.store(true, Ordering::Relaxed);
        assert!(wait(held.claim(payment(number))).is_err());
    }
    lease(&held, "one").unwrap();
    inner.reads();
    assert_eq!(due(&held, 100), []);
    assert_eq!(inner.reads(), 1, "a look for what others claimed, and nothing is read again");
}

#[test]
fn every_lane_is_looked_at_soon_after_a_claim_whose_end_is_not_known() {
    let inner = Unsteady::new();
    let held = held(&inner, true);
    let lanes: Vec<LaneId> = (1..=8).map(|account| LaneId::from(format!("eip155:84532/0x0{account}"))).collect();
    let due = |lane: &LaneId, now| wait(held.due(lane, UnixSeconds(now), 100)).unwrap();
    for lane in &lanes {
        wait(held.lease(lane, &OwnerId::from("one"), 60)).unwrap().unwrap();
        assert_eq!(due(lane, 100), []);
    }
    let mut row = payment(1);
    row.lane = lanes[7].clone();
    inner.hangs.store(true, Ordering::Relaxed);
    inner.late.store(true, Ordering::Relaxed);
    let mut claim: Pin<Box<dyn Future<Output = _> + Send>> = held.claim(row.clone());
    assert!(claim.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop(claim);
    // The look comes too early, and the write is done afterwards.
    assert_eq!(due(&lanes[0], 100), []);
    wait(inner.inner.claim(row)).unwrap();
    let found: Vec<usize> = lanes.iter().map(|lane| due(lane, 101).len()).collect();
    assert_eq!(found, [0, 0, 0, 0, 0, 0, 0, 1]);
}

/// A slot of a commit that takes effect after its caller has given up would otherwise be sent by nobody, until another
/// payment needs the lane. Found by the simulation, one seed in 16,000.
#[test]
fn a_slot_that_a_late_commit_stores_is_found() {
    let inner = Unsteady::new();
    let held = held(&inner, false);
    let lease = lease(&held, "one").unwrap();
    let slot = Slot::new(SlotId { lane: lane(), nonce: 0 });
    let write =
        Write { lease: Some(lease), next: Some(Next { from: 0, to: 1 }), slots: vec![slot], ..Write::default() };
    let open = |held: &HeldLedger| wait(held.lane(&lane(), 0)).unwrap().open.len();
    inner.parks.store(true, Ordering::Relaxed);
    assert!(matches!(wait(held.commit(write)), Err(CommitError::Fault(_))));
    for now in 101..110 {
        due(&held, now);
        assert_eq!(open(&held), 0, "it has not taken effect");
    }
    let parked = inner.parked.lock().unwrap().take().unwrap();
    wait(inner.inner.commit(parked)).unwrap();
    let found = (110..110 + 32).find(|now| {
        due(&held, *now);
        open(&held) == 1
    });
    assert!(found.is_some(), "nobody would send it");
    // Once a later write has the next nonce, nothing is read again.
    let lease = self::lease(&held, "one").unwrap();
    let slot = Slot::new(SlotId { lane: lane(), nonce: 1 });
    let write =
        Write { lease: Some(lease), next: Some(Next { from: 1, to: 2 }), slots: vec![slot], ..Write::default() };
    wait(held.commit(write)).unwrap();
    assert_eq!(open(&held), 2);
    inner.reads();
    for now in 200..240 {
        assert!(due(&held, now).is_empty());
        assert_eq!(open(&held), 2);
    }
    assert_eq!(inner.reads(), 40, "a look a second for payments of others, and none for slots");
}
