//! `x402 find` against the routes of a facilitator's catalog.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

use std::net::Ipv4Addr;
use std::process::{Command, Output};
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use x402_extensions::bazaar::Listing;
use x402_facilitator::discovery;
use x402_store::catalog::Catalog;
use x402_store::sqlite::{Database, SqliteCatalog};
use x402_types::UnixSeconds;

fn listing(path: &str, description: &str) -> Listing {
    serde_json::from_value(json!({
        "resource": format!("https://api.example.com{path}"), "type": "http", "x402Version": 2, "method": "GET",
        "description": description, "serviceName": "Demo", "tags": ["data"],
        "accepts": [{"scheme": "exact", "network": "eip155:84532", "amount": "1000", "payTo": "0xAbC0",
            "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e", "maxTimeoutSeconds": 60}],
        "extensions": {"bazaar": {"info": {"input": {"type": "http", "method": "GET"}}}},
    }))
    .unwrap()
}

/// Serves a catalog with three listings until the test ends.
async fn serve(folder: &std::path::Path) -> String {
    let database = Database::open(folder.join("ledger.sqlite")).unwrap();
    let catalog: Arc<dyn Catalog> = Arc::new(SqliteCatalog::new(database));
    for (at, (path, text)) in
        [("/a", "Weather of a city"), ("/b", "Weather of the sea"), ("/c", "Weather\u{202e}\u{9b}31m")]
            .iter()
            .enumerate()
    {
        catalog.put(&listing(path, text), UnixSeconds(at as u64)).await.unwrap();
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, discovery::routes(catalog)).into_future());
    format!("http://{address}")
}

async fn find(facilitator: &str, line: &str) -> Output {
    let arguments: Vec<String> =
        format!("find --facilitator {facilitator} {line}").split(' ').map(str::to_owned).collect();
    let run = move || Command::new(env!("CARGO_BIN_EXE_x402")).args(arguments).output().unwrap();
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn words_are_searched_and_pages_continue() {
    let folder = tempfile::tempdir().unwrap();
    let facilitator = serve(folder.path()).await;
    let found = find(&facilitator, "weather city").await;
    let expected = "GET https://api.example.com/a\n    Demo: Weather of a city\n    \
                    exact eip155:84532 1000 of 0x036CbD53842c5426634e7929541eC2318f3dCF7e\n";
    assert_eq!((text(&found.stdout).as_str(), found.status.code()), (expected, Some(0)), "{}", text(&found.stderr));

    let first = find(&facilitator, "weather --limit 2 --json").await;
    let first: Value = serde_json::from_slice(&first.stdout).unwrap();
    let cursor = first["pagination"]["cursor"].as_str().unwrap();
    let rest = find(&facilitator, &format!("weather --limit 2 --json --cursor {cursor}")).await;
    let rest: Value = serde_json::from_slice(&rest.stdout).unwrap();
    assert_eq!(rest["pagination"].get("cursor"), None, "the last page");
    let resources = [&first, &rest].into_iter().flat_map(|page| page["resources"].as_array().unwrap());
    let mut urls: Vec<_> = resources.map(|each| each["resource"].as_str().unwrap()).collect();
    urls.sort_unstable();
    assert_eq!(urls, ["/a", "/b", "/c"].map(|path| format!("https://api.example.com{path}")));

    let none = find(&facilitator, "snow").await;
    assert_eq!((text(&none.stdout).as_str(), none.status.code()), ("", Some(1)));
    let none = find(&facilitator, "weather --network eip155:8453").await;
    assert_eq!(none.status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_s_text_moves_no_cursor() {
    let folder = tempfile::tempdir().unwrap();
    let facilitator = serve(folder.path()).await;
    for form in ["", " --json"] {
        let found = find(&facilitator, &format!("weather{form}")).await;
        let shown = text(&found.stdout);
        assert!(shown.contains("31m") && shown.contains("202e"), "{shown:?}");
        assert!(!shown.contains(['\u{202e}', '\u{9b}', '\u{1b}']), "{shown:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_answer_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let facilitator = serve(folder.path()).await;
    for (place, line, named) in [
        ("ftp://a.example", "weather", "--facilitator"),
        ("http://127.0.0.1:1", "weather", "facilitator"),
        (&format!("{facilitator}/elsewhere"), "weather", "404"),
        (&facilitator, "weather --cursor x", "cursor: expected"),
    ] {
        let failed = find(place, line).await;
        assert_eq!(failed.status.code(), Some(2), "{place} {line}");
        assert!(text(&failed.stderr).contains(named), "{place} {line}: {}", text(&failed.stderr));
    }
}
