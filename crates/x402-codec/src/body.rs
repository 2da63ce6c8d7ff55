//! The JSON bodies of [x402 v2 §7](https://github.com/coinbase/x402/blob/main/specs/x402-specification-v2.md) and of
//! the [v1 transport](https://github.com/coinbase/x402/blob/main/specs/transports-v1/http.md).

use std::borrow::Cow;

use serde::de::value::{BorrowedStrDeserializer, CowStrDeserializer, MapAccessDeserializer};
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess};
use serde::{Deserialize, Serialize};
use x402_types::v2::{self, SettleResponse, SupportedResponse, VerifyResponse};
use x402_types::{
    ErrorReason, Members, PaymentPayload, PaymentRequired, PaymentRequirements, RawJson, VerifyRequest, Version,
};

use crate::{DecodeError, DecodeErrorKind, EncodeError, Limits, json};

/// Parses a 402 body of version 1, or the v2 object that this workspace's servers repeat in the body.
/// # Errors
/// The kinds of [`json::from_slice`].
pub fn payment_required(body: &[u8], limits: &Limits) -> Result<PaymentRequired, DecodeError> {
    json::from_slice(body, limits)
}

/// Parses the body of `POST /verify` and `POST /settle`.
/// # Errors
/// The kinds of [`json::from_slice`], and `version_mismatch` if the outer `x402Version` is not the payment's.
pub fn verify_request(body: &[u8], limits: &Limits) -> Result<VerifyRequest, DecodeError> {
    // Nearly every payment has version 2, so its types are tried first. On a refusal, the general types parse the body
    // again, or find its fault.
    let mut request = verify_request_v2(body, limits);
    if request.is_err() {
        request = json::from_slice(body, limits).map_err(|error| text_payment(body, limits).unwrap_or(error));
    }
    if let Ok(read) = &request
        && let Err(error) = check_request(read)
    {
        request = Err(error);
    }
    request
}

/// Parses a payment of version 1 or 2 from its own JSON text. The version is the one that the payment names.
///
/// # Errors
/// The kinds of [`json::from_slice`].
pub fn payment(json: &str, limits: &Limits) -> Result<Box<PaymentPayload>, DecodeError> {
    // The common version is tried first, and its refusal is inconclusive, as in `verify_request`.
    let payment = match json::from_str(json, limits) {
        Ok(payment) => Box::new(PaymentPayload::V2(payment)),
        Err(_) => json::from_str(json, limits)?,
    };
    demand_object(&payment, "")?;
    Ok(payment)
}

/// Recognises a payment that was passed on as the header's text, the most common fault of servers written by hand.
#[cold]
fn text_payment(body: &[u8], limits: &Limits) -> Option<DecodeError> {
    let members: Members = json::from_slice(body, limits).ok()?;
    let payment = members.get("paymentPayload")?;
    payment.as_str().starts_with('"').then(|| {
        DecodeError::at_path(
            DecodeErrorKind::InvalidField,
            ".paymentPayload",
            "expected the payment's JSON object, found text: decode the header's base64 first",
        )
    })
}

fn check_request(request: &VerifyRequest) -> Result<(), DecodeError> {
    demand_object(&request.payment_payload, ".paymentPayload")?;
    let inner = request.payment_payload.version();
    match request.x402_version {
        Some(outer) if outer != inner => Err(DecodeError::at_path(
            DecodeErrorKind::VersionMismatch,
            ".x402Version",
            format!("expected the payment's version, {}", inner.number()),
        )),
        _ => Ok(()),
    }
}

