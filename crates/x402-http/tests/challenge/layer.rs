//! The layer in memory: the dialects on one route, faults, hosts, what the handler finds and what leaves.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};

use async_trait::async_trait;
use http::header::{AUTHORIZATION, CACHE_CONTROL, COOKIE, HOST, RETRY_AFTER, SET_COOKIE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tower::ServiceExt;
use x402_challenge::{
    Allowance, Bind, ChallengeRefusal, Charge, EntitlementToken, Evidence, Gate, MemoryStore, Metered, ProofError,
    Proofs, Proven, VerifyProof,
};
use x402_codec::{challenge as codec, header as names};
use x402_http::server::challenge::{Access, Ask, Challenges, Clock, Entitle, SystemClock};
use x402_http::server::{Seller, SellerError, price_by};
use x402_types::challenge::{Code, ProofKind};
use x402_types::{AtomicAmount, Fault, UnixSeconds};

use crate::common::{ORIGIN, call, decoded, get, header, offer as v2_offer, payment_json, terms, v1_payment_json};
use crate::shop::{Down, NOW, at, code, dated, offer, paying, receipt, shop, shop_taking};

fn ask() -> Ask {
    Ask::new(offer("urn:res:abc123"))
}

#[tokio::test]
async fn version_2_stands_in_the_header_and_the_challenge_in_the_body() {
    let shop = shop();
    let service = shop.sells_both(ask(), false);
    let (status, headers, body) = call(&service, at("/weather")).await;
    assert_eq!(
        (status, &headers[CACHE_CONTROL]),
        (StatusCode::PAYMENT_REQUIRED, &HeaderValue::from_static("no-store"))
    );
    let required = decoded(&headers, &names::PAYMENT_REQUIRED);
    assert_eq!(required["accepts"][0]["amount"], "10000");
    assert_eq!(required["resource"]["url"], "https://api.example.com/weather");
    let challenge = codec::challenge(&body).unwrap();
    assert_eq!(challenge.resource.as_str(), "urn:res:abc123");
    let json: Value = serde_json::from_slice(&body).unwrap();
    assert!(json.get("accepts").is_none() && json.get("x402Version").is_none());

    let (status, headers, _) = call(&service, paying("/weather", &shop.payment(&challenge, 1))).await;
    assert_eq!((status, receipt(&headers)["ok"].clone()), (StatusCode::OK, json!(true)));
    assert_eq!(shop.script.log(), "handler", "no facilitator was asked");

    let by_v2 = [(&names::PAYMENT_SIGNATURE, header(&payment_json(&terms(), 1)))];
    let (status, headers, _) = call(&service, get("/weather", &by_v2)).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(decoded(&headers, &names::PAYMENT_RESPONSE)["success"], true);
    assert_eq!(shop.script.log(), "handler, verify, handler, settle");
}

/// Told apart by `version` and `x402Version`; what carries neither, or both, or cannot be decoded, is version 2's.
#[tokio::test]
async fn what_names_no_dialect_is_answered_as_version_2_where_that_is_offered() {
    let shop = shop();
    let (both, alone) = (shop.sells_both(ask(), false), shop.sells(ask()));
    for value in [
        header(&json!({})),
        header(&json!({"payload": {}})),
        header(&json!({"x402Version": 1, "version": "x402.v1"})),
        header(&v1_payment_json(1)),
        HeaderValue::from_static("%%%"),
        HeaderValue::from_static("bm90IGpzb24"),
    ] {
        let request = || {
            let mut request = at("/weather");
            request.headers_mut().insert(&names::X_PAYMENT, value.clone());
            request
        };
        let (status, headers, body) = call(&both, request()).await;
        assert_eq!(status, StatusCode::PAYMENT_REQUIRED, "{value:?}");
        assert_eq!(decoded(&headers, &names::PAYMENT_REQUIRED)["x402Version"], 2);
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["x402Version"], 2, "version 2 in the body, too");
        let (status, _, body) = call(&alone, request()).await;
        assert_eq!((status, code(&body).as_str()), (StatusCode::BAD_REQUEST, "invalid_schema"), "{value:?}");
    }
    let (status, _, body) = call(&alone, get("/weather", &[(&names::PAYMENT_SIGNATURE, header(&json!({})))])).await;
    assert_eq!((status, code(&body).as_str()), (StatusCode::BAD_REQUEST, "invalid_schema"));
    // This dialect's limit holds beside a version with a larger one.
    let challenge = shop.asked(&both, "/weather").await;
    let mut long = shop.payment(&challenge, 1);
    long.rest.insert_text("later", &"x".repeat(4096));
    let mut request = at("/weather");
    request.headers_mut().insert(&names::X_PAYMENT, header(&serde_json::to_value(&long).unwrap()));
    let (status, _, body) = call(&both, request).await;
    assert_eq!((status, code(&body).as_str()), (StatusCode::BAD_REQUEST, "invalid_schema"));
    assert_eq!(shop.handler.calls(), 0);
}

