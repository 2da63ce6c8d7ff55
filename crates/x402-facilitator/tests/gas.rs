//! Signers that cannot pay the gas: they are named, they take no new payments, and nothing is told of a transaction that
//! no node took.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::U256;
use serde_json::{Value, json};
use x402_devchain::{ACCOUNTS, DevChain, MiningMode};
use x402_evm::chain::LOG_QUERY_BLOCKS;
use x402_evm::rail::Fees;
use x402_facilitator::dev::DevFacilitator;
use x402_facilitator::engine::Patience;
use x402_facilitator::heads::Polling;
use x402_facilitator::mechanisms::{Builder, Evm};
use x402_facilitator::process::owner;
use x402_facilitator_core::{Ledger, MemoryLedger};
use x402_types::{Assets, ChainId};

use crate::support::{body, payment, send, signed, terms, tls};

const SHORT: Duration = Duration::from_millis(1);

/// On blocks by hand; `/settle` waits for so long.
async fn start(wait: Duration) -> DevFacilitator {
    tls();
    let chain = DevChain::builder().block_time(MiningMode::Manual).build().unwrap();
    DevFacilitator::on(chain, (Ipv4Addr::LOCALHOST, 0).into(), wait, |routes| routes).await.unwrap()
}

async fn fresh(facilitator: &DevFacilitator) -> Value {
    let terms = terms();
    body(&terms, &signed(1, &terms, facilitator.chain().time()).await)
}

async fn ready(facilitator: &DevFacilitator) -> (u16, Value) {
    let response = reqwest::get(format!("{}/ready", facilitator.url())).await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap())
}

/// Waits until `/ready` has this status. There is no limit but the test runner's.
async fn until(facilitator: &DevFacilitator, status: u16) -> Value {
    loop {
        let (is, answer) = ready(facilitator).await;
        if is == status {
            return answer;
        }
        tokio::time::sleep(SHORT).await;
    }
}

fn no_gas() -> Value {
    let address = ACCOUNTS[0].address.to_string().to_lowercase();
    json!({ "status": "no gas", "signers": [{ "network": "eip155:84532", "address": address }] })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signer_without_gas_is_refused_work_and_named() {
    let facilitator = start(Duration::from_secs(600)).await;
    let chain = facilitator.chain();
    let signer = ACCOUNTS[0].address;
    let enough = chain.ether_of(signer);
    assert_eq!(ready(&facilitator).await, (200, json!({ "status": "ready" })));
    chain.set_ether_of(signer, U256::from(1_000_000));
    chain.mine(1);
    assert_eq!(until(&facilitator, 503).await, no_gas());

    let good = fresh(&facilitator).await;
    for path in ["verify", "settle"] {
        let (status, answer) = send(&format!("{}/{path}", facilitator.url()), good.to_string(), None).await;
        assert_eq!(status, 503, "{answer}");
    }
    // A payment that is not good is told so all the same.
    let mut bad = good.clone();
    bad["paymentPayload"]["payload"]["authorization"]["validBefore"] = json!("1");
    let (status, answer) = send(&format!("{}/verify", facilitator.url()), bad.to_string(), None).await;
    assert_eq!((status, &answer["isValid"]), (200, &json!(false)), "{answer}");
    assert_eq!(chain.calls().of("eth_sendRawTransaction"), 0);

    chain.set_ether_of(signer, enough);
    chain.mine(1);
    until(&facilitator, 200).await;
    // Nothing was claimed of it: it is settled now as one that comes for the first time.
    let url = format!("{}/settle", facilitator.url());
    let settled = tokio::spawn(async move { send(&url, good.to_string(), None).await });
    while chain.calls().of("eth_sendRawTransaction") == 0 {
        tokio::time::sleep(SHORT).await;
    }
    chain.mine(1);
    let (status, answer) = settled.await.unwrap();
    assert_eq!((status, &answer["success"]), (200, &json!(true)), "{answer}");
    facilitator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_no_node_took_is_not_told_as_sent() {
    let facilitator = start(Duration::from_secs(1)).await;
    let chain = facilitator.chain();
    let signer = ACCOUNTS[0].address;
    while chain.calls().of("eth_getBalance") == 0 {
        tokio::time::sleep(SHORT).await;
    }
    // Without a new block the balance that was polled is still large: the node alone knows better.
    chain.set_ether_of(signer, U256::ZERO);
    let good = fresh(&facilitator).await;
    let url = format!("{}/settle", facilitator.url());
    let (status, answer) = send(&url, good.to_string(), None).await;
    assert!(chain.calls().of("eth_sendRawTransaction") >= 1, "it was refused by the node");
    assert_eq!((status, &answer["errorReason"]), (200, &json!("settlement_pending")), "{answer}");
    assert_eq!(answer["transaction"], "");
    // The node's word counts at once.
    assert_eq!(ready(&facilitator).await, (503, no_gas()));
    let other = fresh(&facilitator).await;
    let (status, answer) = send(&format!("{}/verify", facilitator.url()), other.to_string(), None).await;
    assert_eq!(status, 503, "{answer}");
    // Whoever asks for the first payment again is named no hash either.
    let (status, answer) = send(&url, good.to_string(), None).await;
    assert_eq!((status, &answer["transaction"]), (200, &json!("")), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_signer_that_has_gas_takes_what_the_other_cannot() {
    tls();
    let chain = DevChain::new().unwrap();
    chain.set_ether_of(ACCOUNTS[8].address, U256::ZERO);
    let network = ChainId::eip155(chain.chain_id());
    let ledger: Arc<dyn Ledger> = Arc::new(MemoryLedger::new(|| x402_types::UnixSeconds(1_700_000_000)));
    let evm = Evm {
        client: chain.client(),
        network,
        finality: 0,
        polling: Polling::default(),
        log_query_blocks: LOG_QUERY_BLOCKS,
        fees: Fees::default(),
        signers: vec![x402_devchain::key(8).unwrap(), x402_devchain::key(9).unwrap()],
        assets: Assets::default(),
        factories: Vec::new(),
    };
    let builder =
        Builder::new(owner(), ledger).with_evm(evm).unwrap().with_patience(Patience::waiting(Duration::from_secs(600)));
    let (engine, heads) = builder.build().unwrap();
    // The start knows it before the first payment.
    heads.check().await.unwrap();
    let unfunded: Vec<String> = engine.unfunded().iter().map(|(lane, _)| lane.account().to_owned()).collect();
    assert_eq!(unfunded, [ACCOUNTS[8].address.to_string().to_lowercase()]);
    let said = engine.unfunded()[0].1.to_string();
    assert!(said.contains(&ACCOUNTS[8].address.to_string()) && said.contains("eip155:84532"), "{said}");

    let heads = heads.watch(&engine);
    let running = engine.start();
    for _ in 0..6 {
        let (claim, _) = payment(1, chain.time()).await;
        let answer = engine.settle_claim(&claim).await.unwrap();
        assert!(answer.success, "{answer:?}");
    }
    assert_eq!((chain.nonce_of(ACCOUNTS[8].address), chain.nonce_of(ACCOUNTS[9].address)), (0, 6));
    running.finish(Duration::from_secs(60)).await;
    drop(heads);
}
