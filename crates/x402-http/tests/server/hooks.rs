//! The hooks of a seller: what they may refuse, what they observe, and that none of them loses a payment.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::StatusCode;
use http_body_util::Full;
use tower::{Layer, ServiceExt};
use x402_http::server::{GrantState, Incident, IncidentStep};
use x402_types::hooks::{HookedPayment, Hooks, PaymentEvent};
use x402_types::{ErrorReason, Fault, Refusal, Rejection};

use crate::common::{PAYER, TRANSACTION, call, decoded, offer, paying, payment_json, terms, upfront};
use crate::stage::{Paywalled, Shop, pending, shop};

type Seen = Arc<Mutex<Vec<String>>>;

/// Writes each event in one line.
fn watching(hooks: Hooks) -> (Hooks, Seen) {
    let seen = Seen::default();
    let events = Arc::clone(&seen);
    let hooks = hooks.with_observer(move |payment, event| {
        let line = match event {
            PaymentEvent::Verified { payer } => format!("verified {}", payer.unwrap_or("?")),
            PaymentEvent::NotVerified { refusal: Refusal::Rejection(why) } => format!("not verified {}", why.reason),
            PaymentEvent::NotVerified { .. } => "not verified".into(),
            PaymentEvent::Settled { receipt } => format!("settled {}", receipt.transaction),
            PaymentEvent::NotSettled { receipt } => format!("not settled {:?}", receipt.error_reason),
            PaymentEvent::Unknown { .. } => "unknown".into(),
            PaymentEvent::Canceled { why, settled } => format!("canceled {why:?} {settled}"),
            other => format!("{other:?}"),
        };
        assert_eq!(payment.resource.as_ref().unwrap().url, "https://api.example.com/weather");
        events.lock().unwrap().push(line);
    });
    (hooks, seen)
}

fn sells(shop: &Shop, hooks: Hooks) -> Paywalled {
    sells_with(shop, hooks, |_| ())
}

