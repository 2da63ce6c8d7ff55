//! The stores of a facilitator: a SQLite file for one process, or a PostgreSQL database for one or more.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use x402_facilitator_core::{HeldLedger, LaneId, Ledger};
use x402_store::answered::ReadAnswered;
use x402_store::budgets::Budgets;
#[cfg(feature = "discovery")]
use x402_store::catalog::Catalog;
use x402_store::ended::EndedPayments;
use x402_store::health::CheckWriter;
use x402_store::marks::{KeepMark, Quarantine};
#[cfg(all(feature = "discovery", feature = "postgres"))]
use x402_store::postgres::PostgresCatalog;
#[cfg(feature = "postgres")]
use x402_store::postgres::{
    Postgres, PostgresBudgets, PostgresEnded, PostgresLedger, PostgresMarks, PostgresRequests, PostgresSessionKeys,
    PostgresUrl,
};
use x402_store::requests::Requests;
#[cfg(feature = "cards")]
use x402_store::sqlite::SqliteCards;
#[cfg(feature = "discovery")]
use x402_store::sqlite::SqliteCatalog;
use x402_store::sqlite::{
    Database, SealError, SealKey, SqliteBudgets, SqliteEnded, SqliteLedger, SqliteMarks, SqliteRequests,
    SqliteSessionKeys,
};
use x402_types::Fault;

use crate::config::{Config, ConfigError, LedgerPlace};
use crate::configured::StartError;
use crate::engine::MarkFile;
use crate::session_keys::SessionKeys;

/// The most connections to a database that holds the catalog.
#[cfg(all(feature = "discovery", feature = "postgres"))]
const CATALOG_CONNECTIONS: usize = 2;

/// The stores of a facilitator, in one place.
pub(crate) struct Stores {
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) marks: Arc<dyn KeepMark>,
    /// The file that repeats the ledger's mark.
    pub(crate) mark_file: Option<MarkFile>,
    pub(crate) requests: Arc<dyn Requests>,
    /// The session keys that payments name by their hash, if they are configured.
    pub(crate) session_keys: Option<Arc<dyn SessionKeys>>,
    pub(crate) database: Arc<dyn CheckWriter>,
    /// The payments that have their answer.
    pub(crate) answered: Arc<dyn ReadAnswered>,
    /// The counts of payments under budgets.
    pub(crate) budgets: Arc<dyn Budgets>,
    /// The payments of whose end a target must be notified.
    pub(crate) ended: Arc<dyn EndedPayments>,
    /// The catalog of what was settled, if one is configured.
    #[cfg(feature = "discovery")]
    pub(crate) catalog: Option<Arc<dyn Catalog>>,
    /// The delegations of cards and the books of credits, which only a file has.
    #[cfg(feature = "cards")]
    pub(crate) cards: Option<SqliteCards>,
    /// The lanes with unfinished payments.
    pub(crate) unfinished: Vec<LaneId>,
}

impl Stores {
    /// Opens the stores of a configuration.
    /// # Errors
    /// The place or the seal key is not usable.
    pub(crate) async fn open(config: &Config) -> Result<Self, StartError> {
        let seal = seal(config)?;
        match config.ledger.place()? {
            LedgerPlace::File(path) => {
                let database = Database::open_alone(&path)?;
                let ledger = SqliteLedger::new(database.clone());
                ledger.take_over().await?;
                let unfinished = ledger.open_lanes().await?;
                let session_keys = sealed(seal, |seal| SqliteSessionKeys::new(database.clone(), seal))?;
                let requests = Arc::new(SqliteRequests::new(database.clone()));
                #[cfg(feature = "discovery")]
                let catalog: Option<Arc<dyn Catalog>> = match config.discovery {
                    true => Some(Arc::new(SqliteCatalog::new(database.with_own_reader()?))),
                    false => None,
                };
                #[cfg(feature = "cards")]
                let cards = Some(SqliteCards::new(database.clone()));
                // The file is open for this process alone, so that memory can hold all of its open payments.
                let ledger = Arc::new(ledger);
                let answered = Arc::clone(&ledger) as Arc<dyn ReadAnswered>;
                let ledger = HeldLedger::alone(ledger).await?;
                Ok(Self {
                    marks: Arc::new(SqliteMarks::new(database.clone())),
                    mark_file: Some(MarkFile::required(mark_file(config, &path))),
                    answered,
                    budgets: Arc::new(SqliteBudgets::new(database.clone())),
                    ended: Arc::new(SqliteEnded::new(database.clone())),
                    ledger: Arc::new(ledger),
                    requests,
                    session_keys,
                    #[cfg(feature = "cards")]
                    cards,
                    #[cfg(feature = "discovery")]
                    catalog,
                    database: Arc::new(database),
                    unfinished,
                })
            }
            #[cfg(feature = "postgres")]
            LedgerPlace::Postgres(url) => Self::in_postgres(&url, config, seal).await,
        }
    }

