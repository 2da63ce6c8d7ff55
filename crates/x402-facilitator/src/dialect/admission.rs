//! The admission of requests: who may call, and how long a body may be.

use axum::body::{Body, Bytes};
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
        let caller = self.callers.find(headers).ok_or(NotAdmitted::Unauthorized)?;
        let body = axum::body::to_bytes(body, self.limits.body).await.map_err(|_| NotAdmitted::TooLarge)?;
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
