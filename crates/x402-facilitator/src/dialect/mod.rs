//! The seam between the routes and the messages of callers: a dialect is one value, registered once.
//!
//! A dialect recognises a body of `/verify` or `/settle`, reads it into a [`Claim`], and writes what became of it in its
//! own words. The road between is the same for all of them (`routes/exchange.rs`): the caller is let in, the dialect
//! reads, the request's name is taken, the machine verifies or settles, the dialect writes.
//!
//! [`crate::dialects::all`] lists those that every facilitator knows; [`Engine::with_dialect`] adds one.

mod admission;
mod body;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Bytes;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{Extensions, HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use x402_codec::Limits;
use x402_facilitator_core::{Outcome, Payment, PaymentRequest, Verified};
use x402_store::requests::Requests;
use x402_types::v2::{SettleResponse, VerifyResponse};
use x402_types::{Claim, ErrorReason, Fault, Refusal, Rejection, Terms};

pub(crate) use self::admission::log;
pub use self::admission::{AdmittedRequest, NotAdmitted};
pub use self::body::Body;
use crate::callers::Callers;
use crate::engine::Engine;
use crate::names::Names;

/// A format of requests to a facilitator over HTTP, and of its answers.
#[async_trait]
pub trait Dialect: Send + Sync {
    /// Returns whether a body is of this dialect. The first dialect that recognises a body reads it. The last one reads
    /// every body that no other recognises.
    fn recognises(&self, body: &Body) -> bool;

    /// Reads a request into a claim, whose identity it sets.
    ///
    /// # Errors
    /// The request is answered without the machine.
    fn read(&self, context: &Context, request: &Request) -> Result<Submission, Stopped>;

    /// Compares a request with earlier ones of the same name. At `/settle`, the name is bound to the payment.
    ///
    /// # Errors
    /// The name belongs to another payment, or the store failed.
    async fn admit(&self, context: &Context, request: &Request, submission: &Submission) -> Result<(), Stopped> {
        context.admit_names(request, submission).await
    }

    /// Remembers that a payment was found good under the request's name.
    ///
    /// # Errors
    /// The name belongs to another payment by now, or the store failed.
    async fn remember(&self, context: &Context, submission: &Submission, _: &Verified) -> Result<(), Stopped> {
        for name in &submission.names {
            context.names.verified(&submission.claim.identity.caller, &name.text, name.of);
        }
        Ok(())
    }

    /// Writes the answer to `/verify`: the payer of a valid payment, or the reason why there is no such verdict.
    fn write_verdict(&self, context: &Context, request: &Request, answer: Answer<'_, String>) -> Reply;

    /// Writes the answer to `/settle`.
    fn write_settlement(&self, context: &Context, request: &Request, answer: Answer<'_, Settled>) -> Reply;

    /// Returns further paths of the endpoints, which the callers of this dialect use. They serve every dialect.
    fn paths(&self) -> &'static [(&'static str, Endpoint)] {
        &[]
    }

    /// Returns the routes that only this dialect has.
    fn routes(&self, context: &Arc<Context>) -> Router {
        let _ = context;
        Router::new()
    }

    /// Returns whether this dialect writes the answers to a server in this process, for a payment of these terms.
    fn serves(&self, terms: &Terms) -> bool {
        let _ = terms;
        false
    }

    /// Returns the claim of a payment that a server in this process presents, with the identity of its request.
    ///
    /// # Errors
    /// The payment cannot fulfil the terms.
    fn claim(&self, request: &PaymentRequest) -> Result<Claim, Rejection> {
        Ok(request.claim.clone())
    }

    /// Returns a verdict for a server in this process: the payer, or the reason of the refusal.
    fn verify_response(&self, terms: &Terms, verdict: Result<&str, &Rejection>) -> VerifyResponse {
        let _ = terms;
        verdict.map_or_else(VerifyResponse::invalid, VerifyResponse::valid)
    }

    /// Returns a settlement for a server in this process: its outcome, or the reason why it was refused before a
    /// transaction was sent.
    fn settle_response(&self, terms: &Terms, settled: Result<&Settled, &Rejection>) -> SettleResponse {
        match settled {
            Ok(settled) => settled.outcome.to_response(terms),
            Err(rejection) => SettleResponse::refused(rejection, terms.network_name()),
        }
    }

    /// Returns whether the answers name single steps of a payment that was not made, for which they need [`Settled::row`].
    fn tells_steps(&self) -> bool {
        false
    }
}

/// An endpoint that takes payments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `/verify` checks a payment and moves nothing.
    Verify,
    /// `/settle` has a payment made, once.
    Settle,
}

/// A request whose caller was admitted.
#[derive(Debug)]
pub struct Request {
    /// The endpoint of the request.
    pub endpoint: Endpoint,
    /// The caller's name; empty if the facilitator has no list of callers.
    pub caller: String,
    /// The headers of the request.
    pub headers: HeaderMap,
    /// The body of the request.
    pub body: Body,
}

