//! Version 1: the authorized value is the amount asked, and every refusal has a code of its closed list.

use serde_json::{Value, json};
use x402_devchain::{ACCOUNTS, Failure, When};
use x402_types::{RawJson, Version};

use crate::support::{body_v1, send, signed, terms};
use crate::{start, with};

/// The codes that the published SDK of version 1 accepts.
fn list() -> Vec<Value> {
    let recorded = include_str!("../../../x402-testkit/vectors/reasons-v1.json");
    let recorded: Value = serde_json::from_str(recorded).unwrap();
    recorded["codes"].as_array().unwrap().clone()
}

#[tokio::test]
async fn every_refusal_has_a_code_of_the_closed_list() {
    let facilitator = start().await;
    let now = facilitator.chain().time();
    let terms = terms().with_version(Version::V1);
    let good = body_v1(&terms, &signed(1, &terms, now).await);
    let payload = "/paymentPayload/payload";
    let asked = |change: &dyn Fn(&mut x402_types::Terms)| {
        let mut other = terms.clone();
        change(&mut other);
        other
    };
    let for_other = async |other: x402_types::Terms| body_v1(&terms, &signed(1, &other, now).await).to_string();
    let value = "invalid_exact_evm_payload_authorization_value";
    let cases: Vec<(&str, String, &str)> = vec![
        // "Meets or exceeds" is the document's rule; equal is that of every SDK, and ours (docs/interop.md).
        ("a greater value", for_other(asked(&|it| it.amount = 10_001.into())).await, value),
        ("a smaller value", for_other(asked(&|it| it.amount = 9_999.into())).await, value),
        (
            "another recipient",
            for_other(asked(&|it| it.pay_to = ACCOUNTS[7].address.to_string())).await,
            "invalid_exact_evm_payload_recipient_mismatch",
        ),
        (
            "another signer",
            with(&good, &format!("{payload}/signature"), json!(format!("0x{}", "00".repeat(65)))),
            "invalid_exact_evm_payload_signature",
        ),
        ("a payload that is none", with(&good, payload, json!({})), "invalid_payload"),
        (
            "another name of the token",
            with(&good, "/paymentRequirements/extra/name", json!("Other")),
            "invalid_payment_requirements",
        ),
        ("another network", with(&good, "/paymentPayload/network", json!("base")), "invalid_network"),
        ("another scheme", with(&good, "/paymentPayload/scheme", json!("upto")), "invalid_scheme"),
    ];
    for (what, sent, code) in &cases {
        for (path, reason) in [("verify", "invalidReason"), ("settle", "errorReason")] {
            let (_, answer) = send(&format!("{}/{path}", facilitator.url()), sent.clone(), None).await;
            assert_eq!(answer[reason], *code, "{what}: {answer}");
            assert!(list().contains(&answer[reason]), "{what}: {answer}");
        }
    }
    let nonce = facilitator.chain().nonce_of(ACCOUNTS[0].address);
    assert_eq!(nonce, 0, "nothing was sent");
    // What only the chain knows.
    let spent = signed(1, &terms, now).await;
    let settle = format!("{}/settle", facilitator.url());
    let (status, paid) = send(&settle, body_v1(&terms, &spent).to_string(), None).await;
    assert_eq!((status, &paid["success"], &paid["network"]), (200, &json!(true), &json!("base-sepolia")), "{paid}");
    let again = with(&body_v1(&terms, &spent), "/paymentRequirements/description", json!("again"));
    let (status, answer) = send(&settle, again.clone(), None).await;
    // Another request without a name: version 1 has one word for a used authorization and for others.
    assert_eq!((status, &answer["errorReason"]), (200, &json!("invalid_transaction_state")), "{answer}");
    let (_, answer) = send(&format!("{}/verify", facilitator.url()), again.clone(), None).await;
    assert!(answer["isValid"] == json!(true) || list().contains(&answer["invalidReason"]), "{answer}");
    facilitator.chain().set_balance_of(ACCOUNTS[2].address, alloy_primitives::U256::ZERO);
    let poor = body_v1(&terms, &signed(2, &terms, now).await).to_string();
    let (_, answer) = send(&format!("{}/verify", facilitator.url()), poor, None).await;
    assert_eq!(answer["invalidReason"], "insufficient_funds");
    // A fault of ours.
    facilitator.chain().fail_calls("eth_call", 5, When::Before, Failure::Lost);
    let (status, answer) = send(&format!("{}/verify", facilitator.url()), good.to_string(), None).await;
    assert_eq!((status, &answer["invalidReason"]), (503, &json!("unexpected_verify_error")), "{answer}");
    facilitator.stop().await;
}

#[tokio::test]
async fn the_message_still_has_the_code_that_version_1_has_no_word_for() {
    let facilitator = start().await;
    let terms = terms().with_version(Version::V1);
    let payload: RawJson = signed(1, &terms, facilitator.chain().time()).await;
    let sent = with(&body_v1(&terms, &payload), "/paymentRequirements/extra/name", json!("Other"));
    let (_, answer) = send(&format!("{}/verify", facilitator.url()), sent, None).await;
    let message = answer["invalidMessage"].as_str().unwrap();
    assert!(message.starts_with("invalid_exact_evm_token_name_mismatch: "), "{answer}");
    facilitator.stop().await;
}
