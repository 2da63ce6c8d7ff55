//! The facilitator's HTTP API: [x402 v2 §7](https://github.com/coinbase/x402/blob/main/specs/x402-specification-v2.md).
//!
//! 200 for verdicts, 400 with `isValid` or `success` `false` and a code for what cannot be decoded or routed,
//! 409 for a payment of another request, 413 over size, 503 where the fault is ours.

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
use x402_codec::{DecodeErrorKind, Limits, body};
use x402_facilitator_core::Facilitator;
use x402_types::{Claim, ErrorReason, Fault, Identity, Rejection, Terms, VerifyRequest};
use zeroize::Zeroizing;

use crate::engine::{Engine, invalid, undecided};

/// Who may call: names and tokens.
pub type Callers = Vec<(String, Zeroizing<String>)>;

struct Api {
    engine: Arc<Engine>,
    callers: Callers,
    limits: Limits,
}

/// The routes of a facilitator. Without callers everybody who reaches the port may call, all as one.
pub fn routes(engine: Arc<Engine>, callers: Callers) -> Router {
    let api = Arc::new(Api { engine, callers, limits: Limits::DEFAULT });
    Router::new()
        .route("/verify", post(verify))
        .route("/settle", post(settle))
        .route("/supported", get(supported))
        .route("/health", get(health))
        .with_state(api)
}

/// Why a request was not taken up.
enum Refused {
    Unauthorized,
    TooLarge,
    Unreadable(Rejection),
}

impl Api {
    async fn claim(&self, headers: &HeaderMap, body: Body) -> Result<Claim, Refused> {
        let caller = self.caller(headers)?;
        let bytes = axum::body::to_bytes(body, self.limits.body).await.map_err(|_| Refused::TooLarge)?;
        let request = body::verify_request(&bytes, &self.limits).map_err(|error| match error.kind() {
            DecodeErrorKind::TooLarge => Refused::TooLarge,
            _ => Refused::Unreadable(error.into()),
        })?;
        let identity = request_id(headers, &request);
        let terms = Terms::try_from(request.payment_requirements)
            .map_err(|why| Rejection::new(ErrorReason::INVALID_NETWORK).because(format!("network: {why}")));
        let terms = terms.map_err(Refused::Unreadable)?;
        // The server has compared them; a facilitator that trusts it would settle what was never offered.
        if !request.payment_payload.is_for(&terms) {
            return Err(Refused::Unreadable(
                Rejection::new(ErrorReason::INVALID_PAYMENT_REQUIREMENTS)
                    .because("paymentPayload.accepted: expected the entry in paymentRequirements"),
            ));
        }
        let identity = Identity { caller, request: identity.map_err(Refused::Unreadable)? };
        let mut claim = Claim::new(terms, request.payment_payload);
        claim.identity = identity;
        // Somebody here serves the terms and can read the payload; what it says is for the verdict.
        self.engine.settlement().key(&claim).map_err(Refused::Unreadable)?;
        Ok(claim)
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

/// `Idempotency-Key`, or the hash of the canonical body.
fn request_id(headers: &HeaderMap, request: &VerifyRequest) -> Result<String, Rejection> {
    if let Some(value) = headers.get("idempotency-key") {
        let key = value.to_str().ok().filter(|key| (1..=255).contains(&key.len()));
        let key = key.ok_or_else(|| {
            Rejection::new(ErrorReason::INVALID_PAYLOAD)
                .because("Idempotency-Key: expected 1 to 255 visible ASCII characters")
        })?;
        return Ok(format!("key:{key}"));
    }
    // Members in alphabetical order, numbers and strings in one spelling: white space and order do not count.
    // Without it two requests could pass for one, so there is no default.
    let canonical = serde_json::to_value(request)
        .map_err(|error| Rejection::new(ErrorReason::INVALID_PAYLOAD).because(format!("the body: {error}")))?
        .to_string();
    Ok(format!("body:{}", alloy_primitives::hex::encode(Sha256::digest(canonical.as_bytes()))))
}

async fn verify(State(api): State<Arc<Api>>, headers: HeaderMap, body: Body) -> Response {
    let claim = match api.claim(&headers, body).await {
        Ok(claim) => claim,
        Err(refused) => return refused.answer(invalid),
    };
    match api.engine.verify_claim(&claim).await {
        Ok(response) => json(StatusCode::OK, &response),
        Err(fault) => unavailable(&fault, &invalid(Rejection::new(ErrorReason::UNEXPECTED_VERIFY_ERROR))),
    }
}

async fn settle(State(api): State<Arc<Api>>, headers: HeaderMap, body: Body) -> Response {
    let claim = match api.claim(&headers, body).await {
        Ok(claim) => claim,
        Err(refused) => return refused.answer(undecided),
    };
    match api.engine.settle_claim(&claim).await {
        Ok(response) if response.error_reason == Some(ErrorReason::DUPLICATE_SETTLEMENT) => {
            json(StatusCode::CONFLICT, &response)
        }
        Ok(response) => json(StatusCode::OK, &response),
        Err(fault) => unavailable(&fault, &undecided(Rejection::new(ErrorReason::UNEXPECTED_SETTLE_ERROR))),
    }
}

async fn supported(State(api): State<Arc<Api>>) -> Response {
    match api.engine.supported().await {
        Ok(response) => json(StatusCode::OK, &response),
        Err(fault) => unavailable(&fault, &serde_json::json!({ "error": "unavailable" })),
    }
}

async fn health(State(api): State<Arc<Api>>) -> Response {
    match api.engine.healthy().await {
        Ok(()) => json(StatusCode::OK, &serde_json::json!({ "status": "ok" })),
        Err(fault) => unavailable(&fault, &serde_json::json!({ "status": "unavailable" })),
    }
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

/// The log has what happened; the wire a general code.
fn unavailable<T: Serialize>(fault: &Fault, answer: &T) -> Response {
    tracing::error!(%fault, "a request could not be answered");
    let mut response = json(StatusCode::SERVICE_UNAVAILABLE, answer);
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
