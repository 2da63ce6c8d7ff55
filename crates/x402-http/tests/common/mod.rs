//! A facilitator that says what the script says, a payment of the vectors, and a handler that counts.
#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod record;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tower::ServiceExt;
use tower::util::BoxCloneService;
use x402_codec::header;
use x402_facilitator_core::{Facilitator, PaymentRequest};
use x402_http::server::Paid;
use x402_types::v2::{SettleResponse, SupportedResponse, VerifyResponse};
use x402_types::{
    AuthorizationKind, Claim, Fault, Offer, PaymentKey, PaymentKeyFn, RawJson, Rejection, SchemeName, Terms, Version,
};

pub(crate) const ORIGIN: &str = "https://api.example.com";
pub(crate) const PAYER: &str = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
pub(crate) const TRANSACTION: &str = "0x6f1e4ba2c9e0d4d3a4f1f0f3c6c0b5b5a0d6b2b6f5f1b8d0f6a6b0e9d4c3b2a1";

pub(crate) type Verdicts<T> = Mutex<VecDeque<Result<T, Fault>>>;

/// Answers from a list; when the list is empty, yes.
#[derive(Default)]
pub(crate) struct Script {
    pub(crate) verify: Verdicts<VerifyResponse>,
    pub(crate) settle: Verdicts<SettleResponse>,
    pub(crate) log: Mutex<Vec<String>>,
    pub(crate) seen: Mutex<Vec<PaymentRequest>>,
    /// What `/supported` lists, as JSON.
    pub(crate) kinds: Mutex<Option<String>>,
    /// Whether it is a facilitator like ours.
    pub(crate) keeps: AtomicBool,
    /// Whether `/supported` does not answer.
    pub(crate) down: AtomicBool,
    /// How often `/supported` was requested.
    pub(crate) listed: AtomicUsize,
}

impl Script {
    pub(crate) fn verify_says(&self, json: &str) {
        self.verify.lock().unwrap().push_back(Ok(serde_json::from_str(json).unwrap()));
    }

    pub(crate) fn settle_says(&self, json: &str) {
        self.settle.lock().unwrap().push_back(Ok(serde_json::from_str(json).unwrap()));
    }

    pub(crate) fn settle_is_unreachable(&self) {
        self.settle.lock().unwrap().push_back(Err(Fault::unreachable("facilitator", "timed out")));
    }

    pub(crate) fn verify_is_unreachable(&self) {
        self.verify.lock().unwrap().push_back(Err(Fault::unreachable("facilitator", "connection refused")));
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().join(", ")
    }

    fn note(&self, what: &str, request: &PaymentRequest) {
        self.log.lock().unwrap().push(what.to_owned());
        self.seen.lock().unwrap().push(request.clone());
    }
}

