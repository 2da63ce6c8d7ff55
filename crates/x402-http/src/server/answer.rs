//! The answers made here: status, headers, body.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde::Serialize;
use x402_codec::{EncodeError, body, header};
use x402_types::nvm;
use x402_types::v1;
use x402_types::v2::{self, ResourceInfo, SettleResponse};
use x402_types::{
    Entry, ErrorReason, Fault, Members, Offer, PaymentPayload, PaymentRequired, RawJson, Rejection, SchemeName, Terms,
    Version,
};

use crate::Body;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const PRIVATE: HeaderValue = HeaderValue::from_static("private");

const LONGEST_MESSAGE: usize = 200;

/// A 402 as bytes, made once.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    answer: Response<Bytes>,
    /// Its `PAYMENT-REQUIRED`.
    header: HeaderValue,
}

/// Why a request is not served.
#[derive(Debug)]
pub(super) struct Reason {
    pub(super) code: ErrorReason,
    pub(super) message: Option<String>,
    /// What the code adds, for schemes whose errors have `details`.
    pub(super) details: Members,
    /// The status of a code that an extension defines.
    pub(super) status: Option<u16>,
}

impl Reason {
    pub(super) const fn new(code: ErrorReason) -> Self {
        Self { code, message: None, details: Members::new(), status: None }
    }

    pub(super) fn because(code: ErrorReason, message: impl Into<String>) -> Self {
        Self { message: Some(message.into()), ..Self::new(code) }
    }

    /// The status of the code's row, or the one that came with it; 402 for codes of peers.
    pub(super) fn status(&self) -> StatusCode {
        let status = self.code.row().map_or_else(|| self.status.unwrap_or(402), |row| row.status);
        StatusCode::from_u16(status).unwrap_or(StatusCode::PAYMENT_REQUIRED)
    }
}

impl From<Rejection> for Reason {
    fn from(rejection: Rejection) -> Self {
        Self {
            code: rejection.reason,
            message: rejection.message.map(String::from),
            details: rejection.details,
            status: rejection.status,
        }
    }
}

/// The 402 document. `error` is a machine code alone; words for people stand beside it.
pub(super) fn document(
    offers: &[Offer],
    resource: ResourceInfo,
    extensions: Members,
    reason: Option<&Reason>,
) -> v2::PaymentRequired {
    let mut rest = Members::new();
    if let Some(message) = reason.and_then(|reason| reason.message.as_deref()) {
        // A peer's words, in a header of limited length.
        let shown = message.char_indices().nth(LONGEST_MESSAGE).and_then(|(end, _)| message.get(..end));
        rest.insert_text("errorMessage", shown.unwrap_or(message));
    }
    if let Some(details) = reason.map(|reason| &reason.details).filter(|details| !details.is_empty())
        && let Ok(details) = RawJson::of(details)
    {
        rest.insert("details", details);
    }
    // Smart Accounts §3.3: `extensions` is required, "empty object `{}` for x402 spec alignment".
    if extensions.is_empty()
        && offers.iter().any(|offer| offer.terms.scheme == SchemeName::NVM_ERC4337)
        && let Ok(none) = RawJson::of(&Members::new())
    {
        rest.insert("extensions", none);
    }
    v2::PaymentRequired {
        x402_version: Version::V2,
        error: Some(reason.map_or_else(|| "Payment required".to_owned(), |reason| reason.code.to_string())),
        resource: Some(resource),
        accepts: offers.iter().map(|offer| offer.terms.to_entry()).collect(),
        extensions,
        rest,
    }
}

/// The document as version 1 writes it, with the entries that clients of version 1 know: published ones refuse all
/// entries for one foreign one. `None` where none is left.
fn of_v1(document: v2::PaymentRequired) -> Option<v1::PaymentRequired> {
    let known =
        |entry: &Entry<v2::PaymentRequirements>| entry.known().is_some_and(|entry| Terms::from(entry).is_known_to_v1());
    let accepts: Vec<_> = document.accepts.into_iter().filter(known).collect();
    (!accepts.is_empty()).then(|| PaymentRequired::V2(v2::PaymentRequired { accepts, ..document }).to_v1())
}

impl Prepared {
    /// "The 402 body is the v2 object again", or the v1 object where version 1 is served.
    pub(super) fn of(document: v2::PaymentRequired, v1: bool) -> Result<Self, EncodeError> {
        let json = body::write(&document)?;
        let header = header::encode_text(&json)?;
        let v1 = if v1 { of_v1(document) } else { None };
        let body = match v1 {
            Some(document) => body::write(&document)?.into(),
            None => json.into(),
        };
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
struct Words<'a> {
    error: &'a str,
    #[serde(rename = "errorMessage", skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
}

/// An answer that is not a 402: a conflict, or a fault of ours. Asks for no payment.
pub(super) fn plain<B>(status: StatusCode, reason: &Reason) -> Response<Body<B>> {
    let words = Words { error: reason.code.as_str(), message: reason.message.as_deref() };
    json(status, body::write(&words).unwrap_or_default())
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
    let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, &Reason::new(code));
    put_fault(&mut response, fault);
    if let Some(seconds) = retry_after {
        later(&mut response, seconds);
    }
    response
}

/// 500: the facilitator refuses what this server asks, whoever pays.
pub(super) fn misconfigured<B>(fault: Fault) -> Response<Body<B>> {
    let words = "the seller's facilitator refuses the seller's requests; nothing was paid, and a retry does not help";
    let reason = Reason::because(ErrorReason::SELLER_MISCONFIGURED, words);
    let mut response = plain(StatusCode::INTERNAL_SERVER_ERROR, &reason);
    put_fault(&mut response, Some(fault));
    response
}

/// Returns 500 for a handler's response that ends early or fails. The code is the TypeScript SDK's.
pub(super) fn broken<B>() -> Response<Body<B>> {
    let words = "the answer broke off; the payment was made, and the same request is answered again";
    plain(StatusCode::INTERNAL_SERVER_ERROR, &Reason::because(ErrorReason::defined("handler_failed"), words))
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

/// Adds the settlement's header, in the header of the payer's version. Version 0.2 of the Smart Accounts Extension
/// looks for it in `QUERY-RESPONSE`.
pub(super) fn attach<B>(response: &mut Response<B>, payment: &PaymentPayload, settlement: &SettleResponse) {
    if let Ok((name, value)) = header::encode_settle_response(payment.version(), settlement) {
        if let PaymentPayload::Nvm(nvm::PaymentPayload::V02(_)) = payment {
            response.headers_mut().insert(&x402_codec::nvm::QUERY_RESPONSE, value.clone());
        }
        response.headers_mut().insert(name, value);
    }
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
