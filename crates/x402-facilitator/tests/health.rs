//! `/health`: the writer of the ledger, and what ends with it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use x402_devchain::DevChain;
use x402_facilitator::engine::Patience;
use x402_facilitator::mechanisms::{Builder, Evm};
use x402_facilitator::process::owner;
use x402_facilitator::routes::Routes;
use x402_facilitator::server::Serving;
use x402_facilitator_core::Ledger;
use x402_store::sqlite::{Database, SqliteLedger, WriteError};
use x402_types::{ChainId, Fault};

use crate::support::tls;

async fn serving(chain: &DevChain, database: &Database) -> Serving {
    tls();
    let evm = Evm::new(chain.client(), ChainId::eip155(chain.chain_id()), 0, vec![x402_devchain::key(0).unwrap()]);
    let ledger: Arc<dyn Ledger> = Arc::new(SqliteLedger::new(database.clone()));
    let own = Arc::new(database.clone());
    let builder = Builder::new(owner(), ledger)
        .with_evm(evm)
        .unwrap()
        .with_engine(|engine| engine.with_patience(Patience::waiting(Duration::from_secs(30))).with_database(own));
    let (engine, heads) = builder.build().unwrap();
    let routes = Routes::new(Arc::clone(&engine)).into_router();
    Serving::start((Ipv4Addr::LOCALHOST, 0).into(), &engine, heads, routes).await.unwrap()
}

/// A writer that answers late on a busy machine is no fault of the ledger's: its answer is waited for.
async fn healthy(serving: &Serving) -> Value {
    loop {
        if let (200, answer) = health(serving).await {
            return answer;
        }
    }
}

async fn health(serving: &Serving) -> (u16, Value) {
    let response = reqwest::get(format!("http://{}/health", serving.address())).await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn health_tells_a_ledger_that_can_be_read_and_not_written() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let database = Database::open(file.path()).unwrap();
    let serving = serving(&DevChain::new().unwrap(), &database).await;
    let answer = healthy(&serving).await;
    assert_eq!(answer["status"], "ok", "{answer}");
    assert!(answer["lastCommitAgeSeconds"].is_u64(), "{answer}");

    // The writer is busy for good: it does not answer, and reads still do.
    let (release, held) = std::sync::mpsc::channel::<()>();
    let writer = database.clone();
    let busy = tokio::spawn(async move {
        writer
            .write(move |_| {
                held.recv().unwrap_or_default();
                Ok::<(), WriteError<Fault>>(())
            })
            .await
    });
    loop {
        let (status, answer) = health(&serving).await;
        if status == 503 {
            assert_eq!(answer["status"], "unavailable");
            break;
        }
    }
    drop(release);
    busy.await.unwrap().unwrap();
    healthy(&serving).await;
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_writer_ends_the_process() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let database = Database::open(file.path()).unwrap();
    let mut serving = serving(&DevChain::new().unwrap(), &database).await;
    let panics = database.write::<(), Fault>(|_| std::panic::panic_any("a job that panics")).await;
    assert!(panics.is_err());
    let (status, answer) = health(&serving).await;
    assert_eq!((status, &answer["status"]), (503, &json!("unavailable")));
    serving.broken().await;
}
