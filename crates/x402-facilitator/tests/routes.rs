//! The HTTP API: what is said of a facilitator, of bodies that cannot be read or routed (400), and of payments that
//! are not good (200).

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::net::Ipv4Addr;
use std::sync::Arc;

use alloy_network::{Ethereum, Network, TransactionBuilder};
use alloy_primitives::{B256, Bytes};
use alloy_provider::Provider;
use serde_json::{Value, json};
use x402_devchain::{ACCOUNTS, DevChain, Failure, NodeFault, TOKEN, When, signer};
use x402_evm::eip3009::{Payload, UncheckedPayload};
use x402_evm::exact::Payer;
use x402_evm::signature::Signature;
use x402_facilitator::dev::DevFacilitator;
use x402_facilitator::routes::Routes;
use x402_types::{EvmAddress, MakePayment, RawJson, SigningContext, Terms, TimeoutSeconds, UnixSeconds, Version};
use zeroize::Zeroizing;

use crate::support::{SELLER, body, body_v1, send, signed, terms, tls};

async fn start() -> DevFacilitator {
    tls();
    DevFacilitator::start((Ipv4Addr::LOCALHOST, 0).into(), |routes| routes).await.unwrap()
}

async fn fetch(url: String) -> (u16, Value) {
    let response = reqwest::get(url).await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap())
}

/// A good body of version 2.
async fn good(facilitator: &DevFacilitator) -> Value {
    let terms = terms();
    body(&terms, &signed(1, &terms, facilitator.chain().time()).await)
}

/// What a refusal has to repeat of a body: the network that was asked, and who would have paid, where it can be read.
fn named(sent: &str) -> (Option<Value>, Option<String>) {
    let Ok(body) = serde_json::from_str::<Value>(sent) else { return (None, None) };
    let places = ["/paymentRequirements/network", "/paymentPayload/accepted/network", "/paymentPayload/network"];
    let mut networks = places.iter().filter_map(|place| body.pointer(place));
    let network = networks.find(|network| network.as_str().is_some_and(|name| !name.is_empty())).cloned();
    let payload = body.pointer("/paymentPayload/payload").map(|payload| RawJson::of(payload).unwrap());
    let payer = payload.and_then(|payload| UncheckedPayload::read(&payload).ok());
    (network, payer.map(|payer| EvmAddress::from(payer.from.unchecked()).to_string()))
}

/// Both endpoints refuse the body, nothing is sent, and the answer has code, status and words. Both name the payer once
/// the payload was read, and `/settle` the network.
async fn refused(facilitator: &DevFacilitator, sent: impl Into<String>, status: u16, code: &str, words: &str) {
    let sent = sent.into();
    let nonce = facilitator.chain().nonce_of(ACCOUNTS[0].address);
    for (path, flag, reason, message) in
        [("verify", "isValid", "invalidReason", "invalidMessage"), ("settle", "success", "errorReason", "errorMessage")]
    {
        let (is, answer) = send(&format!("{}/{path}", facilitator.url()), sent.clone(), None).await;
        let shown = sent.chars().take(300).collect::<String>();
        assert_eq!((is, &answer[flag], &answer[reason]), (status, &json!(false), &json!(code)), "{answer} {shown}");
        let said = answer[message].as_str().unwrap_or_default();
        assert!(said.contains(words), "{path}: {words:?} is not in {said:?}: {shown}");
        let (network, payer) = named(&sent);
        if status == 200 || code == "invalid_payment_requirements" {
            assert_eq!(answer["payer"].as_str(), payer.as_deref(), "{path}: who would have paid: {answer} {shown}");
        }
        if path == "settle" {
            assert_eq!(answer["transaction"], "", "nothing was sent: {answer}");
            let network = network.filter(|_| status != 413).unwrap_or_else(|| json!(""));
            assert_eq!(answer["network"], network, "what was asked: {answer} {shown}");
        }
    }
    assert_eq!(facilitator.chain().nonce_of(ACCOUNTS[0].address), nonce, "{code}: nothing was sent");
}

