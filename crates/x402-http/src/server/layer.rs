//! The layer and its service. What needs no payment is answered without an allocation for the future.

use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;
use x402_types::v2::ResourceInfo;
use x402_types::{ErrorReason, Fault, Offer, Rejection};

use super::answer::{self, Prepared};
#[cfg(feature = "challenge")]
use super::challenge::{self, Counter};
use super::flow;
use super::{Price, Seller, SellerError, Step};
use crate::Body;

/// A header that a proxy with its default settings may not pass: nginx takes 4 KiB of response head by default
/// (`proxy_buffer_size`), the status line and the other headers included. Its 8 KiB are for requests.
const LONG_HEADER: usize = 3_500;
/// The path stands in `resource.url`, inside that header.
const LONGEST_PATH: usize = 1024;

/// Asks for a payment before the service behind it is reached.
///
/// Put it on the route itself (`get(handler).layer(layer)` in axum), inside of CORS and compression. `OPTIONS` passes
/// unpaid: a handler that answers it with what is sold (`any` in axum) gives that away.
#[derive(Clone)]
pub struct RequirePaymentLayer {
    sells: Sells,
}

/// What is asked for, by which dialect.
#[derive(Clone)]
enum Sells {
    Offers(Arc<Route>),
    #[cfg(feature = "challenge")]
    Challenge(Arc<Counter>),
}

/// One paid route.
#[derive(Clone)]
pub(super) struct Route {
    pub(super) seller: Seller,
    asks: Asks,
    description: Option<String>,
    mime_type: Option<String>,
    prefix: Box<str>,
    /// The first path asked for, which is all there is on a route without parameters: its 402, and what it serves.
    prepared: OnceLock<(Box<str>, Prepared)>,
    served: OnceLock<(Box<str>, Arc<ResourceInfo>)>,
    /// Set by the first paid request, which looks whether the facilitator serves what is offered.
    looked: OnceLock<()>,
}

#[derive(Clone)]
enum Asks {
    Fixed(Vec<Offer>),
    By(Arc<dyn Price>),
}

impl RequirePaymentLayer {
    pub(super) fn fixed(seller: Seller, offers: Vec<Offer>) -> Result<Self, SellerError> {
        let route = Route::asking(seller, Asks::Fixed(offers));
        route.check_size()?;
        Ok(Self::of(route))
    }

    pub(super) fn by(seller: Seller, price: Arc<dyn Price>) -> Self {
        Self::of(Route::asking(seller, Asks::By(price)))
    }

    fn of(route: Route) -> Self {
        Self { sells: Sells::Offers(Arc::new(route)) }
    }

    /// Asks by challenge; what this layer offers already stands beside it.
    #[cfg(feature = "challenge")]
    pub(super) fn challenge(counter: Counter) -> Self {
        Self { sells: Sells::Challenge(Arc::new(counter)) }
    }

    /// The offers, without the challenge if there is one.
    #[cfg(feature = "challenge")]
    pub(super) fn into_route(self) -> Option<Arc<Route>> {
        match self.sells {
            Sells::Offers(route) => Some(route),
            Sells::Challenge(counter) => counter.beside().cloned(),
        }
    }

    #[cfg(feature = "challenge")]
    pub(super) fn counter_mut(&mut self) -> Option<&mut Counter> {
        match &mut self.sells {
            Sells::Offers(_) => None,
            Sells::Challenge(counter) => Some(Arc::make_mut(counter)),
        }
    }

    fn route_mut(&mut self) -> Option<&mut Route> {
        match &mut self.sells {
            Sells::Offers(route) => Some(Arc::make_mut(route)),
            #[cfg(feature = "challenge")]
            Sells::Challenge(counter) => Arc::make_mut(counter).beside_mut(),
        }
    }

    /// The prefix that a router takes off the path before the request comes here (`nest` in axum), so that
    /// `resource.url` has it again.
    #[must_use]
    pub fn with_prefix(mut self, prefix: &str) -> Self {
        let prefix = prefix.trim_end_matches('/');
        if let Some(route) = self.route_mut() {
            route.prefix = prefix.into();
            route.forget();
        }
        #[cfg(feature = "challenge")]
        if let Some(counter) = self.counter_mut() {
            counter.nested(prefix);
        }
        self
    }

    /// What is sold, for people and for lists of services.
    ///
    /// # Errors
    /// The header would be too long.
    pub fn with_description(mut self, description: &str, mime_type: &str) -> Result<Self, SellerError> {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        if let Some(route) = self.route_mut() {
            route.description = text(description);
            route.mime_type = text(mime_type);
            route.forget();
            route.check_size()?;
        }
        Ok(self)
    }
}

