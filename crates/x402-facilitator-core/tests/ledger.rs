//! The ledger in memory keeps the rules of every ledger, and so does what is held of one.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use x402_facilitator_core::conformance::{Subject, forgets_by_the_row, run};
use x402_facilitator_core::{HeldLedger, Ledger, MemoryLedger};
use x402_types::UnixSeconds;

#[derive(Default)]
struct InMemory(Arc<AtomicU64>, Mutex<Option<Arc<MemoryLedger>>>);

#[async_trait]
impl Subject for InMemory {
    async fn empty(&self) -> Arc<dyn Ledger> {
        let clock = Arc::clone(&self.0);
        let ledger = Arc::new(MemoryLedger::new(move || UnixSeconds(clock.load(Ordering::Relaxed))));
        *self.1.lock().unwrap() = Some(Arc::clone(&ledger));
        ledger
    }

    async fn reopened(&self, ledger: Arc<dyn Ledger>) -> Arc<dyn Ledger> {
        ledger
    }

    async fn pass(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

#[test]
fn memory_conforms() {
    let subject = InMemory::default();
    let mut future = Box::pin(run(&subject));
    assert_eq!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(())));
}

#[test]
fn memory_forgets_by_the_row() {
    let subject = InMemory::default();
    let steps = || subject.1.lock().unwrap().as_ref().unwrap().forget_looked_at();
    let mut future = Box::pin(forgets_by_the_row(&subject, &steps));
    assert_eq!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(())));
}

/// The ledger in memory behind a memory of its own, which a restart begins anew.
struct Held(InMemory, bool);

impl Held {
    async fn over(&self, inner: Arc<dyn Ledger>) -> Arc<dyn Ledger> {
        Arc::new(if self.1 { HeldLedger::alone(inner).await.unwrap() } else { HeldLedger::shared(inner) })
    }
}

#[async_trait]
impl Subject for Held {
    async fn empty(&self) -> Arc<dyn Ledger> {
        self.over(self.0.empty().await).await
    }

    async fn reopened(&self, _: Arc<dyn Ledger>) -> Arc<dyn Ledger> {
        let inner = self.0.1.lock().unwrap().clone().unwrap();
        self.over(inner).await
    }

    async fn pass(&self, seconds: u64) {
        self.0.pass(seconds).await;
    }
}

#[test]
fn what_is_held_conforms() {
    for alone in [true, false] {
        let subject = Held(InMemory::default(), alone);
        let mut future = Box::pin(run(&subject));
        assert_eq!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(())), "{alone}");
    }
}
