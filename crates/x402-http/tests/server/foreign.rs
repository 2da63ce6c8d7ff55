//! Facilitators that are not ours, over HTTP: what a seller makes of their answers, `tests/facilitators/*.json`.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path, State};
use axum::response::IntoResponse;
use axum::routing::any;
use http::{HeaderMap, HeaderName, StatusCode};
use serde_json::{Value, json};
use tower::{Layer, ServiceExt};
use x402_codec::header as names;
use x402_http::remote::RemoteFacilitator;
use x402_http::server::{Incident, IncidentStep, Seller};

use crate::common::{Handler, ORIGIN, PAYER, TRANSACTION, call, decoded, offer, paying, payment_json, terms};
use crate::stage::Paywalled;

#[derive(Clone)]
struct Far {
    case: Arc<Value>,
    calls: Arc<Mutex<Vec<(String, HeaderMap)>>>,
}

async fn answer(State(far): State<Far>, Path(name): Path<String>, headers: HeaderMap) -> impl IntoResponse {
    let mut calls = far.calls.lock().unwrap();
    let nth = calls.iter().filter(|(called, _)| *called == name).count();
    calls.push((name.clone(), headers));
    let answer = match &far.case[&name] {
        Value::Array(answers) => answers.get(nth).or_else(|| answers.last()).unwrap(),
        answer => answer,
    };
    let status = answer["status"].as_u64().map_or(200, |status| u16::try_from(status).unwrap());
    let mut headers = HeaderMap::new();
    for (name, value) in answer["headers"].as_object().into_iter().flatten() {
        headers.insert(name.parse::<HeaderName>().unwrap(), value.as_str().unwrap().parse().unwrap());
    }
    let body = match &answer["body"] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        body => body.to_string(),
    };
    (StatusCode::from_u16(status).unwrap(), headers, body)
}

/// A shop before a facilitator of that kind.
struct Shop {
    far: Far,
    handler: Handler,
    service: Paywalled,
    incidents: Arc<Mutex<Vec<(String, IncidentStep, String)>>>,
}

impl Shop {
    async fn before(case: Value) -> Self {
        Self::with(case, |facilitator| facilitator).await
    }

    async fn of(name: &str) -> Self {
        let path = format!("{}/tests/facilitators/{name}.json", env!("CARGO_MANIFEST_DIR"));
        Self::before(serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()).await
    }

