//! Records the traffic, with the payment headers decoded.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use http::HeaderMap;
use http::StatusCode;
use serde_json::{Map, Value, json};
use x402_codec::{Limits, header};

/// The exchanges so far, oldest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recorder(Arc<Mutex<Vec<Value>>>);

impl Recorder {
    /// Records the requests and responses of these routes.
    pub(crate) fn on(&self, server: &'static str, routes: Router) -> Router {
        let recorder = self.clone();
        routes.layer(from_fn(move |request, next| recorder.clone().exchange(server, request, next)))
    }

    /// Returns the records, in the order of the responses.
    pub(crate) fn take(&self) -> Vec<Value> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn exchange(self, server: &'static str, request: Request, next: Next) -> Response {
        let (parts, body) = request.into_parts();
        let Some(body) = all(body).await else { return status(StatusCode::PAYLOAD_TOO_LARGE) };
        let asked = json!({
            "method": parts.method.as_str(), "path": parts.uri.path(),
            "headers": decoded(&parts.headers), "body": text(&body),
        });
        let (answer, body) = next.run(Request::from_parts(parts, Body::from(body))).await.into_parts();
        let Some(body) = all(body).await else { return status(StatusCode::INTERNAL_SERVER_ERROR) };
        let exchange = json!({
            "step": "exchange", "to": server, "request": asked,
            "response": { "status": answer.status.as_u16(), "headers": decoded(&answer.headers), "body": text(&body) },
        });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(exchange);
        Response::from_parts(answer, Body::from(body))
    }
}

fn status(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

async fn all(body: Body) -> Option<Bytes> {
    to_bytes(body, 1 << 20).await.ok()
}

/// Converts a body to JSON, if it is JSON, otherwise to text.
fn text(body: &[u8]) -> Value {
    if body.is_empty() {
        return Value::Null;
    }
    serde_json::from_slice(body).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(body).into_owned()))
}

/// Decodes the payment headers.
fn decoded(headers: &HeaderMap) -> Map<String, Value> {
    let payment = headers.iter().filter_map(|(name, value)| {
        let shown = header::decode::<Value>(value.as_bytes(), &Limits::DEFAULT).ok()?;
        Some((name.as_str().to_uppercase(), shown))
    });
    payment.collect()
}
