//! HTTP exchanges as readable text, compared with files: `UPDATE_GOLDEN=1` rewrites them.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::path::PathBuf;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use tower::ServiceExt;
use x402_codec::{Limits, header};
use x402_http::Body;
use x402_types::RawJson;

use super::{Script, Service};

/// Writes one exchange to the text, and what the server did for it.
pub(crate) async fn exchange(
    text: &mut String,
    service: &Service<Body<Full<Bytes>>>,
    request: Request<Full<Bytes>>,
    script: &Script,
) -> (http::StatusCode, HeaderMap, Bytes) {
    if !text.is_empty() {
        text.push_str("\n----------------------------------------\n\n");
    }
    writeln!(text, "{} {} HTTP/1.1", request.method(), request.uri()).unwrap();
    headers(text, request.headers());
    let response: Result<Response<_>, Infallible> = service.clone().oneshot(request).await;
    let (parts, body) = response.unwrap().into_parts();
    writeln!(text, "\nHTTP/1.1 {}", parts.status).unwrap();
    headers(text, &parts.headers);
    let body = body.collect().await.unwrap().to_bytes();
    writeln!(text, "\n{}", String::from_utf8(body.to_vec()).unwrap()).unwrap();
    let did = std::mem::take(&mut *script.log.lock().unwrap()).join(", ");
    writeln!(text, "\n# server: {}", if did.is_empty() { "nothing" } else { &did }).unwrap();
    (parts.status, parts.headers, body)
}

/// Compares the text with `tests/golden/NAME.http`.
pub(crate) fn check(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.http"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, golden, "{} differs; UPDATE_GOLDEN=1 rewrites it", path.display());
}

fn headers(text: &mut String, headers: &HeaderMap) {
    let mut lines: Vec<_> = headers
        .iter()
        .map(|(name, value)| {
            let json = header_json(value.as_bytes());
            json.map_or_else(|| format!("{name}: {}", value.to_str().unwrap()), |json| format!("{name}: base64 {json}"))
        })
        .collect();
    lines.sort();
    for line in lines {
        writeln!(text, "{line}").unwrap();
    }
}

/// A header that carries base64 of JSON is shown as that JSON.
fn header_json(value: &[u8]) -> Option<String> {
    header::decode::<RawJson>(value, &Limits::DEFAULT).ok().map(|json| json.as_str().to_owned())
}
