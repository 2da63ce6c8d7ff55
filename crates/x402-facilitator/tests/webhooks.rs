//! Webhooks on the facilitator's process: each payment's end is told at least once, signed, over crashes of the process and of the
//! target, and a target that never answers holds up no payment.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post as route_post;
use ring::hmac;
use serde_json::Value;
use tokio_postgres::NoTls;
use x402_devchain::{DevChain, DevNode, MiningMode};
use x402_testkit::postgres::{Fsync, PostgresServer};

use crate::support::process::{Facilitator, configuration};
use crate::support::{at_last, payment, post, tls};

static SERVER: LazyLock<PostgresServer> = LazyLock::new(|| PostgresServer::start(Fsync::Off).unwrap());

/// 32 bytes in base64.
const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// What a target was told.
#[derive(Debug, Clone)]
struct Told {
    id: String,
    body: Value,
}

/// A target that answers as it is set: a status, or never.
#[derive(Clone)]
struct Target {
    url: String,
    told: Arc<Mutex<Vec<Told>>>,
    status: Arc<AtomicUsize>,
}

/// The status that stands for a target that never answers.
const NEVER: usize = 0;
/// The status that stands for a target that takes what it is told, and says so after a minute.
const LATE: usize = 1;

impl Target {
    async fn start(status: usize) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let target = Self { url, told: Arc::default(), status: Arc::new(AtomicUsize::new(status)) };
        let (told, status) = (Arc::clone(&target.told), Arc::clone(&target.status));
        let answer = async move |headers: HeaderMap, body: Bytes| {
            let header = |name: &str| headers[name].to_str().unwrap().to_owned();
            let id = header("webhook-id");
            // The signature is checked as a receiver does: `ring`'s comparison takes the bytes of the base64.
            let signed = format!("{id}.{}.{}", header("webhook-timestamp"), std::str::from_utf8(&body).unwrap());
            let key = base64_simd::STANDARD.decode_to_vec(KEY).unwrap();
            let sent = header("webhook-signature");
            let tag = base64_simd::STANDARD.decode_to_vec(sent.strip_prefix("v1,").unwrap()).unwrap();
            hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, &key), signed.as_bytes(), &tag).unwrap();
            told.lock().unwrap().push(Told { id, body: serde_json::from_slice(&body).unwrap() });
            match status.load(Ordering::Relaxed) {
                NEVER => std::future::pending().await,
                LATE => {
                    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
                    StatusCode::NO_CONTENT
                }
                status => StatusCode::from_u16(u16::try_from(status).unwrap()).unwrap(),
            }
        };
        let routes = Router::new().route("/hook", route_post(answer));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        target
    }

    fn told(&self) -> Vec<Told> {
        self.told.lock().unwrap().clone()
    }
}

struct Place {
    chain: DevChain,
    node: DevNode,
    config: PathBuf,
    folder: tempfile::TempDir,
}

impl Place {
    async fn new(ledger: Option<&str>, target: &Target, further: &str) -> Self {
        tls();
        let folder = tempfile::tempdir().unwrap();
        let chain = DevChain::builder().block_time(MiningMode::PerTransaction).build().unwrap();
        let node = chain.serve("127.0.0.1:0").await.unwrap();
        let file = folder.path().join("ledger.sqlite");
        let config = configuration(folder.path(), ledger.map_or(&*file, Path::new));
        let (secret, token) = (folder.path().join("secret"), folder.path().join("token"));
        fs::write(&secret, format!("whsec_{KEY}\n")).unwrap();
        fs::write(&token, "admin-token").unwrap();
        let text = fs::read_to_string(&config).unwrap();
        let url = &target.url;
        let hook =
            format!("[[webhook]]\nurl = {url:?}\nsecret = {{ file = {secret:?} }}\npause_seconds = 1\n{further}\n");
        let admin = format!("[admin]\nlisten = \"127.0.0.1:0\"\ntoken = {{ file = {token:?} }}\n");
        fs::write(&config, format!("{text}\n{hook}{admin}")).unwrap();
        Self { chain, node, config, folder }
    }

    fn start(&self) -> Facilitator {
        Facilitator::start(&self.config, &self.node.url)
    }

    async fn settles(&self, facilitator: &Facilitator) -> String {
        let (_, request) = payment(1, self.chain.time()).await;
        let (status, answer) = post(&format!("{}/settle", facilitator.url), &request).await.unwrap();
        assert_eq!((status, &answer["success"]), (200, &true.into()), "{answer}");
        answer["transaction"].as_str().unwrap().to_owned()
    }
}

