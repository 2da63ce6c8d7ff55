//! The responses of this crate: status, headers, body.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde::Serialize;
use x402_codec::{EncodeError, body, header};
use x402_types::v2::{self, SettleResponse};
use x402_types::{ErrorReason, Fault, Rejection};

use super::dialect::HttpDialect;

/// An answer that is made here, before it takes the type of the service's bodies.
pub(super) type Answer = Response<Bytes>;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const PRIVATE: HeaderValue = HeaderValue::from_static("private");

/// A 402 as bytes, built once.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    answer: Answer,
}

/// The status of the rejection's row, or the one that an extension gave it; 402 for codes of peers.
pub(super) fn status(rejection: &Rejection) -> StatusCode {
    let status = rejection.reason.row().map_or_else(|| rejection.status.unwrap_or(402), |row| row.status);
    StatusCode::from_u16(status).unwrap_or(StatusCode::PAYMENT_REQUIRED)
}

impl Prepared {
    /// Builds a 402 whose body is "the v2 object again", or the one of the last registered dialect that has a body of
    /// its own.
    pub(super) fn of(document: &v2::PaymentRequired, dialects: &[Arc<dyn HttpDialect>]) -> Result<Self, EncodeError> {
        let json = body::write(document)?;
        let header = header::encode_text(&json)?;
        let mut own = None;
        for dialect in dialects.iter().rev() {
            own = dialect.required_body(document)?;
            if own.is_some() {
                break;
            }
        }
        let body = own.unwrap_or(json).into();
        let mut answer = Response::new(body);
        *answer.status_mut() = StatusCode::PAYMENT_REQUIRED;
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(CACHE_CONTROL, NO_STORE);
        headers.insert(&header::PAYMENT_REQUIRED, header);
        Ok(Self { answer })
    }

    pub(super) fn header_len(&self) -> usize {
        self.answer.headers().get(&header::PAYMENT_REQUIRED).map_or(0, HeaderValue::len)
    }

    #[inline]
    pub(super) fn answer(&self) -> Answer {
        self.answer.clone()
    }
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
    #[serde(rename = "errorMessage", skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
}

/// Returns an answer that is not a 402 and requests no payment: a conflict, or a fault of this server.
pub(super) fn plain(status: StatusCode, rejection: &Rejection) -> Answer {
    let error = ErrorBody { error: rejection.reason.as_str(), message: rejection.message.as_deref() };
    json(status, body::write(&error).unwrap_or_default())
}

pub(super) fn json(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(CACHE_CONTROL, NO_STORE);
    response
}

/// 204 for a `HEAD` whose payment is good and whose handler counts on money that has not moved.
pub(super) fn verified() -> Answer {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    response
}

/// Returns 503: the state of the payment is not known now. The fault itself goes into the response's extensions, for
/// the logs; the wire shows a general code. The answer has no `Retry-After` if repeating the request does not help.
pub(super) fn unavailable(code: ErrorReason, fault: Option<Fault>, retry_after: Option<u32>) -> Answer {
    let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, &Rejection::new(code));
    put_fault(&mut response, fault);
    if let Some(seconds) = retry_after {
        later(&mut response, seconds);
    }
    response
}

/// Returns 500: the facilitator refuses this server's requests, whoever pays.
pub(super) fn misconfigured(fault: Fault) -> Answer {
    let why = "the seller's facilitator refuses the seller's requests; nothing was paid, and a retry does not help";
    let rejection = Rejection::new(ErrorReason::SELLER_MISCONFIGURED).because(why);
    let mut response = plain(StatusCode::INTERNAL_SERVER_ERROR, &rejection);
    put_fault(&mut response, Some(fault));
    response
}

/// Returns 500 for a handler's response with an amount that cannot be settled. The code is the TypeScript SDK's.
pub(super) fn unpriced() -> Answer {
    let why = "the handler named an amount that cannot be settled; nothing was paid";
    plain(StatusCode::INTERNAL_SERVER_ERROR, &Rejection::new(ErrorReason::defined("handler_failed")).because(why))
}

/// Returns 500 for a handler's response that ends early or fails. The code is the TypeScript SDK's.
pub(super) fn broken() -> Answer {
    let rejection =
        Rejection::new(ErrorReason::defined("handler_failed")).because("the response of the handler broke off");
    plain(StatusCode::INTERNAL_SERVER_ERROR, &rejection)
}

fn put_fault(response: &mut Answer, fault: Option<Fault>) {
    if let Some(fault) = fault {
        response.extensions_mut().insert(fault);
    }
}

/// 503 with the settlement as far as it is known.
pub(super) fn unknown(response: &SettleResponse, fault: Option<Fault>, retry_after: u32) -> Answer {
    let mut answer = json(StatusCode::SERVICE_UNAVAILABLE, body::write(response).unwrap_or_default());
    // The money may have moved, so the payer must retry, but not every few seconds if a person has to repair something
    // first.
    if !fault.as_ref().is_some_and(Fault::is_lasting) {
        later(&mut answer, retry_after);
    }
    put_fault(&mut answer, fault);
    answer
}

pub(super) fn later(response: &mut Answer, seconds: u32) {
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
}

/// Returns whether nothing is counted for a handler's answer: "No settlement when the handler answers 4xx or 5xx", and
/// none for a 304, which means that the payer has the content.
pub(super) fn is_unserved(status: StatusCode) -> bool {
    status.is_client_error() || status.is_server_error() || status == StatusCode::NOT_MODIFIED
}

/// Makes a paid response private to its payer: `private` is merged into the handler's `Cache-Control`, and directives
/// that let shared caches keep it are removed.
pub(super) fn make_private(headers: &mut HeaderMap) {
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, PRIVATE);
        return;
    }
    // A quoted list of field names has commas of its own.
    if headers.get_all(CACHE_CONTROL).iter().any(|value| value.as_bytes().contains(&b'"')) {
        headers.insert(CACHE_CONTROL, NO_STORE);
        return;
    }
    let mut merged = String::from("private");
    for value in headers.get_all(CACHE_CONTROL) {
        for directive in String::from_utf8_lossy(value.as_bytes()).split(',').map(str::trim) {
            let name = directive.split('=').next().unwrap_or_default().trim();
            let shared = ["public", "private", "s-maxage", ""].iter().any(|other| name.eq_ignore_ascii_case(other));
            if !shared {
                merged.push_str(", ");
                merged.push_str(directive);
            }
        }
    }
    headers.insert(CACHE_CONTROL, HeaderValue::try_from(merged).unwrap_or(NO_STORE));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_is_merged() {
        for (had, has) in [
            (&[][..], "private"),
            (&["max-age=60"], "private, max-age=60"),
            (&["public, max-age=60, s-maxage=600"], "private, max-age=60"),
            (&["private"], "private"),
            (&["no-store"], "private, no-store"),
            (&["Public", "no-cache"], "private, no-cache"),
            (&[r#"private="set-cookie, x""#], "no-store"),
        ] {
            let mut headers = HeaderMap::new();
            for value in had {
                headers.append(CACHE_CONTROL, HeaderValue::from_static(value));
            }
            make_private(&mut headers);
            assert_eq!(headers.get_all(CACHE_CONTROL).iter().collect::<Vec<_>>(), [has], "{had:?}");
        }
    }
}
