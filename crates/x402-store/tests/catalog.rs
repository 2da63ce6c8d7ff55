//! The catalog on SQLite and on PostgreSQL: listings are stored, replaced, filtered, and found by words, by one suite.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::sync::Arc;

use serde_json::{Value, json};
use x402_extensions::bazaar::Listing;
use x402_store::catalog::{Catalog, CatalogFilter, Listed, MAX_OFFSET, MAX_PAGE, Page};
use x402_store::postgres::PostgresCatalog;
use x402_store::sqlite::{Database, SqliteCatalog};
use x402_types::UnixSeconds;

fn listing(path: &str, description: &str, change: impl FnOnce(&mut Value)) -> Listing {
    let mut json = json!({
        "resource": format!("https://api.example.com{path}"), "type": "http", "x402Version": 2, "method": "GET",
        "description": description, "serviceName": "Demo", "tags": ["data"],
        "accepts": [{"scheme": "exact", "network": "eip155:84532", "amount": "1000", "payTo": "0xAbC0",
            "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e", "maxTimeoutSeconds": 60}],
        "extensions": {"bazaar": {"info": {}}},
    });
    change(&mut json);
    serde_json::from_value(json).unwrap()
}

fn paths(found: &[Listed]) -> Vec<&str> {
    found.iter().map(|listed| listed.listing.resource.strip_prefix("https://api.example.com").unwrap()).collect()
}

fn all() -> CatalogFilter {
    CatalogFilter::default()
}

/// A place of a catalog, which is opened as often as a test wants.
enum Place {
    File(tempfile::TempDir),
    Database(String),
}

impl Place {
    async fn both() -> [Self; 2] {
        [Self::File(tempfile::tempdir().unwrap()), Self::Database(support::empty_database().await)]
    }

    async fn open(&self) -> Arc<dyn Catalog> {
        match self {
            Self::File(folder) => {
                let database = Database::open(folder.path().join("ledger.sqlite")).unwrap();
                Arc::new(SqliteCatalog::new(database.with_own_reader().unwrap()))
            }
            Self::Database(url) => Arc::new(PostgresCatalog::new(support::open(url).await)),
        }
    }
}

async fn found(catalog: &dyn Catalog, words: &str) -> Vec<String> {
    let (found, _) = catalog.search(words, &all(), Page::new(0, 20)).await.unwrap();
    paths(&found).into_iter().map(str::to_owned).collect()
}

async fn a_listing_is_found_by_its_words_and_by_their_beginnings(place: &Place) {
    let catalog = place.open().await;
    let at = UnixSeconds(1_795_923_767);
    catalog.put(&listing("/weather", "Weather of a city, Köln too", |_| {}), at).await.unwrap();
    catalog.put(&listing("/news", "News about the weather", |_| {}), at.plus(1)).await.unwrap();
    catalog.put(&listing("/tool", "A tool", |json| json["tags"] = json!(["forecast"])), at.plus(2)).await.unwrap();
    assert_eq!(found(&*catalog, "city").await, ["/weather"]);
    assert_eq!(found(&*catalog, "WEATH").await.len(), 2);
    assert_eq!(found(&*catalog, "koln").await, ["/weather"]);
    assert_eq!(found(&*catalog, "weather news").await, ["/news"], "all of the words");
    assert_eq!(found(&*catalog, "forecast").await, ["/tool"]);
    for none in ["", " - ", "snow", "weather snow"] {
        assert_eq!(found(&*catalog, none).await, Vec::<String>::new(), "{none:?}");
    }
    // The engine's own syntax is text.
    for text in
        ["\"", "weather\"", "city OR tool", "NEAR(", "text:city", "city*", "^city", "a'; DROP TABLE listings; --"]
    {
        catalog.search(text, &all(), Page::new(0, 20)).await.unwrap();
    }
    assert_eq!(found(&*catalog, "city OR tool").await, Vec::<String>::new(), "OR is a word");
    let (found, total) = catalog.list(&all(), Page::new(0, 2)).await.unwrap();
    assert_eq!((paths(&found), total), (vec!["/tool", "/news"], 3));
    assert_eq!(found[0].last_updated, "2026-11-29T03:42:49Z");
    drop(catalog);
    assert_eq!(self::found(&*place.open().await, "city").await, ["/weather"], "after a restart");
}

async fn a_later_payment_replaces_the_listing_and_its_words(place: &Place) {
    let catalog = place.open().await;
    let at = UnixSeconds(1_795_923_767);
    catalog.put(&listing("/a", "old words", |_| {}), at).await.unwrap();
    catalog.put(&listing("/a", "new text", |_| {}), at.plus(9)).await.unwrap();
    assert_eq!((found(&*catalog, "old").await.len(), found(&*catalog, "new").await.len()), (0, 1));
    let (_, total) = catalog.list(&all(), Page::new(0, 20)).await.unwrap();
    assert_eq!(total, 1);
    // Another method and another tool are other resources.
    catalog.put(&listing("/a", "post", |json| json["method"] = json!("POST")), at).await.unwrap();
    for tool in ["one", "two"] {
        let of_tool = |json: &mut Value| {
            json["type"] = json!("mcp");
            json["toolName"] = json!(tool);
        };
        catalog.put(&listing("/a", tool, of_tool), at).await.unwrap();
    }
    assert_eq!(catalog.list(&all(), Page::new(0, 20)).await.unwrap().1, 4);
}

