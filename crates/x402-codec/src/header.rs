//! The headers of [x402 over HTTP](https://github.com/coinbase/x402/blob/main/specs/transports-v2/http.md): their
//! names, and the messages in them as base64 of JSON.
//!
//! No other module of the workspace contains the names.

use std::fmt;

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, header};
use serde::{Deserialize, Serialize};
use x402_types::v2::SettleResponse;
use x402_types::{Members, PaymentPayload, PaymentRequired, PaymentRequirements, Version};

use crate::json::within;
use crate::{DecodeError, DecodeErrorKind, EncodeError, Limits, base64, body, json};

/// The header of a 402 response, v2: `PaymentRequired`.
pub static PAYMENT_REQUIRED: HeaderName = HeaderName::from_static("payment-required");
/// The request header of a payment, v2: `PaymentPayload`.
pub static PAYMENT_SIGNATURE: HeaderName = HeaderName::from_static("payment-signature");
/// The response header of a settlement that succeeded or failed, v2: `SettleResponse`.
pub static PAYMENT_RESPONSE: HeaderName = HeaderName::from_static("payment-response");
/// The request header of a payment, v1 and the `x402.v1` dialect.
pub static X_PAYMENT: HeaderName = HeaderName::from_static("x-payment");
/// The response header of a settlement, v1 and the `x402.v1` dialect.
pub static X_PAYMENT_RESPONSE: HeaderName = HeaderName::from_static("x-payment-response");
/// The response header of the `x402.v1` dialect, from server to client, with a bearer entitlement.
pub static X_PAYMENT_TOKEN: HeaderName = HeaderName::from_static("x-payment-token");
/// The response header from a handler to its server with the amount to settle. It never leaves the server.
pub static SETTLEMENT_OVERRIDES: HeaderName = HeaderName::from_static("settlement-overrides");
/// The response header of a facilitator's `/settle` with what its extensions report to the seller. The payer does not get it.
pub static EXTENSION_RESPONSES: HeaderName = HeaderName::from_static("extension-responses");
/// The request header of a sign-in with a wallet. It is listed for CORS; its content is not decoded.
pub static SIGN_IN_WITH_X: HeaderName = HeaderName::from_static("sign-in-with-x");

/// The header that carried a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PaymentHeader {
    /// `PAYMENT-SIGNATURE`, the header of version 2.
    PaymentSignature,
    /// `X-PAYMENT`, v1 and the `x402.v1` dialect.
    XPayment,
}

impl PaymentHeader {
    /// Returns the header's name.
    #[must_use]
    pub fn name(self) -> &'static HeaderName {
        match self {
            Self::PaymentSignature => &PAYMENT_SIGNATURE,
            Self::XPayment => &X_PAYMENT,
        }
    }

    /// Returns the name as the specifications write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PaymentSignature => "PAYMENT-SIGNATURE",
            Self::XPayment => "X-PAYMENT",
        }
    }

    /// Returns the header in which a client of this version sends its payment.
    #[must_use]
    pub const fn of(version: Version) -> Self {
        match version {
            Version::V1 => Self::XPayment,
            Version::V2 => Self::PaymentSignature,
        }
    }
}

/// The JSON text of a payment header whose dialect is not known yet.
#[derive(Clone, PartialEq, Eq)]
pub struct PaymentText {
    header: PaymentHeader,
    json: String,
    /// The header's text, if it differs from the result of `base64::encode`.
    spelled: Option<Box<str>>,
}

/// A payment, typed, with the text that the payer sent.
#[derive(Clone, PartialEq)]
pub struct DecodedPayment {
    // The payload is boxed, because it is large and moved often.
    payload: Box<PaymentPayload>,
    text: PaymentText,
}

impl PaymentText {
    /// Returns the header that carried the payment.
    #[must_use]
    pub const fn header(&self) -> PaymentHeader {
        self.header
    }

    /// Returns the decoded text as the payer sent it. It is valid UTF-8; nothing else has been checked.
    #[must_use]
    pub fn json(&self) -> &str {
        &self.json
    }

    /// Parses the text as any type.
    /// # Errors
    /// The kinds of [`json::from_slice`].
    pub fn read<'de, T: Deserialize<'de>>(&'de self, limits: &Limits) -> Result<T, DecodeError> {
        json::read_str(&self.json, limits)
    }

