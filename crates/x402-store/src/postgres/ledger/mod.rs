//! The ledger on PostgreSQL: `x402_facilitator_core::Ledger` row by row.

mod commit;
mod forget;
mod lease;

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use deadpool_postgres::ClientWrapper;
use futures_util::future::try_join3;
use tokio_postgres::Row;
use x402_facilitator_core::{
    CommitError, LaneId, LaneView, Lease, Ledger, OwnerId, Payment, Slot, SlotId, StepState, Write,
};
use x402_types::{Fault, PaymentKey, UnixSeconds};

use super::connect::Postgres;
use super::failure::Abort;
use super::run::{Kind, execute, query};
use super::{natural, number};
use crate::answered::ReadAnswered;
use crate::row::{self, after};

/// The settlement ledger in a PostgreSQL database, for one or more processes. Leases use the database's clock.
#[derive(Debug, Clone)]
pub struct PostgresLedger {
    database: Postgres,
}

/// The result of work that nothing but the database can refuse.
type Sql<T> = Result<T, Abort<Fault>>;

impl PostgresLedger {
    /// Creates the ledger in this database.
    #[must_use]
    pub const fn new(database: Postgres) -> Self {
        Self { database }
    }

    /// Returns the lanes that have unfinished work.
    /// # Errors
    /// The store failed.
    pub async fn open_lanes(&self) -> Result<Vec<LaneId>, Fault> {
        const SQL: &str = "SELECT lane FROM x402_payments WHERE due IS NOT NULL
                           UNION SELECT lane FROM x402_slots WHERE NOT used ORDER BY lane";
        let lanes = self.rows(SQL).await?;
        lanes.iter().map(|row| Ok(LaneId::from(row.try_get::<_, &str>(0).map_err(Fault::store)?))).collect()
    }

    async fn rows(&self, sql: &'static str) -> Result<Vec<Row>, Fault> {
        let kind = Kind::Single { writes: false };
        self.database.run(kind, |client| Box::pin(async move { Ok(query(client, sql, &[]).await?) })).await
    }
}

/// Parses the row in a column.
fn parsed<T: row::Row>(row: &Row, column: usize) -> Sql<T> {
    row::from_text(row.try_get(column)?).map_err(|error| Abort::Refused(Fault::store(error)))
}

fn all_parsed<T: row::Row>(rows: &[Row]) -> Sql<Vec<T>> {
    rows.iter().map(|row| parsed(row, 0)).collect()
}

fn text<T: row::Row>(value: &T) -> Result<String, Fault> {
    row::to_text(value).map_err(Fault::store)
}

/// Returns the column `due` of a payment.
fn due(payment: &Payment) -> Option<i64> {
    payment.answer.is_none().then(|| number(payment.due.0))
}

fn is_ready(payment: &Payment) -> bool {
    payment.answer.is_none() && payment.steps.last().is_some_and(|step| step.state == StepState::Ready)
}

async fn stored_payment(client: &ClientWrapper, key: &PaymentKey) -> Sql<Option<Payment>> {
    let rows = query(client, "SELECT row FROM x402_payments WHERE key = $1", &[&key.as_bytes()]).await?;
    rows.first().map(|row| parsed(row, 0)).transpose()
}

/// Inserts a claim, or reads the row that is there.
async fn claim(client: &ClientWrapper, new: &Payment, row: &str) -> Sql<Option<Payment>> {
    let (key, lane, due) = (new.key.as_bytes(), new.lane.as_str(), due(new));
    let inserted = execute(
        client,
        "INSERT INTO x402_payments (key, lane, version, due, ready, keep_until, row)
         VALUES ($1, $2, 1, $3, $4, $5, $6) ON CONFLICT (key) DO NOTHING",
        &[&key, &lane, &due, &is_ready(new), &number(new.keep_until.0), &row],
    )
    .await?;
    if inserted == 1 {
        return Ok(None);
    }
    // The row may have been forgotten in between: then the claim is tried again.
    stored_payment(client, &new.key).await?.map(Some).ok_or(Abort::Unstable)
}

async fn view(client: &ClientWrapper, lane: &LaneId, most: i64) -> Sql<LaneView> {
    const READY: &str = "SELECT row FROM x402_payments WHERE lane = $1 AND ready ORDER BY due, key LIMIT $2";
    let lane = lane.as_str();
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&lane];
    let limited: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&lane, &most];
    let (next, open, ready) = try_join3(
        query(client, "SELECT next FROM x402_nonces WHERE lane = $1", &values),
        query(client, "SELECT row FROM x402_slots WHERE lane = $1 AND NOT used ORDER BY nonce", &values),
        query(client, READY, &limited),
    )
    .await?;
    let next = next.first().map(|row| row.try_get(0)).transpose()?.map_or(0, natural);
    Ok(LaneView { next, open: all_parsed(&open)?, ready: all_parsed(&ready)? })
}

async fn slots(client: &ClientWrapper, ids: &[SlotId]) -> Sql<Vec<Slot>> {
    let lanes: Vec<&str> = ids.iter().map(|id| id.lane.as_str()).collect();
    let nonces: Vec<i64> = ids.iter().map(|id| number(id.nonce)).collect();
    let rows = query(
        client,
        "SELECT row FROM x402_slots WHERE (lane, nonce) IN (SELECT * FROM unnest($1::text[], $2::bigint[]))",
        &[&lanes, &nonces],
    )
    .await?;
    let found: Vec<Slot> = all_parsed(&rows)?;
    let found: HashMap<SlotId, Slot> = found.into_iter().map(|slot| (slot.id.clone(), slot)).collect();
    Ok(ids.iter().filter_map(|id| found.get(id).cloned()).collect())
}