    async fn with(case: Value, set: impl FnOnce(RemoteFacilitator) -> RemoteFacilitator) -> Self {
        let far = Far { case: Arc::new(case), calls: Arc::default() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().route("/{name}", any(answer)).with_state(far.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        let incidents: Arc<Mutex<Vec<_>>> = Arc::default();
        let heard = incidents.clone();
        let facilitator = set(RemoteFacilitator::new(&address).unwrap());
        let seller =
            Seller::new(ORIGIN, Arc::new(facilitator)).unwrap().with_incident_hook(move |incident: &Incident<'_>| {
                let incident = (incident.route.to_owned(), incident.step, incident.fault.to_string());
                heard.lock().unwrap().push(incident);
            });
        let handler = Handler::default();
        let service = seller.charge([offer(terms())]).unwrap().layer(handler.service()).boxed_clone();
        Self { far, handler, service, incidents }
    }

    async fn pay(&self) -> (StatusCode, HeaderMap, Value) {
        let (status, headers, body) = call(&self.service, paying("/weather", &payment_json(&terms(), 1))).await;
        (status, headers, serde_json::from_slice(&body).unwrap_or_default())
    }

    fn incidents(&self) -> Vec<(String, IncidentStep, String)> {
        std::mem::take(&mut *self.incidents.lock().unwrap())
    }
}

fn supported() -> Value {
    json!({"body": {"kinds": [{"x402Version": 2, "scheme": "exact", "network": "eip155:84532"}]}})
}

fn yes() -> Value {
    json!({"body": {"isValid": true, "payer": PAYER}})
}

fn made() -> Value {
    json!({"body": {"success": true, "transaction": TRANSACTION, "network": "eip155:84532", "payer": PAYER}})
}

#[tokio::test]
async fn a_request_that_the_facilitator_refuses_is_no_endless_503() {
    for (name, words) in [
        ("f01-verify-400-without-a-verdict", &["HTTP 400", "'paymentPayload' is invalid"][..]),
        ("f03-verify-308", &["HTTP 308", "empty body"]),
    ] {
        let shop = Shop::of(name).await;
        for _ in 0..2 {
            let (status, headers, body) = shop.pay().await;
            assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{name}");
            assert!(!headers.contains_key("retry-after"), "{name}");
            assert_eq!(body["error"], "seller_misconfigured", "{name}");
            let [(route, step, fault)] = &shop.incidents()[..] else { panic!("{name}: one incident a request") };
            assert_eq!((route.as_str(), *step), ("https://api.example.com/weather", IncidentStep::Verify));
            assert!(words.iter().all(|word| fault.contains(word)), "{fault}");
        }
        assert_eq!(shop.handler.calls(), 0, "{name}: never served free");
    }
    for (status, lasting) in
        [(401, true), (403, true), (404, true), (408, false), (429, false), (500, false), (502, false)]
    {
        let page = json!({"status": status, "body": "<html>\u{1b}[31mno</html>"});
        let shop = Shop::before(json!({"verify": page, "supported": supported()})).await;
        let (got, headers, _) = shop.pay().await;
        assert_eq!(got.as_u16(), if lasting { 500 } else { 503 }, "{status}");
        assert_eq!(headers.contains_key("retry-after"), !lasting, "{status}");
        let incidents = shop.incidents();
        assert!(incidents[0].2.contains(&format!("HTTP {status}")), "{incidents:?}");
        assert!(incidents[0].2.contains(r"<html>\u{1b}[31mno"), "escaped for a log: {incidents:?}");
    }
}

#[tokio::test]
async fn a_no_is_a_no_whatever_its_status_and_reason() {
    let shop = Shop::of("f05-verify-400-with-a-verdict").await;
    let (status, headers, _) = shop.pay().await;
    assert_eq!(status, StatusCode::PAYMENT_REQUIRED);
    let document = decoded(&headers, &names::PAYMENT_REQUIRED);
    assert_eq!(document["error"], "invalid_payload");
    assert_eq!(document["errorMessage"], "resource.description: longer than 500");
    let bare = json!({"verify": {"body": {"isValid": false}}, "supported": supported()});
    let shop = Shop::before(bare).await;
    let (status, headers, _) = shop.pay().await;
    assert_eq!(status, StatusCode::PAYMENT_REQUIRED);
    let document = decoded(&headers, &names::PAYMENT_REQUIRED);
    assert_eq!(document["errorMessage"], "the facilitator refuses the payment and gives no reason");
    assert_eq!((shop.handler.calls(), shop.incidents().len()), (0, 0));
    // A peer's spelling of one of our codes.
    let poor = json!({"body": {"isValid": false, "invalidReason": "invalid_exact_evm_insufficient_balance"}});
    let (_, headers, _) = Shop::before(json!({"verify": poor, "supported": supported()})).await.pay().await;
    assert_eq!(decoded(&headers, &names::PAYMENT_REQUIRED)["error"], "insufficient_funds");
    let poor = json!({"body": {"success": false, "errorReason": "invalid_exact_evm_insufficient_balance"}});
    let case = json!({"verify": yes(), "settle": poor, "supported": supported()});
    let (_, headers, _) = Shop::before(case).await.pay().await;
    assert_eq!(decoded(&headers, &names::PAYMENT_RESPONSE)["errorReason"], "insufficient_funds");
}

#[tokio::test]
async fn a_settlement_without_an_answer_is_answered_by_the_same_request() {
    for (name, incidents) in [("f06-settle-504", 1), ("f09-settle-pending-then-made", 0)] {
        let shop = Shop::of(name).await;
        let (status, headers, _) = shop.pay().await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{name}");
        assert_eq!(headers["retry-after"], "2", "{name}");
        assert!(!headers.contains_key(&names::PAYMENT_REQUIRED), "{name}");
        assert_eq!(shop.incidents().len(), incidents, "{name}");
        assert_eq!(shop.pay().await.0, StatusCode::OK, "{name}");
        let calls = shop.far.calls.lock().unwrap();
        let named: Vec<_> = calls.iter().filter(|(name, _)| name != "supported").collect();
        assert!(named.iter().all(|(_, headers)| headers["idempotency-key"] == named[0].1["idempotency-key"]));
        assert_eq!(named.iter().filter(|(name, _)| name == "settle").count(), 2, "{name}");
    }
}

/// The first `/settle` times out and is mined; the facilitator verifies the retry anew.
#[tokio::test]
async fn the_retry_of_a_settlement_that_a_stranger_began_is_never_called_failed() {
    for code in [
        // After `validBefore`.
        "invalid_exact_evm_payload_authorization_valid_before",
        // The wallet was emptied by our own first attempt, in the words of three SDKs.
        "insufficient_funds",
        "invalid_exact_evm_insufficient_balance",
        "invalid_exact_evm_transaction_failed",
        "transaction_failed",
        "invalid_exact_evm_nonce_already_used",
    ] {
        let timeout = json!({"status": 504, "body": {"message": "Endpoint request timed out"}});
        let no = json!({"body": {"success": false, "errorReason": code, "transaction": "", "network": ""}});
        let case = json!({"verify": yes(), "settle": [timeout, no, made()], "supported": supported()});
        let shop = Shop::before(case.clone()).await;
        for _ in 0..2 {
            let (status, headers, _) = shop.pay().await;
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{code}");
            assert!(!headers.contains_key(&names::PAYMENT_REQUIRED), "no second payment is asked for: {code}");
        }
        assert_eq!(shop.pay().await.0, StatusCode::OK, "{code}");
    }
}

/// The Python SDK's facilitator says `transaction_failed` of what reverted; ones of before `settlement_pending` of what they
/// no longer waited for.
#[tokio::test]
async fn a_transaction_that_a_stranger_sent_is_unknown_whatever_it_is_called() {
    for code in ["transaction_failed", "invalid_exact_evm_transaction_failed", "invalid_upto_evm_transaction_failed"] {
        let failed = |transaction| json!({"body": {"success": false, "errorReason": code, "transaction": transaction, "network": "eip155:84532"}});
        let case = |first| json!({"verify": yes(), "settle": [first, made()], "supported": supported()});
        let shop = Shop::before(case(failed(TRANSACTION))).await;
        let (status, headers, _) = shop.pay().await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{code}");
        assert!(!headers.contains_key(&names::PAYMENT_REQUIRED), "no second payment is asked for: {code}");
        let receipt = decoded(&headers, &names::PAYMENT_RESPONSE);
        assert_eq!(
            (&receipt["errorReason"], &receipt["transaction"]),
            (&json!("settlement_pending"), &json!(TRANSACTION))
        );
        assert_eq!(shop.pay().await.0, StatusCode::OK, "the same payment is asked about again: {code}");
        // Nothing left: it is a refusal. One that keeps requests has looked at final blocks.
        assert_eq!(Shop::before(case(failed(""))).await.pay().await.0, StatusCode::PAYMENT_REQUIRED, "{code}");
        let kept = Shop::with(case(failed(TRANSACTION)), RemoteFacilitator::with_kept_requests).await;
        assert_eq!(kept.pay().await.0, StatusCode::PAYMENT_REQUIRED, "{code}");
    }
}

/// One that keeps requests knows that it began nothing: the seller says so, or reads it in `/supported`.
#[tokio::test]
async fn the_refusal_of_a_facilitator_that_keeps_requests_is_believed() {
    let timeout = json!({"status": 504});
    let no = json!({"body": {"success": false, "errorReason": "invalid_exact_evm_payload_authorization_valid_before"}});
    let case = |supported| json!({"verify": yes(), "settle": [&timeout, &no], "supported": supported});
    let second = async |shop: Shop| {
        assert_eq!(shop.pay().await.0, StatusCode::SERVICE_UNAVAILABLE);
        shop.pay().await.0
    };
    let by_hand = Shop::with(case(supported()), RemoteFacilitator::with_kept_requests).await;
    assert_eq!(second(by_hand).await, StatusCode::PAYMENT_REQUIRED);
    for (member, status) in [
        (json!(true), StatusCode::PAYMENT_REQUIRED),
        (json!(false), StatusCode::SERVICE_UNAVAILABLE),
        (json!("yes"), StatusCode::SERVICE_UNAVAILABLE),
        (json!(null), StatusCode::SERVICE_UNAVAILABLE),
    ] {
        let mut supported = supported();
        supported["body"]["keepsRequests"] = member.clone();
        assert_eq!(second(Shop::before(case(supported)).await).await, status, "{member}");
    }
    // But not that the wallet is empty, in whose words ever: its own first attempt may have emptied it.
    for code in ["insufficient_funds", "invalid_exact_evm_insufficient_balance"] {
        let no = json!({"body": {"success": false, "errorReason": code}});
        let case = json!({"verify": yes(), "settle": [timeout, no], "supported": supported()});
        let shop = Shop::with(case, RemoteFacilitator::with_kept_requests).await;
        assert_eq!(second(shop).await, StatusCode::SERVICE_UNAVAILABLE, "{code}");
    }
    let unreadable = json!({"status": 503, "body": {"kinds": [], "keepsRequests": true}});
    assert_eq!(second(Shop::before(case(unreadable)).await).await, StatusCode::SERVICE_UNAVAILABLE);
}

/// `EXTENSION-RESPONSES` is between facilitator and seller: the seller is told, and the payer gets no trace of it.
#[tokio::test]
async fn reports_of_extensions_reach_the_seller_and_not_the_payer() {
    // As the published SDK encodes it: base64 of {"bazaar":{"status":"rejected","rejectedReason":"secret"}}.
    let header = "eyJiYXphYXIiOnsic3RhdHVzIjoicmVqZWN0ZWQiLCJyZWplY3RlZFJlYXNvbiI6InNlY3JldCJ9fQ==";
    for (value, heard) in [(header, true), ("!", false), ("W10=", false), ("", false)] {
        let mut settle = made();
        settle["headers"] = json!({ "extension-responses": value });
        // What another facilitator puts into the body goes no further, either.
        settle["body"]["extensionResponses"] = json!({ "bazaar": { "rejectedReason": "secret" } });
        let case = json!({"verify": yes(), "settle": settle, "supported": supported()});
        let told: Arc<Mutex<Vec<_>>> = Arc::default();
        let teller = Arc::clone(&told);
        let shop = Shop::with(case, |facilitator| {
            facilitator.with_report_hook(move |request, reports| {
                let reports = serde_json::to_value(reports).unwrap();
                teller.lock().unwrap().push((request.resource.url.clone(), reports));
            })
        })
        .await;
        let (status, headers, body) = shop.pay().await;
        assert_eq!(status, StatusCode::OK, "{value}: {body}");
        let told = std::mem::take(&mut *told.lock().unwrap());
        if heard {
            let report = json!({"bazaar": {"status": "rejected", "rejectedReason": "secret"}});
            assert_eq!(told, [("https://api.example.com/weather".to_owned(), report)]);
        } else {
            assert!(told.is_empty(), "{value}: {told:?}");
        }
        assert!(!headers.contains_key("extension-responses"), "{headers:?}");
        let response = decoded(&headers, &names::PAYMENT_RESPONSE).to_string();
        assert!(!response.contains("secret") && response.contains(TRANSACTION), "{response}");
    }
}
