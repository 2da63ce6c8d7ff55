//! The payments that were claimed in this process, until the worker of their lane takes them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use x402_facilitator_core::LaneId;
use x402_types::PaymentKey;

/// The new payments of each lane.
#[derive(Debug, Default)]
pub(crate) struct Claims(BTreeMap<LaneId, Claimed>);

#[derive(Debug, Default)]
struct Claimed {
    keys: Mutex<Vec<PaymentKey>>,
    wake: Notify,
}

impl Claimed {
    fn keys(&self) -> MutexGuard<'_, Vec<PaymentKey>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claims {
    /// Makes an empty list for each of these lanes.
    pub(crate) fn of<'a>(lanes: impl Iterator<Item = &'a LaneId>) -> Self {
        Self(lanes.map(|lane| (lane.clone(), Claimed::default())).collect())
    }

    /// Hands a payment to the worker of its lane.
    pub(crate) fn add(&self, lane: &LaneId, key: PaymentKey) {
        if let Some(claimed) = self.0.get(lane) {
            claimed.keys().push(key);
            claimed.wake.notify_one();
        }
    }

    /// Takes a lane's payments.
    pub(crate) fn take(&self, lane: &LaneId) -> Vec<PaymentKey> {
        self.0.get(lane).map(|claimed| std::mem::take(&mut *claimed.keys())).unwrap_or_default()
    }

    /// Waits until a lane has new payments.
    pub(crate) async fn some(&self, lane: &LaneId) {
        match self.0.get(lane) {
            Some(claimed) => claimed.wake.notified().await,
            None => std::future::pending().await,
        }
    }
}
