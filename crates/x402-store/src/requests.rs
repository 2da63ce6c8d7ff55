//! What `/verify` remembers of a request for `/settle`: [Smart Accounts 0.3](https://docs.nevermined.app/docs/specs/x402-smart-accounts)
//! steps 6 and 22, `agentRequestId`.
//!
//! A second store beside the ledger, written by the routes and never by a mechanism: nothing here is proof of anything.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use x402_types::{AtomicAmount, Fault, UnixSeconds};

/// A request that was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// Its name, unguessable unless its caller chose it.
    pub id: String,
    /// Who had it verified; empty where callers are not told apart. Another caller does not find it.
    pub caller: String,
    /// Of the payment and what it was offered for.
    pub digest: [u8; 32],
    /// The most that it may cost.
    pub max_amount: AtomicAmount,
    /// When it may be forgotten.
    pub expires: UnixSeconds,
}

/// Remembers requests between `/verify` and `/settle`.
#[async_trait]
pub trait Requests: Send + Sync + std::fmt::Debug {
    /// Remembers a request, or answers with the one of that id and caller that is remembered.
    ///
    /// # Errors
    /// The store failed.
    async fn put(&self, request: Remembered, now: UnixSeconds) -> Result<Remembered, Fault>;

    /// The request of an id, if this caller has one.
    ///
    /// # Errors
    /// The store failed.
    async fn read(&self, caller: &str, id: &str) -> Result<Option<Remembered>, Fault>;
}

/// In memory: for one process, gone with it.
#[derive(Debug, Default)]
pub struct MemoryRequests(Mutex<HashMap<(String, String), Remembered>>);

impl MemoryRequests {
    fn rows(&self) -> MutexGuard<'_, HashMap<(String, String), Remembered>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Requests for MemoryRequests {
    async fn put(&self, request: Remembered, now: UnixSeconds) -> Result<Remembered, Fault> {
        let mut rows = self.rows();
        rows.retain(|_, row| row.expires >= now);
        Ok(rows.entry((request.caller.clone(), request.id.clone())).or_insert(request).clone())
    }

    async fn read(&self, caller: &str, id: &str) -> Result<Option<Remembered>, Fault> {
        Ok(self.rows().get(&(caller.to_owned(), id.to_owned())).cloned())
    }
}
