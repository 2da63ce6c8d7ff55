//! Delegations of cards, the books of credits, and the handles of cards, in the ledger's SQLite file.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use x402_card::stores::{
    Books, Card, CardCharge, Cards, ChargeEnd, ChargeResult, ChargeState, CreditMove, Delegations, MoveKind, NewCharge,
    PaymentHash,
};
use x402_card::{Cents, Delegation, DelegationId, DelegationStatus, NewDelegation, NotCounted};
use x402_types::nvm::PlanId;
use x402_types::nvm::card::Processor;
use x402_types::{Fault, UnixSeconds};

use super::{Database, WriteError};

/// The greatest balance that the books count.
const MOST: u64 = (1 << 53) - 1;

/// Delegations, books and cards in the ledger's SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteCards(Database);

impl SqliteCards {
    /// Creates the store in this file.
    #[must_use]
    pub const fn new(database: Database) -> Self {
        Self(database)
    }
}

type Read<T> = Result<T, rusqlite::Error>;

/// Returns the error of a column that no release wrote.
fn bad(column: usize) -> rusqlite::Error {
    rusqlite::Error::InvalidColumnType(column, String::new(), rusqlite::types::Type::Text)
}

fn number(row: &Row<'_>, column: usize) -> Read<u64> {
    u64::try_from(row.get::<_, i64>(column)?).map_err(|_| bad(column))
}

fn optional(row: &Row<'_>, column: usize) -> Read<Option<u64>> {
    row.get::<_, Option<i64>>(column)?.map(|number| u64::try_from(number).map_err(|_| bad(column))).transpose()
}

fn cents(row: &Row<'_>, column: usize) -> Read<Cents> {
    Cents::try_from(number(row, column)?).map_err(|_| bad(column))
}

fn parsed<T: core::str::FromStr>(row: &Row<'_>, column: usize) -> Read<T> {
    row.get::<_, String>(column)?.parse().map_err(|_| bad(column))
}

fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

const DELEGATION: &str =
    "SELECT id, owner, api_key, processor, customer, method, currency, limit_cents, max_charges, plan,
    merchant, created_at, expires_at, revoked_at, spent_cents, charges FROM card_delegations";

fn delegation(row: &Row<'_>) -> Read<Delegation> {
    let mut found = Delegation::new(NewDelegation {
        id: parsed(row, 0)?,
        owner: row.get(1)?,
        customer: row.get(4)?,
        payment_method: row.get(5)?,
        currency: parsed(row, 6)?,
        limit: cents(row, 7)?,
        created_at: UnixSeconds(number(row, 11)?),
        expires_at: UnixSeconds(number(row, 12)?),
    });
    found.api_key = row.get(2)?;
    found.processor = Processor::of_name(&row.get::<_, String>(3)?).ok_or_else(|| bad(3))?;
    found.max_charges = optional(row, 8)?;
    let plan: Option<String> = row.get(9)?;
    found.plan = plan.map(|plan| plan.parse().map_err(|_| bad(9))).transpose()?;
    found.merchant = row.get(10)?;
    found.revoked_at = optional(row, 13)?.map(UnixSeconds);
    found.spent = cents(row, 14)?;
    found.charges = number(row, 15)?;
    Ok(found)
}

fn find(connection: &Connection, id: &DelegationId) -> Read<Option<Delegation>> {
    connection.prepare_cached(&format!("{DELEGATION} WHERE id = ?1"))?.query_row([id.as_str()], delegation).optional()
}

const CHARGE: &str = "SELECT payment, delegation, cents, state, at, result, intent, refund, failure FROM card_charges";

/// Writes the state of a charge.
fn state_text(state: ChargeState) -> String {
    match state {
        ChargeState::Counted => "counted".to_owned(),
        ChargeState::Released => "released".to_owned(),
        ChargeState::Refused(NotCounted::Limit) => "refused: limit".to_owned(),
        ChargeState::Refused(NotCounted::Charges) => "refused: charges".to_owned(),
        ChargeState::Refused(NotCounted::Inactive(status)) => format!("refused: {}", status.as_str()),
    }
}

const STATUSES: [DelegationStatus; 4] =
    [DelegationStatus::Revoked, DelegationStatus::Expired, DelegationStatus::Exhausted, DelegationStatus::Active];

