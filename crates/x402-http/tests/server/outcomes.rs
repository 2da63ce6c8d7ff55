//! What a settlement comes to, and what the payer is told of it.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use tower::Layer;
use x402_codec::header as names;
use x402_http::server::GrantState;

use crate::common::{Script, TRANSACTION, call, decoded, offer, paying, payment_json, terms, upfront};
use crate::stage::{pending, replayed, shop};

#[tokio::test]
async fn pending_belongs_to_the_same_request() {
    let shop = shop();
    let service = shop.sells(vec![offer(terms())]);
    let json = payment_json(&terms(), 1);
    shop.script.settle_says(&pending());
    let (status, headers, _) = call(&service, paying("/weather", &json)).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(headers["retry-after"], "2");
    let response = decoded(&headers, &names::PAYMENT_RESPONSE);
    assert_eq!(response["errorReason"], "settlement_pending");
    assert_eq!(response["transaction"], TRANSACTION);
    // Another route, or the same authorization with another signature: whoever it is did not begin this.
    assert_eq!(call(&service, paying("/news", &json)).await.0, StatusCode::CONFLICT);
    let mut forged = json.clone();
    forged["payload"]["signature"] = "0x00".into();
    assert_eq!(call(&service, paying("/weather", &forged)).await.0, StatusCode::CONFLICT);
    assert_eq!(shop.script.log(), "verify, handler, settle");
    shop.script.settle_says(&replayed());
    assert_eq!(call(&service, paying("/weather", &json)).await.0, StatusCode::OK);
    assert_eq!(shop.script.log(), "verify, handler, settle, settle, handler");
    assert_eq!(call(&service, paying("/weather", &json)).await.0, StatusCode::CONFLICT);
    let seen = shop.script.seen.lock().unwrap();
    assert!(
        seen.iter().all(|request| request.claim.identity == seen[0].claim.identity),
        "one request for the facilitator"
    );
}

