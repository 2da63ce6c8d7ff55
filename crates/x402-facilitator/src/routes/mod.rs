//! The facilitator's HTTP API: [x402 v2 §7](https://github.com/coinbase/x402/blob/main/specs/x402-specification-v2.md).
//!
//! `/verify` and `/settle` are told apart by what their body says of itself; each dialect has its file.

mod accepts;
mod challenge;
mod names;
mod nvm;
mod session_keys;
mod x402;

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Serialize;
use sha2::{Digest, Sha256};
use x402_codec::nvm::is_request;
use x402_codec::{Limits, body};
use x402_facilitator_core::{Facilitator, LaneId};
use x402_types::{ErrorReason, Fault, NetworkName, Rejection};
use zeroize::Zeroizing;

use self::names::Names;
use crate::engine::{Engine, invalid, undecided};
use crate::session_keys::{Registrar, SessionKeys};
use x402_store::requests::{MemoryRequests, Requests};

/// The longest name of a network, CAIP-2: 8 characters, a colon, 32 characters.
const LONGEST_NETWORK: usize = 41;

/// Who may call: names and tokens.
pub type Callers = Vec<(String, Zeroizing<String>)>;

struct Api {
    engine: Arc<Engine>,
    callers: Callers,
    limits: Limits,
    requests: Arc<dyn Requests>,
    names: Names,
    session_keys: Option<KeptKeys>,
}

/// Where registered session keys are kept, and who checks them.
#[derive(Debug, Clone)]
pub struct KeptKeys {
    /// The store.
    pub store: Arc<dyn SessionKeys>,
    /// One for each network that is served.
    pub registrars: Vec<Registrar>,
}

/// The routes of a facilitator. Without callers everybody who reaches the port may call, all as one. Requests are
/// remembered in memory, and no session keys are kept.
pub fn routes(engine: Arc<Engine>, callers: Callers) -> Router {
    routes_with(engine, callers, Arc::new(MemoryRequests::default()), None)
}

/// The routes of a facilitator that remembers requests and session keys in these stores.
pub fn routes_with(
    engine: Arc<Engine>,
    callers: Callers,
    requests: Arc<dyn Requests>,
    session_keys: Option<KeptKeys>,
) -> Router {
    let api = Api {
        engine,
        callers,
        limits: Limits::DEFAULT,
        names: Names::new(Arc::clone(&requests)),
        requests,
        session_keys,
    };
    let api = Arc::new(api);
    Router::new()
        .route("/initiate", post(initiate))
        .route("/verify", post(verify))
        .route("/settle", post(settle))
        // Where Nevermined's clients call: payments-py and payments have these paths built in.
        .route("/api/v1/x402/verify", post(verify))
        .route("/api/v1/x402/settle", post(settle))
        .route("/accepts", post(accepts::complete))
        .route("/supported", get(supported))
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/session-keys", post(session_keys::register).delete(session_keys::remove))
        .with_state(api)
}

/// A request that was let in.
struct Received {
    caller: String,
    headers: HeaderMap,
    body: Bytes,
}

/// Why a request was not taken up.
enum Refused {
    Unauthorized,
    TooLarge,
    Unreadable(Rejection),
    /// It was read, and says itself that it is not good.
    Verdict(Rejection),
    /// Verification met a fault.
    Unavailable(Fault),
}

impl Api {
    async fn receive(&self, headers: HeaderMap, body: Body) -> Result<Received, Refused> {
        let caller = self.caller(&headers)?;
        let body = axum::body::to_bytes(body, self.limits.body).await.map_err(|_| Refused::TooLarge)?;
        Ok(Received { caller, headers, body })
    }

    fn caller(&self, headers: &HeaderMap) -> Result<String, Refused> {
        if self.callers.is_empty() {
            return Ok(String::new());
        }
        let sent = headers.get(AUTHORIZATION).map(|value| value.as_bytes()).unwrap_or_default();
        let token = sent.strip_prefix(b"Bearer ").unwrap_or_default();
        // Hashes are compared, so that the time taken says nothing about the token.
        let digest = Sha256::digest(token);
        let known = self.callers.iter().find(|(_, token)| Sha256::digest(token.as_bytes()) == digest);
        known.map(|(name, _)| name.clone()).ok_or(Refused::Unauthorized)
    }
}

/// The words of 409 for a name that is another payment's.
const NAMES_ANOTHER: &str = "Idempotency-Key: it names another payment";

