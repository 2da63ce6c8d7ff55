//! The catalog on SQLite: listings are stored, replaced, filtered, and found by words.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

use serde_json::{Value, json};
use x402_extensions::bazaar::Listing;
use x402_store::catalog::{Catalog, CatalogFilter, Listed, MAX_OFFSET, MAX_PAGE, Page};
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

async fn found(catalog: &dyn Catalog, words: &str) -> Vec<String> {
    let found = catalog.search(words, &all(), Page::new(0, 20)).await.unwrap();
    paths(&found).into_iter().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_listing_is_found_by_its_words_and_by_their_beginnings() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger.sqlite");
    let catalog = SqliteCatalog::new(Database::open(&file).unwrap());
    let at = UnixSeconds(1_795_923_767);
    catalog.put(&listing("/weather", "Weather of a city, Köln too", |_| {}), at).await.unwrap();
    catalog.put(&listing("/news", "News about the weather", |_| {}), at.plus(1)).await.unwrap();
    catalog.put(&listing("/tool", "A tool", |json| json["tags"] = json!(["forecast"])), at.plus(2)).await.unwrap();
    assert_eq!(found(&catalog, "city").await, ["/weather"]);
    assert_eq!(found(&catalog, "WEATH").await.len(), 2);
    assert_eq!(found(&catalog, "koln").await, ["/weather"]);
    assert_eq!(found(&catalog, "weather news").await, ["/news"], "all of the words");
    assert_eq!(found(&catalog, "forecast").await, ["/tool"]);
    for none in ["", " - ", "snow", "weather snow"] {
        assert_eq!(found(&catalog, none).await, Vec::<String>::new(), "{none:?}");
    }
    // The engine's own syntax is text.
    for text in
        ["\"", "weather\"", "city OR tool", "NEAR(", "text:city", "city*", "^city", "a'; DROP TABLE listings; --"]
    {
        catalog.search(text, &all(), Page::new(0, 20)).await.unwrap();
    }
    assert_eq!(found(&catalog, "city OR tool").await, Vec::<String>::new(), "OR is a word");
    let (found, total) = catalog.list(&all(), Page::new(0, 2)).await.unwrap();
    assert_eq!((paths(&found), total), (vec!["/tool", "/news"], 3));
    assert_eq!(found[0].last_updated, "2026-11-29T03:42:49Z");
    drop(catalog);
    let again = SqliteCatalog::new(Database::open(&file).unwrap());
    assert_eq!(self::found(&again, "city").await, ["/weather"], "after a restart");
}

#[tokio::test]
async fn a_later_payment_replaces_the_listing_and_its_words() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = SqliteCatalog::new(Database::open(folder.path().join("ledger.sqlite")).unwrap());
    let at = UnixSeconds(1_795_923_767);
    catalog.put(&listing("/a", "old words", |_| {}), at).await.unwrap();
    catalog.put(&listing("/a", "new text", |_| {}), at.plus(9)).await.unwrap();
    assert_eq!((found(&catalog, "old").await.len(), found(&catalog, "new").await.len()), (0, 1));
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

#[tokio::test]
async fn filters_and_pages_have_their_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = SqliteCatalog::new(Database::open(folder.path().join("ledger.sqlite")).unwrap());
    for at in 0..25_u64 {
        let network = if at % 2 == 0 { "eip155:84532" } else { "eip155:8453" };
        let of_network = |json: &mut Value| json["accepts"][0]["network"] = json!(network);
        catalog.put(&listing(&format!("/{at}"), "same", of_network), UnixSeconds(at)).await.unwrap();
    }
    let mut filter = all();
    filter.network = Some("eip155:8453".parse().unwrap());
    assert_eq!(catalog.list(&filter, Page::new(0, 100)).await.unwrap().1, 12);
    assert_eq!(catalog.search("same", &filter, Page::new(0, 100)).await.unwrap().len(), 12);
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
    assert_eq!(Page::new(u32::MAX, 0), Page { offset: MAX_OFFSET, limit: 1 });
    assert_eq!(Page::new(0, u32::MAX).limit, MAX_PAGE);
}
