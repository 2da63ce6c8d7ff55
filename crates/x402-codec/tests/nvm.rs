//! Smart Accounts Extension §4.2 and §4.3: payments in headers, requests to facilitators.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)]

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use x402_codec::nvm::EitherPayment;
use x402_codec::{Limits, header, nvm};
use x402_types::nvm::{Code, PaymentPayload as Nvm};
use x402_types::{ErrorReason, PaymentPayload, Rejection};

fn document(path: &str) -> Value {
    let mut vector: Value = serde_json::from_str(&x402_testkit::vector(path).unwrap()).unwrap();
    let filled = vector["filled"].take();
    if filled.is_null() { vector["json"].take() } else { filled }
}

fn read(json: &Value, alphabet: &impl Engine) -> Result<EitherPayment, Rejection> {
    let mut headers = HeaderMap::new();
    let value = HeaderValue::from_str(&alphabet.encode(json.to_string())).unwrap();
    headers.insert(&header::PAYMENT_SIGNATURE, value);
    nvm::payment(&headers, &Limits::DEFAULT).map(Option::unwrap)
}

#[test]
fn a_payment_is_told_from_those_of_x402() {
    let ours = document("nvm/payment-payload.json");
    for payment in [read(&ours, &STANDARD), read(&ours, &URL_SAFE_NO_PAD)] {
        assert!(matches!(payment, Ok(EitherPayment::Nvm(Nvm::V03(_), _))));
    }
    let old = document("nvm/payment-payload-v0.2.json");
    assert!(matches!(read(&old, &STANDARD), Ok(EitherPayment::Nvm(Nvm::V02(_), _))));
    let x402 = |name: &str| match read(&document(name), &STANDARD) {
        Ok(EitherPayment::X402(payment)) => payment.into_payload(),
        other => panic!("{other:?}"),
    };
    assert!(matches!(x402("messages/v2-payment-payload.json"), PaymentPayload::V2(_)));
    assert!(matches!(x402("messages/v1-payment-payload.json"), PaymentPayload::V1(_)));
    // An entry with `planId` is one of this extension, however much of x402 stands beside it.
    let mut both = document("messages/v2-payment-payload.json");
    both["accepted"]["planId"] = json!("1");
    assert_eq!(read(&both, &STANDARD).unwrap_err().reason, Code::InvalidPayload.reason());
    let mut keys = document("messages/v2-payment-payload.json");
    keys["payload"]["authorization"]["sessionKeys"] = json!([]);
    assert_eq!(read(&keys, &STANDARD).unwrap_err().reason, Code::InvalidPayload.reason());
}

#[test]
fn a_fault_has_the_code_of_its_dialect() {
    let mut ours = document("nvm/payment-payload.json");
    ours["payload"]["signature"] = json!("nothing");
    assert_eq!(read(&ours, &STANDARD).unwrap_err().reason, Code::InvalidPayload.reason());
    ours["accepted"]["network"] = json!("base");
    assert_eq!(read(&ours, &STANDARD).unwrap_err().reason, Code::UnsupportedNetwork.reason());
    let mut theirs = document("messages/v2-payment-payload.json");
    theirs["accepted"].as_object_mut().unwrap().remove("amount");
    assert_eq!(read(&theirs, &STANDARD).unwrap_err().reason, ErrorReason::INVALID_PAYLOAD);
    assert_eq!(nvm::payment(&HeaderMap::new(), &Limits::DEFAULT), Ok(None));
}

#[test]
fn a_request_is_told_by_its_shape_and_its_token_is_read_in_every_form() {
    let payment = document("nvm/payment-payload.json");
    let required = document("nvm/payment-required.json");
    let text = payment.to_string();
    for (name, token) in [
        ("paymentPayload", payment.clone()),
        ("paymentPayload", json!(STANDARD.encode(&text))),
        ("paymentPayload", json!(URL_SAFE_NO_PAD.encode(&text))),
        ("x402AccessToken", json!(URL_SAFE_NO_PAD.encode(&text))),
    ] {
        let body = json!({"paymentRequired": required, name: token, "maxAmount": "5"}).to_string();
        assert!(nvm::is_request(body.as_bytes(), &Limits::DEFAULT));
        let request = nvm::request(body.as_bytes(), &Limits::DEFAULT).unwrap();
        assert_eq!(serde_json::to_value(request.payment.unwrap()).unwrap(), payment);
        assert_eq!(serde_json::from_str::<Value>(request.raw.as_str()).unwrap(), payment);
    }
    let x402 = document("messages/v2-verify-request.json").to_string();
    assert!(!nvm::is_request(x402.as_bytes(), &Limits::DEFAULT));
    // What is JSON and no payment is a verdict.
    let body = json!({"paymentRequired": required, "x402AccessToken": "e30"}).to_string();
    let request = nvm::request(body.as_bytes(), &Limits::DEFAULT).unwrap();
    assert_eq!(request.payment.unwrap_err().reason, Code::InvalidPayload.reason());
    for token in [json!("%"), json!(STANDARD.encode("{\"a\":1,\"a\":2}"))] {
        let body = json!({"paymentRequired": required, "x402AccessToken": token}).to_string();
        let refused = nvm::request(body.as_bytes(), &Limits::DEFAULT).unwrap_err();
        assert_eq!(refused.reason, Code::InvalidPayload.reason(), "{token}");
    }
}
