//! Extensions at the facilitator: listed by `/supported`, and names that payers give their requests.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::net::Ipv4Addr;

use serde_json::{Value, json};
use x402_facilitator::dev::DevFacilitator;

use crate::support::{body, send, signed, terms, tls};

const ID: &str = "pay_0123456789abcdef";

async fn start() -> DevFacilitator {
    tls();
    DevFacilitator::start((Ipv4Addr::LOCALHOST, 0).into(), |routes| routes).await.unwrap()
}

async fn identified(facilitator: &DevFacilitator, id: &str) -> Value {
    identified_by(1, facilitator, id).await
}

async fn identified_by(payer: usize, facilitator: &DevFacilitator, id: &str) -> Value {
    let terms = terms();
    let mut body = body(&terms, &signed(payer, &terms, facilitator.chain().time()).await);
    body["paymentPayload"]["extensions"] = json!({"payment-identifier": {"info": {"required": false, "id": id}}});
    body
}

/// Posts to both routes under a key or none.
async fn post(facilitator: &DevFacilitator, path: &str, body: &Value, key: Option<&str>) -> (u16, Value) {
    send(&format!("{}/{path}", facilitator.url()), body.to_string(), key).await
}

fn conflict((status, answer): (u16, Value), words: &str) {
    let of = if answer.get("isValid").is_some() { "invalid" } else { "error" };
    assert_eq!((status, &answer[format!("{of}Reason")]), (409, &json!("duplicate_settlement")), "{answer}");
    assert_eq!(answer[format!("{of}Message")], words, "{answer}");
}

const ANOTHER: &str = "payment-identifier: it names another payment";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_registered_is_supported() {
    let facilitator = start().await;
    let supported: Value = reqwest::get(format!("{}/supported", facilitator.url()))
        .await
        .unwrap()
        .bytes()
        .await
        .map(|bytes| serde_json::from_slice(&bytes).unwrap())
        .unwrap();
    assert_eq!(
        supported["extensions"],
        json!(["payment-identifier", "eip2612GasSponsoring", "erc20ApprovalGasSponsoring"])
    );
    facilitator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_id_names_one_payload() {
    let facilitator = start().await;
    let (one, two) = (identified(&facilitator, ID).await, identified(&facilitator, ID).await);
    assert_eq!(post(&facilitator, "verify", &one, None).await.1["isValid"], true);
    conflict(post(&facilitator, "verify", &two, None).await, ANOTHER);
    conflict(post(&facilitator, "settle", &two, None).await, ANOTHER);
    let (status, first) = post(&facilitator, "settle", &one, None).await;
    assert_eq!((status, &first["success"]), (200, &json!(true)), "{first}");
    conflict(post(&facilitator, "verify", &two, None).await, ANOTHER);
    conflict(post(&facilitator, "settle", &two, None).await, ANOTHER);
    // Another payer that learned the id gets no part of the first one's answer.
    let stranger = identified_by(3, &facilitator, ID).await;
    conflict(post(&facilitator, "verify", &stranger, None).await, ANOTHER);
    conflict(post(&facilitator, "settle", &stranger, None).await, ANOTHER);
    // The same authorization in another payload is another payload.
    let mut respelt = one.clone();
    respelt["paymentPayload"]["resource"] = json!({"url": "https://shop.example/else"});
    conflict(post(&facilitator, "settle", &respelt, None).await, ANOTHER);
    // The payer's name does not have a success told twice to a server that names nothing: it would serve twice.
    let (status, again) = post(&facilitator, "settle", &one, None).await;
    assert_eq!((status, &again["errorReason"]), (200, &json!("invalid_exact_evm_nonce_already_used")), "{again}");
    assert_eq!(again["transaction"], first["transaction"]);
    let other = identified(&facilitator, "another_id_of_16").await;
    assert_eq!(post(&facilitator, "settle", &other, None).await.1["success"], true);
    assert_eq!(facilitator.chain().transfers().len(), 2);
    facilitator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_an_idempotency_key_both_names_hold() {
    let facilitator = start().await;
    let (one, two) = (identified(&facilitator, ID).await, identified(&facilitator, "another_id_of_16").await);
    let (status, first) = post(&facilitator, "settle", &one, Some("k")).await;
    assert_eq!((status, &first["success"]), (200, &json!(true)), "they may differ: {first}");
    // The caller knows its request by its key: told again.
    let mut replayed = first.clone();
    replayed["extensions"] = json!({"replayed": true});
    assert_eq!(post(&facilitator, "settle", &one, Some("k")).await, (200, replayed));
    conflict(post(&facilitator, "settle", &two, Some("k")).await, "Idempotency-Key: it names another payment");
    let third = identified(&facilitator, ID).await;
    conflict(post(&facilitator, "settle", &third, Some("l")).await, ANOTHER);
    // The name of an extension is not a key of the same text.
    let fourth = identified(&facilitator, "a_third_id_of_16").await;
    let key = format!("payment-identifier:{ID}");
    assert_eq!(post(&facilitator, "settle", &fourth, Some(&key)).await.1["success"], true);
    assert_eq!(facilitator.chain().transfers().len(), 2);
    facilitator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_id_is_400_with_its_code() {
    let facilitator = start().await;
    for (path, flag, reason) in [("verify", "isValid", "invalidReason"), ("settle", "success", "errorReason")] {
        for id in ["short", &"a".repeat(129), "pay 0123456789abcdef"] {
            let (status, answer) = post(&facilitator, path, &identified(&facilitator, id).await, None).await;
            assert_eq!(
                (status, &answer[flag], &answer[reason]),
                (400, &json!(false), &json!("invalid_payment_identifier")),
                "{answer}"
            );
            assert!(answer["payer"].is_string(), "{answer}");
        }
    }
    assert!(facilitator.chain().transfers().is_empty());
    facilitator.stop().await;
}