async fn filters_and_pages_have_their_bounds(place: &Place) {
    let catalog = place.open().await;
    for at in 0..25_u64 {
        let network = if at % 2 == 0 { "eip155:84532" } else { "eip155:8453" };
        let of_network = |json: &mut Value| json["accepts"][0]["network"] = json!(network);
        catalog.put(&listing(&format!("/{at}"), "same", of_network), UnixSeconds(at)).await.unwrap();
    }
    let mut filter = all();
    filter.network = Some("eip155:8453".parse().unwrap());
    assert_eq!(catalog.list(&filter, Page::new(0, 100)).await.unwrap().1, 12);
    assert_eq!(catalog.search("same", &filter, Page::new(0, 100)).await.unwrap().0.len(), 12);
    filter.pay_to = Some("0xABC0".into());
    filter.scheme = Some("exact".into());
    filter.r#type = Some("http".into());
    assert_eq!(catalog.list(&filter, Page::new(0, 100)).await.unwrap().1, 12, "accounts are compared without case");
    filter.scheme = Some("upto".into());
    assert_eq!(catalog.list(&filter, Page::new(0, 100)).await.unwrap(), (Vec::new(), 0));
    let mut seen = Vec::new();
    for offset in [0, 10, 20, 30] {
        let (page, total) = catalog.list(&all(), Page::new(offset, 10)).await.unwrap();
        assert_eq!(total, 25);
        seen.extend(paths(&page).into_iter().map(str::to_owned));
    }
    let expected: Vec<_> = (0..25).rev().map(|at| format!("/{at}")).collect();
    assert_eq!(seen, expected, "each once, the newest first");
    let mut matches = Vec::new();
    for (offset, expected) in [(0, true), (10, true), (20, false), (30, false)] {
        let (page, has_more) = catalog.search("same", &all(), Page::new(offset, 10)).await.unwrap();
        assert_eq!(has_more, expected, "{offset}");
        matches.extend(paths(&page).into_iter().map(str::to_owned));
    }
    assert_eq!(matches, seen, "of equal matches the newest first");
    for (name, total) in [("bazaar", 25), ("other", 0)] {
        let mut filter = all();
        filter.extensions = vec![name.into()];
        assert_eq!(catalog.list(&filter, Page::new(0, 10)).await.unwrap().1, total);
        assert_eq!(catalog.search("same", &filter, Page::new(0, 10)).await.unwrap().0.is_empty(), total == 0);
    }
    assert_eq!(Page::new(u32::MAX, 0), Page { offset: MAX_OFFSET, limit: 1 });
    assert_eq!(Page::new(0, u32::MAX).limit, MAX_PAGE);
}

#[tokio::test]
async fn both_stores_keep_the_contract() {
    for place in Place::both().await {
        a_listing_is_found_by_its_words_and_by_their_beginnings(&place).await;
    }
    for place in Place::both().await {
        a_later_payment_replaces_the_listing_and_its_words(&place).await;
    }
    for place in Place::both().await {
        filters_and_pages_have_their_bounds(&place).await;
    }
}

/// A search that takes long holds up no read of a settlement: its reader is another.
#[tokio::test]
async fn a_catalog_with_its_own_reader_leaves_the_other_reader_free() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(folder.path().join("ledger.sqlite")).unwrap();
    let beside = database.with_own_reader().unwrap();
    let (release, held) = std::sync::mpsc::channel::<()>();
    let (begun, started) = tokio::sync::oneshot::channel();
    let long = tokio::spawn(async move {
        let hold = move |_: &_| {
            begun.send(()).unwrap();
            held.recv().unwrap_or_default();
            Ok(())
        };
        beside.read(hold).await
    });
    started.await.unwrap();
    let one: i64 = database.read(|connection| connection.query_row("SELECT 1", [], |row| row.get(0))).await.unwrap();
    assert_eq!(one, 1, "answered while the other reads");
    drop(release);
    long.await.unwrap().unwrap();
}

/// Two processes that settle for one route at once leave one listing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_listing_is_left_of_many_writers() {
    let url = support::empty_database().await;
    let mut running = tokio::task::JoinSet::new();
    for number in 0..20_u64 {
        let catalog = PostgresCatalog::new(support::open(&url).await);
        running.spawn(async move { catalog.put(&listing("/a", "same", |_| {}), UnixSeconds(number)).await });
    }
    running.join_all().await.into_iter().for_each(|put| put.unwrap());
    let catalog = PostgresCatalog::new(support::open(&url).await);
    assert_eq!(catalog.list(&all(), Page::new(0, 10)).await.unwrap().1, 1);
}
