//! A header value as servers send it:
//! [version 2 over HTTP](https://github.com/x402-foundation/x402/blob/main/specs/transports-v2/http.md) wants padded
//! standard base64 of the JSON in UTF-8, and all else is recognised and named.

use std::borrow::Cow;

use x402_codec::Limits;
use x402_codec::json;

use crate::Severity;
use crate::extract::base64;

/// The text of a header value, and what is wrong with the way in which it is encoded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reading<'v> {
    /// The text; it may not be JSON.
    pub(crate) json: Cow<'v, [u8]>,
    /// An error for what no client reads.
    pub(crate) flaw: Option<(Severity, &'static str)>,
}

const RAW: &str = "the header is raw JSON: published clients read base64 only";
const URL_SAFE: &str = "the header is base64 of the URL-safe alphabet, which published clients do not read";
const UNPADDED: &str = "the header is base64 without its padding, which some clients do not read";
const TWICE: &str = "the header is base64 of base64: it was encoded twice";
const QUOTED: &str = "the header is JSON in a JSON string: it was serialized twice";
const PERCENT: &str = "the header is percent-encoded: headers are not URLs";
const LATIN_1: &str = "the text in the header is Latin-1, not UTF-8";

/// Reads a value that is not empty; `None` if it is neither JSON nor base64 in any way that servers send it.
pub(crate) fn read(value: &[u8]) -> Option<Reading<'_>> {
    let (json, mut flaw) = match once(value) {
        Some((json, flaw)) => (json, flaw.map(|flaw| (Severity::Warning, flaw))),
        None => {
            let plain = percent_decoded(value)?;
            let (json, _) = once(&plain)?;
            (Cow::Owned(json.into_owned()), Some((Severity::Error, PERCENT)))
        }
    };
    let again = match json.first() {
        Some(b'"') => quoted(&json).map(|inner| (inner, QUOTED)),
        Some(b'{' | b'[') => None,
        _ => base64(json.trim_ascii()).ok().filter(|inner| inner.first() == Some(&b'{')).map(|inner| (inner, TWICE)),
    };
    if let Some((inner, what)) = again {
        return Some(Reading { json: Cow::Owned(inner), flaw: Some((Severity::Error, what)) });
    }
    // Each byte is one character of Latin-1; only JSON counts as Latin-1, other bytes are noise.
    if std::str::from_utf8(&json).is_err() {
        let text: String = json.iter().map(|byte| char::from(*byte)).collect();
        if json::parse(text.as_bytes(), &Limits { body: text.len(), ..Limits::DEFAULT }).is_ok() {
            flaw = Some((Severity::Error, LATIN_1));
        }
    }
    Some(Reading { json, flaw })
}

/// Reads a value as JSON or base64, once.
fn once(value: &[u8]) -> Option<(Cow<'_, [u8]>, Option<&'static str>)> {
    if matches!(value.first(), Some(b'{' | b'[' | b'"')) {
        return Some((Cow::Borrowed(value), Some(RAW)));
    }
    let decoded = base64(value).ok()?;
    let flaw = if value.iter().any(|b| matches!(b, b'-' | b'_')) {
        Some(URL_SAFE)
    } else {
        (!value.len().is_multiple_of(4)).then_some(UNPADDED)
    };
    Some((Cow::Owned(decoded), flaw))
}

/// Reads a JSON string that has an object as text.
fn quoted(json: &[u8]) -> Option<Vec<u8>> {
    let node = json::parse(json, &Limits { body: json.len(), ..Limits::DEFAULT }).ok()?;
    let text = node.as_str()?.trim();
    text.starts_with('{').then(|| text.as_bytes().to_vec())
}

/// Decodes percent escapes; `None` if there are none.
fn percent_decoded(value: &[u8]) -> Option<Vec<u8>> {
    value.contains(&b'%').then(|| crate::extensions::percent_decoded(value))
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE as SAFE};

    use super::*;

    #[test]
    fn every_encoding_is_told() {
        let json = r#"{"ab":"ÿþ?>~"}"#;
        let encoded = STANDARD.encode(json);
        let latin1: Vec<u8> = json.chars().map(|c| u32::from(c) as u8).collect();
        let percent = encoded.replace('+', "%2B").replace('=', "%3D").replace('/', "%2F");
        assert!(encoded.contains('=') && encoded.contains(['+', '/']), "{encoded}");
        for (value, json, flaw) in [
            (encoded.clone(), json.as_bytes(), None),
            (json.to_owned(), json.as_bytes(), Some((Severity::Warning, RAW))),
            (SAFE.encode(json), json.as_bytes(), Some((Severity::Warning, URL_SAFE))),
            (STANDARD_NO_PAD.encode(json), json.as_bytes(), Some((Severity::Warning, UNPADDED))),
            (STANDARD.encode(&encoded), json.as_bytes(), Some((Severity::Error, TWICE))),
            (percent, json.as_bytes(), Some((Severity::Error, PERCENT))),
            ("%7B%22a%22%3A1%7D".to_owned(), br#"{"a":1}"#, Some((Severity::Error, PERCENT))),
            (STANDARD.encode(serde_json::to_string(json).unwrap()), json.as_bytes(), Some((Severity::Error, QUOTED))),
            (serde_json::to_string(json).unwrap(), json.as_bytes(), Some((Severity::Error, QUOTED))),
            (STANDARD.encode(&latin1), &latin1, Some((Severity::Error, LATIN_1))),
        ] {
            let want = Reading { json: Cow::Borrowed(json), flaw };
            assert_eq!(read(value.as_bytes()), Some(want), "{value}");
        }
        for noise in ["*", "Payment required", "%", "%zz"] {
            assert_eq!(read(noise.as_bytes()), None, "{noise}");
        }
    }
}
