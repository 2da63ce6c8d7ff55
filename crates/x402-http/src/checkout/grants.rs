//! Which payments were granted: the lock that the chain does not give.
//!
//! The chain stops a second transfer, not a second answer. A payment's key is claimed before the handler runs,
//! and success goes to one request only.

use core::fmt;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use x402_types::{Fault, PaymentKey};

/// How far a payment's grant is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantState {
    /// A request holds it; nothing was sent for settlement.
    Open,
    /// Settlement was begun and its outcome, or the answer for it, is still owed.
    Pending,
    /// An answer was given for it. Never again.
    Granted,
}

/// What a store knows of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// How far it is.
    pub state: GrantState,
    /// Which request it belongs to: only the same request may take up a pending one.
    pub request: String,
    /// Whether a request works on it now.
    pub held: bool,
}

/// The hold that one request has on a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantLock {
    /// The key.
    pub key: PaymentKey,
    /// Different for every claim, so that one who lost the hold cannot write.
    pub holder: u64,
}

/// What came of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// The key was free: it is `open` and held.
    Open(GrantLock),
    /// The key was `pending` for this very request and not held: now it is held.
    Pending(GrantLock),
    /// Granted, held by somebody, or another request's.
    Taken,
}

/// Remembers which payments were granted.
///
/// A store on disk keeps `pending` and `granted` rows over a restart, without their hold; `open` rows are dropped,
/// since nothing was sent for them. A row may be forgotten only when its payment cannot be settled any more.
/// Every method is atomic, and all servers that accept the same payments share one store.
#[async_trait]
pub trait Grants: Send + Sync + fmt::Debug {
    /// What is known of the key; `None` if it is free.
    ///
    /// # Errors
    /// The store failed.
    async fn look(&self, key: &PaymentKey) -> Result<Option<Standing>, Fault>;

    /// Takes the key for a request.
    ///
    /// # Errors
    /// The store failed.
    async fn claim(&self, key: &PaymentKey, request: &str) -> Result<Claimed, Fault>;

    /// Settlement begins: `open` or `pending` becomes `pending`. Written before anything is sent, so that a caller
    /// that goes away leaves a payment that the same request can take up.
    ///
    /// # Errors
    /// The store failed, or the lock holds the key no longer.
    async fn pend(&self, lock: &GrantLock) -> Result<(), Fault>;

    /// The answer is given: `pending` becomes `granted`.
    ///
    /// # Errors
    /// The store failed, or the lock holds the key no longer.
    async fn grant(&self, lock: &GrantLock) -> Result<(), Fault>;

    /// Settlement failed for good: the key is free.
    ///
    /// # Errors
    /// The store failed, or the lock holds the key no longer.
    async fn free(&self, lock: &GrantLock) -> Result<(), Fault>;

    /// Lets go of the key: `open` becomes free, `pending` stays for the same request, `granted` stays.
    ///
    /// Called from `Drop`: it must not block. A store that cannot do it at once puts it in a queue.
    fn release(&self, lock: &GrantLock);
}

/// Grants in memory: for one process, gone with it.
///
/// A key is kept for an hour after its settlement began, by default. That is enough where the facilitator refuses
/// spent payments and marks replayed answers; a store on disk needs neither.
#[derive(Debug)]
pub struct MemoryGrants {
    rows: Mutex<Rows>,
    capacity: usize,
    keep: Duration,
}

#[derive(Debug, Default)]
struct Rows {
    by_key: HashMap<PaymentKey, Row>,
    /// When settlement began, by whom, of what: the oldest first.
    begun: VecDeque<(Instant, u64, PaymentKey)>,
    holders: u64,
}

#[derive(Debug)]
struct Row {
    state: GrantState,
    request: Box<str>,
    holder: Option<u64>,
    /// Who began its settlement.
    began: Option<u64>,
}

impl Default for MemoryGrants {
    fn default() -> Self {
        Self::new(1_000_000, Duration::from_hours(1))
    }
}

impl MemoryGrants {
    /// At most `capacity` keys; one whose settlement began is kept for `keep`. Where no more fit, claims fail:
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