#[tokio::test]
async fn a_refusal_is_in_the_dialect_of_what_it_refuses() {
    let shop = shop();
    let service = shop.sells_both(ask(), false);
    let challenge = shop.asked(&service, "/weather").await;
    let late = dated(&shop.payment(&challenge, 1), UnixSeconds(NOW - 100));
    let (status, headers, body) = call(&service, paying("/weather", &late)).await;
    assert_eq!((status, code(&body).as_str()), (StatusCode::PAYMENT_REQUIRED, "expired"));
    assert!(headers.contains_key(&names::PAYMENT_REQUIRED), "the offers go on standing in the header");
    let fresh = codec::challenge(&body).unwrap();
    assert_ne!(fresh.challenge_id, challenge.challenge_id);
    let (status, ..) = call(&service, paying("/weather", &shop.payment(&fresh, 2))).await;
    assert_eq!(status, StatusCode::OK);

    shop.script.verify_says(r#"{"isValid":false,"invalidReason":"insufficient_funds"}"#);
    let by_v2 = [(&names::PAYMENT_SIGNATURE, header(&payment_json(&terms(), 1)))];
    let (status, _, body) = call(&service, get("/weather", &by_v2)).await;
    assert_eq!((status, code(&body).as_str()), (StatusCode::PAYMENT_REQUIRED, "insufficient_funds"));
    assert!(codec::challenge(&body).is_err(), "no challenge is issued to who speaks version 2");
}

/// Nothing but headers would be given for it, so nothing is taken: the challenge is paid by the request that follows.
#[tokio::test]
async fn a_head_with_payment_is_checked_and_spends_no_challenge() {
    let shop = shop();
    let service = shop.sells(ask());
    let payment = shop.payment(&shop.asked(&service, "/weather").await, 1);
    let head = |payment: &_| {
        let mut request = paying("/weather", payment);
        *request.method_mut() = Method::HEAD;
        request
    };
    for _ in 0..2 {
        let (status, headers, body) = call(&service, head(&payment)).await;
        assert_eq!((status, body.len()), (StatusCode::NO_CONTENT, 0));
        assert!(!headers.contains_key(&names::X_PAYMENT_RESPONSE));
    }
    let (status, ..) = call(&service, head(&dated(&payment, UnixSeconds(NOW - 100)))).await;
    assert_eq!((status, shop.handler.calls()), (StatusCode::PAYMENT_REQUIRED, 0));
    let (status, headers, _) = call(&service, paying("/weather", &payment)).await;
    assert_eq!((status, receipt(&headers)["ok"].clone()), (StatusCode::OK, json!(true)));
    let (status, _, body) = call(&service, head(&payment)).await;
    assert_eq!((status, code(&body).as_str()), (StatusCode::CONFLICT, "replay"));
    assert_eq!(shop.handler.calls(), 1);
}

#[tokio::test]
async fn version_1_stands_beside_the_challenge_in_the_body() {
    let shop = shop();
    let service = shop.sells_both(ask(), true);
    let (_, headers, body) = call(&service, at("/weather")).await;
    let json: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&json["x402Version"], &json["accepts"][0]["maxAmountRequired"]), (&json!(1), &json!("10000")));
    assert_eq!(json["maxAmountRequired"], "1000", "the challenge's own");
    assert_eq!(decoded(&headers, &names::PAYMENT_REQUIRED)["x402Version"], 2);
    let challenge = codec::challenge(&body).unwrap();

    let mut by_v1 = at("/weather");
    by_v1.headers_mut().insert(&names::X_PAYMENT, header(&v1_payment_json(1)));
    let (status, headers, _) = call(&service, by_v1).await;
    assert_eq!(
        (status, decoded(&headers, &names::X_PAYMENT_RESPONSE)["success"].clone()),
        (StatusCode::OK, json!(true))
    );
    let (status, headers, _) = call(&service, paying("/weather", &shop.payment(&challenge, 1))).await;
    assert_eq!((status, receipt(&headers)["ok"].clone()), (StatusCode::OK, json!(true)));
}

