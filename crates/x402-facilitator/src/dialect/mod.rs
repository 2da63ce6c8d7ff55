//! The interface between the routes and the protocols of callers: a dialect is one value, registered once.
//!
//! A dialect recognises a body of `/verify` or `/settle`, reads it into a [`Claim`], and writes the result in its own
//! format. The steps between are the same for all dialects (`routes/exchange.rs`): the caller is admitted, the dialect
//! reads, the request's name is claimed, the machine verifies or settles, the dialect writes.
//!
//! [`crate::dialects::all`] lists the built-in dialects; [`Engine::with_dialect`] adds one.

mod body;

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::body::Bytes;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use x402_codec::Limits;
use x402_facilitator_core::{Outcome, Payment, PaymentRequest, Verified};
use x402_store::requests::Requests;
use x402_types::v2::{SettleResponse, VerifyResponse};
use x402_types::{Claim, ErrorReason, Fault, Refusal, Rejection, Terms};

pub use self::body::Body;
use crate::engine::Engine;
use crate::names::Names;

/// A protocol in which callers use a facilitator over HTTP.
#[async_trait]
pub trait Dialect: Send + Sync {
    /// Returns whether a body is in this dialect. The dialects are tried in order and the first match takes the body;
    /// the last dialect takes every body that no other recognises.
    fn recognises(&self, body: &Body) -> bool;

    /// Reads a request into a claim, whose identity it sets.
    ///
    /// # Errors
    /// The request is answered without the machine.
    fn read(&self, context: &Context, request: &Request) -> Result<Submission, Stopped>;

    /// Compares a request with the earlier ones under its name and, at `/settle`, binds the name to its payment.
    ///
    /// # Errors
    /// The name belongs to another payment, or the store failed.
    async fn admit(&self, context: &Context, request: &Request, submission: &Submission) -> Result<(), Stopped> {
        let caller = &submission.claim.identity.caller;
        for name in &submission.names {
            let fits = match request.endpoint {
                Endpoint::Verify => context.names.fits(caller, &name.text, name.of).await?,
                Endpoint::Settle => context.names.take(caller, &name.text, name.of).await?,
            };
            if !fits {
                return Err(Stopped::Taken(name.another.clone()));
            }
        }
        Ok(())
    }

    /// Remembers that a payment was verified under the request's name.
    ///
    /// # Errors
    /// The name belongs to another payment by now, or the store failed.
    async fn remember(&self, context: &Context, submission: &Submission, _: &Verified) -> Result<(), Stopped> {
        for name in &submission.names {
            context.names.verified(&submission.claim.identity.caller, &name.text, name.of);
        }
        Ok(())
    }

    /// Writes a verdict: the payer, or the reason for a refusal or for the lack of an answer. `submission` is the
    /// request as it was read, if it could be read.
    fn write_verdict(
        &self,
        context: &Context,
        request: &Request,
        submission: Option<&Submission>,
        verdict: Result<String, Stopped>,
    ) -> Reply;

    /// Writes the state of a payment that was to be settled.
    fn write_settlement(
        &self,
        context: &Context,
        request: &Request,
        submission: Option<&Submission>,
        settled: Result<Settled, Stopped>,
    ) -> Reply;

    /// Returns the paths at which this dialect's callers expect the endpoints, beside `/verify` and `/settle`. Every
    /// dialect is accepted at each of them.
    fn paths(&self) -> &'static [(&'static str, Endpoint)] {
        &[]
    }

    /// Returns the routes that only this dialect has.
    fn routes(&self, context: &Arc<Context>) -> Router {
        let _ = context;
        Router::new()
    }

    /// Returns whether this dialect answers a server in this process about such terms, without HTTP.
    fn serves(&self, terms: &Terms) -> bool {
        let _ = terms;
        false
    }

    /// Makes the claim of a payment that a server in this process has received.
    ///
    /// # Errors
    /// The payment cannot fulfil the terms.
    fn claim(&self, request: &PaymentRequest) -> Result<Claim, Rejection> {
        Ok(request.claim.clone())
    }

    /// Writes a verdict for a server in this process: the payer, or the refusal.
    fn verify_response(&self, terms: &Terms, verdict: Result<&str, &Rejection>) -> VerifyResponse {
        let _ = terms;
        verdict.map_or_else(VerifyResponse::invalid, VerifyResponse::valid)
    }

    /// Writes a settlement for a server in this process: the state of the payment, or its refusal before anything was
    /// sent.
    fn settle_response(&self, terms: &Terms, settled: Result<&Settled, &Rejection>) -> SettleResponse {
        match settled {
            Ok(settled) => settled.outcome.to_response(terms),
            Err(rejection) => SettleResponse::refused(rejection, terms.network_name()),
        }
    }

    /// Returns whether [`Settled::row`] is needed to describe a payment that was not made, for answers that list its
    /// steps.
    fn tells_steps(&self) -> bool {
        false
    }
}

/// The endpoint of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// The check whether a payment is good. It moves no money.
    Verify,
    /// The settlement of a payment, at most once.
    Settle,
}

