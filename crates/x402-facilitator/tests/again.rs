//! The same payment settled again: x402-facilitator-core's rules as they stand on the wire.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::{Value, json};
use x402_devchain::{ACCOUNTS, BlockTime, DevChain};
use x402_facilitator::dev::DevFacilitator;

use crate::support::{body, send, signed, terms, tls};

/// Blocks by hand, so that a settlement waits for as long as the test wants.
async fn start(wait: Duration) -> DevFacilitator {
    tls();
    let chain = DevChain::builder().block_time(BlockTime::Manual).build().unwrap();
    DevFacilitator::on(chain, (Ipv4Addr::LOCALHOST, 0).into(), wait, |routes| routes).await.unwrap()
}

async fn fresh(facilitator: &DevFacilitator) -> Value {
    let terms = terms();
    body(&terms, &signed(1, &terms, facilitator.chain().time()).await)
}

/// Waits for what will come to be: there is no limit but the test runner's.
async fn until(mut is: impl FnMut() -> bool) {
    while !is() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn sent(facilitator: &DevFacilitator) -> u64 {
    facilitator.chain().calls().of("eth_sendRawTransaction")
}

fn duplicate(answer: &(u16, Value), transaction: &Value) {
    let (status, answer) = answer;
    assert_eq!((*status, &answer["success"]), (409, &json!(false)), "{answer}");
    assert_eq!(answer["errorReason"], "duplicate_settlement", "{answer}");
    assert_eq!(&answer["transaction"], transaction, "{answer}");
    assert_eq!(answer["network"], "eip155:84532", "{answer}");
}

/// The stored receipt, marked.
fn replayed(answer: (u16, Value), first: &Value) {
    let mut expected = first.clone();
    expected["extensions"] = json!({ "replayed": true });
    assert_eq!(answer, (200, expected));
}

async fn is_refused_by_verify(facilitator: &DevFacilitator, request: &Value) {
    let answer = send(&format!("{}/verify", facilitator.url()), request.to_string(), None).await;
    assert_eq!((answer.0, &answer.1["isValid"]), (200, &json!(false)), "{}", answer.1);
    assert_eq!(answer.1["invalidReason"], "duplicate_settlement", "{}", answer.1);
    assert_eq!(answer.1["payer"], ACCOUNTS[1].address.to_string(), "{}", answer.1);
}

/// The same JSON, every object's members in reverse, with white space between all tokens.
fn respelt(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members: Vec<_> = members.iter().rev().map(|(k, v)| format!("{k:?} :\t{}", respelt(v))).collect();
            format!("{{\n {} }}", members.join(" ,\r\n"))
        }
        other => format!(" {other} "),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unanswered_it_is_a_duplicate_and_answered_it_is_replayed() {
    let facilitator = start(Duration::from_secs(600)).await;
    let settle = format!("{}/settle", facilitator.url());
    let request = fresh(&facilitator).await;
    let text = request.to_string();

    let (url, first) = (settle.clone(), text.clone());
    let first = tokio::spawn(async move { send(&url, first, None).await });
    until(|| sent(&facilitator) == 1).await;
    let again = send(&settle, text.clone(), None).await;
    let transaction = again.1["transaction"].clone();
    assert!(transaction.as_str().is_some_and(|hash| hash.len() == 66), "{transaction}");
    duplicate(&again, &transaction);
    duplicate(&send(&settle, respelt(&request), None).await, &transaction);
    duplicate(&send(&settle, text.clone(), Some("another")).await, &transaction);
    is_refused_by_verify(&facilitator, &request).await;
    assert!(!first.is_finished());

    facilitator.chain().mine(1);
    let (status, first) = first.await.unwrap();
    assert_eq!((status, &first["success"]), (200, &json!(true)), "{first}");
    assert_eq!((&first["transaction"], &first["extensions"]), (&transaction, &Value::Null), "{first}");

    replayed(send(&settle, text.clone(), None).await, &first);
    replayed(send(&settle, text.clone(), None).await, &first);
    // The order of members and white space make no other request.
    replayed(send(&settle, respelt(&request), None).await, &first);
    duplicate(&send(&settle, text.clone(), Some("another")).await, &transaction);
    let mut other = request.clone();
    other["paymentPayload"]["resource"] = json!({ "url": "https://shop.example/else" });
    duplicate(&send(&settle, other.to_string(), None).await, &transaction);
    let mut other = request.clone();
    other["paymentPayload"]["payload"]["note"] = json!("the same authorization");
    duplicate(&send(&settle, other.to_string(), None).await, &transaction);
    is_refused_by_verify(&facilitator, &request).await;

    assert_eq!(facilitator.chain().transfers().len(), 1);
    assert_eq!(sent(&facilitator), 1, "one transaction was sent for all of this");
    facilitator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn told_that_it_is_pending_the_same_request_joins() {
    let facilitator = start(Duration::from_millis(300)).await;
    let settle = format!("{}/settle", facilitator.url());
    let request = fresh(&facilitator).await;
    let text = request.to_string();

    // 503 as long as nothing has left: there would be no transaction to look for.
    let mut pending = send(&settle, text.clone(), None).await;
    while pending.0 == 503 {
        assert_eq!((&pending.1["success"], &pending.1["transaction"]), (&json!(false), &json!("")));
        pending = send(&settle, text.clone(), None).await;
    }
    let (status, pending) = pending;
    assert_eq!((status, &pending["success"]), (200, &json!(false)), "{pending}");
    assert_eq!(pending["errorReason"], "settlement_pending", "{pending}");
    assert_eq!(pending["payer"], ACCOUNTS[1].address.to_string(), "{pending}");
    let transaction = pending["transaction"].clone();
    assert!(transaction.as_str().is_some_and(|hash| hash.len() == 66), "{pending}");
    is_refused_by_verify(&facilitator, &request).await;
    duplicate(&send(&settle, text.clone(), Some("another")).await, &transaction);
    // It waits once more, and is told the same.
    assert_eq!(send(&settle, text.clone(), None).await, (200, pending.clone()));

    let (url, joined) = (settle.clone(), text.clone());
    let joined = tokio::spawn(async move {
        let mut answer = send(&url, joined.clone(), None).await;
        while answer.1["errorReason"] == "settlement_pending" {
            answer = send(&url, joined.clone(), None).await;
        }
        answer
    });
    facilitator.chain().mine(1);
    let (status, joined) = joined.await.unwrap();
    assert_eq!((status, &joined["success"]), (200, &json!(true)), "{joined}");
    assert_eq!(joined["transaction"], transaction, "{joined}");
    let mut receipt = joined.clone();
    receipt.as_object_mut().unwrap().remove("extensions");
    replayed(send(&settle, text, None).await, &receipt);
    assert_eq!(facilitator.chain().transfers().len(), 1);
    facilitator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_names_the_request() {
    let facilitator = start(Duration::from_secs(600)).await;
    facilitator.chain().set_automine(true);
    let settle = format!("{}/settle", facilitator.url());
    let request = fresh(&facilitator).await;
    let text = request.to_string();
    let longest = "k".repeat(255);

    for wrong in ["", &"k".repeat(256)] {
        for path in ["verify", "settle"] {
            let (status, answer) = send(&format!("{}/{path}", facilitator.url()), text.clone(), Some(wrong)).await;
            let (reason, message) =
                if path == "verify" { ("invalidReason", "invalidMessage") } else { ("errorReason", "errorMessage") };
            assert_eq!((status, &answer[reason]), (400, &json!("invalid_payload")), "{answer}");
            assert!(answer[message].as_str().unwrap().contains("Idempotency-Key"), "{answer}");
        }
    }
    let (status, first) = send(&settle, text.clone(), Some(&longest)).await;
    assert_eq!((status, &first["success"]), (200, &json!(true)), "{first}");
    let transaction = first["transaction"].clone();
    replayed(send(&settle, text.clone(), Some(&longest)).await, &first);
    // What is not part of the payment may differ under the same key; its terms may not.
    let mut other = request.clone();
    other["paymentPayload"]["resource"] = json!({ "url": "https://shop.example/else" });
    replayed(send(&settle, other.to_string(), Some(&longest)).await, &first);
    let mut other = request.clone();
    other["paymentPayload"]["accepted"]["maxTimeoutSeconds"] = json!(301);
    other["paymentRequirements"]["maxTimeoutSeconds"] = json!(301);
    duplicate(&send(&settle, other.to_string(), Some(&longest)).await, &transaction);
    duplicate(&send(&settle, text.clone(), Some("k")).await, &transaction);
    duplicate(&send(&settle, text, None).await, &transaction);
    // The same key for another payment is another request.
    let (status, second) = send(&settle, fresh(&facilitator).await.to_string(), Some(&longest)).await;
    assert_eq!((status, &second["success"], &second["extensions"]), (200, &json!(true), &Value::Null), "{second}");
    assert_eq!(facilitator.chain().transfers().len(), 2);
    facilitator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_at_once_one_is_told_that_it_is_new() {
    let facilitator = start(Duration::from_secs(600)).await;
    facilitator.chain().set_automine(true);
    let settle = format!("{}/settle", facilitator.url());
    let text = fresh(&facilitator).await.to_string();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (settle, text) = (settle.clone(), text.clone());
        calls.spawn(async move { send(&settle, text, None).await });
    }
    let mut new = 0;
    while let Some(answer) = calls.join_next().await {
        let (status, answer) = answer.unwrap();
        match (status, &answer["extensions"]["replayed"]) {
            (200, Value::Null) => new += 1,
            (200, Value::Bool(true)) => {}
            (409, _) => assert_eq!(answer["errorReason"], "duplicate_settlement", "{answer}"),
            _ => panic!("{status} {answer}"),
        }
    }
    assert_eq!(new, 1);
    assert_eq!(facilitator.chain().transfers().len(), 1);
    facilitator.stop().await;
}
