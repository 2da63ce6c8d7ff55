//! The service behind the gate: one request to the upstream, and its response.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::body::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use tower_service::Service;
use url::Url;
use x402_http::server::Paid;

use super::headers::{for_upstream, remove_hop_by_hop};
use super::{Peer, Upfront};

/// The bytes of a paid response that are read before the payment is settled: an upstream that breaks off before is not paid.
const AHEAD: usize = 1024 * 1024;
/// The time for the same. A response that takes longer is a stream, and settled when it begins.
const AHEAD_TIME: Duration = Duration::from_secs(5);

/// Forwards requests to one upstream.
#[derive(Debug, Clone)]
pub(super) struct Forward {
    http: reqwest::Client,
    upstream: Url,
}

impl Forward {
    /// Creates a client of the upstream. `seconds` is the time that it may need for a head, and for each further part.
    pub(super) fn new(upstream: Url, seconds: u64) -> Result<Self, String> {
        x402_http::service::install_tls();
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .http1_only()
            .connect_timeout(Duration::from_secs(5))
            .read_timeout(Duration::from_secs(seconds))
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { http, upstream })
    }

    async fn forward(self, request: Request<Body>) -> Response<Body> {
        let (mut parts, body) = request.into_parts();
        let paid = parts.extensions.get::<Paid>().cloned();
        let is_upfront = parts.extensions.get::<Upfront>().is_some();
        let peer = parts.extensions.get::<Peer>().copied();
        let Some(url) = self.url(parts.uri.path(), parts.uri.query()) else {
            return failed(StatusCode::BAD_REQUEST, "the address cannot be forwarded");
        };
        let scheme = if peer.is_some_and(|peer| peer.tls) { "https" } else { "http" };
        for_upstream(&mut parts.headers, peer.map(|peer| peer.address), scheme, paid.as_ref());
        let is_options = parts.method == Method::OPTIONS;
        let request = self.http.request(parts.method, url).headers(parts.headers).body(sent(body));
        let response: Response<reqwest::Body> = match request.send().await {
            Ok(response) => response.into(),
            Err(error) if error.is_timeout() => {
                return failed(StatusCode::GATEWAY_TIMEOUT, "the upstream did not answer in time");
            }
            Err(_) => return failed(StatusCode::BAD_GATEWAY, "the upstream cannot be reached, or broke off"),
        };
        let (mut parts, body) = response.into_parts();
        remove_hop_by_hop(&mut parts.headers);
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            return failed(StatusCode::BAD_GATEWAY, "the upstream changes the protocol, which was not requested");
        }
        // The gate lets preflights pass without payment, so what is sold must not leave with one.
        if is_options {
            parts.headers.remove(CONTENT_LENGTH);
            parts.extensions = http::Extensions::new();
            return Response::from_parts(parts, Body::empty());
        }
        let holds = paid.is_some() && !is_upfront && parts.status.is_success() && !is_stream(&parts.headers);
        let body = if holds {
            match Held::ahead(body).await {
                Ok(held) => Body::new(held),
                Err(_) => return failed(StatusCode::BAD_GATEWAY, "the upstream broke off"),
            }
        } else {
            Body::new(body)
        };
        let mut response = Response::from_parts(parts, body);
        *response.extensions_mut() = http::Extensions::new();
        if let Some(paid) = paid {
            response.extensions_mut().insert(paid);
        }
        response
    }

    /// Returns the upstream's URL for a path. Its spelling is the request's, since nothing of a checked path is rewritten.
    fn url(&self, path: &str, query: Option<&str>) -> Option<Url> {
        let base = self.upstream.as_str().trim_end_matches('/');
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        Url::parse(&format!("{base}{path}{query}")).ok()
    }
}

/// Returns whether a response is sent part by part for as long as it likes.
fn is_stream(headers: &http::HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.trim_start().to_ascii_lowercase().starts_with("text/event-stream")
}

/// Returns an answer of the proxy itself. With a status over 499 no payment is settled.
pub(super) fn failed(status: StatusCode, why: &str) -> Response<Body> {
    let body = serde_json::json!({ "error": why }).to_string();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

impl Service<Request<Body>> for Forward {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let forward = self.clone();
        Box::pin(async move { Ok(forward.forward(request).await) })
    }
}

/// Returns a request's body for the upstream. One that is empty has no length.
fn sent(body: Body) -> reqwest::Body {
    if http_body::Body::is_end_stream(&body) {
        return reqwest::Body::default();
    }
    let size = http_body::Body::size_hint(&body);
    reqwest::Body::wrap(Sent { body: Mutex::new(body), size })
}

/// A request's body that threads may share, which the client requires. The mutex is never locked.
struct Sent {
    body: Mutex<Body>,
    size: SizeHint,
}

impl http_body::Body for Sent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let body = self.body.get_mut().unwrap_or_else(PoisonError::into_inner);
        Pin::new(body).poll_frame(cx)
    }

    fn size_hint(&self) -> SizeHint {
        self.size.clone()
    }
}

/// A body whose beginning was read already.
struct Held {
    frames: VecDeque<Frame<Bytes>>,
    bytes: u64,
    rest: Option<reqwest::Body>,
}

impl Held {
    /// Reads a body to its end, or as far as [`AHEAD`] and [`AHEAD_TIME`] go.
    async fn ahead(mut body: reqwest::Body) -> Result<Self, reqwest::Error> {
        let mut held = Self { frames: VecDeque::new(), bytes: 0, rest: None };
        let read = async {
            while held.bytes < AHEAD as u64 {
                let Some(frame) = body.frame().await.transpose()? else { return Ok(true) };
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                held.bytes = held.bytes.saturating_add(length);
                held.frames.push_back(frame);
            }
            Ok(false)
        };
        let is_whole = match tokio::time::timeout(AHEAD_TIME, read).await {
            Ok(read) => read?,
            Err(_) => false,
        };
        held.rest = (!is_whole).then_some(body);
        Ok(held)
    }
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = reqwest::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, reqwest::Error>>> {
        if let Some(frame) = self.frames.pop_front() {
            let length = frame.data_ref().map_or(0, |data| data.len() as u64);
            self.bytes = self.bytes.saturating_sub(length);
            return Poll::Ready(Some(Ok(frame)));
        }
        match &mut self.rest {
            Some(rest) => Pin::new(rest).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty() && self.rest.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let Some(rest) = &self.rest else { return SizeHint::with_exact(self.bytes) };
        let rest = rest.size_hint();
        let mut whole = SizeHint::new();
        whole.set_lower(rest.lower().saturating_add(self.bytes));
        if let Some(upper) = rest.upper() {
            whole.set_upper(upper.saturating_add(self.bytes));
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_forwarded_as_it_was_spelled() {
        for (upstream, path, query, url) in [
            ("http://127.0.0.1:3000", "/", None, "http://127.0.0.1:3000/"),
            (
                "http://127.0.0.1:3000/base/",
                "/a%20b;x/c/",
                Some("q=%2F&r=a b"),
                "http://127.0.0.1:3000/base/a%20b;x/c/?q=%2F&r=a%20b",
            ),
            ("http://127.0.0.1:3000", "/caf%C3%A9", Some(""), "http://127.0.0.1:3000/caf%C3%A9?"),
        ] {
            let forward = Forward::new(upstream.parse().unwrap(), 1).unwrap();
            assert_eq!(forward.url(path, query).unwrap().as_str(), url);
        }
    }
}
