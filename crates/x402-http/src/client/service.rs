//! The client as a tower layer.

use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower_layer::Layer;
use tower_service::Service;

use super::{ClientError, PayError, Payer, exchange};
use crate::Body;

/// Pays for the requests that pass through it.
///
/// Put it next to the transport, inside of any layer that follows redirects: it cannot see redirects that an inner
/// layer follows. [`Self::with_redirects`] makes it follow them itself, never paying another origin.
#[derive(Debug, Clone)]
pub struct PayLayer {
    payer: Payer,
    redirects: usize,
}

impl PayLayer {
    /// Creates a layer that pays with this payer. It returns redirects as responses.
    #[must_use]
    pub const fn new(payer: Payer) -> Self {
        Self { payer, redirects: 0 }
    }

    /// Follows up to ten redirects. If an origin other than the requested one requires payment, it is not paid.
    #[must_use]
    pub const fn with_redirects(mut self) -> Self {
        self.redirects = exchange::REDIRECTS;
        self
    }
}

impl<S> Layer<S> for PayLayer {
    type Service = Pay<S>;

    fn layer(&self, inner: S) -> Pay<S> {
        Pay { inner, payer: self.payer.clone(), redirects: self.redirects }
    }
}

/// The service that [`PayLayer`] creates.
#[derive(Debug, Clone)]
pub struct Pay<S> {
    inner: S,
    payer: Payer,
    redirects: usize,
}

impl<S, Q, B> Service<Request<Q>> for Pay<S>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send + 'static,
    Q: http_body::Body + Send + 'static,
    Q::Data: Send,
    Q::Error: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<Body<B>>;
    type Error = ClientError<S::Error>;
    type Future = PayFuture<B, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(ClientError::Transport)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let clone = self.inner.clone();
        let ready = core::mem::replace(&mut self.inner, clone);
        let (payer, redirects) = (self.payer.clone(), self.redirects);
        PayFuture(Box::pin(async move {
            let (parts, body) = request.into_parts();
            let limit = payer.longest_body;
            let body = exchange::whole(body, limit).await.ok_or(PayError::Body { limit })?;
            exchange::run(payer, ready, redirects, Request::from_parts(parts, body)).await
        }))
    }
}

/// The future of [`Pay`].
pub struct PayFuture<B, E>(Running<B, E>);

type Running<B, E> = Pin<Box<dyn Future<Output = Result<Response<Body<B>>, ClientError<E>>> + Send>>;

impl<B, E> fmt::Debug for PayFuture<B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PayFuture")
    }
}

impl<B, E> Future for PayFuture<B, E> {
    type Output = Result<Response<Body<B>>, ClientError<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}
