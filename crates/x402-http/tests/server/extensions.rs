//! Extensions in the layer: declared in the 402, compared, handed the payment and the receipt; named requests.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};
use x402_codec::header as names;
use x402_http::server::{GrantState, Seller};
use x402_types::extension::{PaymentIdentifier, Required, SettledClaim};
use x402_types::{Claim, ErrorReason, Extension, Fault, RawJson, Refusal, Rejection};

use crate::common::{call, decoded, get, offer, paying, payment_json, settled, terms, upfront, v1_payment_json};
use crate::stage::{Paywalled, Shop, pending, replayed, shop};

const ID: &str = "pay_0123456789abcdef";

fn selling(extension: impl Extension + 'static) -> (Shop, Paywalled) {
    let mut shop = shop();
    shop.seller = shop.seller.with_extension(extension);
    let service = shop.sells(vec![offer(terms())]);
    (shop, service)
}

fn identified(nonce: u8, id: &str) -> Value {
    let mut json = payment_json(&terms(), nonce);
    json["extensions"] = json!({"payment-identifier": {"info": {"required": true, "id": id}}});
    json
}

fn error(answer: &(StatusCode, HeaderMap, Bytes)) -> String {
    if answer.0 == StatusCode::PAYMENT_REQUIRED {
        return decoded(&answer.1, &names::PAYMENT_REQUIRED)["error"].as_str().unwrap().to_owned();
    }
    let body: Value = serde_json::from_slice(&answer.2).unwrap();
    body["error"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_402_declares_what_is_registered() {
    let (_shop, service) = selling(PaymentIdentifier::required());
    let (status, headers, body) = call(&service, get("/weather", &[])).await;
    let required = decoded(&headers, &names::PAYMENT_REQUIRED);
    assert_eq!(
        (status, &required["extensions"]["payment-identifier"]["info"]),
        (StatusCode::PAYMENT_REQUIRED, &json!({"required": true}))
    );
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), required);
    let plain =
        decoded(&call(&shop().sells(vec![offer(terms())]), get("/weather", &[])).await.1, &names::PAYMENT_REQUIRED);
    assert!(plain.get("extensions").is_none(), "{plain}");
}

