//! The answers that a seller gave to named requests, in the file of its grants: `x402_http::server::KeepAnswers`.

use async_trait::async_trait;
use rusqlite::{OptionalExtension, params};
use x402_http::server::KeepAnswers;
use x402_types::{Fault, UnixSeconds};

use super::{Database, WriteError};
use crate::kept_answers::{FORGET, oldest};

/// Kept answers in a SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteKeptAnswers(Database);

impl SqliteKeptAnswers {
    /// Creates the store in this file.
    #[must_use]
    pub const fn new(database: Database) -> Self {
        Self(database)
    }
}

#[async_trait]
impl KeepAnswers for SqliteKeptAnswers {
    async fn keep(&self, request: &str, answer: Vec<u8>, now: UnixSeconds) -> Result<(), Fault> {
        let request = request.to_owned();
        self.0
            .write(move |transaction| {
                transaction
                    .prepare_cached(
                        "DELETE FROM kept_answers WHERE request IN
                           (SELECT request FROM kept_answers WHERE kept < ?1 ORDER BY kept LIMIT ?2)",
                    )?
                    .execute(params![oldest(now), FORGET])?;
                transaction
                    .prepare_cached(
                        "INSERT INTO kept_answers (request, answer, kept) VALUES (?1, ?2, ?3)
                         ON CONFLICT (request) DO UPDATE SET answer = ?2, kept = ?3",
                    )?
                    .execute(params![request, answer, i64::try_from(now.0).unwrap_or(i64::MAX)])?;
                Ok::<_, WriteError<Fault>>(())
            })
            .await
    }

    async fn kept(&self, request: &str) -> Result<Option<Vec<u8>>, Fault> {
        let request = request.to_owned();
        self.0
            .read(move |connection| {
                connection
                    .prepare_cached("SELECT answer FROM kept_answers WHERE request = ?1")?
                    .query_row([request], |row| row.get(0))
                    .optional()
            })
            .await
    }
}