impl Request {
    /// Returns the caller's name for this request: `Idempotency-Key`, if there is one.
    ///
    /// # Errors
    /// `invalid_payload`: the key is not 1 to 255 visible ASCII characters.
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
    /// The names of the request. Each belongs to one payment.
    pub names: Vec<Name>,
    /// Whether a success may be answered more than once: the caller named the request, and recognises a repeated answer
    /// by that name.
    pub may_replay: bool,
}

impl Submission {
    /// Creates the submission of a payment whose request has these names, and perhaps none.
    #[must_use]
    pub fn new(claim: Claim, names: Vec<Name>) -> Self {
        Self { claim, may_replay: !names.is_empty(), names }
    }
}

/// The end of a request: a result, or the reason why there is none.
#[derive(Debug)]
pub enum Answer<'a, T> {
    /// The result for a payment.
    Made(&'a Submission, T),
    /// The reason why there is none, and the payment, if it could be read.
    Stopped(Option<&'a Submission>, Stopped),
}

impl<'a, T> Answer<'a, T> {
    /// Creates the answer for a payment that was read.
    #[must_use]
    pub fn of(submission: &'a Submission, result: Result<T, Stopped>) -> Self {
        match result {
            Ok(result) => Self::Made(submission, result),
            Err(stopped) => Self::Stopped(Some(submission), stopped),
        }
    }
}

/// A name of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The name. Names of different callers are different names.
    pub text: String,
    /// A digest of the payment, or of the exact payload, to which the name belongs.
    pub of: [u8; 32],
    /// The message for a request that uses the name for something else.
    pub another: String,
}

impl Name {
    /// Creates the name that `Idempotency-Key` gives to a payment.
    #[must_use]
    pub fn of_caller(name: &str, payment: [u8; 32]) -> Self {
        let another = "Idempotency-Key: it names another payment".to_owned();
        Self { text: name.to_owned(), of: payment, another }
    }
}

/// The reason why a payment is not verified, or not settled.
#[derive(Debug)]
pub enum Stopped {
    /// The body is too large: 413.
    TooLarge,
    /// The request cannot be parsed: 400.
    Unreadable(Rejection),
    /// The dialect refuses the payment: a verdict with a code of the dialect.
    Refused(Rejection),
    /// The settlement machine refuses the payment: a verdict.
    Rejected(Rejection),
    /// A name of the request belongs to another payment: 409 with this message.
    Taken(String),
    /// A node or a store failed: 503.
    Fault(Fault),
}

impl Stopped {
    /// Returns the usual HTTP status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            // A refusal for a reason of this facilitator's: the same payment may be taken later.
            Self::Rejected(rejection) if rejection.reason.row().is_some_and(|row| row.status == 503) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
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

/// The state of a payment that was taken up for settlement.
#[derive(Debug)]
pub struct Settled {
    /// The outcome for the caller.
    pub outcome: Outcome,
    /// The row of the payment, if the payment was not made and [`Dialect::tells_steps`] is `true`.
    pub row: Option<Payment>,
}

/// An HTTP status with a JSON body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status. A reply with 503 gets `Retry-After`.
    pub status: StatusCode,
    /// The body in JSON.
    pub body: Vec<u8>,
}

impl Reply {
    /// Creates a reply with this value as its body. A value that cannot be written is logged, and the reply is 500.
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

/// The engine, the callers and the stores that all dialects share.
#[derive(Debug)]
pub struct Context {
    engine: Arc<Engine>,
    requests: Arc<dyn Requests>,
    names: Names,
    limits: Limits,
    callers: Callers,
    /// The time for the body of a request.
    body_time: Duration,
    values: Extensions,
}

impl Context {
    pub(crate) fn new(
        engine: Arc<Engine>,
        requests: Arc<dyn Requests>,
        limits: Limits,
        callers: Callers,
        body_time: Duration,
        values: Extensions,
    ) -> Self {
        Self { engine, names: Names::new(Arc::clone(&requests)), requests, limits, callers, body_time, values }
    }

    /// Returns the limits of bodies.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Returns the engine.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Returns the value of this type that [`Routes::with_value`](crate::routes::Routes::with_value) set, for the
    /// routes of a dialect.
    #[must_use]
    pub fn value<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.values.get()
    }

    /// Returns the store of requests, which `/verify` fills and `/settle` reads.
    #[must_use]
    pub fn requests(&self) -> &dyn Requests {
        self.requests.as_ref()
    }

    /// Compares a request with earlier ones of its names. At `/settle`, the names are bound to the payment.
    ///
    /// # Errors
    /// A name belongs to another payment, or the store failed.
    pub async fn admit_names(&self, request: &Request, submission: &Submission) -> Result<(), Stopped> {
        let caller = &submission.claim.identity.caller;
        for name in &submission.names {
            let fits = match request.endpoint {
                Endpoint::Verify => self.names.fits(caller, &name.text, name.of).await?,
                Endpoint::Settle => self.names.take(caller, &name.text, name.of).await?,
            };
            if !fits {
                return Err(Stopped::Taken(name.another.clone()));
            }
        }
        Ok(())
    }

    pub(crate) const fn names(&self) -> &Names {
        &self.names
    }
}
