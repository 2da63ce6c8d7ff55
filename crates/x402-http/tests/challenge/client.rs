//! The client: what it pays and what not, how often it asks, and the entitlements that it keeps.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, COOKIE, LOCATION};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::{Layer, ServiceExt};
use x402_challenge::Allowance;
use x402_http::client::{ChallengeReceipt, ClientError, NotPayable, PayError, PayLayer, Payer};
use x402_http::server::challenge::{Ask, Entitle};
use x402_types::challenge::Challenge;

use crate::purse::{Broken, Said, URL, ask, json_answer, purse, purse_at, refusing, status};
use crate::shop::{offer, shop};

fn not_payable(said: Said) -> NotPayable {
    match said {
        Err(ClientError::Pay(PayError::NothingPayable(mut reasons))) if reasons.len() == 1 => reasons.remove(0),
        other => panic!("{:?}", other.map(|response| response.status())),
    }
}

#[tokio::test]
async fn a_challenge_is_paid_within_two_requests() {
    let purse = purse(ask());
    let response = purse.get(URL).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let ChallengeReceipt(receipt) = response.extensions().get::<ChallengeReceipt>().unwrap();
    assert_eq!((receipt.ok, receipt.resource.as_str()), (true, "urn:res:abc123"));
    let sent = purse.wire.payments();
    assert_eq!((sent.len(), sent[0].clone()), (2, None));
    let paid = sent[1].as_ref().unwrap();
    assert_eq!((&receipt.challenge_id, paid.paid_amount.to_string().as_str()), (&paid.challenge_id, "1000"));
    assert_eq!(purse.used(), "1000");
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "sunny");
}

#[tokio::test]
async fn an_entitlement_is_kept_and_presented_until_it_is_over() {
    for entitle in [Entitle::cookie(60), Entitle::bearer(60)] {
        let purse = purse(ask().with_entitlement(entitle));
        assert_eq!(purse.get(URL).await.unwrap().status(), StatusCode::OK);
        assert_eq!(purse.wire.counts(), (2, 1));
        for _ in 0..3 {
            assert_eq!(purse.get(&format!("{URL}?again")).await.unwrap().status(), StatusCode::OK);
            assert_eq!(purse.wire.counts(), (1, 0), "{entitle:?}");
        }
        purse.shop.clock.pass(60);
        assert_eq!(purse.get(URL).await.unwrap().status(), StatusCode::OK);
        assert_eq!(purse.wire.counts(), (2, 1), "it is over, and not presented");
    }
}

#[tokio::test]
async fn an_entitlement_that_is_used_up_is_paid_again() {
    let purse = purse(ask().with_entitlement(Entitle::bearer(60).with_allowance(Allowance::Once)));
    purse.get(URL).await.unwrap();
    purse.get(URL).await.unwrap();
    assert_eq!(purse.wire.counts(), (3, 1));
    assert_eq!(purse.get(URL).await.unwrap().status(), StatusCode::OK);
    assert_eq!(purse.wire.counts(), (2, 1), "presented in vain, then paid");
    assert_eq!(purse.used(), "2000");
}

#[tokio::test]
async fn an_entitlement_is_known_at_another_path_by_its_resource() {
    let purse = purse(ask().with_entitlement(Entitle::bearer(60).with_allowance(Allowance::Count(2))));
    purse.get(URL).await.unwrap();
    purse.wire.payments();
    assert_eq!(purse.get("https://api.example.com/forecast").await.unwrap().status(), StatusCode::OK);
    assert_eq!(purse.wire.counts(), (2, 0), "asked, and presented for what is asked");
    purse.get(URL).await.unwrap();
    purse.wire.payments();
    assert_eq!(purse.get("https://api.example.com/forecast").await.unwrap().status(), StatusCode::OK);
    assert_eq!(purse.wire.counts(), (3, 1), "asked, presented in vain, paid");
}