/// "Facilitator down is 503 and consumes nothing."
#[tokio::test]
async fn a_facilitator_that_is_down_consumes_nothing() {
    let shop = shop_taking(Proofs::default().with(Arc::new(Down::once())).unwrap());
    let service = shop.sells(ask());
    let challenge = shop.asked(&service, "/weather").await;
    let payment = Down::payment(&shop, &challenge);
    let response = service.clone().oneshot(paying("/weather", &payment)).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(response.headers().contains_key(RETRY_AFTER));
    assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
    let fault = response.extensions().get::<Fault>().unwrap();
    assert!(matches!(fault, Fault::Unreachable { service: "facilitator", .. }), "for the log");
    assert_eq!(shop.handler.calls(), 0);
    let (status, headers, _) = call(&service, paying("/weather", &payment)).await;
    assert_eq!((status, receipt(&headers)["ok"].clone()), (StatusCode::OK, json!(true)));
    let (status, ..) = call(&service, paying("/weather", &payment)).await;
    assert_eq!(status, StatusCode::CONFLICT);
}

#[tokio::test]
async fn a_proof_that_is_not_switched_on_is_refused() {
    let shop = shop_taking(Proofs::default());
    let service = shop.sells(ask());
    let challenge = shop.asked(&service, "/weather").await;
    let (status, _, body) = call(&service, paying("/weather", &shop.payment(&challenge, 1))).await;
    assert_eq!((status, code(&body).as_str()), (StatusCode::PAYMENT_REQUIRED, "verification_failed"));
}

#[tokio::test]
async fn what_cannot_be_remembered_is_not_asked() {
    let gate = Gate::new(Arc::new(MemoryStore::with_capacity(1)), Proofs::default());
    let shop = shop();
    let challenges = Challenges::with_clock(ORIGIN, gate, shop.clock.clone()).unwrap();
    let service = shop.wall(challenges.charge(ask()).unwrap());
    let asked = shop.asked(&service, "/weather").await;
    let response = service.clone().oneshot(at("/weather")).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(response.extensions().get::<Fault>().is_some());
    // A refusal stands all the same, without a fresh challenge.
    let short = dated(&shop.payment(&asked, 1), UnixSeconds(NOW - 100));
    let (status, _, body) = call(&service, paying("/weather", &short)).await;
    assert_eq!((status, code(&body).as_str()), (StatusCode::PAYMENT_REQUIRED, "expired"));
    assert!(codec::challenge(&body).is_err());
    // What is over is forgotten.
    shop.clock.pass(301);
    shop.asked(&service, "/weather").await;
}

#[derive(Debug)]
struct NoChance;

impl Clock for NoChance {
    fn now(&self) -> UnixSeconds {
        UnixSeconds(NOW)
    }

    fn entropy(&self) -> Option<[u8; 32]> {
        None
    }
}

#[tokio::test]
async fn without_randomness_nothing_is_asked() {
    let gate = Gate::new(Arc::new(MemoryStore::default()), Proofs::default());
    let challenges = Challenges::with_clock(ORIGIN, gate, Arc::new(NoChance)).unwrap();
    let service = shop().wall(challenges.charge(ask()).unwrap());
    assert_eq!(call(&service, at("/weather")).await.0, StatusCode::SERVICE_UNAVAILABLE);
    let drawn = SystemClock.entropy().zip(SystemClock.entropy()).unwrap();
    assert_ne!(drawn.0, drawn.1);
}

