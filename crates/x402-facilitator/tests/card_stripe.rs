//! The double against the official client, npm `stripe` 23.1: what the client sends is what our rail sends, and what the
//! double answers is what the client understands.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use serde_json::{Value, json};
use x402_card::double::Double;
use x402_card::processor::ProcessorCall;
use x402_facilitator::dev_cards::DoubleServer;

/// Installs the client beside a copy of the script.
fn installed() -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../interop/card");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("card-stripe");
    std::fs::create_dir_all(&folder).unwrap();
    for file in ["package.json", "package-lock.json", "stripe.mjs"] {
        std::fs::copy(from.join(file), folder.join(file)).unwrap();
    }
    run(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(&folder));
    folder
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_client_and_our_rail_send_the_same() {
    let double = Arc::new(Double::default());
    double.add_account("acct_Seller01");
    let server = DoubleServer::start(Arc::clone(&double)).await.unwrap();
    let url = server.url().to_owned();
    let output = tokio::task::spawn_blocking(move || {
        run(Command::new("node").arg("stripe.mjs").arg(url).current_dir(installed()))
    });
    let seen: Value = serde_json::from_slice(&output.await.unwrap().stdout).unwrap();

    // What the client made of the answers.
    assert_eq!((&seen["sameIntent"], &seen["replayed"]), (&json!(true), &json!("true")));
    assert_eq!(seen["otherBody"]["type"], "StripeIdempotencyError");
    assert_eq!(seen["created"], json!({ "status": "requires_confirmation", "received": 0 }));
    assert_eq!(seen["confirmed"], json!({ "status": "succeeded", "received": 700 }));
    for name in ["confirmedTwice", "canceledPaid"] {
        assert_eq!(seen[name]["code"], "payment_intent_unexpected_state", "{name}");
    }
    assert_eq!((&seen["listed"], &seen["refunds"]), (&json!([true]), &json!(1)));
    assert_eq!(seen["refund"], json!({ "status": "succeeded", "amount": 700 }));
    assert_eq!(seen["refundedTwice"]["code"], "charge_already_refunded");
    for (method, code, decline) in [
        ("pm_card_visa_chargeDeclined", "card_declined", json!("generic_decline")),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "card_declined", json!("insufficient_funds")),
        ("pm_card_visa_chargeDeclinedLostCard", "card_declined", json!("lost_card")),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", Value::Null),
        ("pm_card_chargeDeclinedProcessingError", "processing_error", Value::Null),
        ("pm_card_authenticationRequired", "authentication_required", json!("authentication_required")),
        ("pm_card_chargeCustomerFail", "card_declined", json!("generic_decline")),
    ] {
        let one = &seen["declines"][method];
        let error = &one["error"];
        assert_eq!((&error["type"], &error["code"]), (&json!("StripeCardError"), &json!(code)), "{method}");
        assert_eq!(error.get("declineCode").cloned().unwrap_or_default(), decline, "{method}");
        assert_eq!(error["intent"], "requires_payment_method", "{method}");
        assert_eq!((&one["after"], &one["method"]), (&json!("requires_payment_method"), &Value::Null), "{method}");
        assert_eq!(
            (&one["late"], &one["canceled"]),
            (&json!("payment_intent_unexpected_state"), &json!("canceled")),
            "{method}"
        );
    }
    assert_eq!(seen["unknownParameter"]["code"], "parameter_unknown");
    assert_eq!(
        (&seen["tooSmall"]["code"], &seen["badDestination"]["code"]),
        (&json!("amount_too_small"), &json!("resource_missing"))
    );
    assert_eq!(
        (&seen["missing"]["status"], &seen["noKey"]["type"]),
        (&json!(404), &json!("StripeAuthenticationError"))
    );
    assert_eq!((double.book().debits.len(), double.book().charged(), double.book().refunded()), (1, 0, 700));

    // What the client sent, and what our rail sends for the same.
    let requests = double.requests();
    let sent = |key: &str| {
        let found = requests.iter().find(|request| request.key.as_deref() == Some(key)).unwrap();
        (found.method.clone(), found.target.clone(), found.body.clone())
    };
    let customer = requests.iter().find(|request| request.target == "/v1/setup_intents").unwrap().body.clone();
    let customer = customer.split('&').find_map(|pair| pair.strip_prefix("customer=")).unwrap().to_owned();
    let mark = "ab".repeat(32);
    let (_, _, opened) = sent("k-o");
    let method = opened.split('&').find_map(|pair| pair.strip_prefix("payment_method=")).unwrap().to_owned();
    let intent = double.book().debits[0].intent.clone();
    let open = [
        ("amount", "700"),
        ("currency", "usd"),
        ("customer", customer.as_str()),
        ("payment_method", method.as_str()),
        ("payment_method_types[0]", "card"),
        ("metadata[x402_payment]", mark.as_str()),
        ("metadata[x402_plan]", "1001"),
        ("transfer_data[destination]", "acct_Seller01"),
        ("application_fee_amount", "17"),
    ];
    let refund = [
        ("payment_intent", intent.as_str()),
        ("metadata[x402_payment]", mark.as_str()),
        ("reverse_transfer", "true"),
        ("refund_application_fee", "true"),
    ];
    for ours in [
        ProcessorCall::post("/v1/payment_intents", &open, "k-o"),
        ProcessorCall::post(format!("/v1/payment_intents/{intent}/confirm"), &[("off_session", "true")], "k-c1"),
        ProcessorCall::post(
            format!("/v1/payment_intents/{intent}/cancel"),
            &[("cancellation_reason", "abandoned")],
            "k-x",
        ),
        ProcessorCall::post("/v1/refunds", &refund, "k-r"),
    ] {
        let key = ours.key.clone().unwrap();
        assert_eq!(sent(&key), ("POST".to_owned(), ours.path.clone(), ours.encoded()), "{key}");
    }
    let list =
        ProcessorCall::get("/v1/payment_intents", &[("customer", &customer), ("created[gte]", "1"), ("limit", "100")]);
    let target = format!("{}?{}", list.path, list.encoded());
    assert!(requests.iter().any(|request| request.method == "GET" && request.target == target), "{target}");
}
