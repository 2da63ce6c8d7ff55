//! The payments that have their end, in a PostgreSQL database: each is taken by one process at a time.

use async_trait::async_trait;
use x402_types::{Fault, UnixSeconds};

use super::connect::Postgres;
use super::failure::Abort;
use super::run::{Kind, execute, query};
use super::{natural, number};
use crate::ended::{EndedPayment, EndedPayments};
use crate::row;

/// The payments that have their end, in a PostgreSQL database.
#[derive(Debug, Clone)]
pub struct PostgresEnded(Postgres);

impl PostgresEnded {
    /// Creates the store in this database.
    #[must_use]
    pub const fn new(database: Postgres) -> Self {
        Self(database)
    }

    async fn change(&self, sql: &'static str, values: Vec<i64>) -> Result<(), Fault> {
        self.0
            .run(Kind::Single { writes: true }, |client| {
                let values = values.clone();
                Box::pin(async move {
                    let values: Vec<_> =
                        values.iter().map(|it| it as &(dyn tokio_postgres::types::ToSql + Sync)).collect();
                    execute(client, sql, &values).await?;
                    Ok(())
                })
            })
            .await
    }
}

#[async_trait]
impl EndedPayments for PostgresEnded {
    async fn set_noting(&self, noting: bool) -> Result<(), Fault> {
        const ON: &str = "INSERT INTO x402_ended_switch (noting) VALUES (1) ON CONFLICT (noting) DO NOTHING";
        self.change(if noting { ON } else { "DELETE FROM x402_ended_switch" }, Vec::new()).await
    }

    async fn take(&self, now: UnixSeconds, until: UnixSeconds, limit: usize) -> Result<Vec<EndedPayment>, Fault> {
        const SQL: &str = "UPDATE x402_ended SET due = $2, tries = tries + 1 WHERE seq IN (
               SELECT seq FROM x402_ended WHERE due <= $1 ORDER BY due, seq LIMIT $3 FOR UPDATE SKIP LOCKED)
             RETURNING seq, tries, row";
        let values = [number(now.0), number(until.0), i64::try_from(limit).unwrap_or(i64::MAX)];
        self.0
            .run(Kind::Single { writes: false }, |client| {
                Box::pin(async move {
                    let rows = query(client, SQL, &[&values[0], &values[1], &values[2]]).await?;
                    let mut taken = Vec::new();
                    for row in &rows {
                        let payment =
                            row::from_text(row.try_get(2)?).map_err(|error| Abort::Refused(Fault::store(error)))?;
                        taken.push(EndedPayment::new(natural(row.try_get(0)?), natural(row.try_get(1)?), payment));
                    }
                    taken.sort_by_key(|ended| ended.number);
                    Ok(taken)
                })
            })
            .await
    }

    async fn postpone(&self, seq: u64, due: UnixSeconds) -> Result<(), Fault> {
        self.change("UPDATE x402_ended SET due = $2 WHERE seq = $1", vec![number(seq), number(due.0)]).await
    }

    async fn remove(&self, seq: u64) -> Result<(), Fault> {
        self.change("DELETE FROM x402_ended WHERE seq = $1", vec![number(seq)]).await
    }

    async fn waiting(&self) -> Result<u64, Fault> {
        self.0
            .run(Kind::Single { writes: false }, |client| {
                Box::pin(async move {
                    let rows = query(client, "SELECT count(*) FROM x402_ended", &[]).await?;
                    Ok(rows.first().map(|row| row.try_get(0)).transpose()?.map_or(0, natural))
                })
            })
            .await
    }
}
