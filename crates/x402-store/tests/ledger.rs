//! The SQLite ledger keeps the rules of every ledger.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use x402_facilitator_core::Ledger;
use x402_facilitator_core::conformance::{Subject, run};
use x402_store::sqlite::{Database, SqliteLedger};
use x402_types::UnixSeconds;

static CLOCK: AtomicU64 = AtomicU64::new(1_700_000_000);
static FILES: AtomicU64 = AtomicU64::new(0);

/// One file a ledger; `reopened` opens the newest again, as a process does that was killed.
struct OnDisk(tempfile::TempDir);

impl OnDisk {
    fn open(&self) -> Arc<dyn Ledger> {
        let path = self.0.path().join(format!("{}.sqlite", FILES.load(Ordering::Relaxed)));
        let clock = || UnixSeconds(CLOCK.load(Ordering::Relaxed));
        Arc::new(SqliteLedger::new(Database::open(&path).unwrap()).with_clock(clock))
    }
}

#[async_trait]
impl Subject for OnDisk {
    async fn empty(&self) -> Arc<dyn Ledger> {
        FILES.fetch_add(1, Ordering::Relaxed);
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
    let subject = OnDisk(tempfile::tempdir().unwrap());
    run(&subject).await.unwrap();
}
