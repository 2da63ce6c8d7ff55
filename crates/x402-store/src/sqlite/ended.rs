//! The payments that have their end, in the ledger's SQLite file.

use async_trait::async_trait;
use rusqlite::{Transaction, params};
use x402_types::{Fault, UnixSeconds};

use super::Database;
use super::ledger::{from_row, natural, number};
use crate::ended::{EndedPayment, EndedPayments};

/// The payments that have their end, in the ledger's SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteEnded(Database);

impl SqliteEnded {
    /// Creates the store in this file.
    #[must_use]
    pub const fn new(database: Database) -> Self {
        Self(database)
    }
}

type Sql<T> = Result<T, rusqlite::Error>;

fn take(transaction: &Transaction<'_>, now: i64, until: i64, limit: usize) -> Sql<Vec<EndedPayment>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let found: Vec<(i64, i64, String)> = transaction
        .prepare_cached("SELECT seq, tries + 1, row FROM ended WHERE due <= ?1 ORDER BY due, seq LIMIT ?2")?
        .query_map([now, limit], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Sql<_>>()?;
    let mut taken = Vec::new();
    for (seq, tries, row) in found {
        transaction
            .prepare_cached("UPDATE ended SET due = ?2, tries = ?3 WHERE seq = ?1")?
            .execute(params![seq, until, tries])?;
        taken.push(EndedPayment::new(natural(seq), natural(tries), from_row(&row)?));
    }
    Ok(taken)
}

#[async_trait]
impl EndedPayments for SqliteEnded {
    async fn set_noting(&self, noting: bool) -> Result<(), Fault> {
        let sql =
            if noting { "INSERT OR IGNORE INTO ended_switch (noting) VALUES (1)" } else { "DELETE FROM ended_switch" };
        self.0.write(move |transaction| Ok(transaction.execute(sql, []).map(drop)?)).await
    }

    async fn take(&self, now: UnixSeconds, until: UnixSeconds, limit: usize) -> Result<Vec<EndedPayment>, Fault> {
        let (now, until) = (number(now.0), number(until.0));
        // An idle look writes nothing.
        const DUE: &str = "SELECT 1 FROM ended WHERE due <= ?1";
        if !self.0.read(move |connection| connection.prepare_cached(DUE)?.exists([now])).await? {
            return Ok(Vec::new());
        }
        self.0.write(move |transaction| Ok(take(transaction, now, until, limit)?)).await
    }

    async fn postpone(&self, seq: u64, due: UnixSeconds) -> Result<(), Fault> {
        const SQL: &str = "UPDATE ended SET due = ?2 WHERE seq = ?1";
        let values = [number(seq), number(due.0)];
        self.0.write(move |transaction| Ok(transaction.prepare_cached(SQL)?.execute(values).map(drop)?)).await
    }

    async fn remove(&self, seq: u64) -> Result<(), Fault> {
        const SQL: &str = "DELETE FROM ended WHERE seq = ?1";
        self.0.write(move |transaction| Ok(transaction.prepare_cached(SQL)?.execute([number(seq)]).map(drop)?)).await
    }

    async fn waiting(&self) -> Result<u64, Fault> {
        let count = |connection: &rusqlite::Connection| {
            connection.prepare_cached("SELECT count(*) FROM ended")?.query_row([], |row| row.get(0).map(natural))
        };
        self.0.read(count).await
    }
}
