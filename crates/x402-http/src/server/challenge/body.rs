//! `bind.bodySha256`: the request's body is read before the challenge, and the handler gets the same bytes.

use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use tower_layer::Layer;
use tower_service::Service;
use x402_types::challenge::BodySha256;
use x402_types::{ErrorReason, Rejection};

use super::super::answer::{self, Answer};
use super::super::layer::Sells;
use super::super::{RequirePayment, RequirePaymentLayer};
use crate::Body;

/// The hash of the body that the handler gets. Only this module can create one.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyHash(pub(super) BodySha256);

impl RequirePaymentLayer {
    /// Binds the body of each request to its challenge. The body is read first, at most `limit` bytes of it: a longer
    /// one is 413 before anything is paid. Trailers are dropped.
    ///
    /// The layer's offers in other dialects are unaffected.
    #[must_use]
    pub fn bind_body(mut self, limit: usize) -> BindBodyLayer {
        if let Sells::Own(dialect) = &mut self.sells {
            *dialect = dialect.with_body();
        }
        BindBodyLayer { paid: self, limit }
    }
}

/// Reads and hashes the body, then requires payment. [`RequirePaymentLayer::bind_body`] makes it.
///
/// The inner service takes a request whose body is a [`Body`], as any axum handler does.
#[derive(Debug, Clone)]
pub struct BindBodyLayer {
    paid: RequirePaymentLayer,
    limit: usize,
}

impl<S> Layer<S> for BindBodyLayer {
    type Service = BindBody<S>;

    fn layer(&self, inner: S) -> BindBody<S> {
        BindBody { paid: self.paid.layer(inner), limit: self.limit }
    }
}

/// The service that [`BindBodyLayer`] creates.
#[derive(Debug, Clone)]
pub struct BindBody<S> {
    paid: RequirePayment<S>,
    limit: usize,
}

impl<S, Q, B> Service<Request<Q>> for BindBody<S>
where
    S: Service<Request<Body<Q>>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send + 'static,
    Q: http_body::Body + Send + 'static,
    Q::Data: Send,
    Q::Error: Into<Box<dyn core::error::Error + Send + Sync>>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<Body<B>>;
    type Error = S::Error;
    type Future = BindBodyFuture<B, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.paid.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        // The service that was polled ready is the one that must be called.
        let clone = self.paid.clone();
        let mut ready = core::mem::replace(&mut self.paid, clone);
        let limit = self.limit;
        BindBodyFuture(Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            let bytes = match whole(body, limit).await {
                Ok(bytes) => bytes,
                Err(status) => return Ok(refuse(status, limit).map(Body::own)),
            };
            parts.extensions.insert(BodyHash(x402_challenge::body_sha256(&bytes)));
            ready.call(Request::from_parts(parts, Body::own(bytes))).await
        }))
    }
}

async fn whole<Q>(body: Q, limit: usize) -> Result<Bytes, StatusCode>
where
    Q: http_body::Body,
    Q::Error: Into<Box<dyn core::error::Error + Send + Sync>>,
{
    // A body whose declared length is too large need not be read.
    if body.size_hint().lower() > limit as u64 {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    let mut body = Box::pin(Limited::new(body, limit));
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| match error.is::<http_body_util::LengthLimitError>() {
            true => StatusCode::PAYLOAD_TOO_LARGE,
            false => StatusCode::BAD_REQUEST,
        })?;
        if let Ok(mut data) = frame.into_data() {
            bytes.reserve(data.remaining());
            while data.has_remaining() {
                let length = data.chunk().len();
                bytes.put_slice(data.chunk());
                data.advance(length);
            }
        }
    }
    Ok(bytes.freeze())
}

fn refuse(status: StatusCode, limit: usize) -> Answer {
    let why = match status {
        StatusCode::PAYLOAD_TOO_LARGE => format!("the body is larger than {limit} bytes"),
        _ => "the body broke off".to_owned(),
    };
    answer::plain(status, &Rejection::new(ErrorReason::INVALID_PAYLOAD).because(why))
}

/// The future of [`BindBody`].
pub struct BindBodyFuture<B, E>(Running<B, E>);

type Running<B, E> = Pin<Box<dyn Future<Output = Result<Response<Body<B>>, E>> + Send>>;

impl<B, E> fmt::Debug for BindBodyFuture<B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BindBodyFuture")
    }
}

impl<B, E> Future for BindBodyFuture<B, E> {
    type Output = Result<Response<Body<B>>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}
