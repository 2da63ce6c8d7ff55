//! The state that `/verify` keeps of a request for `/settle`, in a PostgreSQL database.

use std::sync::Arc;

use async_trait::async_trait;
use deadpool_postgres::ClientWrapper;
use x402_types::{Fault, UnixSeconds};

use super::connect::Postgres;
use super::failure::Abort;
use super::run::{Kind, execute, query};
use super::{natural, number};
use crate::requests::{Remembered, Requests};

/// The number of expired requests that one new request deletes.
const FORGET: i64 = 100;

/// Requests in a PostgreSQL database.
#[derive(Debug, Clone)]
pub struct PostgresRequests(Postgres);

impl PostgresRequests {
    /// Creates the store in this database.
    #[must_use]
    pub const fn new(database: Postgres) -> Self {
        Self(database)
    }
}

type Sql<T> = Result<T, Abort<Fault>>;

async fn row(client: &ClientWrapper, caller: &str, id: &str) -> Sql<Option<Remembered>> {
    let sql = "SELECT digest, max_amount, expires FROM x402_requests WHERE caller = $1 AND id = $2";
    let rows = query(client, sql, &[&caller, &id]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let bad = |column: &str| Abort::Refused(Fault::store(format_args!("a stored request has a bad {column}")));
    Ok(Some(Remembered {
        id: id.to_owned(),
        caller: caller.to_owned(),
        digest: row.try_get::<_, &[u8]>(0)?.try_into().map_err(|_| bad("digest"))?,
        max_amount: row.try_get::<_, &str>(1)?.parse().map_err(|_| bad("amount"))?,
        expires: UnixSeconds(natural(row.try_get(2)?)),
    }))
}

async fn put(client: &ClientWrapper, request: &Remembered, now: UnixSeconds) -> Sql<Option<Remembered>> {
    execute(
        client,
        "DELETE FROM x402_requests WHERE (caller, id) IN (
           SELECT caller, id FROM x402_requests WHERE expires < $1 ORDER BY expires LIMIT $2 FOR UPDATE SKIP LOCKED)",
        &[&number(now.0), &FORGET],
    )
    .await?;
    let stored = execute(
        client,
        "INSERT INTO x402_requests (caller, id, digest, max_amount, expires) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (caller, id) DO UPDATE
         SET digest = EXCLUDED.digest, max_amount = EXCLUDED.max_amount, expires = EXCLUDED.expires
         WHERE x402_requests.expires < $6",
        &[
            &request.caller,
            &request.id,
            &request.digest.as_slice(),
            &request.max_amount.to_string(),
            &number(request.expires.0),
            &number(now.0),
        ],
    )
    .await?;
    if stored == 1 {
        return Ok(None);
    }
    row(client, &request.caller, &request.id).await?.map(Some).ok_or(Abort::Unstable)
}

#[async_trait]
impl Requests for PostgresRequests {
    async fn put(&self, request: Remembered, now: UnixSeconds) -> Result<Remembered, Fault> {
        let shared = Arc::new(request.clone());
        let known = self
            .0
            .run(Kind::Write, |client| {
                let request = Arc::clone(&shared);
                Box::pin(async move { put(client, &request, now).await })
            })
            .await?;
        Ok(known.unwrap_or(request))
    }

    async fn read(&self, caller: &str, id: &str) -> Result<Option<Remembered>, Fault> {
        self.0
            .run(Kind::Single { writes: false }, |client| {
                let (caller, id) = (caller.to_owned(), id.to_owned());
                Box::pin(async move { row(client, &caller, &id).await })
            })
            .await
    }
}