/// Parses the body of a payment of version 2. An error is inconclusive.
///
/// The payer echoes the entry that the server offered, so the server's own is nearly always the same text, which is
/// then compared and not parsed again.
fn verify_request_v2(body: &[u8], limits: &Limits) -> Result<VerifyRequest, DecodeError> {
    let mut x402_version = None;
    let mut payment = None;
    let mut accepted = None;
    let mut requirements = None;
    json::read_object(body, limits, |mut members| {
        while let Some(key) = members.key()? {
            match &*key {
                "x402Version" => {
                    x402_version = members.next_value()?;
                    // A body of version 1 names it first as a rule: the rest is read once, by the other types.
                    if x402_version == Some(Version::V1) {
                        let message = "expected version 2";
                        return Err(DecodeError::at_path(DecodeErrorKind::VersionMismatch, ".x402Version", message));
                    }
                }
                "paymentPayload" => members.next_object(|members| {
                    let mut echo = Echo { members, is_accepted: false, accepted: None };
                    let read = v2::PaymentPayload::deserialize(MapAccessDeserializer::new(&mut echo))?;
                    payment = Some(PaymentPayload::V2(read));
                    accepted = echo.accepted;
                    Ok(())
                })?,
                "paymentRequirements" => {
                    requirements = Some(match (&payment, accepted) {
                        (Some(PaymentPayload::V2(payment)), Some(text)) if members.skip_object(text) => {
                            payment.accepted.clone()
                        }
                        _ => members.next_value()?,
                    });
                }
                _ => drop(members.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    })?;
    let requirements = requirements.ok_or_else(|| DecodeError::missing_field("paymentRequirements"))?;
    Ok(VerifyRequest {
        x402_version,
        payment_payload: payment.ok_or_else(|| DecodeError::missing_field("paymentPayload"))?,
        payment_requirements: PaymentRequirements::V2(requirements),
    })
}

/// The members of a payment, of which the text of `accepted` is kept.
struct Echo<'o, 'r, 'de> {
    members: &'o mut json::Object<'r, 'de>,
    is_accepted: bool,
    accepted: Option<&'de str>,
}

impl<'de> MapAccess<'de> for Echo<'_, '_, 'de> {
    type Error = DecodeError;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        let Some(key) = self.members.key()? else { return Ok(None) };
        self.is_accepted = key == "accepted";
        let key = match key {
            Cow::Borrowed(text) => seed.deserialize(BorrowedStrDeserializer::new(text)),
            Cow::Owned(text) => seed.deserialize(CowStrDeserializer::new(Cow::Owned(text))),
        };
        key.map(Some)
    }

    #[inline]
    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, DecodeError> {
        if !self.is_accepted {
            return self.members.next_value_seed(seed);
        }
        let (value, text) = self.members.next_value_and_text(seed)?;
        self.accepted = Some(text);
        Ok(value)
    }
}

/// Parses a facilitator's response to `/verify`.
///
/// # Errors
/// The kinds of [`json::from_slice`].
pub fn verify_response(body: &[u8], limits: &Limits) -> Result<VerifyResponse, DecodeError> {
    let response: VerifyResponse = json::from_slice(body, limits)?;
    Ok(VerifyResponse { invalid_reason: response.invalid_reason.map(ErrorReason::of_peer), ..response })
}

/// Parses a facilitator's response to `/settle`; peers' spellings of codes are translated ([`ErrorReason::of_peer`]).
/// # Errors
/// The kinds of [`json::from_slice`]. The result is then unknown, not failed.
pub fn settle_response(body: &[u8], limits: &Limits) -> Result<SettleResponse, DecodeError> {
    let response: SettleResponse = json::from_slice(body, limits)?;
    Ok(SettleResponse { error_reason: response.error_reason.map(ErrorReason::of_peer), ..response })
}

/// Parses a facilitator's response to `/supported`.
/// # Errors
/// The kinds of [`json::from_slice`].
pub fn supported_response(body: &[u8], limits: &Limits) -> Result<SupportedResponse, DecodeError> {
    json::from_slice(body, limits)
}

/// Serializes a message as JSON.
/// # Errors
/// The message cannot be serialized as JSON.
pub fn write<T: Serialize + ?Sized>(message: &T) -> Result<Vec<u8>, EncodeError> {
    // A plain payment has 831 bytes, which one allocation holds.
    let mut out = Vec::with_capacity(1024);
    serde_json::to_writer(&mut out, message).map_err(|e| EncodeError::json(&e))?;
    Ok(out)
}

/// Builds the body of `/verify` and `/settle`, with the payment's text as the payer sent it. The requirements are those
/// of [`Terms::to_requirements`](x402_types::Terms::to_requirements).
/// # Errors
/// The requirements cannot be serialized as JSON.
pub fn write_verify_request<R: Serialize + ?Sized>(
    version: Version,
    payment: &str,
    requirements: &R,
) -> Result<Vec<u8>, EncodeError> {
    let mut out = Vec::with_capacity(payment.len() + 1024);
    out.extend_from_slice(br#"{"x402Version":"#);
    out.push(b'0' + version.number());
    out.extend_from_slice(br#","paymentPayload":"#);
    out.extend_from_slice(payment.as_bytes());
    out.extend_from_slice(br#","paymentRequirements":"#);
    serde_json::to_writer(&mut out, requirements).map_err(|e| EncodeError::json(&e))?;
    out.push(b'}');
    Ok(out)
}

/// Checks that `payload` is an object, whatever the scheme: §5.2.
fn demand_object(payment: &PaymentPayload, outer: &str) -> Result<(), DecodeError> {
    let payload: &RawJson = match payment {
        PaymentPayload::V1(payment) => &payment.payload,
        PaymentPayload::V2(payment) => &payment.payload,
    };
    if payload.as_str().starts_with('{') {
        return Ok(());
    }
    let path = format!("{outer}.payload");
    Err(DecodeError::at_path(DecodeErrorKind::InvalidField, &path, "expected a JSON object"))
}
