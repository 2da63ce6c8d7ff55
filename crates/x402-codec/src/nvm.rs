//! Payments and requests of the [x402 Smart Accounts
//! Extension](https://docs.nevermined.app/docs/specs/x402-smart-accounts) §4.2 and §4.3: recognising them, and decoding
//! them with the codes of its own §7.

use http::{HeaderMap, HeaderName};
use x402_types::nvm::card::{CardPayment, is_payment as is_card_payment};
use x402_types::nvm::{self, AccessToken, Code, FacilitatorRequest};
use x402_types::{ErrorReason, PaymentPayload, RawJson, Rejection};

use crate::header::{DecodedPayment, PaymentText, payment_text};
use crate::{DecodeError, Limits, base64, body, json};

/// The response header of a receipt, version 0.2, in addition to `PAYMENT-RESPONSE`.
pub static QUERY_RESPONSE: HeaderName = HeaderName::from_static("query-response");

/// A payment of this extension, or of x402.
#[derive(Debug, Clone, PartialEq)]
pub enum EitherPayment {
    /// A payment of this extension, with the text that the payer sent.
    Nvm(nvm::PaymentPayload, PaymentText),
    /// A payment of x402.
    X402(DecodedPayment),
}

/// Decodes, for a server, the payment of a request, if it has one, whatever its dialect; a fault in one of this
/// extension has the extension's code.
/// # Errors
/// The header is malformed, or does not contain a payment.
pub fn payment(headers: &HeaderMap, limits: &Limits) -> Result<Option<EitherPayment>, Rejection> {
    match payment_text(headers, limits).map_err(unreadable)? {
        Some(text) => read(text, limits).map(Some),
        None => Ok(None),
    }
}

/// Parses the payment in a header's text, whatever its dialect.
/// # Errors
/// The text is not a payment.
pub fn read(text: PaymentText, limits: &Limits) -> Result<EitherPayment, Rejection> {
    // Most payments are not of this extension: they are read once.
    let x402 = body::payment(text.json(), limits);
    if !x402.as_deref().is_ok_and(|payment| !may_be_one(payment))
        && let Ok(raw) = text.read::<RawJson>(limits)
        && nvm::is_payment(&raw)
    {
        return nvm::PaymentPayload::from_raw(&raw).map(|payment| EitherPayment::Nvm(payment, text));
    }
    Ok(EitherPayment::X402(DecodedPayment::new(x402.map_err(unreadable)?, text)))
}

/// Converts a decode error to `invalid_payload`, whatever part is malformed.
fn unreadable(error: DecodeError) -> Rejection {
    Rejection::new(ErrorReason::INVALID_PAYLOAD).because(error.to_string())
}

/// Returns whether a payment that parses as x402 may nevertheless be one of this extension; [`nvm::is_payment`] decides.
#[must_use]
pub fn may_be_one(payment: &PaymentPayload) -> bool {
    let PaymentPayload::V2(payment) = payment else { return false };
    payment.accepted.scheme == x402_types::SchemeName::NVM_ERC4337
        || payment.accepted.rest.get("planId").is_some()
        || payment.extensions.get("smart-account").is_some()
        || payment.payload.as_str().contains("\"sessionKeys\"")
}

/// A server's request to a facilitator, with the parsed payment.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodedRequest {
    /// The body of the request.
    pub body: FacilitatorRequest,
    /// The payment in the body, or its fault, which is a verdict, unlike a body that cannot be parsed.
    pub payment: Result<nvm::PaymentPayload, Rejection>,
    /// The payment, or its fault, if it names the scheme of cards: then it is none of the other scheme.
    pub card: Option<Result<CardPayment, Rejection>>,
    /// The JSON text of the payment.
    pub raw: RawJson,
}

/// Recognises a body of `POST /verify` or `POST /settle` of this extension by its shape: it has `paymentRequired`
/// instead of `paymentRequirements`.
#[must_use]
pub fn is_request(body: &[u8], limits: &Limits) -> bool {
    json::from_slice::<RawJson>(body, limits).is_ok_and(|raw| FacilitatorRequest::is_one(&raw))
}

/// Parses, for a facilitator, the body of `POST /verify` and `POST /settle`. The payment is JSON, or base64 of either
/// alphabet, with padding or without.
/// # Errors
/// `INVALID_PAYLOAD`: the body, or the base64 or JSON in it, cannot be parsed.
pub fn request(body: &[u8], limits: &Limits) -> Result<DecodedRequest, Rejection> {
    let unreadable = |error: DecodeError| Code::InvalidPayload.because(error.to_string());
    let body: FacilitatorRequest = json::from_slice(body, limits).map_err(unreadable)?;
    let raw = presented(&body, limits).map_err(unreadable)?;
    let card = is_card_payment(&raw).then(|| CardPayment::from_raw(&raw));
    Ok(DecodedRequest { payment: nvm::PaymentPayload::from_raw(&raw), card, body, raw })
}

/// Parses the payment's JSON in a body.
fn presented(body: &FacilitatorRequest, limits: &Limits) -> Result<RawJson, DecodeError> {
    match &body.token {
        AccessToken::Json(raw) => Ok(raw.clone()),
        AccessToken::Base64(text) => json::from_slice(&base64::decode(text.as_bytes(), limits.header)?, limits),
    }
}
