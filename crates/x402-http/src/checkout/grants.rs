//! The record of granted payments, which is the lock that the chain does not provide.
//!
//! The chain prevents a second transfer, not a second response. A payment's key is claimed before the handler runs, and
//! success goes to only one request.

use core::fmt;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use x402_types::{Fault, PaymentKey};

/// The state of a payment's grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantState {
    /// A request holds the key; nothing was sent for settlement.
    Open,
    /// Settlement was begun, and its result, or the response for it, is still outstanding.
    Pending,
    /// An answer was given for it, and there is no second one.
    Granted,
}

/// The record that a store has of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The state of the grant.
    pub state: GrantState,
    /// The request that the grant belongs to: only the same request may resume a pending one.
    pub request: String,
    /// Whether a request is processing the payment now.
    pub held: bool,
}

/// One request's exclusive lock on a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantLock {
    /// The key that is held.
    pub key: PaymentKey,
    /// A number that is unique to every claim, so that a holder that lost the lock cannot write.
    pub holder: u64,
}

/// The result of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// The key was free: it is now `open` and held.
    Open(GrantLock),
    /// The key was `pending` for the same request and not held: it is now held.
    Pending(GrantLock),
    /// The key is granted, held, or of another request.
    Taken,
}

/// Stores which payments were granted.
///
/// A store on disk keeps `pending` and `granted` rows across a restart, without their holds; `open` rows are dropped,
/// since nothing was sent for them. A row may be forgotten only when its payment can no longer be settled. Every method
/// is atomic, and all servers that accept the same payments share one store.
#[async_trait]
pub trait Grants: Send + Sync + fmt::Debug {
    /// Returns the record of the key; `None` if it is free.
    ///
    /// # Errors
    /// The store failed.
    async fn look(&self, key: &PaymentKey) -> Result<Option<Standing>, Fault>;

    /// Claims the key for a request.
    /// # Errors
    /// The store failed.
    async fn claim(&self, key: &PaymentKey, request: &str) -> Result<Claimed, Fault>;

    /// Records that settlement begins: `open` or `pending` becomes `pending`. The record is written before anything is
    /// sent, so that a caller that goes away leaves a payment that the same request can take up.
    ///
    /// # Errors
    /// The store failed, or the lock no longer holds the key.
    async fn pend(&self, lock: &GrantLock) -> Result<(), Fault>;

    /// Records that the answer is given: `pending` becomes `granted`.
    ///
    /// # Errors
    /// The store failed, or the lock no longer holds the key.
    async fn grant(&self, lock: &GrantLock) -> Result<(), Fault>;

    /// Records that settlement failed for good: the key is free.
    ///
    /// # Errors
    /// The store failed, or the lock no longer holds the key.
    async fn free(&self, lock: &GrantLock) -> Result<(), Fault>;

    /// Releases the key: `open` becomes free, `pending` stays for the same request, `granted` stays.
    ///
    /// `Drop` calls this method, so it must not block. A store that cannot do it at once puts it into a queue.
    fn release(&self, lock: &GrantLock);
}

/// Grants in memory, for one process; they end with it.
///
/// By default a key is kept for an hour after its settlement began. That is enough if the facilitator refuses spent
/// payments and marks replayed responses; a store on disk needs neither.
#[derive(Debug)]
pub struct MemoryGrants {
    rows: Mutex<Rows>,
    capacity: usize,
    keep: Duration,
}

#[derive(Debug, Default)]
struct Rows {
    by_key: HashMap<PaymentKey, Row>,
    /// The settlements that began: time, holder and key, the oldest first.
    begun: VecDeque<(Instant, u64, PaymentKey)>,
    holders: u64,
}

#[derive(Debug)]
struct Row {
    state: GrantState,
    request: Box<str>,
    holder: Option<u64>,
    /// The holder that began its settlement.
    began: Option<u64>,
}

impl Default for MemoryGrants {
    fn default() -> Self {
        Self::new(1_000_000, Duration::from_hours(1))
    }
}

