//! The headers and bodies of the `x402.v1` challenge dialect, `specs/402kit-x402v1.md`: encoding uses unpadded
//! base64url, decoding accepts both alphabets, values have at most 4,096 bytes.

use base64_simd::URL_SAFE_NO_PAD;
use http::header::HeaderValue;
use serde::Serialize;
use serde::de::DeserializeOwned;
use x402_types::challenge::{Challenge, Payment, PaymentResponse, RefusalBody};

use crate::{DecodeError, DecodeErrorKind, EncodeError, Limits, base64, body, json};

pub use crate::header::X_PAYMENT_TOKEN;

/// The maximum length of `X-PAYMENT` and `X-PAYMENT-RESPONSE`, in bytes as sent: 4,096.
pub const HEADER: usize = 4096;

/// The limits of this dialect.
pub const LIMITS: Limits = Limits { header: HEADER, ..Limits::DEFAULT };

/// Decodes, for a server, the payment in one `X-PAYMENT` value.
/// # Errors
/// `too_large`; `invalid_base64`, which includes CR and LF; the kinds of [`json::from_slice`].
pub fn payment(value: &[u8]) -> Result<Payment, DecodeError> {
    payment_json(&base64::decode(value, HEADER)?)
}

/// Parses, for a server, the payment in the text of a header value that was already decoded to distinguish the
/// dialects.
/// # Errors
/// The kinds of [`json::from_slice`]; a missing member that the type of the proof requires.
pub fn payment_json(text: &[u8]) -> Result<Payment, DecodeError> {
    let payment: Payment = json::read(text, &LIMITS)?;
    payment.proof.complete().map_err(|(member, why)| {
        DecodeError::at_path(DecodeErrorKind::InvalidField, &format!(".proof.{member}"), why.to_string())
    })?;
    Ok(payment)
}

/// Decodes, for a client, the server's receipt in one `X-PAYMENT-RESPONSE` value.
/// # Errors
/// The kinds of [`payment`].
pub fn response(value: &[u8]) -> Result<PaymentResponse, DecodeError> {
    json::read(&base64::decode(value, HEADER)?, &LIMITS)
}

/// Parses, for a client, the challenge in a 402 body. A refusal's `error` and `message` in the same body do not matter.
/// # Errors
/// The kinds of [`json::from_slice`]; a version other than `x402.v1`.
pub fn challenge(body: &[u8]) -> Result<Challenge, DecodeError> {
    let challenge: Challenge = document(body)?;
    if challenge.version.is_x402_v1() {
        Ok(challenge)
    } else {
        Err(DecodeError::at_path(DecodeErrorKind::InvalidField, ".version", "expected `x402.v1`"))
    }
}

/// Parses, for a client, a refusal's body.
/// # Errors
/// The kinds of [`json::from_slice`].
pub fn refusal(body: &[u8]) -> Result<RefusalBody, DecodeError> {
    document(body)
}

fn document<T: DeserializeOwned>(body: &[u8]) -> Result<T, DecodeError> {
    json::from_slice(body, &LIMITS)
}

/// Encodes, for a client, the `X-PAYMENT` value of a payment, marked sensitive.
/// # Errors
/// The payment cannot be serialized as JSON, or is longer than 4,096 bytes.
pub fn encode_payment(payment: &Payment) -> Result<HeaderValue, EncodeError> {
    encode(payment)
}

/// Encodes, for a server, the `X-PAYMENT-RESPONSE` value, marked sensitive.
/// # Errors
/// The response cannot be serialized as JSON, or is longer than 4,096 bytes.
pub fn encode_response(response: &PaymentResponse) -> Result<HeaderValue, EncodeError> {
    encode(response)
}

fn encode<T: Serialize>(message: &T) -> Result<HeaderValue, EncodeError> {
    let text = URL_SAFE_NO_PAD.encode_to_string(body::write(message)?);
    if text.len() > HEADER {
        return Err(EncodeError::Header);
    }
    let mut value = HeaderValue::try_from(text).map_err(|_| EncodeError::Header)?;
    value.set_sensitive(true);
    Ok(value)
}
