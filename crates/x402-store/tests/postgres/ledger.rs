//! The PostgreSQL ledger keeps the rules of every ledger.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Mutex;
use x402_facilitator_core::Ledger;
use x402_facilitator_core::conformance::{Subject, run};
use x402_store::postgres::PostgresLedger;

use crate::support::{empty_database, open, session};

/// One database a ledger; `reopened` opens the newest again, as a process does that was killed.
#[derive(Default)]
struct InDatabase(Mutex<String>);

#[async_trait]
impl Subject for InDatabase {
    async fn empty(&self) -> Arc<dyn Ledger> {
        let url = empty_database().await;
        let ledger = PostgresLedger::new(open(&url).await);
        *self.0.lock().await = url;
        Arc::new(ledger)
    }

    async fn reopened(&self, _: Arc<dyn Ledger>) -> Arc<dyn Ledger> {
        Arc::new(PostgresLedger::new(open(&self.0.lock().await).await))
    }

    /// The clock is the database's own: all leases and announcements are made older.
    async fn pass(&self, seconds: u64) {
        let client = session(&self.0.lock().await).await;
        for table in ["x402_leases", "x402_workers"] {
            let sql = format!("UPDATE {table} SET until = until - {seconds} * INTERVAL '1 second'");
            client.batch_execute(&sql).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_conforms() {
    run(&InDatabase::default()).await.unwrap();
}
