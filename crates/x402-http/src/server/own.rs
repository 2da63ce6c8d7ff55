//! A dialect that has a protocol of its own, with its own grants, instead of one way to write x402: the layer only runs
//! the handler for it.

use core::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use http::request::Parts;
use http::{Request, Response, response};
use tower_service::Service;

use super::RequirePaymentLayer;
use super::answer::{Answer, make_private};
use super::flow;
use super::layer::{Route, Sells};
use crate::Body;

/// A dialect with a protocol of its own, for one route.
#[async_trait]
pub(super) trait OwnDialect: Send + Sync + fmt::Debug {
    /// Decides what becomes of a request.
    async fn decide(&self, request: &Parts) -> Decision;

    /// Returns the offers of x402 that the dialect has beside its own.
    fn offers(&self) -> Option<&Arc<Route>>;

    /// Returns the same dialect with these offers beside it.
    fn with_offers(&self, route: Arc<Route>) -> Arc<dyn OwnDialect>;

    /// Returns the same dialect behind a prefix that a router takes off the path.
    fn nested(&self, prefix: &str) -> Arc<dyn OwnDialect>;

    /// Returns the same dialect for requests whose body is read before the dialect decides.
    fn with_body(&self) -> Arc<dyn OwnDialect>;
}

/// The decision on a request.
pub(super) enum Decision {
    /// The handler runs.
    Admitted(Box<dyn Visit>),
    /// The request is paid by one of the offers.
    Offers(Arc<Route>),
    /// This is the answer.
    Answered(Box<Answer>),
}

/// A request for which the handler runs.
#[async_trait]
pub(super) trait Visit: Send {
    /// Adds to the request what the handler may know of the payment.
    fn enter(&mut self, request: &mut Parts);

    /// Ends the visit with the handler's answer, and adds the payer's receipt. The error takes the answer's place.
    async fn leave(self: Box<Self>, answer: &mut response::Parts) -> Result<(), Box<Answer>>;
}

pub(super) async fn run<S, Q, B>(
    dialect: Arc<dyn OwnDialect>,
    mut inner: S,
    request: Request<Q>,
) -> Result<Response<Body<B>>, S::Error>
where
    S: Service<Request<Q>, Response = Response<B>>,
    B: http_body::Body<Data = bytes::Bytes>,
{
    let (mut parts, body) = request.into_parts();
    let mut visit = match dialect.decide(&parts).await {
        Decision::Admitted(visit) => visit,
        Decision::Offers(route) => return flow::run(route, inner, Request::from_parts(parts, body)).await,
        Decision::Answered(answer) => return Ok(answer.map(Body::own)),
    };
    visit.enter(&mut parts);
    let response = inner.call(Request::from_parts(parts, body)).await?;
    let (mut head, body) = response.into_parts();
    match visit.leave(&mut head).await {
        Ok(()) => {
            make_private(&mut head.headers);
            Ok(Response::from_parts(head, Body::inner(body)))
        }
        Err(answer) => Ok(answer.map(Body::own)),
    }
}

impl RequirePaymentLayer {
    /// A layer for a route that is paid in this dialect.
    pub(super) fn own(dialect: Arc<dyn OwnDialect>) -> Self {
        Self { sells: Sells::Own(dialect) }
    }

    /// The offers of x402, without a dialect that has a protocol of its own.
    pub(super) fn into_offers(self) -> Option<Arc<Route>> {
        match self.sells {
            Sells::Offers(route) => Some(route),
            Sells::Own(dialect) => dialect.offers().cloned(),
        }
    }
}
