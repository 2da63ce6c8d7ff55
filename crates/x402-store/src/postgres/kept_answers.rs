//! The answers that a seller gave to named requests, in a PostgreSQL database: `x402_http::server::KeepAnswers`.

use std::sync::Arc;

use async_trait::async_trait;
use x402_http::server::KeepAnswers;
use x402_types::{Fault, UnixSeconds};

use super::connect::Postgres;
use super::failure::Abort;
use super::run::{Kind, execute, query};
use crate::kept_answers::{FORGET, oldest};

/// Kept answers in a PostgreSQL database.
#[derive(Debug, Clone)]
pub struct PostgresKeptAnswers(Postgres);

impl PostgresKeptAnswers {
    /// Creates the store in this database.
    #[must_use]
    pub const fn new(database: Postgres) -> Self {
        Self(database)
    }
}

#[async_trait]
impl KeepAnswers for PostgresKeptAnswers {
    async fn keep(&self, request: &str, answer: Vec<u8>, now: UnixSeconds) -> Result<(), Fault> {
        let shared = Arc::new((request.to_owned(), answer));
        let (seconds, old) = (i64::try_from(now.0).unwrap_or(i64::MAX), oldest(now));
        self.0
            .run(Kind::Write, |client| {
                let shared = Arc::clone(&shared);
                Box::pin(async move {
                    let (request, answer) = &*shared;
                    execute(
                        client,
                        "DELETE FROM x402_kept_answers WHERE request IN (
                           SELECT request FROM x402_kept_answers WHERE kept < $1 ORDER BY kept LIMIT $2
                           FOR UPDATE SKIP LOCKED)",
                        &[&old, &FORGET],
                    )
                    .await?;
                    execute(
                        client,
                        "INSERT INTO x402_kept_answers (request, answer, kept) VALUES ($1, $2, $3)
                         ON CONFLICT (request) DO UPDATE SET answer = EXCLUDED.answer, kept = EXCLUDED.kept",
                        &[request, answer, &seconds],
                    )
                    .await?;
                    Ok::<_, Abort<Fault>>(())
                })
            })
            .await
    }

    async fn kept(&self, request: &str) -> Result<Option<Vec<u8>>, Fault> {
        self.0
            .run(Kind::Single { writes: false }, |client| {
                let request = request.to_owned();
                Box::pin(async move {
                    let rows =
                        query(client, "SELECT answer FROM x402_kept_answers WHERE request = $1", &[&request]).await?;
                    Ok::<_, Abort<Fault>>(match rows.first() {
                        Some(row) => Some(row.try_get(0)?),
                        None => None,
                    })
                })
            })
            .await
    }
}
