//! Base64 in headers: [RFC 4648](https://www.rfc-editor.org/rfc/rfc4648), encoded by §4, decoded by §4 and §5.
//!
//! Encoding uses the standard alphabet with padding, which every SDK decodes. Decoding accepts either alphabet but
//! never both in one value, and padding whole or absent; it refuses white space and non-zero bits after the last byte
//! (§3.5), so that no byte string has two spellings within one form.

use base64_simd::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};

use crate::json::within;
use crate::{DecodeError, DecodeErrorKind};

const EXPECTED: &str = "expected base64: one alphabet, whole padding or none";

/// Encodes padded standard base64.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    STANDARD.encode_to_string(bytes)
}

/// Decodes base64 of at most `limit` characters.
/// # Errors
/// `too_large`, before anything is allocated; `invalid_base64` at the first character that is not allowed in its place.
pub fn decode(text: &[u8], limit: usize) -> Result<Vec<u8>, DecodeError> {
    decode_form(text, limit).map(|(bytes, _)| bytes)
}

/// The same, and whether the text has the form that is written: the standard alphabet, padded. Each form has one
/// spelling, so such a text is the very one that [`encode`] writes.
pub(crate) fn decode_form(text: &[u8], limit: usize) -> Result<(Vec<u8>, bool), DecodeError> {
    within(text.len(), limit)?;
    let padded = text.last() == Some(&b'=');
    let standard = if padded { STANDARD } else { STANDARD_NO_PAD };
    if let Ok(bytes) = standard.decode_to_vec(text) {
        return Ok((bytes, text.len().is_multiple_of(4)));
    }
    let url_safe = if padded { URL_SAFE } else { URL_SAFE_NO_PAD };
    url_safe.decode_to_vec(text).map(|bytes| (bytes, false)).map_err(|_| why(text))
}

/// Finds the fault; runs only on refused input.
#[cold]
fn why(text: &[u8]) -> DecodeError {
    let bad = |at: usize, expected: &'static str| DecodeError::at_byte(DecodeErrorKind::InvalidBase64, at, expected);
    let body = text.iter().position(|b| *b == b'=').unwrap_or(text.len());
    let mut standard = false;
    let mut url_safe = false;
    for (at, byte) in text.iter().take(body).enumerate() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => {}
            b'+' | b'/' if !url_safe => standard = true,
            b'-' | b'_' if !standard => url_safe = true,
            b'+' | b'/' | b'-' | b'_' => return bad(at, "expected one base64 alphabet, not both"),
            b' ' | b'\t' | b'\r' | b'\n' => return bad(at, "expected base64 without white space"),
            _ => return bad(at, EXPECTED),
        }
    }
    let padding = text.get(body..).unwrap_or_default();
    if let Some(at) = padding.iter().position(|b| *b != b'=') {
        return bad(body + at, "expected nothing behind the padding");
    }
    let whole = match body % 4 {
        0 => 0,
        2 => 2,
        3 => 1,
        _ => return bad(body, "expected another base64 character"),
    };
    if !padding.is_empty() && padding.len() != whole {
        return bad(body + whole.min(padding.len()), "expected whole padding or none");
    }
    bad(body.saturating_sub(1), "expected zero bits behind the last byte")
}
