//! Payments whose request was not served: kept, shown again, counted once, and never paid anew.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod buyer;
mod common;
mod kept;

use std::sync::Arc;

use buyer::book::Book;
use buyer::*;
use bytes::Bytes;
use common::{Handler, Script, Service, TRANSACTION, offer, terms, upfront};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::Value;
use tower::{Layer, ServiceExt};
use x402_codec::header as names;
use x402_http::Body;
use x402_http::client::{ClientError, OpenPayment, PayError, PayLayer, PaymentSent, Receipt, ReceiptOutcome};
use x402_http::server::Seller;

/// An input of `x402-testkit/vectors/cases/clients`: a 402 and the answers that follow the payment.
fn case(name: &str) -> Wire {
    let path = format!("{}/../x402-testkit/vectors/cases/clients/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let case: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let first = match case.get("unpaid") {
        Some(unpaid) => answer(unpaid),
        None => with(status(402), &names::PAYMENT_REQUIRED, common::header(&case["document"])),
    };
    let wire = Wire::default().says([first]);
    let paid = match &case["paid"] {
        Value::Array(list) => list.clone(),
        one => vec![one.clone()],
    };
    for one in paid {
        let said = if one == "hangup" { Err("connection reset") } else { Ok(answer(&one)) };
        wire.answers.lock().unwrap().push_back(said);
    }
    wire
}

fn answer(json: &Value) -> Response<Full<Bytes>> {
    let mut response = status(json.get("status").and_then(Value::as_u64).unwrap_or(200).try_into().unwrap());
    for (name, value) in json.get("headers").and_then(Value::as_object).into_iter().flatten() {
        let name: http::HeaderName = name.parse().unwrap();
        let value = match value {
            Value::String(text) => HeaderValue::try_from(text).unwrap(),
            message => common::header(message),
        };
        response.headers_mut().insert(name, value);
    }
    *response.body_mut() = Full::from(serde_json::to_vec(&json["body"]).unwrap());
    response
}

fn receipt<B>(response: &Response<B>) -> &Receipt {
    response.extensions().get().unwrap()
}

fn settled_and(code: u16) -> Response<Full<Bytes>> {
    settled(code, &serde_json::json!({"success": true, "transaction": TRANSACTION, "network": "eip155:84532"}))
}

/// Our own layer and our own client, with a handler that fails after the money moved.
#[tokio::test]
async fn a_handler_that_fails_after_the_settlement_is_paid_once() {
    for failure in [StatusCode::BAD_GATEWAY, StatusCode::UNPROCESSABLE_ENTITY] {
        let script = Arc::new(Script::default());
        let handler = Handler::default();
        handler.statuses.lock().unwrap().extend([failure, failure]);
        let seller = Seller::new("https://api.example.com", script.clone()).unwrap();
        let server: Service<Body<Full<Bytes>>> =
            seller.charge([offer(upfront(terms()))]).unwrap().layer(handler.service()).boxed_clone();
        let purse = purse();
        let client = PayLayer::new(purse.payer.clone()).layer(server);
        let mut served = Vec::new();
        for _ in 0..3 {
            let request = Request::post(URL).body(Full::<Bytes>::from("question")).unwrap();
            let response = client.clone().oneshot(request).await.unwrap();
            assert_eq!(receipt(&response).outcome(), ReceiptOutcome::Paid { transaction: TRANSACTION });
            assert_eq!((purse.signed(), purse.used().as_str()), (1, "10000"));
            served.push(response.status());
        }
        assert_eq!(served, [failure, failure, StatusCode::OK]);
        // Served: the next request is another purchase.
        let request = Request::post(URL).body(Full::<Bytes>::from("question")).unwrap();
        assert_eq!(client.oneshot(request).await.unwrap().status(), StatusCode::OK);
        assert_eq!((purse.signed(), purse.used().as_str()), (2, "20000"));
    }
}

