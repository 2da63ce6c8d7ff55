//! Stores by their place: a path or a URL.

use std::sync::Arc;

use x402_types::Fault;

#[cfg(feature = "postgres")]
use crate::postgres::{Postgres, PostgresUrl};
use crate::sqlite::Database;

/// The stores in one SQLite file or one PostgreSQL database, which is opened once for all of them.
///
/// ```
/// # #[cfg(all(feature = "grants", feature = "challenges"))]
/// # async fn open(path: &str) -> Result<(), x402_types::Fault> {
/// use x402_store::Stores;
///
/// let stores = Stores::open(path).await?;
/// // For `Seller::with_grants`, and for `Gate::new`.
/// let (grants, challenges) = (stores.grants().await?, stores.challenges());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Stores(Place);

#[derive(Debug, Clone)]
enum Place {
    File(Database),
    #[cfg(feature = "postgres")]
    Database(Postgres),
}

impl Stores {
    /// Opens the stores at a place: the path of a SQLite file, for one process, or the URL of a PostgreSQL database,
    /// `postgres://USER@HOST/DATABASE`, for all processes that sell for the same payments.
    /// # Errors
    /// The place cannot be used. The error repeats no credentials.
    #[cfg_attr(not(feature = "postgres"), expect(clippy::unused_async, reason = "a database needs it"))]
    pub async fn open(place: &str) -> Result<Self, Fault> {
        if !place.contains("://") {
            return Ok(Self(Place::File(Database::open(place)?)));
        }
        #[cfg(feature = "postgres")]
        {
            let url: PostgresUrl = place.parse().map_err(Fault::store)?;
            let database = Postgres::open(&url, Postgres::CONNECTIONS).await.map_err(Fault::store)?;
            Ok(Self(Place::Database(database)))
        }
        #[cfg(not(feature = "postgres"))]
        Err(Fault::store("expected the path of a file: this build has no PostgreSQL (feature `postgres`)"))
    }

    /// Returns the payments that a seller has granted.
    /// # Errors
    /// The database cannot be used.
    #[cfg(feature = "grants")]
    #[cfg_attr(not(feature = "postgres"), expect(clippy::unused_async, reason = "a database needs it"))]
    pub async fn grants(&self) -> Result<Arc<dyn x402_http::server::Grants>, Fault> {
        Ok(match &self.0 {
            Place::File(file) => Arc::new(crate::sqlite::SqliteGrants::new(file.clone())),
            #[cfg(feature = "postgres")]
            Place::Database(database) => Arc::new(crate::postgres::PostgresGrants::start(database.clone()).await?),
        })
    }

    /// Returns the answers that a seller gave to named requests.
    #[cfg(feature = "grants")]
    #[must_use]
    pub fn kept_answers(&self) -> Arc<dyn x402_http::server::KeepAnswers> {
        match &self.0 {
            Place::File(file) => Arc::new(crate::sqlite::SqliteKeptAnswers::new(file.clone())),
            #[cfg(feature = "postgres")]
            Place::Database(database) => Arc::new(crate::postgres::PostgresKeptAnswers::new(database.clone())),
        }
    }

    /// Returns the challenges of a seller, with their proofs, entitlements, meters and refunds.
    #[cfg(feature = "challenges")]
    #[must_use]
    pub fn challenges(&self) -> Arc<dyn x402_challenge::Store> {
        match &self.0 {
            Place::File(file) => Arc::new(crate::sqlite::SqliteChallenges::new(file.clone())),
            #[cfg(feature = "postgres")]
            Place::Database(database) => Arc::new(crate::postgres::PostgresChallenges::new(database.clone())),
        }
    }

    /// Returns the requests that `/verify` remembers for `/settle`.
    #[cfg(feature = "requests")]
    #[must_use]
    pub fn requests(&self) -> Arc<dyn crate::requests::Requests> {
        match &self.0 {
            Place::File(file) => Arc::new(crate::sqlite::SqliteRequests::new(file.clone())),
            #[cfg(feature = "postgres")]
            Place::Database(database) => Arc::new(crate::postgres::PostgresRequests::new(database.clone())),
        }
    }

    /// Returns the catalog of resources that were paid. Its reads are apart from those of the other stores of a file.
    /// # Errors
    /// The file cannot be opened once more.
    #[cfg(feature = "catalog")]
    pub fn catalog(&self) -> Result<Arc<dyn crate::catalog::Catalog>, Fault> {
        Ok(match &self.0 {
            Place::File(file) => Arc::new(crate::sqlite::SqliteCatalog::new(file.with_own_reader()?)),
            #[cfg(feature = "postgres")]
            Place::Database(database) => Arc::new(crate::postgres::PostgresCatalog::new(database.clone())),
        })
    }

    /// Returns the session keys, sealed with this key.
    /// # Errors
    /// The seal key cannot be used.
    #[cfg(feature = "session-keys")]
    pub fn session_keys(
        &self,
        seal: &crate::sqlite::SealKey,
    ) -> Result<Arc<dyn crate::session_keys::SessionKeys>, crate::sqlite::SealError> {
        Ok(match &self.0 {
            Place::File(file) => Arc::new(crate::sqlite::SqliteSessionKeys::new(file.clone(), seal)?),
            #[cfg(feature = "postgres")]
            Place::Database(database) => Arc::new(crate::postgres::PostgresSessionKeys::new(database.clone(), seal)?),
        })
    }
}

/// Opens a seller's grants at a place, see [`Stores::open`].
/// # Errors
/// The place cannot be used. The error repeats no credentials.
#[cfg(feature = "grants")]
pub async fn open_grants(place: &str) -> Result<Arc<dyn x402_http::server::Grants>, Fault> {
    Stores::open(place).await?.grants().await
}
