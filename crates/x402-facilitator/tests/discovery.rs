//! What was settled is listed and found: the process with `discovery = true`, on a file and on a database.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::path::Path;
use std::time::Duration;

use base64_simd::STANDARD;
use serde_json::{Value, json};
use x402_devchain::DevChain;
use x402_testkit::postgres::{Fsync, PostgresServer};

use crate::support::process::{Facilitator, configuration};
use crate::support::{body, signed, terms, tls};

/// The declaration of a route and of a tool as the published TypeScript SDK writes it: `x402-testkit/vectors/extensions.md`.
fn declaration(kind: &str) -> Value {
    let vectors: Value = serde_json::from_str(&x402_testkit::vector("extensions.json").unwrap()).unwrap();
    let find = |section: &str, id: &str| {
        let case = vectors[section].as_array().unwrap().iter().find(|case| case["id"] == id);
        case.unwrap().clone()
    };
    match kind {
        "http" => find("bazaar.serverEmits", "http_query")["paymentRequired"]["extensions"]["bazaar"].clone(),
        _ => find("bazaar.declarations", "mcp_full")["declares"]["bazaar"].clone(),
    }
}

fn configured(directory: &Path, ledger: &str) -> std::path::PathBuf {
    let path = configuration(directory, Path::new(ledger));
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("discovery = true\n{text}")).unwrap();
    path
}

/// Settles a payment with these members of the payload, and returns the status, the reports, and the answer.
async fn settle(
    facilitator: &Facilitator,
    chain: &DevChain,
    resource: Value,
    extensions: Value,
) -> (u16, Option<Value>, Value) {
    let terms = terms();
    let mut body = body(&terms, &signed(1, &terms, chain.time()).await);
    body["paymentPayload"]["resource"] = resource;
    body["paymentPayload"]["extensions"] = extensions;
    let request = reqwest::Client::new().post(format!("{}/settle", facilitator.url));
    let response = request.header("content-type", "application/json").body(body.to_string()).send().await.unwrap();
    let reports = response
        .headers()
        .get("extension-responses")
        .map(|value| serde_json::from_slice(&STANDARD.decode_to_vec(value.as_bytes()).unwrap()).unwrap());
    let status = response.status().as_u16();
    (status, reports, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap())
}

async fn get(facilitator: &Facilitator, path: &str) -> (u16, Value) {
    let response = reqwest::get(format!("{}/discovery/{path}", facilitator.url)).await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap())
}

