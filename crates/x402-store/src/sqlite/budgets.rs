//! Budgets in the ledger's SQLite file.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use x402_types::{AtomicAmount, Fault, PaymentKey, U256};

use super::{Database, WriteError};
use crate::budgets::{BudgetCharge, Budgets, FORGET, KEPT_DAYS, Measure, NoRoom, NotCounted, counted};

/// Budgets in the ledger's SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteBudgets(Database);

impl SqliteBudgets {
    /// Creates the store in this file.
    #[must_use]
    pub const fn new(database: Database) -> Self {
        Self(database)
    }
}

type Sql<T> = Result<T, rusqlite::Error>;

fn number(day: u64) -> i64 {
    i64::try_from(day).unwrap_or(i64::MAX)
}

fn amount(text: &str) -> Sql<AtomicAmount> {
    text.parse()
        .map_err(|_| rusqlite::Error::InvalidColumnType(0, "a stored amount".to_owned(), rusqlite::types::Type::Text))
}

fn used(connection: &Connection, day: i64, rule: &str, of: &str) -> Sql<AtomicAmount> {
    let text: Option<String> = connection
        .prepare_cached("SELECT used FROM budget_lines WHERE day = ?1 AND rule = ?2 AND of = ?3")?
        .query_row(params![day, rule, of], |row| row.get(0))
        .optional()?;
    text.as_deref().map_or(Ok(AtomicAmount::ZERO), amount)
}

fn set_used(transaction: &Transaction<'_>, day: i64, rule: &str, of: &str, used: U256) -> Sql<()> {
    transaction
        .prepare_cached(
            "INSERT INTO budget_lines (day, rule, of, used) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (day, rule, of) DO UPDATE SET used = ?4",
        )?
        .execute(params![day, rule, of, AtomicAmount::from(used).to_string()])
        .map(drop)
}

fn forget(transaction: &Transaction<'_>, before: i64) -> Sql<()> {
    transaction.prepare_cached("DELETE FROM budget_lines WHERE day < ?1")?.execute([before])?;
    transaction
        .prepare_cached(
            "DELETE FROM budget_charges WHERE rowid IN (SELECT rowid FROM budget_charges WHERE day < ?1 LIMIT ?2)",
        )?
        .execute([before, FORGET])
        .map(drop)
}

fn count(transaction: &Transaction<'_>, charge: &BudgetCharge) -> Result<(), WriteError<NotCounted>> {
    let (payment, day) = (charge.payment.as_bytes(), number(charge.day));
    if transaction.prepare_cached("SELECT 1 FROM budget_charges WHERE payment = ?1")?.exists([payment])? {
        return Ok(());
    }
    forget(transaction, number(charge.day.saturating_sub(KEPT_DAYS)))?;
    for line in &charge.lines {
        let (used, most) = (used(transaction, day, &line.rule, &line.of)?.value(), line.most.value());
        let sum = used.checked_add(line.amount.value()).filter(|sum| *sum <= most);
        let Some(sum) = sum else {
            let left = AtomicAmount::from(most.saturating_sub(used));
            return Err(WriteError::Refused(NotCounted::Over(NoRoom { rule: line.rule.clone(), left })));
        };
        set_used(transaction, day, &line.rule, &line.of, sum)?;
        transaction
            .prepare_cached(
                "INSERT INTO budget_charges (payment, rule, of, day, measure, amount) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![payment, line.rule, line.of, day, line.measure.as_str(), line.amount.to_string()])?;
    }
    Ok(())
}

fn correct(transaction: &Transaction<'_>, payment: &PaymentKey, measure: Measure, new: AtomicAmount) -> Sql<()> {
    let (payment, measure) = (payment.as_bytes(), measure.as_str());
    let lines: Vec<(String, String, i64, String)> = transaction
        .prepare_cached("SELECT rule, of, day, amount FROM budget_charges WHERE payment = ?1 AND measure = ?2")?
        .query_map(params![payment, measure], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
        .collect::<Sql<_>>()?;
    for (rule, of, day, old) in lines {
        let used = used(transaction, day, &rule, &of)?.value();
        let used = used.saturating_sub(amount(&old)?.value()).saturating_add(new.value());
        set_used(transaction, day, &rule, &of, used)?;
    }
    transaction
        .prepare_cached("UPDATE budget_charges SET amount = ?3 WHERE payment = ?1 AND measure = ?2")?
        .execute(params![payment, measure, new.to_string()])
        .map(drop)
}

#[async_trait]
impl Budgets for SqliteBudgets {
    async fn count(&self, charge: BudgetCharge) -> Result<Result<(), NoRoom>, Fault> {
        counted(self.0.write(move |transaction| count(transaction, &charge)).await)
    }

    async fn correct(&self, payment: &PaymentKey, measure: Measure, amount: AtomicAmount) -> Result<(), Fault> {
        let payment = payment.clone();
        self.0.write(move |transaction| Ok(correct(transaction, &payment, measure, amount)?)).await
    }

    async fn used(&self, day: u64, rule: &str, of: &str) -> Result<AtomicAmount, Fault> {
        let (rule, of) = (rule.to_owned(), of.to_owned());
        self.0.read(move |connection| used(connection, number(day), &rule, &of)).await
    }

    async fn greatest(&self, day: u64, rule: &str, limit: usize) -> Result<Vec<(String, AtomicAmount)>, Fault> {
        // A longer number without leading zeros is greater.
        const SQL: &str = "SELECT of, used FROM budget_lines WHERE day = ?1 AND rule = ?2
                           ORDER BY length(used) DESC, used DESC, of LIMIT ?3";
        let (rule, limit) = (rule.to_owned(), i64::try_from(limit).unwrap_or(i64::MAX));
        self.0
            .read(move |connection| {
                let mut statement = connection.prepare_cached(SQL)?;
                let rows = statement.query_map(params![number(day), rule, limit], |row| {
                    Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
                })?;
                rows.map(|row| row.and_then(|(of, text)| Ok((of, amount(&text)?)))).collect()
            })
            .await
    }
}
