//! A payer who closes the connection during `/settle` changes nothing for the next one.
//!
//! Peers leave a gap in the account's nonces here: the next honest payer waits 30 s and fails (`facts/peers.md` 2).

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use x402_devchain::{CallCounts, DevChain};
use x402_facilitator::dev::DevFacilitator;

use crate::support::{payment, post, post_named, tls, transfers_of};

/// When the connection is closed.
#[derive(Debug, Clone, Copy)]
enum Close {
    /// After so many sixteenths of the request.
    Within(usize),
    /// After the whole request, once the node has answered so many calls more, or for logs: a settlement's last call.
    AfterCalls(u64),
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_payer_is_served_in_the_next_block() {
    tls();
    // One that mines for payments alone, and not for its clock: the blocks are counted.
    let (chain, wait) = (DevChain::new().unwrap(), Duration::from_secs(600));
    let facilitator = DevFacilitator::on(chain, (Ipv4Addr::LOCALHOST, 0).into(), wait, |routes| routes).await.unwrap();
    let chain = facilitator.chain().clone();
    chain.rpc_delay(Duration::from_millis(2));
    let address = facilitator.url().strip_prefix("http://").unwrap().to_owned();
    let settle = format!("{}/settle", facilitator.url());
    let within = (0..16).map(Close::Within);
    let after = (0..16).map(Close::AfterCalls);
    for close in within.chain(after) {
        let (_, abandoned) = payment(1, chain.time()).await;
        let body = serde_json::to_string(&abandoned).unwrap();
        let request = format!(
            "POST /settle HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\nidempotency-key: {close:?}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut connection = TcpStream::connect(&address).await.unwrap();
        match close {
            Close::Within(part) => {
                let bytes = &request.as_bytes()[..request.len() * part / 16];
                connection.write_all(bytes).await.unwrap();
            }
            Close::AfterCalls(more) => {
                chain.reset_calls();
                connection.write_all(request.as_bytes()).await.unwrap();
                let goes_on = |calls: CallCounts| calls.total() < more && calls.of("eth_getLogs") == 0;
                while goes_on(chain.calls()) {
                    tokio::time::sleep(Duration::from_micros(100)).await;
                }
            }
        }
        drop(connection);

        let (_, next) = payment(2, chain.time()).await;
        let head = chain.block_number();
        let (status, answer) = post(&settle, &next).await.unwrap();
        assert_eq!((status, &answer["success"]), (200, &Value::Bool(true)), "{close:?}: {answer}");
        let transfers = transfers_of(&chain, answer["transaction"].as_str().unwrap());
        // A block a transaction: one may be that of the payer who hung up.
        assert!(transfers[0].block <= head + 2, "{close:?}: block {} after {head}", transfers[0].block);

        // And what was abandoned is either not known, or ends as if nobody had hung up.
        if let Close::AfterCalls(_) = close {
            let (status, answer) = post_named(&settle, body, &format!("{close:?}")).await.unwrap();
            assert_eq!((status, &answer["success"]), (200, &Value::Bool(true)), "{close:?}: {answer}");
        }
    }
    facilitator.stop().await;
}
