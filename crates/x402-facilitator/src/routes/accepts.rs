//! The route `POST /accepts`: a server's offers, completed from this facilitator's knowledge. x402's document does not
//! define it: the shape is that of `@faremeter/middleware` 0.22, whose servers call it before they answer 402.
//!
//! Request and answer are a `PaymentRequired` of version 2. An entry has at least `payTo` and `amount`; the other
//! members are added if absent, and never changed. An entry that is not served here, or that cannot be completed, is
//! left out.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use x402_types::v2::PaymentRequirements;
use x402_types::{ChainId, Rejection, TimeoutSeconds};

use crate::dialect::{Context, NotAdmitted, Reply};
use crate::engine::Engine;

pub(super) async fn complete(State(context): State<Arc<Context>>, headers: HeaderMap, body: Body) -> Response {
    let said = |refused: NotAdmitted| refused.answer(|rejection| json!({ "error": rejection.words() }));
    let admitted = match context.admit(&headers, body).await {
        Ok(admitted) => admitted,
        Err(refused) => return said(refused),
    };
    let read = x402_codec::json::from_slice::<x402_types::RawJson>(&admitted.body, context.limits());
    let document = read.map_err(Rejection::from).and_then(|raw| {
        let document: Value = raw.read().unwrap_or_default();
        if document.get("x402Version") == Some(&json!(2)) && document.get("accepts").is_some_and(Value::is_array) {
            return Ok(document);
        }
        let reason = x402_types::ErrorReason::INVALID_PAYLOAD;
        Err(Rejection::new(reason).because("expected x402Version 2 and the entries in accepts"))
    });
    let mut document = match document {
        Ok(document) => document,
        Err(rejection) => return said(NotAdmitted::Unreadable(rejection)),
    };
    let offered = document.get_mut("accepts").map(Value::take);
    let entries = offered.as_ref().and_then(Value::as_array).into_iter().flatten();
    let accepts: Vec<PaymentRequirements> = entries.filter_map(|entry| completed(context.engine(), entry)).collect();
    let resource = document.get("resource").filter(|resource| resource.is_object()).cloned();
    let resource = resource.unwrap_or_else(|| json!({ "url": "" }));
    Reply::json(StatusCode::OK, &json!({ "x402Version": 2, "resource": resource, "accepts": accepts })).into_response()
}

/// Completes an entry if it is served.
fn completed(engine: &Engine, entry: &Value) -> Option<PaymentRequirements> {
    let mut entry: Map<String, Value> = entry.as_object()?.clone();
    entry.retain(|_, value| !value.is_null());
    // A legacy name denotes the same network; the answer is of version 2.
    let network: ChainId = x402_types::NetworkName::from(entry.get("network")?.as_str()?).chain_id()?;
    entry.insert("network".to_owned(), json!(network));
    let scheme = match entry.get("scheme") {
        Some(scheme) => Some(scheme.as_str()?),
        None => None,
    };
    let asset = entry.get("asset").and_then(Value::as_str);
    let defaults = engine.settlement().entry_defaults(scheme, network, asset)?;
    entry.entry("scheme").or_insert_with(|| json!(defaults.scheme));
    entry.entry("asset").or_insert_with(|| json!(defaults.asset));
    entry.entry("maxTimeoutSeconds").or_insert_with(|| json!(TimeoutSeconds::DEFAULT));
    let extra = entry.entry("extra").or_insert_with(|| json!({})).as_object_mut()?;
    for (name, value) in defaults.extra.iter() {
        if !extra.contains_key(name) {
            extra.insert(name.to_owned(), value.read().ok()?);
        }
    }
    serde_json::from_value(entry.into()).ok()
}
