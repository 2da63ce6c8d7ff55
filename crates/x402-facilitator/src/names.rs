//! The names of requests: one `Idempotency-Key` belongs to one payment, on every route and for one caller. A second
//! payment under it gets 409.
//!
//! A name used at `/settle` is stored before anything else happens, so that of two concurrent payments one gets the
//! name. A name used at `/verify` is held in memory, since no money has moved: verification writes nothing.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alloy_primitives::{hex, keccak256};
use sha2::{Digest, Sha256};
use x402_types::{AtomicAmount, Fault, PaymentKey, UnixSeconds};

use crate::clock::now;
use x402_store::requests::{Remembered, Requests};

/// The number of seconds that a name used at `/settle` is kept.
const STORED: u64 = 86_400;
/// The number of seconds that a name used only at `/verify` is kept.
const SEEN: u64 = 3_600;
/// The most names that are held in memory; the oldest are dropped first.
const MOST_SEEN: usize = 100_000;

/// The payment of each name.
#[derive(Debug)]
pub(crate) struct Names {
    stored: Arc<dyn Requests>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    payments: HashMap<String, [u8; 32]>,
    /// The names, oldest first, with the time at which each expires.
    order: VecDeque<(UnixSeconds, String)>,
}

impl Names {
    pub(crate) fn new(stored: Arc<dyn Requests>) -> Self {
        Self { stored, seen: Mutex::default() }
    }

    /// Whether a caller's key belongs to this payment, or to none yet. Nothing is stored.
    pub(crate) async fn fits(&self, caller: &str, key: &str, payment: [u8; 32]) -> Result<bool, Fault> {
        let id = named(caller, key);
        if self.seen().get(&id).is_some_and(|seen| seen != payment) {
            return Ok(false);
        }
        Ok(self.stored.read(caller, &id).await?.is_none_or(|known| known.digest == payment))
    }

    /// Notes that the payment was verified under this key.
    pub(crate) fn verified(&self, caller: &str, key: &str, payment: [u8; 32]) {
        let now = now();
        let id = named(caller, key);
        let mut seen = self.seen();
        seen.prune(now);
        if seen.payments.insert(id.clone(), payment).is_none() {
            seen.order.push_back((now.plus(SEEN), id));
        }
    }

    /// Binds the key to this payment before it is settled. `false` means that it belongs to another payment.
    pub(crate) async fn take(&self, caller: &str, key: &str, payment: [u8; 32]) -> Result<bool, Fault> {
        let id = named(caller, key);
        if self.seen().get(&id).is_some_and(|seen| seen != payment) {
            return Ok(false);
        }
        if let Some(known) = self.stored.read(caller, &id).await? {
            return Ok(known.digest == payment);
        }
        let now = now();
        let request = Remembered {
            id,
            caller: caller.to_owned(),
            digest: payment,
            max_amount: AtomicAmount::ZERO,
            expires: now.plus(STORED),
        };
        Ok(self.stored.put(request, now).await?.digest == payment)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn get(&self, id: &str) -> Option<[u8; 32]> {
        self.payments.get(id).copied()
    }

    fn prune(&mut self, now: UnixSeconds) {
        while self.order.front().is_some_and(|(until, _)| *until < now || self.order.len() >= MOST_SEEN) {
            if let Some((_, id)) = self.order.pop_front() {
                self.payments.remove(&id);
            }
        }
    }
}

/// Derives the request's name from the caller's key: equal for equal keys, and different for every other caller.
pub(crate) fn named(caller: &str, key: &str) -> String {
    let mut hash = Sha256::new();
    for part in [b"agentRequestId v1".as_slice(), caller.as_bytes(), key.as_bytes()] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hex::encode(hash.finalize())
}

/// Identifies a payment, whatever it is offered for.
pub(crate) fn payment(key: &PaymentKey) -> [u8; 32] {
    keccak256(key.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use x402_store::requests::MemoryRequests;

    #[tokio::test]
    async fn a_name_is_one_payments_and_one_callers() {
        let names = Names::new(Arc::new(MemoryRequests::default()));
        let (one, two) = ([1; 32], [2; 32]);
        assert_eq!(names.fits("shop", "k", one).await, Ok(true));
        names.verified("shop", "k", one);
        assert_eq!(names.fits("shop", "k", one).await, Ok(true));
        assert_eq!(names.fits("shop", "k", two).await, Ok(false));
        assert_eq!(names.take("shop", "k", two).await, Ok(false));
        assert_eq!(names.take("shop", "k", one).await, Ok(true));
        assert_eq!(names.take("shop", "k", one).await, Ok(true));
        assert_eq!(names.take("other", "k", two).await, Ok(true), "another caller's key is another name");
        assert_eq!(names.take("shop", "l", two).await, Ok(true));
    }

    #[test]
    fn what_was_only_verified_goes_with_time_and_number() {
        let mut seen = Seen::default();
        for number in 0..MOST_SEEN {
            seen.payments.insert(number.to_string(), [0; 32]);
            seen.order.push_back((UnixSeconds(if number < 5 { 10 } else { 20 }), number.to_string()));
        }
        seen.prune(UnixSeconds(11));
        assert_eq!((seen.payments.len(), seen.order.len()), (MOST_SEEN - 5, MOST_SEEN - 5));
        for number in 0..6 {
            seen.prune(UnixSeconds(11));
            seen.payments.insert(format!("new {number}"), [0; 32]);
            seen.order.push_back((UnixSeconds(30), format!("new {number}")));
        }
        seen.prune(UnixSeconds(11));
        assert_eq!(seen.order.len(), MOST_SEEN - 1);
        seen.prune(UnixSeconds(31));
        assert!(seen.payments.is_empty());
    }
}
