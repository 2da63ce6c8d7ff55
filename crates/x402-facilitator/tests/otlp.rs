//! One span a payment for a collector, decoded by OpenTelemetry's own messages; and a collector that hangs.

#![cfg(feature = "otlp")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::net::TcpListener;
use x402_devchain::{DevChain, DevNode};

use crate::support::process::{Facilitator, configuration};
use crate::support::{at_last, payment, tls};

/// A facilitator that exports to this URL.
fn start(folder: &Path, node: &DevNode, endpoint: &str) -> Facilitator {
    let config = configuration(folder, &folder.join("ledger.sqlite"));
    fs::write(folder.join("token"), "collector-token").unwrap();
    let headers = format!("headers = {{ x-token = {{ file = {:?} }} }}", folder.join("token"));
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}\n[otlp]\nendpoint = \"{endpoint}\"\n{headers}\n")).unwrap();
    Facilitator::start_logging(&config, &node.url, &folder.join("log"))
}

/// Pays so often, and returns the transactions.
async fn paid(facilitator: &Facilitator, chain: &DevChain, payments: usize) -> Vec<String> {
    let mut transactions = Vec::new();
    for number in 0..payments {
        let (_, request) = payment(1 + number % 4, chain.time()).await;
        let (status, told) = support::post(&format!("{}/settle", facilitator.url), &request).await.unwrap();
        assert_eq!((status, &told["success"]), (200, &true.into()), "{told}");
        transactions.push(told["transaction"].as_str().unwrap().to_owned());
    }
    transactions
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<&str, &str> {
    let text = |each: &'_ KeyValue| match each.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        _ => None,
    };
    let owned = attributes.iter().filter_map(|each| Some((each.key.as_str(), text(each)?)));
    owned.map(|(key, text)| (key, &*text.leak())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_one_span_of_each_payment_from_its_claim_to_its_proof() {
    tls();
    let folder = tempfile::tempdir().unwrap();
    let chain = DevChain::new().unwrap();
    let node = chain.serve("127.0.0.1:0").await.unwrap();
    let taken: Arc<Mutex<Vec<ExportTraceServiceRequest>>> = Arc::default();
    let takes = Arc::clone(&taken);
    let take = async move |headers: HeaderMap, body: Bytes| {
        assert_eq!(
            (headers["content-type"].as_bytes(), headers["x-token"].as_bytes()),
            (&b"application/x-protobuf"[..], &b"collector-token"[..])
        );
        takes.lock().unwrap().push(ExportTraceServiceRequest::decode(body).unwrap());
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let routes = Router::new().route("/v1/traces", post(take));
    tokio::spawn(async move { axum::serve(listener, routes).await });

    let mut facilitator = start(folder.path(), &node, &endpoint);
    let transactions = paid(&facilitator, &chain, 3).await;
    // The last spans are sent before the process ends.
    facilitator.signal("TERM");
    assert_eq!(facilitator.child.wait().unwrap().code(), Some(0));

    let taken = taken.lock().unwrap();
    let resources: Vec<_> = taken.iter().flat_map(|request| &request.resource_spans).collect();
    for each in &resources {
        assert_eq!(texts(&each.resource.as_ref().unwrap().attributes)["service.name"], "x402-facilitator");
    }
    let scopes = resources.iter().flat_map(|each| &each.scope_spans);
    let spans: Vec<&Span> = scopes.flat_map(|scope| &scope.spans).collect();
    assert_eq!(spans.len(), transactions.len(), "{spans:#?}");
    for (span, transaction) in spans.iter().zip(&transactions) {
        assert_eq!((span.name.as_str(), span.trace_id.len(), span.parent_span_id.len()), ("payment", 16, 0));
        let attributes = texts(&span.attributes);
        assert_eq!((attributes["scheme"], attributes["network"]), ("exact", "eip155:84532"), "{attributes:?}");
        assert!(attributes["key"].len() > 8 && attributes["lane"].starts_with("eip155:84532/0x"), "{attributes:?}");
        let names: Vec<&str> = span.events.iter().map(|event| event.name.as_str()).collect();
        assert_eq!(names, ["claimed", "planned", "stored", "sent", "landed", "settled"]);
        let times: Vec<u64> = span.events.iter().map(|event| event.time_unix_nano).collect();
        assert!(times.is_sorted() && span.start_time_unix_nano <= times[0] && times[5] <= span.end_time_unix_nano);
        assert_eq!(texts(&span.events[5].attributes)["transaction"], transaction);
    }
    let log = fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(!log.contains(" WARN ") && log.matches("settled").count() == 3 && !log.contains("claimed"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_never_answers_delays_no_payment_and_no_end() {
    tls();
    let folder = tempfile::tempdir().unwrap();
    let chain = DevChain::new().unwrap();
    let node = chain.serve("127.0.0.1:0").await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/a-token-in-the-path", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&asked);
    tokio::spawn(async move {
        // Every connection is taken and kept, and nothing is ever said on it.
        let mut kept = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            kept.push(connection);
            seen.fetch_add(1, Ordering::Relaxed);
        }
    });

    let mut facilitator = start(folder.path(), &node, &endpoint);
    assert_eq!(paid(&facilitator, &chain, 2).await.len(), 2);
    at_last("a request to the collector", async || asked.load(Ordering::Relaxed) > 0).await;
    assert_eq!(paid(&facilitator, &chain, 20).await.len(), 20);
    assert_eq!(chain.transfers().len(), 22);
    let log = || fs::read_to_string(folder.path().join("log")).unwrap();
    at_last("a warning", async || log().contains("the collector takes no spans")).await;
    assert!(!log().contains("a-token-in-the-path"), "{}", log());
    facilitator.signal("TERM");
    assert_eq!(facilitator.child.wait().unwrap().code(), Some(0));
}
