//! The books of an agent: what it spent, by day and host, in the file of the journal, so that a restart forgets nothing and
//! processes beside each other share one budget.

use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use tokio::sync::oneshot;
use x402_http::client::{Budget, Closed, Dollars, OverBudget, ReserveError, Spend};
use x402_types::{AtomicAmount, Fault, U256};

use super::policy::Policy;
use crate::units::units;

const TABLES: &str = "
    PRAGMA busy_timeout = 5000;
    PRAGMA synchronous = FULL;
    CREATE TABLE IF NOT EXISTS spent (id INTEGER PRIMARY KEY AUTOINCREMENT, day INTEGER NOT NULL, host TEXT NOT NULL,
        network TEXT NOT NULL, asset TEXT NOT NULL, decimals INTEGER NOT NULL, sum TEXT NOT NULL, state TEXT NOT NULL);
    CREATE INDEX IF NOT EXISTS spent_by_day ON spent (day, host);
";

/// Sums are counted in 10^-18 dollars: every known dollar token has at most so many decimals.
const DECIMALS: u8 = 18;

/// The number of refusals by one host that release money in a day. A refusal is only the server's claim.
const BELIEVED_REFUSALS: i64 = 3;

/// The sums of one host in a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostSum {
    pub(super) host: String,
    pub(super) sum: U256,
    pub(super) payments: u64,
}

/// A message to the thread of the books.
enum Entry {
    Reserve(Spend, oneshot::Sender<Result<u64, ReserveError>>),
    Close(u64, Closed),
    Day(u64, oneshot::Sender<Result<Vec<HostSum>, Fault>>),
}

/// The books, kept by a thread, since a reservation may end in a destructor, which must not block.
#[derive(Debug)]
pub(super) struct Books {
    entries: Mutex<Option<Sender<Entry>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    policy: Arc<Policy>,
}

impl Books {
    /// Opens the books in the file of the journal, which exists.
    pub(super) fn open(path: &Path, policy: Arc<Policy>) -> Result<Self, String> {
        let failed = |error: rusqlite::Error| format!("{}: {error}", path.display());
        let file = Connection::open(path).map_err(failed)?;
        file.execute_batch(TABLES).map_err(failed)?;
        let (sender, receiver) = channel();
        let limits = policy.clone();
        let thread = std::thread::Builder::new().name("books".to_owned());
        let thread = thread.spawn(move || keep(file, &limits, &receiver)).map_err(|error| error.to_string())?;
        Ok(Self { entries: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)), policy })
    }

    /// Returns the limits.
    pub(super) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Returns what was spent or is reserved on a day, by host.
    pub(super) async fn day(&self, day: u64) -> Result<Vec<HostSum>, Fault> {
        let (answer, answered) = oneshot::channel();
        self.send(Entry::Day(day, answer));
        answered.await.map_err(|_| stopped())?
    }

    fn send(&self, entry: Entry) {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        // If the thread is gone, so is the answer's channel, and the caller gets that error.
        if let Some(entries) = entries.as_ref() {
            drop(entries.send(entry));
        }
    }
}

impl Drop for Books {
    /// Waits until every reservation that ended is written.
    fn drop(&mut self) {
        drop(self.entries.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            drop(thread.join());
        }
    }
}

#[async_trait]
impl Budget for Books {
    async fn reserve(&self, spend: &Spend) -> Result<u64, ReserveError> {
        let (answer, answered) = oneshot::channel();
        self.send(Entry::Reserve(spend.clone(), answer));
        answered.await.map_err(|_| stopped())?
    }

    fn close(&self, reservation: u64, how: Closed) {
        self.send(Entry::Close(reservation, how));
    }
}

fn stopped() -> Fault {
    Fault::store(std::io::Error::other("the books are closed"))
}

fn keep(mut file: Connection, policy: &Policy, entries: &Receiver<Entry>) {
    while let Ok(entry) = entries.recv() {
        // An answer that is not taken has no receiver.
        match entry {
            Entry::Reserve(spend, answer) => drop(answer.send(reserve(&mut file, policy, &spend))),
            // A row that cannot be written stays counted.
            Entry::Close(id, how) => drop(close(&mut file, id, how)),
            Entry::Day(day, answer) => drop(answer.send(sums(&file, day).map_err(Fault::store))),
        }
    }
}

fn power(digits: u8) -> Option<U256> {
    U256::from(10).checked_pow(U256::from(digits))
}

/// Converts an amount of a token to the unit of the books.
fn scaled(amount: AtomicAmount, decimals: u8) -> Option<U256> {
    amount.value().checked_mul(power(DECIMALS.checked_sub(decimals)?)?)
}