#[tokio::test]
async fn the_callers_own_credentials_stay() {
    let bearer = purse(ask().with_entitlement(Entitle::bearer(60)));
    bearer.get(URL).await.unwrap();
    let own = Request::get(URL).header(AUTHORIZATION, "Basic YTpi").body(Full::default()).unwrap();
    bearer.wire.payments();
    assert_eq!(bearer.send(own).await.unwrap().status(), StatusCode::OK);
    let requests = bearer.wire.requests.lock().unwrap().clone();
    assert!(requests.iter().all(|request| request.headers()[AUTHORIZATION] == "Basic YTpi"));
    assert_eq!(requests.len(), 2, "paid again");

    let cookie = purse(ask().with_entitlement(Entitle::cookie(60)));
    cookie.get(URL).await.unwrap();
    cookie.wire.payments();
    let own = Request::get(URL).header(COOKIE, "session=1").body(Full::default()).unwrap();
    assert_eq!(cookie.send(own).await.unwrap().status(), StatusCode::OK);
    let requests = cookie.wire.requests.lock().unwrap().clone();
    assert!(requests[0].headers()[COOKIE].to_str().unwrap().starts_with("session=1; 402_access="));
    assert!(requests[0].headers()[COOKIE].is_sensitive());
}

#[tokio::test]
async fn an_entitlement_goes_to_its_origin_alone() {
    let purse = purse(ask().with_entitlement(Entitle::bearer(60)));
    purse.get(URL).await.unwrap();
    purse.wire.payments();
    for other in
        ["https://evil.example/weather", "http://api.example.com/weather", "https://api.example.com:8443/weather"]
    {
        purse.wire.says(status(200));
        purse.get(other).await.unwrap();
    }
    let mut redirect = status(307);
    redirect.headers_mut().insert(LOCATION, HeaderValue::from_static("https://evil.example/weather"));
    purse.wire.says(redirect);
    purse.wire.says(status(200));
    let client = PayLayer::new(purse.payer.clone()).with_redirects().layer(purse.wire.service());
    client.oneshot(Request::get(URL).body(Full::<Bytes>::default()).unwrap()).await.unwrap();
    let carried: Vec<bool> =
        purse.wire.requests.lock().unwrap().iter().map(|r| r.headers().contains_key(AUTHORIZATION)).collect();
    assert_eq!(carried, [false, false, false, true, false]);
}

#[tokio::test]
async fn one_more_payment_after_a_refusal_that_proves_the_first_unused() {
    for code in ["expired", "mismatch", "insufficient"] {
        let purse = purse(ask());
        let first = purse.shop.asked(&purse.wire.shop, "/weather").await;
        let fresh = purse.shop.asked(&purse.wire.shop, "/weather").await;
        purse.wire.says(json_answer(402, &serde_json::to_value(&first).unwrap()));
        purse.wire.says(refusing(code, Some(&fresh)));
        let response = purse.get(URL).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let sent = purse.wire.payments();
        let ids: Vec<_> = sent.iter().flatten().map(|payment| &payment.challenge_id).collect();
        assert_eq!((sent.len(), ids), (3, vec![&first.challenge_id, &fresh.challenge_id]));
        let nonces: Vec<_> = sent.iter().flatten().map(|payment| &payment.nonce).collect();
        assert_ne!(nonces[0], nonces[1]);
        assert_eq!(purse.used(), "1000", "{code}: the refused payment is given back");
    }
}

#[tokio::test]
async fn no_third_payment() {
    let purse = purse(ask());
    let fresh = purse.shop.asked(&purse.wire.shop, "/weather").await;
    purse.wire.says(json_answer(402, &serde_json::to_value(&fresh).unwrap()));
    purse.wire.says(refusing("expired", Some(&fresh)));
    purse.wire.says(refusing("expired", Some(&fresh)));
    let response = purse.get(URL).await.unwrap();
    assert_eq!(response.status(), StatusCode::PAYMENT_REQUIRED);
    let body: Value = serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(body["error"], "expired", "the caller gets the refusal as it came");
    assert_eq!(purse.wire.counts(), (3, 2));
}