impl Route {
    fn asking(seller: Seller, asks: Asks) -> Self {
        let (prepared, served, looked) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        Self { seller, asks, description: None, mime_type: None, prefix: Box::default(), prepared, served, looked }
    }

    fn forget(&mut self) {
        self.prepared = OnceLock::new();
        self.served = OnceLock::new();
    }

    fn check_size(&self) -> Result<(), SellerError> {
        let Asks::Fixed(offers) = &self.asks else { return Ok(()) };
        let document = self.seller.checkout.payment_required(offers, self.resource("/"), None);
        let size = Prepared::of(&document, &[]).map_or(usize::MAX, |prepared| prepared.header_len());
        let limit = self.seller.header_limit;
        if size > limit {
            return Err(SellerError::HeaderTooLarge { size, limit });
        }
        if size >= LONG_HEADER {
            let fault = Fault::broken(format_args!(
                "PAYMENT-REQUIRED has {size} bytes: nginx passes 4096 bytes of response head unless proxy_buffer_size \
                 says otherwise (docs/proxies.md)"
            ));
            self.seller.checkout.report(&self.resource("/").url, Step::Start, &fault);
        }
        Ok(())
    }

    /// Before the first paid request: whether the facilitator serves what is offered.
    pub(super) async fn look_at_served(&self, offers: &[Offer], url: &str) {
        self.seller.checkout.look_at_served(&self.looked, offers, url).await;
    }

    pub(super) fn resource(&self, path: &str) -> ResourceInfo {
        ResourceInfo {
            description: self.description.clone(),
            mime_type: self.mime_type.clone(),
            ..ResourceInfo::of([&*self.seller.origin, &*self.prefix, path].concat())
        }
    }

    /// The path of one of its resources.
    pub(super) fn path_of<'p>(&self, resource: &'p ResourceInfo) -> &'p str {
        resource.url.get(self.seller.origin.len() + self.prefix.len()..).unwrap_or("/")
    }

    /// What is served at a path; kept for the first one.
    pub(super) fn served(&self, path: &str) -> Arc<ResourceInfo> {
        let (known, resource) = self.served.get_or_init(|| (path.into(), self.resource(path).into()));
        if **known == *path { Arc::clone(resource) } else { self.resource(path).into() }
    }

    #[cfg(feature = "challenge")]
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(super) async fn offers(&self, request: &Parts) -> Result<Cow<'_, [Offer]>, Fault> {
        match &self.asks {
            Asks::Fixed(offers) => Ok(Cow::Borrowed(offers)),
            Asks::By(price) => {
                let offers = price.offers(request).await?;
                self.seller.checkout.check(&offers).map_err(Fault::broken)?;
                Ok(Cow::Owned(offers))
            }
        }
    }

    /// Asks for payment, or answers with the status of the rejection's row.
    pub(super) fn refuse<B>(&self, path: &str, offers: &[Offer], rejection: Option<&Rejection>) -> Response<Body<B>> {
        match rejection {
            Some(rejection) if answer::status(rejection) == StatusCode::SERVICE_UNAVAILABLE => {
                answer::unavailable(rejection.reason.clone(), None, Some(self.seller.retry_after))
            }
            Some(rejection) if answer::status(rejection) != StatusCode::PAYMENT_REQUIRED => {
                answer::plain(answer::status(rejection), rejection)
            }
            rejection => self.ask(path, offers, rejection),
        }
    }

    /// The 402 for this path.
    #[inline]
    pub(super) fn ask<B>(&self, path: &str, offers: &[Offer], rejection: Option<&Rejection>) -> Response<Body<B>> {
        match self.prepared(path, offers, rejection) {
            Ok(prepared) => prepared.answer(),
            Err(other) => *other,
        }
    }

    /// The 402 for this path as bytes, or the answer where there is none.
    pub(super) fn prepared<B>(
        &self,
        path: &str,
        offers: &[Offer],
        rejection: Option<&Rejection>,
    ) -> Result<Cow<'_, Prepared>, Box<Response<Body<B>>>> {
        if path.len() > LONGEST_PATH {
            let rejection = Rejection::new(ErrorReason::INVALID_PAYMENT_REQUIREMENTS)
                .because("the path is too long to be paid for");
            return Err(Box::new(answer::plain(StatusCode::URI_TOO_LONG, &rejection)));
        }
        let checkout = &self.seller.checkout;
        let make = || {
            let document = checkout.payment_required(offers, self.resource(path), rejection);
            Prepared::of(&document, checkout.dialects())
        };
        if rejection.is_none() && matches!(self.asks, Asks::Fixed(_)) {
            if let Some((prepared_path, prepared)) = self.prepared.get() {
                if **prepared_path == *path {
                    return Ok(Cow::Borrowed(prepared));
                }
            } else if let Ok(prepared) = make() {
                // Another request may have been first; both are right.
                let _ = self.prepared.set((path.into(), prepared.clone()));
                return Ok(Cow::Owned(prepared));
            }
        }
        make().map(Cow::Owned).map_err(|error| {
            let fault = Some(Fault::broken(error));
            Box::new(answer::unavailable(ErrorReason::UNEXPECTED_VERIFY_ERROR, fault, Some(self.seller.retry_after)))
        })
    }
}

