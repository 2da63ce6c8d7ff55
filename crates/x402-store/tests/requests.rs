//! Requests in memory, on SQLite and on PostgreSQL.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "support/mod.rs"]
mod support;

use x402_store::postgres::PostgresRequests;
use x402_store::requests::{MemoryRequests, Remembered, Requests};
use x402_store::sqlite::{Database, SqliteRequests};
use x402_types::{AtomicAmount, UnixSeconds};

fn request(id: &str, amount: u64, expires: u64) -> Remembered {
    Remembered {
        id: id.to_owned(),
        caller: "shop".to_owned(),
        digest: [7; 32],
        max_amount: AtomicAmount::from(amount),
        expires: UnixSeconds(expires),
    }
}

async fn the_first_of_an_id_stays_until_it_expires(store: &dyn Requests) {
    let first = request("a", 5, 100);
    assert_eq!(store.put(first.clone(), UnixSeconds(0)).await, Ok(first.clone()));
    assert_eq!(store.put(request("a", 9, 200), UnixSeconds(100)).await, Ok(first.clone()));
    assert_eq!(store.read("shop", "a").await, Ok(Some(first)));
    assert_eq!(store.read("other", "a").await, Ok(None), "another caller");
    assert_eq!(store.read("shop", "b").await, Ok(None));
    let second = request("a", 9, 200);
    assert_eq!(store.put(second.clone(), UnixSeconds(101)).await, Ok(second));
    // A new request forgets what has expired.
    store.put(request("b", 1, 300), UnixSeconds(201)).await.unwrap();
    assert_eq!(store.read("shop", "a").await, Ok(None));
}

#[tokio::test]
async fn in_memory() {
    the_first_of_an_id_stays_until_it_expires(&MemoryRequests::default()).await;
}

#[tokio::test]
async fn in_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let database = Database::open(file.path()).unwrap();
    the_first_of_an_id_stays_until_it_expires(&SqliteRequests::new(database.clone())).await;
    assert!(SqliteRequests::new(database).read("shop", "b").await.unwrap().is_some());
}

#[tokio::test]
async fn in_a_database() {
    let url = support::empty_database().await;
    the_first_of_an_id_stays_until_it_expires(&PostgresRequests::new(support::open(&url).await)).await;
    let again = PostgresRequests::new(support::open(&url).await);
    assert!(again.read("shop", "b").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_processes_that_put_one_id_at_once_both_get_the_same() {
    let url = support::empty_database().await;
    let mut running = tokio::task::JoinSet::new();
    let stores = [1, 2].map(|_| url.clone());
    for (number, url) in (0_u64..).zip(stores) {
        let store = PostgresRequests::new(support::open(&url).await);
        for more in 0..20 {
            let store = store.clone();
            let request = request("a", number * 100 + more, 100);
            running.spawn(async move { store.put(request, UnixSeconds(0)).await.unwrap().max_amount });
        }
    }
    let amounts: std::collections::BTreeSet<_> = running.join_all().await.into_iter().collect();
    assert_eq!(amounts.len(), 1, "{amounts:?}");
}