#[async_trait]
impl Facilitator for Script {
    async fn verify(&self, request: &PaymentRequest) -> Result<VerifyResponse, Fault> {
        self.note("verify", request);
        tokio::task::yield_now().await;
        let said = self.verify.lock().unwrap().pop_front();
        said.unwrap_or_else(|| Ok(serde_json::from_str(&format!(r#"{{"isValid":true,"payer":"{PAYER}"}}"#)).unwrap()))
    }

    async fn settle(&self, request: &PaymentRequest) -> Result<SettleResponse, Fault> {
        self.note("settle", request);
        tokio::task::yield_now().await;
        let said = self.settle.lock().unwrap().pop_front();
        said.unwrap_or_else(|| Ok(settled(request.claim.terms.version)))
    }

    async fn supported(&self) -> Result<SupportedResponse, Fault> {
        self.listed.fetch_add(1, Ordering::SeqCst);
        if self.down.load(Ordering::SeqCst) {
            return Err(Fault::unreachable("facilitator", "connection refused"));
        }
        let kinds = self.kinds.lock().unwrap().clone().unwrap_or_else(|| "[]".into());
        Ok(serde_json::from_str(&format!(r#"{{"kinds":{kinds}}}"#)).unwrap())
    }

    fn keeps_requests(&self) -> bool {
        self.keeps.load(Ordering::SeqCst)
    }
}

pub(crate) fn settled(version: Version) -> SettleResponse {
    let network = if version == Version::V1 { "base-sepolia" } else { "eip155:84532" };
    let json = format!(r#"{{"success":true,"payer":"{PAYER}","transaction":"{TRANSACTION}","network":"{network}"}}"#);
    serde_json::from_str(&json).unwrap()
}

/// The key of an EIP-3009 payload, as the scheme's crate makes it.
pub(crate) fn key_of(claim: &Claim) -> Result<PaymentKey, Rejection> {
    let bad = || Rejection::new(x402_types::ErrorReason::INVALID_PAYLOAD).because("payload.authorization: missing");
    let payload: serde_json::Value = claim.payload.read().map_err(|_| bad())?;
    let field = |name: &str| payload["authorization"][name].as_str().map(str::to_lowercase).ok_or_else(bad);
    let (from, nonce) = (field("from")?, field("nonce")?);
    let kind = AuthorizationKind::Eip3009;
    Ok(PaymentKey::new(kind, claim.terms.network, claim.terms.asset.as_bytes(), from.as_bytes(), nonce.as_bytes()))
}

pub(crate) fn terms() -> Terms {
    let mut extra = x402_types::Members::new();
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

pub(crate) fn offer(terms: Terms) -> Offer {
    Offer { terms, key: Arc::new(key_of as fn(&Claim) -> Result<PaymentKey, Rejection>) as Arc<dyn PaymentKeyFn> }
}

pub(crate) fn upfront(mut terms: Terms) -> Terms {
    terms.extra.insert_text("paymentFlow", "upfront");
    terms
}

/// The payload of `vectors/eip712.json`'s kind: signature and authorization.
pub(crate) fn payload(nonce: u8) -> serde_json::Value {
    serde_json::json!({
        "signature": format!("0x{}1b", "5a".repeat(64)),
        "authorization": {
            "from": PAYER, "to": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8", "value": "10000",
            "validAfter": "0", "validBefore": "1763650000", "nonce": format!("0x{}", format!("{nonce:02x}").repeat(32)),
        }
    })
}

pub(crate) fn payment_json(terms: &Terms, nonce: u8) -> serde_json::Value {
    serde_json::json!({
        "x402Version": 2, "payload": payload(nonce),
        "resource": {"url": "https://api.example.com/weather"},
        "accepted": serde_json::to_value(terms.to_v2()).unwrap(),
    })
}

pub(crate) fn v1_payment_json(nonce: u8) -> serde_json::Value {
    serde_json::json!({"x402Version": 1, "scheme": "exact", "network": "base-sepolia", "payload": payload(nonce)})
}

pub(crate) fn header(json: &serde_json::Value) -> HeaderValue {
    header::encode(json).unwrap()
}

pub(crate) fn get(path: &str, headers: &[(&HeaderName, HeaderValue)]) -> Request<Full<Bytes>> {
    let mut request = Request::get(path).body(Full::default()).unwrap();
    for (name, value) in headers {
        request.headers_mut().append(*name, value.clone());
    }
    request
}

pub(crate) fn paying(path: &str, json: &serde_json::Value) -> Request<Full<Bytes>> {
    get(path, &[(&header::PAYMENT_SIGNATURE, header(json))])
}

/// Counts its calls; answers what it is told to.
#[derive(Clone, Default)]
pub(crate) struct Handler {
    pub(crate) calls: Arc<AtomicUsize>,
    pub(crate) statuses: Arc<Mutex<VecDeque<StatusCode>>>,
    pub(crate) paid: Arc<Mutex<Vec<Paid>>>,
    pub(crate) bodies: Arc<Mutex<Vec<Bytes>>>,
    pub(crate) script: Option<Arc<Script>>,
}

pub(crate) type Service<B> = BoxCloneService<Request<Full<Bytes>>, Response<B>, Infallible>;

impl Handler {
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    pub(crate) fn service(&self) -> Service<Full<Bytes>> {
        let this = self.clone();
        tower::service_fn(move |request: Request<Full<Bytes>>| {
            let this = this.clone();
            async move {
                this.calls.fetch_add(1, Ordering::SeqCst);
                if let Some(script) = &this.script {
                    script.log.lock().unwrap().push("handler".to_owned());
                }
                tokio::task::yield_now().await;
                if let Some(paid) = request.extensions().get::<Paid>() {
                    this.paid.lock().unwrap().push(paid.clone());
                }
                let body = request.into_body().collect().await.unwrap().to_bytes();
                this.bodies.lock().unwrap().push(body);
                let status = this.statuses.lock().unwrap().pop_front().unwrap_or(StatusCode::OK);
                let mut response = Response::new(Full::from("sunny"));
                *response.status_mut() = status;
                response.headers_mut().insert("content-type", HeaderValue::from_static("text/plain"));
                Ok::<_, Infallible>(response)
            }
        })
        .boxed_clone()
    }
}

/// Status, headers, body.
pub(crate) async fn call<S, B>(service: &S, request: Request<Full<Bytes>>) -> (StatusCode, HeaderMap, Bytes)
where
    S: tower::Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible> + Clone,
    B: http_body::Body<Data = Bytes, Error: std::fmt::Debug>,
{
    let response = service.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    (parts.status, parts.headers, body.collect().await.unwrap().to_bytes())
}

/// The JSON in a header.
pub(crate) fn decoded(headers: &HeaderMap, name: &HeaderName) -> serde_json::Value {
    let value: RawJson = header::decode(headers[name].as_bytes(), &x402_codec::Limits::DEFAULT).unwrap();
    value.read().unwrap()
}
