//! Open payments in a SQLite file, so that a second run of the same command presents the same payment; and the signed
//! receipts of those that were made.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use x402_extensions::offer_receipt::{KeepReceipt, KeptReceipt};
use x402_http::client::{Clock, OpenPayment, PaymentJournal, Receipt, SystemClock};
use x402_types::Fault;

const TABLES: &str = "
    PRAGMA busy_timeout = 5000;
    PRAGMA synchronous = FULL;
    CREATE TABLE IF NOT EXISTS payments (id TEXT PRIMARY KEY, purchase TEXT NOT NULL, payment TEXT NOT NULL);
    CREATE INDEX IF NOT EXISTS payments_of_purchase ON payments (purchase);
    CREATE TABLE IF NOT EXISTS receipts (number INTEGER PRIMARY KEY, signed TEXT NOT NULL UNIQUE, kept TEXT NOT NULL);
";

/// The journal of `x402 pay`.
#[derive(Debug)]
pub(crate) struct Journal {
    file: Mutex<Connection>,
    /// The payment that was removed last: its answer began to arrive.
    ended: Mutex<Option<OpenPayment>>,
    /// Whether expired payments with an unknown result are forgotten.
    anew: bool,
}

/// Returns `$XDG_STATE_HOME/x402/payments.sqlite`, by default under `~/.local/state`.
pub(crate) fn default_path() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = set("XDG_STATE_HOME").or_else(|| set("HOME").map(|home| home.join(".local/state")));
    Some(state.or_else(|| set("LOCALAPPDATA"))?.join("x402").join("payments.sqlite"))
}

impl Journal {
    /// Opens or creates the file, with access for its owner alone.
    pub(crate) fn open(path: &Path, anew: bool) -> Result<Self, String> {
        let failed = |error: &dyn std::fmt::Display| format!("the journal {}: {error}", path.display());
        private(path).map_err(|error| failed(&error))?;
        Self::on(Connection::open(path), anew).map_err(|error| failed(&error))
    }

    /// Creates a journal that ends with the process.
    pub(crate) fn in_memory() -> Result<Self, String> {
        Self::on(Connection::open_in_memory(), false).map_err(|error| error.to_string())
    }

    fn on(file: rusqlite::Result<Connection>, anew: bool) -> rusqlite::Result<Self> {
        let file = file?;
        file.execute_batch(TABLES)?;
        Ok(Self { file: Mutex::new(file), ended: Mutex::default(), anew })
    }

    /// Returns the payment that was written last.
    pub(crate) fn last(&self) -> Option<OpenPayment> {
        let file = self.file();
        let last = "SELECT payment FROM payments ORDER BY rowid DESC LIMIT 1";
        let text: String = file.query_row(last, [], |row| row.get(0)).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Writes the payment of an answer that broke off, with its receipt, so that a second run presents it again.
    pub(crate) async fn take_back(&self, Receipt(receipt): &Receipt) -> Result<(), Fault> {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        match ended {
            Some(mut payment) => {
                payment.settled = Some(receipt.clone());
                self.write(&payment).await
            }
            None => Ok(()),
        }
    }

    /// Returns the kept receipts with their numbers, the newest first.
    pub(crate) fn receipts(&self) -> Result<Vec<(i64, String)>, String> {
        let file = self.file();
        let read = || -> rusqlite::Result<Vec<(i64, String)>> {
            let mut rows = file.prepare("SELECT number, kept FROM receipts ORDER BY number DESC")?;
            let found = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            found.collect()
        };
        read().map_err(|error| error.to_string())
    }

    fn file(&self) -> MutexGuard<'_, Connection> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait::async_trait]
impl PaymentJournal for Journal {
    async fn write(&self, payment: &OpenPayment) -> Result<(), Fault> {
        let text = serde_json::to_string(payment).map_err(Fault::store)?;
        let insert = "INSERT OR REPLACE INTO payments (id, purchase, payment) VALUES (?1, ?2, ?3)";
        self.file().execute(insert, (&payment.id, &payment.purchase, text)).map_err(Fault::store)?;
        Ok(())
    }

    async fn find(&self, purchase: &str) -> Result<Vec<OpenPayment>, Fault> {
        let file = self.file();
        let mut rows =
            file.prepare("SELECT payment FROM payments WHERE purchase = ?1 ORDER BY rowid").map_err(Fault::store)?;
        let texts = rows.query_map([purchase], |row| row.get::<_, String>(0)).map_err(Fault::store)?;
        let now = SystemClock.now();
        let mut found = Vec::new();
        for text in texts {
            let payment: OpenPayment = serde_json::from_str(&text.map_err(Fault::store)?).map_err(Fault::store)?;
            if self.anew && !payment.lasts(now) {
                file.execute("DELETE FROM payments WHERE id = ?1", [&payment.id]).map_err(Fault::store)?;
            } else {
                found.push(payment);
            }
        }
        Ok(found)
    }

    async fn remove(&self, id: &str) -> Result<(), Fault> {
        let file = self.file();
        let text = file.query_row("SELECT payment FROM payments WHERE id = ?1", [id], |row| row.get::<_, String>(0));
        let ended = text.ok().and_then(|text| serde_json::from_str(&text).ok());
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = ended;
        file.execute("DELETE FROM payments WHERE id = ?1", [id]).map(drop).map_err(Fault::store)
    }
}

#[async_trait::async_trait]
impl KeepReceipt for Journal {
    async fn keep(&self, receipt: &KeptReceipt) -> Result<(), Fault> {
        let kept = serde_json::to_string(receipt).map_err(Fault::store)?;
        let insert = "INSERT OR IGNORE INTO receipts (signed, kept) VALUES (?1, ?2)";
        self.file().execute(insert, (receipt.receipt.as_str(), kept)).map(drop).map_err(Fault::store)
    }
}

/// Restricts the file to its owner before SQLite opens it, and likewise the directory of a new file.
#[cfg(unix)]
fn private(path: &Path) -> std::io::Result<()> {
    use std::fs::{DirBuilder, OpenOptions, Permissions};
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))
}

#[cfg(not(unix))]
fn private(path: &Path) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), std::fs::create_dir_all)
}
