//! The facilitator's HTTP API: [x402 v2 §7](https://github.com/coinbase/x402/blob/main/specs/x402-specification-v2.md).
//!
//! The bodies of `/verify` and `/settle` have several dialects: [`crate::dialect`].

mod accepts;
mod exchange;
mod session_keys;

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Serialize;
use sha2::{Digest, Sha256};
use x402_codec::Limits;
use x402_facilitator_core::Facilitator;
use x402_store::requests::{MemoryRequests, Requests};
use x402_types::{ErrorReason, Fault, Rejection};
use zeroize::Zeroizing;

use crate::dialect::{Context, Endpoint, Reply};
use crate::engine::{Engine, Readiness, ShortSigner};
use crate::session_keys::{Registrar, SessionKeys};

/// The routes of a facilitator. By default, everyone who reaches the port may call, all as the same caller; requests are
/// remembered in memory; and no session keys are kept.
#[derive(Debug)]
pub struct Routes {
    engine: Arc<Engine>,
    callers: Vec<Caller>,
    requests: Arc<dyn Requests>,
    session_keys: Option<KeptKeys>,
}

/// A caller and its bearer token.
struct Caller {
    name: String,
    token: Zeroizing<String>,
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caller").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The state that all routes share.
struct Api {
    context: Arc<Context>,
    callers: Vec<Caller>,
    session_keys: Option<KeptKeys>,
}

/// The store of registered session keys, and the registrars that check them.
#[derive(Debug, Clone)]
pub struct KeptKeys {
    /// The store of the keys.
    pub store: Arc<dyn SessionKeys>,
    /// The registrars, one for each network that is served.
    pub registrars: Vec<Registrar>,
}

impl Routes {
    /// Creates the routes of this engine.
    #[must_use]
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine, callers: Vec::new(), requests: Arc::new(MemoryRequests::default()), session_keys: None }
    }

    /// Admits a caller with this bearer token. Callers without a token are then refused.
    #[must_use]
    pub fn with_caller(mut self, name: impl Into<String>, token: Zeroizing<String>) -> Self {
        self.callers.push(Caller { name: name.into(), token });
        self
    }

    /// Sets the store that remembers requests.
    #[must_use]
    pub fn with_requests(mut self, requests: Arc<dyn Requests>) -> Self {
        self.requests = requests;
        self
    }

    /// Sets the store at which session keys are registered.
    #[must_use]
    pub fn with_session_keys(mut self, keys: KeptKeys) -> Self {
        self.session_keys = Some(keys);
        self
    }

    /// Returns the routes as a router that can be served.
    pub fn into_router(self) -> Router {
        let Self { engine, callers, requests, session_keys } = self;
        let context = Arc::new(Context::new(engine, requests, Limits::DEFAULT));
        let api = Arc::new(Api { context: Arc::clone(&context), callers, session_keys });
        let mut routes = Router::new()
            .route("/verify", post(exchange::verify))
            .route("/settle", post(exchange::settle))
            .route("/accepts", post(accepts::complete))
            .route("/supported", get(supported))
            .route("/health", get(health))
            .route("/ready", get(ready))
            .route("/session-keys", post(session_keys::register).delete(session_keys::remove));
        let dialects = context.engine().dialects();
        for (path, endpoint) in dialects.iter().flat_map(|dialect| dialect.paths()) {
            routes = match endpoint {
                Endpoint::Verify => routes.route(path, post(exchange::verify)),
                Endpoint::Settle => routes.route(path, post(exchange::settle)),
            };
        }
        let routes = routes.with_state(api);
        dialects.iter().fold(routes, |routes, dialect| routes.merge(dialect.routes(&context)))
    }
}

/// A request that was admitted.
struct Received {
    caller: String,
    body: Bytes,
}

/// The reason why a request was not processed.
enum Refused {
    Unauthorized,
    TooLarge,
    Unreadable(Rejection),
}

