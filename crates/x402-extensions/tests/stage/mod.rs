//! A seller and a buyer in one process, with a facilitator that accepts everything and a clock that the test moves.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tower::util::BoxCloneService;
use tower::{Layer, ServiceExt, service_fn};
use x402_evm::exact::{self, Exact};
use x402_evm::key::Key;
use x402_facilitator_core::{Facilitator, PaymentRequest};
use x402_http::Body;
use x402_http::client::{Clock, PayLayer, Payer, Timer};
use x402_http::server::{RequirePaymentLayer, Seller};
use x402_types::v2::{SettleResponse, SupportedResponse, VerifyResponse};
use x402_types::{Fault, MakePayment, Offer, SigningContext, UnixSeconds};

/// The keys of anvil's accounts 1 to 3: payer, signer, payee.
pub(crate) const PAYER: &str = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";
pub(crate) const SIGNER: &str = "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a";
pub(crate) const PAYEE: &str = "0x7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6";

pub(crate) const ORIGIN: &str = "https://api.example.com";
pub(crate) const TRANSACTION: &str = "0xabababababababababababababababababababababababababababababababab";
const NOW: u64 = 1_795_923_767;

pub(crate) fn key(text: &str) -> Key {
    text.parse().unwrap()
}

/// A clock that the test moves; each draw of randomness differs.
#[derive(Debug, Default)]
pub(crate) struct Ticks {
    pub(crate) passed: AtomicU64,
    drawn: AtomicU64,
}

impl Ticks {
    pub(crate) fn pass(&self, seconds: u64) {
        self.passed.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for Ticks {
    fn now(&self) -> UnixSeconds {
        UnixSeconds(NOW + self.passed.load(Ordering::SeqCst))
    }
    fn entropy(&self) -> Option<[u8; 32]> {
        let mut bytes = [7; 32];
        bytes[..8].copy_from_slice(&self.drawn.fetch_add(1, Ordering::SeqCst).to_be_bytes());
        Some(bytes)
    }
}

#[async_trait]
impl Timer for Ticks {
    async fn sleep(&self, time: Duration) {
        self.pass(time.as_secs());
    }
}

/// Accepts every payment, and counts.
#[derive(Debug, Default)]
pub(crate) struct Bank {
    pub(crate) verified: AtomicUsize,
    pub(crate) settled: AtomicUsize,
    /// The extensions of the last payment, as they came.
    pub(crate) received: std::sync::Mutex<x402_types::Members>,
}

#[async_trait]
impl Facilitator for Bank {
    async fn verify(&self, request: &PaymentRequest) -> Result<VerifyResponse, Fault> {
        self.verified.fetch_add(1, Ordering::SeqCst);
        Ok(serde_json::from_value(serde_json::json!({"isValid": true, "payer": payer_of(request)})).unwrap())
    }

    async fn settle(&self, request: &PaymentRequest) -> Result<SettleResponse, Fault> {
        self.settled.fetch_add(1, Ordering::SeqCst);
        *self.received.lock().unwrap() = request.claim.extensions.clone();
        let json = serde_json::json!({"success": true, "payer": payer_of(request), "transaction": TRANSACTION,
            "network": request.claim.terms.network});
        Ok(serde_json::from_value(json).unwrap())
    }

    async fn supported(&self) -> Result<SupportedResponse, Fault> {
        let kinds = serde_json::json!({"kinds": [{"x402Version": 2, "scheme": "exact", "network": "eip155:84532"}]});
        Ok(serde_json::from_value(kinds).unwrap())
    }
}

fn payer_of(request: &PaymentRequest) -> String {
    let payload: serde_json::Value = request.claim.payload.read().unwrap();
    payload["authorization"]["from"].as_str().unwrap().to_owned()
}

pub(crate) fn offer(price: &str) -> Offer {
    let network = "eip155:84532".parse().unwrap();
    Exact::default().requirements(network, key(PAYEE).address(), price.parse().unwrap()).unwrap()
}

/// What both sides of a test share.
pub(crate) struct Stage {
    pub(crate) clock: Arc<Ticks>,
    pub(crate) bank: Arc<Bank>,
    pub(crate) calls: Arc<AtomicUsize>,
}

pub(crate) type Service = BoxCloneService<Request<Full<Bytes>>, Response<Body<Full<Bytes>>>, Infallible>;

impl Stage {
    pub(crate) fn new() -> Self {
        Self { clock: Arc::default(), bank: Arc::default(), calls: Arc::default() }
    }

    pub(crate) fn seller(&self) -> Seller {
        Seller::new(ORIGIN, Arc::clone(&self.bank) as Arc<dyn Facilitator>).unwrap().with_clock(self.clock.clone())
    }

    /// A handler behind the layer, which answers `content`.
    pub(crate) fn serve(&self, layer: &RequirePaymentLayer) -> Service {
        let calls = Arc::clone(&self.calls);
        let handler = service_fn(move |_: Request<Full<Bytes>>| {
            calls.fetch_add(1, Ordering::SeqCst);
            async { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"content")))) }
        });
        BoxCloneService::new(layer.layer(handler))
    }

    pub(crate) fn payer(&self, key_text: &str) -> Payer {
        Payer::new(exact::Payer::new(key(key_text))).with_clock(self.clock.clone())
    }

    pub(crate) fn settled(&self) -> usize {
        self.bank.settled.load(Ordering::SeqCst)
    }

    pub(crate) fn served(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

pub(crate) fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(format!("{ORIGIN}{path}")).body(Full::default()).unwrap()
}

