//! The seam between the routes and what callers write: a dialect is one value, registered once.
//!
//! A dialect recognises a body of `/verify` or `/settle`, reads it into a [`Claim`], and writes what became of it in its
//! own words. The road between is the same for all of them (`routes/exchange.rs`): the caller is let in, the dialect
//! reads, the request's name is taken, the machine verifies or settles, the dialect writes.
//!
//! [`crate::dialects::all`] lists those that every facilitator knows; [`Engine::with_dialect`] adds one.

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

/// One way to ask a facilitator over HTTP, and to be answered.
#[async_trait]
pub trait Dialect: Send + Sync {
    /// Whether a body is of this dialect. The dialects are asked in turn, and the first one has it; the last one has
    /// every body that no other wants.
    fn recognises(&self, body: &Body) -> bool;

    /// Reads a request into a claim, whose identity it sets.
    ///
    /// # Errors
    /// The request is answered without the machine.
    fn read(&self, context: &Context, request: &Request) -> Result<Submission, Stopped>;

    /// Compares a request with what was asked under its name before, and at `/settle` gives the name to its payment.
    ///
    /// # Errors
    /// The name is another payment's, or it could not be found out.
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

    /// Remembers that a payment was found good under the request's name.
    ///
    /// # Errors
    /// The name is another payment's by now, or the store failed.
    async fn remember(&self, context: &Context, submission: &Submission, _: &Verified) -> Result<(), Stopped> {
        for name in &submission.names {
            context.names.verified(&submission.claim.identity.caller, &name.text, name.of);
        }
        Ok(())
    }

    /// Writes a verdict: who pays, or why there is no answer or none that is good. `submission` is what was read of the
    /// request, where it could be read.
    fn write_verdict(
        &self,
        context: &Context,
        request: &Request,
        submission: Option<&Submission>,
        verdict: Result<String, Stopped>,
    ) -> Reply;

    /// Writes how a payment stands that was to be made.
    fn write_settlement(
        &self,
        context: &Context,
        request: &Request,
        submission: Option<&Submission>,
        settled: Result<Settled, Stopped>,
    ) -> Reply;

    /// Where this dialect's callers look for the endpoints beside `/verify` and `/settle`. Every dialect is spoken there.
    fn paths(&self) -> &'static [(&'static str, Endpoint)] {
        &[]
    }

    /// Routes that only this dialect has.
    fn routes(&self, context: &Arc<Context>) -> Router {
        let _ = context;
        Router::new()
    }

    /// Whether a server in this process is answered in this dialect about such terms. No HTTP is between them.
    fn serves(&self, terms: &Terms) -> bool {
        let _ = terms;
        false
    }

    /// The claim of a payment that a server in this process asks about.
    ///
    /// # Errors
    /// The payment cannot fulfil the terms.
    fn claim(&self, request: &PaymentRequest) -> Result<Claim, Rejection> {
        Ok(request.claim.clone())
    }

    /// A verdict in this dialect's words: who pays, or why the payment is refused.
    fn verify_response(&self, terms: &Terms, verdict: Result<&str, &Rejection>) -> VerifyResponse {
        let _ = terms;
        verdict.map_or_else(VerifyResponse::invalid, VerifyResponse::valid)
    }

    /// A settlement in this dialect's words: how the payment stands, or why it was refused before anything was sent.
    fn settle_response(&self, terms: &Terms, settled: Result<&Settled, &Rejection>) -> SettleResponse {
        match settled {
            Ok(settled) => settled.outcome.to_response(terms),
            Err(rejection) => SettleResponse::refused(rejection, terms.network_name()),
        }
    }

    /// Whether [`Settled::row`] is needed to write of a payment that was not made: an answer that tells of its steps.
    fn tells_steps(&self) -> bool {
        false
    }
}

/// What is asked of a facilitator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// Whether a payment is good. Nothing moves.
    Verify,
    /// To have a payment made, once.
    Settle,
}

/// A request whose caller was let in.
#[derive(Debug)]
pub struct Request {
    /// What is asked.
    pub endpoint: Endpoint,
    /// The caller's name; empty where callers are not told apart.
    pub caller: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Body,
}

impl Request {
    /// What the caller calls this request: `Idempotency-Key`, if there is one.
    ///
    /// # Errors
    /// `invalid_payload`: it is no 1 to 255 visible ASCII characters.
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
    /// The payment, with whose request it is.
    pub claim: Claim,
    /// The names of the request. Each is for one thing.
    pub names: Vec<Name>,
    /// Whether a success that was told before may be told again: the caller named the request, and knows by that name
    /// that it is its own.
    pub may_replay: bool,
}

/// A name of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The name, which is the caller's own: another's is another name.
    pub text: String,
    /// What it is for: a payment, or the exact payload.
    pub of: [u8; 32],
    /// The words for a request that uses it for something else.
    pub another: String,
}

impl Name {
    /// `Idempotency-Key`, for a payment.
    #[must_use]
    pub fn of_caller(name: &str, payment: [u8; 32]) -> Self {
        let another = "Idempotency-Key: it names another payment".to_owned();
        Self { text: name.to_owned(), of: payment, another }
    }
}

/// Why a payment is not found good, or not taken up for settlement.
#[derive(Debug)]
pub enum Stopped {
    /// The body is too large: 413.
    TooLarge,
    /// The request cannot be read: 400.
    Unreadable(Rejection),
    /// It was read, and says itself that it is not good: a verdict, in the dialect's own words.
    Refused(Rejection),
    /// The machine refuses the payment: a verdict.
    Rejected(Rejection),
    /// A name of the request is another payment's: 409, in these words.
    Taken(String),
    /// It could not be found out: 503.
    Fault(Fault),
}

impl Stopped {
    /// The status that says so.
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

/// How a payment stands that was taken up for settlement.
#[derive(Debug)]
pub struct Settled {
    /// What its caller is told.
    pub outcome: Outcome,
    /// Its row, where [`Dialect::tells_steps`] and the payment was not made.
    pub row: Option<Payment>,
}

/// A status and a body of JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status. 503 gets `Retry-After`.
    pub status: StatusCode,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// A reply of this value. One that cannot be written is logged and answered by 500.
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

/// What dialects share: the machine, and what is remembered of requests.
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

    /// Within which bodies are read.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The machine.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What `/verify` remembers for `/settle`.
    #[must_use]
    pub fn requests(&self) -> &dyn Requests {
        self.requests.as_ref()
    }

    pub(crate) const fn names(&self) -> &Names {
        &self.names
    }
}
