//! The layer and its service. A request that needs no payment is answered without an allocation for the future.

use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use std::borrow::Cow;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;
use x402_types::v2::ResourceInfo;
use x402_types::{ErrorReason, Fault, Offer, Rejection, UnixSeconds};

use super::answer::{self, Answer, Prepared};
use super::flow;
use super::own::{self, OwnDialect};
use super::{IncidentStep, Pricing, Seller, SellerError};
use crate::Body;

/// The length of a header that a proxy with default settings may not forward: nginx accepts 4 KiB of response head by
/// default (`proxy_buffer_size`), including the status line and the other headers. Its 8 KiB are for requests.
const LONG_HEADER: usize = 3_500;
/// The longest path, which is part of `resource.url`, inside that header.
const LONGEST_PATH: usize = 1024;

/// Requires a payment before the service behind it is reached.
///
/// Put it on the route itself (`get(handler).layer(layer)` in axum), inside of CORS and compression. `OPTIONS` passes
/// unpaid: a handler that answers it with the sold content (`any` in axum) gives that away.
#[derive(Clone)]
pub struct RequirePaymentLayer {
    pub(super) sells: Sells,
}

/// The way in which a route is paid.
#[derive(Clone)]
pub(super) enum Sells {
    /// By one of its offers, in any dialect of the seller.
    Offers(Arc<Route>),
    /// In a dialect that has a protocol of its own, which may have offers beside it.
    Own(Arc<dyn OwnDialect>),
}

/// One paid route.
#[derive(Clone)]
pub(super) struct Route {
    pub(super) seller: Seller,
    asks: Asks,
    description: Option<String>,
    mime_type: Option<String>,
    pub(super) prefix: Box<str>,
    /// The first path that was requested, which is the only one of a route without parameters: its 402, and its
    /// resource.
    prepared: OnceLock<(Box<str>, Prepared)>,
    /// The 402 of the path that was requested last, until this time, where an extension changes its declaration.
    passing: Arc<Mutex<Option<Passing>>>,
    served: OnceLock<(Box<str>, Arc<ResourceInfo>)>,
    /// A cell that the first paid request sets, when it checks whether the facilitator serves the offers.
    looked: OnceLock<()>,
}

/// A 402 that may be sent again until a time.
struct Passing {
    path: Box<str>,
    until: UnixSeconds,
    prepared: Prepared,
}

#[derive(Clone)]
enum Asks {
    Fixed(Vec<Offer>),
    By(Arc<dyn Pricing>),
}

impl RequirePaymentLayer {
    pub(super) fn fixed(seller: Seller, offers: Vec<Offer>) -> Result<Self, SellerError> {
        let route = Route::asking(seller, Asks::Fixed(offers));
        route.check_size()?;
        route.report_objections();
        Ok(Self::of(route))
    }

    pub(super) fn by(seller: Seller, price: Arc<dyn Pricing>) -> Self {
        Self::of(Route::asking(seller, Asks::By(price)))
    }

    fn of(route: Route) -> Self {
        Self { sells: Sells::Offers(Arc::new(route)) }
    }

    /// Changes the route of the offers, if there are any.
    fn change_route(&mut self, change: impl FnOnce(&mut Route)) {
        match &mut self.sells {
            Sells::Offers(route) => change(Arc::make_mut(route)),
            Sells::Own(dialect) => {
                if let Some(mut route) = dialect.offers().cloned() {
                    change(Arc::make_mut(&mut route));
                    *dialect = dialect.with_offers(route);
                }
            }
        }
    }

    /// Sets the prefix that a router takes off the path before the request comes here (`nest` in axum), so that
    /// `resource.url` has it again.
    #[must_use]
    pub fn with_prefix(mut self, prefix: &str) -> Self {
        let prefix = prefix.trim_end_matches('/');
        self.change_route(|route| {
            route.prefix = prefix.into();
            route.forget();
        });
        if let Sells::Own(dialect) = &mut self.sells {
            *dialect = dialect.nested(prefix);
        }
        self
    }

    /// Sets the description of what is sold, for people and for lists of services.
    ///
    /// # Errors
    /// The header would be too long.
    pub fn with_description(mut self, description: &str, mime_type: &str) -> Result<Self, SellerError> {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let mut checked = Ok(());
        self.change_route(|route| {
            route.description = text(description);
            route.mime_type = text(mime_type);
            route.forget();
            checked = route.check_size();
        });
        checked.map(|()| self)
    }
}

impl Route {
    fn asking(seller: Seller, asks: Asks) -> Self {
        let (prepared, served, looked) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        let (prefix, passing) = (Box::default(), Arc::default());
        Self { seller, asks, description: None, mime_type: None, prefix, prepared, passing, served, looked }
    }