#[tokio::test]
async fn what_settlement_says() {
    use StatusCode as S;
    let failed =
        |code: &str| format!(r#"{{"success":false,"errorReason":"{code}","transaction":"","network":"eip155:84532"}}"#);
    let elsewhere = format!(r#"{{"success":true,"transaction":"{TRANSACTION}","network":"eip155:8453"}}"#);
    let pending_without_hash = failed("settlement_pending");
    for (said, status, code, state) in [
        (failed("insufficient_funds"), S::PAYMENT_REQUIRED, "insufficient_funds", None),
        (failed("some_code_of_a_peer"), S::PAYMENT_REQUIRED, "some_code_of_a_peer", None),
        (failed("duplicate_settlement"), S::PAYMENT_REQUIRED, "duplicate_settlement", None),
        // Somebody else's settlement: this server did not begin it.
        (replayed(), S::PAYMENT_REQUIRED, "duplicate_settlement", None),
        (
            failed("unexpected_settle_error"),
            S::SERVICE_UNAVAILABLE,
            "unexpected_settle_error",
            Some(GrantState::Pending),
        ),
        (pending_without_hash, S::SERVICE_UNAVAILABLE, "unexpected_settle_error", Some(GrantState::Pending)),
        // `@x402/core` 2.27 and others write the text of a fault where a code belongs: the transfer may have been sent.
        (failed("fetch failed"), S::SERVICE_UNAVAILABLE, "unexpected_settle_error", Some(GrantState::Pending)),
        (
            failed("timeout waiting for receipt"),
            S::SERVICE_UNAVAILABLE,
            "unexpected_settle_error",
            Some(GrantState::Pending),
        ),
        (elsewhere, S::SERVICE_UNAVAILABLE, "settlement_pending", Some(GrantState::Pending)),
    ] {
        let shop = shop();
        let service = shop.sells(vec![offer(terms())]);
        shop.script.settle_says(&said);
        let json = payment_json(&terms(), 1);
        let (got, headers, body) = call(&service, paying("/weather", &json)).await;
        assert_eq!(got, status, "{said}");
        assert_eq!(decoded(&headers, &names::PAYMENT_RESPONSE)["errorReason"], code, "{said}");
        assert_eq!(decoded(&headers, &names::PAYMENT_RESPONSE)["success"], false, "{said}");
        assert!(!body.windows(5).any(|window| window == b"sunny"), "withheld");
        assert_eq!(shop.state(&json).await, state, "{said}");
    }
}

#[tokio::test]
async fn after_an_unknown_outcome_spent_is_not_failed() {
    for code in ["duplicate_settlement", "invalid_exact_evm_nonce_already_used", "insufficient_funds"] {
        let shop = shop();
        shop.script.keeps.store(true, std::sync::atomic::Ordering::SeqCst);
        let service = shop.sells(vec![offer(terms())]);
        let json = payment_json(&terms(), 1);
        shop.script.settle_is_unreachable();
        assert_eq!(call(&service, paying("/weather", &json)).await.0, StatusCode::SERVICE_UNAVAILABLE);
        shop.script
            .settle_says(&format!(r#"{{"success":false,"errorReason":"{code}","transaction":"","network":""}}"#));
        assert_eq!(call(&service, paying("/weather", &json)).await.0, StatusCode::SERVICE_UNAVAILABLE, "{code}");
        assert_eq!(shop.state(&json).await, Some(GrantState::Pending));
        shop.script.settle_says(
            r#"{"success":false,"errorReason":"invalid_exact_evm_payload_authorization_valid_before","transaction":"","network":""}"#,
        );
        assert_eq!(
            call(&service, paying("/weather", &json)).await.0,
            StatusCode::PAYMENT_REQUIRED,
            "it can never happen"
        );
        assert_eq!(shop.state(&json).await, None);
    }
}

/// Notes when its first byte is asked for.
struct Lazy(Arc<Script>);

impl http_body::Body for Lazy {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        self.0.log.lock().unwrap().push("body".into());
        Poll::Ready(None)
    }
}

#[tokio::test]
async fn settlement_precedes_the_first_body_byte() {
    for (flow, order) in [(terms(), "verify, settle, body"), (upfront(terms()), "settle, body")] {
        let shop = shop();
        let script = shop.script.clone();
        let handler = tower::service_fn(move |_: Request<Full<Bytes>>| {
            let body = Lazy(script.clone());
            async move { Ok::<_, std::convert::Infallible>(http::Response::new(body)) }
        });
        let service = shop.seller.charge([offer(flow.clone())]).unwrap().layer(handler);
        let (status, ..) = call(&service, paying("/weather", &payment_json(&flow, 1))).await;
        assert_eq!((status, shop.script.log().as_str()), (StatusCode::OK, order));
    }
}

/// What a handler answered arrives whole: a status that has no body, and every value of a header that stands twice.
#[tokio::test]
async fn a_paid_answer_is_the_handlers_with_the_receipt_beside_it() {
    for flow in [terms(), upfront(terms())] {
        let shop = shop();
        let handler = tower::service_fn(|_: Request<Full<Bytes>>| async {
            let mut response = http::Response::new(Full::<Bytes>::default());
            *response.status_mut() = StatusCode::NO_CONTENT;
            for (name, value) in ANSWERED {
                response.headers_mut().append(name, http::HeaderValue::from_static(value));
            }
            Ok::<_, std::convert::Infallible>(response)
        });
        let service = shop.seller.charge([offer(flow.clone())]).unwrap().layer(handler);
        let (status, headers, body) = call(&service, paying("/weather", &payment_json(&flow, 1))).await;
        assert_eq!((status, body.len()), (StatusCode::NO_CONTENT, 0));
        let receipt = decoded(&headers, &names::PAYMENT_RESPONSE);
        assert_eq!((&receipt["success"], &receipt["transaction"]), (&true.into(), &TRANSACTION.into()));
        assert_eq!(shop.script.log().matches("settle").count(), 1);
        for name in ["set-cookie", "link"] {
            let sent: Vec<_> = headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect();
            let answered: Vec<_> = ANSWERED.iter().filter(|header| header.0 == name).map(|header| header.1).collect();
            assert_eq!(sent, answered, "{name}");
        }
    }
}

const ANSWERED: [(&str, &str); 4] = [
    ("set-cookie", "session=1; HttpOnly"),
    ("set-cookie", "cart=2"),
    ("link", "</1>; rel=\"prev\""),
    ("link", "</3>; rel=\"next\""),
];

#[tokio::test]
async fn an_unreachable_facilitator_is_met_before_the_handler() {
    let shop = shop();
    let service = shop.sells(vec![offer(terms())]);
    shop.script.verify_is_unreachable();
    let json = payment_json(&terms(), 1);
    let (status, headers, _) = call(&service, paying("/weather", &json)).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(!headers.contains_key(&names::PAYMENT_RESPONSE));
    assert_eq!(shop.script.log(), "verify");
    assert_eq!(shop.state(&json).await, None);
}

/// A facilitator that does not know the request verifies it anew: whatever it refuses may be refused because the first
/// attempt moved the money.
#[tokio::test]
async fn a_strangers_refusal_after_an_unknown_outcome_decides_nothing() {
    let answer = |code: &str| format!(r#"{{"success":false,"errorReason":{code},"transaction":"","network":""}}"#);
    for code in [
        r#""invalid_exact_evm_payload_authorization_valid_before""#,
        r#""invalid_exact_evm_payload_signature""#,
        r#""invalid_transaction_state""#,
        r#""invalid_network""#,
        r#""invalid_payload""#,
        r#""a_code_of_tomorrow""#,
        "null",
    ] {
        let shop = shop();
        let service = shop.sells(vec![offer(terms())]);
        let json = payment_json(&terms(), 1);
        shop.script.settle_is_unreachable();
        assert_eq!(call(&service, paying("/weather", &json)).await.0, StatusCode::SERVICE_UNAVAILABLE);
        shop.script.settle_says(&answer(code));
        let (status, headers, _) = call(&service, paying("/weather", &json)).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{code}");
        assert!(!headers.contains_key(&names::PAYMENT_REQUIRED), "no new payment is asked for: {code}");
        assert_eq!(shop.state(&json).await, Some(GrantState::Pending), "{code}");
        assert_eq!(call(&service, paying("/weather", &json)).await.0, StatusCode::OK, "{code}");
    }
    for code in [
        r#""invalid_exact_evm_payload_authorization_value_mismatch""#,
        r#""invalid_exact_evm_payload_recipient_mismatch""#,
        r#""invalid_exact_evm_authorization_canceled""#,
    ] {
        let shop = shop();
        let service = shop.sells(vec![offer(terms())]);
        let json = payment_json(&terms(), 1);
        shop.script.settle_is_unreachable();
        assert_eq!(call(&service, paying("/weather", &json)).await.0, StatusCode::SERVICE_UNAVAILABLE);
        shop.script.settle_says(&answer(code));
        assert_eq!(call(&service, paying("/weather", &json)).await.0, StatusCode::PAYMENT_REQUIRED, "{code}");
        assert_eq!(shop.state(&json).await, None, "such a payment was never made: {code}");
    }
}

#[tokio::test]
async fn the_payer_reads_the_network_in_its_own_version() {
    for (json, name, version, network) in [
        (payment_json(&terms(), 1), &names::PAYMENT_SIGNATURE, &names::PAYMENT_RESPONSE, "eip155:84532"),
        (crate::common::v1_payment_json(1), &names::X_PAYMENT, &names::X_PAYMENT_RESPONSE, "base-sepolia"),
    ] {
        for written in ["", "base-sepolia", "eip155:84532"] {
            for success in [true, false] {
                let shop = shop();
                let service = shop.seller.clone().with_v1().charge([offer(terms())]).unwrap();
                let service = tower::ServiceExt::boxed_clone(service.layer(shop.handler.service()));
                shop.script.settle_says(&format!(
                    r#"{{"success":{success},"transaction":"{TRANSACTION}","network":"{written}"}}"#
                ));
                let request = crate::common::get("/weather", &[(name, crate::common::header(&json))]);
                let (_, headers, _) = call(&service, request).await;
                assert_eq!(decoded(&headers, version)["network"], network, "{written:?} {success}");
            }
        }
    }
}

/// Checks that a payer of version 1 reads codes of its closed list alone, which published clients refuse otherwise, and that
/// unknown stays unknown in it.
#[tokio::test]
async fn a_payer_of_version_1_reads_codes_of_version_1() {
    let recorded = include_str!("../../../x402-testkit/vectors/reasons-v1.json");
    let recorded: serde_json::Value = serde_json::from_str(recorded).unwrap();
    let list = recorded["codes"].as_array().unwrap();
    for (code, written, status) in [
        (
            "invalid_exact_evm_payload_authorization_value_mismatch",
            "invalid_exact_evm_payload_authorization_value",
            402,
        ),
        ("invalid_exact_evm_nonce_already_used", "invalid_transaction_state", 402),
        ("payer_blocked", "invalid_payment", 402),
        ("insufficient_funds", "insufficient_funds", 402),
        ("settlement_pending", "unexpected_settle_error", 503),
    ] {
        let shop = shop();
        let service = shop.seller.clone().with_v1().charge([offer(terms())]).unwrap();
        let service = tower::ServiceExt::boxed_clone(service.layer(shop.handler.service()));
        shop.script.settle_says(&format!(
            r#"{{"success":false,"errorReason":"{code}","transaction":"{TRANSACTION}","network":"base-sepolia"}}"#
        ));
        let json = crate::common::v1_payment_json(1);
        let request = crate::common::get("/weather", &[(&names::X_PAYMENT, crate::common::header(&json))]);
        let (answered, headers, body) = call(&service, request).await;
        assert_eq!(answered.as_u16(), status, "{code}");
        let receipt = decoded(&headers, &names::X_PAYMENT_RESPONSE);
        assert_eq!(receipt["errorReason"], written, "{code}");
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let told = if status == 402 { &body["error"] } else { &body["errorReason"] };
        assert_eq!(told, written, "{body}");
        assert!(list.contains(told));
    }
}
