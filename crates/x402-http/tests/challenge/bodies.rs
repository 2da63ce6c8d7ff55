//! `bind.bodySha256`: the body is read within its limit, bound, and handed on.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use serde_json::Value;
use tower::{Layer, ServiceExt};
use x402_challenge::Bind;
use x402_codec::{challenge as codec, header as names};
use x402_http::Body;
use x402_http::server::Seller;
use x402_http::server::challenge::{Ask, BindBodyLayer};
use x402_types::challenge::Challenge;

use crate::common::{ORIGIN, header, offer as v2_offer, payment_json, terms};
use crate::shop::{Shop, code, offer, shop};

type Stream = http_body_util::combinators::UnsyncBoxBody<Bytes, &'static str>;

/// Answers with the body that it got.
async fn ask(layer: &BindBodyLayer, request: Request<Stream>) -> (StatusCode, Bytes) {
    let echo = tower::service_fn(|request: Request<Body<Stream>>| async {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Ok::<_, Infallible>(Response::new(Full::new(body)))
    });
    let response = layer.layer(echo).oneshot(request).await.unwrap();
    (response.status(), response.into_body().collect().await.unwrap().to_bytes())
}

fn posting(body: Stream, payment: Option<(&http::HeaderName, HeaderValue)>) -> Request<Stream> {
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = "https://api.example.com/ask".parse().unwrap();
    if let Some((name, value)) = payment {
        request.headers_mut().insert(name, value);
    }
    request
}

fn whole(text: &'static str) -> Stream {
    Full::from(text).map_err(|never| match never {}).boxed_unsync()
}

/// A body of unknown length, in parts; an error where there is none.
fn parts(parts: Vec<Result<&'static str, &'static str>>) -> Stream {
    let frames = parts.into_iter().map(|part| part.map(|text| http_body::Frame::data(Bytes::from(text))));
    StreamBody::new(futures_util::stream::iter(frames.collect::<Vec<_>>())).boxed_unsync()
}

fn layer(shop: &Shop) -> BindBodyLayer {
    shop.challenges.charge(Ask::new(offer("urn:res:abc123"))).unwrap().bind_body(10)
}

#[tokio::test]
async fn the_body_is_bound_and_the_handler_gets_the_same() {
    let shop = shop();
    let layer = layer(&shop);
    let (status, body) = ask(&layer, posting(whole("abc"), None)).await;
    assert_eq!(status, StatusCode::PAYMENT_REQUIRED);
    let challenge: Challenge = codec::challenge(&body).unwrap();
    // FIPS 180-4, "abc".
    let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(challenge.bind.body_sha256.unwrap().to_string(), hash);
    let payment = || Some((&names::X_PAYMENT, codec::encode_payment(&shop.payment(&challenge, 1)).unwrap()));
    let (status, body) = ask(&layer, posting(whole("abd"), payment())).await;
    assert_eq!((status, code(&body).as_str()), (StatusCode::BAD_REQUEST, "invalid_binding"));
    let pieces = parts(vec![Ok("a"), Ok(""), Ok("bc")]);
    let (status, body) = ask(&layer, posting(pieces, payment())).await;
    assert_eq!((status, &body[..]), (StatusCode::OK, &b"abc"[..]));
}

#[tokio::test]
async fn over_the_limit_is_413_and_a_body_that_breaks_off_is_400() {
    let shop = shop();
    let layer = layer(&shop);
    for body in [whole("0123456789a"), parts(vec![Ok("0123456789"), Ok("a")])] {
        let (status, body) = ask(&layer, posting(body, None)).await;
        assert_eq!((status, codec::challenge(&body).is_ok()), (StatusCode::PAYLOAD_TOO_LARGE, false));
    }
    assert_eq!(ask(&layer, posting(parts(vec![Ok("abc"), Err("reset")]), None)).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(ask(&layer, posting(whole("0123456789"), None)).await.0, StatusCode::PAYMENT_REQUIRED);
    assert_eq!(ask(&layer, posting(whole(""), None)).await.0, StatusCode::PAYMENT_REQUIRED);
}

#[tokio::test]
async fn what_is_offered_beside_it_goes_on() {
    let shop = shop();
    let offers = Seller::new(ORIGIN, shop.script.clone()).unwrap().charge([v2_offer(terms())]).unwrap();
    let both = shop.challenges.charge_beside(offers.clone(), Ask::new(offer("urn:res:abc123"))).unwrap().bind_body(10);
    let payment = |nonce| Some((&names::PAYMENT_SIGNATURE, header(&payment_json(&terms(), nonce))));
    for (layer, nonce) in [(both, 1), (offers.bind_body(10), 2)] {
        let (status, body) = ask(&layer, posting(whole("abc"), payment(nonce))).await;
        assert_eq!((status, &body[..]), (StatusCode::OK, &b"abc"[..]));
    }
}

/// An offer that a closure makes is not seen when the server starts.
#[tokio::test]
async fn a_body_that_is_bound_and_not_read_is_the_servers_fault() {
    let shop = shop();
    let bound = |_: &http::request::Parts| {
        let mut offer = offer("urn:res:abc123");
        offer.bind = Bind { query: false, body: true };
        offer
    };
    let service = shop.wall(shop.challenges.charge(Ask::by(bound)).unwrap());
    let (status, _, body) = crate::common::call(&service, crate::shop::at("/ask")).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(serde_json::from_slice::<Value>(&body).unwrap().get("challengeId").is_none());
    assert_eq!(shop.handler.calls(), 0);
}
