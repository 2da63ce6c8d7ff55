//! The client, in memory: what it pays, what it refuses, and that it pays once.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod buyer;
mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use buyer::*;
use bytes::Bytes;
use common::{Handler, Script, Service, TRANSACTION, offer, terms, upfront};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use tower::{Layer, ServiceExt};
use x402_codec::header as names;
use x402_http::Body;
use x402_http::client::{ClientError, MemoryBudget, NotPayable, PayError, PayLayer, Receipt, SpendLimits};
use x402_http::server::Seller;
use x402_types::{PaymentRequired, SchemeName};

#[tokio::test]
async fn our_client_pays_our_server() {
    let script = Arc::new(Script::default());
    let handler = Handler::default();
    let seller = Seller::new("https://api.example.com", script.clone()).unwrap();
    let server: Service<Body<Full<Bytes>>> =
        seller.charge([offer(terms())]).unwrap().layer(handler.service()).boxed_clone();
    let purse = purse();
    let client = PayLayer::new(purse.payer.clone()).layer(server);
    let request = Request::post(URL).body(Full::<Bytes>::from("question")).unwrap();
    let response = client.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let receipt = response.extensions().get::<Receipt>().unwrap();
    assert_eq!(receipt.0.transaction, TRANSACTION);
    assert_eq!(handler.bodies.lock().unwrap().as_slice(), ["question"], "the body is sent again");
    assert_eq!((purse.signed(), purse.used().as_str()), (1, "10000"));
}

#[tokio::test]
async fn a_v1_body_is_paid_in_v1() {
    let v1 = PaymentRequired::V2(serde_json::from_value(document(&[terms()])).unwrap()).to_v1();
    let mut first = status(402);
    *first.body_mut() = Full::from(serde_json::to_vec(&v1).unwrap());
    let last = with(
        status(200),
        &names::X_PAYMENT_RESPONSE,
        common::header(&serde_json::json!({"success": true, "transaction": TRANSACTION, "network": "base-sepolia"})),
    );
    let wire = Wire::default().says([first, last]);
    let purse = purse();
    let response = ask(&purse, &wire).await.unwrap();
    assert!(response.extensions().get::<Receipt>().unwrap().0.success);
    let sent = common::decoded(wire.requests.lock().unwrap()[1].headers(), &names::X_PAYMENT);
    assert_eq!((&sent["x402Version"], &sent["network"]), (&1.into(), &"base-sepolia".into()));
}