    /// Parses the text as a payment of version 1 or 2. The payload determines the version, whatever the header.
    /// # Errors
    /// The kinds of [`json::from_slice`].
    pub fn into_payment(self, limits: &Limits) -> Result<DecodedPayment, DecodeError> {
        Ok(DecodedPayment { payload: body::payment(&self.json, limits)?, text: self })
    }

    /// Returns the decoded text, and the header's own where `base64::encode` would write another for it.
    #[must_use]
    pub fn into_parts(self) -> (String, Option<Box<str>>) {
        (self.json, self.spelled)
    }
}

impl DecodedPayment {
    pub(crate) const fn new(payload: Box<PaymentPayload>, text: PaymentText) -> Self {
        Self { payload, text }
    }

    /// Returns the payment.
    #[must_use]
    pub fn payload(&self) -> &PaymentPayload {
        &self.payload
    }

    /// Returns the header's text as the payer sent it, if it is not padded standard base64. A relay to a service that
    /// identifies the token by its text must send this text, or if there is none, the base64 of [`Self::json`].
    #[must_use]
    pub fn spelled(&self) -> Option<&str> {
        self.text.spelled.as_deref()
    }

    /// Returns the payment alone.
    #[must_use]
    pub fn into_payload(self) -> PaymentPayload {
        *self.payload
    }

    /// Returns the payment, and the decoded text as the payer sent it.
    #[must_use]
    pub fn into_parts(self) -> (Box<PaymentPayload>, String) {
        (self.payload, self.text.json)
    }

    /// Returns the header that carried the payment.
    #[must_use]
    pub const fn header(&self) -> PaymentHeader {
        self.text.header
    }

    /// Returns the decoded text as the payer sent it.
    #[must_use]
    pub fn json(&self) -> &str {
        &self.text.json
    }

    /// Builds the body of `/verify` and `/settle` for this payment: the payer's text byte for byte, and the server's
    /// own requirements.
    /// # Errors
    /// The requirements cannot be serialized.
    pub fn verify_body(&self, requirements: &PaymentRequirements) -> Result<Vec<u8>, EncodeError> {
        body::write_verify_request(self.payload.version(), self.json(), requirements)
    }
}

impl fmt::Debug for PaymentText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Anyone who holds a payment can have it settled, so the text is kept out of logs.
        f.debug_struct("PaymentText").field("header", &self.header).field("length", &self.json.len()).finish()
    }
}

impl fmt::Debug for DecodedPayment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecodedPayment")
            .field("header", &self.text.header)
            .field("version", &self.payload.version())
            .finish_non_exhaustive()
    }
}

/// Decodes, for a server, the payment of a request, if it has one.
/// # Errors
/// `ambiguous_header` for more than one payment: a repeated header, values joined by a comma, different values in
/// `PAYMENT-SIGNATURE` and `X-PAYMENT`. Otherwise the fault of the value.
pub fn payment(headers: &HeaderMap, limits: &Limits) -> Result<Option<DecodedPayment>, DecodeError> {
    match payment_text(headers, limits)? {
        Some(text) => text.into_payment(limits).map(Some),
        None => Ok(None),
    }
}

/// Decodes, for a server, the text of a request's payment header, if it has one, for dialects that share these headers.
/// # Errors
/// `ambiguous_header`, `too_large`, `invalid_base64`, `invalid_utf8`.
pub fn payment_text(headers: &HeaderMap, limits: &Limits) -> Result<Option<PaymentText>, DecodeError> {
    let v2 = one(headers, &PAYMENT_SIGNATURE, "PAYMENT-SIGNATURE")?;
    let v1 = one(headers, &X_PAYMENT, "X-PAYMENT")?;
    match (v2, v1) {
        // A client that does not know the server's version sends one payment in both.
        (Some(v2), Some(v1)) if v2 == v1 => decode_payment_text(PaymentHeader::PaymentSignature, v2, limits).map(Some),
        (Some(_), Some(_)) => Err(DecodeError::at_header(
            DecodeErrorKind::AmbiguousHeader,
            "X-PAYMENT",
            "expected one payment, found another than in PAYMENT-SIGNATURE",
        )),
        (Some(value), None) => decode_payment_text(PaymentHeader::PaymentSignature, value, limits).map(Some),
        (None, Some(value)) => decode_payment_text(PaymentHeader::XPayment, value, limits).map(Some),
        (None, None) => Ok(None),
    }
}

