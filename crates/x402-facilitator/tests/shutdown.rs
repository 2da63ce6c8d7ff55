//! Told to stop, the process finishes the settlements that run, and then ends well.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::process::ExitStatus;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use serde_json::json;
use x402_devchain::{DevChain, MiningMode};

use crate::support::process::{Facilitator, configuration};
use crate::support::{payment, post, tls};

async fn until(mut is: impl AsyncFnMut() -> bool) {
    while !is().await {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn ended(facilitator: &mut Facilitator) -> ExitStatus {
    until(async || facilitator.child.try_wait().unwrap().is_some()).await;
    facilitator.child.wait().unwrap()
}

/// Whether the port is still listened on.
async fn listens(facilitator: &Facilitator) -> bool {
    tokio::net::TcpStream::connect(facilitator.url.strip_prefix("http://").unwrap()).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_that_runs_is_finished_first() {
    tls();
    let directory = tempfile::tempdir().unwrap();
    let ledger = directory.path().join("ledger.sqlite");
    let config = configuration(directory.path(), &ledger);
    let chain = DevChain::builder().block_time(MiningMode::Manual).build().unwrap();
    let node = chain.serve("127.0.0.1:0").await.unwrap();
    for (number, (signal, hangs_up)) in [("TERM", false), ("TERM", true), ("INT", false)].into_iter().enumerate() {
        let mut facilitator = Facilitator::start(&config, &node.url);
        let (_, request) = payment(1, chain.time()).await;
        chain.reset_calls();
        let url = format!("{}/settle", facilitator.url);
        let caller = tokio::spawn(async move { post(&url, &request).await });
        until(async || chain.calls().of("eth_sendRawTransaction") > 0).await;
        if hangs_up {
            caller.abort();
        }
        facilitator.signal(signal);
        until(async || !listens(&facilitator).await).await;
        // No block came: the settlement is not final, and is not left.
        assert_eq!(facilitator.child.try_wait().unwrap(), None, "{signal} {hangs_up}");

        chain.mine(1);
        match caller.await {
            Ok(answer) => {
                let (status, answer) = answer.unwrap();
                assert_eq!((status, &answer["success"]), (200, &json!(true)), "{answer}");
            }
            Err(error) => assert!(hangs_up && error.is_cancelled()),
        }
        assert_eq!(ended(&mut facilitator).await.code(), Some(0), "{signal} {hangs_up}");
        assert_eq!(chain.transfers().len(), number + 1);
        let file = Connection::open_with_flags(&ledger, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        let count = |sql: &str| file.query_row(sql, [], |row| row.get::<_, isize>(0)).unwrap().unsigned_abs();
        assert_eq!(count("SELECT count(*) FROM payments"), number + 1);
        assert_eq!(count("SELECT count(*) FROM payments WHERE due IS NOT NULL"), 0);
        assert_eq!(count("SELECT count(*) FROM payments WHERE row LIKE '%\"Ok\"%'"), number + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn at_rest_it_ends_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let config = configuration(directory.path(), &directory.path().join("ledger.sqlite"));
    let node = DevChain::new().unwrap().serve("127.0.0.1:0").await.unwrap();
    for signal in ["TERM", "INT"] {
        let mut facilitator = Facilitator::start(&config, &node.url);
        facilitator.signal(signal);
        assert_eq!(ended(&mut facilitator).await.code(), Some(0), "{signal}");
    }
}