/// Converts a sum of the books to the token's smallest unit. The conversion rounds down.
fn atomic(sum: U256, decimals: u8) -> AtomicAmount {
    let unit = DECIMALS.checked_sub(decimals).and_then(power).unwrap_or(U256::ONE);
    (sum / unit).into()
}

/// Converts a limit to the unit of the books.
fn limit(dollars: Dollars) -> U256 {
    dollars.to_atomic(DECIMALS).map_or(U256::MAX, AtomicAmount::value)
}

fn reserve(file: &mut Connection, policy: &Policy, spend: &Spend) -> Result<u64, ReserveError> {
    let nothing = || OverBudget { budget: AtomicAmount::ZERO, left: AtomicAmount::ZERO, asked: spend.amount };
    let decimals = spend.dollar_decimals.ok_or_else(nothing)?;
    let asked = scaled(spend.amount, decimals).ok_or_else(nothing)?;
    let fault = |error: rusqlite::Error| ReserveError::Fault(Fault::store(error));
    // The write lock is taken before the sums are read, so that two processes cannot both see the last cent.
    let books = file.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fault)?;
    let day = sums(&books, spend.day).map_err(fault)?;
    let of_host = day.iter().find(|known| known.host == spend.host).map_or(U256::ZERO, |known| known.sum);
    let of_all = day.iter().fold(U256::ZERO, |all, known| all.saturating_add(known.sum));
    for (used, budget) in [(of_host, limit(policy.per_host_day(&spend.host))), (of_all, limit(policy.per_day()))] {
        if used.checked_add(asked).is_none_or(|sum| sum > budget) {
            let (budget, left) = (atomic(budget, decimals), atomic(budget.saturating_sub(used), decimals));
            return Err(OverBudget { budget, left, asked: spend.amount }.into());
        }
    }
    let row =
        "INSERT INTO spent (day, host, network, asset, decimals, sum, state) VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'open')";
    let (network, day) = (spend.network.to_string(), i64::try_from(spend.day).map_err(Fault::store)?);
    books.execute(row, params![day, spend.host, network, spend.asset, decimals, asked.to_string()]).map_err(fault)?;
    let id = books.last_insert_rowid();
    books.commit().map_err(fault)?;
    Ok(id.cast_unsigned())
}

fn close(file: &mut Connection, id: u64, how: Closed) -> rusqlite::Result<()> {
    let id = id.cast_signed();
    let books = file.transaction_with_behavior(TransactionBehavior::Immediate)?;
    match how {
        Closed::Paid => books.execute("UPDATE spent SET state = 'paid' WHERE id = ?1 AND state = 'open'", [id])?,
        Closed::PaidPart(part) => {
            let row = "SELECT decimals, sum FROM spent WHERE id = ?1 AND state = 'open'";
            let found =
                books.query_row(row, [id], |row| Ok((row.get::<_, u8>(0)?, row.get::<_, String>(1)?))).optional()?;
            let whole = found.map(|(decimals, sum)| (decimals, sum.parse().unwrap_or(U256::MAX)));
            let sum = whole
                .map_or(U256::MAX, |(decimals, whole)| scaled(part, decimals).map_or(whole, |part| part.min(whole)));
            let part = "UPDATE spent SET state = 'paid', sum = ?2 WHERE id = ?1 AND state = 'open'";
            books.execute(part, params![id, sum.to_string()])?
        }
        Closed::NeverSent => books.execute("DELETE FROM spent WHERE id = ?1 AND state = 'open'", [id])?,
        Closed::Refused => books.execute(
            "UPDATE spent SET state = CASE WHEN (SELECT COUNT(*) FROM spent AS other WHERE other.state = 'refused'
                AND other.day = spent.day AND other.host = spent.host) < ?2 THEN 'refused' ELSE 'kept' END
                WHERE id = ?1 AND state = 'open'",
            [id, BELIEVED_REFUSALS],
        )?,
    };
    books.commit()
}

/// Adds up what is counted on a day, by host.
fn sums(file: &Connection, day: u64) -> rusqlite::Result<Vec<HostSum>> {
    let mut rows =
        file.prepare_cached("SELECT host, sum FROM spent WHERE day = ?1 AND state <> 'refused' ORDER BY host, id")?;
    let mut found: Vec<HostSum> = Vec::new();
    let rows = rows.query_map([i64::try_from(day).unwrap_or(i64::MAX)], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
    })?;
    for row in rows {
        let (host, sum) = row?;
        // A sum that cannot be read is more than every budget.
        let sum = sum.parse().unwrap_or(U256::MAX);
        match found.last_mut().filter(|last| last.host == host) {
            Some(last) => {
                last.sum = last.sum.saturating_add(sum);
                last.payments += 1;
            }
            None => found.push(HostSum { host, sum, payments: 1 }),
        }
    }
    Ok(found)
}