impl MemoryGrants {
    /// Keeps at most `capacity` keys, and one whose settlement began for `keep`. When no more fit, claims fail:
    /// forgetting a key early could grant its payment twice.
    #[must_use]
    pub fn new(capacity: usize, keep: Duration) -> Self {
        Self { rows: Mutex::default(), capacity, keep }
    }

    // A panic cannot leave a row half written: each method writes one row, last.
    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rows {
    fn forget_before(&mut self, limit: Option<Instant>) {
        let Some(limit) = limit else { return };
        while self.begun.front().is_some_and(|(at, ..)| *at < limit) {
            let Some((_, began, key)) = self.begun.pop_front() else { return };
            match self.by_key.get(&key) {
                Some(row) if row.began == Some(began) && row.holder.is_some() => {
                    self.begun.push_back((Instant::now(), began, key));
                    return;
                }
                Some(row) if row.began == Some(began) => drop(self.by_key.remove(&key)),
                _ => {}
            }
        }
    }

    fn held(&mut self, lock: &GrantLock) -> Result<&mut Row, Fault> {
        match self.by_key.get_mut(&lock.key) {
            Some(row) if row.holder == Some(lock.holder) => Ok(row),
            _ => Err(Fault::broken("the grant is held by another request")),
        }
    }
}

#[async_trait]
impl Grants for MemoryGrants {
    async fn look(&self, key: &PaymentKey) -> Result<Option<Standing>, Fault> {
        Ok(self.rows().by_key.get(key).map(|row| Standing {
            state: row.state,
            request: row.request.to_string(),
            held: row.holder.is_some(),
        }))
    }

    async fn claim(&self, key: &PaymentKey, request: &str) -> Result<Claimed, Fault> {
        let mut rows = self.rows();
        if rows.by_key.len() >= self.capacity {
            rows.forget_before(Instant::now().checked_sub(self.keep));
        }
        let is_full = rows.by_key.len() >= self.capacity;
        rows.holders += 1;
        let holder = rows.holders;
        let lock = GrantLock { key: key.clone(), holder };
        match rows.by_key.entry(key.clone()) {
            Entry::Occupied(mut row) => {
                let row = row.get_mut();
                if row.state == GrantState::Pending && row.holder.is_none() && *row.request == *request {
                    row.holder = Some(holder);
                    return Ok(Claimed::Pending(lock));
                }
                Ok(Claimed::Taken)
            }
            Entry::Vacant(_) if is_full => Err(Fault::store("no room for another grant")),
            Entry::Vacant(place) => {
                let request = request.into();
                place.insert(Row { state: GrantState::Open, request, holder: Some(holder), began: None });
                Ok(Claimed::Open(lock))
            }
        }
    }

    async fn pend(&self, lock: &GrantLock) -> Result<(), Fault> {
        let mut rows = self.rows();
        let row = rows.held(lock)?;
        row.state = GrantState::Pending;
        if row.began.is_none() {
            row.began = Some(lock.holder);
            let now = Instant::now();
            rows.begun.push_back((now, lock.holder, lock.key.clone()));
            rows.forget_before(now.checked_sub(self.keep));
        }
        Ok(())
    }

    async fn grant(&self, lock: &GrantLock) -> Result<(), Fault> {
        let mut rows = self.rows();
        let row = rows.held(lock)?;
        row.state = GrantState::Granted;
        row.holder = None;
        Ok(())
    }

    async fn free(&self, lock: &GrantLock) -> Result<(), Fault> {
        let mut rows = self.rows();
        rows.held(lock)?;
        rows.by_key.remove(&lock.key);
        Ok(())
    }

    fn release(&self, lock: &GrantLock) {
        let mut rows = self.rows();
        let Ok(row) = rows.held(lock) else { return };
        row.holder = None;
        if row.state == GrantState::Open {
            rows.by_key.remove(&lock.key);
        }
    }
}