/// Decodes the payment in one header value.
/// # Errors
/// `too_large`, `invalid_base64`, and the kinds of [`json::from_slice`].
pub fn decode_payment(header: PaymentHeader, value: &[u8], limits: &Limits) -> Result<DecodedPayment, DecodeError> {
    decode_payment_text(header, value, limits)?.into_payment(limits)
}

fn decode_payment_text(header: PaymentHeader, value: &[u8], limits: &Limits) -> Result<PaymentText, DecodeError> {
    let (json, is_standard) = decode_text(header.as_str(), value, limits)?;
    let spelled = (!is_standard).then(|| String::from_utf8_lossy(value).into());
    Ok(PaymentText { header, json, spelled })
}

/// Decodes, for a client, the terms of a 402, from its header, or from its body if there is no `PAYMENT-REQUIRED`.
///
/// The header takes precedence: if it is malformed, the body is not tried. `None` means that both are empty.
/// # Errors
/// The fault of the header, or of the body.
pub fn payment_required(
    headers: &HeaderMap,
    body: &[u8],
    limits: &Limits,
) -> Result<Option<PaymentRequired>, DecodeError> {
    match payment_required_header(headers, limits)? {
        Some(required) => Ok(Some(required)),
        None if body.is_empty() => Ok(None),
        None => body::payment_required(body, limits).map(Some),
    }
}

/// Decodes, for a client, the terms in the header of a 402; if there is no header, use [`body::payment_required`].
/// # Errors
/// The fault of the header.
pub fn payment_required_header(headers: &HeaderMap, limits: &Limits) -> Result<Option<PaymentRequired>, DecodeError> {
    match one(headers, &PAYMENT_REQUIRED, "PAYMENT-REQUIRED")? {
        Some(value) => decode_payment_required(value, limits).map(Some),
        None => Ok(None),
    }
}

/// Decodes the terms in one `PAYMENT-REQUIRED` value: base64, or raw JSON as some servers send it.
/// # Errors
/// `too_large`, `invalid_base64`, and the kinds of [`json::from_slice`].
pub fn decode_payment_required(value: &[u8], limits: &Limits) -> Result<PaymentRequired, DecodeError> {
    if value.trim_ascii_start().first() == Some(&b'{') {
        within(value.len(), limits.header)?;
        return json::read(value, limits);
    }
    json::read_str(&decode_text("PAYMENT-REQUIRED", value, limits)?.0, limits)
}

/// Decodes, for a client, the result of a settlement, from `PAYMENT-RESPONSE`, otherwise from `X-PAYMENT-RESPONSE`.
/// # Errors
/// The fault of the header. The result is then unknown, not failed.
pub fn settle_response(headers: &HeaderMap, limits: &Limits) -> Result<Option<SettleResponse>, DecodeError> {
    let v2 = one(headers, &PAYMENT_RESPONSE, "PAYMENT-RESPONSE")?.map(|value| ("PAYMENT-RESPONSE", value));
    let found = match v2 {
        Some(found) => Some(found),
        None => one(headers, &X_PAYMENT_RESPONSE, "X-PAYMENT-RESPONSE")?.map(|value| ("X-PAYMENT-RESPONSE", value)),
    };
    match found {
        Some((name, value)) => json::read_str(&decode_text(name, value, limits)?.0, limits).map(Some),
        None => Ok(None),
    }
}

/// Decodes, for a server, what the extensions of a facilitator report, by their names.
/// # Errors
/// The fault of the header. The reports then count as absent: nothing is decided by them.
pub fn extension_responses(headers: &HeaderMap, limits: &Limits) -> Result<Option<Members>, DecodeError> {
    match one(headers, &EXTENSION_RESPONSES, "EXTENSION-RESPONSES")? {
        Some(value) => json::read_str(&decode_text("EXTENSION-RESPONSES", value, limits)?.0, limits).map(Some),
        None => Ok(None),
    }
}