/// The value of a counter or gauge of the operator's port.
async fn metric(facilitator: &Facilitator, series: &str) -> Option<String> {
    let url = format!("{}/metrics", facilitator.line["admin"].as_str().unwrap());
    let answer = reqwest::Client::new().get(url).bearer_auth("admin-token").send().await.unwrap();
    let text = answer.text().await.unwrap();
    let line = text.lines().find(|line| line.starts_with(&format!("{series} ")))?;
    line.rsplit(' ').next().map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_payment_is_told_once_and_repeated_under_its_id_until_it_is_taken() {
    let target = Target::start(500).await;
    let place = Place::new(None, &target, "").await;
    let facilitator = place.start();
    let transaction = place.settles(&facilitator).await;
    at_last("two tries", async || target.told().len() >= 2).await;
    target.status.store(204, Ordering::Relaxed);
    at_last("the end", async || metric(&facilitator, "x402_webhooks_waiting").await.as_deref() == Some("0")).await;
    let told = target.told();
    let ids: BTreeSet<&str> = told.iter().map(|told| told.id.as_str()).collect();
    assert_eq!(ids.len(), 1, "{told:?}");
    for Told { body, .. } in &told {
        assert_eq!(body["type"], "payment.settled");
        assert_eq!((&body["data"]["state"], &body["data"]["amount"]), (&"settled".into(), &"10000".into()), "{body}");
        assert_eq!(body["data"]["transaction"].as_str(), Some(&*transaction));
    }
    let other = place.settles(&facilitator).await;
    at_last("another end", async || target.told().last().unwrap().body["data"]["transaction"] == other.as_str()).await;
    assert_ne!(target.told().last().unwrap().id, told[0].id, "each end has an id of its own");
}

/// The database that a test of processes uses.
async fn database(name: &str) -> String {
    let (client, connection) = tokio_postgres::connect(&SERVER.url("postgres"), NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    SERVER.url(name)
}

async fn killed_before_the_target_answers(ledger: Option<&str>) {
    let target = Target::start(NEVER).await;
    let place = Place::new(ledger, &target, "").await;
    let mut facilitator = place.start();
    let transaction = place.settles(&facilitator).await;
    at_last("the first try", async || !target.told().is_empty()).await;
    facilitator.kill();
    target.status.store(200, Ordering::Relaxed);
    let facilitator = place.start();
    at_last("the end", async || metric(&facilitator, "x402_webhooks_waiting").await.as_deref() == Some("0")).await;
    let told = target.told();
    assert!(told.len() >= 2 && told.iter().all(|it| it.id == told[0].id), "{told:?}");
    assert!(told.iter().all(|it| it.body["data"]["transaction"] == transaction.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_loses_no_end_in_a_file() {
    killed_before_the_target_answers(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_loses_no_end_in_a_database() {
    killed_before_the_target_answers(Some(&database("killed").await)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_on_one_database_tell_each_end_once() {
    let target = Target::start(200).await;
    let place = Place::new(Some(&database("shared").await), &target, "").await;
    let facilitators = [place.start(), place.start()];
    let mut settled = BTreeSet::new();
    for n in 0..6 {
        settled.insert(place.settles(&facilitators[n % 2]).await);
    }
    at_last("the ends", async || metric(&facilitators[0], "x402_webhooks_waiting").await.as_deref() == Some("0")).await;
    let told = target.told();
    let named: BTreeSet<String> =
        told.iter().map(|it| it.body["data"]["transaction"].as_str().unwrap().to_owned()).collect();
    assert_eq!((told.len(), named), (6, settled));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_never_answers_holds_up_no_payment() {
    let target = Target::start(NEVER).await;
    let place = Place::new(None, &target, "").await;
    let facilitator = place.start();
    // More than are sent at once: a payment that waited for the target would wait for ever.
    for _ in 0..20 {
        place.settles(&facilitator).await;
    }
    assert_eq!(place.chain.transfers().len(), 20);
    assert_eq!(metric(&facilitator, "x402_webhooks_waiting").await.as_deref(), Some("20"), "none is lost");
    at_last("a try", async || !target.told().is_empty()).await;
}

/// Its first answer comes when nobody waits for it any more: the end is told again under the same id, and payments go on meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_answers_after_a_minute_is_told_again_under_the_same_id() {
    let target = Target::start(LATE).await;
    let place = Place::new(None, &target, "").await;
    let facilitator = place.start();
    place.settles(&facilitator).await;
    at_last("a first try", async || !target.told().is_empty()).await;
    place.settles(&facilitator).await;
    at_last("a second try", async || {
        let told = target.told();
        told.iter().filter(|each| each.id == told[0].id).count() >= 2
    })
    .await;
    let delivered = "x402_webhooks_total{result=\"delivered\"}";
    assert_eq!(metric(&facilitator, delivered).await, None, "what was not heard is not delivered");
    target.status.store(204, Ordering::Relaxed);
    at_last("the ends", async || metric(&facilitator, "x402_webhooks_waiting").await.as_deref() == Some("0")).await;
    let payments = place.chain.transfers().len().to_string();
    assert_eq!(metric(&facilitator, delivered).await.as_deref(), Some(payments.as_str()), "each end once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_refuses_is_given_up_and_the_log_names_the_payment() {
    let target = Target::start(410).await;
    let place = Place::new(None, &target, "tries = 2").await;
    let log = place.folder.path().join("log");
    let facilitator = Facilitator::start_logging(&place.config, &place.node.url, &log);
    place.settles(&facilitator).await;
    at_last("the end", async || {
        metric(&facilitator, "x402_webhooks_total{result=\"given_up\"}").await.as_deref() == Some("1")
    })
    .await;
    at_last("the row", async || metric(&facilitator, "x402_webhooks_waiting").await.as_deref() == Some("0")).await;
    assert_eq!(target.told().len(), 2);
    let log = fs::read_to_string(&log).unwrap();
    assert!(log.contains("a webhook is given up: its target does not take a payment's end"), "{log}");
    assert!(log.contains("status 410") && !log.contains(KEY), "{log}");
}