/// A request whose caller was admitted.
#[derive(Debug)]
pub struct Request {
    /// The requested endpoint.
    pub endpoint: Endpoint,
    /// The caller's name; empty if callers are not distinguished.
    pub caller: String,
    /// The HTTP headers.
    pub headers: HeaderMap,
    /// The unparsed body.
    pub body: Body,
}

impl Request {
    /// Returns the caller's name for this request: `Idempotency-Key`, if present.
    ///
    /// # Errors `invalid_payload`: it is not 1 to 255 visible ASCII characters.
    pub fn name(&self) -> Result<Option<&str>, Rejection> {
        let Some(value) = self.headers.get("idempotency-key") else { return Ok(None) };
        let key = value.to_str().ok().filter(|key| (1..=255).contains(&key.len()));
        key.map(Some).ok_or_else(|| {
            Rejection::new(ErrorReason::INVALID_PAYLOAD)
                .because("Idempotency-Key: expected 1 to 255 visible ASCII characters")
        })
    }
}

/// A request that was read.
#[derive(Debug)]
pub struct Submission {
    /// The payment, with the identity of its request.
    pub claim: Claim,
    /// The names of the request, each bound to one thing.
    pub names: Vec<Name>,
    /// Whether a success may be reported again: the caller named the request, and recognises its own request by that
    /// name.
    pub may_replay: bool,
}

/// A name of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The name, which includes the caller's own: two callers never share a name.
    pub text: String,
    /// The hash of what the name is bound to: a payment, or the exact payload.
    pub of: [u8; 32],
    /// The error message for a request that uses the name for something else.
    pub another: String,
}

impl Name {
    /// Binds the caller's `Idempotency-Key` to a payment.
    #[must_use]
    pub fn of_caller(name: &str, payment: [u8; 32]) -> Self {
        let another = "Idempotency-Key: it names another payment".to_owned();
        Self { text: name.to_owned(), of: payment, another }
    }
}

/// The reason why a payment was not verified, or not accepted for settlement.
#[derive(Debug)]
pub enum Stopped {
    /// The body is too large: 413.
    TooLarge,
    /// The request cannot be read: 400.
    Unreadable(Rejection),
    /// The request was read, but its payment is already known to be refused: a verdict, in the dialect's own words.
    Refused(Rejection),
    /// The machine refuses the payment: a verdict.
    Rejected(Rejection),
    /// A name of the request belongs to another payment: 409, with this message.
    Taken(String),
    /// The answer could not be determined: 503.
    Fault(Fault),
}

impl Stopped {
    /// Returns the HTTP status for this reason.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unreadable(_) => StatusCode::BAD_REQUEST,
            Self::Refused(_) | Self::Rejected(_) => StatusCode::OK,
            Self::Taken(_) => StatusCode::CONFLICT,
            Self::Fault(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl From<Fault> for Stopped {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Refusal> for Stopped {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Rejection(rejection) => Self::Rejected(rejection),
            Refusal::Fault(fault) => Self::Fault(fault),
        }
    }
}

/// The state of a payment that was accepted for settlement.
#[derive(Debug)]
pub struct Settled {
    /// The outcome that its caller gets.
    pub outcome: Outcome,
    /// The payment's row, where [`Dialect::tells_steps`] and the payment was not made.
    pub row: Option<Payment>,
}

/// An HTTP status with a JSON body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status. A 503 also gets `Retry-After`.
    pub status: StatusCode,
    /// The JSON body.
    pub body: Vec<u8>,
}

impl Reply {
    /// Serializes this value. If that fails, the error is logged and the reply is 500.
    pub fn json<T: Serialize + ?Sized>(status: StatusCode, body: &T) -> Self {
        match x402_codec::body::write(body) {
            Ok(body) => Self { status, body },
            Err(error) => {
                tracing::error!(%error, "an answer could not be written");
                Self { status: StatusCode::INTERNAL_SERVER_ERROR, body: Vec::new() }
            }
        }
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let Self { status, body } = self;
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            return status.into_response();
        }
        let mut response = (status, [(CONTENT_TYPE, "application/json")], Bytes::from(body)).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("2"));
        }
        response
    }
}

/// The state that dialects share: the machine, and the memory of requests.
#[derive(Debug)]
pub struct Context {
    engine: Arc<Engine>,
    requests: Arc<dyn Requests>,
    names: Names,
    limits: Limits,
}

impl Context {
    pub(crate) fn new(engine: Arc<Engine>, requests: Arc<dyn Requests>, limits: Limits) -> Self {
        Self { engine, names: Names::new(Arc::clone(&requests)), requests, limits }
    }

    /// Returns the limits of bodies.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Returns the machine.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Returns the memory in which `/settle` finds what `/verify` approved.
    #[must_use]
    pub fn requests(&self) -> &dyn Requests {
        self.requests.as_ref()
    }

    pub(crate) const fn names(&self) -> &Names {
        &self.names
    }
}