impl fmt::Debug for RequirePaymentLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("RequirePaymentLayer");
        let route = match &self.sells {
            Sells::Offers(route) => Some(route),
            #[cfg(feature = "challenge")]
            Sells::Challenge(counter) => {
                shown.field("challenge", counter);
                counter.beside()
            }
        };
        if let Some(route) = route {
            shown.field("seller", &route.seller);
            match &route.asks {
                Asks::Fixed(offers) => shown.field("offers", offers),
                Asks::By(_) => shown.field("offers", &"by request"),
            };
        }
        shown.finish()
    }
}

impl<S> Layer<S> for RequirePaymentLayer {
    type Service = RequirePayment<S>;

    fn layer(&self, inner: S) -> RequirePayment<S> {
        RequirePayment { inner, sells: self.sells.clone() }
    }
}

/// The service that [`RequirePaymentLayer`] makes.
#[derive(Clone)]
pub struct RequirePayment<S> {
    inner: S,
    sells: Sells,
}

impl<S: fmt::Debug> fmt::Debug for RequirePayment<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequirePayment").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S, Q, B> Service<Request<Q>> for RequirePayment<S>
where
    S: Service<Request<Q>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send + 'static,
    Q: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<Body<B>>;
    type Error = S::Error;
    type Future = RequirePaymentFuture<S::Future, B, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        // A browser's preflight carries no payment and learns nothing.
        if request.method() == Method::OPTIONS {
            return State::Passed { future: self.inner.call(request) }.into();
        }
        if let Sells::Offers(route) = &self.sells
            && let Asks::Fixed(offers) = &route.asks
            && !route.seller.finds_payment(request.headers())
        {
            return State::Answered { answer: Some(route.ask(request.uri().path(), offers, None)) }.into();
        }
        // The service that was polled ready is the one that must be called.
        let clone = self.inner.clone();
        let ready = core::mem::replace(&mut self.inner, clone);
        let future: Running<B, S::Error> = match &self.sells {
            Sells::Offers(route) => Box::pin(flow::run(Arc::clone(route), ready, request)),
            #[cfg(feature = "challenge")]
            Sells::Challenge(counter) => Box::pin(challenge::run(Arc::clone(counter), ready, request)),
        };
        State::Running { future }.into()
    }
}

pin_project! {
    /// The future of [`RequirePayment`].
    pub struct RequirePaymentFuture<F, B, E> {
        #[pin]
        state: State<F, B, E>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, B, E> {
        Passed { #[pin] future: F },
        Answered { answer: Option<Response<Body<B>>> },
        Running { future: Running<B, E> },
    }
}

type Running<B, E> = Pin<Box<dyn Future<Output = Result<Response<Body<B>>, E>> + Send>>;

impl<F, B, E> From<State<F, B, E>> for RequirePaymentFuture<F, B, E> {
    fn from(state: State<F, B, E>) -> Self {
        Self { state }
    }
}

impl<F, B, E> fmt::Debug for RequirePaymentFuture<F, B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RequirePaymentFuture")
    }
}

impl<F, B, E> Future for RequirePaymentFuture<F, B, E>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<Body<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Passed { future } => {
                let response = ready!(future.poll(cx))?;
                Poll::Ready(Ok(response.map(Body::inner)))
            }
            // Polled again after it was ready: never ready again.
            StateProjection::Answered { answer } => {
                answer.take().map_or(Poll::Pending, |answer| Poll::Ready(Ok(answer)))
            }
            StateProjection::Running { future } => future.as_mut().poll(cx),
        }
    }
}
