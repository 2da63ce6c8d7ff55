//! Those who wait in a process, by payment: a payment's move wakes its own.

use std::sync::{Arc, Mutex};

use x402_types::PaymentKey;

use crate::bugs::Bug;

/// One who waits: for which payment, and which one woke him.
struct Waiter {
    number: u64,
    key: PaymentKey,
    woken: Option<PaymentKey>,
}

#[derive(Clone, Default)]
pub struct Wakes(Arc<Mutex<(u64, Vec<Waiter>)>>);

impl Wakes {
    pub fn begin(&self, key: &PaymentKey) -> Place {
        let mut waiters = self.0.lock().unwrap();
        waiters.0 += 1;
        let number = waiters.0;
        waiters.1.push(Waiter { number, key: key.clone(), woken: None });
        drop(waiters);
        Place { wakes: self.clone(), number }
    }

    /// A payment has moved.
    pub fn wake(&self, key: &PaymentKey, bug: Bug) {
        let mut waiters = self.0.lock().unwrap();
        let other = waiters.1.iter_mut().find(|waiter| bug == Bug::WokenByAnother && waiter.key != *key);
        if let Some(other) = other {
            other.woken = Some(key.clone());
            return;
        }
        for waiter in waiters.1.iter_mut().filter(|waiter| waiter.key == *key) {
            waiter.woken = Some(key.clone());
        }
    }
}

/// A place among them, until it is dropped.
pub struct Place {
    wakes: Wakes,
    number: u64,
}

impl Place {
    /// The payment that has moved, if any of his has.
    pub fn woken(&self) -> Option<PaymentKey> {
        let waiters = self.wakes.0.lock().unwrap();
        waiters.1.iter().find(|waiter| waiter.number == self.number)?.woken.clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.wakes.0.lock().unwrap().1.retain(|waiter| waiter.number != self.number);
    }
}
