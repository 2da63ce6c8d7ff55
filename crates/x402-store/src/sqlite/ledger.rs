//! The ledger on SQLite, the embedded default: `x402_facilitator_core::Ledger` row by row.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use x402_facilitator_core::{
    CommitError, LaneId, LaneView, Lease, Ledger, OnceKey, OwnerId, Payment, Share, Slot, SlotId, Step, StepState,
    Write,
};
use x402_types::{Fault, PaymentKey, UnixSeconds};

use super::{Database, WriteError};
use crate::answered::ReadAnswered;
use crate::row::{self, Row, after};

/// The settlement ledger in a SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteLedger {
    database: Database,
    clock: fn() -> UnixSeconds,
}

impl SqliteLedger {
    /// Creates the ledger in this file. Leases use this machine's clock.
    #[must_use]
    pub const fn new(database: Database) -> Self {
        Self { database, clock: now }
    }

    /// Takes over from a process that has ended: frees the lanes that it held, and makes its open slots due at once,
    /// because it may have stored bytes that it never sent. A worker looks at every open payment of a lane that it takes,
    /// whenever it is due.
    ///
    /// The caller must have exclusive use of the file ([`Database::open_alone`]).
    /// # Errors
    /// The store failed.
    pub async fn take_over(&self) -> Result<(), Fault> {
        self.database.write(|transaction| Ok(take_over(transaction)?)).await
    }

    /// Returns the lanes that have unfinished work.
    /// # Errors
    /// The store failed.
    pub async fn open_lanes(&self) -> Result<Vec<LaneId>, Fault> {
        const SQL: &str = "SELECT lane FROM payments WHERE due IS NOT NULL UNION SELECT lane FROM slots WHERE used = 0";
        let lanes = |connection: &Connection| -> Sql<Vec<LaneId>> {
            let mut statement = connection.prepare(SQL)?;
            let lanes = statement.query_map([], |row| row.get::<_, String>(0).map(LaneId::from))?;
            lanes.collect()
        };
        self.database.read(lanes).await
    }

    /// Sets another clock for leases.
    #[must_use]
    pub const fn with_clock(mut self, clock: fn() -> UnixSeconds) -> Self {
        self.clock = clock;
        self
    }
}

/// Returns the time of this machine's clock.
fn now() -> UnixSeconds {
    UnixSeconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
}

/// The number of payments that are forgotten in one transaction.
const FORGET_GROUP: usize = 50;

type Sql<T> = Result<T, rusqlite::Error>;

/// Converts a number. SQLite has no unsigned 64-bit integers; times, nonces and versions beyond 2^63-1, which do not
/// occur, saturate.
pub(super) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn natural(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn to_row<T: Row>(value: &T) -> Sql<String> {
    row::to_text(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

/// Returns the text of a payment's row, for tests that fill a file.
#[doc(hidden)]
pub fn payment_row(payment: &Payment) -> Sql<String> {
    to_row(payment)
}

/// Returns the text of a slot's row, for tests that fill a file.
#[doc(hidden)]
pub fn slot_row(slot: &Slot) -> Sql<String> {
    to_row(slot)
}

pub(super) fn from_row<T: Row>(text: &str) -> Sql<T> {
    row::from_text(text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error)))
}

fn stored_payment(connection: &Connection, key: &PaymentKey) -> Sql<Option<Payment>> {
    let row: Option<String> = connection
        .prepare_cached("SELECT row FROM payments WHERE key = ?1")?
        .query_row([key.as_bytes()], |row| row.get(0))
        .optional()?;
    row.as_deref().map(from_row).transpose()
}

fn payment_version(connection: &Connection, key: &PaymentKey) -> Sql<Option<u64>> {
    let version: Option<i64> = connection
        .prepare_cached("SELECT version FROM payments WHERE key = ?1")?
        .query_row([key.as_bytes()], |row| row.get(0))
        .optional()?;
    Ok(version.map(natural))
}

fn slot_version(connection: &Connection, id: &SlotId) -> Sql<Option<u64>> {
    let version: Option<i64> = connection
        .prepare_cached("SELECT version FROM slots WHERE lane = ?1 AND nonce = ?2")?
        .query_row(params![id.lane.as_str(), number(id.nonce)], |row| row.get(0))
        .optional()?;
    Ok(version.map(natural))
}

fn stored_slot(connection: &Connection, id: &SlotId) -> Sql<Option<Slot>> {
    let row: Option<String> = connection
        .prepare_cached("SELECT row FROM slots WHERE lane = ?1 AND nonce = ?2")?
        .query_row(params![id.lane.as_str(), number(id.nonce)], |row| row.get(0))
        .optional()?;
    row.as_deref().map(from_row).transpose()
}

/// Reads slots as of one commit, in as many statements as needed.
fn stored_slots<'a>(connection: &Connection, ids: impl Iterator<Item = &'a SlotId>) -> Sql<Vec<Slot>> {
    let view = connection.unchecked_transaction()?;
    ids.filter_map(|id| stored_slot(&view, id).transpose()).collect()
}