#[tokio::test]
async fn the_header_decides() {
    let mut first = asks(&[terms()]);
    *first.body_mut() = Full::from(r#"{"x402Version":1,"error":"","accepts":[]}"#);
    let wire = Wire::default().says([first, paid()]);
    ask(&purse(), &wire).await.unwrap();
    assert_eq!(payment_of(&wire, 1)["accepted"], serde_json::to_value(terms().to_v2()).unwrap());

    let broken = with(status(402), &names::PAYMENT_REQUIRED, HeaderValue::from_static("%%%"));
    let error = ask(&purse(), &Wire::default().says([broken])).await.unwrap_err();
    assert!(matches!(error, ClientError::Pay(PayError::Terms(_))), "{error:?}");
    let error = ask(&purse(), &Wire::default().says([status(402)])).await.unwrap_err();
    assert_eq!(error, ClientError::Pay(PayError::NoTerms));
}

#[tokio::test]
async fn the_first_entry_within_the_limits_and_authorization_before_upfront() {
    let cheap = terms().with_amount(1.into());
    let dear = terms().with_amount(1_000_001.into());
    let other_scheme = terms().with_scheme(SchemeName::UPTO);
    let wire = Wire::default().says([asks(&[upfront(cheap), dear, other_scheme, terms()]), paid()]);
    ask(&purse(), &wire).await.unwrap();
    assert_eq!(payment_of(&wire, 1)["accepted"]["amount"], "10000");
    assert!(payment_of(&wire, 1)["accepted"]["extra"].get("paymentFlow").is_none());
    // Where nothing else is offered, upfront will do.
    let wire = Wire::default().says([asks(&[upfront(terms())]), paid()]);
    ask(&purse(), &wire).await.unwrap();
    assert_eq!(payment_of(&wire, 1)["accepted"]["extra"]["paymentFlow"], "upfront");
}

#[tokio::test]
async fn what_is_not_paid() {
    let mut escrow = terms();
    escrow.extra.insert_text("paymentFlow", "escrow");
    let unknown = terms().with_asset("0x0000000000000000000000000000000000000001");
    let dear = terms().with_amount(1_000_001.into());
    let too_much_today = terms().with_amount(50_001.into());
    let no_scheme = terms().with_scheme(SchemeName::UPTO);
    let entries = [escrow, unknown, dear, too_much_today, no_scheme];
    let purse = purse();
    let error = ask(&purse, &Wire::default().says([asks(&entries)])).await.unwrap_err();
    let ClientError::Pay(PayError::NothingPayable(reasons)) = error else { panic!("{error:?}") };
    assert_eq!(reasons[0], NotPayable::UnknownFlow);
    assert_eq!(reasons[1], NotPayable::UnknownAsset);
    assert_eq!(reasons[2], NotPayable::OverCap { amount: 1_000_001.into(), cap: 1_000_000.into() });
    assert!(matches!(&reasons[3], NotPayable::OverBudget(over) if over.left == 50_000.into()), "{:?}", reasons[3]);
    assert_eq!(reasons[4], NotPayable::NoScheme);
    assert_eq!((purse.signed(), purse.used().as_str()), (0, "0"));
}

#[tokio::test]
async fn what_is_listed_is_paid() {
    let mut entry = terms().with_asset("0x00000000000000000000000000000000000000aA");
    entry.extra.insert_text("paymentFlow", "escrow");
    let mut purse = purse_of(MemoryBudget::default());
    let limits = SpendLimits::default().with_flow("escrow").with_asset(
        terms().network,
        "0x00000000000000000000000000000000000000Aa",
        10_000.into(),
    );
    purse.payer = purse.payer.with_spending(limits);
    ask(&purse, &Wire::default().says([asks(&[entry.clone()]), paid()])).await.unwrap();
    entry.amount = 10_001.into();
    assert!(ask(&purse, &Wire::default().says([asks(&[entry])])).await.is_err());
}

#[tokio::test]
async fn a_second_402_is_an_answer() {
    let purse = purse();
    let wire = Wire::default().says([asks(&[terms()]), asks(&[terms().with_amount(20_000.into())])]);
    let response = ask(&purse, &wire).await.unwrap();
    assert_eq!(response.status(), StatusCode::PAYMENT_REQUIRED);
    assert_eq!((purse.signed(), wire.requests.lock().unwrap().len()), (1, 2));
    assert_eq!(purse.used(), "0", "refused before anything was settled");

    let wire = Wire::default().says([asks(&[terms()]), refused("insufficient_funds")]);
    let response = ask(&purse, &wire).await.unwrap();
    assert!(!response.extensions().get::<Receipt>().unwrap().0.success);
    assert_eq!(purse.used(), "0");
}

#[tokio::test]
async fn while_pending_the_same_payment_is_sent_again() {
    let purse = purse();
    let wire = Wire::default().says([asks(&[terms()]), pending(), pending(), paid()]);
    let response = ask(&purse, &wire).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!((purse.signed(), purse.used().as_str()), (1, "10000"));
    assert_eq!(payment_of(&wire, 1), payment_of(&wire, 3));
    assert_eq!(*purse.clock.slept.lock().unwrap(), [Duration::from_secs(3); 2]);
}

#[tokio::test]
async fn a_payment_left_pending_is_kept_for_the_same_request() {
    let mut purse = purse();
    purse.payer = purse.payer.with_resends(1);
    let wire = Wire::default().says([asks(&[terms()]), pending(), pending()]);
    let response = ask(&purse, &wire).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(purse.used(), "10000", "kept while unknown");
    let again = Wire::default().says([asks(&[terms()]), paid()]);
    ask(&purse, &again).await.unwrap();
    assert_eq!(payment_of(&wire, 1), payment_of(&again, 1));
    assert_eq!((purse.signed(), purse.used().as_str()), (1, "10000"));
    // Decided: the next time is another payment.
    ask(&purse, &Wire::default().says([asks(&[terms()]), paid()])).await.unwrap();
    assert_eq!((purse.signed(), purse.used().as_str()), (2, "20000"));
}

#[tokio::test]
async fn a_lost_answer_does_not_pay_twice() {
    let purse = purse();
    let wire = Wire::default().says([asks(&[terms()])]);
    wire.answers.lock().unwrap().push_back(Err("connection reset"));
    wire.answers.lock().unwrap().push_back(Ok(refused("invalid_exact_evm_nonce_already_used")));
    let response = ask(&purse, &wire).await.unwrap();
    assert_eq!(response.status(), StatusCode::PAYMENT_REQUIRED);
    assert_eq!(payment_of(&wire, 1), payment_of(&wire, 2));
    assert_eq!((purse.signed(), purse.used().as_str()), (1, "10000"), "the first sending may have been settled");
    // Made once more, the request shows the same payment: while that may be settled, no other is signed.
    let again = Wire::default().says([asks(&[terms()])]);
    again.answers.lock().unwrap().extend((0..6).map(|_| Err("connection reset")));
    assert_eq!(ask(&purse, &again).await.unwrap_err(), ClientError::Unknown(Broken("connection reset")));
    assert_eq!(payment_of(&wire, 1), payment_of(&again, 1));
    assert_eq!((purse.signed(), purse.used().as_str()), (1, "10000"));
    // Its time is over: it can no longer be settled, and may have been in time.
    purse.clock.passed.fetch_add(80_000, std::sync::atomic::Ordering::SeqCst);
    let error = ask(&purse, &Wire::default().says([asks(&[terms()])])).await.unwrap_err();
    assert!(matches!(error, ClientError::Pay(PayError::EarlierUnknown(_))), "{error:?}");
    assert_eq!(purse.signed(), 1);
}

#[tokio::test]
async fn a_request_dropped_while_it_pays_is_not_paid_twice() {
    use std::future::Future;
    use std::task::{Context, Waker};
    let purse = purse();
    let wire = Wire::default().says([asks(&[terms()])]);
    let stuck = {
        let wire = wire.service();
        tower::service_fn(move |request: Request<Full<Bytes>>| {
            let wire = wire.clone();
            async move {
                if request.headers().contains_key(&names::PAYMENT_SIGNATURE) {
                    std::future::pending::<()>().await;
                }
                wire.oneshot(request).await
            }
        })
    };
    {
        let request = Request::post(URL).body(Full::<Bytes>::from("question")).unwrap();
        let mut future = Box::pin(PayLayer::new(purse.payer.clone()).layer(stuck).oneshot(request));
        assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    assert_eq!((purse.signed(), purse.used().as_str()), (1, "10000"));
    ask(&purse, &Wire::default().says([asks(&[terms()]), paid()])).await.unwrap();
    assert_eq!((purse.signed(), purse.used().as_str()), (1, "10000"));
}

#[tokio::test]
async fn a_call_dropped_at_any_point_is_signed_for_once_and_served_once() {
    use std::future::Future;
    use std::task::{Context, Poll, Waker};
    for flow in [terms(), upfront(terms())] {
        for polls in 1.. {
            let script = Arc::new(Script::default());
            let handler = Handler::default();
            let seller = Seller::new("https://api.example.com", script.clone()).unwrap();
            let server: Service<Body<Full<Bytes>>> =
                seller.charge([offer(flow.clone())]).unwrap().layer(handler.service()).boxed_clone();
            let purse = purse();
            let client = PayLayer::new(purse.payer.clone()).layer(server);
            let request = || Request::post(URL).body(Full::<Bytes>::from("question")).unwrap();
            let mut first = Box::pin(client.clone().oneshot(request()));
            let mut cx = Context::from_waker(Waker::noop());
            let done = (0..polls).any(|_| matches!(first.as_mut().poll(&mut cx), Poll::Ready(Ok(_))));
            drop(first);
            if done {
                break;
            }
            let response = client.oneshot(request()).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK, "dropped after {polls} polls");
            assert_eq!((purse.signed(), purse.used().as_str()), (1, "10000"), "dropped after {polls} polls");
            assert!(polls < 100);
        }
    }
}

#[tokio::test]
async fn parallel_requests_cannot_overdraw() {
    let purse = purse();
    let price = terms().with_amount(20_000.into());
    let wires: Vec<_> = (0..5).map(|_| Wire::default().says([asks(std::slice::from_ref(&price)), paid()])).collect();
    let requests = wires.iter().enumerate().map(|(i, wire)| {
        let request = Request::get(format!("{URL}?{i}")).body(Full::default()).unwrap();
        ask_with(&purse, wire, request)
    });
    let answers = futures_util::future::join_all(requests).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 2);
    assert_eq!(purse.used(), "40000");
    // A new day.
    purse.clock.passed.fetch_add(86_400, Ordering::SeqCst);
    assert!(ask(&purse, &Wire::default().says([asks(&[price]), paid()])).await.is_ok());
}

