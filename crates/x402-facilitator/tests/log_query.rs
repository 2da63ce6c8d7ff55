//! `network.log_query_blocks`: a node is not asked for the logs of more blocks at once than it takes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::fmt::Write as _;

use serde_json::json;
use x402_devchain::{DevChain, MiningMode};

use crate::support::process::{Facilitator, configuration};
use crate::support::{payment, post, tls};

/// Queries for logs until a payment on a chain of 1,000 blocks is settled. It is looked for in the 512 blocks before the
/// one that was final when it was sent, in that one and in its own.
async fn queries(setting: &str) -> u64 {
    let directory = tempfile::tempdir().unwrap();
    let config = configuration(directory.path(), &directory.path().join("ledger.sqlite"));
    let mut text = std::fs::read_to_string(&config).unwrap();
    write!(text, "\n{setting}\n").unwrap();
    std::fs::write(&config, text).unwrap();
    let chain = DevChain::builder().block_time(MiningMode::Manual).build().unwrap();
    chain.mine(1_000);
    let node = chain.serve("127.0.0.1:0").await.unwrap();
    let facilitator = Facilitator::start(&config, &node.url);
    let (_, request) = payment(1, chain.time()).await;
    let url = format!("{}/settle", facilitator.url);
    let settled = tokio::spawn(async move { post(&url, &request).await });
    while chain.calls().of("eth_sendRawTransaction") == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    chain.mine(1);
    let (status, answer) = settled.await.unwrap().unwrap();
    assert_eq!((status, &answer["success"]), (200, &json!(true)), "{answer}");
    chain.calls().of("eth_getLogs")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_range_is_asked_for_in_pieces() {
    tls();
    // One more where it was looked for before its block was there.
    let whole = queries("").await;
    assert!((1..=2).contains(&whole), "{whole}");
    let pieces = queries("log_query_blocks = 100").await;
    assert!((6..=7).contains(&pieces), "{pieces}");
}
