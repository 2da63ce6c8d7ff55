//! The layer, in memory: matching, grants, races, futures dropped at every point, malformed headers.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use common::{
    Handler, ORIGIN, PAYER, Script, Service, TRANSACTION, call, decoded, get, header, offer, paying, payment_json,
    terms, upfront, v1_payment_json,
};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::Full;
use tower::{Layer, ServiceExt};
use x402_codec::header as names;
use x402_http::Body;
use x402_http::server::{CorsLayer, GrantState, Grants, MemoryGrants, Seller, SellerError, price_by};
use x402_types::{AtomicAmount, Fault, Offer, Terms};

struct Shop {
    script: Arc<Script>,
    handler: Handler,
    grants: Arc<MemoryGrants>,
    seller: Seller,
}

type Paywalled = Service<Body<Full<Bytes>>>;

fn shop() -> Shop {
    let script = Arc::new(Script::default());
    let grants = Arc::new(MemoryGrants::default());
    let seller = Seller::new(ORIGIN, script.clone()).unwrap().grants(grants.clone());
    let handler = Handler { script: Some(script.clone()), ..Handler::default() };
    Shop { script, handler, grants, seller }
}

impl Shop {
    fn sells(&self, offers: Vec<Offer>) -> Paywalled {
        self.seller.charge(offers).unwrap().layer(self.handler.service()).boxed_clone()
    }

    async fn state(&self, json: &serde_json::Value) -> Option<GrantState> {
        let claim = x402_types::Claim::new(terms(), serde_json::from_value(json.clone()).unwrap());
        self.grants.look(&common::key_of(&claim).unwrap()).await.unwrap().map(|standing| standing.state)
    }
}

fn pending() -> String {
    format!(
        r#"{{"success":false,"errorReason":"settlement_pending","payer":"{PAYER}","transaction":"{TRANSACTION}","network":"eip155:84532"}}"#
    )
}

fn replayed() -> String {
    format!(
        r#"{{"success":true,"payer":"{PAYER}","transaction":"{TRANSACTION}","network":"eip155:84532","extensions":{{"replayed":true}}}}"#
    )
}

#[tokio::test]
async fn the_handler_finds_the_payment_and_the_whole_body() {
    let shop = shop();
    let service = shop.sells(vec![offer(terms())]);
    let mut request = paying("/weather", &payment_json(&terms(), 1)).map(|_| Full::from("the question"));
    *request.method_mut() = Method::POST;
    let (status, headers, body) = call(&service, request).await;
    assert_eq!((status, &body[..]), (StatusCode::OK, &b"sunny"[..]));
    assert_eq!(decoded(&headers, &names::PAYMENT_RESPONSE)["transaction"], TRANSACTION);
    assert_eq!(headers["cache-control"], "private");
    let paid = shop.handler.paid.lock().unwrap()[0].clone();
    assert_eq!(paid.payer.as_deref(), Some(PAYER));
    assert_eq!(paid.amount, AtomicAmount::from(10_000));
    assert_eq!(shop.handler.bodies.lock().unwrap()[0], "the question");
    let presented = shop.script.seen.lock().unwrap()[0].clone();
    assert_eq!(presented.resource.url, "https://api.example.com/weather");
    assert_eq!(presented.raw, payment_json(&terms(), 1).to_string(), "byte for byte");
    assert!(presented.identity.caller.is_empty());
}

#[tokio::test]
async fn host_is_never_trusted() {
    let service = shop().sells(vec![offer(terms())]);
    let request = get("/weather?city=x", &[(&http::header::HOST, HeaderValue::from_static("evil.example"))]);
    let (_, headers, _) = call(&service, request).await;
    assert_eq!(decoded(&headers, &names::PAYMENT_REQUIRED)["resource"]["url"], "https://api.example.com/weather");
}