/// `@x402/express` 2.27 answers 402 also where its facilitator gave no answer, with the text of the error as the reason.
#[tokio::test]
async fn a_402_whose_receipt_reports_a_fault_ends_no_payment() {
    for reason in ["unexpected_settle_error", "settlement_pending", "fetch failed", "Facilitator settle failed (502): "]
    {
        let purse = purse();
        let wire = Wire::default().says([asks(&[terms()]), refused(reason), paid()]);
        assert_eq!(ask(&purse, &wire).await.unwrap().status(), StatusCode::OK, "{reason}");
        assert_eq!(payment_of(&wire, 1), payment_of(&wire, 2), "{reason}");
        assert_eq!((purse.signed(), purse.used().as_str()), (1, "10000"), "{reason}");
        // It never ends: the payment is kept, and is shown again with the same request.
        let wire = Wire::default().says([asks(&[terms()])]);
        wire.answers.lock().unwrap().extend((0..6).map(|_| Ok(refused(reason))));
        assert_eq!(ask(&purse, &wire).await.unwrap().status(), StatusCode::PAYMENT_REQUIRED, "{reason}");
        let again = Wire::default().says([asks(&[terms()]), paid()]);
        ask(&purse, &again).await.unwrap();
        assert_eq!(payment_of(&wire, 1), payment_of(&again, 1), "{reason}");
        assert_eq!((purse.signed(), purse.used().as_str()), (2, "20000"), "{reason}");
    }
}

/// A handler that fails before the money moves: the same payment once more, and one settlement.
#[tokio::test]
async fn a_handler_that_fails_before_the_settlement_is_paid_once() {
    let script = Arc::new(Script::default());
    let handler = Handler::default();
    handler.statuses.lock().unwrap().push_back(StatusCode::INTERNAL_SERVER_ERROR);
    let seller = Seller::new("https://api.example.com", script.clone()).unwrap();
    let server: Service<Body<Full<Bytes>>> =
        seller.charge([offer(terms())]).unwrap().layer(handler.service()).boxed_clone();
    let purse = purse();
    let client = PayLayer::new(purse.payer.clone()).layer(server);
    for expected in [StatusCode::INTERNAL_SERVER_ERROR, StatusCode::OK] {
        let request = Request::post(URL).body(Full::<Bytes>::from("question")).unwrap();
        assert_eq!(client.clone().oneshot(request).await.unwrap().status(), expected);
    }
    assert_eq!((purse.signed(), purse.used().as_str()), (1, "10000"));
    assert_eq!(script.log().matches("settle").count(), 1);
}

#[tokio::test]
async fn a_foreign_server_that_does_not_take_the_shown_payment_again_is_told_as_paid_without_an_answer() {
    for code in [402, 409] {
        let purse = purse();
        let wire = Wire::default().says([asks(&[terms()]), settled_and(500)]);
        assert_eq!(ask(&purse, &wire).await.unwrap().status(), StatusCode::INTERNAL_SERVER_ERROR);
        // Long after the authorization ended: it was settled, so that a new one would be a second payment.
        purse.clock.passed.fetch_add(80_000, std::sync::atomic::Ordering::SeqCst);
        let again = Wire::default().says([asks(&[terms()]), status(code)]);
        let ClientError::PaidWithoutAnswer { receipt, status } = ask(&purse, &again).await.unwrap_err() else {
            panic!("paid, not refused")
        };
        assert_eq!((receipt.0.transaction.as_str(), status.as_u16()), (TRANSACTION, code));
        assert_eq!(payment_of(&wire, 1), payment_of(&again, 1));
        assert_eq!(purse.signed(), 1);
    }
}

#[tokio::test]
async fn an_answer_in_between_that_says_nothing_keeps_the_receipt() {
    let purse = purse();
    ask(&purse, &Wire::default().says([asks(&[terms()]), settled_and(500)])).await.unwrap();
    let response = ask(&purse, &Wire::default().says([asks(&[terms()]), status(502)])).await.unwrap();
    assert_eq!(receipt(&response).0.transaction, TRANSACTION);
    let response = ask(&purse, &Wire::default().says([asks(&[terms()]), status(200)])).await.unwrap();
    assert_eq!(receipt(&response).0.transaction, TRANSACTION);
    assert_eq!((purse.signed(), purse.used().as_str()), (1, "10000"));
}

#[tokio::test]
async fn a_receipt_that_says_failed_is_no_payment_c01() {
    let purse = purse();
    let response = ask(&purse, &case("c01-receipt-says-failed")).await.unwrap();
    assert!(matches!(receipt(&response).outcome(), ReceiptOutcome::Failed(_)));
    assert_eq!(receipt(&response).to_string(), "not paid: insufficient_funds on eip155:84532");
    assert_eq!(purse.used(), "0");
}

