//! One payment, one grant: failures, races, requests dropped at every point; grants in memory.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use tower::ServiceExt;
use x402_codec::header as names;
use x402_http::server::{GrantState, Grants, MemoryGrants};
use x402_types::Fault;

use crate::common::{PAYER, call, decoded, offer, paying, payment_json, terms, upfront};
use crate::stage::{Paywalled, replayed, shop};

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
        grants.pend(&other).await.unwrap();
        grants.free(&other).await.unwrap();
    }
    let Claimed::Open(again) = grants.claim(&key(1), "a").await.unwrap() else { panic!() };
    grants.free(&again).await.unwrap();
    assert_eq!(grants.look(&key(1)).await.unwrap(), None);
}