#[tokio::test]
async fn the_echo_is_compared_after_the_terms_and_before_anybody_is_asked() {
    let (shop, service) = selling(PaymentIdentifier::optional());
    let mut json = payment_json(&terms(), 1);
    json["extensions"] = json!({"payment-identifier": {"info": {"id": ID}}});
    let refused = call(&service, paying("/weather", &json)).await;
    assert_eq!((refused.0, error(&refused).as_str()), (StatusCode::PAYMENT_REQUIRED, "extension_echo_mismatch"));
    // Where the terms are wrong too, they are what is told.
    json["accepted"]["amount"] = "1".into();
    assert_eq!(error(&call(&service, paying("/weather", &json)).await), "invalid_payment_requirements");
    assert_eq!(shop.script.log(), "");
    // Left out, or added, it passes.
    for (nonce, extensions) in [(2, json!({})), (3, json!({"x-other": {"info": {"a": 1}}}))] {
        let mut json = payment_json(&terms(), nonce);
        json["extensions"] = extensions;
        assert_eq!(call(&service, paying("/weather", &json)).await.0, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_required_id_that_is_missing_or_malformed_is_400() {
    let (shop, service) = selling(PaymentIdentifier::required());
    for (json, code) in [
        (payment_json(&terms(), 1), "payment_identifier_required"),
        (identified(1, "short"), "invalid_payment_identifier"),
        (identified(1, &"a".repeat(129)), "invalid_payment_identifier"),
        (identified(1, "pay 0123456789abcdef"), "invalid_payment_identifier"),
    ] {
        let answer = call(&service, paying("/weather", &json)).await;
        assert_eq!((answer.0, error(&answer).as_str()), (StatusCode::BAD_REQUEST, code));
        assert!(!answer.1.contains_key(&names::PAYMENT_REQUIRED), "it is not asked to pay anew");
    }
    assert_eq!(shop.script.log(), "");
    // Version 1 has no extensions, so it has no id.
    let mut shop = shop;
    shop.seller = shop.seller.with_v1();
    let service = shop.sells(vec![offer(terms())]);
    let request = get("/weather", &[(&names::X_PAYMENT, crate::common::header(&v1_payment_json(1)))]);
    assert_eq!(error(&call(&service, request).await), "payment_identifier_required");
}

#[tokio::test]
async fn the_same_id_and_payload_get_the_same_answer() {
    let (shop, service) = selling(PaymentIdentifier::optional());
    let json = identified_optional(1);
    let first = call(&service, paying("/weather", &json)).await;
    assert_eq!((first.0, &first.2[..]), (StatusCode::OK, &b"sunny"[..]));
    assert!(first.1.contains_key(&names::PAYMENT_RESPONSE));
    for _ in 0..3 {
        let again = call(&service, paying("/weather", &json)).await;
        assert_eq!((again.0, &again.1, &again.2), (first.0, &first.1, &first.2));
    }
    assert_eq!(shop.script.log(), "verify, handler, settle", "nothing is verified, served or settled twice");
    // HEAD has no part in it: its payment was used.
    let mut head = paying("/weather", &json);
    *head.method_mut() = Method::HEAD;
    assert_eq!(call(&service, head).await.0, StatusCode::CONFLICT);
    // Without an id it is as before.
    let plain = payment_json(&terms(), 2);
    assert_eq!(call(&service, paying("/weather", &plain)).await.0, StatusCode::OK);
    assert_eq!(call(&service, paying("/weather", &plain)).await.0, StatusCode::CONFLICT);
}

fn identified_optional(nonce: u8) -> Value {
    let mut json = identified(nonce, ID);
    json["extensions"]["payment-identifier"]["info"]["required"] = false.into();
    json
}

#[tokio::test]
async fn the_same_id_with_anything_else_is_409() {
    let (shop, service) = selling(PaymentIdentifier::required());
    assert_eq!(call(&service, paying("/weather", &identified(1, ID))).await.0, StatusCode::OK);
    let mut resigned = identified(1, ID);
    resigned["payload"]["signature"] = "0x00".into();
    let mut respelt = identified(1, ID);
    respelt["extensions"]["payment-identifier"]["info"]["more"] = 1.into();
    for json in [identified(2, ID), resigned, respelt] {
        let answer = call(&service, paying("/weather", &json)).await;
        assert_eq!((answer.0, error(&answer).as_str()), (StatusCode::CONFLICT, "duplicate_settlement"), "{json}");
        assert!(String::from_utf8_lossy(&answer.2).contains("payment-identifier: it names another payment"));
    }
    // The same payment under the id for another resource or with another method is not the same request.
    let answer = call(&service, paying("/news", &identified(1, ID))).await;
    assert_eq!(answer.0, StatusCode::CONFLICT);
    let mut post = paying("/weather", &identified(1, ID));
    *post.method_mut() = Method::POST;
    assert_eq!(call(&service, post).await.0, StatusCode::CONFLICT);
    assert_eq!(shop.script.log(), "verify, handler, settle");
    assert_eq!(call(&service, paying("/weather", &identified(2, "another_id_of_16"))).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_payment_that_is_refused_leaves_its_id_free() {
    for flow in [terms(), upfront(terms())] {
        let mut shop = shop();
        shop.seller = shop.seller.with_extension(PaymentIdentifier::required());
        let service = shop.sells(vec![offer(flow.clone())]);
        let json = |nonce| {
            let mut json = identified(nonce, ID);
            json["accepted"] = payment_json(&flow, nonce)["accepted"].clone();
            json
        };
        if flow == terms() {
            shop.script.verify_says(r#"{"isValid":false,"invalidReason":"insufficient_funds"}"#);
            assert_eq!(call(&service, paying("/weather", &json(1))).await.0, StatusCode::PAYMENT_REQUIRED);
        }
        shop.script.settle_says(
            r#"{"success":false,"errorReason":"insufficient_funds","transaction":"","network":"eip155:84532"}"#,
        );
        assert_eq!(call(&service, paying("/weather", &json(2))).await.0, StatusCode::PAYMENT_REQUIRED);
        assert_eq!(call(&service, paying("/weather", &json(3))).await.0, StatusCode::OK, "under the same id");
        assert_eq!(call(&service, paying("/weather", &json(4))).await.0, StatusCode::CONFLICT);
    }
}

#[tokio::test]
async fn an_open_outcome_keeps_the_id_for_its_payment() {
    let (shop, service) = selling(PaymentIdentifier::required());
    shop.script.settle_says(&pending());
    let json = identified(1, ID);
    assert_eq!(call(&service, paying("/weather", &json)).await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(shop.state(&json).await, Some(GrantState::Pending));
    assert_eq!(call(&service, paying("/weather", &identified(2, ID))).await.0, StatusCode::CONFLICT);
    shop.script.settle_says(&replayed());
    assert_eq!(call(&service, paying("/weather", &json)).await.0, StatusCode::OK);
    assert_eq!(call(&service, paying("/weather", &json)).await.2, "sunny");
    assert_eq!(shop.script.log(), "verify, handler, settle, settle, handler");
    // The facilitator hears of the request by one name.
    let seen = shop.script.seen.lock().unwrap();
    assert!(seen.iter().all(|presented| presented.claim.identity == seen[0].claim.identity));
}

#[tokio::test]
async fn of_two_payments_at_once_under_one_id_one_is_served() {
    let (shop, service) = selling(PaymentIdentifier::required());
    let jsons: Vec<_> = (1..9).map(|nonce| identified(nonce, ID)).collect();
    let requests = jsons.iter().map(|json| call(&service, paying("/weather", json)));
    let answers = futures_util::future::join_all(requests).await;
    let of = |wanted| answers.iter().filter(|(status, ..)| *status == wanted).count();
    assert_eq!((of(StatusCode::OK), of(StatusCode::CONFLICT)), (1, 7));
    assert_eq!((shop.handler.calls(), shop.script.log().matches("settle").count()), (1, 1));
}

/// Refuses one payer by its own code, names nothing, and signs receipts with a word.
#[derive(Debug)]
struct Greeting(bool);

#[async_trait]
impl Extension for Greeting {
    fn name(&self) -> &str {
        "greeting"
    }

    fn declare(&self, required: &Required<'_>) -> Option<RawJson> {
        RawJson::of(&json!({"info": {"of": required.resource.url, "ways": required.offers.len()}, "schema": {}})).ok()
    }

    async fn on_claim(&self, claim: &Claim) -> Result<Option<String>, Refusal> {
        match claim.extensions.get("greeting") {
            _ if self.0 => Err(Fault::unreachable("the greeter", "it sleeps").into()),
            None => Err(Rejection::new(ErrorReason::defined("no_greeting")).because("say hello").into()),
            Some(_) => Ok(None),
        }
    }

    fn on_receipt(&self, settled: &SettledClaim<'_>) -> Option<RawJson> {
        assert!(settled.receipt.success && settled.claim.terms == terms());
        assert_eq!(settled.resource.unwrap().url, "https://api.example.com/weather");
        RawJson::of(&json!({"info": {"word": "thanks"}})).ok()
    }
}

#[tokio::test]
async fn an_extension_refuses_with_its_own_code_and_adds_to_the_receipt() {
    let (shop, service) = selling(Greeting(false));
    let refused = call(&service, paying("/weather", &payment_json(&terms(), 1))).await;
    assert_eq!((refused.0, error(&refused).as_str()), (StatusCode::PAYMENT_REQUIRED, "no_greeting"));
    let declared = decoded(&refused.1, &names::PAYMENT_REQUIRED)["extensions"]["greeting"].clone();
    assert_eq!(declared["info"], json!({"of": "https://api.example.com/weather", "ways": 1}));
    let mut json = payment_json(&terms(), 1);
    json["extensions"] = json!({ "greeting": declared });
    let served = call(&service, paying("/weather", &json)).await;
    let mut receipt = serde_json::to_value(settled(terms().version)).unwrap();
    receipt["extensions"] = json!({"greeting": {"info": {"word": "thanks"}}});
    assert_eq!((served.0, decoded(&served.1, &names::PAYMENT_RESPONSE)), (StatusCode::OK, receipt));
    assert_eq!(shop.script.log(), "verify, handler, settle");
}

#[tokio::test]
async fn what_an_extension_cannot_find_out_is_503_and_nothing_moved() {
    let (shop, service) = selling(Greeting(true));
    let answer = call(&service, paying("/weather", &payment_json(&terms(), 1))).await;
    assert_eq!(answer.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(shop.script.log(), "");
}

#[test]
fn a_declaration_counts_into_the_headers_length() {
    let seller = Seller::new("https://api.example.com", Arc::new(crate::common::Script::default())).unwrap();
    let plain = seller.with_header_limit(700);
    assert!(plain.charge([offer(terms())]).is_ok());
    assert!(plain.with_extension(PaymentIdentifier::optional()).charge([offer(terms())]).is_err());
}
