//! The mark of a ledger and its quarantine, on SQLite and on PostgreSQL.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

#[path = "support/mod.rs"]
mod support;

use std::sync::Arc;

use x402_store::marks::{FoundMark, KeepMark, Mark, Quarantine};
use x402_store::postgres::PostgresMarks;
use x402_store::sqlite::{Database, SqliteMarks};
use x402_types::UnixSeconds;

fn mark(count: u64) -> Mark {
    Mark { ledger: "first".to_owned(), count }
}

fn quarantine(since: u64, why: &str) -> Quarantine {
    Quarantine { since: UnixSeconds(since), why: why.to_owned() }
}

async fn a_mark_grows_and_keeps_its_name(store: &dyn KeepMark) {
    assert_eq!(store.mark().await, Ok(None));
    for count in 1..4 {
        let name = if count == 1 { "first" } else { "another" };
        assert_eq!(store.raise(name).await, Ok(mark(count)));
        assert_eq!(store.mark().await, Ok(Some(FoundMark { mark: mark(count), moved: false })));
    }
}

async fn a_quarantine_stays_until_it_is_released(store: &dyn KeepMark) {
    assert_eq!((store.quarantined().await, store.release().await), (Ok(None), Ok(None)));
    store.quarantine(quarantine(7, "older")).await.unwrap();
    store.quarantine(quarantine(9, "another sign")).await.unwrap();
    assert_eq!(store.quarantined().await, Ok(Some(quarantine(7, "older"))));
    assert_eq!(store.release().await, Ok(Some(quarantine(7, "older"))));
    assert_eq!((store.quarantined().await, store.release().await), (Ok(None), Ok(None)));
}

async fn processes_raise_it_at_once(stores: [Arc<dyn KeepMark>; 2]) {
    let raise = |turn: usize| {
        let store = Arc::clone(&stores[turn % 2]);
        async move { store.raise("x").await.unwrap().count }
    };
    let mut counts = futures_util::future::join_all((0..20).map(raise)).await;
    counts.sort_unstable();
    assert_eq!(counts, (4..24).collect::<Vec<_>>(), "each raised it by one");
}

#[tokio::test]
async fn in_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let open = || Arc::new(SqliteMarks::new(Database::open(file.path()).unwrap()));
    let (one, other) = (open(), open());
    a_mark_grows_and_keeps_its_name(&*one).await;
    a_quarantine_stays_until_it_is_released(&*one).await;
    processes_raise_it_at_once([one, other]).await;
}

#[tokio::test]
async fn in_a_database() {
    let url = support::empty_database().await;
    let (one, other) = (support::open(&url).await, support::open(&url).await);
    let (one, other) = (Arc::new(PostgresMarks::new(one)), Arc::new(PostgresMarks::new(other)));
    a_mark_grows_and_keeps_its_name(&*one).await;
    a_quarantine_stays_until_it_is_released(&*one).await;
    processes_raise_it_at_once([one, other]).await;
}

#[tokio::test]
async fn a_database_that_was_restored_has_moved() {
    let url = support::empty_database().await;
    let before = PostgresMarks::new(support::open(&url).await);
    before.raise("first").await.unwrap();
    drop(before);
    let (beside, name) = (support::session(&support::SERVER.url("postgres")).await, url.rsplit('/').next().unwrap());
    let name = name.split('?').next().unwrap();
    // PostgreSQL copies a database that nobody uses.
    let copy = format!("CREATE DATABASE restored_{name} TEMPLATE {name}");
    while beside.batch_execute(&copy).await.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let after = PostgresMarks::new(support::open(&support::SERVER.url(&format!("restored_{name}"))).await);
    assert_eq!(after.mark().await, Ok(Some(FoundMark { mark: mark(1), moved: true })));
    assert_eq!(after.raise("x").await, Ok(mark(2)));
    assert_eq!(after.mark().await, Ok(Some(FoundMark { mark: mark(2), moved: false })), "it was taken note of");
}
