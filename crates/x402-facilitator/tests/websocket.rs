//! A node behind a WebSocket: it tells new heads by itself, the connection is made again when it ends, and a node that falls
//! silent is polled.

#![cfg(feature = "ws")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use x402_devchain::{DevChain, DevNode, NodeFault};

use crate::support::process::{Facilitator, configuration};
use crate::support::{at_last, payment, post_named, tls};

struct Stage {
    directory: tempfile::TempDir,
    chain: DevChain,
    node: DevNode,
    process: Facilitator,
    paid: AtomicUsize,
}

impl Stage {
    /// Starts a process that polls rarely: what comes sooner was told.
    async fn new() -> Self {
        tls();
        let directory = tempfile::tempdir().unwrap();
        let chain = DevChain::new().unwrap();
        let node = chain.serve("127.0.0.1:0").await.unwrap();
        let config = configuration(directory.path(), &directory.path().join("ledger.sqlite"));
        let text = std::fs::read_to_string(&config).unwrap();
        let rare = text.replace("poll_milliseconds = 20", "poll_milliseconds = 60000\nrest_poll_milliseconds = 60000");
        std::fs::write(&config, rare).unwrap();
        let process = Facilitator::start_logging(&config, &node.ws_url, &directory.path().join("log"));
        Self { directory, chain, node, process, paid: AtomicUsize::new(0) }
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    fn lines(&self, words: &str) -> usize {
        std::fs::read_to_string(self.log()).unwrap().lines().filter(|line| line.contains(words)).count()
    }

    fn subscriptions(&self) -> u64 {
        self.chain.calls().of("eth_subscribe")
    }

    async fn settle(&self) -> Value {
        let turn = self.paid.fetch_add(1, Ordering::Relaxed);
        let (_, request) = payment(1 + turn % 4, self.chain.time()).await;
        let body = serde_json::to_string(&request).unwrap();
        let settle = format!("{}/settle", self.process.url);
        let mut told = Value::Null;
        at_last("a success", async || {
            let (_, said) = post_named(&settle, body.clone(), &format!("payment {turn}")).await.unwrap();
            told = said;
            told["success"] == true
        })
        .await;
        told
    }
}

const TELLS: &str = "the node tells new heads by itself";
const SILENT: &str = "the node tells no new heads; they are polled";

/// With a minute between two polls, each block is seen because the node told it.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_tells_new_heads_and_its_connection_is_made_again() {
    let stage = Stage::new().await;
    at_last("a subscription", async || stage.subscriptions() == 1).await;
    for _ in 0..3 {
        stage.settle().await;
    }
    assert_eq!(stage.chain.transfers().len(), 3);
    let calls = stage.chain.calls();
    assert!(calls.of("eth_getBlockByNumber") > 0, "a notice is a hint, and the head is read: {calls:?}");
    at_last("the log", async || stage.lines(TELLS) == 1).await;

    stage.chain.close_sockets();
    at_last("a second subscription", async || stage.subscriptions() == 2).await;
    assert_eq!(stage.lines(SILENT), 1);
    for _ in 0..3 {
        stage.settle().await;
    }
    assert_eq!(stage.chain.transfers().len(), 6);
    at_last("the log", async || stage.lines(TELLS) == 2).await;
    assert!(!std::fs::read_to_string(stage.log()).unwrap().contains(&stage.node.ws_url), "the URL may have a key");
}

/// The node takes the subscription and tells nothing: its head is polled as that of any other.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_falls_silent_is_polled() {
    tls();
    let directory = tempfile::tempdir().unwrap();
    let chain = DevChain::new().unwrap();
    let node = chain.serve("127.0.0.1:0").await.unwrap();
    let config = configuration(directory.path(), &directory.path().join("ledger.sqlite"));
    let process = Facilitator::start_logging(&config, &node.ws_url, &directory.path().join("log"));
    let stage = Stage { directory, chain, node, process, paid: AtomicUsize::new(0) };
    at_last("a subscription", async || stage.subscriptions() == 1).await;
    stage.settle().await;
    stage.settle().await;
    stage.chain.node_fault(NodeFault::SilentHeads);
    stage.settle().await;
    stage.settle().await;
    assert_eq!(stage.chain.transfers().len(), 4);
}
