//! The origins of the key `cors`, as browsers write them:
//! [RFC 6454 §6.2](https://www.rfc-editor.org/rfc/rfc6454#section-6.2).

use std::str::FromStr;

use axum::http::HeaderValue;
use serde::Deserialize;

/// An origin: scheme, host and, unless it is the usual one, port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrowserOrigin(String);

/// The text is not an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cors: expected origins in lower case, https://HOST or http://HOST:PORT, without a path")]
pub struct BrowserOriginError;

impl BrowserOrigin {
    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the value of the header `Origin`.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.0).ok()
    }
}

impl FromStr for BrowserOrigin {
    type Err = BrowserOriginError;

    fn from_str(text: &str) -> Result<Self, BrowserOriginError> {
        let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or_default();
        let known = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b':' | b'[' | b']');
        if host.is_empty() || !host.bytes().all(known) {
            return Err(BrowserOriginError);
        }
        Ok(Self(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for BrowserOrigin {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
