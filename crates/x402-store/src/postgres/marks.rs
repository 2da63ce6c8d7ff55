//! The mark of the ledger in a PostgreSQL database, and its quarantine.

use async_trait::async_trait;
use deadpool_postgres::ClientWrapper;
use tokio_postgres::Row;
use x402_types::{Fault, UnixSeconds};

use super::connect::{Postgres, origin};
use super::failure::Abort;
use super::run::{Kind, execute, query};
use super::{natural, number};
use crate::marks::{FoundMark, KeepMark, Mark, Quarantine};

/// The mark of the ledger in a PostgreSQL database.
#[derive(Debug, Clone)]
pub struct PostgresMarks(Postgres);

impl PostgresMarks {
    /// Creates the access to the mark in this database.
    #[must_use]
    pub const fn new(database: Postgres) -> Self {
        Self(database)
    }
}

type Sql<T> = Result<T, Abort<Fault>>;

async fn found(client: &ClientWrapper) -> Sql<Option<FoundMark>> {
    let rows = query(client, "SELECT ledger, count, origin FROM x402_marks", &[]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let (before, now): (Option<String>, _) = (row.try_get(2)?, origin(client).await?);
    let moved = matches!((before, now), (Some(before), Some(now)) if before != now);
    Ok(Some(FoundMark { mark: mark(row)?, moved }))
}

fn mark(row: &Row) -> Result<Mark, tokio_postgres::Error> {
    Ok(Mark { ledger: row.try_get(0)?, count: natural(row.try_get(1)?) })
}

fn quarantine(rows: &[Row]) -> Sql<Option<Quarantine>> {
    let read = |row: &Row| {
        Ok::<_, tokio_postgres::Error>(Quarantine {
            since: UnixSeconds(natural(row.try_get(0)?)),
            why: row.try_get(1)?,
        })
    };
    Ok(rows.first().map(read).transpose()?)
}

#[async_trait]
impl KeepMark for PostgresMarks {
    async fn mark(&self) -> Result<Option<FoundMark>, Fault> {
        self.0.run(Kind::Single { writes: false }, |client| Box::pin(found(client))).await
    }

    async fn raise(&self, name: &str) -> Result<Mark, Fault> {
        const SQL: &str = "INSERT INTO x402_marks (one, ledger, count, origin) VALUES (1, $1, 1, $2)
             ON CONFLICT (one) DO UPDATE SET count = x402_marks.count + 1, origin = EXCLUDED.origin
             RETURNING ledger, count";
        self.0
            .run(Kind::Single { writes: true }, |client| {
                let name = name.to_owned();
                Box::pin(async move {
                    let rows = query(client, SQL, &[&name, &origin(client).await?]).await?;
                    let row = rows.first().ok_or_else(|| Abort::Refused(Fault::store("a mark was not returned")))?;
                    Ok(mark(row)?)
                })
            })
            .await
    }

    async fn quarantine(&self, new: Quarantine) -> Result<(), Fault> {
        const SQL: &str =
            "INSERT INTO x402_quarantines (one, since, why) VALUES (1, $1, $2) ON CONFLICT (one) DO NOTHING";
        self.0
            .run(Kind::Single { writes: true }, |client| {
                let new = new.clone();
                Box::pin(async move { Ok(execute(client, SQL, &[&number(new.since.0), &new.why]).await.map(drop)?) })
            })
            .await
    }

    async fn quarantined(&self) -> Result<Option<Quarantine>, Fault> {
        let sql = "SELECT since, why FROM x402_quarantines";
        self.0
            .run(Kind::Single { writes: false }, |client| {
                Box::pin(async move { quarantine(&query(client, sql, &[]).await?) })
            })
            .await
    }

    async fn release(&self) -> Result<Option<Quarantine>, Fault> {
        let sql = "DELETE FROM x402_quarantines RETURNING since, why";
        self.0
            .run(Kind::Single { writes: true }, |client| {
                Box::pin(async move { quarantine(&query(client, sql, &[]).await?) })
            })
            .await
    }
}