/// Decodes any message in one header value: base64 of strict JSON.
/// # Errors
/// `too_large`, `invalid_base64`, and the kinds of [`json::from_slice`].
pub fn decode<T: serde::de::DeserializeOwned>(value: &[u8], limits: &Limits) -> Result<T, DecodeError> {
    json::read(&base64::decode(value, limits.header)?, limits)
}

/// Encodes a message as a header value: padded standard base64 of its JSON, marked sensitive.
/// # Errors
/// The message cannot be serialized as JSON.
pub fn encode<T: Serialize + ?Sized>(message: &T) -> Result<HeaderValue, EncodeError> {
    encode_text(&body::write(message)?)
}

/// Encodes JSON text unchanged, as a header value marked sensitive.
/// # Errors
/// None for the sizes that fit in memory.
pub fn encode_text(json: &[u8]) -> Result<HeaderValue, EncodeError> {
    let mut value = HeaderValue::try_from(base64::encode(json)).map_err(|_| EncodeError::Header)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Encodes, for a client, a payment in the header of its version.
/// # Errors
/// The payment cannot be serialized as JSON.
pub fn encode_payment(payment: &PaymentPayload) -> Result<(HeaderName, HeaderValue), EncodeError> {
    Ok((PaymentHeader::of(payment.version()).name().clone(), encode(payment)?))
}

/// Encodes, for a server, the header of a settlement, for a client of this version.
/// # Errors
/// The response cannot be serialized as JSON.
pub fn encode_settle_response(
    version: Version,
    response: &SettleResponse,
) -> Result<(HeaderName, HeaderValue), EncodeError> {
    let name = match version {
        Version::V1 => &X_PAYMENT_RESPONSE,
        Version::V2 => &PAYMENT_RESPONSE,
    };
    Ok((name.clone(), encode(response)?))
}

/// Returns the only value of a header. An empty one counts as absent; a second one is refused, whatever its content,
/// since it is unknown which of them another parser uses.
fn one<'h>(headers: &'h HeaderMap, name: &HeaderName, shown: &'static str) -> Result<Option<&'h [u8]>, DecodeError> {
    let mut values = headers.get_all(name).iter().map(|v| v.as_bytes().trim_ascii()).filter(|v| !v.is_empty());
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        _ => Err(DecodeError::at_header(DecodeErrorKind::AmbiguousHeader, shown, "expected the header once")),
    }
}

/// Decodes the text of a header. The second result is whether its base64 has the form that this crate writes.
fn decode_text(name: &'static str, value: &[u8], limits: &Limits) -> Result<(String, bool), DecodeError> {
    let (bytes, is_standard) = base64::decode_form(value, limits.header).map_err(|error| joined(name, value, error))?;
    let text = String::from_utf8(bytes).map_err(|e| json::not_utf8(e.utf8_error().valid_up_to()))?;
    Ok((text, is_standard))
}

/// Recognises joined values. RFC 9110 §5.3: a recipient may join the lines of one header with commas. Base64 has none.
#[cold]
fn joined(name: &'static str, value: &[u8], error: DecodeError) -> DecodeError {
    let rest = error.offset().and_then(|at| value.get(at..)).unwrap_or_default();
    if error.kind() == DecodeErrorKind::InvalidBase64 && rest.trim_ascii_start().starts_with(b",") {
        let message = "expected one value, not several joined by commas";
        return DecodeError::at_header(DecodeErrorKind::AmbiguousHeader, name, message);
    }
    error
}

/// Lists the headers that a paid route lets a browser send, for `Access-Control-Allow-Headers`.
///
/// The last one is a response header that the TypeScript and Python clients wrongly send with requests; refusing it
/// fails their preflight.
#[must_use]
pub fn request_headers() -> [HeaderName; 4] {
    let expose = header::ACCESS_CONTROL_EXPOSE_HEADERS;
    [PAYMENT_SIGNATURE.clone(), X_PAYMENT.clone(), SIGN_IN_WITH_X.clone(), expose]
}

/// Lists the headers that a paid route lets a browser read, for `Access-Control-Expose-Headers`.
#[must_use]
pub fn response_headers() -> [HeaderName; 4] {
    [PAYMENT_REQUIRED.clone(), PAYMENT_RESPONSE.clone(), X_PAYMENT_RESPONSE.clone(), X_PAYMENT_TOKEN.clone()]
}