    fn forget(&mut self) {
        self.prepared = OnceLock::new();
        self.passing = Arc::default();
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
            self.seller.checkout.report(&self.resource("/").url, IncidentStep::Start, &fault);
        }
        Ok(())
    }

    /// Reports each dialect in which none of the route's offers can be paid.
    fn report_objections(&self) {
        let Asks::Fixed(offers) = &self.asks else { return };
        for dialect in self.seller.checkout.dialects() {
            if let Some(why) = dialect.objection(offers) {
                let fault = Fault::broken(format_args!("{}: {why}", dialect.name()));
                self.seller.checkout.report(&self.resource("/").url, IncidentStep::Start, &fault);
            }
        }
    }

    /// Returns whether every request of the route costs the same.
    pub(super) const fn has_fixed_price(&self) -> bool {
        matches!(self.asks, Asks::Fixed(_))
    }

    /// Checks, before the first paid request, whether the facilitator serves the offers.
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

    /// Returns the path of one of its resources.
    pub(super) fn path_of<'p>(&self, resource: &'p ResourceInfo) -> &'p str {
        resource.url.get(self.seller.origin.len() + self.prefix.len()..).unwrap_or("/")
    }

    /// Returns the resource at a path. The first one is kept.
    pub(super) fn served(&self, path: &str) -> Arc<ResourceInfo> {
        let (known, resource) = self.served.get_or_init(|| (path.into(), self.resource(path).into()));
        if **known == *path { Arc::clone(resource) } else { self.resource(path).into() }
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

    /// Returns the 402, or an answer with the status of the rejection's row. A 412 has the
    /// offers as a 402 has them: the payment is accepted once its precondition holds.
    pub(super) fn refuse(&self, path: &str, offers: &[Offer], rejection: Option<&Rejection>) -> Answer {
        match rejection {
            Some(rejection) if answer::status(rejection) == StatusCode::SERVICE_UNAVAILABLE => {
                answer::unavailable(rejection.reason.clone(), None, Some(self.seller.retry_after))
            }
            Some(rejection) if answer::status(rejection) == StatusCode::PRECONDITION_FAILED => {
                let mut answer = self.ask(path, offers, Some(rejection));
                if answer.status() == StatusCode::PAYMENT_REQUIRED {
                    *answer.status_mut() = StatusCode::PRECONDITION_FAILED;
                }
                answer
            }
            Some(rejection) if answer::status(rejection) != StatusCode::PAYMENT_REQUIRED => {
                answer::plain(answer::status(rejection), rejection)
            }
            rejection => self.ask(path, offers, rejection),
        }
    }

    /// Builds the 402 for this path.
    #[inline]
    pub(super) fn ask(&self, path: &str, offers: &[Offer], rejection: Option<&Rejection>) -> Answer {
        match self.prepared(path, offers, rejection) {
            Ok(prepared) => prepared.answer(),
            Err(other) => *other,
        }
    }

    /// The 402 for this path as bytes, or the answer where there is none.
    pub(super) fn prepared(
        &self,
        path: &str,
        offers: &[Offer],
        rejection: Option<&Rejection>,
    ) -> Result<Cow<'_, Prepared>, Box<Answer>> {
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
        let is_fixed = rejection.is_none() && matches!(self.asks, Asks::Fixed(_));
        if let Some(seconds) = checkout.lasts().filter(|_| is_fixed) {
            if let Some(prepared) = self.passing(path, seconds, make) {
                return Ok(Cow::Owned(prepared));
            }
        } else if is_fixed {
            if let Some((prepared_path, prepared)) = self.prepared.get() {
                if **prepared_path == *path {
                    return Ok(Cow::Borrowed(prepared));
                }
            } else if let Ok(prepared) = make() {
                // Another request may have set it first; both values are right.
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

impl Route {
    /// Returns the 402 of a path that an extension changes after so many seconds, as long as it may be sent again.
    fn passing<E>(&self, path: &str, seconds: u64, make: impl Fn() -> Result<Prepared, E>) -> Option<Prepared> {
        if seconds == 0 {
            return make().ok();
        }
        let now = self.seller.checkout.now();
        let mut passing = self.passing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = passing.as_ref().filter(|kept| *kept.path == *path && now < kept.until) {
            return Some(kept.prepared.clone());
        }
        let prepared = make().ok()?;
        let until = UnixSeconds(now.0.saturating_add(seconds));
        *passing = Some(Passing { path: path.into(), until, prepared: prepared.clone() });
        Some(prepared)
    }
}

impl fmt::Debug for RequirePaymentLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("RequirePaymentLayer");
        let route = match &self.sells {
            Sells::Offers(route) => Some(route),
            Sells::Own(dialect) => {
                shown.field("own", dialect);
                dialect.offers()
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

/// The service that [`RequirePaymentLayer`] creates.
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
            return State::Answered { answer: Some(route.ask(request.uri().path(), offers, None).map(Body::own)) }
                .into();
        }
        // The service that was polled ready is the one that must be called.
        let clone = self.inner.clone();
        let ready = core::mem::replace(&mut self.inner, clone);
        let future: Running<B, S::Error> = match &self.sells {
            Sells::Offers(route) => Box::pin(flow::run(Arc::clone(route), ready, request)),
            Sells::Own(dialect) => Box::pin(own::run(Arc::clone(dialect), ready, request)),
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
            // A future polled after completion never becomes ready again.
            StateProjection::Answered { answer } => {
                answer.take().map_or(Poll::Pending, |answer| Poll::Ready(Ok(answer)))
            }
            StateProjection::Running { future } => future.as_mut().poll(cx),
        }
    }
}
