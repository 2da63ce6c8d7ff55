//! `GET /openapi.json`: each route of the callers' port is in it, and each status that a route answers with.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use reqwest::Method;
use serde_json::{Value, json};
use x402_devchain::{DevChain, MiningMode};
use x402_facilitator::config::BearerHash;

use crate::support::process::{Facilitator, configuration};
use crate::support::{payment, tls};

/// The texts in quotes after each of these words, in the sources of the callers' port.
fn routes_in_the_source(folder: &Path, found: &mut BTreeSet<String>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.ends_with("admin") {
            continue;
        }
        if path.is_dir() {
            routes_in_the_source(&path, found);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        for begin in [".route(\"", "router, \"", "(\"/api/v1/x402/"] {
            let offset = begin.find('/').unwrap_or(begin.len());
            for rest in code.split(begin).skip(1) {
                found.insert(format!("{}{}", &begin[offset..], rest.split('"').next().unwrap()));
            }
        }
    }
}

async fn document(facilitator: &Facilitator) -> Value {
    let answer = reqwest::get(format!("{}/openapi.json", facilitator.url)).await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
}

struct Place {
    facilitator: Facilitator,
    document: Value,
    chain: DevChain,
    _node: x402_devchain::DevNode,
}

async fn start(folder: &Path) -> Place {
    tls();
    let chain = DevChain::builder().block_time(MiningMode::PerTransaction).build().unwrap();
    let node = chain.serve("127.0.0.1:0").await.unwrap();
    let config = configuration(folder, &folder.join("ledger.sqlite"));
    let text = fs::read_to_string(&config).unwrap();
    let caller = format!("[[caller]]\nname = \"shop\"\ntoken_sha256 = \"{}\"\n", BearerHash::of("shop-token"));
    let limits = "[limits]\nbody_seconds = 1\ncaller_requests_per_second = 1\ncaller_burst = 40\n";
    let pause = format!("pause_file = {:?}\n", folder.join("paused"));
    fs::write(&config, format!("{pause}{text}\n{caller}{limits}")).unwrap();
    let facilitator = Facilitator::start(&config, &node.url);
    let document = document(&facilitator).await;
    Place { facilitator, document, chain, _node: node }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_is_described() {
    let folder = tempfile::tempdir().unwrap();
    let Place { document, .. } = start(folder.path()).await;
    assert_eq!(document["openapi"], "3.1.0");
    let mut found = BTreeSet::new();
    routes_in_the_source(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    found.retain(|path| path.starts_with('/'));
    assert!(found.len() > 15, "{found:?}");
    let described: BTreeSet<String> = document["paths"].as_object().unwrap().keys().cloned().collect();
    let missing: Vec<_> = found.difference(&described).collect();
    assert!(missing.is_empty(), "{missing:?}");
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            assert!(["get", "post", "delete"].contains(&method.as_str()), "{path}: {method}");
            assert!(!operation["summary"].as_str().unwrap().is_empty());
            let named = path.matches('{').count();
            let parameters =
                operation["parameters"].as_array().map_or(0, |all| all.iter().filter(|it| it["in"] == "path").count());
            assert_eq!(parameters, named, "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_a_status_that_is_described() {
    let folder = tempfile::tempdir().unwrap();
    let place = start(folder.path()).await;
    let http = reqwest::Client::new();
    let mut seen = BTreeSet::new();
    let mut described = |method: &Method, path: &str, route: &str, status: u16| {
        let responses = &place.document["paths"][route][method.as_str().to_lowercase()]["responses"];
        assert!(responses.get(status.to_string()).is_some(), "{method} {path}: {status}, described are {responses}");
        seen.insert(status);
    };
    let ask = async |method: Method, path: &str, token: &str, body: Vec<u8>, encoding: Option<&str>| {
        let request = http.request(method, format!("{}{path}", place.facilitator.url)).bearer_auth(token).body(body);
        let request = encoding.into_iter().fold(request, |request, it| request.header("content-encoding", it));
        request.send().await.unwrap().status().as_u16()
    };
    let (_, good) = payment(1, place.chain.time()).await;
    let good = serde_json::to_vec(&good).unwrap();
    let offers = serde_json::to_vec(&json!({ "x402Version": 2, "accepts": [] })).unwrap();
    let key = "00".repeat(8);
    let alias = "/api/v1/x402/verify";
    for (path, body) in [
        ("/verify", &good),
        ("/settle", &good),
        (alias, &good),
        ("/accepts", &offers),
        ("/session-keys", &offers),
        ("/initiate", &offers),
    ] {
        for (token, body, encoding) in [
            ("shop-token", body.clone(), None),
            ("shop-token", b"{".to_vec(), None),
            ("wrong", body.clone(), None),
            ("shop-token", vec![b' '; 70_000], None),
            ("shop-token", body.clone(), Some("gzip")),
        ] {
            let status = ask(Method::POST, path, token, body, encoding).await;
            described(&Method::POST, path, path, status);
        }
    }
    let again = ask(Method::POST, "/settle", "shop-token", good.clone(), None).await;
    described(&Method::POST, "/settle", "/settle", again);
    for (path, route) in [
        ("/supported", "/supported"),
        ("/health", "/health"),
        ("/ready", "/ready"),
        ("/openapi.json", "/openapi.json"),
        (&*format!("/payments/{key}"), "/payments/{id}"),
        (&*format!("/payments/{key}?wait=61"), "/payments/{id}"),
        (&*format!("/payments/{key}?wait=x"), "/payments/{id}"),
    ] {
        let status = ask(Method::GET, path, "shop-token", Vec::new(), None).await;
        described(&Method::GET, path, route, status);
    }
    // A body that does not come to its end.
    let (address, mut slow) = (place.facilitator.url.split_once("://").unwrap().1, String::new());
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = "POST /verify HTTP/1.1\r\nhost: x\r\nauthorization: Bearer shop-token\r\ncontent-length: 9\r\n\r\n{";
    tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes()).await.unwrap();
    drop(tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut slow).await);
    described(&Method::POST, "/verify", "/verify", slow[9..12].parse().unwrap());
    // While it is paused.
    fs::write(folder.path().join("paused"), "").unwrap();
    let (_, other) = payment(2, place.chain.time()).await;
    for (method, path, body) in
        [(Method::POST, "/settle", serde_json::to_vec(&other).unwrap()), (Method::GET, "/ready", Vec::new())]
    {
        let status = ask(method.clone(), path, "shop-token", body, None).await;
        described(&method, path, path, status);
    }
    let mut status = 0;
    for _ in 0..100 {
        status = ask(Method::POST, "/verify", "shop-token", b"{}".to_vec(), None).await;
        if status == 429 {
            break;
        }
    }
    described(&Method::POST, "/verify", "/verify", status);
    assert_eq!(seen, BTreeSet::from([200, 400, 401, 404, 408, 413, 415, 429, 503]));
}
