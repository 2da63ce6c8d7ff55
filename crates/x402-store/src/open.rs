//! A store by its place: a path or a URL.

use std::sync::Arc;

use x402_http::server::Grants;
use x402_types::Fault;

#[cfg(feature = "postgres")]
use crate::postgres::{Postgres, PostgresGrants, PostgresUrl};
use crate::sqlite::{Database, SqliteGrants};

/// Opens a seller's grants at a place: the path of a SQLite file, for one process, or the URL of a PostgreSQL database,
/// `postgres://USER@HOST/DATABASE`, for all processes that sell for the same payments.
/// # Errors
/// The place cannot be used. The error repeats no credentials.
#[cfg_attr(not(feature = "postgres"), expect(clippy::unused_async, reason = "a database needs it"))]
pub async fn open_grants(place: &str) -> Result<Arc<dyn Grants>, Fault> {
    if !place.contains("://") {
        return Ok(Arc::new(SqliteGrants::new(Database::open(place)?)));
    }
    #[cfg(feature = "postgres")]
    {
        let url: PostgresUrl = place.parse().map_err(Fault::store)?;
        let database = Postgres::open(&url, Postgres::CONNECTIONS).await.map_err(Fault::store)?;
        Ok(Arc::new(PostgresGrants::start(database).await?))
    }
    #[cfg(not(feature = "postgres"))]
    Err(Fault::store("expected the path of a file: this build has no PostgreSQL (feature `postgres`)"))
}
