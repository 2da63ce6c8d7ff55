//! A ledger that is restored from an older copy: what has a nonce on the chain is answered from the chain and never settled
//! twice, and what has none is refused until an operator releases the ledger. The processes are real ones, and so are the
//! copies.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_postgres::NoTls;
use x402_devchain::DevChain;
use x402_testkit::postgres::{Fsync, PostgresServer};

use crate::support::plan::{body, redemptions, settle, subscriber, with_plan};
use crate::support::process::{Facilitator, configuration};
use crate::support::{at_last, payment, tls};

static SERVER: LazyLock<PostgresServer> = LazyLock::new(|| PostgresServer::start(Fsync::Off).unwrap());

/// A ledger that can be copied and restored while no process uses it.
enum Copied {
    /// The file without what stands beside it.
    File(PathBuf),
    /// The whole folder, as a snapshot of the disk has it.
    Folder(PathBuf),
    Database(&'static str),
}

async fn sql(statement: String) {
    let (client, connection) = tokio_postgres::connect(&SERVER.url("postgres"), NoTls).await.unwrap();
    tokio::spawn(connection);
    // The connections of a process that was killed end a moment later.
    at_last(&statement, async || client.batch_execute(&statement).await.is_ok()).await;
}

const BESIDE: [&str; 4] = ["", ".mark", "-wal", "-shm"];

fn beside(file: &Path, end: &str) -> PathBuf {
    PathBuf::from(format!("{}{end}", file.display()))
}

impl Copied {
    async fn create(&self) -> String {
        match self {
            Self::File(file) | Self::Folder(file) => file.display().to_string(),
            Self::Database(name) => {
                sql(format!("CREATE DATABASE {name}")).await;
                SERVER.url(name)
            }
        }
    }

    async fn copy(&self) {
        match self {
            // As `.backup` of the manual does.
            Self::File(file) => {
                let copy = beside(file, ".copy").display().to_string();
                rusqlite::Connection::open(file).unwrap().execute("VACUUM INTO ?1", [copy]).unwrap();
            }
            Self::Folder(file) => {
                for end in BESIDE {
                    drop(std::fs::copy(beside(file, end), beside(file, &format!("{end}.copy"))));
                }
            }
            Self::Database(name) => sql(format!("CREATE DATABASE {name}_copy TEMPLATE {name}")).await,
        }
    }