/// Writes a sum of the books in dollars, with cents if it is no whole number of them.
pub(super) fn in_dollars(sum: U256) -> String {
    let units = units(sum, DECIMALS);
    match units.split_once('.') {
        Some((whole, fraction)) => format!("${whole}.{fraction:0<2}"),
        None => format!("${units}"),
    }
}

/// Writes an amount of a dollar token in dollars.
pub(super) fn amount_in_dollars(amount: AtomicAmount, decimals: u8) -> Option<String> {
    scaled(amount, decimals).map(in_dollars)
}

/// Writes a limit in dollars.
pub(super) fn limit_in_dollars(dollars: Dollars) -> String {
    in_dollars(limit(dollars))
}

/// Returns what is left of a limit, in dollars.
pub(super) fn left_in_dollars(dollars: Dollars, used: U256) -> String {
    in_dollars(limit(dollars).saturating_sub(used))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spend(host: &str, amount: u64, day: u64) -> Spend {
        let network = "eip155:84532".parse().unwrap();
        Spend::new(host, network, "0x036CbD53842c5426634e7929541eC2318f3dCF7e", amount.into())
            .with_dollar_decimals(6)
            .with_day(day)
    }

    fn books(folder: &tempfile::TempDir) -> Books {
        Books::open(&folder.path().join("payments.sqlite"), Arc::default()).unwrap()
    }

    async fn used(books: &Books, day: u64) -> String {
        in_dollars(books.day(day).await.unwrap().iter().fold(U256::ZERO, |all, host| all + host.sum))
    }

    #[tokio::test]
    async fn what_is_spent_survives_and_is_shared() {
        let folder = tempfile::tempdir().unwrap();
        let first = books(&folder);
        let reservation = first.reserve(&spend("a.example", 1_500_000, 1)).await.unwrap();
        first.close(reservation, Closed::Paid);
        drop(first);
        let (second, third) = (books(&folder), books(&folder));
        let over = second.reserve(&spend("a.example", 600_000, 1)).await.unwrap_err();
        assert_eq!(over, OverBudget { budget: 2_000_000.into(), left: 500_000.into(), asked: 600_000.into() }.into());
        third.reserve(&spend("a.example", 500_000, 1)).await.unwrap();
        assert!(second.reserve(&spend("a.example", 1, 1)).await.is_err(), "another process took the rest");
        assert_eq!(used(&second, 1).await, "$2");
        second.reserve(&spend("b.example", 2_000_000, 1)).await.unwrap();
        let over = second.reserve(&spend("c.example", 1_000_001, 1)).await.unwrap_err();
        assert_eq!(
            over,
            OverBudget { budget: 5_000_000.into(), left: 1_000_000.into(), asked: 1_000_001.into() }.into()
        );
        second.reserve(&spend("a.example", 2_000_000, 2)).await.unwrap();
    }

    #[tokio::test]
    async fn fifty_at_once_do_not_overdraw() {
        let folder = tempfile::tempdir().unwrap();
        let books = Arc::new(books(&folder));
        let calls = (0..50).map(|_| {
            let books = books.clone();
            tokio::spawn(async move { books.reserve(&spend("a.example", 100_000, 1)).await })
        });
        let mut given = 0;
        for call in calls.collect::<Vec<_>>() {
            given += u32::from(call.await.unwrap().is_ok());
        }
        assert_eq!((given, used(&books, 1).await), (20, "$2".to_owned()));
    }

    #[tokio::test]
    async fn a_reservation_ends_as_it_was_closed() {
        let folder = tempfile::tempdir().unwrap();
        let books = books(&folder);
        let reserve = async |amount| books.reserve(&spend("a.example", amount, 1)).await.unwrap();
        books.close(reserve(100_000).await, Closed::NeverSent);
        assert_eq!(used(&books, 1).await, "$0");
        books.close(reserve(100_000).await, Closed::PaidPart(40_000.into()));
        assert_eq!(used(&books, 1).await, "$0.04");
        books.close(reserve(60_000).await, Closed::PaidPart(70_000.into()));
        assert_eq!(used(&books, 1).await, "$0.10");
        for _ in 0..5 {
            books.close(reserve(100_000).await, Closed::Refused);
        }
        assert_eq!(used(&books, 1).await, "$0.30", "three of five refusals are believed");
    }

    #[test]
    fn sums_are_written_in_dollars() {
        for (amount, decimals, text) in [(1, 6, "$0.000001"), (10_000, 6, "$0.01"), (100_000, 6, "$0.10"), (5, 0, "$5")]
        {
            assert_eq!(amount_in_dollars(AtomicAmount::from(amount), decimals).unwrap(), text);
        }
        assert_eq!(amount_in_dollars(AtomicAmount::from(1), 19), None);
    }
}
