//! The facilitator's HTTP API: [x402 v2 §7](https://github.com/coinbase/x402/blob/main/specs/x402-specification-v2.md).
//!
//! The bodies of `/verify` and `/settle` have several dialects: [`crate::dialect`].

mod accepts;
mod exchange;
mod openapi;
mod payments;

use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{Extensions, HeaderName, Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post};
use tokio::time::Instant;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tracing::Instrument as _;
use x402_codec::Limits;
use x402_facilitator_core::{Facilitator, LaneId};
use x402_store::marks::Quarantine;
use x402_store::requests::{MemoryRequests, Requests};
use x402_types::v2::SupportedKind;
use zeroize::Zeroizing;

use crate::callers::{Caller, Callers};
use crate::config::{BearerHash, BrowserOrigin, LimitsConfig};
use crate::dialect::{Context, Endpoint, NotAdmitted, Reply};
use crate::edge::{AddressRates, PeerAddress};
use crate::engine::{Engine, LowSigner, Readiness, ShortSigner};
use crate::metrics::names;
use crate::routes::openapi::{Operation, PAYMENT};

/// The routes of a facilitator. By default, everyone who reaches the port may call, all as the same caller; requests are
/// remembered in memory; and no session keys are kept.
#[derive(Debug)]
pub struct Routes {
    engine: Arc<Engine>,
    callers: Callers,
    requests: Arc<dyn Requests>,
    values: Extensions,
    limits: Option<LimitsConfig>,
    origins: Vec<BrowserOrigin>,
    further: Router,
}

const VERIFY: Operation = Operation::new("post", "/verify", "Verifies a payment", &[200, 409]);
const SETTLE: Operation = Operation::new("post", "/settle", "Settles a payment, once", &[200, 409]);

impl Routes {
    /// Creates the routes of this engine.
    #[must_use]
    pub fn new(engine: Arc<Engine>) -> Self {
        let requests = Arc::new(MemoryRequests::default());
        Self {
            engine,
            callers: Callers::default(),
            requests,
            values: Extensions::new(),
            limits: None,
            origins: Vec::new(),
            further: Router::new(),
        }
    }

    /// Admits a caller with this bearer token. Callers without a token are then refused.
    #[must_use]
    pub fn with_caller(self, name: impl Into<String>, token: Zeroizing<String>) -> Self {
        self.callers.add(Caller::new(name, BearerHash::of(&token)));
        self
    }

    /// Sets the callers. A list without any admits everyone.
    #[must_use]
    pub fn with_callers(mut self, callers: Callers) -> Self {
        self.callers = callers;
        self
    }

    /// Limits the requests of each address, and the time for bodies. [`Callers`] have their own rates.
    #[must_use]
    pub fn with_limits(mut self, limits: LimitsConfig) -> Self {
        self.limits = Some(limits);
        self
    }

    /// Lets the pages of these origins call from a browser.
    #[must_use]
    pub fn with_origins(mut self, origins: impl IntoIterator<Item = BrowserOrigin>) -> Self {
        self.origins = origins.into_iter().collect();
        self
    }

    /// Sets the store that remembers requests.
    #[must_use]
    pub fn with_requests(mut self, requests: Arc<dyn Requests>) -> Self {
        self.requests = requests;
        self
    }

    /// Sets a value that the routes of a dialect use, see [`Context::value`]: the one of this type.
    #[must_use]
    pub fn with_value<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.values.insert(value);
        self
    }

    /// Adds routes beside those of the facilitator. Limits, origins and metrics apply to them, too.
    #[must_use]
    pub fn with_further(mut self, routes: Router) -> Self {
        self.further = self.further.merge(routes);
        self
    }

    /// Returns the routes as a router that can be served.
    pub fn into_router(self) -> Router {
        let Self { engine, callers, requests, values, limits, origins, further } = self;
        let body_time = limits.clone().unwrap_or_default().body_time();
        let context =
            Arc::new(Context::new(Arc::clone(&engine), requests, Limits::DEFAULT, callers, body_time, values));
        let dialects = context.engine().dialects();
        let served = [
            (VERIFY, post(exchange::verify)),
            (SETTLE, post(exchange::settle)),
            (Operation::new("post", "/accepts", "Completes offers", &[200]), post(accepts::complete)),
            (Operation::new("get", PAYMENT, "Reads a payment of the caller", &[200, 400, 404]), get(payments::read)),
            (Operation::new("get", "/supported", "What is served", &[200, 503]).open(), get(supported)),
        ];
        let aliases = dialects.iter().flat_map(|dialect| dialect.paths()).map(|(path, endpoint)| match endpoint {
            Endpoint::Verify => (Operation { path, ..VERIFY }, post(exchange::verify)),
            Endpoint::Settle => (Operation { path, ..SETTLE }, post(exchange::settle)),
        });
        let mut operations = openapi::PROBES.to_vec();
        operations.extend(openapi::FURTHER);
        #[cfg(feature = "cards")]
        operations.extend(openapi::CARDS);
        let mut routes = Router::new();
        for (operation, method) in served.into_iter().chain(aliases) {
            routes = routes.route(operation.path, method);
            operations.push(operation);
        }
        let document = Arc::new(openapi::document(&operations));
        routes = routes.route("/openapi.json", get(async move || Reply::json(StatusCode::OK, &*document)));
        let routes = routes.with_state(Arc::clone(&context));
        let routes =
            dialects.iter().fold(routes, |routes, dialect| routes.merge(dialect.routes(&context))).merge(further);
        let routes = match limits {
            Some(limits) => {
                let rates = Arc::new(AddressRates::new(limits.address_rate()));
                routes.layer(from_fn_with_state(rates, limited))
            }
            None => routes,
        };
        // Probes of a supervisor have no rate.
        let routes = routes.merge(health_routes(&engine));
        let routes = if origins.is_empty() { routes } else { routes.layer(cors(&origins)) };
        routes.layer(from_fn_with_state(context, measure))
    }
}

