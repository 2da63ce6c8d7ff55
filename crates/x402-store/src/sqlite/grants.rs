//! The payments that a resource server has granted, in the ledger's SQLite file: `x402_http::server::Grants`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};
use x402_http::server::{Claimed, GrantLock, GrantState, Grants, Standing};
use x402_types::{Fault, PaymentKey};

use super::{Database, WriteError};

/// Grants in a SQLite file. Rows are kept permanently: a granted payment is never granted again.
///
/// `open` exists only in memory: nothing was sent for it, so a restart frees it. The same is true of the hold on a key.
#[derive(Debug, Clone)]
pub struct SqliteGrants {
    database: Database,
    held: Arc<Mutex<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    last: u64,
    /// The holder of each key, and the request for which it holds the key.
    keys: HashMap<PaymentKey, (u64, String)>,
}

impl SqliteGrants {
    /// Creates the store in this file.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database, held: Arc::default() }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // A number and a map entry are complete at every point at which a panic could occur, so a poisoned lock is
        // harmless.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn row(&self, key: &PaymentKey) -> Result<Option<(GrantState, String)>, Fault> {
        let key = key.clone();
        self.database.read(move |connection| row(connection, &key)).await
    }

    fn request(&self, lock: &GrantLock) -> Result<String, Fault> {
        match self.held().keys.get(&lock.key) {
            Some((holder, request)) if *holder == lock.holder => Ok(request.clone()),
            _ => Err(Fault::store("the payment is held by another request")),
        }
    }

    /// Writes the state, if the current state allows the transition.
    async fn put(&self, lock: &GrantLock, state: GrantState) -> Result<(), Fault> {
        let (key, request) = (lock.key.clone(), self.request(lock)?);
        self.database
            .write(move |transaction| {
                let changed = transaction
                    .prepare_cached(
                        "INSERT INTO grants (key, state, request) VALUES (?1, ?2, ?3)
                         ON CONFLICT (key) DO UPDATE SET state = ?2 WHERE state = 'pending' AND request = ?3",
                    )?
                    .execute(params![key.as_bytes(), name(state), request])?;
                if changed == 1 {
                    Ok(())
                } else {
                    Err(WriteError::Refused(Fault::store("the payment was granted before")))
                }
            })
            .await
    }
}

const fn name(state: GrantState) -> &'static str {
    match state {
        GrantState::Open => "open",
        GrantState::Pending => "pending",
        GrantState::Granted => "granted",
    }
}

fn row(connection: &Connection, key: &PaymentKey) -> Result<Option<(GrantState, String)>, rusqlite::Error> {
    connection
        .prepare_cached("SELECT state, request FROM grants WHERE key = ?1")?
        .query_row([key.as_bytes()], |row| {
            let state = if row.get::<_, String>(0)? == "pending" { GrantState::Pending } else { GrantState::Granted };
            Ok((state, row.get(1)?))
        })
        .optional()
}

#[async_trait]
impl Grants for SqliteGrants {
    async fn look(&self, key: &PaymentKey) -> Result<Option<Standing>, Fault> {
        let row = self.row(key).await?;
        let held = self.held().keys.get(key).map(|(_, request)| request.clone());
        Ok(match (row, held) {
            (Some((state, request)), held) => Some(Standing { state, request, held: held.is_some() }),
            (None, Some(request)) => Some(Standing { state: GrantState::Open, request, held: true }),
            (None, None) => None,
        })
    }

    async fn claim(&self, key: &PaymentKey, request: &str) -> Result<Claimed, Fault> {
        // The key is held before the look-up, so that no other request can come between look-up and claim.
        let lock = {
            let mut held = self.held();
            if held.keys.contains_key(key) {
                return Ok(Claimed::Taken);
            }
            held.last = held.last.wrapping_add(1);
            let holder = held.last;
            held.keys.insert(key.clone(), (holder, request.to_owned()));
            GrantLock { key: key.clone(), holder }
        };
        let hold = Hold { grants: self, lock: Some(lock) };
        match self.row(key).await? {
            None => Ok(hold.keep().map_or(Claimed::Taken, Claimed::Open)),
            Some((GrantState::Pending, of)) if of == request => {
                Ok(hold.keep().map_or(Claimed::Taken, Claimed::Pending))
            }
            Some(_) => Ok(Claimed::Taken),
        }
    }

    async fn pend(&self, lock: &GrantLock) -> Result<(), Fault> {
        self.put(lock, GrantState::Pending).await
    }

    async fn grant(&self, lock: &GrantLock) -> Result<(), Fault> {
        self.put(lock, GrantState::Granted).await?;
        self.release(lock);
        Ok(())
    }

    async fn free(&self, lock: &GrantLock) -> Result<(), Fault> {
        let (key, request) = (lock.key.clone(), self.request(lock)?);
        self.database
            .write(move |transaction| {
                transaction
                    .prepare_cached("DELETE FROM grants WHERE key = ?1 AND state = 'pending' AND request = ?2")?
                    .execute(params![key.as_bytes(), request])?;
                Ok::<_, WriteError<Fault>>(())
            })
            .await?;
        self.release(lock);
        Ok(())
    }

    fn release(&self, lock: &GrantLock) {
        let mut held = self.held();
        if held.keys.get(&lock.key).is_some_and(|(holder, _)| *holder == lock.holder) {
            held.keys.remove(&lock.key);
        }
    }
}

/// A hold that is released unless it is kept, since the caller may disappear during the store's operation.
struct Hold<'a> {
    grants: &'a SqliteGrants,
    lock: Option<GrantLock>,
}

impl Hold<'_> {
    fn keep(mut self) -> Option<GrantLock> {
        self.lock.take()
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        if let Some(lock) = self.lock.take() {
            self.grants.release(&lock);
        }
    }
}
