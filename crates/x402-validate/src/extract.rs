//! [HTTP 402 response delivery](https://github.com/x402-foundation/x402/blob/main/specs/transports-v2/http.md): the
//! `PAYMENT-REQUIRED` header, base64 or raw JSON, or the body.

use std::borrow::Cow;

use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{DecodeError, Engine, alphabet};
use serde::Serialize;
use x402_codec::header::PAYMENT_REQUIRED;

use crate::document;
use crate::report::Report;
use crate::summary::{Summary, summary};
use crate::{Options, lint};

/// The part of the response that contains the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The `PAYMENT-REQUIRED` header.
    Header,
    /// The body of the response.
    Body,
}

/// A document found in a response.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Extracted<'r> {
    /// The part of the response that contains the document.
    pub source: Source,
    /// The decoded text, which may not be JSON.
    pub json: Cow<'r, [u8]>,
    /// The length of the header value, if the document came in the header.
    pub header: Option<usize>,
}

/// The reason why a response has no document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExtractError {
    /// The header is absent, and the body is empty.
    #[error("the response has neither a PAYMENT-REQUIRED header nor a body")]
    NotFound,
    /// The header or the body is neither JSON nor base64.
    #[error("the {} is neither JSON nor base64, at byte {offset}", if *.place == Source::Header { "header" } else { "body" })]
    NotBase64 {
        /// The part of the response that is malformed.
        place: Source,
        /// The byte of the value at which it stops being base64.
        offset: usize,
    },
}

/// Finds the document of a response: the header takes precedence over the body, and each may be raw JSON or base64 of
/// either alphabet, padded or not. The name of the header is matched in any case.
///
/// # Errors
/// Both are absent, or the one that counts is malformed. A malformed header does not fall back to the body: clients of
/// version 2 read only the header.
pub fn extract<'r>(
    headers: impl IntoIterator<Item = (&'r str, &'r [u8])>,
    body: &'r [u8],
) -> Result<Extracted<'r>, ExtractError> {
    let header = headers.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(PAYMENT_REQUIRED.as_str()));
    if let Some((_, value)) = header {
        let json = decode(value.trim_ascii(), Source::Header)?;
        return Ok(Extracted { source: Source::Header, json, header: Some(value.len()) });
    }
    if body.trim_ascii().is_empty() {
        return Err(ExtractError::NotFound);
    }
    let json =
        if is_base64(body.trim_ascii()) { decode(body.trim_ascii(), Source::Body)? } else { Cow::Borrowed(body) };
    Ok(Extracted { source: Source::Body, json, header: None })
}

/// The linter's result for a response.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CheckedResponse {
    /// The report on the document.
    #[serde(flatten)]
    pub report: Report,
    /// The part of the response that contains the document.
    pub source: Option<Source>,
    /// The offers of the document, entry by entry.
    pub summary: Vec<Summary>,
    /// The JSON text that was found, to which the spans of the report refer.
    #[serde(skip)]
    pub json: Vec<u8>,
}

/// Finds the document of a response and lints it. A response without one is `INVALID_JSON`.
#[must_use]
pub fn lint_response<'r>(
    headers: impl IntoIterator<Item = (&'r str, &'r [u8])>,
    body: &'r [u8],
    options: &Options,
) -> CheckedResponse {
    let refused = |error: &ExtractError, source, offset| CheckedResponse {
        report: document::invalid(&error.to_string(), offset, 0, options.strict),
        source,
        summary: Vec::new(),
        json: Vec::new(),
    };
    match extract(headers, body) {
        Ok(found) => {
            let options = Options { header: found.header, ..options.clone() };
            let report = lint(&*found.json, &options);
            let summary = summary(&report, &options.registry);
            CheckedResponse { report, source: Some(found.source), summary, json: found.json.into_owned() }
        }
        Err(error @ ExtractError::NotFound) => refused(&error, None, 0),
        Err(error @ ExtractError::NotBase64 { place, offset }) => refused(&error, Some(place), offset),
    }
}

/// Decodes a value: a value that begins as JSON is raw JSON, any other is base64.
fn decode(value: &[u8], place: Source) -> Result<Cow<'_, [u8]>, ExtractError> {
    if matches!(value.first(), None | Some(b'{' | b'[' | b'"')) {
        return Ok(Cow::Borrowed(value));
    }
    base64(value).map(Cow::Owned).map_err(|offset| ExtractError::NotBase64 { place, offset })
}

/// Decodes base64 of either alphabet, padded or not; otherwise returns the byte at which it stops being base64.
pub(crate) fn base64(value: &[u8]) -> Result<Vec<u8>, usize> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
    let standard: Vec<u8> = value
        .iter()
        .map(|b| match b {
            b'-' => b'+',
            b'_' => b'/',
            other => *other,
        })
        .collect();
    BASE64.decode(&standard).map_err(|error| match error {
        DecodeError::InvalidByte(offset, _) => offset,
        DecodeError::InvalidLastSymbol { offset, .. } => offset,
        DecodeError::InvalidLength(_) | DecodeError::InvalidPadding => value.len(),
    })
}

/// Returns whether a body is one word of base64 that decodes to an object: `eyJ` is `{"`.
fn is_base64(body: &[u8]) -> bool {
    let word = |b: &u8| b.is_ascii_alphanumeric() || b"+/-_=".contains(b);
    matches!(body.first(), Some(b'e')) && body.iter().all(word)
}
