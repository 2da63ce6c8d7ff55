//! The state that `/verify` keeps of a request for `/settle`: [Smart Accounts
//! 0.3](https://docs.nevermined.app/docs/specs/x402-smart-accounts) steps 6 and 22, `agentRequestId`.
//!
//! This store is separate from the ledger, and written by the routes, never by a mechanism: nothing in it proves
//! anything.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use x402_types::{AtomicAmount, Fault, UnixSeconds};

/// A request that was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// The id of the request, unguessable unless its caller chose it.
    pub id: String,
    /// The caller of `/verify`; empty if callers are not distinguished. Other callers cannot find the request.
    pub caller: String,
    /// The digest of the payment and of what it was offered for.
    pub digest: [u8; 32],
    /// The maximum cost of the request.
    pub max_amount: AtomicAmount,
    /// The time after which the request may be forgotten.
    pub expires: UnixSeconds,
}

/// Stores requests between `/verify` and `/settle`.
#[async_trait]
pub trait Requests: Send + Sync + std::fmt::Debug {
    /// Stores a request, or returns the stored one of the same id and caller.
    /// # Errors
    /// The store failed.
    async fn put(&self, request: Remembered, now: UnixSeconds) -> Result<Remembered, Fault>;

    /// Returns the request of an id, if this caller has one.
    /// # Errors
    /// The store failed.
    async fn read(&self, caller: &str, id: &str) -> Result<Option<Remembered>, Fault>;
}

/// A store in memory, whose content ends with the process.
#[derive(Debug, Default)]
pub struct MemoryRequests(Mutex<Rows>);

/// A caller and an id.
type Name = (String, String);

#[derive(Debug, Default)]
struct Rows {
    requests: HashMap<Name, Remembered>,
    /// The names by their expiry, so that only expired rows are visited.
    expiry: BTreeSet<(UnixSeconds, Name)>,
}

impl Rows {
    /// Forgets expired rows. Returns the number of rows visited.
    fn forget(&mut self, now: UnixSeconds) -> usize {
        let mut seen: usize = 0;
        while let Some((expires, name)) = self.expiry.pop_first() {
            seen = seen.saturating_add(1);
            if expires >= now {
                self.expiry.insert((expires, name));
                break;
            }
            self.requests.remove(&name);
        }
        seen
    }
}

impl MemoryRequests {
    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Requests for MemoryRequests {
    async fn put(&self, request: Remembered, now: UnixSeconds) -> Result<Remembered, Fault> {
        let mut rows = self.rows();
        rows.forget(now);
        let name = (request.caller.clone(), request.id.clone());
        if let Some(known) = rows.requests.get(&name) {
            return Ok(known.clone());
        }
        rows.expiry.insert((request.expires, name.clone()));
        rows.requests.insert(name, request.clone());
        Ok(request)
    }

    async fn read(&self, caller: &str, id: &str) -> Result<Option<Remembered>, Fault> {
        Ok(self.rows().requests.get(&(caller.to_owned(), id.to_owned())).cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn rows_that_stay_are_not_looked_at() {
        let store = MemoryRequests::default();
        let request = |n: u64| Remembered {
            id: n.to_string(),
            caller: String::new(),
            digest: [7; 32],
            max_amount: AtomicAmount::from(1),
            expires: UnixSeconds(1_000 + n),
        };
        for n in 0..1_000 {
            store.put(request(n), UnixSeconds(0)).await.unwrap();
        }
        assert_eq!(store.rows().forget(UnixSeconds(1_000)), 1);
        assert_eq!(store.rows().forget(UnixSeconds(1_003)), 4, "three are gone, the next stays");
        assert_eq!(store.read("", "2").await, Ok(None));
        assert_eq!(store.read("", "3").await, Ok(Some(request(3))));
        let rows = store.rows();
        assert_eq!((rows.requests.len(), rows.expiry.len()), (997, 997));
    }
}
