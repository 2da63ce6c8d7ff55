//! The catalog on SQLite and on PostgreSQL: listings are stored, replaced, filtered, and found by words, by one suite.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::sync::Arc;

use serde_json::{Value, json};
use x402_extensions::bazaar::Listing;
use x402_store::catalog::{Catalog, CatalogFilter, Listed, MAX_ACCOUNTS, MAX_OFFSET, MAX_PAGE, Page};
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

fn paid_to(account: &str, network: &str) -> impl FnOnce(&mut Value) {
    move |json| {
        json["accepts"][0]["payTo"] = json!(account);
        json["accepts"][0]["network"] = json!(network);
    }
}

/// Whoever pays may name any URL, but what another account was paid leaves the listing of its owner as it is.
async fn a_payment_to_another_account_replaces_nothing(place: &Place) {
    let catalog = place.open().await;
    let at = UnixSeconds(1_795_923_767);
    let (base, sepolia) = ("eip155:8453", "eip155:84532");
    catalog.put(&listing("/a", "honest words", paid_to("0xAbC0", base)), at).await.unwrap();
    catalog.put(&listing("/a", "forged words", paid_to("0xbad0", base)), at.plus(1)).await.unwrap();
    // Nor does one that costs nothing: the same account on a network of test money.
    catalog.put(&listing("/a", "free words", paid_to("0xAbC0", sepolia)), at.plus(2)).await.unwrap();
    for words in ["honest", "forged", "free"] {
        assert_eq!(found(&*catalog, words).await, ["/a"], "{words}");
    }
    let (listed, total) = catalog.list(&all(), Page::new(0, 20)).await.unwrap();
    assert_eq!(total, 3);
    let texts: Vec<_> = listed.iter().map(|listed| listed.listing.description.clone().unwrap()).collect();
    assert_eq!(texts, ["free words", "forged words", "honest words"]);
    // The owner's next payment renews its own listing, whatever the case of its account.
    catalog.put(&listing("/a", "renewed words", paid_to("0xABC0", base)), at.plus(3)).await.unwrap();
    assert_eq!(catalog.list(&all(), Page::new(0, 20)).await.unwrap().1, 3);
    assert_eq!((found(&*catalog, "honest").await.len(), found(&*catalog, "renewed").await.len()), (0, 1));
}

/// A resource has sixteen listings at most, or a stranger could fill pages with one; the owner's payments keep its own.
async fn of_too_many_accounts_the_longest_unpaid_is_forgotten(place: &Place) {
    let catalog = place.open().await;
    let network = "eip155:8453";
    let most = u64::from(MAX_ACCOUNTS);
    catalog.put(&listing("/b", "of another resource", paid_to("0x00", network)), UnixSeconds(0)).await.unwrap();
    catalog.put(&listing("/a", "words of the owner", paid_to("0xAbC0", network)), UnixSeconds(1)).await.unwrap();
    for number in 2..=most {
        let text = format!("stranger {number}");
        let account = format!("0xbad{number}");
        catalog.put(&listing("/a", &text, paid_to(&account, network)), UnixSeconds(number)).await.unwrap();
    }
    catalog.put(&listing("/a", "words of the owner", paid_to("0xAbC0", network)), UnixSeconds(90)).await.unwrap();
    assert_eq!(catalog.list(&all(), Page::new(0, 50)).await.unwrap().1, most + 1);
    catalog.put(&listing("/a", "latest", paid_to("0xbadff", network)), UnixSeconds(91)).await.unwrap();
    assert_eq!(catalog.list(&all(), Page::new(0, 50)).await.unwrap().1, most + 1);
    for (words, left) in [("stranger 2", 0), ("stranger 3", 1), ("owner", 1), ("latest", 1), ("another resource", 1)] {
        assert_eq!(found(&*catalog, words).await.len(), left, "{words}");
    }
}