/// Requests a path through a paying client.
pub(crate) async fn buy(
    payer: &Payer,
    service: &Service,
    path: &str,
) -> Result<Response<Bytes>, x402_http::client::ClientError<Infallible>> {
    let response = PayLayer::new(payer.clone()).layer(service.clone()).oneshot(get(path)).await?;
    Ok(whole(response).await)
}

/// The payment of a key for a document's first entry, with these extensions.
pub(crate) async fn payment(
    key_text: &str,
    document: &serde_json::Value,
    extensions: Option<serde_json::Value>,
    (now, entropy): (UnixSeconds, u8),
) -> serde_json::Value {
    let context = SigningContext { now, entropy: [entropy; 32], url: ORIGIN, method: "GET" };
    let accepted: x402_types::v2::PaymentRequirements = serde_json::from_value(document["accepts"][0].clone()).unwrap();
    let made = exact::Payer::new(key(key_text)).make_payment(&accepted.into(), &context).await.unwrap();
    let mut payment = serde_json::json!({"x402Version": 2, "resource": document["resource"],
        "accepted": document["accepts"][0], "payload": made.payload});
    if let Some(extensions) = extensions {
        payment["extensions"] = extensions;
    }
    payment
}

/// A request with a payment.
pub(crate) fn paying(path: &str, payment: &serde_json::Value) -> Request<Full<Bytes>> {
    let mut request = get(path);
    let header = x402_codec::base64::encode(payment.to_string().as_bytes());
    request.headers_mut().insert("payment-signature", header.parse().unwrap());
    request
}

/// Requests a path without a client.
pub(crate) async fn ask(service: &Service, request: Request<Full<Bytes>>) -> Response<Bytes> {
    whole(service.clone().oneshot(request).await.unwrap().map(Body::inner)).await
}

async fn whole<B: http_body::Body<Data = Bytes>>(response: Response<B>) -> Response<Bytes>
where
    B::Error: std::fmt::Debug,
{
    let (parts, body) = response.into_parts();
    Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
}

/// The 402 document of a response.
pub(crate) fn required(response: &Response<Bytes>) -> serde_json::Value {
    assert_eq!(response.status(), 402);
    let value = response.headers().get("payment-required").unwrap();
    x402_codec::header::decode(value.as_bytes(), &x402_codec::Limits::DEFAULT).unwrap()
}
