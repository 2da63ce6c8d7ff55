//! The buyer's bench: a scheme that signs nothing and counts, a clock that does not wait, a wire that answers by a list.
#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod book;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use tower::{Layer, ServiceExt};
use x402_codec::header as names;
use x402_http::Body;
use x402_http::client::{ClientError, Clock, MemoryBudget, PayLayer, Payer, Timer};
use x402_types::{
    AuthorizationKind, MadePayment, MakePayment, PaymentKey, RawJson, Refusal, SchemeName, SigningContext, Terms,
    UnixSeconds,
};

use crate::common::{self, PAYER, TRANSACTION, terms};

pub(crate) const NOW: u64 = 1_763_600_000;
pub(crate) const URL: &str = "https://api.example.com/weather";

#[derive(Debug, Default)]
pub(crate) struct Ticks {
    pub(crate) passed: AtomicU64,
    pub(crate) drawn: AtomicU64,
    pub(crate) slept: Mutex<Vec<Duration>>,
}

impl Clock for Ticks {
    fn now(&self) -> UnixSeconds {
        UnixSeconds(NOW + self.passed.load(Ordering::SeqCst))
    }
    fn entropy(&self) -> Option<[u8; 32]> {
        Some([u8::try_from(self.drawn.fetch_add(1, Ordering::SeqCst)).unwrap(); 32])
    }
}

#[async_trait]
impl Timer for Ticks {
    async fn sleep(&self, time: Duration) {
        self.slept.lock().unwrap().push(time);
        self.passed.fetch_add(time.as_secs(), Ordering::SeqCst);
    }
}

/// Signs nothing, counts.
#[derive(Default)]
pub(crate) struct Exact {
    pub(crate) signed: AtomicUsize,
}

#[async_trait]
impl MakePayment for Exact {
    fn can_pay(&self, terms: &Terms) -> bool {
        terms.scheme == SchemeName::EXACT && terms.network.namespace() == "eip155"
    }

    async fn make_payment(&self, terms: &Terms, context: &SigningContext<'_>) -> Result<MadePayment, Refusal> {
        self.signed.fetch_add(1, Ordering::SeqCst);
        let payload = common::payload(context.entropy[0]);
        let nonce = payload["authorization"]["nonce"].as_str().unwrap().to_owned();
        let key = PaymentKey::new(AuthorizationKind::Eip3009, terms.network, &[], PAYER.as_bytes(), nonce.as_bytes());
        let until = context.now.plus(terms.max_timeout_seconds.get());
        Ok(MadePayment::new(RawJson::of(&payload).unwrap(), PAYER.to_owned(), key, until))
    }
}

pub(crate) struct Purse {
    pub(crate) exact: Arc<Exact>,
    pub(crate) clock: Arc<Ticks>,
    pub(crate) budget: Arc<MemoryBudget>,
    pub(crate) payer: Payer,
}

pub(crate) fn purse() -> Purse {
    purse_of(MemoryBudget::default().with_daily("0.05".parse().unwrap()))
}

pub(crate) fn purse_of(budget: MemoryBudget) -> Purse {
    let (exact, clock, budget) = (Arc::new(Exact::default()), Arc::new(Ticks::default()), Arc::new(budget));
    let payer = Payer::new(exact.clone()).with_clock(clock.clone()).with_budget(budget.clone());
    Purse { exact, clock, budget, payer }
}

impl Purse {
    pub(crate) fn signed(&self) -> usize {
        self.exact.signed.load(Ordering::SeqCst)
    }

    pub(crate) fn used(&self) -> String {
        self.budget.used("api.example.com", terms().network, &terms().asset).to_string()
    }
}

pub(crate) type Said = Result<Response<Full<Bytes>>, &'static str>;

/// Answers one after the other, and keeps the requests.
#[derive(Clone, Default)]
pub(crate) struct Wire {
    pub(crate) answers: Arc<Mutex<VecDeque<Said>>>,
    pub(crate) requests: Arc<Mutex<Vec<Request<Bytes>>>>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Broken(pub(crate) &'static str);

impl Wire {
    pub(crate) fn says(self, answers: impl IntoIterator<Item = Response<Full<Bytes>>>) -> Self {
        self.answers.lock().unwrap().extend(answers.into_iter().map(Ok));
        self
    }

    pub(crate) fn service(&self) -> tower::util::BoxCloneService<Request<Full<Bytes>>, Response<Full<Bytes>>, Broken> {
        let this = self.clone();
        tower::service_fn(move |request: Request<Full<Bytes>>| {
            let this = this.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                this.requests.lock().unwrap().push(Request::from_parts(parts, body));
                this.answers.lock().unwrap().pop_front().expect("an answer for each request").map_err(Broken)
            }
        })
        .boxed_clone()
    }
}

pub(crate) fn status(code: u16) -> Response<Full<Bytes>> {
    Response::builder().status(code).body(Full::default()).unwrap()
}

pub(crate) fn with(
    mut response: Response<Full<Bytes>>,
    name: &http::HeaderName,
    value: HeaderValue,
) -> Response<Full<Bytes>> {
    response.headers_mut().insert(name, value);
    response
}

pub(crate) fn document(entries: &[Terms]) -> serde_json::Value {
    let accepts: Vec<_> = entries.iter().map(|terms| serde_json::to_value(terms.to_v2()).unwrap()).collect();
    serde_json::json!({"x402Version": 2, "error": "Payment required", "resource": {"url": URL}, "accepts": accepts})
}

pub(crate) fn asks(entries: &[Terms]) -> Response<Full<Bytes>> {
    with(status(402), &names::PAYMENT_REQUIRED, common::header(&document(entries)))
}

pub(crate) fn settled(code: u16, json: &serde_json::Value) -> Response<Full<Bytes>> {
    with(status(code), &names::PAYMENT_RESPONSE, common::header(json))
}

pub(crate) fn paid() -> Response<Full<Bytes>> {
    settled(200, &serde_json::json!({"success": true, "transaction": TRANSACTION, "network": "eip155:84532"}))
}

pub(crate) fn pending() -> Response<Full<Bytes>> {
    let json = serde_json::json!({"success": false, "errorReason": "settlement_pending", "transaction": TRANSACTION, "network": "eip155:84532"});
    with(settled(503, &json), &http::header::RETRY_AFTER, HeaderValue::from_static("3"))
}

pub(crate) fn refused(reason: &str) -> Response<Full<Bytes>> {
    settled(
        402,
        &serde_json::json!({"success": false, "errorReason": reason, "transaction": "", "network": "eip155:84532"}),
    )
}

pub(crate) async fn ask(purse: &Purse, wire: &Wire) -> Result<Response<Body<Full<Bytes>>>, ClientError<Broken>> {
    ask_with(purse, wire, Request::post(URL).body(Full::from("question")).unwrap()).await
}

pub(crate) async fn ask_with(
    purse: &Purse,
    wire: &Wire,
    request: Request<Full<Bytes>>,
) -> Result<Response<Body<Full<Bytes>>>, ClientError<Broken>> {
    PayLayer::new(purse.payer.clone()).with_redirects().layer(wire.service()).oneshot(request).await
}

pub(crate) fn payment_of(wire: &Wire, request: usize) -> serde_json::Value {
    common::decoded(wire.requests.lock().unwrap()[request].headers(), &names::PAYMENT_SIGNATURE)
}
