//! The SQLite ledger keeps the rules of every ledger.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use rusqlite::params;
use x402_facilitator_core::conformance::{Subject, forgets_by_the_row, run};
use x402_facilitator_core::{HeldLedger, Ledger, Payment, Slot};
use x402_store::sqlite::{Database, SqliteLedger, WriteError, payment_row, slot_row};
use x402_types::{Fault, UnixSeconds};

static CLOCK: AtomicU64 = AtomicU64::new(1_700_000_000);

/// One file a ledger; `reopened` opens the newest again, as a process does that was killed.
struct OnDisk(tempfile::TempDir, AtomicU64);

impl OnDisk {
    fn path(&self) -> std::path::PathBuf {
        self.0.path().join(format!("{}.sqlite", self.1.load(Ordering::Relaxed)))
    }

    fn database(&self) -> Database {
        Database::open(self.path()).unwrap()
    }

    fn open(&self) -> Arc<dyn Ledger> {
        Self::over(self.database())
    }

    fn over(database: Database) -> Arc<dyn Ledger> {
        let clock = || UnixSeconds(CLOCK.load(Ordering::Relaxed));
        Arc::new(SqliteLedger::new(database).with_clock(clock))
    }
}

#[async_trait]
impl Subject for OnDisk {
    async fn empty(&self) -> Arc<dyn Ledger> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.open()
    }

    async fn reopened(&self, _: Arc<dyn Ledger>) -> Arc<dyn Ledger> {
        self.open()
    }

    async fn pass(&self, seconds: u64) {
        CLOCK.fetch_add(seconds, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn sqlite_conforms() {
    let subject = OnDisk(tempfile::tempdir().unwrap(), AtomicU64::new(0));
    run(&subject).await.unwrap();
}

/// The same behind a memory, which a restart begins anew.
struct Held(OnDisk);

impl Held {
    async fn over(ledger: Arc<dyn Ledger>) -> Arc<dyn Ledger> {
        Arc::new(HeldLedger::alone(ledger).await.unwrap())
    }
}

#[async_trait]
impl Subject for Held {
    async fn empty(&self) -> Arc<dyn Ledger> {
        Self::over(self.0.empty().await).await
    }

    async fn reopened(&self, _: Arc<dyn Ledger>) -> Arc<dyn Ledger> {
        Self::over(self.0.open()).await
    }

    async fn pass(&self, seconds: u64) {
        self.0.pass(seconds).await;
    }
}

#[tokio::test]
async fn what_is_held_of_sqlite_conforms() {
    run(&Held(OnDisk(tempfile::tempdir().unwrap(), AtomicU64::new(0)))).await.unwrap();
}

/// The instructions of SQLite's virtual machine, 16 at a time, of whichever ledger counts them.
static STEPS: AtomicU64 = AtomicU64::new(0);
/// The steps after which a statement is interrupted: a ledger that scans a table for each row would take minutes.
const MOST_STEPS: u64 = 20_000_000;

/// A ledger on disk whose writer counts its instructions.
struct Counting(OnDisk);

#[async_trait]
impl Subject for Counting {
    async fn empty(&self) -> Arc<dyn Ledger> {
        self.0.1.fetch_add(1, Ordering::Relaxed);
        let counting = |writer: &mut rusqlite::Connection| {
            let count = || STEPS.fetch_add(1, Ordering::Relaxed) > MOST_STEPS;
            writer.progress_handler(16, Some(count))
        };
        let database = Database::open_prepared(&self.0.path(), counting).unwrap();
        OnDisk::over(database)
    }

    async fn reopened(&self, _: Arc<dyn Ledger>) -> Arc<dyn Ledger> {
        self.0.open()
    }

    async fn pass(&self, seconds: u64) {
        self.0.pass(seconds).await;
    }

    /// 200,000 claims and commits through the ledger would be 200,000 durable writes.
    async fn fill(&self, _: &Arc<dyn Ledger>, payments: Vec<Payment>, slots: Vec<Slot>) -> Result<(), Fault> {
        let fill = move |transaction: &rusqlite::Transaction<'_>| -> Result<(), WriteError<Fault>> {
            for payment in &payments {
                transaction.prepare_cached("INSERT INTO payments VALUES (?1, ?2, 1, NULL, 0, ?3, ?4)")?.execute(
                    params![
                        payment.key.as_bytes(),
                        payment.lane.as_str(),
                        i64::try_from(payment.keep_until.0).unwrap(),
                        payment_row(payment)?,
                    ],
                )?;
                transaction
                    .prepare_cached("INSERT INTO guards VALUES (?1, ?2)")?
                    .execute(params![payment.steps[0].once_key.0, payment.key.as_bytes()])?;
            }
            for slot in &slots {
                transaction.prepare_cached("INSERT INTO slots VALUES (?1, ?2, 1, 1, ?3)")?.execute(params![
                    slot.id.lane.as_str(),
                    i64::try_from(slot.id.nonce).unwrap(),
                    slot_row(slot)?,
                ])?;
            }
            Ok(())
        };
        self.0.database().write(fill).await
    }
}

#[tokio::test]
async fn sqlite_forgets_by_the_row() {
    let subject = Counting(OnDisk(tempfile::tempdir().unwrap(), AtomicU64::new(0)));
    forgets_by_the_row(&subject, &|| STEPS.load(Ordering::Relaxed)).await.unwrap();
}