    async fn restore(&self) {
        match self {
            Self::File(file) => {
                for end in ["-wal", "-shm"] {
                    drop(std::fs::remove_file(beside(file, end)));
                }
                std::fs::copy(beside(file, ".copy"), file).unwrap();
            }
            Self::Folder(file) => {
                for end in BESIDE {
                    drop(std::fs::remove_file(beside(file, end)));
                    drop(std::fs::copy(beside(file, &format!("{end}.copy")), beside(file, end)));
                }
            }
            Self::Database(name) => {
                sql(format!("DROP DATABASE {name}")).await;
                sql(format!("ALTER DATABASE {name}_copy RENAME TO {name}")).await;
            }
        }
    }
}

async fn ready(at: &Facilitator) -> Value {
    let response = reqwest::get(format!("{}/ready", at.url)).await.unwrap();
    assert_eq!(response.status().as_u16(), 200, "what has a nonce on a chain goes on");
    response.json().await.unwrap()
}

/// A payment of `exact`, as `settle` sends it.
async fn exact(payer: usize, chain: &DevChain) -> Value {
    serde_json::to_value(&payment(payer, chain.time()).await.1).unwrap()
}

/// Pays, copies, pays more, restores the copy, and asks again. `sign` is how the older copy is recognised.
async fn restored(ledger: impl FnOnce(&Path) -> Copied, sign: &str) {
    tls();
    let directory = tempfile::tempdir().unwrap();
    let ledger = ledger(&directory.path().join("ledger.sqlite"));
    let chain = DevChain::new().unwrap();
    let (payer, _) = subscriber(&chain, 9);
    let node = chain.serve("127.0.0.1:0").await.unwrap();
    let config = configuration(directory.path(), Path::new(&ledger.create().await));
    with_plan(&config);
    let (before, after) = (exact(2, &chain).await, exact(3, &chain).await);
    let (plan, later) = (body(&payer, &chain, 1).await, body(&payer, &chain, 2).await);

    let mut process = Facilitator::start(&config, &node.url);
    let (_, known) = settle(&process.url, &before, "before the copy").await.unwrap();
    assert_eq!(known["success"], json!(true), "{known}");
    assert_eq!(ready(&process).await, json!({ "status": "ready" }));
    process.kill();
    ledger.copy().await;
    let mut process = Facilitator::start(&config, &node.url);
    assert_eq!(ready(&process).await, json!({ "status": "ready" }), "a restart is no restore");
    let (_, made) = settle(&process.url, &after, "after the copy").await.unwrap();
    assert_eq!(made["success"], json!(true), "{made}");
    let (_, redeemed) = settle(&process.url, &plan, "a plan after the copy").await.unwrap();
    assert_eq!(redeemed["success"], json!(true), "{redeemed}");
    process.kill();
    ledger.restore().await;

    let log = directory.path().join("log");
    let process = Facilitator::start_logging(&config, &node.url, &log);
    let quarantine = ready(&process).await["quarantine"].clone();
    assert!(quarantine["why"].as_str().is_some_and(|why| why.contains(sign)), "{quarantine}");
    assert_eq!(quarantine["kinds"], json!([{ "x402Version": 2, "scheme": "nvm:erc4337", "network": "eip155:84532" }]));

    // What has no nonce on the chain is not settled a second time, and is not said to have failed.
    let (status, refused) = settle(&process.url, &plan, "a plan after the copy").await.unwrap();
    assert_eq!((status, &refused["errorReason"]), (503, &json!("ledger_quarantined")), "{refused}");
    assert_eq!(refused["retryable"], json!(true), "{refused}");
    assert_eq!(redemptions(&chain).await.len(), 1);
    // `exact`: what the chain has, it answers, with the transaction; what the copy has, it repeats; a new one is settled.
    let transfers = chain.transfers().len();
    let (status, spent) = settle(&process.url, &after, "after the copy").await.unwrap();
    let transaction = made["transaction"].as_str().unwrap();
    assert_eq!((status, &spent["errorReason"]), (200, &json!("invalid_exact_evm_nonce_already_used")), "{spent}");
    assert!(spent.to_string().contains(transaction), "{spent}");
    let (_, again) = settle(&process.url, &before, "before the copy").await.unwrap();
    assert_eq!(again["transaction"], known["transaction"], "{again}");
    assert_eq!(chain.transfers().len(), transfers, "none was settled twice");
    let (_, new) = settle(&process.url, &exact(4, &chain).await, "a new one").await.unwrap();
    assert_eq!(new["success"], json!(true), "{new}");

    // A restart does not end it; the operator does, while the process runs.
    drop(process);
    let process = Facilitator::start_logging(&config, &node.url, &log);
    assert_eq!(ready(&process).await["quarantine"], quarantine);
    let release = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_x402-facilitator"));
        let output = command.args(["release", "--config"]).arg(&config).env("RUST_LOG", "error").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    assert_eq!(release()["released"]["why"], quarantine["why"]);
    assert_eq!(release(), json!({ "released": null }));
    at_last("the release", async || ready(&process).await == json!({ "status": "ready" })).await;
    let (_, redeemed) = settle(&process.url, &later, "a plan after the release").await.unwrap();
    assert_eq!(redeemed["success"], json!(true), "{redeemed}");
    assert_eq!(redemptions(&chain).await.len(), 2);
    let text = std::fs::read_to_string(&log).unwrap();
    for line in ["the ledger is in quarantine until it is released", "the ledger was released from quarantine"] {
        assert_eq!(text.lines().filter(|it| it.contains(line)).count(), 1, "{line}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_file_is_known_by_the_mark_beside_it() {
    restored(|file| Copied::File(file.to_owned()), "the ledger has the mark").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_disk_is_known_by_the_transactions_of_its_signer() {
    restored(|file| Copied::Folder(file.to_owned()), "transactions, and the ledger knows").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_database_is_known_by_its_place() {
    restored(|_| Copied::Database("restored"), "the database was restored or failed over").await;
}

/// A database that is restored under a running process: the process ends, because what it holds in memory is of another
/// ledger, and the next one starts in quarantine.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_ends_when_its_database_is_restored_under_it() {
    tls();
    let directory = tempfile::tempdir().unwrap();
    sql("CREATE DATABASE under".to_owned()).await;
    let url = SERVER.url("under");
    let chain = DevChain::new().unwrap();
    subscriber(&chain, 1);
    let node = chain.serve("127.0.0.1:0").await.unwrap();
    let config = configuration(directory.path(), Path::new(&url));
    with_plan(&config);
    let log = directory.path().join("log");
    let mut process = Facilitator::start_logging(&config, &node.url, &log);
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("UPDATE x402_marks SET count = 0").await.unwrap();
    let status = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            if let Some(status) = process.child.try_wait().unwrap() {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert_eq!(status.await.unwrap().code(), Some(1), "a supervisor starts it again");
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(text.contains("the ledger was restored under this process, which ends"), "{text}");
    let process = Facilitator::start(&config, &node.url);
    assert!(ready(&process).await["quarantine"]["why"].as_str().unwrap().contains("this process knows"));
}
