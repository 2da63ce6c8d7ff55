//! The answers made here: status, headers, body.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde::Serialize;
use x402_codec::{EncodeError, body, header};
use x402_types::v2::{self, SettleResponse};
use x402_types::{ErrorReason, Fault, Rejection};

use super::dialect::HttpDialect;
use crate::Body;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const PRIVATE: HeaderValue = HeaderValue::from_static("private");

/// A 402 as bytes, made once.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    answer: Response<Bytes>,
    /// Its `PAYMENT-REQUIRED`.
    header: HeaderValue,
}

/// The status of the rejection's row, or the one that an extension gave it; 402 for codes of peers.
pub(super) fn status(rejection: &Rejection) -> StatusCode {
    let status = rejection.reason.row().map_or_else(|| rejection.status.unwrap_or(402), |row| row.status);
    StatusCode::from_u16(status).unwrap_or(StatusCode::PAYMENT_REQUIRED)
}

impl Prepared {
    /// "The 402 body is the v2 object again", or what the dialect has that was registered last of those with a body of
    /// their own.
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
        headers.insert(&header::PAYMENT_REQUIRED, header.clone());
        Ok(Self { answer, header })
    }

    pub(super) fn header_len(&self) -> usize {
        self.header.len()
    }

    /// The `PAYMENT-REQUIRED` header alone, for a 402 whose body is another dialect's.
    #[cfg(feature = "challenge")]
    pub(super) const fn header(&self) -> &HeaderValue {
        &self.header
    }

    #[cfg(feature = "challenge")]
    pub(super) fn body(&self) -> &Bytes {
        self.answer.body()
    }

    #[inline]
    pub(super) fn answer<B>(&self) -> Response<Body<B>> {
        self.answer.clone().map(Body::own)
    }
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
    #[serde(rename = "errorMessage", skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
}

/// An answer that is not a 402: a conflict, or a fault of ours. Asks for no payment.
pub(super) fn plain<B>(status: StatusCode, rejection: &Rejection) -> Response<Body<B>> {
    let error = ErrorBody { error: rejection.reason.as_str(), message: rejection.message.as_deref() };
    json(status, body::write(&error).unwrap_or_default())
}

pub(super) fn json<B>(status: StatusCode, body: impl Into<Bytes>) -> Response<Body<B>> {
    let mut response = Response::new(Body::own(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(CACHE_CONTROL, NO_STORE);
    response
}

/// 204 for a `HEAD` whose payment is good and whose handler counts on money that has not moved.
pub(super) fn verified<B>() -> Response<Body<B>> {
    let mut response = Response::new(Body::own(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    response
}

/// 503: nobody can say now. The fault itself goes into the response's extensions, for whoever keeps the logs;
/// the wire shows a general code. Without `Retry-After` where repeating the request does not help.
pub(super) fn unavailable<B>(code: ErrorReason, fault: Option<Fault>, retry_after: Option<u32>) -> Response<Body<B>> {
    let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, &Rejection::new(code));
    put_fault(&mut response, fault);
    if let Some(seconds) = retry_after {
        later(&mut response, seconds);
    }
    response
}

/// 500: the facilitator refuses what this server asks, whoever pays.
pub(super) fn misconfigured<B>(fault: Fault) -> Response<Body<B>> {
    let why = "the seller's facilitator refuses the seller's requests; nothing was paid, and a retry does not help";
    let rejection = Rejection::new(ErrorReason::SELLER_MISCONFIGURED).because(why);
    let mut response = plain(StatusCode::INTERNAL_SERVER_ERROR, &rejection);
    put_fault(&mut response, Some(fault));
    response
}

/// Returns 500 for a handler's response that ends early or fails. The code is the TypeScript SDK's.
pub(super) fn broken<B>() -> Response<Body<B>> {
    let rejection =
        Rejection::new(ErrorReason::defined("handler_failed")).because("the response of the handler broke off");
    plain(StatusCode::INTERNAL_SERVER_ERROR, &rejection)
}

fn put_fault<B>(response: &mut Response<Body<B>>, fault: Option<Fault>) {
    if let Some(fault) = fault {
        response.extensions_mut().insert(fault);
    }
}

/// 503 with the settlement as far as it is known.
pub(super) fn unknown<B>(response: &SettleResponse, fault: Option<Fault>, retry_after: u32) -> Response<Body<B>> {
    let mut answer = json(StatusCode::SERVICE_UNAVAILABLE, body::write(response).unwrap_or_default());
    // Whether the money moved is open, so the payer must come again, but not every few seconds where a person has to
    // mend something first.
    if !fault.as_ref().is_some_and(Fault::is_lasting) {
        later(&mut answer, retry_after);
    }
    put_fault(&mut answer, fault);
    answer
}

pub(super) fn later<B>(response: &mut Response<B>, seconds: u32) {
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
}

/// A paid answer is for its payer alone: `private` is merged into the handler's `Cache-Control`, and what lets shared
/// caches keep it is taken out.
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