fn at<'a>(body: &'a mut Value, pointer: &str) -> &'a mut Value {
    body.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}"))
}

fn with(body: &Value, pointer: &str, value: Value) -> String {
    let mut body = body.clone();
    *at(&mut body, pointer) = value;
    body.to_string()
}

fn without(body: &Value, pointer: &str) -> String {
    let mut body = body.clone();
    let (object, member) = pointer.rsplit_once('/').unwrap();
    at(&mut body, object).as_object_mut().unwrap().remove(member).unwrap();
    body.to_string()
}

#[tokio::test]
async fn it_says_what_it_serves_and_how_it_is() {
    let facilitator = start().await;
    assert_eq!(
        fetch(format!("{}/supported", facilitator.url())).await,
        (
            200,
            json!({
                "kinds": [
                    { "x402Version": 2, "scheme": "exact", "network": "eip155:84532" },
                    { "x402Version": 1, "scheme": "exact", "network": "base-sepolia" },
                ],
                "extensions": ["payment-identifier"],
                "signers": { "eip155:84532": ["0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"] },
                "keepsRequests": true,
            })
        )
    );
    let (mut status, mut health) = (0, Value::Null);
    // The first poll of the head may still be on its way.
    while health["headAgeSeconds"]["eip155:84532"].is_null() {
        (status, health) = fetch(format!("{}/health", facilitator.url())).await;
    }
    let head = health["headAgeSeconds"]["eip155:84532"].as_u64();
    assert_eq!((status, &health["status"], head.is_some()), (200, &json!("ok"), true), "{health}");
    assert_eq!(fetch(format!("{}/ready", facilitator.url())).await, (200, json!({ "status": "ready" })));
    facilitator.stop().await;
}

#[tokio::test]
async fn wrong_methods_and_paths_are_none_of_its_own() {
    let facilitator = start().await;
    let http = reqwest::Client::new();
    for (method, path, status) in [
        (reqwest::Method::GET, "verify", 405),
        (reqwest::Method::PUT, "settle", 405),
        (reqwest::Method::DELETE, "settle", 405),
        (reqwest::Method::POST, "supported", 405),
        (reqwest::Method::POST, "health", 405),
        (reqwest::Method::POST, "ready", 405),
        (reqwest::Method::POST, "settle/", 404),
        (reqwest::Method::GET, "", 404),
    ] {
        let answer = http.request(method.clone(), format!("{}/{path}", facilitator.url())).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{method} /{path}");
    }
    facilitator.stop().await;
}

