//! The admission of requests: who may call, and how long a body may be.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{CONTENT_ENCODING, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use x402_types::{ErrorReason, Fault, Rejection};

use super::{Context, Reply};

/// A request that was admitted.
#[derive(Debug)]
pub struct AdmittedRequest {
    /// The caller's name; empty if the facilitator has no list of callers.
    pub caller: String,
    /// The whole body.
    pub body: Bytes,
}

/// The reason why a request was not processed.
#[derive(Debug)]
pub enum NotAdmitted {
    /// The request has no token of a caller: 401.
    Unauthorized,
    /// The body is too large: 413.
    TooLarge,
    /// The body cannot be parsed: 400.
    Unreadable(Rejection),
    /// The body did not come in time: 408.
    TooSlow,
    /// The body is compressed: 415.
    Encoded,
    /// The caller or the address had too many requests: 429, and after this time another is admitted.
    TooMany(Duration),
}

impl NotAdmitted {
    /// Makes the answer, with a body that `write` makes of a rejection.
    pub fn answer<T: Serialize>(self, write: impl Fn(Rejection) -> T) -> Response {
        let (status, rejection) = match self {
            Self::Unauthorized => return (StatusCode::UNAUTHORIZED, [("www-authenticate", "Bearer")]).into_response(),
            Self::TooLarge => {
                let too_large = Rejection::new(ErrorReason::INVALID_PAYLOAD).because("the body is larger than 64 KiB");
                (StatusCode::PAYLOAD_TOO_LARGE, too_large)
            }
            Self::Unreadable(rejection) => (StatusCode::BAD_REQUEST, rejection),
            Self::TooSlow => return StatusCode::REQUEST_TIMEOUT.into_response(),
            Self::Encoded => return StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response(),
            Self::TooMany(wait) => {
                // A whole second at least, and never a moment too early.
                let seconds = wait.as_secs().saturating_add(1);
                return (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, seconds.to_string())]).into_response();
            }
        };
        Reply::json(status, &write(rejection)).into_response()
    }
}

impl Context {
    /// Admits a request: its caller has a token, and its body keeps the limit.
    ///
    /// # Errors
    /// The request has no token of a caller, or its body is too large.
    pub async fn admit(&self, headers: &HeaderMap, body: Body) -> Result<AdmittedRequest, NotAdmitted> {
        let caller = self.callers.admit(headers)?;
        // A compressed body may be a thousand times as long when it is unpacked.
        if headers.get_all(CONTENT_ENCODING).iter().any(|encoding| encoding != "identity") {
            return Err(NotAdmitted::Encoded);
        }
        let whole = tokio::time::timeout(self.body_time, axum::body::to_bytes(body, self.limits.body)).await;
        let body = whole.map_err(|_| NotAdmitted::TooSlow)?.map_err(|_| NotAdmitted::TooLarge)?;
        Ok(AdmittedRequest { caller, body })
    }
}

impl Reply {
    /// Logs a fault and makes its answer: 503 with this general body alone.
    pub fn unavailable<T: Serialize>(fault: &Fault, body: &T) -> Self {
        log(fault);
        Self::json(StatusCode::SERVICE_UNAVAILABLE, body)
    }
}

pub(crate) fn log(fault: &Fault) {
    tracing::error!(%fault, "a request could not be answered");
}