    /// Opens the stores in a database. Other processes may work on its ledger: this one takes no lane over before its
    /// lease has run out, and holds the open payments of its own lanes only.
    #[cfg(feature = "postgres")]
    async fn in_postgres(url: &PostgresUrl, config: &Config, seal: Option<SealKey>) -> Result<Self, StartError> {
        let database = Postgres::open(url, config.ledger_connections).await?;
        let ledger = PostgresLedger::new(database.clone());
        let unfinished = ledger.open_lanes().await?;
        let session_keys = sealed(seal, |seal| PostgresSessionKeys::new(database.clone(), seal))?;
        let requests = Arc::new(PostgresRequests::new(database.clone()));
        let ledger = Arc::new(ledger);
        let answered = Arc::clone(&ledger) as Arc<dyn ReadAnswered>;
        let ledger = HeldLedger::shared(ledger);
        // No search takes a connection from a settlement.
        #[cfg(feature = "discovery")]
        let catalog: Option<Arc<dyn Catalog>> = match config.discovery {
            true => Some(Arc::new(PostgresCatalog::new(Postgres::open(url, CATALOG_CONNECTIONS).await?))),
            false => None,
        };
        Ok(Self {
            marks: Arc::new(PostgresMarks::new(database.clone())),
            mark_file: config.ledger_mark.clone().map(MarkFile::of_host),
            answered,
            budgets: Arc::new(PostgresBudgets::new(database.clone())),
            ended: Arc::new(PostgresEnded::new(database.clone())),
            ledger: Arc::new(ledger),
            requests,
            session_keys,
            #[cfg(feature = "cards")]
            cards: None,
            #[cfg(feature = "discovery")]
            catalog,
            database: Arc::new(database),
            unfinished,
        })
    }
}

/// Returns the file that repeats the mark of a ledger in a file: beside it, unless another place is configured.
fn mark_file(config: &Config, ledger: &Path) -> PathBuf {
    config.ledger_mark.clone().unwrap_or_else(|| {
        let mut name = ledger.as_os_str().to_owned();
        name.push(".mark");
        name.into()
    })
}

/// Ends the quarantine of a configuration's ledger, while a facilitator works on it or not. Returns what it was.
///
/// # Errors
/// The place is not usable, there is no ledger, or it failed.
pub async fn release(config: &Config) -> Result<Option<Quarantine>, StartError> {
    match config.ledger.place()? {
        LedgerPlace::File(path) => {
            // Opening would create it.
            if !path.is_file() {
                return Err(Fault::store(format_args!("{}: there is no ledger", path.display())).into());
            }
            Ok(SqliteMarks::new(Database::open(path)?).release().await?)
        }
        #[cfg(feature = "postgres")]
        LedgerPlace::Postgres(url) => Ok(PostgresMarks::new(Postgres::open(&url, 1).await?).release().await?),
    }
}

fn no_seal() -> ConfigError {
    ConfigError::Range { field: "session_keys.seal", expected: "32 bytes in hex" }
}

fn seal(config: &Config) -> Result<Option<SealKey>, ConfigError> {
    let Some(keys) = &config.session_keys else { return Ok(None) };
    SealKey::from_hex(&keys.seal.read("session_keys.seal")?).map(Some).map_err(|_| no_seal())
}

/// Creates the store of session keys, if there is a seal key.
fn sealed<T: SessionKeys + 'static>(
    seal: Option<SealKey>,
    store: impl FnOnce(&SealKey) -> Result<T, SealError>,
) -> Result<Option<Arc<dyn SessionKeys>>, ConfigError> {
    let Some(seal) = seal else { return Ok(None) };
    Ok(Some(Arc::new(store(&seal).map_err(|_| no_seal())?)))
}
