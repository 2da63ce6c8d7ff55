//! The operator's port: the page, metrics, payments, receipts and the kill switch. It is apart from the port of the
//! callers, and its faults never keep a payment from being made.

mod api;
mod listen;
mod page;
mod receipts;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use subtle::ConstantTimeEq;

pub use self::listen::AdminPort;
use crate::config::BearerHash;
use crate::engine::Engine;
use crate::metrics::{Text, gauges};
use crate::routes::health_routes;

/// The state of the operator's routes.
#[derive(Debug, Clone)]
struct Admin {
    engine: Arc<Engine>,
    token: BearerHash,
}

/// Returns the operator's routes for an engine, behind the token with this hash. The page itself is public and contains
/// no data: it requests the token.
pub fn routes(engine: &Arc<Engine>, token: BearerHash) -> Router {
    let admin = Admin { engine: Arc::clone(engine), token };
    let closed = Router::new()
        .route("/metrics", get(metrics))
        .route("/admin/state", get(api::state))
        .route("/admin/payments", get(api::search))
        .route("/admin/payments/{id}", get(api::payment))
        .route("/admin/receipts.csv", get(receipts::csv))
        .route("/admin/receipts.json", get(receipts::json))
        .route("/admin/pause", post(api::pause))
        .route("/admin/resume", post(api::resume))
        .route_layer(from_fn_with_state(admin.clone(), admit));
    closed.with_state(admin).merge(page::routes()).merge(health_routes(engine))
}

/// Admits a request with the operator's token.
async fn admit(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let sent = request.headers().get(AUTHORIZATION).map(|value| value.as_bytes()).unwrap_or_default();
    let sent = BearerHash::of_bytes(sent.strip_prefix(b"Bearer ").unwrap_or_default());
    if bool::from(sent.as_bytes().ct_eq(admin.token.as_bytes())) {
        return next.run(request).await;
    }
    (StatusCode::UNAUTHORIZED, [("www-authenticate", "Bearer")]).into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let mut text = Text::default();
    admin.engine.metrics().write(&mut text);
    gauges::write(&admin.engine, &mut text).await;
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text.into_string()).into_response()
}
