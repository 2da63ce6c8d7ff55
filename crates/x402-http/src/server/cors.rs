//! CORS for paid routes: browsers must be allowed to send the payment headers and to read those of the response.
//!
//! The SDKs' servers set none of this, and their clients wrongly send `Access-Control-Expose-Headers` as a request
//! header, which a preflight must allow too ([facts: x402 #3478](https://github.com/x402-foundation/x402/pull/3478)).

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, CONTENT_TYPE,
    ORIGIN, VARY,
};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;
use x402_codec::header;

use crate::Body;

/// Answers preflights and lets pages of the listed origins pay. Credentials (cookies) are never allowed.
///
/// Put it outside of [`super::RequirePaymentLayer`]. A stack with a CORS layer of its own configures that with
/// [`request_headers`] and [`response_headers`] instead.
#[derive(Debug, Clone)]
pub struct CorsLayer {
    origins: Arc<[HeaderValue]>,
}

/// Returns the headers that a preflight allows.
#[must_use]
pub fn request_headers() -> Vec<HeaderName> {
    header::request_headers().into_iter().chain([CONTENT_TYPE, AUTHORIZATION]).collect()
}

/// Returns the headers that a page may read.
#[must_use]
pub fn response_headers() -> Vec<HeaderName> {
    header::response_headers().into()
}

impl CorsLayer {
    /// Lets pages of these origins pay, each written as browsers send it: `https://shop.example`.
    #[must_use]
    pub fn new(origins: impl IntoIterator<Item = HeaderValue>) -> Self {
        Self { origins: origins.into_iter().collect() }
    }
}

impl<S> Layer<S> for CorsLayer {
    type Service = Cors<S>;

    fn layer(&self, inner: S) -> Cors<S> {
        Cors { inner, origins: Arc::clone(&self.origins) }
    }
}

/// The service that [`CorsLayer`] creates.
#[derive(Debug, Clone)]
pub struct Cors<S> {
    inner: S,
    origins: Arc<[HeaderValue]>,
}

impl<S, Q, B> Service<Request<Q>> for Cors<S>
where
    S: Service<Request<Q>, Response = Response<B>>,
    B: http_body::Body<Data = Bytes>,
{
    type Response = Response<Body<B>>;
    type Error = S::Error;
    type Future = CorsFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Q>) -> CorsFuture<S::Future> {
        let origin = request.headers().get(ORIGIN);
        let allowed = origin.filter(|origin| self.origins.contains(origin)).cloned();
        let preflight =
            request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        let asked = preflight.then(|| request.headers().get(ACCESS_CONTROL_REQUEST_METHOD).cloned()).flatten();
        let future = if preflight { None } else { Some(self.inner.call(request)) };
        CorsFuture { future, allowed, asked }
    }
}

pin_project! {
    /// The future of [`Cors`].
    #[derive(Debug)]
    pub struct CorsFuture<F> {
        #[pin]
        future: Option<F>,
        allowed: Option<HeaderValue>,
        asked: Option<HeaderValue>,
    }
}

impl<F, B, E> Future for CorsFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<Body<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = match this.future.as_pin_mut() {
            Some(future) => ready!(future.poll(cx))?.map(Body::inner),
            None => {
                let mut response = Response::new(Body::own(Bytes::new()));
                *response.status_mut() = StatusCode::NO_CONTENT;
                response
            }
        };
        let headers = response.headers_mut();
        // The response depends on the origin, even if the origin is refused.
        headers.append(VARY, HeaderValue::from_static("origin"));
        if let Some(origin) = this.allowed.take() {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            if let Some(method) = this.asked.take() {
                headers.insert(ACCESS_CONTROL_ALLOW_METHODS, method);
                headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, list(&request_headers()));
                headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
            } else {
                headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, list(&response_headers()));
            }
        }
        Poll::Ready(Ok(response))
    }
}

fn list(names: &[HeaderName]) -> HeaderValue {
    let joined = names.iter().map(HeaderName::as_str).collect::<Vec<_>>().join(", ");
    HeaderValue::try_from(joined).unwrap_or_else(|_| HeaderValue::from_static(""))
}
