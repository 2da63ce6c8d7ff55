//! The section `[otlp]`: the collector that gets a span of each payment.

use std::collections::{BTreeMap, HashMap};

use reqwest::Url;
use serde::Deserialize;

use super::{ConfigError, SecretSource};

/// A collector of spans by [OTLP over HTTP](https://opentelemetry.io/docs/specs/otlp/#otlphttp).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OtlpConfig {
    /// The `http` or `https` URL that spans are posted to, with its path: `http://127.0.0.1:4318/v1/traces`.
    pub endpoint: String,
    /// Further headers of each request by name, such as a token: the places of their values.
    #[serde(default)]
    pub headers: BTreeMap<String, SecretSource>,
}

impl OtlpConfig {
    /// Returns the URL.
    pub(crate) fn target(&self) -> Result<Url, ConfigError> {
        let range = ConfigError::Range { field: "otlp.endpoint", expected: "an http or https URL without user" };
        let url = Url::parse(&self.endpoint).map_err(|_| range.clone())?;
        let fits = matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none();
        if fits { Ok(url) } else { Err(range) }
    }

    /// Reads the values of the headers.
    pub(crate) fn values(&self) -> Result<HashMap<String, String>, ConfigError> {
        let value = |(name, source): (&String, &SecretSource)| {
            let expected = "names and values of HTTP headers";
            let range = ConfigError::Range { field: "otlp.headers", expected };
            let value = source.read("otlp.headers")?;
            let named = axum::http::HeaderName::try_from(name).is_ok();
            let fits = named && axum::http::HeaderValue::from_str(&value).is_ok();
            if fits { Ok((name.clone(), (*value).clone())) } else { Err(range) }
        };
        self.headers.iter().map(value).collect()
    }
}
