//! Authorizations that a third party's transaction used before the facilitator first heard of them.

use alloy_network::{Ethereum, Network, TransactionBuilder};
use alloy_primitives::{B256, Bytes};
use alloy_provider::Provider;
use serde_json::{Value, json};
use x402_devchain::{ACCOUNTS, NodeFault, TOKEN, signer};
use x402_evm::eip3009::Payload;
use x402_evm::exact::Payer;
use x402_evm::signature::Signature;
use x402_facilitator::dev::DevFacilitator;
use x402_types::{MakePayment, RawJson, SigningContext, UnixSeconds};

use crate::start;
use crate::support::{body, body_v1, send, signed, terms};

/// Has another account mine what a payment's authorization allows, or its cancellation: the transaction.
async fn mined_by_another(facilitator: &DevFacilitator, input: Bytes) -> String {
    let request = <Ethereum as Network>::TransactionRequest::default().with_to(TOKEN).with_input(input);
    let carrier = facilitator.chain().wallet(signer(9).unwrap());
    let receipt = carrier.send_transaction(request).await.unwrap().get_receipt().await.unwrap();
    assert!(receipt.status());
    receipt.transaction_hash.to_string()
}

fn transfer(payload: &RawJson) -> Bytes {
    let read = Payload::read(payload).unwrap();
    read.authorization.transfer_call(&Signature::from_bytes(&read.signature).unwrap())
}

/// The answers of `/verify` and `/settle` to a payment whose authorization is used: settle's transaction, and words.
async fn used_before(facilitator: &DevFacilitator, sent: &Value) -> (Value, String) {
    let payer = json!(ACCOUNTS[1].address.to_string());
    // Version 1 has one word for it and for others.
    let v1 = sent["x402Version"] == json!(1);
    let code = if v1 { "invalid_transaction_state" } else { "invalid_exact_evm_nonce_already_used" };
    let (_, verdict) = send(&format!("{}/verify", facilitator.url()), sent.to_string(), None).await;
    assert_eq!(verdict["invalidReason"], code, "{verdict}");
    let (status, answer) = send(&format!("{}/settle", facilitator.url()), sent.to_string(), None).await;
    assert_eq!((status, &answer["success"], &answer["payer"]), (200, &json!(false), &payer), "{answer}");
    assert_eq!(answer["errorReason"], code, "{answer}");
    assert_eq!(answer["errorMessage"], verdict["invalidMessage"], "{answer}");
    (answer["transaction"].clone(), answer["errorMessage"].as_str().unwrap().to_owned())
}

/// The money has moved, and by nothing of ours: who was paid has to learn by what.
#[tokio::test]
async fn an_authorization_that_another_mined_before_is_told_with_its_transaction() {
    let facilitator = start().await;
    let chain = facilitator.chain();
    let terms = terms();
    let payload = signed(1, &terms, chain.time()).await;
    let own = chain.nonce_of(ACCOUNTS[0].address);
    let hash = mined_by_another(&facilitator, transfer(&payload)).await;
    chain.mine(1_500);
    let before = chain.calls().of("eth_getLogs");
    let sent = body(&terms, &payload);
    for sent in [sent.clone(), body_v1(&terms, &payload), sent.clone()] {
        let (transaction, words) = used_before(&facilitator, &sent).await;
        assert_eq!(transaction, hash);
        assert!(words.contains("mined before by another transaction") && words.contains(&hash), "{words}");
        assert!(words.contains("seller and payer"), "{words}");
    }
    assert_eq!(chain.calls().of("eth_getLogs") - before, 2, "2,000 blocks, once for all six requests");

    // The use paid somebody else, under the same nonce.
    let payload = signed(1, &terms, chain.time()).await;
    let mut other = terms.clone();
    other.pay_to = ACCOUNTS[7].address.to_string();
    let nonce: Value = payload.read().unwrap();
    let entropy: B256 = nonce["authorization"]["nonce"].as_str().unwrap().parse().unwrap();
    let context = SigningContext {
        now: UnixSeconds(chain.time()),
        entropy: entropy.0,
        url: "https://shop.example/",
        method: "GET",
    };
    let elsewhere = Payer::new(signer(1).unwrap()).make_payment(&other, &context).await.unwrap().payload;
    let used: Value = elsewhere.read().unwrap();
    assert_eq!(used["authorization"]["nonce"], nonce["authorization"]["nonce"]);
    let hash = mined_by_another(&facilitator, transfer(&elsewhere)).await;
    let (transaction, words) = used_before(&facilitator, &body(&terms, &payload)).await;
    assert_eq!(transaction, hash);
    assert!(words.contains("did not pay what is asked"), "{words}");
    assert_eq!(chain.nonce_of(ACCOUNTS[0].address), own, "nothing was sent");
    facilitator.stop().await;
}

#[tokio::test]
async fn a_use_whose_transaction_the_node_does_not_show_is_told_without_one() {
    let facilitator = start().await;
    let chain = facilitator.chain();
    let terms = terms();
    let fresh = || async { signed(1, &terms, chain.time()).await };

    // It refuses all queries for logs, at any span: each search ends.
    let refuses = |most| NodeFault::LogSpan { most, code: -32005, message: "query exceeds max block range".to_owned() };
    let payload = fresh().await;
    mined_by_another(&facilitator, transfer(&payload)).await;
    chain.node_fault(refuses(0));
    let before = chain.calls().of("eth_getLogs");
    let (transaction, words) = used_before(&facilitator, &body(&terms, &payload)).await;
    assert_eq!((transaction, words.as_str()), (json!(""), "the authorization is used or cancelled"));
    let asked = chain.calls().of("eth_getLogs") - before;
    assert!((2..=24).contains(&asked), "{asked}");
    chain.clear_faults();

    // It takes few blocks: found all the same.
    chain.node_fault(refuses(10));
    let payload = fresh().await;
    let hash = mined_by_another(&facilitator, transfer(&payload)).await;
    chain.mine(15);
    assert_eq!(used_before(&facilitator, &body(&terms, &payload)).await.0, hash);
    chain.clear_faults();

    // Too far back for a search that ends.
    let payload = fresh().await;
    mined_by_another(&facilitator, transfer(&payload)).await;
    chain.mine(13_000);
    assert_eq!(used_before(&facilitator, &body(&terms, &payload)).await.0, "");
    facilitator.stop().await;
}
