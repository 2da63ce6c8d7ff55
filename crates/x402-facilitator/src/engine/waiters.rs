//! The callers that wait for payments: a payment's answer wakes its own.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use x402_types::PaymentKey;

/// The callers that wait, by payment.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Mutex<BTreeMap<PaymentKey, watch::Sender<()>>>);

/// A place among the waiters of one payment, until it is dropped.
#[derive(Debug)]
pub(crate) struct Waiter<'a> {
    waiters: &'a Waiters,
    key: PaymentKey,
    answered: watch::Receiver<()>,
}

impl Waiters {
    /// Begins to wait. An answer from here on is not missed.
    pub(crate) fn begin(&self, key: PaymentKey) -> Waiter<'_> {
        let answered = self.keys().entry(key.clone()).or_default().subscribe();
        Waiter { waiters: self, key, answered }
    }

    /// Wakes those that wait for this payment.
    pub(crate) fn wake(&self, key: &PaymentKey) {
        if let Some(waiting) = self.keys().get(key) {
            waiting.send_replace(());
        }
    }

    fn keys(&self) -> MutexGuard<'_, BTreeMap<PaymentKey, watch::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter<'_> {
    /// Returns the payment.
    pub(crate) const fn key(&self) -> &PaymentKey {
        &self.key
    }

    /// Waits until the payment's worker in this process has stored its answer.
    pub(crate) async fn answered(&mut self) {
        // The sender lives as long as this place.
        if self.answered.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut keys = self.waiters.keys();
        // The last receiver is this one.
        if keys.get(&self.key).is_some_and(|waiting| waiting.receiver_count() <= 1) {
            keys.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn an_answer_wakes_those_of_its_payment_and_nobody_stays_on_the_list() {
        let (waiters, key) = (Waiters::default(), |byte| PaymentKey::from_bytes(&[byte]));
        let (mut one, mut two, mut other) = (waiters.begin(key(1)), waiters.begin(key(1)), waiters.begin(key(2)));
        waiters.wake(&key(1));
        waiters.wake(&key(3));
        assert!(one.answered().now_or_never().is_some() && two.answered().now_or_never().is_some());
        assert!(one.answered().now_or_never().is_none() && other.answered().now_or_never().is_none());
        drop(one);
        waiters.wake(&key(1));
        assert!(two.answered().now_or_never().is_some(), "one that left takes nobody along");
        drop((two, other));
        assert!(waiters.keys().is_empty());
    }

    #[test]
    fn two_that_leave_at_once_leave_nothing_behind() {
        let (waiters, both) = (Waiters::default(), std::sync::Barrier::new(2));
        let begun = || -> Vec<Waiter<'_>> {
            let keys = (0..50_000_u32).map(|number| PaymentKey::from_bytes(&number.to_be_bytes()));
            keys.map(|key| waiters.begin(key)).collect()
        };
        std::thread::scope(|threads| {
            for places in [begun(), begun()] {
                threads.spawn(|| {
                    both.wait();
                    drop(places);
                });
            }
        });
        assert_eq!(waiters.keys().len(), 0);
    }
}