#[async_trait]
impl ReadAnswered for PostgresLedger {
    async fn answered(&self, after: &[u8], limit: usize) -> Result<Vec<Payment>, Fault> {
        const SQL: &str = "SELECT row FROM x402_payments WHERE due IS NULL AND key > $1 ORDER BY key LIMIT $2";
        let shared = Arc::new((after.to_vec(), i64::try_from(limit).unwrap_or(i64::MAX)));
        let kind = Kind::Single { writes: false };
        self.database
            .run(kind, |client| {
                let shared = Arc::clone(&shared);
                Box::pin(async move { all_parsed(&query(client, SQL, &[&shared.0, &shared.1]).await?) })
            })
            .await
    }
}

#[async_trait]
impl Ledger for PostgresLedger {
    async fn claim(&self, new: Payment) -> Result<Payment, Fault> {
        let mut new = new;
        new.version = 1;
        let shared = Arc::new((text(&new)?, new.clone()));
        let stored = self
            .database
            .run(Kind::Single { writes: true }, |client| {
                let shared = Arc::clone(&shared);
                Box::pin(async move { claim(client, &shared.1, &shared.0).await })
            })
            .await?;
        Ok(stored.unwrap_or(new))
    }

    async fn read(&self, key: &PaymentKey) -> Result<Option<Payment>, Fault> {
        self.database
            .run(Kind::Single { writes: false }, |client| {
                let key = key.clone();
                Box::pin(async move { stored_payment(client, &key).await })
            })
            .await
    }

    async fn payments(&self, keys: &[PaymentKey]) -> Result<Vec<Payment>, Fault> {
        const SQL: &str = "SELECT row FROM x402_payments WHERE key IN (SELECT unnest($1::bytea[]))";
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let shared: Arc<[PaymentKey]> = keys.into();
        let kind = Kind::Single { writes: false };
        let found: Vec<Payment> = self
            .database
            .run(kind, |client| {
                let keys = Arc::clone(&shared);
                Box::pin(async move {
                    let keys: Vec<&[u8]> = keys.iter().map(PaymentKey::as_bytes).collect();
                    all_parsed(&query(client, SQL, &[&keys]).await?)
                })
            })
            .await?;
        let found: HashMap<PaymentKey, Payment> =
            found.into_iter().map(|payment| (payment.key.clone(), payment)).collect();
        Ok(keys.iter().filter_map(|key| found.get(key).cloned()).collect())
    }

    async fn unanswered(&self, prefix: &[u8]) -> Result<Vec<Arc<Payment>>, Fault> {
        const FROM: &str = "SELECT row FROM x402_payments WHERE due IS NOT NULL AND key >= $1 ORDER BY key";
        const WITHIN: &str =
            "SELECT row FROM x402_payments WHERE due IS NOT NULL AND key >= $1 AND key < $2 ORDER BY key";
        let shared = Arc::new((prefix.to_vec(), after(prefix)));
        let kind = Kind::Single { writes: false };
        self.database
            .run(kind, |client| {
                let shared = Arc::clone(&shared);
                Box::pin(async move {
                    let (prefix, after) = &*shared;
                    let rows = match after {
                        None => query(client, FROM, &[prefix]).await?,
                        Some(after) => query(client, WITHIN, &[prefix, after]).await?,
                    };
                    rows.iter().map(|row| parsed(row, 0).map(Arc::new)).collect()
                })
            })
            .await
    }

    async fn slots(&self, ids: &[SlotId]) -> Result<Vec<Slot>, Fault> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Arc<[SlotId]> = ids.into();
        let kind = Kind::Single { writes: false };
        self.database
            .run(kind, |client| {
                let ids = Arc::clone(&ids);
                Box::pin(async move { slots(client, &ids).await })
            })
            .await
    }

    async fn lease(&self, lane: &LaneId, owner: &OwnerId, seconds: u64) -> Result<Option<Lease>, Fault> {
        lease::lease(&self.database, lane, owner, seconds).await
    }

    async fn due(&self, lane: &LaneId, now: UnixSeconds, limit: usize) -> Result<Vec<PaymentKey>, Fault> {
        const SQL: &str = "SELECT key FROM x402_payments WHERE lane = $1 AND due <= $2 ORDER BY due, key LIMIT $3";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let kind = Kind::Single { writes: false };
        self.database
            .run(kind, |client| {
                let lane = lane.clone();
                Box::pin(async move {
                    let rows = query(client, SQL, &[&lane.as_str(), &number(now.0), &limit]).await?;
                    rows.iter().map(|row| Ok(PaymentKey::from_bytes(row.try_get(0)?))).collect()
                })
            })
            .await
    }

    async fn lane(&self, lane: &LaneId, ready: usize) -> Result<LaneView, Fault> {
        let most = i64::try_from(ready).unwrap_or(i64::MAX);
        self.database
            .run(Kind::Snapshot, |client| {
                let lane = lane.clone();
                Box::pin(async move { view(client, &lane, most).await })
            })
            .await
    }

    async fn commit(&self, write: Write) -> Result<(), CommitError> {
        commit::commit(&self.database, write).await
    }

    async fn forget(&self, now: UnixSeconds, limit: usize) -> Result<usize, Fault> {
        forget::forget(&self.database, now, limit).await
    }
}
