//! The middleware: an unpaid 402 on a route of a fixed path, and a paid request with a facilitator that does nothing.
//!
//! The request is built inside the measured part, as `benches/peers` does it.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a bench")]

use std::convert::Infallible;
use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use serde::Deserialize;
use tower::{Layer, Service};
use x402_codec::header;
use x402_facilitator_core::{Facilitator, PaymentRequest};
use x402_http::server::{MemoryGrants, RequirePayment, Seller};
use x402_types::v2::{SettleResponse, SupportedResponse, VerifyResponse};
use x402_types::{
    AuthorizationKind, Claim, ErrorReason, EvmAddress, Fault, Members, Offer, PaymentKey, PaymentKeyFn, Rejection,
    SchemeName, Terms,
};

const PAYER: &str = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";

struct Nothing;

#[async_trait]
impl Facilitator for Nothing {
    async fn verify(&self, _: &PaymentRequest) -> Result<VerifyResponse, Fault> {
        Ok(VerifyResponse {
            is_valid: true,
            invalid_reason: None,
            invalid_message: None,
            payer: Some(PAYER.to_owned()),
            extra: Members::new(),
            extensions: Members::new(),
            rest: Members::new(),
        })
    }

    async fn settle(&self, request: &PaymentRequest) -> Result<SettleResponse, Fault> {
        Ok(SettleResponse {
            success: true,
            error_reason: None,
            error_message: None,
            payer: Some(PAYER.to_owned()),
            transaction: format!("0x{}", "11".repeat(32)),
            network: request.claim.terms.network.into(),
            amount: None,
            extra: Members::new(),
            extensions: Members::new(),
            rest: Members::new(),
        })
    }

    async fn supported(&self) -> Result<SupportedResponse, Fault> {
        Err(Fault::broken("not asked"))
    }
}

#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(borrow)]
    authorization: Authorization<'a>,
}

#[derive(Deserialize)]
struct Authorization<'a> {
    from: EvmAddress,
    nonce: &'a str,
}

fn key_of(claim: &Claim) -> Result<PaymentKey, Rejection> {
    let payload: Payload<'_> =
        serde_json::from_str(claim.payload.as_str()).map_err(|_| Rejection::new(ErrorReason::INVALID_PAYLOAD))?;
    let payer = payload.authorization.from.to_bytes();
    let (asset, nonce) = (claim.terms.asset.as_bytes(), payload.authorization.nonce.as_bytes());
    Ok(PaymentKey::new(AuthorizationKind::Eip3009, claim.terms.network, asset, payer.as_slice(), nonce))
}

fn terms() -> Terms {
    let mut extra = Members::new();
    extra.insert_text("name", "USDC");
    extra.insert_text("version", "2");
    Terms::new(
        SchemeName::EXACT,
        "eip155:84532".parse().unwrap(),
        10_000.into(),
        "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
        "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
    )
    .with_extra(extra)
}

/// A payment as text, with a place for its nonce.
fn template() -> String {
    let json = serde_json::json!({
        "x402Version": 2,
        "payload": {
            "signature": format!("0x{}1b", "5a".repeat(64)),
            "authorization": {
                "from": PAYER, "to": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8", "value": "10000",
                "validAfter": "0", "validBefore": "1763650000", "nonce": NONCE,
            }
        },
        "resource": {
            "url": "https://api.example.com/weather", "description": "The weather, now", "mimeType": "text/plain",
        },
        "accepted": serde_json::to_value(terms().to_v2()).unwrap(),
    });
    json.to_string()
}

const NONCE: &str = "0x0000000000000000000000000000000000000000000000000000000000000000";

fn payment(template: &str, nonce: u64) -> HeaderValue {
    header::encode_text(template.replace(NONCE, &format!("0x{nonce:064x}")).as_bytes()).unwrap()
}

#[derive(Clone)]
struct Hello;

impl Service<Request<Full<Bytes>>> for Hello {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Full<Bytes>>) -> Self::Future {
        std::future::ready(Ok(Response::new(Full::from("sunny"))))
    }
}

fn shop(grants: MemoryGrants) -> RequirePayment<Hello> {
    let key = Arc::new(key_of as fn(&Claim) -> Result<PaymentKey, Rejection>) as Arc<dyn PaymentKeyFn>;
    let seller = Seller::new("https://api.example.com", Arc::new(Nothing)).unwrap().with_grants(Arc::new(grants));
    let layer = seller.charge([Offer { terms: terms(), key }]).unwrap();
    layer.with_description("The weather, now", "text/plain").unwrap().layer(Hello)
}

fn answer(service: &mut RequirePayment<Hello>, request: Request<Full<Bytes>>) -> StatusCode {
    match pin!(service.call(request)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(response)) => response.status(),
        _ => panic!("nothing waits here"),
    }
}

fn middleware(c: &mut Criterion) {
    let mut service = shop(MemoryGrants::default());
    c.bench_function("request_build", |b| {
        b.iter(|| black_box(Request::get("https://api.example.com/weather").body(Full::<Bytes>::default()).unwrap()));
    });
    c.bench_function("unpaid_402", |b| {
        b.iter(|| {
            let request = Request::get("https://api.example.com/weather").body(Full::default()).unwrap();
            assert_eq!(answer(&mut service, black_box(request)), StatusCode::PAYMENT_REQUIRED);
        });
    });
    let template = template();
    // The second keeps what it granted, as a server does: it also measures the misses of a table that outgrows the
    // caches, and its growth.
    let stores = [("paid", MemoryGrants::new(1_000, Duration::ZERO)), ("paid_growing_store", MemoryGrants::default())];
    for (name, grants) in stores {
        let mut service = shop(grants);
        let mut nonce = 0;
        c.bench_function(name, |b| {
            b.iter_batched(
                || {
                    nonce += 1;
                    payment(&template, nonce)
                },
                |value| {
                    let request = Request::get("https://api.example.com/weather");
                    let request = request.header(&header::PAYMENT_SIGNATURE, value).body(Full::default()).unwrap();
                    assert_eq!(answer(&mut service, black_box(request)), StatusCode::OK);
                },
                // A payment that just came over the wire is in the cache.
                BatchSize::NumIterations(32),
            );
        });
    }
}

criterion_group!(benches, middleware);
criterion_main!(benches);
