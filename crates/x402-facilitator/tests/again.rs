//! The same payment settled again: x402-facilitator-core's rules as they stand on the wire.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use x402_codec::Limits;
use x402_devchain::{ACCOUNTS, DevChain};
use x402_facilitator::dev::DevFacilitator;
use x402_facilitator_core::Payment;
use x402_types::{Claim, Terms};

use crate::support::process::{Facilitator, configuration};
use crate::support::{body, body_v1, fresh, send, signed, start, terms, tls};

/// Waits for what will come to be: there is no limit but the test runner's.
async fn until(mut is: impl FnMut() -> bool) {
    while !is() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// What a body has settled.
fn claim_of(request: &Value) -> Claim {
    let request = x402_codec::body::verify_request(request.to_string().as_bytes(), &Limits::DEFAULT).unwrap();
    Claim::new(Terms::try_from(request.payment_requirements).unwrap(), request.payment_payload)
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

const USED: &str = "invalid_exact_evm_nonce_already_used";

/// No success: it was told before. With the transaction that paid.
fn spent(answer: &(u16, Value), first: &Value) {
    let (status, answer) = answer;
    // Version 1 has a closed list of codes (docs/adr/0068), and the code of version 2 is in the message.
    let reason = if first["network"] == "base-sepolia" { "invalid_transaction_state" } else { USED };
    assert!(answer["errorMessage"].as_str().unwrap().starts_with(if first["network"] == "base-sepolia" {
        USED
    } else {
        ""
    }));
    let expected = json!({
        "success": false, "errorReason": reason,
        "errorMessage": answer["errorMessage"], "payer": first["payer"],
        "transaction": first["transaction"], "network": first["network"],
    });
    assert!(answer["errorMessage"].is_string(), "{answer}");
    assert_eq!((*status, answer), (200, &expected));
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
async fn unanswered_it_is_a_duplicate_and_answered_it_is_spent() {
    let facilitator = start(Duration::from_secs(600)).await;
    let settle = format!("{}/settle", facilitator.url());
    let request = fresh(facilitator.chain()).await;
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

    spent(&send(&settle, text.clone(), None).await, &first);
    spent(&send(&settle, text.clone(), None).await, &first);
    spent(&send(&settle, respelt(&request), None).await, &first);
    duplicate(&send(&settle, text.clone(), Some("another")).await, &transaction);
    let mut other = request.clone();
    other["paymentPayload"]["resource"] = json!({ "url": "https://shop.example/else" });
    spent(&send(&settle, other.to_string(), None).await, &first);
    let mut other = request.clone();
    other["paymentPayload"]["payload"]["note"] = json!("the same authorization");
    spent(&send(&settle, other.to_string(), None).await, &first);
    is_refused_by_verify(&facilitator, &request).await;

    assert_eq!(facilitator.chain().transfers().len(), 1);
    assert_eq!(sent(&facilitator), 1, "one transaction was sent for all of this");
    facilitator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn told_that_it_is_pending_the_same_request_joins() {
    let facilitator = start(Duration::from_millis(300)).await;
    let settle = format!("{}/settle", facilitator.url());
    let request = fresh(facilitator.chain()).await;
    let text = request.to_string();

    // As long as nothing has left there is no transaction to look for.
    let mut pending = send(&settle, text.clone(), None).await;
    while pending.1["transaction"] == "" {
        let verdict = (pending.0, &pending.1["success"], &pending.1["errorReason"]);
        assert_eq!(verdict, (200, &json!(false), &json!("settlement_pending")));
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
    assert_eq!(joined["extensions"], Value::Null, "it is told as new: {joined}");
    spent(&send(&settle, text, None).await, &joined);
    assert_eq!(facilitator.chain().transfers().len(), 1);
    facilitator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_names_the_request() {
    let facilitator = start(Duration::from_secs(600)).await;
    facilitator.chain().set_automine(true);
    let settle = format!("{}/settle", facilitator.url());
    let request = fresh(facilitator.chain()).await;
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
    spent(&send(&settle, text, None).await, &first);
    assert_eq!(facilitator.chain().transfers().len(), 1);
    facilitator.stop().await;
}

/// Whoever hung up is told nothing, so the next one is. In both versions.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_hung_up_leaves_the_success_to_the_next() {
    let facilitator = start(Duration::from_secs(600)).await;
    let settle = format!("{}/settle", facilitator.url());
    let terms = terms();
    for version in [1, 2] {
        let payload = signed(1, &terms, facilitator.chain().time()).await;
        let request = if version == 1 { body_v1(&terms, &payload) } else { body(&terms, &payload) };
        let before = sent(&facilitator);
        let (url, text) = (settle.clone(), request.to_string());
        let gone = tokio::spawn(async move { send(&url, text, None).await });
        until(|| sent(&facilitator) == before + 1).await;
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
        facilitator.chain().mine(1);
        // The row's end, so that nobody else is told on the way.
        let row = |row: Payment| row.answer.is_some();
        let key = facilitator.engine().settlement().key(&claim_of(&request)).unwrap();
        while !facilitator.engine().settlement().payment(&key).await.unwrap().is_some_and(row) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // The facilitator may still believe that it answers: until it sees the closed connection, 409.
        let mut answer = send(&settle, request.to_string(), None).await;
        while answer.0 == 409 {
            answer = send(&settle, request.to_string(), None).await;
        }
        let (status, first) = answer;
        assert_eq!((status, &first["success"]), (200, &json!(true)), "{first}");
        for _ in 0..3 {
            spent(&send(&settle, request.to_string(), None).await, &first);
        }
    }
    assert_eq!(facilitator.chain().transfers().len(), 2);
    facilitator.stop().await;
}

/// "One `Idempotency-Key` with two different payments is 409", whoever verified or settled first.
#[tokio::test(flavor = "multi_thread")]
async fn one_key_names_one_payment() {
    let facilitator = start(Duration::from_secs(600)).await;
    facilitator.chain().set_automine(true);
    let post = async |path: &str, request: &Value, key: &str| {
        send(&format!("{}/{path}", facilitator.url()), request.to_string(), Some(key)).await
    };
    let (one, two) = (fresh(facilitator.chain()).await, fresh(facilitator.chain()).await);
    let taken = |(status, answer): (u16, Value), flag: &str, reason: &str| {
        assert_eq!(
            (status, &answer[flag], &answer[reason]),
            (409, &json!(false), &json!("duplicate_settlement")),
            "{answer}"
        );
    };
    assert_eq!(post("verify", &one, "k").await.1["isValid"], true);
    taken(post("verify", &two, "k").await, "isValid", "invalidReason");
    taken(post("settle", &two, "k").await, "success", "errorReason");
    assert_eq!(post("settle", &one, "k").await.1["success"], true);
    taken(post("settle", &two, "k").await, "success", "errorReason");
    taken(post("verify", &two, "k").await, "isValid", "invalidReason");
    assert_eq!(post("settle", &one, "k").await.1["extensions"]["replayed"], true);
    assert_eq!(post("settle", &two, "l").await.1["success"], true, "under a name of its own it is good");
    assert_eq!(facilitator.chain().transfers().len(), 2);
    facilitator.stop().await;
}

/// A caller with a token that opted in is told a success again without a name; another one is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_opted_in_is_told_again() {
    tls();
    let directory = tempfile::tempdir().unwrap();
    let chain = DevChain::new().unwrap();
    let node = chain.serve("127.0.0.1:0").await.unwrap();
    let config = configuration(directory.path(), &directory.path().join("ledger.sqlite"));
    let mut text = String::new();
    for (name, more) in [("shop", "replay_success = true"), ("other", "")] {
        let token = directory.path().join(name);
        std::fs::write(&token, format!("{name}-token")).unwrap();
        text += &format!("[[caller]]\nname = \"{name}\"\ntoken = {{ file = \"{}\" }}\n{more}\n", token.display());
    }
    let before = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{before}\n{text}")).unwrap();
    let facilitator = Facilitator::start(&config, &node.url);
    let settle = async |request: &Value, caller: &str| {
        let post = reqwest::Client::new().post(format!("{}/settle", facilitator.url)).body(request.to_string());
        let answer = post.bearer_auth(format!("{caller}-token")).send().await.unwrap();
        (answer.status().as_u16(), serde_json::from_slice::<Value>(&answer.bytes().await.unwrap()).unwrap())
    };
    for caller in ["shop", "other"] {
        let terms = terms();
        let request = body(&terms, &signed(1, &terms, chain.time()).await);
        let (status, first) = settle(&request, caller).await;
        assert_eq!((status, &first["success"]), (200, &json!(true)), "{first}");
        let again = settle(&request, caller).await;
        if caller == "shop" {
            replayed(again, &first);
            spent(&settle(&request, "other").await, &first);
        } else {
            spent(&again, &first);
        }
    }
    assert_eq!(chain.transfers().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_at_once_one_is_told_the_success() {
    let facilitator = start(Duration::from_secs(600)).await;
    facilitator.chain().set_automine(true);
    let settle = format!("{}/settle", facilitator.url());
    let text = fresh(facilitator.chain()).await.to_string();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (settle, text) = (settle.clone(), text.clone());
        calls.spawn(async move { send(&settle, text, None).await });
    }
    let (mut new, mut refused) = (0, 0);
    while let Some(answer) = calls.join_next().await {
        let (status, answer) = answer.unwrap();
        match (status, answer["success"].as_bool(), answer["errorReason"].as_str()) {
            (200, Some(true), _) => new += 1,
            (200, Some(false), Some("invalid_exact_evm_nonce_already_used"))
            | (409, Some(false), Some("duplicate_settlement")) => refused += 1,
            _ => panic!("{status} {answer}"),
        }
    }
    assert_eq!((new, refused), (1, 19));
    assert_eq!(facilitator.chain().transfers().len(), 1);
    facilitator.stop().await;
}
