//! This dialect's responses: "Challenge Format (402 Body)", "Response Header (X-PAYMENT-RESPONSE)", "Error Codes".

use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde::Serialize;
use x402_challenge::{CheckError, EntitlementGrant, Granted};
use x402_codec::{body, challenge as codec, header};
use x402_types::challenge::{Carrier, Challenge, Code, RefusalBody};
use x402_types::{ErrorReason, Fault, Members, RawJson};

use super::super::answer::{self, Prepared};
use crate::Body;

/// Builds a 402 with a challenge, and the offers of version 2 in their header.
pub(super) fn ask<B>(challenge: &Challenge, offers: Option<&Prepared>) -> Response<Body<B>> {
    payment_required(challenge, offers)
}

/// Builds `{error, message}`, for a 402 together with the fresh challenge's members.
pub(super) fn refusal<B>(refusal: &RefusalBody, offers: Option<&Prepared>) -> Response<Body<B>> {
    if refusal.error.status() == 402 {
        return payment_required(refusal, offers);
    }
    let status = StatusCode::from_u16(refusal.error.status()).unwrap_or(StatusCode::BAD_REQUEST);
    answer::json(status, body::write(refusal).unwrap_or_default())
}

/// Builds a refusal before anything was checked.
pub(super) fn refuse<B>(error: Code, message: impl Into<Box<str>>) -> Response<Body<B>> {
    refusal(&RefusalBody { error, message: message.into(), rest: Members::new() }, None)
}

fn payment_required<B, T: Serialize>(document: &T, offers: Option<&Prepared>) -> Response<Body<B>> {
    let json = match offers.and_then(|offers| with_v1(document, offers)) {
        Some(both) => body::write(&both),
        None => body::write(document),
    };
    let mut response = answer::json(StatusCode::PAYMENT_REQUIRED, json.unwrap_or_default());
    if let Some(offers) = offers {
        response.headers_mut().insert(&header::PAYMENT_REQUIRED, offers.header().clone());
    }
    response
}

/// Merges the challenge with version 1, which has no header for its offers. If it is served, its members are in the
/// same body as the challenge's, which has other names.
fn with_v1<T: Serialize>(document: &T, offers: &Prepared) -> Option<Members> {
    #[derive(serde::Deserialize)]
    struct Mark {
        #[serde(rename = "x402Version")]
        version: u8,
    }
    if serde_json::from_slice::<Mark>(offers.body()).ok()?.version != 1 {
        return None;
    }
    let v1: Members = serde_json::from_slice(offers.body()).ok()?;
    let mut both: Members = RawJson::of(document).ok()?.read().ok()?;
    for (key, value) in v1.iter() {
        if both.get(key).is_none() {
            both.insert(key, value.clone());
        }
    }
    Some(both)
}

#[derive(Serialize)]
struct Words<'a> {
    error: &'a str,
    message: &'a str,
}

/// Builds a 503, or a 500 if the configuration is wrong: it is unknown whether the challenge is paid. The fault goes
/// into the response's extensions; the wire has a general code.
pub(super) fn unknown<B>(error: CheckError) -> Response<Body<B>> {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let code = ErrorReason::UNEXPECTED_VERIFY_ERROR;
    let message = "the payment could not be checked now; the same one may be sent again";
    let words = Words { error: code.as_str(), message };
    let mut response = answer::json(status, body::write(&words).unwrap_or_default());
    if let Some(seconds) = error.retry_after() {
        answer::later(&mut response, u32::try_from(seconds).unwrap_or(u32::MAX));
    }
    if let CheckError::Fault(fault) = error {
        #[cfg(feature = "tracing")]
        tracing::warn!(step = "challenge", lasting = fault.is_lasting(), "{fault}");
        response.extensions_mut().insert(fault);
    }
    response
}

pub(super) fn fault<B>(fault: Fault) -> Response<Body<B>> {
    unknown(fault.into())
}

/// Adds the receipt and the entitlement for the payer.
pub(super) fn attach(headers: &mut HeaderMap, granted: &Granted, grant: Option<&EntitlementGrant>) {
    if let Ok(value) = codec::encode_response(&granted.response) {
        headers.insert(&header::X_PAYMENT_RESPONSE, value);
    }
    let Some(grant) = grant else { return };
    let (name, text) = match grant.carrier {
        Carrier::Cookie => (&SET_COOKIE, grant.token.set_cookie(grant.ttl_seconds)),
        Carrier::Bearer => (&codec::X_PAYMENT_TOKEN, grant.token.reveal().to_owned()),
    };
    if let Ok(mut value) = HeaderValue::try_from(text) {
        value.set_sensitive(true);
        // The handler may set cookies of its own.
        headers.append(name, value);
    }
}
