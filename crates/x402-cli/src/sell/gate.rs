//! The front of the proxy: which route a request is for, and what becomes of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use http::{Method, Request, Response, StatusCode};
use tower_service::Service;
use x402_http::server::RequirePayment;

use super::config::RouteConfig;
use super::forward::{Forward, failed};
use super::log::AccessLog;
use super::path::{self, Ambiguous, Closeness, Pattern};
use super::{Peer, Upfront};

/// Everything that one process sells.
#[derive(Debug)]
pub(super) struct Shop {
    pub(super) forward: Forward,
    pub(super) routes: Vec<Route>,
    pub(super) free: Vec<Pattern>,
    pub(super) log: AccessLog,
    /// Whether payers reach the proxy by https.
    pub(super) tls: bool,
}

/// One paid route with its gate.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) config: RouteConfig,
    pub(super) gate: RequirePayment<Forward>,
}

/// The target of a request.
#[derive(Debug)]
enum Target<'s> {
    Paid(&'s Route),
    Free,
}

impl Shop {
    /// Finds what a path is sold as: by the pattern that names it most closely, paid before free.
    fn target(&self, method: &Method, path: &str) -> Option<Target<'_>> {
        let paid = self.routes.iter().filter(|route| route.takes(method));
        let paid = paid.filter_map(|route| Some((route.config.path.may_fit(path)?, Target::Paid(route))));
        let free = self.free.iter().filter_map(|pattern| Some((pattern.fits(path)?, Target::Free)));
        let mut best: Option<(Closeness, Target<'_>)> = None;
        for (closeness, target) in paid.chain(free) {
            if best.as_ref().is_none_or(|(best, _)| closeness > *best) {
                best = Some((closeness, target));
            }
        }
        best.map(|(_, target)| target)
    }

    /// Answers one request.
    pub(super) async fn serve(&self, mut request: Request<Body>) -> Response<Body> {
        if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
            return failed(StatusCode::METHOD_NOT_ALLOWED, "this method is not forwarded");
        }
        if let Err(Ambiguous(why)) = path::check(request.uri().path()) {
            return failed(StatusCode::BAD_REQUEST, why);
        }
        match self.target(request.method(), request.uri().path()) {
            Some(Target::Paid(route)) => {
                if route.config.upfront {
                    request.extensions_mut().insert(Upfront);
                }
                let Ok(response) = route.gate.clone().call(request).await;
                response.map(Body::new)
            }
            Some(Target::Free) => {
                let Ok(response) = self.forward.clone().call(request).await;
                response
            }
            None => failed(StatusCode::NOT_FOUND, "nothing is sold here"),
        }
    }
}

impl Route {
    fn takes(&self, method: &Method) -> bool {
        let Some(own) = self.config.method.as_deref() else { return true };
        // A preflight is of no method, and `HEAD` is paid as `GET`.
        *method == Method::OPTIONS || method.as_str() == own || (*method == Method::HEAD && own == "GET")
    }
}

/// The handler of every path.
pub(super) async fn handle(
    State(shop): State<Arc<Shop>>,
    ConnectInfo(address): ConnectInfo<SocketAddr>,
    mut request: Request<Body>,
) -> Response<Body> {
    let begun = Instant::now();
    let line = format!("{} {}", request.method(), request.uri().path());
    request.extensions_mut().insert(Peer { address, tls: shop.tls });
    let response = shop.serve(request).await;
    shop.log.write(address, &line, begun.elapsed(), &response);
    response
}