#[tokio::test]
async fn no_second_payment_after_anything_else() {
    let mut dear = offer("urn:res:abc123");
    dear.amount = "1000001".parse().unwrap();
    let dear = Ask::new(dear);
    type Says = fn(&Challenge) -> Response<Full<Bytes>>;
    // A refusal that proves nothing leaves the sum in the budget.
    let cases: [(Says, &str); 13] = [
        (|fresh: &Challenge| refusing("verification_failed", Some(fresh)), "1000"),
        (|_: &Challenge| refusing("expired", None), "0"),
        // A code that is not its status's, or none of the dialect's.
        (|fresh: &Challenge| refusing("replay", Some(fresh)), "1000"),
        (|fresh: &Challenge| refusing("try_again", Some(fresh)), "1000"),
        (|fresh: &Challenge| json_answer(402, &serde_json::to_value(fresh).unwrap()), "1000"),
        (|_: &Challenge| status(402), "1000"),
        (|_: &Challenge| json_answer(400, &json!({"error": "invalid_binding", "message": "why"})), "0"),
        (|_: &Challenge| json_answer(400, &json!({"error": "expired", "message": "why"})), "1000"),
        (|_: &Challenge| status(400), "1000"),
        (|_: &Challenge| json_answer(409, &json!({"error": "replay", "message": "why"})), "1000"),
        (|_: &Challenge| status(500), "1000"),
        (|_: &Challenge| status(404), "1000"),
        (|_: &Challenge| status(200), "1000"),
    ];
    for (answer, used) in cases {
        let purse = purse(ask());
        let fresh = purse.shop.asked(&purse.wire.shop, "/weather").await;
        purse.wire.says(json_answer(402, &serde_json::to_value(&fresh).unwrap()));
        let answer = answer(&fresh);
        let (code, shown) = (answer.status(), format!("{answer:?}"));
        purse.wire.says(answer);
        assert_eq!(purse.get(URL).await.unwrap().status(), code, "{shown}");
        assert_eq!((purse.wire.counts(), purse.used().as_str()), ((2, 1), used), "{shown}");
    }
    // What is asked instead is more than may be paid: the refusal is the answer.
    let purse = purse(ask());
    let other = shop();
    let dear = other.asked(&other.sells(dear), "/weather").await;
    let fresh = purse.shop.asked(&purse.wire.shop, "/weather").await;
    purse.wire.says(json_answer(402, &serde_json::to_value(&fresh).unwrap()));
    purse.wire.says(refusing("insufficient", Some(&dear)));
    assert_eq!(purse.get(URL).await.unwrap().status(), StatusCode::PAYMENT_REQUIRED);
    assert_eq!((purse.wire.counts(), purse.used().as_str()), ((2, 1), "0"));
}

