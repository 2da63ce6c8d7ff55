//! A PostgreSQL that fails over to its standby while payments are pending: with a synchronous standby nothing is lost, and
//! each payment is settled once. Servers and facilitators are real processes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tokio_postgres::{Client, NoTls};
use x402_devchain::{DevChain, MiningMode};
use x402_testkit::postgres::{Fsync, PostgresServer};

use crate::support::process::{Facilitator, configuration};
use crate::support::{at_last, payment, post_named, tls};

const DATABASE: &str = "failover";
const PAYMENTS: usize = 4;

async fn session(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn number(client: &Client, sql: &str) -> i64 {
    client.query_opt(sql, &[]).await.unwrap().map_or(0, |row| row.get(0))
}

/// Asks until the payment is known to be settled; nothing else than unknown may be said before.
async fn settled(url: &str, body: &str, name: &str) -> Value {
    let mut told = Value::Null;
    at_last("a success", async || {
        let (status, said) = post_named(&format!("{url}/settle"), body.to_owned(), name).await.unwrap();
        let unknown = said["errorReason"] == "settlement_pending" || said["errorReason"] == "duplicate_settlement";
        assert!(said["success"] == true || unknown || status == 503, "{name}: {status} {said}");
        told = said;
        told["success"] == true
    })
    .await;
    told["transaction"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn pending_payments_survive_a_failover_to_a_synchronous_standby() {
    tls();
    let primary = PostgresServer::start(Fsync::Off).unwrap();
    let standby = primary.standby().unwrap();
    let first = session(&primary.url("postgres")).await;
    first.batch_execute("ALTER SYSTEM SET synchronous_standby_names = '*'").await.unwrap();
    primary.reload().unwrap();
    at_last("a synchronous standby", async || {
        number(&first, "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'").await == 1
    })
    .await;
    first.batch_execute(&format!("CREATE DATABASE {DATABASE}")).await.unwrap();

    // As docs/operations.md says: both hosts, the one that takes writes is found.
    let both = format!(
        "postgres://postgres@127.0.0.1:{},127.0.0.1:{}/{DATABASE}?sslmode=disable",
        primary.port(),
        standby.port()
    );
    let directory = tempfile::tempdir().unwrap();
    let config = configuration(directory.path(), Path::new(&both));
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("lease_seconds = 5", "lease_seconds = 5\nsettle_wait_seconds = 1")).unwrap();
    let chain = DevChain::builder().block_time(MiningMode::Manual).build().unwrap();
    let node = chain.serve("127.0.0.1:0").await.unwrap();
    let log = directory.path().join("log");
    let process = Facilitator::start_logging(&config, &node.url, &log);

    let mut bodies = Vec::new();
    for payer in 1..=PAYMENTS {
        let body = serde_json::to_string(&payment(payer, chain.time()).await.1).unwrap();
        let (_, said) =
            post_named(&format!("{}/settle", process.url), body.clone(), &format!("order {payer}")).await.unwrap();
        assert_eq!(said["errorReason"], "settlement_pending", "no block is made: {said}");
        bodies.push(body);
    }
    let sent = chain.calls().of("eth_sendRawTransaction");
    assert!(sent >= 1);

    primary.stop().unwrap();
    standby.promote().unwrap();
    let second = session(&standby.url(DATABASE)).await;
    assert_eq!(number(&second, "SELECT count(*) FROM x402_payments WHERE due IS NOT NULL").await, 4, "none is lost");

    // The process that ran all the while, and one that starts on the promoted server. It is another server than before, so
    // that the new process is in quarantine until an operator has looked; `exact` has its nonces on the chain and goes on.
    chain.set_automine(true);
    chain.mine(1);
    let mut told = Vec::new();
    for (payer, body) in bodies.iter().enumerate().take(2) {
        told.push(settled(&process.url, body, &format!("order {}", payer + 1)).await);
    }
    drop(process);
    let again = Facilitator::start_logging(&config, &node.url, &directory.path().join("again"));
    for (payer, body) in bodies.iter().enumerate() {
        let transaction = settled(&again.url, body, &format!("order {}", payer + 1)).await;
        if let Some(before) = told.get(payer) {
            assert_eq!(*before, transaction, "the same receipt");
        }
    }
    assert_eq!(chain.transfers().len(), PAYMENTS, "one transfer a payment");
    at_last("an end", async || number(&second, "SELECT count(*) FROM x402_payments WHERE due IS NOT NULL").await == 0)
        .await;

    let lines = |name: &str, words: &str| {
        let text = std::fs::read_to_string(directory.path().join(name)).unwrap();
        text.lines().filter(|line| line.contains(words)).count()
    };
    assert_eq!(lines("log", "the database is another server than before"), 1);
    assert_eq!(lines("log", "the database fails"), lines("log", "the database works again"));
    assert_eq!(lines("again", "the ledger is in quarantine until it is released"), 1);
    let released = Command::new(env!("CARGO_BIN_EXE_x402-facilitator"))
        .args(["release", "--config"])
        .arg(&config)
        .env("TEST_RPC", &node.url)
        .env("TEST_KEY", x402_devchain::ACCOUNTS[0].key.to_string())
        .output()
        .unwrap();
    assert!(released.status.success(), "{released:?}");
}
