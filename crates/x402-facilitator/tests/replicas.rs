//! Facilitators that share a PostgreSQL database: a lane has one worker, another process takes it over when that one is
//! killed or stopped, and every payment is settled once. The processes are real ones, and so is the database.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio_postgres::{Client, NoTls};
use x402_devchain::{ACCOUNTS, DevChain};
use x402_testkit::postgres::{Fsync, PostgresServer};

use crate::support::process::{Facilitator, configuration};
use crate::support::{at_last, payment, post_named, tls};

/// The server; it ends with this process.
static SERVER: LazyLock<PostgresServer> = LazyLock::new(|| PostgresServer::start(Fsync::Off).unwrap());

async fn session(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn empty_database(server: &PostgresServer) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = format!("test{}", NEXT.fetch_add(1, Ordering::Relaxed));
    session(&server.url("postgres")).await.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    server.url(&name)
}

/// Reads a number; 0 as long as there is no row, or no table yet.
async fn number(client: &Client, sql: &str) -> i64 {
    client.query_opt(sql, &[]).await.ok().flatten().map_or(0, |row| row.get(0))
}

const FENCE: &str = "SELECT fence FROM x402_leases";
const PAYMENTS: &str = "SELECT count(*) FROM x402_payments";
const SLOTS: &str = "SELECT count(*) FROM x402_slots";

/// A chain, a database, and the configuration of every process on them.
struct Stage {
    _directory: tempfile::TempDir,
    config: PathBuf,
    chain: DevChain,
    node: x402_devchain::DevNode,
    database: Client,
}

impl Stage {
    async fn new() -> Self {
        tls();
        let directory = tempfile::tempdir().unwrap();
        let url = empty_database(&SERVER).await;
        let chain = DevChain::new().unwrap();
        let node = chain.serve("127.0.0.1:0").await.unwrap();
        // A little distance, so that the points lie apart.
        chain.rpc_delay(Duration::from_millis(4));
        let config = configuration(directory.path(), Path::new(&url));
        Self { config, chain, node, database: session(&url).await, _directory: directory }
    }

    fn start(&self) -> Facilitator {
        Facilitator::start(&self.config, &self.node.url)
    }

    /// Starts the process that works the lane, and a second one.
    async fn two(&self) -> (Facilitator, Facilitator) {
        let before = self.fence().await;
        let first = self.start();
        at_last("a worker", async || self.fence().await > before).await;
        (first, self.start())
    }

    async fn fence(&self) -> i64 {
        number(&self.database, FENCE).await
    }
}

/// The point at which the lane's worker ends.
#[derive(Debug, Clone, Copy)]
enum Point {
    /// The payment's row is there.
    Claim,
    /// The signed bytes are there.
    Store,
    /// The node has been given them.
    Send,
}

impl Stage {
    async fn seen(&self, point: Point) -> i64 {
        match point {
            Point::Claim => number(&self.database, PAYMENTS).await,
            Point::Store => number(&self.database, SLOTS).await,
            Point::Send => i64::try_from(self.chain.calls().of("eth_sendRawTransaction")).unwrap(),
        }
    }

    /// Posts a payment to the first process and ends it with a signal at the point. Returns the payment's body.
    async fn ended_at(&self, point: Point, first: &Facilitator, signal: &str, payer: usize) -> String {
        let (_, request) = payment(payer, self.chain.time()).await;
        let body = serde_json::to_string(&request).unwrap();
        let before = self.seen(point).await;
        let (url, sent) = (format!("{}/settle", first.url), body.clone());
        let key = format!("{point:?} {signal}");
        tokio::spawn(async move { drop(post_named(&url, sent, &key).await) });
        at_last("the point", async || self.seen(point).await > before).await;
        first.signal(signal);
        body
    }