fn moved(to: &'static str, code: u16) -> Response<Full<Bytes>> {
    with(status(code), &http::header::LOCATION, HeaderValue::from_static(to))
}

#[tokio::test]
async fn another_origin_is_not_paid() {
    for to in ["https://evil.example/weather", "http://api.example.com/weather", "https://api.example.com:444/weather"]
    {
        let purse = purse();
        let wire = Wire::default().says([moved(to, 307), asks(&[terms()])]);
        let mut request = Request::post(URL).body(Full::from("question")).unwrap();
        request.headers_mut().insert("authorization", HeaderValue::from_static("Bearer secret"));
        let error = ask_with(&purse, &wire, request).await.unwrap_err();
        assert_eq!(error, ClientError::Pay(PayError::Redirected));
        assert_eq!(purse.signed(), 0);
        let requests = wire.requests.lock().unwrap();
        assert!(!requests[1].headers().contains_key("authorization"), "{to}");
    }
}

#[tokio::test]
async fn the_same_origin_is_paid_where_it_moved_to() {
    let wire = Wire::default().says([moved("/v2/weather", 308), asks(&[terms()]), paid()]);
    ask(&purse(), &wire).await.unwrap();
    {
        let requests = wire.requests.lock().unwrap();
        assert_eq!(requests[2].uri(), "https://api.example.com/v2/weather");
        assert_eq!((requests[2].method(), requests[2].body().as_ref()), (&Method::POST, &b"question"[..]));
    }
    // A paid request is not carried on: its answer is the redirect.
    let wire = Wire::default().says([asks(&[terms()]), moved("https://evil.example/", 307)]);
    assert_eq!(ask(&purse(), &wire).await.unwrap().status(), StatusCode::TEMPORARY_REDIRECT);
    let wire = Wire::default().says([moved("/a", 303), asks(&[terms()]), paid()]);
    ask(&purse(), &wire).await.unwrap();
    let requests = wire.requests.lock().unwrap();
    assert_eq!((requests[2].method(), requests[2].body().len()), (&Method::GET, 0));
}