fn rows<T: Row>(connection: &Connection, sql: &str, lane: &LaneId, limit: usize) -> Sql<Vec<T>> {
    let mut statement = connection.prepare_cached(sql)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let texts = statement.query_map(params![lane.as_str(), limit], |row| row.get::<_, String>(0))?;
    texts.map(|text| from_row(&text?)).collect()
}

fn write_payment(transaction: &Transaction<'_>, payment: &Payment) -> Sql<()> {
    let due = payment.answer.is_none().then(|| number(payment.due.0));
    let ready = due.is_some() && payment.steps.last().is_some_and(|step| step.state == StepState::Ready);
    transaction
        .prepare_cached(
            "INSERT INTO payments (key, lane, version, due, ready, keep_until, row) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (key) DO UPDATE SET lane = ?2, version = ?3, due = ?4, ready = ?5, keep_until = ?6, row = ?7",
        )?
        .execute(params![
            payment.key.as_bytes(),
            payment.lane.as_str(),
            number(payment.version),
            due,
            ready,
            number(payment.keep_until.0),
            to_row(payment)?,
        ])
        .map(drop)
}

fn write_slot(transaction: &Transaction<'_>, slot: &Slot) -> Sql<()> {
    transaction
        .prepare_cached(
            "INSERT INTO slots (lane, nonce, version, used, row) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (lane, nonce) DO UPDATE SET version = ?3, used = ?4, row = ?5",
        )?
        .execute(params![slot.id.lane.as_str(), number(slot.id.nonce), number(slot.version), slot.used, to_row(slot)?,])
        .map(drop)
}

/// Checks the fence: a worker that lost its lane changes nothing. A write without a lease may change only payments.
fn is_fenced(transaction: &Transaction<'_>, write: &Write) -> Sql<bool> {
    let Some(lease) = &write.lease else { return Ok(write.next.is_some() || !write.slots.is_empty()) };
    let fence: Option<i64> = transaction
        .prepare_cached("SELECT fence FROM lanes WHERE lane = ?1")?
        .query_row([lease.lane.as_str()], |row| row.get(0))
        .optional()?;
    let foreign = write.payments.iter().any(|payment| payment.lane != lease.lane)
        || write.slots.iter().any(|slot| slot.id.lane != lease.lane);
    Ok(foreign || fence.map(natural) != Some(lease.fence))
}

fn commit(transaction: &Transaction<'_>, write: Write) -> Result<(), WriteError<CommitError>> {
    if is_fenced(transaction, &write)? {
        return Err(WriteError::Refused(CommitError::Fenced));
    }
    let Write { lease, next, mut payments, slots } = write;
    if let (Some(next), Some(lease)) = (next, &lease) {
        let moved = transaction
            .prepare_cached("UPDATE lanes SET next = ?3 WHERE lane = ?1 AND next = ?2")?
            .execute(params![lease.lane.as_str(), number(next.from), number(next.to)])?;
        if moved == 0 {
            return Err(WriteError::Refused(CommitError::Conflict));
        }
    }
    for mut slot in slots {
        if slot_version(transaction, &slot.id)?.unwrap_or(0) != slot.version {
            return Err(WriteError::Refused(CommitError::Conflict));
        }
        slot.version = slot.version.saturating_add(1);
        write_slot(transaction, &slot)?;
    }
    for payment in &mut payments {
        if payment_version(transaction, &payment.key)? != Some(payment.version) {
            return Err(WriteError::Refused(CommitError::Conflict));
        }
        payment.version = payment.version.saturating_add(1);
        write_payment(transaction, payment)?;
    }
    hold(transaction, &payments)
}

