//! Bodies that are no requests, or requests that cannot be read or routed: each is named as what it is.

use serde_json::{Value, json};
use x402_devchain::{ACCOUNTS, TOKEN};

use crate::support::{body_v1, send, signed, terms};
use crate::{at, good, refused, start, with, without};

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
        (both("scheme", json!("batch-settlement")), "unsupported_scheme", "the scheme is not served here"),
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
        // The permit of the report lasts for years; it is read as one, and refused for that.
        assert_eq!((status, &answer[why]), (200, &json!("permit2_deadline_expired")), "{answer}");
        assert!(answer.get(message).is_none_or(Value::is_string), "{answer}");
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