#[tokio::test]
async fn head_is_paid_and_options_is_not() {
    let shop = shop();
    let service = shop.sells(vec![offer(terms())]);
    let mut request = get("/weather", &[]);
    *request.method_mut() = Method::HEAD;
    assert_eq!(call(&service, request).await.0, StatusCode::PAYMENT_REQUIRED);
    assert_eq!(shop.handler.calls(), 0);
    let mut request = get("/weather", &[]);
    *request.method_mut() = Method::OPTIONS;
    assert_eq!(call(&service, request).await.0, StatusCode::OK);
    // What was begun with HEAD is the same request with GET.
    shop.script.settle_says(&pending());
    let mut request = paying("/weather", &payment_json(&terms(), 1));
    *request.method_mut() = Method::HEAD;
    assert_eq!(call(&service, request).await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(call(&service, paying("/weather", &payment_json(&terms(), 1))).await.0, StatusCode::OK);
}

#[tokio::test]
async fn the_accepted_entry_must_be_offered() {
    let shop = shop();
    let dearer = Terms { amount: 20_000.into(), ..terms() };
    let service = shop.sells(vec![offer(dearer), offer(terms())]);
    let with = |edit: &dyn Fn(&mut serde_json::Value)| {
        let mut json = payment_json(&terms(), 1);
        edit(&mut json["accepted"]);
        paying("/weather", &json)
    };
    let refused: [&dyn Fn(&mut serde_json::Value); 8] = [
        &|entry| entry["amount"] = "9999".into(),
        &|entry| entry["network"] = "eip155:8453".into(),
        &|entry| entry["scheme"] = "upto".into(),
        &|entry| entry["asset"] = PAYER.into(),
        &|entry| entry["payTo"] = PAYER.into(),
        &|entry| entry["maxTimeoutSeconds"] = 301.into(),
        &|entry| entry["extra"]["version"] = "1".into(),
        &|entry| entry["extra"] = serde_json::json!({}),
    ];
    for edit in refused {
        let (status, headers, _) = call(&service, with(edit)).await;
        assert_eq!(status, StatusCode::PAYMENT_REQUIRED);
        assert_eq!(decoded(&headers, &names::PAYMENT_REQUIRED)["error"], "invalid_payment_requirements");
    }
    assert_eq!(shop.script.log(), "", "nobody was asked");
    // Addresses by value, `extra` a superset.
    let request = with(&|entry| {
        entry["payTo"] = terms().pay_to.to_lowercase().into();
        entry["extra"]["more"] = 1.into();
    });
    assert_eq!(call(&service, request).await.0, StatusCode::OK);
    let presented = shop.script.seen.lock().unwrap()[0].clone();
    assert_eq!(presented.terms, terms(), "the server's own entry");
}

#[tokio::test]
async fn the_second_of_several_entries_can_be_paid() {
    let shop = shop();
    let dearer = Terms { amount: 20_000.into(), ..terms() };
    let service = shop.sells(vec![offer(dearer.clone()), offer(terms())]);
    let (_, headers, body) = call(&service, get("/weather", &[])).await;
    let document = decoded(&headers, &names::PAYMENT_REQUIRED);
    assert_eq!(document["accepts"][0]["amount"], "20000");
    assert_eq!(document["accepts"][1]["amount"], "10000");
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&body).unwrap(), document, "the body says it again");
    assert_eq!(call(&service, paying("/weather", &payment_json(&terms(), 1))).await.0, StatusCode::OK);
    assert_eq!(call(&service, paying("/weather", &payment_json(&dearer, 2))).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_price_by_request() {
    let shop = shop();
    let price = price_by(|request| {
        let amount: u64 = request.uri.query().map_or(10_000, |query| query.len() as u64);
        async move {
            match amount {
                0 => Err(Fault::broken("no price")),
                amount => Ok(vec![offer(Terms { amount: amount.into(), ..terms() })]),
            }
        }
    });
    let service = shop.seller.charge_by(price).layer(shop.handler.service()).boxed_clone();
    let (status, headers, _) = call(&service, get("/say?abc", &[])).await;
    assert_eq!(status, StatusCode::PAYMENT_REQUIRED);
    assert_eq!(decoded(&headers, &names::PAYMENT_REQUIRED)["accepts"][0]["amount"], "3");
    let three = payment_json(&Terms { amount: 3.into(), ..terms() }, 1);
    assert_eq!(call(&service, paying("/say?abcd", &three)).await.0, StatusCode::PAYMENT_REQUIRED);
    assert_eq!(call(&service, paying("/say?abc", &three)).await.0, StatusCode::OK);
    assert_eq!(call(&service, get("/say?", &[])).await.0, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_handlers_failure_is_not_paid_and_frees_the_claim() {
    for failure in [StatusCode::NOT_FOUND, StatusCode::INTERNAL_SERVER_ERROR] {
        let shop = shop();
        let service = shop.sells(vec![offer(terms())]);
        shop.handler.statuses.lock().unwrap().push_back(failure);
        let json = payment_json(&terms(), 1);
        let (status, headers, _) = call(&service, paying("/weather", &json)).await;
        assert_eq!(status, failure);
        assert!(!headers.contains_key(&names::PAYMENT_RESPONSE));
        assert_eq!(shop.script.log(), "verify, handler");
        assert_eq!(shop.state(&json).await, None);
        assert_eq!(call(&service, paying("/weather", &json)).await.0, StatusCode::OK);
    }
}

#[tokio::test]
async fn an_upfront_handlers_failure_is_served_to_the_same_request_later() {
    let shop = shop();
    let asked = upfront(terms());
    let service = shop.sells(vec![offer(asked.clone())]);
    shop.handler.statuses.lock().unwrap().push_back(StatusCode::BAD_GATEWAY);
    let json = payment_json(&asked, 1);
    let (status, headers, _) = call(&service, paying("/weather", &json)).await;
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    assert_eq!(decoded(&headers, &names::PAYMENT_RESPONSE)["success"], true, "the payer learns that the money moved");
    assert_eq!(shop.state(&json).await, Some(GrantState::Pending));
    shop.script.settle_says(&replayed());
    assert_eq!(call(&service, paying("/weather", &json)).await.0, StatusCode::OK);
    assert_eq!(call(&service, paying("/weather", &json)).await.0, StatusCode::CONFLICT);
    assert_eq!(shop.script.log(), "settle, handler, settle, handler");
}

#[tokio::test]
async fn one_payment_buys_one_answer_of_one_route() {
    let shop = shop();
    let weather = shop.sells(vec![offer(terms())]);
    let news = shop.sells(vec![offer(terms())]);
    let json = payment_json(&terms(), 1);
    assert_eq!(call(&weather, paying("/weather", &json)).await.0, StatusCode::OK);
    assert_eq!(call(&weather, paying("/weather", &json)).await.0, StatusCode::CONFLICT);
    assert_eq!(call(&news, paying("/news", &json)).await.0, StatusCode::CONFLICT);
    // Another spelling of the same authorization is the same payment.
    let mut spelt = json.clone();
    spelt["payload"]["authorization"]["from"] = PAYER.to_lowercase().into();
    assert_eq!(call(&weather, paying("/weather", &spelt)).await.0, StatusCode::CONFLICT);
    assert_eq!(shop.handler.calls(), 1);
}

#[tokio::test]
async fn two_parallel_requests_with_one_payment_get_one_grant() {
    for flow in [terms(), upfront(terms())] {
        let shop = shop();
        let service = shop.sells(vec![offer(flow.clone())]);
        let json = payment_json(&flow, 1);
        let requests = (0..8).map(|_| call(&service, paying("/weather", &json)));
        let answers = futures_util::future::join_all(requests).await;
        let granted = answers.iter().filter(|(status, ..)| *status == StatusCode::OK).count();
        let conflicts = answers.iter().filter(|(status, ..)| *status == StatusCode::CONFLICT).count();
        assert_eq!((granted, conflicts), (1, 7));
        assert_eq!(shop.handler.calls(), 1);
        assert_eq!(shop.script.log().matches("settle").count(), 1);
    }
}

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
    assert!(seen.iter().all(|presented| presented.identity == seen[0].identity), "one request for the facilitator");
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

#[tokio::test]
async fn a_nested_route_has_its_whole_path() {
    let shop = shop();
    let layer = shop.seller.charge([offer(terms())]).unwrap().nested("/api/");
    let service = layer.layer(shop.handler.service()).boxed_clone();
    let (_, headers, _) = call(&service, get("/weather", &[])).await;
    assert_eq!(decoded(&headers, &names::PAYMENT_REQUIRED)["resource"]["url"], "https://api.example.com/api/weather");
}

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

/// Polls the request `polls` times, then drops it. Whether it came to an answer.
fn cut_off(service: &Paywalled, request: Request<Full<Bytes>>, polls: usize) -> Option<StatusCode> {
    let mut future = pin!(service.clone().oneshot(request));
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..polls {
        if let Poll::Ready(answer) = future.as_mut().poll(&mut cx) {
            return Some(answer.unwrap().status());
        }
    }
    None
}

#[tokio::test]
async fn a_request_dropped_at_any_point_loses_nothing_and_grants_nothing_twice() {
    for flow in [terms(), upfront(terms())] {
        let mut cuts = 0;
        for polls in 0.. {
            let shop = shop();
            let service = shop.sells(vec![offer(flow.clone())]);
            let json = payment_json(&flow, 1);
            let first = cut_off(&service, paying("/weather", &json), polls);
            if shop.script.log().contains("settle") {
                // The facilitator goes on without us and knows the payment when it is asked again.
                shop.script.settle_says(&replayed());
            }
            let second = call(&service, paying("/weather", &json)).await.0;
            let third = call(&service, paying("/weather", &json)).await.0;
            let grants = [first, Some(second), Some(third)].iter().filter(|s| **s == Some(StatusCode::OK)).count();
            assert_eq!(grants, 1, "dropped after {polls} polls: {first:?}, {second}, {third}");
            if first.is_some() {
                break;
            }
            assert_eq!(second, StatusCode::OK, "dropped after {polls} polls");
            cuts += 1;
        }
        assert!(cuts >= 3, "verify, handler and settle each wait once");
    }
}

#[tokio::test]
async fn malformed_headers_are_402_with_the_reason() {
    use base64_of as b64;
    let good = payment_json(&terms(), 1);
    let edited = |edit: &dyn Fn(&mut serde_json::Value)| {
        let mut json = good.clone();
        edit(&mut json);
        b64(&json.to_string())
    };
    let cases: Vec<(&str, Vec<String>, &str)> = vec![
        ("not base64", vec!["%%%".into()], "invalid_payload"),
        ("base64 of nothing", vec!["e30=".into()], "invalid_payload"),
        ("not json", vec![b64("hello")], "invalid_payload"),
        ("an array", vec![b64("[]")], "invalid_payload"),
        ("something behind", vec![b64(&format!("{good} {good}"))], "invalid_payload"),
        ("twice", vec![b64(&good.to_string()), b64(&good.to_string())], "invalid_payload"),
        ("joined", vec![format!("{0},{0}", b64(&good.to_string()))], "invalid_payload"),
        ("too long", vec!["A".repeat(16 * 1024 + 4)], "invalid_payload"),
        ("a key twice", vec![b64(&good.to_string().replacen('{', r#"{"x402Version":2,"#, 1))], "invalid_payload"),
        (
            "version absent",
            vec![edited(&|json| {
                json.as_object_mut().unwrap().remove("x402Version");
            })],
            "invalid_payload",
        ),
        ("version 3", vec![edited(&|json| json["x402Version"] = 3.into())], "invalid_payload"),
        ("version as text", vec![edited(&|json| json["x402Version"] = "2".into())], "invalid_payload"),
        (
            "accepted absent",
            vec![edited(&|json| {
                json.as_object_mut().unwrap().remove("accepted");
            })],
            "invalid_payload",
        ),
        ("accepted null", vec![edited(&|json| json["accepted"] = serde_json::Value::Null)], "invalid_payload"),
        ("amount a number", vec![edited(&|json| json["accepted"]["amount"] = 10_000.into())], "invalid_payload"),
        ("amount spelt", vec![edited(&|json| json["accepted"]["amount"] = "010000".into())], "invalid_payload"),
        (
            "payload absent",
            vec![edited(&|json| {
                json.as_object_mut().unwrap().remove("payload");
            })],
            "invalid_payload",
        ),
        ("payload a string", vec![edited(&|json| json["payload"] = "x".into())], "invalid_payload"),
        ("payload empty", vec![edited(&|json| json["payload"] = serde_json::json!({}))], "invalid_payload"),
        (
            "nonce absent",
            vec![edited(&|json| json["payload"]["authorization"]["nonce"] = serde_json::Value::Null)],
            "invalid_payload",
        ),
        ("v1 where v2 is served", vec![b64(&v1_payment_json(1).to_string())], "invalid_x402_version"),
    ];
    for (what, values, code) in cases {
        let shop = shop();
        let service = shop.sells(vec![offer(terms())]);
        let headers: Vec<_> = values.iter().map(|value| (&names::PAYMENT_SIGNATURE, value.parse().unwrap())).collect();
        let headers: Vec<_> = headers.iter().map(|(name, value): &(_, HeaderValue)| (&**name, value.clone())).collect();
        let (status, headers, _) = call(&service, get("/weather", &headers)).await;
        assert_eq!(status, StatusCode::PAYMENT_REQUIRED, "{what}");
        assert_eq!(decoded(&headers, &names::PAYMENT_REQUIRED)["error"], code, "{what}");
        assert_eq!(headers["cache-control"], "no-store");
        assert_eq!(shop.script.log(), "", "{what}: nobody was asked");
    }
    // Both headers at once.
    let shop = shop();
    let service = shop.sells(vec![offer(terms())]);
    let value = header(&good);
    let (status, headers, _) =
        call(&service, get("/weather", &[(&names::PAYMENT_SIGNATURE, value.clone()), (&names::X_PAYMENT, value)]))
            .await;
    assert_eq!(status, StatusCode::PAYMENT_REQUIRED);
    assert_eq!(decoded(&headers, &names::PAYMENT_REQUIRED)["error"], "invalid_payload");
    // An empty header counts as absent.
    let (_, headers, _) =
        call(&service, get("/weather", &[(&names::PAYMENT_SIGNATURE, HeaderValue::from_static(""))])).await;
    assert_eq!(decoded(&headers, &names::PAYMENT_REQUIRED)["error"], "Payment required");
}

fn base64_of(text: &str) -> String {
    names::encode_text(text.as_bytes()).unwrap().to_str().unwrap().to_owned()
}

#[tokio::test]
async fn v1_is_served_where_it_is_switched_on() {
    let shop = shop();
    let seller = shop.seller.clone().with_v1();
    let service = seller.charge([offer(terms())]).unwrap().layer(shop.handler.service()).boxed_clone();
    let (status, headers, body) = call(&service, get("/weather", &[])).await;
    assert_eq!(status, StatusCode::PAYMENT_REQUIRED);
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&body["x402Version"], &body["accepts"][0]["network"]), (&1.into(), &"base-sepolia".into()));
    assert_eq!(body["accepts"][0]["resource"], "https://api.example.com/weather");
    assert_eq!(decoded(&headers, &names::PAYMENT_REQUIRED)["x402Version"], 2);
    let (status, headers, _) =
        call(&service, get("/weather", &[(&names::X_PAYMENT, header(&v1_payment_json(1)))])).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(decoded(&headers, &names::X_PAYMENT_RESPONSE)["network"], "base-sepolia");
    assert!(!headers.contains_key(&names::PAYMENT_RESPONSE));
    let presented = shop.script.seen.lock().unwrap()[0].clone();
    assert_eq!(presented.terms.version, x402_types::Version::V1);
    // One authorization has one key, whichever version it comes in.
    assert_eq!(call(&service, paying("/weather", &payment_json(&terms(), 1))).await.0, StatusCode::CONFLICT);
}

#[tokio::test]
async fn a_shop_that_cannot_be_served_is_not_opened() {
    let shop = shop();
    let escrow = {
        let mut terms = terms();
        terms.extra.insert_text("paymentFlow", "escrow");
        terms
    };
    let refusal = |offers: Vec<Offer>| shop.seller.charge(offers).map(|_| ()).unwrap_err();
    assert_eq!(refusal(vec![]), SellerError::NoOffer);
    assert_eq!(refusal(vec![offer(terms()), offer(escrow)]), SellerError::Flow { entry: 1 });
    assert_eq!(refusal((0..33).map(|_| offer(terms())).collect()), SellerError::TooManyOffers { limit: 32 });
    let mut long = terms();
    long.extra.insert_text("note", &"x".repeat(8000));
    assert!(matches!(refusal(vec![offer(long)]), SellerError::HeaderTooLarge { .. }));
    let script: Arc<Script> = Arc::default();
    assert_eq!(Seller::new("api.example.com", script).map(|_| ()).unwrap_err(), SellerError::Origin);
    let path = format!("/{}", "x".repeat(2000));
    let service = shop.sells(vec![offer(terms())]);
    assert_eq!(call(&service, get(&path, &[])).await.0, StatusCode::URI_TOO_LONG);
}

#[tokio::test]
async fn browsers_of_listed_origins_may_pay() {
    let shop = shop();
    let cors = CorsLayer::new([HeaderValue::from_static("https://shop.example")]);
    let service = cors.layer(shop.sells(vec![offer(terms())])).boxed_clone();
    let preflight = |origin: &'static str| {
        let mut request = get(
            "/weather",
            &[
                (&http::header::ORIGIN, HeaderValue::from_static(origin)),
                (&http::header::ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("GET")),
            ],
        );
        *request.method_mut() = Method::OPTIONS;
        request
    };
    let (status, headers, _) = call(&service, preflight("https://shop.example")).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(headers["access-control-allow-origin"], "https://shop.example");
    let allowed = headers["access-control-allow-headers"].to_str().unwrap();
    for name in ["payment-signature", "x-payment", "sign-in-with-x", "access-control-expose-headers", "content-type"] {
        assert!(allowed.contains(name), "{name}");
    }
    let (_, headers, _) = call(&service, preflight("https://evil.example")).await;
    assert!(!headers.contains_key("access-control-allow-origin"));
    let asked = get("/weather", &[(&http::header::ORIGIN, HeaderValue::from_static("https://shop.example"))]);
    let (status, headers, _) = call(&service, asked).await;
    assert_eq!(status, StatusCode::PAYMENT_REQUIRED);
    assert_eq!(
        headers["access-control-expose-headers"],
        "payment-required, payment-response, x-payment-response, x-payment-token"
    );
    assert_eq!(shop.handler.calls(), 0);
}

#[tokio::test]
async fn grants_in_memory_are_bounded_and_fail_closed() {
    use x402_http::server::Claimed;
    use x402_types::{AuthorizationKind, PaymentKey};
    let key = |n: u8| PaymentKey::new(AuthorizationKind::Eip3009, terms().network, &[1], &[2], &[n]);
    let grants = MemoryGrants::new(2, std::time::Duration::from_secs(3600));
    let Claimed::Open(first) = grants.claim(&key(1), "a").await.unwrap() else { panic!() };
    assert_eq!(grants.claim(&key(1), "a").await.unwrap(), Claimed::Taken, "held");
    assert!(matches!(grants.claim(&key(2), "a").await.unwrap(), Claimed::Open(_)));
    assert!(matches!(grants.claim(&key(3), "a").await, Err(Fault::Store { .. })));
    grants.pend(&first).await.unwrap();
    grants.release(&first);
    assert!(grants.grant(&first).await.is_err(), "let go of");
    assert_eq!(grants.claim(&key(1), "b").await.unwrap(), Claimed::Taken, "another request's");
    let Claimed::Pending(again) = grants.claim(&key(1), "a").await.unwrap() else { panic!() };
    assert!(grants.free(&first).await.is_err(), "an old ticket");
    grants.grant(&again).await.unwrap();
    grants.release(&again);
    assert_eq!(grants.claim(&key(1), "a").await.unwrap(), Claimed::Taken, "granted");
}

#[tokio::test]
async fn grants_in_memory_are_forgotten_when_their_time_is_over() {
    use x402_http::server::Claimed;
    use x402_types::{AuthorizationKind, PaymentKey};
    let key = |n: u8| PaymentKey::new(AuthorizationKind::Eip3009, terms().network, &[1], &[2], &[n]);
    let grants = MemoryGrants::new(2, std::time::Duration::ZERO);
    let Claimed::Open(held) = grants.claim(&key(1), "a").await.unwrap() else { panic!() };
    grants.pend(&held).await.unwrap();
    // What a request works on stays.
    assert_eq!(grants.claim(&key(1), "a").await.unwrap(), Claimed::Taken);
    grants.grant(&held).await.unwrap();
    while grants.look(&key(1)).await.unwrap().is_some() {
        let Claimed::Open(other) = grants.claim(&key(2), "b").await.unwrap() else { panic!() };
        grants.release(&other);
    }
    let Claimed::Open(again) = grants.claim(&key(1), "a").await.unwrap() else { panic!() };
    grants.free(&again).await.unwrap();
    assert_eq!(grants.look(&key(1)).await.unwrap(), None);
}

#[test]
fn seams_are_object_safe() {
    fn object<T: ?Sized>() {}
    object::<dyn Grants>();
    object::<dyn x402_http::server::Price>();
    object::<dyn x402_http::client::Budget>();
    object::<dyn x402_http::client::Clock>();
    object::<dyn x402_http::remote::Authorize>();
}
