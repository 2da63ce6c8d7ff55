//! Schemas of the file: `PRAGMA user_version`, migrated only forward, in one transaction, when the file is opened.
//!
//! A released migration never changes: a new one is appended to [`MIGRATIONS`].

use rusqlite::{Connection, TransactionBehavior};
use x402_types::Fault;

/// The migrations from schema n to n + 1, in order.
///
/// Schema 0 is an empty file, or one of a release before schema numbers: its tables are those of the first migration,
/// which creates only those that are missing.
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

/// Migrates the file to the newest schema.
/// # Errors
/// The file has a newer schema, which the error names; or the store failed, and the file is unchanged.
pub(super) fn to_newest(connection: &mut Connection) -> Result<(), Fault> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(Fault::store)?;
    let found: i32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(Fault::store)?;
    // No release wrote a number below 0.
    let Some(missing) = usize::try_from(found).ok().and_then(|found| MIGRATIONS.get(found..)) else {
        return Err(Fault::store(format_args!(
            "the file has schema {found}, and this release knows schemas up to {}: use a newer release",
            MIGRATIONS.len()
        )));
    };
    if missing.is_empty() {
        return Ok(());
    }
    if found > 0 {
        tracing::info!(from = found, to = MIGRATIONS.len(), "the ledger's tables are migrated");
    }
    for migration in missing {
        transaction.execute_batch(migration).map_err(Fault::store)?;
    }
    transaction.pragma_update(None, "user_version", newest()?).map_err(Fault::store)?;
    transaction.commit().map_err(Fault::store)
}

fn newest() -> Result<i32, Fault> {
    i32::try_from(MIGRATIONS.len()).map_err(Fault::broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(connection: &Connection) -> i32 {
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    }

    #[test]
    fn a_new_file_gets_the_newest_schema_and_keeps_it() {
        let mut connection = Connection::open_in_memory().unwrap();
        to_newest(&mut connection).unwrap();
        assert_eq!(version(&connection), newest().unwrap());
        connection.execute("INSERT INTO grants VALUES (x'01', 'granted', 'request')", []).unwrap();
        to_newest(&mut connection).unwrap();
        let rows: i32 = connection.query_row("SELECT count(*) FROM grants", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 1);
    }

    #[test]
    fn a_newer_file_is_refused_by_its_number_and_left_alone() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "user_version", 7_000).unwrap();
        let refused = to_newest(&mut connection).unwrap_err().to_string();
        assert!(refused.contains("schema 7000"), "{refused}");
        let tables: i32 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).unwrap();
        assert_eq!((version(&connection), tables), (7_000, 0));
    }
}