fn sells_with(shop: &Shop, hooks: Hooks, on: impl Fn(IncidentStep) + Send + Sync + 'static) -> Paywalled {
    let seller =
        shop.seller.clone().with_hooks(hooks).with_incident_hook(move |incident: &Incident<'_>| on(incident.step));
    seller.charge([offer(terms())]).unwrap().layer(shop.handler.service()).boxed_clone()
}

async fn pay(service: &Paywalled, nonce: u8) -> StatusCode {
    call(service, paying("/weather", &payment_json(&terms(), nonce))).await.0
}

fn lines(seen: &Seen) -> Vec<String> {
    std::mem::take(&mut seen.lock().unwrap())
}

fn no(_: HookedPayment) -> std::future::Ready<Result<(), Refusal>> {
    let why = Rejection::new(ErrorReason::INSUFFICIENT_FUNDS).because("the account is closed");
    std::future::ready(Err(why.into()))
}

#[tokio::test]
async fn observers_learn_every_end() {
    let shop = shop();
    let (hooks, seen) = watching(Hooks::default());
    let service = sells(&shop, hooks);
    let verified = format!("verified {PAYER}");
    let settled = format!("settled {TRANSACTION}");
    assert_eq!(pay(&service, 1).await, StatusCode::OK);
    assert_eq!(lines(&seen), [verified.clone(), settled.clone()]);
    shop.script.verify_says(r#"{"isValid":false,"invalidReason":"insufficient_funds"}"#);
    assert_eq!(pay(&service, 2).await, StatusCode::PAYMENT_REQUIRED);
    assert_eq!(lines(&seen), ["not verified insufficient_funds"]);
    shop.script.verify_is_unreachable();
    assert_eq!(pay(&service, 2).await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(lines(&seen), ["not verified"]);
    shop.script.settle_says(
        r#"{"success":false,"errorReason":"insufficient_funds","transaction":"","network":"eip155:84532"}"#,
    );
    assert_eq!(pay(&service, 2).await, StatusCode::PAYMENT_REQUIRED);
    assert_eq!(lines(&seen), [verified.as_str(), r#"not settled Some("insufficient_funds")"#]);
    // Unknown, and finished by the same request: it is not verified again.
    shop.script.settle_says(&pending());
    assert_eq!(pay(&service, 3).await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(lines(&seen), [verified.as_str(), "unknown"]);
    assert_eq!(pay(&service, 3).await, StatusCode::OK);
    assert_eq!(lines(&seen), std::slice::from_ref(&settled));
    shop.handler.statuses.lock().unwrap().push_back(StatusCode::BAD_GATEWAY);
    assert_eq!(pay(&service, 4).await, StatusCode::BAD_GATEWAY);
    assert_eq!(lines(&seen), [verified.as_str(), "canceled HandlerFailed false"]);
}

/// A request that is dropped while the handler works is canceled; one that is dropped while its settlement is requested is
/// unknown, and the same request finds out.
#[tokio::test]
async fn a_dropped_request_is_canceled_or_unknown() {
    let shop = shop();
    let (hooks, seen) = watching(Hooks::default());
    let seller = shop.seller.clone().with_hooks(hooks);
    let forever = tower::service_fn(|_: http::Request<Full<Bytes>>| {
        std::future::pending::<Result<http::Response<Full<Bytes>>, std::convert::Infallible>>()
    });
    let works = seller.charge([offer(terms())]).unwrap().layer(forever).boxed_clone();
    let settles = seller.charge([offer(terms())]).unwrap().layer(shop.handler.service()).boxed_clone();
    let verified = format!("verified {PAYER}");
    for (service, end) in [(&works, "canceled Dropped false"), (&settles, "unknown")] {
        let json = payment_json(&terms(), 1);
        let mut request = Box::pin(call(service, paying("/weather", &json)));
        // The facilitator's answer to each of both calls takes one more poll.
        while !(end == "unknown" && shop.script.log().ends_with("settle")) {
            assert!(futures_util::poll!(&mut request).is_pending());
            if end != "unknown" && seen.lock().unwrap().len() == 1 {
                break;
            }
        }
        drop(request);
        assert_eq!(lines(&seen), [verified.as_str(), end]);
    }
    assert_eq!(pay(&settles, 1).await, StatusCode::OK);
    assert_eq!(lines(&seen), std::slice::from_ref(&format!("settled {TRANSACTION}")));
}

#[tokio::test]
async fn a_hook_refuses_before_anybody_is_asked() {
    let shop = shop();
    let (hooks, seen) = watching(Hooks::default().with_before_verify(no));
    let service = sells(&shop, hooks);
    let (status, headers, _) = call(&service, paying("/weather", &payment_json(&terms(), 1))).await;
    assert_eq!(status, StatusCode::PAYMENT_REQUIRED);
    let asked = decoded(&headers, &x402_codec::header::PAYMENT_REQUIRED);
    assert_eq!(asked["error"], "insufficient_funds");
    assert_eq!((shop.script.log(), shop.handler.calls()), (String::new(), 0));
    assert_eq!(lines(&seen), ["not verified insufficient_funds"]);
    assert_eq!(shop.state(&payment_json(&terms(), 1)).await, None);
}

#[tokio::test]
async fn a_refused_settlement_frees_the_payment_and_withholds_the_answer() {
    let shop = shop();
    let (hooks, seen) = watching(Hooks::default().with_before_settle(no));
    let service = sells(&shop, hooks);
    let (status, _, body) = call(&service, paying("/weather", &payment_json(&terms(), 1))).await;
    assert_eq!(status, StatusCode::PAYMENT_REQUIRED);
    assert!(!body.starts_with(b"sunny"), "{body:?}");
    assert_eq!(shop.script.log(), "verify, handler");
    assert_eq!(lines(&seen), [format!("verified {PAYER}").as_str(), "canceled Refused false"]);
    assert_eq!(shop.state(&payment_json(&terms(), 1)).await, None, "it is free again");
    assert_eq!(pay(&sells(&shop, Hooks::default()), 1).await, StatusCode::OK);
}

/// What began is finished, although the hook would refuse it by now.
#[tokio::test]
async fn a_hook_cannot_refuse_what_began() {
    let shop = shop();
    shop.script.settle_says(&pending());
    assert_eq!(pay(&sells(&shop, Hooks::default()), 1).await, StatusCode::SERVICE_UNAVAILABLE);
    let service = sells(&shop, Hooks::default().with_before_verify(no).with_before_settle(no));
    assert_eq!(pay(&service, 1).await, StatusCode::OK);
    assert_eq!(shop.state(&payment_json(&terms(), 1)).await, Some(GrantState::Granted));
}

#[tokio::test]
async fn a_panic_or_a_fault_in_a_hook_loses_no_payment() {
    let shop = shop();
    let steps = Arc::new(Mutex::new(Vec::new()));
    let on = |steps: &Arc<Mutex<Vec<IncidentStep>>>| {
        let steps = Arc::clone(steps);
        move |step| {
            if step != IncidentStep::Supported {
                steps.lock().unwrap().push(step);
            }
        }
    };
    let panics = |_: HookedPayment| async { panic!("a bug of the application") };
    let at_once = |_: HookedPayment| -> std::future::Ready<Result<(), Refusal>> { panic!("a bug of the application") };
    let fails = |_: HookedPayment| async { Err(Fault::store("no connection").into()) };
    for (hooks, log) in [
        (Hooks::default().with_before_verify(panics), ""),
        (Hooks::default().with_before_verify(at_once), ""),
        (Hooks::default().with_before_verify(fails), ""),
        (Hooks::default().with_before_settle(panics), "verify, handler"),
        (Hooks::default().with_before_settle(fails), "verify, handler"),
    ] {
        shop.script.log.lock().unwrap().clear();
        assert_eq!(pay(&sells_with(&shop, hooks, on(&steps)), 1).await, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(shop.script.log(), log);
        assert_eq!(shop.state(&payment_json(&terms(), 1)).await, None);
    }
    assert_eq!(*steps.lock().unwrap(), [IncidentStep::Hook; 5]);
    // An observer that panics changes nothing, and those behind it are called.
    shop.script.log.lock().unwrap().clear();
    let (hooks, seen) = watching(Hooks::default().with_observer(|_, _| panic!("a bug of the application")));
    assert_eq!(pay(&sells(&shop, hooks), 1).await, StatusCode::OK);
    assert_eq!((shop.script.log().as_str(), lines(&seen).len()), ("verify, handler, settle", 2));
}

#[tokio::test]
async fn a_payment_settled_before_the_work_says_so() {
    let shop = shop();
    let (hooks, seen) = watching(Hooks::default());
    let terms = upfront(terms());
    let seller = shop.seller.clone().with_hooks(hooks);
    let service = seller.charge([offer(terms.clone())]).unwrap().layer(shop.handler.service()).boxed_clone();
    shop.handler.statuses.lock().unwrap().push_back(StatusCode::INTERNAL_SERVER_ERROR);
    let json = payment_json(&terms, 1);
    assert_eq!(call(&service, paying("/weather", &json)).await.0, StatusCode::INTERNAL_SERVER_ERROR);
    let settled = format!("settled {TRANSACTION}");
    assert_eq!(lines(&seen), [settled.as_str(), "canceled HandlerFailed true"]);
    shop.script.keeps.store(true, Ordering::SeqCst);
    assert_eq!(call(&service, paying("/weather", &json)).await.0, StatusCode::OK);
    assert_eq!(lines(&seen), [settled]);
}