#[tokio::test]
async fn redirects_end() {
    let wire = Wire::default().says((0..11).map(|_| moved("/again", 302)));
    assert_eq!(ask(&purse(), &wire).await.unwrap_err(), ClientError::Pay(PayError::BadRedirect));
    let wire = Wire::default().says([moved("ftp://api.example.com/", 302)]);
    assert_eq!(ask(&purse(), &wire).await.unwrap_err(), ClientError::Pay(PayError::BadRedirect));
}

#[tokio::test]
async fn what_carries_a_payment_is_passed_on() {
    let purse = purse();
    let wire = Wire::default().says([asks(&[terms()])]);
    let mut request = Request::get(URL).body(Full::default()).unwrap();
    request.headers_mut().insert(&names::PAYMENT_SIGNATURE, HeaderValue::from_static("e30="));
    assert_eq!(ask_with(&purse, &wire, request).await.unwrap().status(), StatusCode::PAYMENT_REQUIRED);
    assert_eq!(purse.signed(), 0);
}

#[tokio::test]
async fn a_body_that_cannot_be_sent_again_is_not_sent_at_all() {
    let mut purse = purse();
    purse.payer = purse.payer.with_longest_body(7);
    let wire = Wire::default();
    assert_eq!(ask(&purse, &wire).await.unwrap_err(), ClientError::Pay(PayError::Body { limit: 7 }));
    assert!(wire.requests.lock().unwrap().is_empty());
}

/// A body that exists once, as a stream, is read before the request is first sent: the repeat carries it whole. One that
/// breaks off is not sent at all, and nothing is paid for a part of it.
#[tokio::test]
async fn a_streamed_body_is_paid_for_whole_or_not_at_all() {
    use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
    type Frames = Vec<Result<http_body::Frame<Bytes>, &'static str>>;
    let streamed = |frames: Frames| -> UnsyncBoxBody<Bytes, &'static str> {
        StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync()
    };
    let frame = |text: &'static str| Ok(http_body::Frame::data(Bytes::from_static(text.as_bytes())));
    for (frames, whole) in
        [(vec![frame("hello "), frame("world")], true), (vec![frame("hello "), Err("the source broke off")], false)]
    {
        let purse = purse();
        let wire = Wire::default().says([asks(&[terms()]), paid()]);
        let request = Request::post(URL).body(streamed(frames)).unwrap();
        let answer = PayLayer::new(purse.payer.clone()).layer(wire.service()).oneshot(request).await;
        let sent: Vec<_> = wire.requests.lock().unwrap().iter().map(|request| request.body().clone()).collect();
        if whole {
            assert_eq!(answer.unwrap().status(), StatusCode::OK);
            assert_eq!((sent, purse.signed()), (vec![Bytes::from_static(b"hello world"); 2], 1));
        } else {
            assert!(matches!(answer.unwrap_err(), ClientError::Pay(PayError::Body { .. })));
            assert_eq!((sent, purse.signed(), purse.used().as_str()), (vec![], 0, "0"));
        }
    }
}

#[tokio::test]
async fn extensions_and_unknown_members_are_echoed() {
    let mut json = document(&[terms()]);
    json["extensions"] = serde_json::json!({"bazaar": {"info": {"a": 1}, "schema": {}}});
    json["accepts"][0]["futureMember"] = "kept".into();
    json["accepts"].as_array_mut().unwrap().insert(0, serde_json::json!({"scheme": "exact", "network": "not caip 2"}));
    let wire = Wire::default().says([with(status(402), &names::PAYMENT_REQUIRED, common::header(&json)), paid()]);
    ask(&purse(), &wire).await.unwrap();
    let sent = payment_of(&wire, 1);
    assert_eq!(sent["accepted"], json["accepts"][1]);
    assert_eq!(sent["extensions"], json["extensions"]);
    assert_eq!(sent["resource"], json["resource"]);
}
