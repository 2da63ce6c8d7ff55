//! The payments that have their end, until a target is notified of it. The database notes a payment in the transaction that stores
//! its answer, so that neither a crash nor another process loses one.

use async_trait::async_trait;
use x402_facilitator_core::Payment;
use x402_types::{Fault, UnixSeconds};

/// A payment that has its end, of which a target must be notified.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct EndedPayment {
    /// The number of this end, which never changes and is never used again in this database. A payment whose answer is
    /// reopened can have several.
    pub number: u64,
    /// The number of times that it was taken from the store, this time included.
    pub tries: u64,
    /// The payment as of its end.
    pub payment: Payment,
}

impl EndedPayment {
    pub(crate) const fn new(number: u64, tries: u64, payment: Payment) -> Self {
        Self { number, tries, payment }
    }
}

/// The payments that have their end, oldest first, each until it is removed.
#[async_trait]
pub trait EndedPayments: Send + Sync + std::fmt::Debug {
    /// Sets whether payments are noted that have their end from here on. Several processes share the setting.
    /// # Errors
    /// The store failed.
    async fn set_noting(&self, noting: bool) -> Result<(), Fault>;

    /// Takes payments that are due at `now`, at most `limit`, and makes them due again at `until`: no other process gets
    /// one before then, and whoever ends without removing it loses nothing.
    /// # Errors
    /// The store failed; some may have been taken.
    async fn take(&self, now: UnixSeconds, until: UnixSeconds, limit: usize) -> Result<Vec<EndedPayment>, Fault>;

    /// Makes a payment due at another time.
    /// # Errors
    /// The store failed.
    async fn postpone(&self, number: u64, due: UnixSeconds) -> Result<(), Fault>;

    /// Removes a payment of whose end the target was notified, or that has no target.
    /// # Errors
    /// The store failed; it may be removed.
    async fn remove(&self, number: u64) -> Result<(), Fault>;

    /// Returns the number of payments that wait.
    /// # Errors
    /// The store failed.
    async fn waiting(&self) -> Result<u64, Fault>;
}