/// The rule for hosts stands in `server::challenge`.
#[tokio::test]
async fn only_the_public_host_is_asked() {
    let shop = shop();
    let (alone, both) = (shop.sells(ask()), shop.sells_both(ask(), false));
    let hosted = |hosts: &[&'static str]| {
        let mut request = get("/weather", &[]);
        for host in hosts {
            request.headers_mut().append(HOST, HeaderValue::from_static(host));
        }
        request
    };
    for hosts in [&[][..], &["evil.example"], &["api.example.com", "api.example.com"], &["user@api.example.com"]] {
        let (status, _, body) = call(&alone, hosted(hosts)).await;
        assert_eq!((status, code(&body).as_str()), (StatusCode::BAD_REQUEST, "invalid_binding"), "{hosts:?}");
        let (status, headers, body) = call(&both, hosted(hosts)).await;
        assert_eq!(status, StatusCode::PAYMENT_REQUIRED);
        assert!(headers.contains_key(&names::PAYMENT_REQUIRED) && codec::challenge(&body).is_err(), "version 2 alone");
    }
    // The authority of HTTP/2 and of the absolute form stands above `Host`.
    let mut absolute = hosted(&["evil.example"]);
    *absolute.uri_mut() = "https://API.example.com:443/weather".parse().unwrap();
    let (status, _, body) = call(&alone, absolute).await;
    assert_eq!(status, StatusCode::PAYMENT_REQUIRED);
    assert_eq!(codec::challenge(&body).unwrap().bind.host.as_str(), "api.example.com");
    let mut absolute = hosted(&["api.example.com"]);
    *absolute.uri_mut() = "https://evil.example/weather".parse().unwrap();
    assert_eq!(call(&alone, absolute).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_prefix_that_a_router_takes_off_is_bound() {
    let shop = shop();
    let nested = shop.wall(shop.challenges.charge(ask()).unwrap().with_prefix("/v1/"));
    assert_eq!(shop.asked(&nested, "/weather").await.bind.path.as_str(), "/v1/weather");
    // Told to the offers before, or after: the same.
    let seller = Seller::new(ORIGIN, shop.script.clone()).unwrap();
    let offers = || seller.charge([v2_offer(terms())]).unwrap();
    let before = shop.challenges.charge_beside(offers().with_prefix("/v1"), ask()).unwrap();
    let after = shop.challenges.charge_beside(offers(), ask()).unwrap().with_prefix("/v1");
    for layer in [before, after] {
        let (_, headers, body) = call(&shop.wall(layer), at("/weather")).await;
        assert_eq!(
            decoded(&headers, &names::PAYMENT_REQUIRED)["resource"]["url"],
            "https://api.example.com/v1/weather"
        );
        assert_eq!(codec::challenge(&body).unwrap().bind.path.as_str(), "/v1/weather");
    }
}

#[tokio::test]
async fn a_path_that_is_too_long_is_not_asked_for() {
    let shop = shop();
    let long = format!("/{}", "a".repeat(2048));
    let (status, _, body) = call(&shop.sells(ask()), at(&long)).await;
    assert_eq!((status, code(&body).as_str()), (StatusCode::BAD_REQUEST, "invalid_binding"));
    assert_eq!(call(&shop.sells_both(ask(), false), at(&long)).await.0, StatusCode::URI_TOO_LONG);
}

#[tokio::test]
async fn options_passes_unpaid() {
    let shop = shop();
    let mut request = at("/weather");
    *request.method_mut() = Method::OPTIONS;
    assert_eq!(call(&shop.sells(ask()), request).await.0, StatusCode::OK);
}

#[tokio::test]
async fn the_handler_learns_by_what_it_was_reached() {
    let shop = shop();
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = seen.clone();
    let handler = tower::service_fn(move |request: Request<Full<bytes::Bytes>>| {
        noted.lock().unwrap().push(request.extensions().get::<Access>().cloned());
        std::future::ready(Ok::<_, std::convert::Infallible>(Response::new(Full::<bytes::Bytes>::default())))
    });
    let layer = shop
        .challenges
        .charge(ask().with_entitlement(Entitle::bearer(60).with_allowance(Allowance::Count(2))))
        .unwrap();
    let service = tower::Layer::layer(&layer, handler).boxed_clone();
    let challenge = shop.asked(&service, "/weather").await;
    let payment = shop.payment(&challenge, 1);
    let (_, headers, _) = call(&service, paying("/weather", &payment)).await;
    let bearer = format!("Bearer {}", headers[&codec::X_PAYMENT_TOKEN].to_str().unwrap());
    call(&service, get("/weather", &[(&AUTHORIZATION, bearer.parse().unwrap())])).await;
    let seen = seen.lock().unwrap();
    let Some(Access::Paid(granted)) = &seen[0] else { panic!("{seen:?}") };
    assert_eq!((&granted.challenge.challenge_id, &granted.payment), (&challenge.challenge_id, &payment));
    assert_eq!(seen[1], Some(Access::Entitled { left: Some(1) }));
    assert!(!format!("{layer:?}").contains(&bearer["Bearer ".len()..]));
}

/// The money may have moved: what was bought is not lost with the answer.
#[tokio::test]
async fn a_handler_that_fails_keeps_receipt_and_entitlement_on_its_answer() {
    let shop = shop();
    let service = shop.sells(ask().with_entitlement(Entitle::cookie(3600)));
    let challenge = shop.asked(&service, "/weather").await;
    shop.handler.statuses.lock().unwrap().push_back(StatusCode::INTERNAL_SERVER_ERROR);
    let payment = shop.payment(&challenge, 1);
    let (status, headers, _) = call(&service, paying("/weather", &payment)).await;
    assert_eq!((status, receipt(&headers)["ok"].clone()), (StatusCode::INTERNAL_SERVER_ERROR, json!(true)));
    assert_eq!(headers[CACHE_CONTROL], "private");
    assert_eq!(call(&service, paying("/weather", &payment)).await.0, StatusCode::CONFLICT);
    let cookie = headers[SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned();
    let (status, _, body) = call(&service, get("/weather", &[(&COOKIE, cookie.parse().unwrap())])).await;
    assert_eq!((status, &body[..]), (StatusCode::OK, &b"sunny"[..]));
}

#[tokio::test]
async fn an_entitlement_is_found_among_the_callers_own_and_can_be_revoked() {
    let shop = shop();
    let service = shop.sells(ask().with_entitlement(Entitle::cookie(3600)));
    let challenge = shop.asked(&service, "/weather").await;
    let (_, headers, _) = call(&service, paying("/weather", &shop.payment(&challenge, 1))).await;
    let cookie = headers[SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned();
    // HTTP/2 splits a `Cookie` into several lines, and the application has a bearer token of its own.
    let request = || {
        let own = HeaderValue::from_static("Bearer 0123-the-applications-own");
        get("/weather", &[(&AUTHORIZATION, own), (&COOKIE, "a=b".parse().unwrap()), (&COOKIE, cookie.parse().unwrap())])
    };
    assert_eq!(call(&service, request()).await.0, StatusCode::OK);
    let token = EntitlementToken::presented(None, Some(&cookie)).unwrap();
    assert!(shop.challenges.gate().store().revoke(&token.hash()).await.unwrap());
    assert_eq!(call(&service, request()).await.0, StatusCode::BAD_REQUEST, "no host: nothing to bind");
}

#[tokio::test]
async fn offers_that_cannot_be_told_are_503() {
    let shop = shop();
    let seller = Seller::new(ORIGIN, shop.script.clone()).unwrap();
    let by = seller.charge_by(price_by(|_| async { Err(Fault::unreachable("the price list", "closed")) }));
    let service = shop.wall(shop.challenges.charge_beside(by, ask()).unwrap());
    assert_eq!(call(&service, at("/weather")).await.0, StatusCode::SERVICE_UNAVAILABLE);
}

#[test]
fn what_cannot_be_served_is_refused_when_the_server_starts() {
    let gate = || Gate::new(Arc::new(MemoryStore::default()), Proofs::default());
    for origin in ["", "api.example.com", "https://user@api.example.com", "https://api.example.com/v1"] {
        assert_eq!(Challenges::new(origin, gate()).unwrap_err(), SellerError::Origin, "{origin}");
    }
    let challenges = Challenges::new(ORIGIN, gate()).unwrap();
    let mut bound = offer("urn:res:abc123");
    bound.bind = Bind { query: false, body: true };
    assert_eq!(challenges.charge(Ask::new(bound)).unwrap_err(), SellerError::BodyNotRead);
    let long = "é".repeat(1024);
    assert!(challenges.charge(Ask::new(offer(&long))).is_ok());
    let longer = "\u{10348}".repeat(1024);
    assert_eq!(challenges.charge(Ask::new(offer(&longer))).unwrap_err(), SellerError::ResourceTooLong);
}

/// A ticket whose check waits once: whoever goes away meanwhile leaves it begun.
#[derive(Default)]
struct Slow(AtomicUsize);

#[async_trait]
impl VerifyProof for Slow {
    fn kind(&self) -> ProofKind {
        ProofKind::Facilitator
    }

    async fn verify(&self, evidence: &Evidence<'_>, _: UnixSeconds) -> Result<Proven, ProofError> {
        let before = self.0.fetch_add(1, Ordering::SeqCst);
        assert_eq!(evidence.again, before > 0, "what may have moved is not asked for anew");
        tokio::task::yield_now().await;
        Ok(Proven { amount: evidence.payment.paid_amount, key: None })
    }
}

/// "A hang-up of the client must not lose a payment."
#[tokio::test]
async fn the_same_header_takes_up_what_a_caller_left() {
    let slow = Arc::new(Slow::default());
    let shop = shop_taking(Proofs::default().with(slow.clone()).unwrap());
    let service = shop.sells(ask());
    let challenge = shop.asked(&service, "/weather").await;
    let payment = Down::payment(&shop, &challenge);
    {
        let mut gone = pin!(service.clone().oneshot(paying("/weather", &payment)));
        assert!(gone.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    assert_eq!(slow.0.load(Ordering::SeqCst), 1);
    // While the server cannot know that nobody is at it: later, and never 402.
    let (status, headers, _) = call(&service, paying("/weather", &payment)).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let wait: u64 = headers[RETRY_AFTER].to_str().unwrap().parse().unwrap();
    let other = dated(&payment, UnixSeconds(NOW + 1));
    let other = x402_types::challenge::Payment { proof: payment.proof.clone(), ..other };
    assert_eq!(call(&service, paying("/weather", &other)).await.0, StatusCode::CONFLICT, "it alone may go on");
    // Also after the challenge is over: it was begun in time.
    for (pass, status) in [(wait - 1, 503), (1_000, 200), (1, 409)] {
        shop.clock.pass(pass);
        assert_eq!(call(&service, paying("/weather", &payment)).await.0.as_u16(), status, "after {pass} s");
    }
    assert_eq!(shop.handler.calls(), 1);
}

/// A ticket that carries a metered sum; what its settlement says is given.
struct Metering(Result<(), ProofError>);

#[async_trait]
impl VerifyProof for Metering {
    fn kind(&self) -> ProofKind {
        ProofKind::Facilitator
    }

    async fn verify(&self, evidence: &Evidence<'_>, _: UnixSeconds) -> Result<Proven, ProofError> {
        Ok(Proven { amount: evidence.payment.paid_amount, key: None })
    }

    async fn settle(&self, meter: &Metered, _: UnixSeconds) -> Result<(), ProofError> {
        assert_eq!(meter.used, AtomicAmount::from(30));
        self.0.clone()
    }
}

/// "upto scheme (metering)": what the handler counted is settled before its answer leaves.
#[tokio::test]
async fn what_a_handler_used_is_settled_before_its_answer_leaves() {
    let fault = Fault::unreachable("facilitator", "timed out");
    let never = ChallengeRefusal::new(Code::VerificationFailed, "the ticket is over");
    for (said, status, owed) in
        [(Ok(()), 200, 0), (Err(ProofError::Unknown(fault.clone())), 200, 1), (Err(ProofError::Refused(never)), 402, 0)]
    {
        let unknown = matches!(said, Err(ProofError::Unknown(_)));
        let shop = shop_taking(Proofs::default().with(Arc::new(Metering(said))).unwrap());
        let mut metered = offer("urn:res:abc123");
        metered.charge = Charge::UpTo;
        let handler = tower::service_fn(|request: Request<Full<bytes::Bytes>>| async move {
            let Some(Access::Paid(granted)) = request.extensions().get::<Access>() else { panic!("not paid") };
            let meter = granted.meter.clone().unwrap();
            for _ in 0..3 {
                meter.add(AtomicAmount::from(10), UnixSeconds(NOW)).await.unwrap();
            }
            Ok::<_, std::convert::Infallible>(Response::new(Full::<bytes::Bytes>::from("used")))
        });
        let service = tower::Layer::layer(&shop.challenges.charge(Ask::new(metered)).unwrap(), handler).boxed_clone();
        let challenge = shop.asked(&service, "/weather").await;
        assert_eq!(challenge.scheme.as_str(), "upto");
        let response = service.clone().oneshot(paying("/weather", &Down::payment(&shop, &challenge))).await.unwrap();
        assert_eq!(response.status().as_u16(), status);
        assert_eq!(response.extensions().get::<Fault>(), unknown.then_some(&fault), "for the log");
        let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
        assert_eq!(body == "used", status == 200, "what is never paid is not handed out");
        if status == 402 {
            assert_eq!(code(&body), "verification_failed");
            assert_ne!(codec::challenge(&body).unwrap().challenge_id, challenge.challenge_id);
        }
        let open = shop.challenges.gate().store().open_meters(UnixSeconds(u64::MAX), 10).await.unwrap();
        assert_eq!(open.len(), owed);
    }
}
