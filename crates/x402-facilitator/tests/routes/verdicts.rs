//! Requests that can be read, with payments that are not good: each is a verdict that names the payer.

use serde_json::{Value, json};
use x402_devchain::ACCOUNTS;
use x402_types::{TimeoutSeconds, Version};

use crate::support::{body, body_v1, send, signed, terms};
use crate::{at, refused, start, with};

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
    let now = facilitator.chain().time();
    // Refused by the signature's rule, and by the terms' rule, before the payload is looked at.
    let another_sum = body(&terms, &signed(1, &dearer, now).await);
    let mut another_name = body(&terms, &signed(1, &terms, now).await);
    for entry in ["/paymentRequirements", "/paymentPayload/accepted"] {
        *at(&mut another_name, &format!("{entry}/extra/name")) = json!("USD Coin");
    }
    for sent in [another_sum, another_name] {
        for path in ["verify", "settle"] {
            let (_, answer) = send(&format!("{}/{path}", facilitator.url()), sent.to_string(), None).await;
            assert_eq!(answer["payer"], ACCOUNTS[1].address.to_string(), "{answer}");
        }
    }
    facilitator.stop().await;
}
