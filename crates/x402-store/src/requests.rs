//! What `/verify` remembers of a request for `/settle`: [Smart Accounts 0.3](https://docs.nevermined.app/docs/specs/x402-smart-accounts)
//! steps 6 and 22, `agentRequestId`.
//!
//! A second store beside the ledger, written by the routes and never by a mechanism: nothing here is proof of anything.

use std::collections::{BTreeSet, HashMap};
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
pub struct MemoryRequests(Mutex<Rows>);

/// A caller and an id.
type Name = (String, String);

#[derive(Debug, Default)]
struct Rows {
    requests: HashMap<Name, Remembered>,
    /// The names by when they expire, so that nobody looks at those that stay.
    expiry: BTreeSet<(UnixSeconds, Name)>,
}

impl Rows {
    /// Forgets what has expired. Answers how many rows were looked at.
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
