//! A chain of the Arbitrum kind: the opcodes `NUMBER` and `BLOCKHASH` are another chain's, and a transaction takes gas for
//! its data before it executes anything.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

mod support;

use std::net::Ipv4Addr;
use std::time::Duration;

use alloy_primitives::{U64, U256};
use serde_json::{Value, json};
use x402_devchain::{ACCOUNTS, DevChain, NodeFault};
use x402_facilitator::dev::DevFacilitator;

use crate::support::{body, send, signed, terms, tls, transfers_of};

#[tokio::test(flavor = "multi_thread")]
async fn payments_settle_on_an_arbitrum() {
    tls();
    let chain = DevChain::new().unwrap();
    chain.node_fault(NodeFault::NumberAhead(20_000_000));
    chain.node_fault(NodeFault::Surcharge { transaction: 400_000, byte: 400 });
    let listen = (Ipv4Addr::LOCALHOST, 0).into();
    let facilitator =
        DevFacilitator::on(chain.clone(), listen, Duration::from_secs(60), |routes| routes).await.unwrap();
    for _ in 0..3 {
        let terms = terms();
        let body = body(&terms, &signed(1, &terms, chain.time()).await).to_string();
        let (status, verdict) = send(&format!("{}/verify", facilitator.url()), body.clone(), None).await;
        assert_eq!((status, &verdict["isValid"]), (200, &json!(true)), "{verdict}");
        let (status, answer) = send(&format!("{}/settle", facilitator.url()), body, None).await;
        assert_eq!((status, &answer["success"]), (200, &json!(true)), "{answer}");
        let transaction = answer["transaction"].as_str().unwrap();
        let [transfer] = transfers_of(&chain, transaction).try_into().unwrap();
        assert_eq!(transfer.value, U256::from(10_000));
        let sent: Value = chain.client().request("eth_getTransactionByHash", (transaction,)).await.unwrap();
        let gas: U64 = serde_json::from_value(sent["gas"].clone()).unwrap();
        // Enough for the data of a transfer, and no more than the margin above it.
        assert!((550_000..1_000_000).contains(&gas.to::<u64>()), "{gas}");
    }
    assert_eq!(chain.nonce_of(ACCOUNTS[0].address), 3, "each landed at once");
    facilitator.stop().await;
}
