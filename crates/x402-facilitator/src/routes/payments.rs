//! `GET /payments/{id}`: the state of a caller's own payment, with long polling. It is for bookkeeping: a resource is
//! delivered for the answer of `/settle` alone, which is given once.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use crate::dialect::{Context, Reply};
use crate::view::{View, key};

/// The longest wait of a request, in seconds.
const LONGEST_WAIT: u64 = 60;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wait {
    /// The seconds for which an answer is awaited, 0 to 60.
    #[serde(default)]
    wait: u64,
}

pub(super) async fn read(
    State(context): State<Arc<Context>>,
    Path(id): Path<String>,
    Query(Wait { wait }): Query<Wait>,
    headers: HeaderMap,
) -> Response {
    let caller = match context.admit(&headers, Body::empty()).await {
        Ok(admitted) => admitted.caller,
        Err(refused) => return refused.answer(|rejection| json!({ "error": rejection.words() })),
    };
    if wait > LONGEST_WAIT {
        return Reply::json(StatusCode::BAD_REQUEST, &json!({ "error": "wait: expected 0 to 60" })).into_response();
    }
    let missing = || Reply::json(StatusCode::NOT_FOUND, &json!({ "error": "no such payment" })).into_response();
    let Some(key) = key(&id) else { return missing() };
    let engine = context.engine();
    // Another caller's payment is not awaited: its existence is a secret, too.
    let found = match engine.settlement().payment(&key).await {
        Ok(Some(payment)) if payment.claim.identity.caller == caller => {
            engine.payment_within(&key, Duration::from_secs(wait)).await
        }
        Ok(_) => return missing(),
        Err(fault) => Err(fault),
    };
    match found {
        Ok(Some(payment)) => Reply::json(StatusCode::OK, &View::of(&payment)).into_response(),
        Ok(None) => missing(),
        Err(fault) => Reply::unavailable(&fault, &json!({ "error": "unavailable" })).into_response(),
    }
}