fn state_of(text: &str) -> Option<ChargeState> {
    let refused = STATUSES.into_iter().map(NotCounted::Inactive).chain([NotCounted::Limit, NotCounted::Charges]);
    let states = refused.map(ChargeState::Refused).chain([ChargeState::Counted, ChargeState::Released]);
    states.into_iter().find(|state| state_text(*state) == text)
}

fn charge(row: &Row<'_>) -> Read<CardCharge> {
    let new = NewCharge { payment: row.get(0)?, delegation: parsed(row, 1)?, cents: cents(row, 2)? };
    let state = state_of(&row.get::<_, String>(3)?).ok_or_else(|| bad(3))?;
    let mut found = CardCharge::new(new, state, UnixSeconds(number(row, 4)?));
    if let Some(result) = row.get::<_, Option<String>>(5)? {
        let mut end = ChargeEnd::new(ChargeResult::of_word(&result).ok_or_else(|| bad(5))?, row.get(6)?);
        end.refund = row.get(7)?;
        end.failure = row.get(8)?;
        found.end = Some(end);
    }
    Ok(found)
}

fn find_charge(connection: &Connection, payment: &PaymentHash) -> Read<Option<CardCharge>> {
    connection.prepare_cached(&format!("{CHARGE} WHERE payment = ?1"))?.query_row([payment], charge).optional()
}

fn put_counts(transaction: &Transaction<'_>, it: &Delegation) -> Read<()> {
    transaction
        .prepare_cached("UPDATE card_delegations SET spent_cents = ?2, charges = ?3 WHERE id = ?1")?
        .execute(params![it.id.as_str(), integer(it.spent.value()), integer(it.charges)])
        .map(drop)
}

fn put_end(transaction: &Transaction<'_>, payment: &PaymentHash, end: &ChargeEnd) -> Read<()> {
    transaction
        .prepare_cached(
            "UPDATE card_charges SET result = ?2, intent = ?3, refund = ?4, failure = ?5 WHERE payment = ?1",
        )?
        .execute(params![payment, end.result.as_str(), end.intent, end.refund, end.failure])
        .map(drop)
}

fn broken<T>(why: &str) -> Result<T, WriteError<Fault>> {
    Err(WriteError::Refused(Fault::broken(why)))
}