/// While it is not known whether a payment was made, that payment is sent again and no other.
#[tokio::test]
async fn the_same_payment_is_sent_again_while_its_outcome_is_not_known() {
    let purse = purse(ask());
    let first = purse.shop.asked(&purse.wire.shop, "/weather").await;
    let challenge = || json_answer(402, &serde_json::to_value(&first).unwrap());
    let mut later = status(503);
    later.headers_mut().insert("retry-after", HeaderValue::from_static("7"));
    purse.wire.says(challenge());
    purse.wire.says(later);
    purse.wire.says(status(503));
    assert_eq!(purse.get(URL).await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(*purse.watch.slept.lock().unwrap(), [Duration::from_secs(7)]);
    let sent = purse.wire.payments();
    assert_eq!((sent.len(), &sent[1]), (3, &sent[2]));
    assert_eq!(purse.used(), "1000", "what may be spent stays set aside");

    // The same request, made again: asked, answered by the same payment.
    purse.wire.says(challenge());
    purse.wire.breaks();
    let again = purse.get(URL).await.unwrap();
    assert_eq!(again.status(), StatusCode::OK);
    let more = purse.wire.payments();
    assert_eq!((more.len(), &more[1], &more[2]), (3, &sent[1], &sent[1]));
    assert_eq!(purse.used(), "1000");
    // Another request is another purchase.
    purse.get("https://api.example.com/forecast").await.unwrap();
    assert_ne!(purse.wire.payments()[1], sent[1]);
}

/// The money moved and the handler failed: no second payment, whatever the shop does with the first.
#[tokio::test]
async fn a_challenge_that_was_paid_and_not_served_is_paid_once() {
    let purse = purse(ask());
    purse.shop.handler.statuses.lock().unwrap().push_back(StatusCode::INTERNAL_SERVER_ERROR);
    let response = purse.get(URL).await.unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let receipt = response.extensions().get::<ChallengeReceipt>().unwrap().clone();
    let sent = purse.wire.payments();
    // Made again, the request shows the same payment; where that is taken once only, its receipt stands on the refusal.
    let again = purse.get(URL).await.unwrap();
    assert_eq!(again.extensions().get::<ChallengeReceipt>(), Some(&receipt));
    assert_eq!(purse.wire.payments()[1], sent[1]);
    assert_eq!(purse.used(), "1000");

    // With an entitlement what was bought is in hand, and is presented.
    let purse = self::purse(ask().with_entitlement(Entitle::cookie(3600)));
    purse.shop.handler.statuses.lock().unwrap().push_back(StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(purse.get(URL).await.unwrap().status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(purse.get(URL).await.unwrap().status(), StatusCode::OK);
    assert_eq!((purse.wire.counts(), purse.used().as_str()), ((3, 1), "1000"));
}

#[tokio::test]
async fn a_transport_that_fails_leaves_the_outcome_unknown() {
    let purse = purse(ask());
    let challenge = purse.shop.asked(&purse.wire.shop, "/weather").await;
    purse.wire.says(json_answer(402, &serde_json::to_value(&challenge).unwrap()));
    purse.wire.breaks();
    purse.wire.breaks();
    assert_eq!(purse.get(URL).await.unwrap_err(), ClientError::Unknown(Broken));
    let sent = purse.wire.payments();
    assert_eq!((sent.len(), &sent[1]), (3, &sent[2]));
}

/// A paid challenge is `replay` for a while, and then unknown: `expired` after an unknown outcome proves nothing.
#[tokio::test]
async fn a_refusal_of_what_was_sent_before_is_not_followed_by_another_payment() {
    let purse = purse(ask());
    let fresh = purse.shop.asked(&purse.wire.shop, "/weather").await;
    purse.wire.says(json_answer(402, &serde_json::to_value(&fresh).unwrap()));
    purse.wire.says(status(503));
    purse.wire.says(refusing("expired", Some(&fresh)));
    assert_eq!(purse.get(URL).await.unwrap().status(), StatusCode::PAYMENT_REQUIRED);
    assert_eq!(purse.used(), "1000", "not given back");
    assert_eq!(purse.wire.requests.lock().unwrap().len(), 3);
    // Nor is it over: the request, made once more, shows the same payment, which this shop has never seen.
    let sent = purse.wire.payments();
    assert_eq!(purse.get(URL).await.unwrap().status(), StatusCode::OK);
    assert_eq!((purse.wire.payments()[1].clone(), purse.used().as_str()), (sent[1].clone(), "1000"));
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_the_payment_for_the_same_request() {
    let purse = purse(ask());
    {
        let mut gone = pin!(purse.get(URL));
        let mut context = Context::from_waker(Waker::noop());
        while purse.wire.requests.lock().unwrap().len() < 2 {
            assert!(matches!(gone.as_mut().poll(&mut context), Poll::Pending));
        }
    }
    let sent = purse.wire.payments();
    assert_eq!(purse.get(URL).await.unwrap().status(), StatusCode::OK);
    assert_eq!(purse.wire.payments()[1], sent[1]);
    assert_eq!(purse.used(), "1000");
}

#[tokio::test]
async fn a_challenge_for_another_request_is_not_paid() {
    let purse = purse(ask());
    let good = serde_json::to_value(purse.shop.asked(&purse.wire.shop, "/weather").await).unwrap();
    for (part, value) in [
        ("method", json!("POST")),
        ("host", json!("api.example.com:8443")),
        ("host", json!("evil.example")),
        ("path", json!("/other")),
        ("path", json!("/weather?x")),
        ("bodySha256", json!("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")),
    ] {
        let mut other = good.clone();
        other["bind"][part] = value;
        purse.wire.says(json_answer(402, &other));
        assert_eq!(not_payable(purse.get(URL).await), NotPayable::Bound(part), "{other}");
        assert_eq!(purse.wire.counts(), (1, 0));
    }
    for (part, value) in [("host", json!("API.example.com.:443")), ("path", json!("/weather?x=1"))] {
        let mut same = good.clone();
        same["bind"][part] = value;
        purse.wire.says(json_answer(402, &same));
        purse.wire.says(status(200));
        assert_eq!(purse.get(&format!("{URL}?x=1")).await.unwrap().status(), StatusCode::OK, "{same}");
    }
    let mut bound = good.clone();
    bound["bind"]["bodySha256"] = json!("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    bound["bind"]["method"] = json!("POST");
    purse.wire.says(json_answer(402, &bound));
    purse.wire.says(status(200));
    let posted = Request::builder().method(Method::POST).uri(URL).body(Full::from("abc")).unwrap();
    assert_eq!(purse.send(posted).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn the_limits_hold() {
    let purse = purse(ask());
    let good = serde_json::to_value(purse.shop.asked(&purse.wire.shop, "/weather").await).unwrap();
    let with = |member: &str, value: &str| {
        let mut other = good.clone();
        other[member] = value.into();
        purse.wire.says(json_answer(402, &other));
        purse.get(URL)
    };
    let cap = "1000000".parse().unwrap();
    let over = NotPayable::OverCap { amount: "1000001".parse().unwrap(), cap };
    assert_eq!(not_payable(with("maxAmountRequired", "1000001").await), over);
    assert_eq!(
        not_payable(with("asset", "0x742d35Cc6634C0532925a3b844Bc9e7595f0bEb0").await),
        NotPayable::UnknownAsset
    );
    let why = "its network or amount is not known".into();
    assert_eq!(not_payable(with("network", "evm:nowhere:dev").await), NotPayable::Unreadable(why));
    assert_eq!(not_payable(with("scheme", "later").await), NotPayable::NoScheme);
    assert!(matches!(with("version", "x402.v2").await.unwrap_err(), ClientError::Pay(PayError::Terms(_))));
    assert_eq!(purse.wire.counts(), (5, 0));
    assert_eq!(purse.used(), "0");
}

#[tokio::test]
async fn who_has_no_proof_pays_no_challenge() {
    let purse = purse(ask());
    let payer = Payer::default();
    let said = PayLayer::new(payer)
        .layer(purse.wire.service())
        .oneshot(Request::get(URL).header("host", "api.example.com").body(Full::<Bytes>::default()).unwrap());
    assert!(matches!(said.await.unwrap_err(), ClientError::Pay(PayError::Terms(_))));
}

/// What version 2 asks is more than this payer may pay, or in a scheme it has not: the challenge is paid.
#[tokio::test]
async fn a_challenge_beside_version_2_is_paid_where_version_2_cannot_be() {
    for v1 in [false, true] {
        let shop = shop();
        let wall = shop.sells_both(ask(), v1);
        let purse = purse_at(shop, wall);
        let response = purse.get(URL).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert!(response.extensions().get::<ChallengeReceipt>().is_some());
        assert_eq!(purse.shop.script.log(), "handler");
    }
}

/// A refusal that is longer than what is read is handed on whole.
#[tokio::test]
async fn a_long_answer_reaches_the_caller_whole() {
    let purse = purse(ask());
    let challenge = purse.shop.asked(&purse.wire.shop, "/weather").await;
    purse.wire.says(json_answer(402, &serde_json::to_value(&challenge).unwrap()));
    let long = "x".repeat(200_000);
    purse.wire.says(status(402).map(|_| Full::from(long.clone())));
    let response = purse.get(URL).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), long);
}
