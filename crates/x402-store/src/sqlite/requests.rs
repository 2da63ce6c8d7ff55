//! The state that `/verify` keeps of a request for `/settle`, in the ledger's SQLite file.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use x402_types::{Fault, UnixSeconds};

use super::Database;
use crate::requests::{Remembered, Requests};

/// Requests in the ledger's SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteRequests(Database);

impl SqliteRequests {
    /// Creates the store in this file.
    #[must_use]
    pub const fn new(database: Database) -> Self {
        Self(database)
    }
}

fn row(connection: &Connection, caller: &str, id: &str) -> Result<Option<Remembered>, rusqlite::Error> {
    let bad = |column| rusqlite::Error::InvalidColumnType(column, String::new(), rusqlite::types::Type::Text);
    connection
        .prepare_cached("SELECT digest, max_amount, expires FROM requests WHERE caller = ?1 AND id = ?2")?
        .query_row([caller, id], |row| {
            let digest: [u8; 32] = row.get(0)?;
            let amount: String = row.get(1)?;
            Ok(Remembered {
                id: id.to_owned(),
                caller: caller.to_owned(),
                digest,
                max_amount: amount.parse().map_err(|_| bad(1))?,
                expires: UnixSeconds(u64::try_from(row.get::<_, i64>(2)?).map_err(|_| bad(2))?),
            })
        })
        .optional()
}

fn put(transaction: &Transaction<'_>, request: Remembered, now: UnixSeconds) -> Result<Remembered, rusqlite::Error> {
    let seconds = |time: UnixSeconds| i64::try_from(time.0).unwrap_or(i64::MAX);
    transaction.prepare_cached("DELETE FROM requests WHERE expires < ?1")?.execute([seconds(now)])?;
    if let Some(known) = row(transaction, &request.caller, &request.id)? {
        return Ok(known);
    }
    transaction
        .prepare_cached("INSERT INTO requests (caller, id, digest, max_amount, expires) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![
            request.caller,
            request.id,
            request.digest,
            request.max_amount.to_string(),
            seconds(request.expires)
        ])?;
    Ok(request)
}

#[async_trait]
impl Requests for SqliteRequests {
    async fn put(&self, request: Remembered, now: UnixSeconds) -> Result<Remembered, Fault> {
        self.0.write(move |transaction| Ok(put(transaction, request, now)?)).await
    }

    async fn read(&self, caller: &str, id: &str) -> Result<Option<Remembered>, Fault> {
        let (caller, id) = (caller.to_owned(), id.to_owned());
        self.0.read(move |connection| row(connection, &caller, &id)).await
    }
}