/// Enforces one payment per once key: first releases what these payments no longer hold, then takes what they hold.
fn hold(transaction: &Transaction<'_>, payments: &[Payment]) -> Result<(), WriteError<CommitError>> {
    for payment in payments {
        let held: Vec<&OnceKey> = payment.steps.iter().flat_map(Step::held).collect();
        for once_key in payment.steps.iter().flat_map(Step::once_keys).filter(|once_key| !held.contains(once_key)) {
            transaction
                .prepare_cached("DELETE FROM guards WHERE guard = ?1 AND key = ?2")?
                .execute(params![once_key.0, payment.key.as_bytes()])?;
        }
    }
    for payment in payments {
        for once_key in payment.steps.iter().flat_map(Step::held) {
            let taken = transaction
                .prepare_cached("INSERT INTO guards (guard, key) VALUES (?1, ?2) ON CONFLICT (guard) DO NOTHING")?
                .execute(params![once_key.0, payment.key.as_bytes()])?;
            if taken == 1 {
                continue;
            }
            let holder: Vec<u8> = transaction
                .prepare_cached("SELECT key FROM guards WHERE guard = ?1")?
                .query_row([&once_key.0], |row| row.get(0))?;
            if holder != payment.key.as_bytes() {
                return Err(WriteError::Refused(CommitError::Taken(once_key.clone())));
            }
        }
    }
    Ok(())
}

