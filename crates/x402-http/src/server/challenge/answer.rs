//! This dialect's responses: "Challenge Format (402 Body)", "Response Header (X-PAYMENT-RESPONSE)", "Error Codes".

use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;
use x402_challenge::{CheckError, EntitlementGrant, Granted};
use x402_codec::{body, challenge as codec, header};
use x402_types::challenge::{Carrier, Challenge, Code, PaymentResponse, RefusalBody};
use x402_types::{ErrorReason, Fault, Members, RawJson};

use super::super::answer::{self, Answer};

/// 402 with a challenge, and the offers of version 2 in their header.
pub(super) fn ask(challenge: &Challenge, offers: Option<&Answer>) -> Answer {
    payment_required(challenge, offers)
}

/// `{error, message}`, with 402 the fresh challenge's members beside them.
pub(super) fn refusal(refusal: &RefusalBody, offers: Option<&Answer>) -> Answer {
    if refusal.error.status() == 402 {
        return payment_required(refusal, offers);
    }
    let status = StatusCode::from_u16(refusal.error.status()).unwrap_or(StatusCode::BAD_REQUEST);
    answer::json(status, body::write(refusal).unwrap_or_default())
}

/// A refusal before anything was checked.
pub(super) fn refuse(error: Code, message: impl Into<Box<str>>) -> Answer {
    refusal(&RefusalBody { error, message: message.into(), rest: Members::new() }, None)
}

fn payment_required<T: Serialize>(document: &T, offers: Option<&Answer>) -> Answer {
    let json = match offers.and_then(|offers| with_v1(document, offers)) {
        Some(both) => body::write(&both),
        None => body::write(document),
    };
    let mut response = answer::json(StatusCode::PAYMENT_REQUIRED, json.unwrap_or_default());
    if let Some(offers) = offers.and_then(|offers| offers.headers().get(&header::PAYMENT_REQUIRED)) {
        response.headers_mut().insert(&header::PAYMENT_REQUIRED, offers.clone());
    }
    response
}

/// Returns the body with the members of version 1 beside the challenge's, which have other names, where version 1 is
/// served: it has no header for its offers.
fn with_v1<T: Serialize>(document: &T, offers: &Answer) -> Option<Members> {
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
struct ErrorBody<'a> {
    error: &'a str,
    message: &'a str,
}

/// 503, or 500 where the configuration is broken: whether it is paid is not known. The fault
/// goes into the response's extensions; the wire shows a general code.
pub(super) fn unknown(cause: CheckError) -> Answer {
    let status = StatusCode::from_u16(cause.status()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let code = ErrorReason::UNEXPECTED_VERIFY_ERROR;
    let message = "the payment could not be checked now; the same one may be sent again";
    let error = ErrorBody { error: code.as_str(), message };
    let mut response = answer::json(status, body::write(&error).unwrap_or_default());
    if let Some(seconds) = cause.retry_after() {
        answer::later(&mut response, u32::try_from(seconds).unwrap_or(u32::MAX));
    }
    if let CheckError::Fault(fault) = cause {
        #[cfg(feature = "tracing")]
        tracing::warn!(step = "challenge", lasting = fault.is_lasting(), "{fault}");
        response.extensions_mut().insert(fault);
    }
    response
}

pub(super) fn fault(fault: Fault) -> Answer {
    unknown(fault.into())
}

/// Adds the statement that nothing of a metered payment was settled and nothing will be: the payer may end it.
pub(super) fn attach_waived(headers: &mut HeaderMap, granted: &Granted) {
    let PaymentResponse { challenge_id, resource, .. } = granted.response.clone();
    if let Ok(value) = codec::encode_response(&PaymentResponse::waived(challenge_id, resource)) {
        headers.insert(&header::X_PAYMENT_RESPONSE, value);
    }
}

/// Adds the receipt of the payment, and the entitlement that it grants.
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