/// The network that a body of `/verify` or `/settle` asks for, as it is written there, for a body that was refused:
/// its JSON is all that must be right. Empty where it names none.
fn network_asked(body: &[u8]) -> NetworkName {
    let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let places = [
        "/paymentRequirements/network",
        "/paymentPayload/accepted/network",
        "/paymentPayload/network",
        "/paymentRequired/accepts/0/network",
    ];
    let mut named = places.iter().filter_map(|place| body.pointer(place)?.as_str());
    named.find(|name| !name.is_empty() && name.len() <= LONGEST_NETWORK).map(NetworkName::from).unwrap_or_default()
}

/// `Idempotency-Key`, if there is one.
fn key_of(headers: &HeaderMap) -> Result<Option<&str>, Rejection> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| (1..=255).contains(&key.len()));
    key.map(Some).ok_or_else(|| {
        Rejection::new(ErrorReason::INVALID_PAYLOAD)
            .because("Idempotency-Key: expected 1 to 255 visible ASCII characters")
    })
}

async fn initiate(State(api): State<Arc<Api>>, headers: HeaderMap, body: Body) -> Response {
    // Payers ask for tickets, and have no token of this facilitator. A ticket is worth nothing by itself.
    match axum::body::to_bytes(body, api.limits.body).await {
        Ok(body) => challenge::initiate(&api, &headers, &body),
        Err(_) => challenge::too_large(),
    }
}

async fn verify(State(api): State<Arc<Api>>, headers: HeaderMap, body: Body) -> Response {
    match api.receive(headers, body).await {
        Ok(received) if challenge::speaks(&received.body, &api.limits) => challenge::verify(&api, received).await,
        Ok(received) if is_request(&received.body, &api.limits) => nvm::verify(&api, received).await,
        Ok(received) => x402::verify(&api, received).await,
        Err(refused) => refused.answer(invalid),
    }
}

async fn settle(State(api): State<Arc<Api>>, headers: HeaderMap, body: Body) -> Response {
    match api.receive(headers, body).await {
        Ok(received) if challenge::speaks(&received.body, &api.limits) => challenge::settle(&api, received).await,
        Ok(received) if is_request(&received.body, &api.limits) => nvm::settle(&api, received).await,
        Ok(received) => x402::settle(&api, received).await,
        Err(refused) => refused.answer(undecided),
    }
}

async fn supported(State(api): State<Arc<Api>>) -> Response {
    match api.engine.supported().await {
        Ok(response) => json(StatusCode::OK, &response),
        Err(fault) => unavailable(&fault, &serde_json::json!({ "error": "unavailable" })),
    }
}

async fn health(State(api): State<Arc<Api>>) -> Response {
    match api.engine.health().await {
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

/// Whether every signer can pay for a transaction. The log said so when it changed.
async fn ready(State(api): State<Arc<Api>>) -> Response {
    let unfunded = api.engine.unfunded();
    if unfunded.is_empty() {
        return json(StatusCode::OK, &serde_json::json!({ "status": "ready" }));
    }
    let signer = |(lane, _): &(LaneId, Fault)| serde_json::json!({ "network": lane.network().map(|network| network.to_string()), "address": lane.account() });
    let signers: Vec<_> = unfunded.iter().map(signer).collect();
    again_later(json(StatusCode::SERVICE_UNAVAILABLE, &serde_json::json!({ "status": "no gas", "signers": signers })))
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
            Self::Verdict(rejection) => json(StatusCode::OK, &say(rejection)),
            Self::Unavailable(fault) => unavailable(&fault, &say(Rejection::new(ErrorReason::UNEXPECTED_VERIFY_ERROR))),
        }
    }
}

/// The log has what happened; the wire a general code.
fn unavailable<T: Serialize>(fault: &Fault, answer: &T) -> Response {
    tracing::error!(%fault, "a request could not be answered");
    again_later(json(StatusCode::SERVICE_UNAVAILABLE, answer))
}

fn again_later(mut response: Response) -> Response {
    response.headers_mut().insert("retry-after", axum::http::HeaderValue::from_static("2"));
    response
}

fn json<T: Serialize>(status: StatusCode, answer: &T) -> Response {
    match body::write(answer) {
        Ok(bytes) => (status, [(CONTENT_TYPE, "application/json")], Bytes::from(bytes)).into_response(),
        Err(error) => {
            tracing::error!(%error, "an answer could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
