//! The request of `x402 pay`, with curl's options.

use std::io::Read;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::Value;

/// The parts of the request other than the URL.
#[derive(Debug, clap::Args)]
pub(super) struct Request {
    /// The request's method: GET, or POST if there is a body.
    #[arg(long, short = 'X')]
    method: Option<String>,
    /// A header, `Name: value`; may be repeated.
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The request's body; `@FILE` reads it from a file, `@-` from standard input. JSON is sent as `application/json`
    /// unless `-H` sets another type.
    #[arg(long, short)]
    data: Option<String>,
}

/// The parts of a request.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Vec<u8>>,
}

impl Request {
    /// Parses the arguments, and reads the body's file.
    pub(super) fn parts(self) -> Result<Parts, String> {
        let body = self.data.map(|data| read(&data)).transpose()?;
        let method = match self.method {
            Some(method) => method.parse().map_err(|_| "the method: expected a token such as GET".to_owned())?,
            None if body.is_some() => Method::POST,
            None => Method::GET,
        };
        let mut headers = HeaderMap::new();
        for text in &self.headers {
            let (name, value) = header(text).ok_or_else(|| format!("the header {text:?}: expected `Name: value`"))?;
            headers.append(name, value);
        }
        if let Some(body) = &body
            && !headers.contains_key(CONTENT_TYPE)
        {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type(body)));
        }
        Ok(Parts { method, headers, body })
    }
}

fn read(data: &str) -> Result<Vec<u8>, String> {
    match data.strip_prefix('@') {
        None => Ok(data.as_bytes().to_vec()),
        Some("-") => {
            let mut body = Vec::new();
            std::io::stdin().lock().read_to_end(&mut body).map_err(|error| format!("standard input: {error}"))?;
            Ok(body)
        }
        Some(path) => std::fs::read(path).map_err(|error| format!("{path}: {error}")),
    }
}

fn header(text: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once(':')?;
    Some((name.trim().parse().ok()?, value.trim().parse().ok()?))
}

/// Returns the content type: that of JSON, or curl's default for other bodies.
fn content_type(body: &[u8]) -> &'static str {
    let json = serde_json::from_slice::<Value>(body);
    if json.is_ok() { "application/json" } else { "application/x-www-form-urlencoded" }
}
