//! SIGKILL at each point between claim, store, send, observe and answer: after a restart every payment reaches its
//! true end, the ledger equals the chain's transfers, and none is settled twice.
//!
//! The points are seen from outside: rows in the ledger's file, calls at the node, the answer. The process that is
//! killed is the real one.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use x402_devchain::DevChain;

use crate::support::process::{Facilitator, configuration};
use crate::support::{payment, post, post_named, tls};

/// Kills at each point.
const TIMES: usize = 20;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Point {
    /// The payment's row is there.
    Claim,
    /// The signed bytes are there.
    Store,
    /// The node has been given them.
    Send,
    /// The node has been asked what became of them.
    Observe,
    /// The answer has arrived.
    Answer,
}

/// Another connection to the ledger's file, to see what is committed.
fn count(ledger: &Path, sql: &str) -> i64 {
    let Ok(file) = Connection::open_with_flags(ledger, OpenFlags::SQLITE_OPEN_READ_ONLY) else { return 0 };
    file.query_row(sql, [], |row| row.get(0)).unwrap_or(0)
}

const PAYMENTS: &str = "SELECT count(*) FROM payments";
const SLOTS: &str = "SELECT count(*) FROM slots";

/// What is to be seen at a point, counted up by every payment.
fn seen(point: Point, ledger: &Path, chain: &DevChain) -> i64 {
    let calls = |method| i64::try_from(chain.calls().of(method)).unwrap();
    match point {
        Point::Claim => count(ledger, PAYMENTS),
        Point::Store => count(ledger, SLOTS),
        Point::Send => calls("eth_sendRawTransaction"),
        Point::Observe => calls("eth_getLogs"),
        Point::Answer => 0,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_point_it_settles_each_payment_once() {
    tls();
    let directory = tempfile::tempdir().unwrap();
    let ledger = directory.path().join("ledger.sqlite");
    let chain = DevChain::new().unwrap();
    let node = chain.serve("127.0.0.1:0").await.unwrap();
    // A little distance, so that the points lie apart.
    chain.rpc_delay(Duration::from_millis(4));
    let config = configuration(directory.path(), &ledger);
    let mut expected = 0;
    for point in [Point::Claim, Point::Store, Point::Send, Point::Observe, Point::Answer] {
        for turn in 0..TIMES {
            let (_, request) = payment(1 + turn % 4, chain.time()).await;
            let mut facilitator = Facilitator::start(&config, &node.url);
            let before = seen(point, &ledger, &chain);
            let (url, sent) = (format!("{}/settle", facilitator.url), serde_json::to_string(&request).unwrap());
            // A server of ours: it names its request, so that it may ask again however far it came.
            let name = format!("{point:?} {turn}");
            let (key, text) = (name.clone(), sent.clone());
            let answer = tokio::spawn(async move { post_named(&url, text, &key).await });
            while !answer.is_finished() && (point == Point::Answer || seen(point, &ledger, &chain) == before) {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
            facilitator.kill();
            let first = answer.await.unwrap();

            let facilitator = Facilitator::start(&config, &node.url);
            let settle = format!("{}/settle", facilitator.url);
            let (status, after) = post_named(&settle, sent, &name).await.unwrap();
            assert_eq!((status, &after["success"]), (200, &Value::Bool(true)), "{point:?} {turn}: {after}");
            let transaction = after["transaction"].as_str().unwrap();
            if let Ok((200, answer)) = first
                && answer["success"] == Value::Bool(true)
            {
                assert_eq!(answer["transaction"], after["transaction"], "{point:?} {turn}: the same receipt");
            }
            let (_, stranger) = post(&settle, &request).await.unwrap();
            assert_ne!(stranger["success"], Value::Bool(true), "{point:?} {turn}: {stranger}");
            assert_eq!(stranger["transaction"], after["transaction"], "{point:?} {turn}");
            assert_eq!(support::transfers_of(&chain, transaction).len(), 1, "{point:?} {turn}");
            expected += 1;
            assert_eq!(chain.transfers().len(), expected, "{point:?} {turn}: one transfer a payment");
        }
    }
    assert_eq!(usize::try_from(count(&ledger, PAYMENTS)).unwrap(), expected);
    assert_eq!(count(&ledger, "SELECT count(*) FROM payments WHERE due IS NOT NULL"), 0);
    assert_eq!(count(&ledger, "SELECT count(*) FROM payments WHERE row NOT LIKE '%\"Ok\"%'"), 0);
}