    /// Settles at this process, which may take the lane over first. What is unknown (503) is asked again, as servers do.
    async fn settled(&self, at: &Facilitator, body: &str, key: &str) -> Value {
        let settle = format!("{}/settle", at.url);
        let (mut status, mut answer) = post_named(&settle, body.to_owned(), key).await.unwrap();
        at_last("an answer", async || {
            if status == 503 {
                (status, answer) = post_named(&settle, body.to_owned(), key).await.unwrap();
            }
            status != 503
        })
        .await;
        assert_eq!((status, &answer["success"]), (200, &Value::Bool(true)), "{key}: {answer}");
        answer["transaction"].clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_takes_over_from_one_that_was_killed_and_settles_each_payment_once() {
    let stage = Stage::new().await;
    for (turn, point) in (1..).zip([Point::Claim, Point::Store, Point::Send]) {
        let (mut first, second) = stage.two().await;
        let fence = stage.fence().await;
        let body = stage.ended_at(point, &first, "KILL", turn).await;
        stage.settled(&second, &body, &format!("{point:?} KILL")).await;
        assert_eq!(stage.fence().await, fence + 1, "{point:?}: one new owner");
        assert_eq!(stage.chain.transfers().len(), turn, "{point:?}: one transfer a payment");
        first.child.wait().unwrap();
    }
    assert_eq!(number(&stage.database, "SELECT count(*) FROM x402_payments WHERE due IS NOT NULL").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_was_stopped_past_its_lease_and_continued_moves_nothing() {
    let stage = Stage::new().await;
    for (turn, point) in (1..).zip([Point::Claim, Point::Store, Point::Send]) {
        let (first, second) = stage.two().await;
        let fence = stage.fence().await;
        let body = stage.ended_at(point, &first, "STOP", turn).await;
        let key = format!("{point:?} STOP");
        let transaction = stage.settled(&second, &body, &key).await;
        assert_eq!(stage.fence().await, fence + 1, "{point:?}: one new owner");
        let rows = "SELECT string_agg(row, ',' ORDER BY key) FROM x402_payments";
        let text = async || stage.database.query_one(rows, &[]).await.unwrap().get::<_, String>(0);
        let before = text().await;
        first.signal("CONT");
        // It serves again, and the other keeps the lane.
        assert_eq!(stage.settled(&first, &body, &key).await, transaction, "{point:?}");
        assert_eq!(text().await, before, "{point:?}: it wrote");
        assert_eq!(stage.fence().await, fence + 1, "{point:?}: the other keeps the lane");
        assert_eq!(stage.chain.transfers().len(), turn, "{point:?}: one transfer a payment");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_one_process_claims_is_settled_by_the_one_that_has_the_lane() {
    let stage = Stage::new().await;
    let (first, second) = stage.two().await;
    for payer in 1..4 {
        let (_, request) = payment(payer, stage.chain.time()).await;
        let body = serde_json::to_string(&request).unwrap();
        stage.settled(&second, &body, &format!("payment {payer}")).await;
    }
    assert_eq!((stage.fence().await, stage.chain.transfers().len()), (1, 3));
    drop(first);
}

async fn health(at: &Facilitator) -> (u16, String) {
    let response = reqwest::get(format!("{}/health", at.url)).await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_restarts_is_seen_by_health_and_costs_no_payment() {
    tls();
    let server = PostgresServer::start(Fsync::On).unwrap();
    let url = empty_database(&server).await;
    let directory = tempfile::tempdir().unwrap();
    let chain = DevChain::new().unwrap();
    let node = chain.serve("127.0.0.1:0").await.unwrap();
    let (config, log) = (configuration(directory.path(), Path::new(&url)), directory.path().join("log"));
    let facilitator = Facilitator::start_logging(&config, &node.url, &log);
    let settle = format!("{}/settle", facilitator.url);
    at_last("its health", async || health(&facilitator).await.0 == 200).await;
    let (_, request) = payment(1, chain.time()).await;
    let body = serde_json::to_string(&request).unwrap();

    server.stop().unwrap();
    let (status, answer) = post_named(&settle, body.clone(), "during").await.unwrap();
    assert_eq!(status, 503, "{answer}");
    assert_eq!(health(&facilitator).await.0, 503);
    assert!(chain.transfers().is_empty());

    server.start_again().unwrap();
    at_last("its health", async || health(&facilitator).await.0 == 200).await;
    let (status, answer) = post_named(&settle, body, "during").await.unwrap();
    assert_eq!((status, &answer["success"]), (200, &Value::Bool(true)), "{answer}");
    assert_eq!(chain.transfers().len(), 1);
    let text = std::fs::read_to_string(&log).unwrap();
    let lines = |what: &str| text.lines().filter(|line| line.contains(what)).count();
    assert_eq!((lines("the database fails"), lines("the database works again")), (1, 1), "{text}");
    assert_eq!(lines("deadpool"), 0, "{text}");
}

/// Starts a process that must not start, and returns what it says.
fn refused(directory: &Path, ledger: &str) -> String {
    let config = configuration(directory, Path::new("ledger.sqlite"));
    let text = std::fs::read_to_string(&config).unwrap().replace("\"ledger.sqlite\"", ledger);
    std::fs::write(&config, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_x402-facilitator"))
        .args(["serve", "--config"])
        .arg(config)
        .env("TEST_RPC", "http://127.0.0.1:1")
        .env("TEST_KEY", ACCOUNTS[0].key.to_string())
        .env("TEST_LEDGER", format!("postgres://postgres:hunter2@127.0.0.1:{}/nowhere", SERVER.port()))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat()
}

#[test]
fn a_start_on_a_wrong_database_names_it_and_not_its_password() {
    let directory = tempfile::tempdir().unwrap();
    let nowhere = format!("127.0.0.1:{}/nowhere", SERVER.port());
    for (ledger, named) in [
        ("{ env = \"TEST_LEDGER\" }", nowhere.as_str()),
        ("\"postgres://postgres:hunter2@127.0.0.1/x402\"", "without a password"),
        ("\"postgres://postgres@127.0.0.1:1/x402\"", "127.0.0.1:1/x402 cannot be reached"),
        ("\"postgres://postgres@db.example/x402\"", "sslmode=require"),
        ("\"mysql://postgres@127.0.0.1/x402\"", "postgres://"),
    ] {
        let said = refused(directory.path(), ledger);
        assert!(said.contains("ledger: ") && said.contains(named), "{ledger}: {said}");
        assert!(!said.contains("hunter2"), "{ledger}: {said}");
    }
}