impl Api {
    async fn receive(&self, headers: &HeaderMap, body: Body) -> Result<Received, Refused> {
        let caller = self.caller(headers)?;
        let body = axum::body::to_bytes(body, self.context.limits().body).await.map_err(|_| Refused::TooLarge)?;
        Ok(Received { caller, body })
    }

    fn caller(&self, headers: &HeaderMap) -> Result<String, Refused> {
        if self.callers.is_empty() {
            return Ok(String::new());
        }
        let sent = headers.get(AUTHORIZATION).map(|value| value.as_bytes()).unwrap_or_default();
        let token = sent.strip_prefix(b"Bearer ").unwrap_or_default();
        // Hashes are compared, so that the time taken reveals nothing about the token.
        let digest = Sha256::digest(token);
        let known = self.callers.iter().find(|caller| Sha256::digest(caller.token.as_bytes()) == digest);
        known.map(|caller| caller.name.clone()).ok_or(Refused::Unauthorized)
    }
}

async fn supported(State(api): State<Arc<Api>>) -> Response {
    match api.context.engine().supported().await {
        Ok(response) => json(StatusCode::OK, &response),
        Err(fault) => unavailable(&fault, &serde_json::json!({ "error": "unavailable" })),
    }
}

async fn health(State(api): State<Arc<Api>>) -> Response {
    match api.context.engine().health().await {
        Ok(health) => {
            let heads: serde_json::Map<_, _> =
                health.heads.iter().map(|(network, age)| (network.to_string(), (*age).into())).collect();
            let mut answer = serde_json::json!({ "status": "ok", "headAgeSeconds": heads });
            if let (Some(age), Some(answer)) = (health.last_commit, answer.as_object_mut()) {
                answer.insert("lastCommitAgeSeconds".to_owned(), age.into());
            }
            json(StatusCode::OK, &answer)
        }
        Err(fault) => unavailable(&fault, &serde_json::json!({ "status": "unavailable" })),
    }
}

/// Answers whether every served kind has a signer that can pay for a transaction, and names those that cannot. Each
/// change is in the log.
async fn ready(State(api): State<Arc<Api>>) -> Response {
    let Readiness { short, stopped, .. } = api.context.engine().readiness();
    let signers: Vec<_> = short
        .iter()
        .map(|ShortSigner { lane, shortage, .. }| {
            serde_json::json!({
                "network": lane.network().map(|network| network.to_string()),
                "address": lane.account(),
                "level": shortage.level(),
            })
        })
        .collect();
    if !stopped.is_empty() {
        let kinds: Vec<_> = stopped
            .iter()
            .map(|kind| serde_json::json!({ "x402Version": kind.x402_version, "scheme": kind.scheme, "network": kind.network }))
            .collect();
        let answer = serde_json::json!({ "status": "no gas", "kinds": kinds, "signers": signers });
        return json(StatusCode::SERVICE_UNAVAILABLE, &answer);
    }
    let mut answer = serde_json::json!({ "status": "ready" });
    if !signers.is_empty()
        && let Some(answer) = answer.as_object_mut()
    {
        answer.insert("signers".to_owned(), signers.into());
    }
    json(StatusCode::OK, &answer)
}

impl Refused {
    fn answer<T: Serialize>(self, say: impl Fn(Rejection) -> T) -> Response {
        match self {
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, [("www-authenticate", "Bearer")]).into_response(),
            Self::TooLarge => json(
                StatusCode::PAYLOAD_TOO_LARGE,
                &say(Rejection::new(ErrorReason::INVALID_PAYLOAD).because("the body is larger than 64 KiB")),
            ),
            Self::Unreadable(rejection) => json(StatusCode::BAD_REQUEST, &say(rejection)),
        }
    }
}

/// Logs a fault: the answer has a general code alone.
fn unavailable<T: Serialize>(fault: &Fault, answer: &T) -> Response {
    exchange::log(fault);
    json(StatusCode::SERVICE_UNAVAILABLE, answer)
}

fn json<T: Serialize>(status: StatusCode, answer: &T) -> Response {
    Reply::json(status, answer).into_response()
}