fn lease(transaction: &Transaction<'_>, lane: &LaneId, owner: &OwnerId, now: i64, until: i64) -> Sql<Option<Lease>> {
    let held: Option<(String, i64, i64)> = transaction
        .prepare_cached("SELECT owner, fence, until FROM lanes WHERE lane = ?1")?
        .query_row([lane.as_str()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let fence = match held {
        Some((holder, fence, _)) if holder == owner.as_str() => fence,
        Some((_, _, end)) if end > now => return Ok(None),
        Some((_, fence, _)) => fence.saturating_add(1),
        None => 1,
    };
    transaction
        .prepare_cached(
            "INSERT INTO lanes (lane, next, owner, fence, until) VALUES (?1, 0, ?2, ?3, ?4)
             ON CONFLICT (lane) DO UPDATE SET owner = ?2, fence = ?3, until = ?4",
        )?
        .execute(params![lane.as_str(), owner.as_str(), fence, until])?;
    Ok(Some(Lease { lane: lane.clone(), fence: natural(fence) }))
}

fn take_over(transaction: &Transaction<'_>) -> Sql<()> {
    transaction.execute("UPDATE lanes SET until = 0", [])?;
    let open = |sql| -> Sql<Vec<String>> { transaction.prepare(sql)?.query_map([], |row| row.get(0))?.collect() };
    for row in open("SELECT row FROM slots WHERE used = 0")? {
        let mut slot: Slot = from_row(&row)?;
        slot.due = UnixSeconds(0);
        write_slot(transaction, &slot)?;
    }
    Ok(())
}

/// The progress of a pass over the rows that may be forgotten: `keep_until` and row number.
type Passed = (i64, i64);

/// Forgets up to [`FORGET_GROUP`] rows after `passed`. Returns their number and the new position; `None` if no row is
/// left. Every statement finds its rows by a key or an index, so a row costs the same in any table.
fn forget(
    transaction: &Transaction<'_>,
    now: UnixSeconds,
    passed: Passed,
    limit: usize,
) -> Sql<(usize, Option<Passed>)> {
    let group = limit.min(FORGET_GROUP);
    let candidates: Vec<(Passed, Payment)> = transaction
        .prepare_cached(
            "SELECT keep_until, rowid, row FROM payments
             WHERE due IS NULL AND keep_until < ?1 AND (keep_until, rowid) > (?2, ?3)
             ORDER BY keep_until, rowid LIMIT ?4",
        )?
        .query_map(params![number(now.0), passed.0, passed.1, i64::try_from(group).unwrap_or(i64::MAX)], |row| {
            Ok(((row.get(0)?, row.get(1)?), row.get::<_, String>(2)?))
        })?
        .map(|row| row.and_then(|(at, text)| Ok((at, from_row(&text)?))))
        .collect::<Sql<_>>()?;
    let passed = candidates.last().map(|(at, _)| *at).filter(|_| candidates.len() == group);
    let mut gone = 0;
    for (_, old) in candidates {
        gone += usize::from(forget_one(transaction, &old)?);
    }
    Ok((gone, passed))
}

/// Forgets an answered payment, unless one of its slots may still land.
fn forget_one(transaction: &Transaction<'_>, old: &Payment) -> Sql<bool> {
    let mut slots = Vec::new();
    for id in old.steps.iter().flat_map(|step| &step.carriers) {
        slots.extend(stored_slot(transaction, id)?);
    }
    if slots.iter().any(|slot| !slot.used) {
        return Ok(false);
    }
    transaction.prepare_cached("DELETE FROM payments WHERE key = ?1")?.execute([old.key.as_bytes()])?;
    for once_key in old.steps.iter().flat_map(Step::once_keys) {
        transaction
            .prepare_cached("DELETE FROM guards WHERE guard = ?1 AND key = ?2")?
            .execute(params![once_key.0, old.key.as_bytes()])?;
    }
    for slot in slots {
        let mut carries = false;
        for key in &slot.payments {
            carries |= transaction.prepare_cached("SELECT 1 FROM payments WHERE key = ?1")?.exists([key.as_bytes()])?;
        }
        if !carries {
            transaction
                .prepare_cached("DELETE FROM slots WHERE lane = ?1 AND nonce = ?2")?
                .execute(params![slot.id.lane.as_str(), number(slot.id.nonce)])?;
        }
    }
    Ok(true)
}

#[async_trait]
impl ReadAnswered for SqliteLedger {
    async fn answered(&self, after: &[u8], limit: usize) -> Result<Vec<Payment>, Fault> {
        const SQL: &str = "SELECT row FROM payments WHERE due IS NULL AND key > ?1 ORDER BY key LIMIT ?2";
        let (after, limit) = (after.to_vec(), i64::try_from(limit).unwrap_or(i64::MAX));
        self.database
            .read(move |connection| {
                let mut statement = connection.prepare_cached(SQL)?;
                let texts = statement.query_map((after, limit), |row| row.get::<_, String>(0))?;
                texts.map(|text| from_row(&text?)).collect()
            })
            .await
    }
}

#[async_trait]
impl Ledger for SqliteLedger {
    async fn claim(&self, new: Payment) -> Result<Payment, Fault> {
        self.database
            .write(move |transaction| {
                if let Some(old) = stored_payment(transaction, &new.key)? {
                    return Ok(old);
                }
                let mut new = new;
                new.version = 1;
                write_payment(transaction, &new)?;
                Ok(new)
            })
            .await
    }

    async fn read(&self, key: &PaymentKey) -> Result<Option<Payment>, Fault> {
        let key = key.clone();
        self.database.read(move |connection| stored_payment(connection, &key)).await
    }

    async fn payments(&self, keys: &[PaymentKey]) -> Result<Vec<Payment>, Fault> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let keys = keys.to_vec();
        self.database
            .read(move |connection| {
                let view = connection.unchecked_transaction()?;
                keys.iter().filter_map(|key| stored_payment(&view, key).transpose()).collect()
            })
            .await
    }

    async fn unanswered(&self, prefix: &[u8]) -> Result<Vec<Arc<Payment>>, Fault> {
        let prefix = prefix.to_vec();
        self.database
            .read(move |connection| {
                const FROM: &str = "SELECT row FROM payments WHERE due IS NOT NULL AND key >= ?1 ORDER BY key";
                const WITHIN: &str =
                    "SELECT row FROM payments WHERE due IS NOT NULL AND key >= ?1 AND key < ?2 ORDER BY key";
                let texts: Vec<String> = match after(&prefix) {
                    None => connection.prepare_cached(FROM)?.query_map([prefix], |row| row.get(0))?.collect::<Sql<_>>(),
                    Some(after) => {
                        connection.prepare_cached(WITHIN)?.query_map([prefix, after], |row| row.get(0))?.collect()
                    }
                }?;
                texts.iter().map(|text| from_row(text).map(Arc::new)).collect()
            })
            .await
    }

    async fn slots(&self, ids: &[SlotId]) -> Result<Vec<Slot>, Fault> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let ids = ids.to_vec();
        self.database.read(move |connection| stored_slots(connection, ids.iter())).await
    }

    async fn lease(&self, lane: &LaneId, owner: &OwnerId, seconds: u64) -> Result<Option<Lease>, Fault> {
        let (lane, owner, clock) = (lane.clone(), owner.clone(), self.clock);
        self.database
            .write(move |transaction| {
                let now = clock();
                Ok(lease(transaction, &lane, &owner, number(now.0), number(now.plus(seconds).0))?)
            })
            .await
    }

    /// Returns everything: the file is open for one process.
    async fn share(&self, _owner: &OwnerId, _seconds: u64) -> Result<Share, Fault> {
        Ok(Share::ALL)
    }

    async fn due(&self, lane: &LaneId, now: UnixSeconds, limit: usize) -> Result<Vec<PaymentKey>, Fault> {
        let lane = lane.clone();
        self.database
            .read(move |connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT key FROM payments WHERE lane = ?1 AND due <= ?2 ORDER BY due, key LIMIT ?3",
                )?;
                let limit = i64::try_from(limit).unwrap_or(i64::MAX);
                let keys = statement.query_map(params![lane.as_str(), number(now.0), limit], |row| {
                    row.get::<_, Vec<u8>>(0).map(|key| PaymentKey::from_bytes(&key))
                })?;
                keys.collect()
            })
            .await
    }

    async fn lane(&self, lane: &LaneId, ready: usize) -> Result<LaneView, Fault> {
        let lane = lane.clone();
        self.database
            .read(move |connection| {
                // All three use one snapshot: a slot must not appear between them.
                let view = connection.unchecked_transaction()?;
                let next: Option<i64> = view
                    .prepare_cached("SELECT next FROM lanes WHERE lane = ?1")?
                    .query_row([lane.as_str()], |row| row.get(0))
                    .optional()?;
                Ok(LaneView {
                    next: natural(next.unwrap_or(0)),
                    open: rows(
                        &view,
                        "SELECT row FROM slots WHERE lane = ?1 AND used = 0 ORDER BY nonce LIMIT ?2",
                        &lane,
                        usize::MAX,
                    )?,
                    ready: rows(
                        &view,
                        "SELECT row FROM payments WHERE lane = ?1 AND ready = 1 ORDER BY due, key LIMIT ?2",
                        &lane,
                        ready,
                    )?,
                })
            })
            .await
    }

    async fn commit(&self, write: Write) -> Result<(), CommitError> {
        self.database.write(move |transaction| commit(transaction, write)).await
    }

    async fn forget(&self, now: UnixSeconds, limit: usize) -> Result<usize, Fault> {
        let (mut gone, mut passed) = (0, Some((i64::MIN, i64::MIN)));
        // Each group has its own transaction, so that claims and commits can run in between.
        while let Some(from) = passed.filter(|_| gone < limit) {
            let rest = limit.saturating_sub(gone);
            let (more, to) = self.database.write(move |transaction| Ok(forget(transaction, now, from, rest)?)).await?;
            gone = gone.saturating_add(more);
            passed = to;
        }
        Ok(gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_read_as_of_one_commit() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let _made = Database::open(file.path()).unwrap();
        let (mut writer, reader) = (Connection::open(file.path()).unwrap(), Connection::open(file.path()).unwrap());
        let mut store = |used: bool| {
            let transaction = writer.transaction().unwrap();
            for nonce in 0..3 {
                let id = SlotId { lane: LaneId::from("a"), nonce };
                let mut slot = Slot::new(id);
                (slot.used, slot.version) = (used, 1);
                write_slot(&transaction, &slot).unwrap();
            }
            transaction.commit().unwrap();
        };
        store(false);
        let ids: Vec<SlotId> = (0..3).map(|nonce| SlotId { lane: LaneId::from("a"), nonce }).collect();
        // All three rows are written between reading the first and the second.
        let between = ids.iter().inspect(|id| {
            if id.nonce == 1 {
                store(true)
            }
        });
        let used: Vec<bool> = stored_slots(&reader, between).unwrap().iter().map(|slot| slot.used).collect();
        assert_eq!(used, [false; 3]);
        let used: Vec<bool> = stored_slots(&reader, ids.iter()).unwrap().iter().map(|slot| slot.used).collect();
        assert_eq!(used, [true; 3]);
    }
}