/// Waits until a list has this many resources: they are listed beside the answers.
async fn listed(facilitator: &Facilitator, total: u64) -> Value {
    loop {
        let (status, list) = get(facilitator, "resources").await;
        assert_eq!(status, 200, "{list}");
        if list["pagination"]["total"] == total {
            return list;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn resource(path: &str, description: &str) -> Value {
    json!({"url": format!("https://api.example.com{path}?x=1"), "description": description, "mimeType": "application/json",
        "serviceName": "Demo", "tags": ["weather", "Weather", "\u{7}"], "iconUrl": "https://127.0.0.1/i.png"})
}

async fn found(facilitator: &Facilitator, query: &str) -> (Vec<String>, Value) {
    let (status, answer) = get(facilitator, &format!("search?{query}")).await;
    assert_eq!(status, 200, "{answer}");
    let resources = answer["resources"].as_array().unwrap().iter();
    (resources.map(|each| each["resource"].as_str().unwrap().to_owned()).collect(), answer["pagination"].clone())
}

async fn what_was_settled_is_found(directory: &Path, ledger: &str) {
    tls();
    let chain = DevChain::new().unwrap();
    let node = chain.serve("127.0.0.1:0").await.unwrap();
    let config = configured(directory, ledger);
    let mut facilitator = Facilitator::start(&config, &node.url);
    let supported: Value = serde_json::from_slice(
        &reqwest::get(format!("{}/supported", facilitator.url)).await.unwrap().bytes().await.unwrap(),
    )
    .unwrap();
    assert!(supported["extensions"].as_array().unwrap().contains(&json!("bazaar")), "{supported}");
    assert_eq!(get(&facilitator, "resources").await.1["items"], json!([]));

    let (weather, tool) = (declaration("http"), declaration("mcp"));
    let echoed = json!({"bazaar": weather});
    let (status, reports, answer) =
        settle(&facilitator, &chain, resource("/weather", "Weather of a city"), echoed.clone()).await;
    assert_eq!((status, &answer["success"]), (200, &json!(true)), "{answer}");
    assert_eq!(reports, Some(json!({"bazaar": {"status": "processing"}})));
    assert!(!answer.to_string().contains("processing"), "the report is beside the answer alone: {answer}");
    let list = listed(&facilitator, 1).await;
    let item = &list["items"][0];
    assert_eq!(item["resource"], "https://api.example.com/weather", "{item}");
    assert_eq!(
        (&item["type"], &item["x402Version"], &item["serviceName"]),
        (&json!("http"), &json!(2), &json!("Demo"))
    );
    assert_eq!((&item["tags"], item.get("iconUrl")), (&json!(["weather"]), None), "sanitized");
    assert_eq!(item["extensions"]["bazaar"], weather);
    assert_eq!(item["accepts"][0]["payTo"], json!(terms().pay_to));
    assert!(item["lastUpdated"].as_str().unwrap().ends_with('Z'), "{item}");

    // The same declaration is known by now.
    let (_, reports, _) = settle(&facilitator, &chain, resource("/weather", "Weather of a city"), echoed.clone()).await;
    assert_eq!(reports, Some(json!({"bazaar": {"status": "success"}})));
    // What does not fit its own schema is settled, and not listed.
    let mut wrong = weather.clone();
    wrong["info"]["input"]["method"] = json!("TRACE");
    for status in ["processing", "rejected"] {
        let (code, reports, answer) =
            settle(&facilitator, &chain, resource("/wrong", ""), json!({"bazaar": wrong})).await;
        assert_eq!((code, &answer["success"]), (200, &json!(true)), "{answer}");
        if status == "rejected" {
            let report = &reports.unwrap()["bazaar"];
            assert_eq!(report["status"], "rejected", "{report}");
            assert!(report["rejectedReason"].as_str().unwrap().starts_with("info.input.method"), "{report}");
        } else {
            assert_eq!(reports, Some(json!({"bazaar": {"status": "processing"}})));
            // The records are taken in their order.
            settle(&facilitator, &chain, resource("/news", "News of the weather"), echoed.clone()).await;
            listed(&facilitator, 2).await;
        }
    }
    // Without a declaration there is no report, and no listing.
    let (_, reports, _) = settle(&facilitator, &chain, resource("/none", ""), json!({})).await;
    assert_eq!(reports, None);
    settle(&facilitator, &chain, json!({"url": "https://api.example.com/mcp"}), json!({"bazaar": tool})).await;
    listed(&facilitator, 3).await;

    // A restart forgets nothing.
    facilitator.kill();
    let facilitator = Facilitator::start(&config, &node.url);
    let (names, page) = found(&facilitator, "query=WEATHER%20city").await;
    assert_eq!((names.len(), &page), (1, &json!({"limit": 20, "cursor": null})), "{names:?}");
    assert_eq!(found(&facilitator, "query=weather&type=mcp").await.0, ["https://api.example.com/mcp"]);
    assert_eq!(found(&facilitator, "query=get_weather").await.0.len(), 1);
    let (first, page) = found(&facilitator, "query=weather&type=http&limit=1").await;
    let cursor = page["cursor"].as_str().unwrap();
    let (second, page) = found(&facilitator, &format!("query=weather&type=http&limit=1&cursor={cursor}")).await;
    assert_eq!(page["cursor"], Value::Null);
    let mut both = [first, second].concat();
    both.sort();
    assert_eq!(both, ["https://api.example.com/news", "https://api.example.com/weather"]);
    let pay_to = terms().pay_to;
    for (query, count) in [
        ("query=weather&network=eip155:84532&scheme=exact&extensions=bazaar".to_owned(), 3),
        (format!("query=weather&payTo={}", pay_to.to_lowercase()), 3),
        ("query=weather&network=eip155:8453".to_owned(), 0),
        ("query=weather&scheme=upto".to_owned(), 0),
        ("query=weather&extensions=other".to_owned(), 0),
        ("query=snow".to_owned(), 0),
        ("query=%2D".to_owned(), 0),
        ("query=weather&unknown=1".to_owned(), 3),
    ] {
        assert_eq!(found(&facilitator, &query).await.0.len(), count, "{query}");
    }
    assert_eq!(
        found(&facilitator, "query=weather&limit=1000").await.1["limit"],
        100,
        "the limit of a search is advice"
    );
    let (_, list) = get(&facilitator, "resources?limit=2&offset=2").await;
    assert_eq!(
        (list["items"].as_array().unwrap().len(), &list["pagination"]),
        (1, &json!({"limit": 2, "offset": 2, "total": 3}))
    );
    for (path, named) in [
        ("search", "query"),
        ("search?query=", "query"),
        ("search?query=a&query=b", "query"),
        ("search?query=a&limit=0", "limit"),
        ("resources?limit=101", "limit"),
        ("search?query=a&limit=01", "limit"),
        ("search?query=a&limit=-1", "limit"),
        ("search?query=a&cursor=", "cursor"),
        ("search?query=a&cursor=0", "cursor"),
        ("search?query=a&cursor=10001", "cursor"),
        ("search?query=a&network=base", "network"),
        ("search?query=a&type=%00", "type"),
        ("resources?offset=10001", "offset"),
        ("resources?offset=x", "offset"),
        ("resources?payTo=", "payTo"),
    ] {
        let (status, answer) = get(&facilitator, path).await;
        assert_eq!(status, 400, "{path}: {answer}");
        assert!(answer["error"].as_str().unwrap().starts_with(named), "{path}: {answer}");
    }
    let (status, answer) = get(&facilitator, &format!("search?query={}", "a".repeat(5_000))).await;
    assert_eq!(status, 400, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = directory.path().join("ledger.sqlite");
    what_was_settled_is_found(directory.path(), ledger.to_str().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_database() {
    let directory = tempfile::tempdir().unwrap();
    let server = PostgresServer::start(Fsync::Off).unwrap();
    what_was_settled_is_found(directory.path(), &server.url("postgres")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_key_there_is_no_catalog() {
    tls();
    let directory = tempfile::tempdir().unwrap();
    let chain = DevChain::new().unwrap();
    let node = chain.serve("127.0.0.1:0").await.unwrap();
    let facilitator =
        Facilitator::start(&configuration(directory.path(), &directory.path().join("ledger.sqlite")), &node.url);
    let (status, reports, answer) =
        settle(&facilitator, &chain, resource("/a", ""), json!({"bazaar": declaration("http")})).await;
    assert_eq!((status, reports, &answer["success"]), (200, None, &json!(true)), "{answer}");
    assert_eq!(reqwest::get(format!("{}/discovery/resources", facilitator.url)).await.unwrap().status().as_u16(), 404);
}