/// Admits a request if its address has not had too many. A request that came by no connection has no address.
async fn limited(State(rates): State<Arc<AddressRates>>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<PeerAddress>().copied();
    match peer.map_or(Ok(()), |PeerAddress(address)| rates.count(address)) {
        Ok(()) => next.run(request).await,
        Err(wait) => NotAdmitted::TooMany(wait).answer(|_| ()),
    }
}

fn cors(origins: &[BrowserOrigin]) -> CorsLayer {
    let allowed = AllowOrigin::list(origins.iter().filter_map(BrowserOrigin::header));
    let headers = [AUTHORIZATION, CONTENT_TYPE, HeaderName::from_static("idempotency-key")];
    CorsLayer::new().allow_origin(allowed).allow_methods([Method::GET, Method::POST]).allow_headers(headers)
}

/// Counts each answer by route and status, and its time, and puts the log lines of the request into one span.
async fn measure(State(context): State<Arc<Context>>, request: Request, next: Next) -> Response {
    let (began, path) = (Instant::now(), request.extensions().get::<MatchedPath>().cloned());
    // A path that no route has is the peer's choice.
    let route = path.as_ref().map_or("none", MatchedPath::as_str);
    // At the level of errors, so that no filter hides which payment an error is about.
    let span = tracing::error_span!("request", route, caller = tracing::field::Empty, key = tracing::field::Empty);
    let response = next.run(request).instrument(span).await;
    let metrics = context.engine().metrics();
    metrics.add(&names::REQUESTS, &[route, response.status().as_str()], 1);
    metrics.observe(&names::REQUEST_SECONDS, &[route], began.elapsed());
    response
}

async fn supported(State(context): State<Arc<Context>>) -> Reply {
    match context.engine().supported().await {
        Ok(response) => Reply::json(StatusCode::OK, &response),
        Err(fault) => Reply::unavailable(&fault, &serde_json::json!({ "error": "unavailable" })),
    }
}

/// Returns `/health` and `/ready` alone, for another port.
pub(crate) fn health_routes(engine: &Arc<Engine>) -> Router {
    Router::new().route("/health", get(health)).route("/ready", get(ready)).with_state(Arc::clone(engine))
}

async fn health(State(engine): State<Arc<Engine>>) -> Reply {
    match engine.health().await {
        Ok(health) => {
            let heads: serde_json::Map<_, _> =
                health.heads.iter().map(|(network, age)| (network.to_string(), (*age).into())).collect();
            let mut answer = serde_json::json!({ "status": "ok", "headAgeSeconds": heads });
            if let (Some(age), Some(answer)) = (health.last_commit, answer.as_object_mut()) {
                answer.insert("lastCommitAgeSeconds".to_owned(), age.into());
            }
            Reply::json(StatusCode::OK, &answer)
        }
        Err(fault) => Reply::unavailable(&fault, &serde_json::json!({ "status": "unavailable" })),
    }
}

fn named(kinds: &[SupportedKind]) -> Vec<serde_json::Value> {
    let name = |kind: &SupportedKind| serde_json::json!({ "x402Version": kind.x402_version, "scheme": kind.scheme, "network": kind.network });
    kinds.iter().map(name).collect()
}

/// Answers whether every served kind has a signer that can pay for a transaction, and names those that cannot. Each
/// change is in the log.
async fn ready(State(engine): State<Arc<Engine>>) -> Reply {
    if engine.paused().is_some() {
        return Reply::json(StatusCode::SERVICE_UNAVAILABLE, &serde_json::json!({ "status": "paused" }));
    }
    let Readiness { short, low, stopped, .. } = engine.readiness();
    let low = low.iter().map(|LowSigner { lane, .. }| signer(lane, "low"));
    let signers: Vec<_> =
        short.iter().map(|ShortSigner { lane, shortage, .. }| signer(lane, shortage.level())).chain(low).collect();
    if !stopped.is_empty() {
        let answer = serde_json::json!({ "status": "no gas", "kinds": named(&stopped), "signers": signers });
        return Reply::json(StatusCode::SERVICE_UNAVAILABLE, &answer);
    }
    let mut answer = serde_json::json!({ "status": "ready" });
    // Payments with a nonce on a chain go on, so this process stays in service.
    if let (Some((Quarantine { since, why }, kinds)), Some(answer)) = (engine.quarantine(), answer.as_object_mut()) {
        let quarantine = serde_json::json!({ "since": since, "why": why, "kinds": named(&kinds) });
        answer.insert("quarantine".to_owned(), quarantine);
    }
    if !signers.is_empty()
        && let Some(answer) = answer.as_object_mut()
    {
        answer.insert("signers".to_owned(), signers.into());
    }
    Reply::json(StatusCode::OK, &answer)
}

/// Names a signer that needs attention: `low` below its low-water mark, and `warning` or `error` if it cannot pay.
fn signer(lane: &LaneId, level: &str) -> serde_json::Value {
    let network = lane.network().map(|network| network.to_string());
    serde_json::json!({ "network": network, "address": lane.account(), "level": level })
}