#[tokio::test]
async fn a_refusal_without_a_receipt_c03() {
    let purse = purse();
    let response = ask(&purse, &case("c03-refused-reason-only-in-header")).await.unwrap();
    assert!(response.extensions().get::<Receipt>().is_none());
    assert!(response.headers().contains_key(&names::PAYMENT_REQUIRED), "the reason stands there");
}

#[tokio::test]
async fn settled_and_refused_by_the_handler_c04() {
    let purse = purse();
    let wire = case("c04-settled-and-400");
    let response = ask(&purse, &wire).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert!(matches!(receipt(&response).outcome(), ReceiptOutcome::Paid { .. }));
    let again = Wire::default().says([asks(&[terms()]), paid()]);
    ask(&purse, &again).await.unwrap();
    assert_eq!(payment_of(&wire, 1), payment_of(&again, 1));
    assert_eq!((purse.signed(), purse.used().as_str()), (1, "10000"));
}

#[tokio::test]
async fn an_answer_lost_once_c06() {
    let purse = purse();
    let wire = case("c06-answer-lost-once");
    let response = ask(&purse, &wire).await.unwrap();
    assert!(matches!(receipt(&response).outcome(), ReceiptOutcome::Paid { .. }));
    assert_eq!(payment_of(&wire, 1), payment_of(&wire, 2));
    assert_eq!(purse.signed(), 1);
}

/// An answer that no server settles for, and that has no receipt, ends no payment: docs/dialects.md, "What is counted".
#[tokio::test]
async fn a_head_or_a_304_without_a_receipt_ends_no_payment() {
    let head = || Request::head(URL).body(Full::default()).unwrap();
    let get = || Request::get(URL).body(Full::default()).unwrap();
    for (first, code) in [(head(), 200), (head(), 204), (head(), 304), (get(), 304), (get(), 404), (get(), 500)] {
        let what = format!("{} {code}", first.method());
        let purse = purse();
        let wire = Wire::default().says([asks(&[terms()]), status(code)]);
        ask_with(&purse, &wire, first).await.unwrap();
        let again = Wire::default().says([asks(&[terms()]), paid()]);
        ask_with(&purse, &again, get()).await.unwrap();
        assert_eq!(payment_of(&wire, 1), payment_of(&again, 1), "{what}");
        assert_eq!((purse.signed(), purse.used().as_str()), (1, "10000"), "{what}");
    }
    // A receipt decides.
    for (first, code) in [(head(), 200), (get(), 304)] {
        let purse = purse();
        ask_with(&purse, &Wire::default().says([asks(&[terms()]), settled_and(code)]), first).await.unwrap();
        ask_with(&purse, &Wire::default().says([asks(&[terms()]), paid()]), get()).await.unwrap();
        assert_eq!((purse.signed(), purse.used().as_str()), (2, "20000"), "{code}");
    }
}

/// What any handler or proxy may answer, without a word about the payment, is not its end: a second one would be paid in
/// addition to the first.
#[tokio::test]
async fn a_redirect_a_409_or_a_412_without_a_receipt_ends_no_payment() {
    for code in [301, 302, 303, 307, 308, 409, 412] {
        let purse = purse();
        let wire = Wire::default().says([asks(&[terms()]), status(code)]);
        assert_eq!(ask(&purse, &wire).await.unwrap().status().as_u16(), code);
        let again = Wire::default().says([asks(&[terms()]), paid()]);
        ask(&purse, &again).await.unwrap();
        assert_eq!(payment_of(&wire, 1), payment_of(&again, 1), "{code}");
        assert_eq!((purse.signed(), purse.used().as_str()), (1, "10000"), "{code}");
    }
    // A receipt decides, and so do terms beside a 412.
    let purse = purse();
    ask(&purse, &Wire::default().says([asks(&[terms()]), settled_and(303)])).await.unwrap();
    let mut other_terms = asks(&[terms()]);
    *other_terms.status_mut() = StatusCode::PRECONDITION_FAILED;
    ask(&purse, &Wire::default().says([asks(&[terms()]), other_terms])).await.unwrap();
    assert_eq!((purse.signed(), purse.used().as_str()), (2, "10000"));
    ask(&purse, &Wire::default().says([asks(&[terms()]), paid()])).await.unwrap();
    assert_eq!((purse.signed(), purse.used().as_str()), (3, "20000"));
}
