//! Schemas of the database: numbered in the table `x402_migrations`, migrated only forward, each in a transaction, when
//! the database is opened. Several processes may open it at once: the number's unique key lets one of them migrate.
//!
//! A released migration never changes: a new one is appended to [`MIGRATIONS`].

use tokio_postgres::error::SqlState;

use super::connect::{Postgres, PostgresOpenError};
use super::failure::{is_serialization, text};

/// The migrations from schema n to n + 1, in order.
const MIGRATIONS: &[&str] = &[
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
    include_str!("schema/5.sql"),
    include_str!("schema/6.sql"),
    include_str!("schema/7.sql"),
    include_str!("schema/8.sql"),
];

/// The table of the numbers.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS x402_migrations (
  number INTEGER PRIMARY KEY,
  applied TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP
)";

/// The number of times that a start is tried: each other process that migrates at the same time can cost one.
const TRIES: u32 = 20;

/// Migrates the database to the newest schema.
/// # Errors
/// It has a newer schema, which the error names; or it failed, and no migration is half done.
pub(super) async fn to_newest(database: &Postgres) -> Result<(), PostgresOpenError> {
    let mut tries = 1;
    loop {
        match once(database).await {
            Err(Failed::Database(error)) if tries < TRIES && is_of_another(&error) => {
                tokio::time::sleep(std::time::Duration::from_millis(u64::from(tries) * 5)).await;
                tries += 1;
            }
            Err(Failed::Database(error)) => {
                let (place, detail) = (database.place().into(), text(&error).into());
                return Err(PostgresOpenError::Refused { place, detail });
            }
            Err(Failed::Open(error)) => return Err(error),
            Ok(()) => return Ok(()),
        }
    }
}

enum Failed {
    Database(tokio_postgres::Error),
    Open(PostgresOpenError),
}

impl From<tokio_postgres::Error> for Failed {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error)
    }
}

/// Returns whether the error is that of two processes that migrate at once: `CREATE TABLE IF NOT EXISTS` is not safe
/// then.
fn is_of_another(error: &tokio_postgres::Error) -> bool {
    const CODES: [SqlState; 3] = [SqlState::UNIQUE_VIOLATION, SqlState::DUPLICATE_TABLE, SqlState::DUPLICATE_OBJECT];
    is_serialization(error) || error.code().is_some_and(|code| CODES.contains(code))
}

async fn once(database: &Postgres) -> Result<(), Failed> {
    let mut client = database.client().await.map_err(|error| Failed::Open(database.unusable(&error)))?;
    // A user who may not create tables can use those that there are.
    if client.query("SELECT number FROM x402_migrations WHERE number = 0", &[]).await.is_err() {
        client.batch_execute(TABLE).await?;
    }
    let row = client.query_one("SELECT COALESCE(MAX(number), 0) FROM x402_migrations", &[]).await?;
    let (found, known): (i32, _) = (row.try_get(0)?, i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX));
    if found > known {
        let place = database.place().into();
        return Err(Failed::Open(PostgresOpenError::NewerSchema { place, found, known }));
    }
    if found > 0 && found < known {
        tracing::info!(from = found, to = known, "the ledger's tables are migrated");
    }
    for (number, migration) in (1..).zip(MIGRATIONS).skip(usize::try_from(found).unwrap_or(0)) {
        let transaction = client.transaction().await?;
        // A migration may take longer than other statements.
        transaction.batch_execute("SET LOCAL statement_timeout = 0").await?;
        // Another process that migrates has this key: this one waits for its end.
        let mine = "INSERT INTO x402_migrations (number) VALUES ($1) ON CONFLICT (number) DO NOTHING";
        if transaction.execute(mine, &[&number]).await? == 1 {
            transaction.batch_execute(migration).await?;
        }
        transaction.commit().await?;
    }
    Ok(())
}