#[tokio::test]
async fn what_is_no_request_is_refused() {
    let facilitator = start().await;
    let good = good(&facilitator).await;
    let text = good.to_string();
    for (sent, words) in [
        (String::new(), "byte 0: invalid JSON"),
        ("not json".into(), "byte 0: invalid JSON"),
        ("[]".into(), "expected"),
        ("null".into(), "expected"),
        ("{}".into(), "paymentPayload"),
        (text[..text.len() - 1].into(), "invalid JSON"),
        (format!("{text}{text}"), "data after the document"),
        (format!(r#"{},"paymentRequirements":{{}}}}"#, &text[..text.len() - 1]), "duplicate key"),
        (with(&good, "/paymentRequirements/extra", nested(40)), "nested too deep"),
    ] {
        refused(&facilitator, sent, 400, "invalid_payload", words).await;
    }
    let padded = format!("{text}{}", " ".repeat(64 * 1024));
    refused(&facilitator, padded, 413, "invalid_payload", "64 KiB").await;
    // Right at the limit it is read, and good.
    let full = format!("{text}{}", " ".repeat(64 * 1024 - text.len()));
    let (status, answer) = send(&format!("{}/verify", facilitator.url()), full, None).await;
    assert_eq!((status, &answer["isValid"]), (200, &json!(true)), "{answer}");
    facilitator.stop().await;
}

/// x402 v2 §9 has a code for the version alone.
fn code_of(member: &str) -> &'static str {
    if member == "x402Version" { "invalid_x402_version" } else { "invalid_payload" }
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(json!({}), |inner, _| json!({ "a": inner }))
}

#[tokio::test]
async fn every_member_that_is_missing_or_malformed_is_named() {
    let facilitator = start().await;
    let v2 = good(&facilitator).await;
    let terms = terms();
    let v1 = body_v1(&terms, &signed(1, &terms, facilitator.chain().time()).await);
    let of = |prefix: &str, names: &[&str]| names.iter().map(|name| format!("{prefix}/{name}")).collect::<Vec<_>>();
    let mut required = of("", &["paymentPayload", "paymentRequirements"]);
    required.extend(of("/paymentPayload", &["x402Version", "payload"]));
    required.extend(of("/paymentRequirements", &["scheme", "network", "asset", "payTo"]));
    required.extend(of("/paymentPayload/payload", &["signature", "authorization"]));
    let signed = ["from", "to", "value", "validAfter", "validBefore", "nonce"];
    required.extend(of("/paymentPayload/payload/authorization", &signed));
    let mut only_v2 = of("/paymentPayload/accepted", &["scheme", "network", "amount", "asset", "payTo"]);
    only_v2.extend(of("", &["paymentPayload/accepted", "paymentRequirements/amount"]));
    let only_v1 = of("", &["paymentPayload/scheme", "paymentPayload/network", "paymentRequirements/maxAmountRequired"]);
    for (body, own) in [(&v2, only_v2), (&v1, only_v1)] {
        for pointer in required.iter().chain(&own) {
            let name = pointer.rsplit('/').next().unwrap();
            refused(&facilitator, without(body, pointer), 400, code_of(name), name).await;
            for wrong in [Value::Null, json!(true), json!(7.5), json!([])] {
                refused(&facilitator, with(body, pointer, wrong), 400, code_of(name), name).await;
            }
        }
    }
    facilitator.stop().await;
}

#[tokio::test]
async fn every_spelling_that_is_not_the_protocols_is_named() {
    let facilitator = start().await;
    let good = good(&facilitator).await;
    let authorization = "/paymentPayload/payload/authorization";
    for (pointer, wrong) in [
        ("/x402Version".to_owned(), json!("2")),
        ("/x402Version".to_owned(), json!(3)),
        ("/paymentPayload/x402Version".to_owned(), json!("2")),
        ("/paymentPayload/x402Version".to_owned(), json!(3)),
        ("/paymentRequirements/scheme".to_owned(), json!("")),
        ("/paymentRequirements/network".to_owned(), json!("nowhere")),
        ("/paymentRequirements/network".to_owned(), json!("")),
        ("/paymentRequirements/network".to_owned(), json!("eip155:084532")),
        ("/paymentRequirements/amount".to_owned(), json!(10000)),
        ("/paymentRequirements/amount".to_owned(), json!("010000")),
        ("/paymentRequirements/amount".to_owned(), json!("-1")),
        ("/paymentRequirements/amount".to_owned(), json!("1e4")),
        ("/paymentRequirements/maxTimeoutSeconds".to_owned(), json!(0)),
        ("/paymentRequirements/maxTimeoutSeconds".to_owned(), json!("300")),
        ("/paymentRequirements/maxTimeoutSeconds".to_owned(), json!(1.5)),
        ("/paymentRequirements/extra".to_owned(), json!("USDC")),
        (format!("{authorization}/value"), json!(10000)),
        (format!("{authorization}/value"), json!("0x2710")),
        (format!("{authorization}/validAfter"), json!(0)),
        (format!("{authorization}/validBefore"), json!("1.0")),
        (format!("{authorization}/nonce"), json!("0x01")),
        (format!("{authorization}/nonce"), json!("00".repeat(32))),
        (format!("{authorization}/from"), json!("alice")),
        ("/paymentPayload/payload/signature".to_owned(), json!("0x123")),
        ("/paymentPayload/payload/signature".to_owned(), json!("zz")),
        ("/paymentPayload/payload/signature".to_owned(), json!(format!("0x{}", "00".repeat(4097)))),
    ] {
        let name = pointer.rsplit('/').next().unwrap();
        refused(&facilitator, with(&good, &pointer, wrong), 400, code_of(name), name).await;
    }
    // Another letter's case: it can be read, and the checksum of EIP-55 is wrong. That is a verdict.
    let wrong = json!("0x9965507d1a55bcC2695C58ba16FB37d819B0A4dc");
    let body = with(&good, &format!("{authorization}/to"), wrong);
    refused(&facilitator, body, 200, "invalid_payload", "payload.authorization.to").await;
    facilitator.stop().await;
}

#[tokio::test]
async fn what_is_served_by_nobody_here_cannot_be_routed() {
    let facilitator = start().await;
    let good = good(&facilitator).await;
    let both = |member: &str, value: Value| {
        let mut body = good.clone();
        *at(&mut body, &format!("/paymentRequirements/{member}")) = value.clone();
        *at(&mut body, &format!("/paymentPayload/accepted/{member}")) = value;
        body.to_string()
    };
    let other = ACCOUNTS[9].address.to_string();
    for (sent, code, words) in [
        (both("scheme", json!("upto")), "unsupported_scheme", "the scheme is not served here"),
        (both("network", json!("eip155:8453")), "invalid_network", "the network is not served here"),
        (
            both("network", json!("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp")),
            "invalid_network",
            "the network is not served here",
        ),
        (both("asset", json!(other)), "invalid_payment_requirements", "asset"),
        (with(&good, "/paymentRequirements/amount", json!("9999")), "invalid_payment_requirements", "accepted"),
        (with(&good, "/paymentRequirements/payTo", json!(other)), "invalid_payment_requirements", "accepted"),
        (with(&good, "/paymentRequirements/extra/name", json!("USD Coin")), "invalid_payment_requirements", "accepted"),
        (with(&good, "/paymentRequirements/maxTimeoutSeconds", json!(301)), "invalid_payment_requirements", "accepted"),
    ] {
        refused(&facilitator, sent, 400, code, words).await;
    }
    facilitator.stop().await;
}

#[tokio::test]
async fn another_scheme_or_network_than_the_one_asked_is_a_verdict() {
    let facilitator = start().await;
    let terms = terms();
    let payload = signed(1, &terms, facilitator.chain().time()).await;
    let (v2, v1) = (body(&terms, &payload), body_v1(&terms, &payload));
    for (body, at) in [(&v2, "/paymentPayload/accepted"), (&v1, "/paymentPayload")] {
        let networks = if at == "/paymentPayload" { ["base", "polygon"] } else { ["eip155:8453", "eip155:137"] };
        for entry in [at, "/paymentRequirements"] {
            for scheme in ["upto", "exakt"] {
                let sent = with(body, &format!("{entry}/scheme"), json!(scheme));
                refused(&facilitator, sent, 200, "invalid_scheme", "scheme: expected the one in").await;
            }
            for network in networks {
                let sent = with(body, &format!("{entry}/network"), json!(network));
                refused(&facilitator, sent, 200, "invalid_network", "network: expected the one in").await;
            }
        }
    }
    facilitator.stop().await;
}

#[tokio::test]
async fn nevermineds_paths_are_the_same_endpoints() {
    let facilitator = start().await;
    let good = good(&facilitator).await.to_string();
    let payer = json!(ACCOUNTS[1].address.to_string());
    let under = |path: &str| format!("{}/api/v1/x402/{path}", facilitator.url());
    let verified = send(&under("verify"), good.clone(), None).await;
    assert_eq!(verified, (200, json!({ "isValid": true, "payer": payer })));
    let (status, answer) = send(&under("settle"), good, None).await;
    assert_eq!((status, &answer["success"], &answer["payer"]), (200, &json!(true), &payer), "{answer}");
    facilitator.stop().await;
}

/// The shapes are those of `@faremeter/middleware` 0.22.0, `dist/src/http-handler.js` and `common.js`.
#[tokio::test]
async fn terms_are_completed_in_faremeters_shape() {
    let facilitator = start().await;
    let url = format!("{}/accepts", facilitator.url());
    let pay_to = ACCOUNTS[SELLER].address.to_string();
    let whole = json!({
        "scheme": "exact", "network": "eip155:84532", "amount": "10000", "asset": TOKEN.to_string(), "payTo": pay_to,
        "maxTimeoutSeconds": 300, "extra": { "name": "USDC", "version": "2" },
    });
    let with = |name: &str, value: Value| {
        let mut entry = whole.clone();
        entry[name] = value;
        entry
    };
    let least = json!({ "network": "base-sepolia", "amount": "10000", "payTo": pay_to });
    let own = with("extra", json!({ "name": "Mine", "more": 1 }));
    let asked = json!({
        "x402Version": 2, "resource": { "url": "https://shop.example/a", "description": "a" },
        "accepts": [
            whole, least, own, with("maxTimeoutSeconds", json!(60)),
            // Not served here, or not to be completed.
            with("network", json!("eip155:8453")), with("scheme", json!("upto")), with("asset", json!(pay_to)),
            with("amount", json!("0.01")), with("payTo", Value::Null), with("extra", json!([])), json!("exact"),
        ],
    });
    let completed = json!({
        "x402Version": 2, "resource": { "url": "https://shop.example/a", "description": "a" },
        "accepts": [
            whole, whole, with("extra", json!({ "name": "Mine", "more": 1, "version": "2" })),
            with("maxTimeoutSeconds", json!(60)),
        ],
    });
    assert_eq!(send(&url, asked.to_string(), None).await, (200, completed));
    // `createHTTPFacilitatorHandler` sends `{ url: "" }` where it knows no resource.
    let none = send(&url, r#"{"x402Version":2,"accepts":[]}"#, None).await;
    assert_eq!(none, (200, json!({ "x402Version": 2, "resource": { "url": "" }, "accepts": [] })));
    for wrong in ["", "[]", "{}", r#"{"x402Version":1,"accepts":[]}"#, r#"{"x402Version":2,"accepts":{}}"#] {
        let (status, answer) = send(&url, wrong, None).await;
        assert_eq!((status, answer["error"].is_string()), (400, true), "{wrong}: {answer}");
    }
    facilitator.stop().await;
}

/// `vectors/cases/bodies`: what public reports of servers and operators show.
#[tokio::test]
async fn bodies_of_public_reports_are_named_as_what_they_are() {
    let facilitator = start().await;
    let case = |name: &str| {
        let cases = concat!(env!("CARGO_MANIFEST_DIR"), "/../x402-testkit/vectors/cases/bodies");
        std::fs::read_to_string(format!("{cases}/{name}.json")).unwrap()
    };
    let permit = case("v01-permit2-payload").replace("0x036CbD53842c5426634e7929541eC2318f3dCF7e", &TOKEN.to_string());
    for (sent, status, code, words) in [
        (case("v02-payload-as-base64-text"), 400, "invalid_payload", "decode the header's base64 first"),
        (case("v03-settle-on-a-network-not-served"), 400, "invalid_network", "not served here"),
    ] {
        refused(&facilitator, sent, status, code, words).await;
    }
    let (_, answer) =
        send(&format!("{}/settle", facilitator.url()), case("v03-settle-on-a-network-not-served"), None).await;
    assert_eq!(answer["network"], "eip155:1");
    for (path, why, message) in
        [("verify", "invalidReason", "invalidMessage"), ("settle", "errorReason", "errorMessage")]
    {
        let (status, answer) = send(&format!("{}/{path}", facilitator.url()), permit.clone(), None).await;
        assert_eq!((status, &answer[why]), (200, &json!("unsupported_payload_type")), "{answer}");
        assert!(answer[message].as_str().unwrap().contains("Permit2"), "{answer}");
        assert_eq!(answer["payer"], "0x70997970C51812dc3A010C7d01b50e0d17dc79C8", "{answer}");
    }
    facilitator.stop().await;
}

#[tokio::test]
async fn the_outer_version_is_the_payments() {
    let facilitator = start().await;
    let good = good(&facilitator).await;
    let verify = format!("{}/verify", facilitator.url());
    let (_, answer) = send(&verify, without(&good, "/x402Version"), None).await;
    assert_eq!(answer["isValid"], true, "it may be absent: {answer}");
    let (status, answer) = send(&verify, with(&good, "/x402Version", json!(1)), None).await;
    assert_eq!((status, &answer["isValid"]), (400, &json!(false)), "{answer}");
    assert_eq!(answer["invalidReason"], "invalid_x402_version", "{answer}");
    assert!(answer["invalidMessage"].as_str().unwrap().contains("$.x402Version"), "{answer}");
    facilitator.stop().await;
}

#[tokio::test]
async fn payments_that_are_not_good_are_verdicts() {
    let facilitator = start().await;
    let now = facilitator.chain().time();
    let terms = terms();
    let good = body(&terms, &signed(1, &terms, now).await);
    let mut changed = terms.clone();

    // Signed for something else than what is asked.
    let signature = "/paymentPayload/payload/signature";
    let foreign = body(&terms, &signed(2, &terms, now).await);
    let foreign = with(&good, signature, foreign.pointer(signature).unwrap().clone());
    refused(&facilitator, foreign, 200, "invalid_exact_evm_payload_signature", "payload.signature").await;
    for wrong in ["0x", &format!("0x{}", "11".repeat(64)), &format!("0x{}", "00".repeat(65))] {
        let sent = with(&good, signature, json!(wrong));
        refused(&facilitator, sent, 200, "invalid_exact_evm_payload_signature", "payload.signature").await;
    }
    for amount in [9_999, 10_001] {
        changed.amount = amount.into();
        let sent = body(&terms, &signed(1, &changed, now).await).to_string();
        refused(
            &facilitator,
            sent,
            200,
            "invalid_exact_evm_payload_authorization_value_mismatch",
            "the authorized value is not the amount asked",
        )
        .await;
    }
    changed = terms.clone();
    changed.pay_to = ACCOUNTS[9].address.to_string();
    let sent = body(&terms, &signed(1, &changed, now).await).to_string();
    refused(
        &facilitator,
        sent,
        200,
        "invalid_exact_evm_payload_recipient_mismatch",
        "the authorization pays somebody else",
    )
    .await;

    // Too late, too early, too long.
    let before = "invalid_exact_evm_payload_authorization_valid_before";
    let sent = body(&terms, &signed(1, &terms, now - 3600).await).to_string();
    refused(&facilitator, sent, 200, before, "expired").await;
    let sent = body(&terms, &signed(1, &terms, now - 300 + 4).await).to_string();
    refused(&facilitator, sent, 200, before, "expired").await;
    let sent = body(&terms, &signed(1, &terms, now + 3600).await).to_string();
    refused(&facilitator, sent, 200, before, "expired").await;
    // Version 1 signs for ten minutes ago: at a time twenty minutes ahead, that is ten minutes too early.
    let mut long = terms.clone();
    long.max_timeout_seconds = TimeoutSeconds::try_from(7200).unwrap();
    changed = terms.clone();
    changed.version = Version::V1;
    let sent = body(&long, &signed(1, &changed, now + 1200).await).to_string();
    refused(
        &facilitator,
        sent,
        200,
        "invalid_exact_evm_payload_authorization_valid_after",
        "the authorization is not valid yet",
    )
    .await;

    // More than the payer has.
    changed = terms.clone();
    changed.amount = 1_000_000_001.into();
    let sent = body(&changed, &signed(1, &changed, now).await).to_string();
    refused(&facilitator, sent, 200, "insufficient_funds", "balance").await;

    // Terms that no token fulfils.
    let both = |member: &str, value: Value| {
        let mut body = good.clone();
        *at(&mut body, &format!("/paymentRequirements/{member}")) = value.clone();
        *at(&mut body, &format!("/paymentPayload/accepted/{member}")) = value;
        body.to_string()
    };
    for (member, value, code, words) in [
        ("amount", json!("0"), "invalid_payment_requirements", "amount: zero"),
        ("payTo", json!("alice"), "invalid_payment_requirements", "payTo"),
        ("payTo", json!(format!("0x{}", "0".repeat(40))), "invalid_payment_requirements", "payTo: the zero address"),
        ("extra/name", json!("USD Coin"), "invalid_exact_evm_token_name_mismatch", "extra.name"),
        ("extra/version", json!("1"), "invalid_exact_evm_token_version_mismatch", "extra.version"),
        ("extra", json!({}), "invalid_exact_evm_missing_eip712_domain", "extra.name"),
        ("extra", json!({ "name": "USDC" }), "invalid_exact_evm_missing_eip712_domain", "extra.version"),
        (
            "extra",
            json!({ "name": "USDC", "version": "2", "assetTransferMethod": "permit2" }),
            "unsupported_payload_type",
            "extra.assetTransferMethod",
        ),
    ] {
        refused(&facilitator, both(member, value), 200, code, words).await;
    }
    assert_eq!(facilitator.chain().transfers(), []);
    facilitator.stop().await;
}

#[tokio::test]
async fn a_payer_is_named_with_the_refusal() {
    let facilitator = start().await;
    let terms = terms();
    let mut dearer = terms.clone();
    dearer.amount = 10_001.into();
    let sent = body(&terms, &signed(1, &dearer, facilitator.chain().time()).await).to_string();
    for path in ["verify", "settle"] {
        let (_, answer) = send(&format!("{}/{path}", facilitator.url()), sent.clone(), None).await;
        assert_eq!(answer["payer"], ACCOUNTS[1].address.to_string(), "{answer}");
    }
    facilitator.stop().await;
}

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
    let (_, verdict) = send(&format!("{}/verify", facilitator.url()), sent.to_string(), None).await;
    assert_eq!(verdict["invalidReason"], "invalid_exact_evm_nonce_already_used", "{verdict}");
    let (status, answer) = send(&format!("{}/settle", facilitator.url()), sent.to_string(), None).await;
    assert_eq!((status, &answer["success"], &answer["payer"]), (200, &json!(false), &payer), "{answer}");
    assert_eq!(answer["errorReason"], "invalid_exact_evm_nonce_already_used", "{answer}");
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

#[tokio::test]
async fn a_good_payment_is_verified_and_settled_in_both_versions() {
    let facilitator = start().await;
    let terms = terms();
    let payer = ACCOUNTS[1].address.to_string();
    for (sent, network) in [
        (body(&terms, &signed(1, &terms, facilitator.chain().time()).await), "eip155:84532"),
        (body_v1(&terms, &signed(1, &terms, facilitator.chain().time()).await), "base-sepolia"),
    ] {
        let verified = send(&format!("{}/verify", facilitator.url()), sent.to_string(), None).await;
        assert_eq!(verified, (200, json!({ "isValid": true, "payer": payer })));
        let (status, answer) = send(&format!("{}/settle", facilitator.url()), sent.to_string(), None).await;
        let transfer = facilitator.chain().transfers().pop().unwrap();
        let transaction = transfer.transaction.to_string();
        let expected = json!({ "success": true, "payer": payer, "transaction": transaction, "network": network });
        assert_eq!((status, answer), (200, expected));
        assert_eq!((transfer.from, transfer.to), (ACCOUNTS[1].address, ACCOUNTS[SELLER].address));
        assert_eq!(transfer.value, alloy_primitives::U256::from(10_000));
    }
    facilitator.stop().await;
}

#[tokio::test]
async fn a_node_that_fails_is_no_verdict() {
    let facilitator = start().await;
    let good = good(&facilitator).await.to_string();
    for (path, flag, reason, code) in [
        ("verify", "isValid", "invalidReason", "unexpected_verify_error"),
        ("settle", "success", "errorReason", "unexpected_settle_error"),
    ] {
        // What may pass is asked four times more before a caller hears of it.
        for (failure, times) in [(Failure::Lost, 5), (Failure::Malformed, 1), (Failure::Status(429), 5)] {
            facilitator.chain().fail_calls("eth_call", times, When::Before, failure);
            let (status, answer) = send(&format!("{}/{path}", facilitator.url()), good.clone(), None).await;
            assert_eq!((status, &answer[flag], &answer[reason]), (503, &json!(false), &json!(code)), "{answer}");
            assert_eq!(answer["network"].as_str(), (path == "settle").then_some("eip155:84532"), "{answer}");
        }
    }
    let (_, answer) = send(&format!("{}/settle", facilitator.url()), good, None).await;
    assert_eq!(answer["success"], true, "nothing is left of it: {answer}");
    facilitator.stop().await;
}

/// R-F11: a chain that mines on demand stands still at rest, and payments are judged by its time.
#[tokio::test]
async fn a_chain_at_rest_keeps_time_for_those_who_pay() {
    tls();
    let now = x402_facilitator::clock::now().0;
    for (age, keeping) in [(3_600, false), (3_600, true), (0, true)] {
        let chain = DevChain::builder().time(now - age).build().unwrap();
        chain.use_real_time();
        let listen = (Ipv4Addr::LOCALHOST, 0).into();
        let facilitator = if keeping {
            DevFacilitator::keeping_time(chain, listen, |routes| routes).await.unwrap()
        } else {
            DevFacilitator::on(chain, listen, std::time::Duration::from_secs(30), |routes| routes).await.unwrap()
        };
        // `validAfter` is 600 s ago, as payers of version 1 have it.
        let terms = Terms { version: Version::V1, ..terms() };
        let sent = body_v1(&terms, &signed(1, &terms, now).await).to_string();
        let (_, answer) = send(&format!("{}/verify", facilitator.url()), sent.clone(), None).await;
        // By the chain's time it is not valid yet.
        assert_eq!(answer["isValid"], keeping, "{answer}");
        if keeping && age > 0 {
            // One block, and none for what follows at once.
            assert_eq!(facilitator.chain().block_number(), 1);
            let (_, answer) = send(&format!("{}/settle", facilitator.url()), sent, None).await;
            assert_eq!(answer["success"], true, "{answer}");
        }
        facilitator.stop().await;
    }
}

#[tokio::test]
async fn callers_are_told_apart_by_their_tokens() {
    let facilitator = start().await;
    let token = |text: &str| Zeroizing::new(text.to_owned());
    let routes = Routes::new(Arc::clone(facilitator.engine()));
    let routes = routes.with_caller("alice", token("a-token")).with_caller("bob", token("b-token")).into_router();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let good = good(&facilitator).await.to_string();
    let http = reqwest::Client::new();
    let post = async |path: &str, authorization: Option<&str>| {
        let request = http.post(format!("{url}/{path}")).header("idempotency-key", "one").body(good.clone());
        let request = authorization.into_iter().fold(request, |request, value| request.header("authorization", value));
        request.send().await.unwrap()
    };
    for wrong in [None, Some(""), Some("Bearer "), Some("Bearer c-token"), Some("a-token"), Some("Basic a-token")] {
        for path in ["verify", "settle"] {
            let answer = post(path, wrong).await;
            assert_eq!(answer.status().as_u16(), 401, "{path} {wrong:?}");
            assert_eq!(answer.headers()["www-authenticate"], "Bearer");
        }
    }
    assert_eq!(post("verify", Some("Bearer b-token")).await.status().as_u16(), 200);
    assert_eq!(post("settle", Some("Bearer a-token")).await.status().as_u16(), 200);
    // The same key of another caller is another request.
    assert_eq!(post("settle", Some("Bearer b-token")).await.status().as_u16(), 409);
    assert_eq!(post("settle", Some("Bearer a-token")).await.status().as_u16(), 200);
    facilitator.stop().await;
}