#[async_trait]
impl Delegations for SqliteCards {
    async fn create(&self, it: Delegation) -> Result<bool, Fault> {
        self.0
            .write(move |transaction| {
                let usable: Option<bool> = transaction
                    .prepare_cached("SELECT removed = 0 FROM cards WHERE method = ?1 AND user = ?2")?
                    .query_row(params![it.payment_method, it.owner], |row| row.get(0))
                    .optional()?;
                if usable != Some(true) {
                    return Ok::<_, WriteError<Fault>>(false);
                }
                transaction
                    .prepare_cached(
                        "INSERT INTO card_delegations VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14,
                         ?15, ?16, (SELECT COALESCE(MAX(place), 0) + 1 FROM card_delegations))",
                    )?
                    .execute(params![
                        it.id.as_str(),
                        it.owner,
                        it.api_key,
                        it.processor.as_str(),
                        it.customer,
                        it.payment_method,
                        it.currency.as_str(),
                        integer(it.limit.value()),
                        it.max_charges.map(integer),
                        it.plan.map(|plan| plan.to_string()),
                        it.merchant,
                        integer(it.created_at.0),
                        integer(it.expires_at.0),
                        it.revoked_at.map(|at| integer(at.0)),
                        integer(it.spent.value()),
                        integer(it.charges),
                    ])?;
                Ok(true)
            })
            .await
    }

    async fn read(&self, id: &DelegationId) -> Result<Option<Delegation>, Fault> {
        let id = id.clone();
        self.0.read(move |connection| find(connection, &id)).await
    }

    async fn list(&self, owner: &str) -> Result<Vec<Delegation>, Fault> {
        let owner = owner.to_owned();
        self.0
            .read(move |connection| {
                let mut rows = connection.prepare_cached(&format!("{DELEGATION} WHERE owner = ?1 ORDER BY place"))?;
                rows.query_map([owner], delegation)?.collect()
            })
            .await
    }

    async fn revoke(&self, id: &DelegationId, owner: &str, now: UnixSeconds) -> Result<bool, Fault> {
        let (id, owner) = (id.clone(), owner.to_owned());
        self.0
            .write(move |transaction| {
                let sql =
                    "UPDATE card_delegations SET revoked_at = COALESCE(revoked_at, ?3) WHERE id = ?1 AND owner = ?2";
                let rows = transaction.prepare_cached(sql)?.execute(params![id.as_str(), owner, integer(now.0)])?;
                Ok::<_, WriteError<Fault>>(rows == 1)
            })
            .await
    }

    async fn reserve(&self, new: NewCharge, now: UnixSeconds) -> Result<CardCharge, Fault> {
        self.0
            .write(move |transaction| {
                if let Some(known) = find_charge(transaction, &new.payment)? {
                    return Ok(known);
                }
                let Some(mut of) = find(transaction, &new.delegation)? else {
                    return broken("a charge of an unknown delegation");
                };
                let state = of.count(new.cents, now).map_or_else(ChargeState::Refused, |()| ChargeState::Counted);
                put_counts(transaction, &of)?;
                transaction
                    .prepare_cached(
                        "INSERT INTO card_charges (payment, delegation, cents, state, at, place)
                         VALUES (?1, ?2, ?3, ?4, ?5, (SELECT COALESCE(MAX(place), 0) + 1 FROM card_charges))",
                    )?
                    .execute(params![
                        new.payment,
                        new.delegation.as_str(),
                        integer(new.cents.value()),
                        state_text(state),
                        integer(now.0)
                    ])?;
                Ok(CardCharge::new(new, state, now))
            })
            .await
    }

    async fn release(&self, payment: &PaymentHash, end: ChargeEnd) -> Result<(), Fault> {
        let payment = *payment;
        self.0
            .write(move |transaction| {
                let Some(charge) = find_charge(transaction, &payment)? else {
                    return broken("no charge of this payment");
                };
                if charge.state != ChargeState::Counted {
                    return Ok(());
                }
                let Some(mut of) = find(transaction, &charge.delegation)? else {
                    return broken("a charge of an unknown delegation");
                };
                of.take_back(charge.cents);
                put_counts(transaction, &of)?;
                transaction
                    .prepare_cached("UPDATE card_charges SET state = ?2 WHERE payment = ?1")?
                    .execute(params![payment, state_text(ChargeState::Released)])?;
                Ok(put_end(transaction, &payment, &end)?)
            })
            .await
    }

    async fn record(&self, payment: &PaymentHash, end: ChargeEnd) -> Result<(), Fault> {
        let payment = *payment;
        self.0
            .write(move |transaction| match find_charge(transaction, &payment)? {
                None => broken("no charge of this payment"),
                Some(_) => Ok(put_end(transaction, &payment, &end)?),
            })
            .await
    }

    async fn charge(&self, payment: &PaymentHash) -> Result<Option<CardCharge>, Fault> {
        let payment = *payment;
        self.0.read(move |connection| find_charge(connection, &payment)).await
    }

    async fn charges(&self, id: &DelegationId) -> Result<Vec<CardCharge>, Fault> {
        let id = id.clone();
        self.0
            .read(move |connection| {
                let mut rows = connection.prepare_cached(&format!("{CHARGE} WHERE delegation = ?1 ORDER BY place"))?;
                rows.query_map([id.as_str()], charge)?.collect()
            })
            .await
    }
}

fn balance(connection: &Connection, plan: &str, holder: &str) -> Read<u64> {
    let mut rows = connection.prepare_cached("SELECT balance FROM card_credits WHERE plan = ?1 AND holder = ?2")?;
    Ok(rows.query_row([plan, holder], |row| number(row, 0)).optional()?.unwrap_or_default())
}

fn made(connection: &Connection, id: &str) -> Read<Option<bool>> {
    let mut rows = connection.prepare_cached("SELECT made FROM card_moves WHERE id = ?1")?;
    rows.query_row([id], |row| row.get(0)).optional()
}

#[async_trait]
impl Books for SqliteCards {
    async fn credits(&self, plan: PlanId, holder: &str) -> Result<u64, Fault> {
        let (plan, holder) = (plan.to_string(), holder.to_owned());
        self.0.read(move |connection| balance(connection, &plan, &holder)).await
    }

