//! The mark of the ledger in a SQLite file, and its quarantine.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};
use x402_types::{Fault, UnixSeconds};

use super::Database;
use crate::marks::{FoundMark, KeepMark, Mark, Quarantine};

/// The mark of the ledger in a SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteMarks(Database);

impl SqliteMarks {
    /// Creates the access to the mark in this file.
    #[must_use]
    pub const fn new(database: Database) -> Self {
        Self(database)
    }
}

type Sql<T> = Result<T, rusqlite::Error>;

fn natural(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn mark(connection: &Connection) -> Sql<Option<Mark>> {
    let sql = "SELECT ledger, count FROM mark";
    let read = |row: &rusqlite::Row<'_>| Ok(Mark { ledger: row.get(0)?, count: natural(row.get(1)?) });
    connection.query_row(sql, [], read).optional()
}

fn quarantine(connection: &Connection) -> Sql<Option<Quarantine>> {
    let sql = "SELECT since, why FROM quarantine";
    let read = |row: &rusqlite::Row<'_>| Ok(Quarantine { since: UnixSeconds(natural(row.get(0)?)), why: row.get(1)? });
    connection.query_row(sql, [], read).optional()
}

#[async_trait]
impl KeepMark for SqliteMarks {
    /// Reads the mark. A file has no place of its own: only a copy of its mark beside it shows that it is an older one.
    async fn mark(&self) -> Result<Option<FoundMark>, Fault> {
        let found = self.0.read(mark).await?;
        Ok(found.map(|mark| FoundMark { mark, moved: false }))
    }

    async fn raise(&self, name: &str) -> Result<Mark, Fault> {
        const SQL: &str = "INSERT INTO mark (one, ledger, count) VALUES (1, ?1, 1)
             ON CONFLICT (one) DO UPDATE SET count = count + 1 RETURNING ledger, count";
        let name = name.to_owned();
        self.0
            .write(move |transaction| {
                let read = |row: &rusqlite::Row<'_>| Ok(Mark { ledger: row.get(0)?, count: natural(row.get(1)?) });
                Ok(transaction.query_row(SQL, [name], read)?)
            })
            .await
    }

    async fn quarantine(&self, new: Quarantine) -> Result<(), Fault> {
        const SQL: &str = "INSERT INTO quarantine (one, since, why) VALUES (1, ?1, ?2) ON CONFLICT (one) DO NOTHING";
        let since = i64::try_from(new.since.0).unwrap_or(i64::MAX);
        self.0.write(move |transaction| Ok(transaction.execute(SQL, params![since, new.why]).map(drop)?)).await
    }

    async fn quarantined(&self) -> Result<Option<Quarantine>, Fault> {
        self.0.read(quarantine).await
    }

    async fn release(&self) -> Result<Option<Quarantine>, Fault> {
        self.0
            .write(|transaction| {
                let found = quarantine(transaction)?;
                transaction.execute("DELETE FROM quarantine", [])?;
                Ok(found)
            })
            .await
    }
}
