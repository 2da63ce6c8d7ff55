//! A buyer's purse and wire: the shop's clock in the client's hands, and answers that a test puts before the shop's.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::util::BoxCloneService;
use tower::{Layer, ServiceExt};
use x402_challenge::{MakeProof, MockProof};
use x402_codec::{challenge as codec, header as names};
use x402_http::Body;
use x402_http::client::{ClientError, Clock, MemoryBudget, PayLayer, Payer, Timer};
use x402_http::server::challenge::Ask;
use x402_types::UnixSeconds;
use x402_types::challenge::{Challenge, Payment};

use crate::shop::{Paywalled, Shop, Ticks, offer, shop};

pub(crate) const URL: &str = "https://api.example.com/weather";

/// The shop's clock in the client's hands; what it sleeps passes at once.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) ticks: Arc<Ticks>,
    pub(crate) drawn: AtomicU64,
    pub(crate) slept: Mutex<Vec<Duration>>,
}

impl Clock for Watch {
    fn now(&self) -> UnixSeconds {
        self.ticks.now()
    }

    fn entropy(&self) -> Option<[u8; 32]> {
        Some([u8::try_from(self.drawn.fetch_add(1, Ordering::SeqCst)).unwrap(); 32])
    }
}

#[async_trait]
impl Timer for Watch {
    async fn sleep(&self, time: Duration) {
        self.slept.lock().unwrap().push(time);
    }
}

pub(crate) type Transport = BoxCloneService<Request<Full<Bytes>>, Response<Body<Full<Bytes>>>, Broken>;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Broken;

/// What happens to a request before the shop has it.
pub(crate) enum First {
    /// This is the answer.
    Says(Box<Response<Full<Bytes>>>),
    /// The request does not reach the shop.
    Breaks,
    /// The shop answers, and the answer does not arrive.
    Lost,
    /// The shop answers.
    Passes,
}

/// Answers from the list first, then from the shop; keeps the requests.
#[derive(Clone)]
pub(crate) struct Wire {
    pub(crate) shop: Paywalled,
    pub(crate) first: Arc<Mutex<VecDeque<First>>>,
    pub(crate) requests: Arc<Mutex<Vec<Request<Bytes>>>>,
}

impl Wire {
    pub(crate) fn to(shop: Paywalled) -> Self {
        Self { shop, first: Arc::default(), requests: Arc::default() }
    }

    pub(crate) fn service(&self) -> Transport {
        let this = self.clone();
        tower::service_fn(move |request: Request<Full<Bytes>>| {
            let this = this.clone();
            async move {
                let (parts, body) = request.into_parts();
                let bytes = body.collect().await.unwrap().to_bytes();
                this.requests.lock().unwrap().push(Request::from_parts(parts.clone(), bytes.clone()));
                tokio::task::yield_now().await;
                let said = this.first.lock().unwrap().pop_front();
                let of_shop = this.shop.oneshot(Request::from_parts(parts, Full::new(bytes)));
                match said.unwrap_or(First::Passes) {
                    First::Says(response) => Ok(response.map(Body::inner)),
                    First::Breaks => Err(Broken),
                    First::Lost => of_shop.await.map_err(|_| Broken).and(Err(Broken)),
                    First::Passes => Ok(of_shop.await.unwrap()),
                }
            }
        })
        .boxed_clone()
    }

    pub(crate) fn says(&self, response: Response<Full<Bytes>>) {
        self.first.lock().unwrap().push_back(First::Says(Box::new(response)));
    }

    pub(crate) fn breaks(&self) {
        self.first.lock().unwrap().push_back(First::Breaks);
    }

    pub(crate) fn goes(&self, ways: impl IntoIterator<Item = First>) {
        self.first.lock().unwrap().extend(ways);
    }

    /// The payments sent since the last look; `None` for a request without one.
    pub(crate) fn payments(&self) -> Vec<Option<Payment>> {
        let requests = std::mem::take(&mut *self.requests.lock().unwrap());
        let payment = |request: &Request<Bytes>| {
            request.headers().get(&names::X_PAYMENT).map(|value| codec::payment(value.as_bytes()).unwrap())
        };
        requests.iter().map(payment).collect()
    }

    /// How many requests there were, and how many of them carried a payment, since the last look.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let payments = self.payments();
        (payments.len(), payments.iter().flatten().count())
    }
}

pub(crate) struct Purse {
    pub(crate) shop: Shop,
    pub(crate) wire: Wire,
    pub(crate) watch: Arc<Watch>,
    pub(crate) budget: Arc<MemoryBudget>,
    pub(crate) payer: Payer,
}

pub(crate) fn purse(ask: Ask) -> Purse {
    let shop = shop();
    let wall = shop.sells(ask);
    purse_at(shop, wall)
}

pub(crate) fn purse_at(shop: Shop, wall: Paywalled) -> Purse {
    let watch = Watch { ticks: shop.clock.clone(), drawn: AtomicU64::default(), slept: Mutex::default() };
    let (watch, budget) = (Arc::new(watch), Arc::new(MemoryBudget::default()));
    let payer = Payer::default().with_proofs([Arc::new(MockProof) as Arc<dyn MakeProof>]);
    let payer = payer.with_clock(watch.clone()).with_budget(budget.clone());
    Purse { wire: Wire::to(wall), shop, watch, budget, payer }
}

pub(crate) type Said = Result<Response<Body<Body<Full<Bytes>>>>, ClientError<Broken>>;

impl Purse {
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Said {
        PayLayer::new(self.payer.clone()).layer(self.wire.service()).oneshot(request).await
    }

    pub(crate) async fn get(&self, url: &str) -> Said {
        self.send(Request::get(url).body(Full::default()).unwrap()).await
    }

    pub(crate) fn used(&self) -> String {
        let asset = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
        self.budget.used("api.example.com", "eip155:84532".parse().unwrap(), asset).to_string()
    }
}

pub(crate) fn ask() -> Ask {
    Ask::new(offer("urn:res:abc123"))
}

pub(crate) fn status(code: u16) -> Response<Full<Bytes>> {
    Response::builder().status(code).body(Full::default()).unwrap()
}

pub(crate) fn json_answer(code: u16, json: &Value) -> Response<Full<Bytes>> {
    status(code).map(|_| Full::from(json.to_string()))
}

/// A 402 that refuses, with a fresh challenge of the shop's beside it, or without.
pub(crate) fn refusing(error: &str, fresh: Option<&Challenge>) -> Response<Full<Bytes>> {
    let mut json = fresh.map_or_else(|| json!({}), |fresh| serde_json::to_value(fresh).unwrap());
    json["error"] = error.into();
    json["message"] = "why".into();
    json_answer(402, &json)
}
