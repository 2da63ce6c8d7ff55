//! Budgets in a PostgreSQL database, which several processes count into.

use std::sync::Arc;

use async_trait::async_trait;
use deadpool_postgres::ClientWrapper;
use x402_types::{AtomicAmount, Fault, PaymentKey};

use super::connect::Postgres;
use super::failure::Abort;
use super::number;
use super::run::{Kind, execute, query};
use crate::budgets::{BudgetCharge, BudgetLine, Budgets, FORGET, KEPT_DAYS, Measure, NoRoom, NotCounted, counted};

/// Budgets in a PostgreSQL database.
#[derive(Debug, Clone)]
pub struct PostgresBudgets(Postgres);

impl PostgresBudgets {
    /// Creates the store in this database.
    #[must_use]
    pub const fn new(database: Postgres) -> Self {
        Self(database)
    }
}

type Sql<T, E = Fault> = Result<T, Abort<E>>;

fn amount<E: From<Fault>>(text: &str) -> Sql<AtomicAmount, E> {
    text.parse().map_err(|_| Abort::Refused(Fault::store("a stored amount is no integer").into()))
}

async fn used<E: From<Fault>>(client: &ClientWrapper, day: i64, rule: &str, of: &str) -> Sql<AtomicAmount, E> {
    let sql = "SELECT used::text FROM x402_budget_lines WHERE day = $1 AND rule = $2 AND of = $3";
    let rows = query(client, sql, &[&day, &rule, &of]).await?;
    rows.first().map_or(Ok(AtomicAmount::ZERO), |row| amount(row.try_get(0)?))
}

async fn forget(client: &ClientWrapper, before: i64) -> Sql<(), NotCounted> {
    let lines = "DELETE FROM x402_budget_lines WHERE (day, rule, of) IN (
                   SELECT day, rule, of FROM x402_budget_lines WHERE day < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)";
    let charges = "DELETE FROM x402_budget_charges WHERE (payment, rule) IN (
                     SELECT payment, rule FROM x402_budget_charges WHERE day < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)";
    execute(client, lines, &[&before, &FORGET]).await?;
    execute(client, charges, &[&before, &FORGET]).await?;
    Ok(())
}

/// Counts under one line. The row's lock and the condition are one statement's.
async fn add(client: &ClientWrapper, day: i64, line: &BudgetLine) -> Sql<(), NotCounted> {
    let (part, most) = (line.amount.to_string(), line.most.to_string());
    let added = execute(
        client,
        "INSERT INTO x402_budget_lines AS l (day, rule, of, used)
         SELECT $1::bigint, $2::text, $3::text, $4::text::numeric WHERE $4::text::numeric <= $5::text::numeric
         ON CONFLICT (day, rule, of) DO UPDATE SET used = l.used + EXCLUDED.used
         WHERE l.used + EXCLUDED.used <= $5::text::numeric",
        &[&day, &line.rule, &line.of, &part, &most],
    )
    .await?;
    if added == 1 {
        return Ok(());
    }
    let used = used::<NotCounted>(client, day, &line.rule, &line.of).await?;
    let left = AtomicAmount::from(line.most.value().saturating_sub(used.value()));
    Err(Abort::Refused(NotCounted::Over(NoRoom { rule: line.rule.clone(), left })))
}

async fn count(client: &ClientWrapper, charge: &BudgetCharge) -> Sql<(), NotCounted> {
    let (payment, day) = (charge.payment.as_bytes(), number(charge.day));
    for (place, line) in charge.lines.iter().enumerate() {
        let stored = execute(
            client,
            "INSERT INTO x402_budget_charges (payment, rule, of, day, measure, amount)
             VALUES ($1, $2, $3, $4, $5, $6::text::numeric) ON CONFLICT (payment, rule) DO NOTHING",
            &[&payment, &line.rule, &line.of, &day, &line.measure.as_str(), &line.amount.to_string()],
        )
        .await?;
        // The first row of a payment waits for another process that counts it at the same time.
        if stored == 0 && place == 0 {
            return Ok(());
        }
        if stored == 1 {
            add(client, day, line).await?;
        }
    }
    forget(client, number(charge.day.saturating_sub(KEPT_DAYS))).await
}

#[async_trait]
impl Budgets for PostgresBudgets {
    async fn count(&self, charge: BudgetCharge) -> Result<Result<(), NoRoom>, Fault> {
        let mut charge = charge;
        // Two processes lock lines in one order.
        charge.lines.sort_by(|one, other| (&one.rule, &one.of).cmp(&(&other.rule, &other.of)));
        let charge = Arc::new(charge);
        let result = self
            .0
            .run(Kind::Write, |client| {
                let charge = Arc::clone(&charge);
                Box::pin(async move { count(client, &charge).await })
            })
            .await;
        counted(result)
    }

    async fn correct(&self, payment: &PaymentKey, measure: Measure, amount: AtomicAmount) -> Result<(), Fault> {
        const SQL: &str = "WITH old AS (
               SELECT payment, rule, of, day, amount FROM x402_budget_charges
               WHERE payment = $1 AND measure = $2 ORDER BY rule FOR UPDATE),
             changed AS (
               UPDATE x402_budget_charges AS c SET amount = $3::text::numeric FROM old
               WHERE c.payment = old.payment AND c.rule = old.rule)
             UPDATE x402_budget_lines AS l SET used = GREATEST(l.used - old.amount + $3::text::numeric, 0) FROM old
             WHERE l.day = old.day AND l.rule = old.rule AND l.of = old.of";
        let shared = Arc::new((payment.as_bytes().to_vec(), amount.to_string()));
        self.0
            .run(Kind::Write, |client| {
                let shared = Arc::clone(&shared);
                Box::pin(async move {
                    execute(client, SQL, &[&shared.0, &measure.as_str(), &shared.1]).await?;
                    Ok(())
                })
            })
            .await
    }

    async fn used(&self, day: u64, rule: &str, of: &str) -> Result<AtomicAmount, Fault> {
        self.0
            .run(Kind::Single { writes: false }, |client| {
                let (rule, of) = (rule.to_owned(), of.to_owned());
                Box::pin(async move { used(client, number(day), &rule, &of).await })
            })
            .await
    }

    async fn greatest(&self, day: u64, rule: &str, limit: usize) -> Result<Vec<(String, AtomicAmount)>, Fault> {
        const SQL: &str = "SELECT of, used::text FROM x402_budget_lines AS l WHERE day = $1 AND rule = $2
                           ORDER BY l.used DESC, of LIMIT $3";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.0
            .run(Kind::Single { writes: false }, |client| {
                let rule = rule.to_owned();
                Box::pin(async move {
                    let rows = query(client, SQL, &[&number(day), &rule, &limit]).await?;
                    let line = |row: &tokio_postgres::Row| Ok((row.try_get(0)?, amount(row.try_get(1)?)?));
                    rows.iter().map(line).collect()
                })
            })
            .await
    }
}