    async fn post(&self, entry: &CreditMove) -> Result<(), Fault> {
        let entry = entry.clone();
        self.0
            .write(move |transaction| {
                if made(transaction, &entry.id)?.is_some() {
                    return Ok::<_, WriteError<Fault>>(());
                }
                let plan = entry.plan.to_string();
                let before = balance(transaction, &plan, &entry.holder)?;
                let (kind, after) = match entry.kind {
                    MoveKind::Mint => ("mint", before.checked_add(entry.credits).filter(|after| *after <= MOST)),
                    MoveKind::Burn => ("burn", before.checked_sub(entry.credits)),
                };
                if let Some(after) = after {
                    transaction
                        .prepare_cached(
                            "INSERT INTO card_credits VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET balance = ?3",
                        )?
                        .execute(params![plan, entry.holder, integer(after)])?;
                }
                transaction
                    .prepare_cached("INSERT INTO card_moves VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
                    .execute(params![entry.id, plan, entry.holder, integer(entry.credits), kind, after.is_some()])?;
                Ok(())
            })
            .await
    }

    async fn posted(&self, id: &str) -> Result<Option<bool>, Fault> {
        let id = id.to_owned();
        self.0.read(move |connection| made(connection, &id)).await
    }
}

fn card(row: &Row<'_>) -> Read<Card> {
    let text = |column| row.get::<_, String>(column);
    let mut found = Card::new(&text(0)?, &text(1)?, &text(2)?, &text(3)?, &text(4)?);
    found.removed = row.get(5)?;
    Ok(found)
}

const CARD: &str = "SELECT user, customer, method, brand, last4, removed FROM cards";

#[async_trait]
impl Cards for SqliteCards {
    async fn customer(&self, user: &str) -> Result<Option<String>, Fault> {
        let user = user.to_owned();
        self.0
            .read(move |connection| {
                let mut rows = connection.prepare_cached("SELECT customer FROM card_customers WHERE user = ?1")?;
                rows.query_row([user], |row| row.get(0)).optional()
            })
            .await
    }

    async fn put_customer(&self, user: &str, customer: &str) -> Result<String, Fault> {
        let (user, customer) = (user.to_owned(), customer.to_owned());
        self.0
            .write(move |transaction| {
                transaction
                    .prepare_cached("INSERT INTO card_customers VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
                    .execute([&user, &customer])?;
                let mut rows = transaction.prepare_cached("SELECT customer FROM card_customers WHERE user = ?1")?;
                Ok::<_, WriteError<Fault>>(rows.query_row([user], |row| row.get(0))?)
            })
            .await
    }

    async fn enrol(&self, card: Card) -> Result<(), Fault> {
        self.0
            .write(move |transaction| {
                transaction
                    .prepare_cached(
                        "INSERT INTO cards VALUES (?1, ?2, ?3, ?4, ?5, 0, (SELECT COALESCE(MAX(place), 0) + 1 FROM cards))
                         ON CONFLICT DO NOTHING",
                    )?
                    .execute([card.method, card.user, card.customer, card.brand, card.last4])?;
                Ok::<_, WriteError<Fault>>(())
            })
            .await
    }

    async fn card(&self, user: &str, method: &str) -> Result<Option<Card>, Fault> {
        let (user, method) = (user.to_owned(), method.to_owned());
        self.0
            .read(move |connection| {
                let mut rows = connection.prepare_cached(&format!("{CARD} WHERE user = ?1 AND method = ?2"))?;
                rows.query_row([user, method], card).optional()
            })
            .await
    }

    async fn cards(&self, user: &str) -> Result<Vec<Card>, Fault> {
        let user = user.to_owned();
        self.0
            .read(move |connection| {
                let mut rows = connection.prepare_cached(&format!("{CARD} WHERE user = ?1 ORDER BY place"))?;
                rows.query_map([user], card)?.collect()
            })
            .await
    }

    async fn remove(&self, user: &str, method: &str, now: UnixSeconds) -> Result<bool, Fault> {
        let (user, method) = (user.to_owned(), method.to_owned());
        self.0
            .write(move |transaction| {
                let rows = transaction
                    .prepare_cached("UPDATE cards SET removed = 1 WHERE user = ?1 AND method = ?2")?
                    .execute([&user, &method])?;
                transaction
                    .prepare_cached(
                        "UPDATE card_delegations SET revoked_at = COALESCE(revoked_at, ?3) WHERE owner = ?1 AND method = ?2",
                    )?
                    .execute(params![user, method, integer(now.0)])?;
                Ok::<_, WriteError<Fault>>(rows == 1)
            })
            .await
    }
}