/// Ranks are those of the newest matches: a better match that was paid earlier than five hundred others comes after them, and
/// pages go on from one block to the next without a gap.
async fn the_newest_matches_are_ranked(place: &Place) {
    let catalog = place.open().await;
    let best = |path: &str| listing(path, "same same same same", |json| json["tags"] = json!(["same"]));
    catalog.put(&best("/old"), UnixSeconds(1)).await.unwrap();
    for number in 0..505_u64 {
        let text = "one word that is the same, and many others by which it counts for less";
        catalog.put(&listing(&format!("/{number}"), text, |_| {}), UnixSeconds(2 + number)).await.unwrap();
    }
    catalog.put(&best("/best"), UnixSeconds(600)).await.unwrap();
    let mut seen = Vec::new();
    let mut offset = 0;
    loop {
        let (page, more) = catalog.search("same", &all(), Page::new(offset, 70)).await.unwrap();
        seen.extend(paths(&page).into_iter().map(str::to_owned));
        if !more {
            break;
        }
        offset += 70;
    }
    assert_eq!(seen[0], "/best", "the best of the newest");
    let unique: std::collections::BTreeSet<_> = seen.iter().collect();
    assert_eq!((seen.len(), unique.len()), (507, 507), "each once");
    assert_eq!(seen[500], "/old", "the best of the others");
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
    for place in Place::both().await {
        a_payment_to_another_account_replaces_nothing(&place).await;
    }
    for place in Place::both().await {
        of_too_many_accounts_the_longest_unpaid_is_forgotten(&place).await;
    }
    for place in Place::both().await {
        the_newest_matches_are_ranked(&place).await;
    }
}

/// A catalog of schema 3, in which the last payment for a resource replaced its listing, keeps its listings and their words.
#[tokio::test]
async fn a_catalog_of_an_earlier_schema_is_found_again() {
    const FILE: [&str; 3] = [
        include_str!("../src/sqlite/schema/1.sql"),
        include_str!("../src/sqlite/schema/2.sql"),
        include_str!("../src/sqlite/schema/3.sql"),
    ];
    const DATABASE: [&str; 3] = [
        include_str!("../src/postgres/schema/1.sql"),
        include_str!("../src/postgres/schema/2.sql"),
        include_str!("../src/postgres/schema/3.sql"),
    ];
    let [file, database] = Place::both().await;
    let (Place::File(folder), Place::Database(url)) = (&file, &database) else { panic!() };
    let rows = [("/late", "Weather of Köln", 9_i64), ("/early", "Weather", 5)];
    let text = |path: &str, description: &str| {
        serde_json::to_string(&listing(path, description, |json| json["toolName"] = json!("forecast"))).unwrap()
    };
    {
        let connection = rusqlite::Connection::open(folder.path().join("ledger.sqlite")).unwrap();
        connection.execute_batch(&FILE.concat()).unwrap();
        connection.pragma_update(None, "user_version", 3).unwrap();
        let insert = "INSERT INTO listings (identity, type, network, scheme, pay_to, listing, updated)
                      VALUES (?1, 'http', 'eip155:84532', 'exact', '0xabc0', ?2, ?3)";
        for (path, description, updated) in rows {
            connection.execute(insert, rusqlite::params![path, text(path, description), updated]).unwrap();
        }
    }
    {
        let client = support::session(url).await;
        client.batch_execute(&DATABASE.concat()).await.unwrap();
        let table = "CREATE TABLE x402_migrations (number INTEGER PRIMARY KEY, applied TIMESTAMPTZ);
                     INSERT INTO x402_migrations (number) VALUES (1), (2), (3)";
        client.batch_execute(table).await.unwrap();
        let insert = "INSERT INTO x402_listings (identity, type, network, scheme, pay_to, listing, words, updated)
                      VALUES (sha256(convert_to($1, 'UTF8')), 'http', 'eip155:84532', 'exact', '0xabc0', $2,
                              to_tsvector('simple', $3), $4)";
        for (path, description, updated) in rows {
            let words = format!("{} forecast data demo", description.replace('ö', "o"));
            client.execute(insert, &[&path, &text(path, description), &words, &updated]).await.unwrap();
        }
    }
    for place in [&file, &database] {
        let catalog = place.open().await;
        let (found, total) = catalog.list(&all(), Page::new(0, 5)).await.unwrap();
        assert_eq!((paths(&found), total), (vec!["/late", "/early"], 2));
        for (words, expected) in
            [("weather", &["/late", "/early"][..]), ("koln", &["/late"]), ("forecast data demo", &["/late", "/early"])]
        {
            let mut of_words = self::found(&*catalog, words).await;
            of_words.sort_by_key(|path| std::cmp::Reverse(path.clone()));
            assert_eq!(of_words, expected, "{words}");
        }
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
