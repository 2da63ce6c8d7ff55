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
use axum::response::Response;
use serde_json::{Map, Value, json};
use x402_types::v2::{PaymentRequirements, SupportedKind};
use x402_types::{Asset, ChainId, Rejection, SchemeName, TimeoutSeconds, TransferMethod, Version};

use super::{Api, Refused, json as answer};
use crate::engine::Engine;

pub(super) async fn complete(State(api): State<Arc<Api>>, headers: HeaderMap, body: Body) -> Response {
    let said = |refused: Refused| refused.answer(|rejection| json!({ "error": rejection.words() }));
    let received = match api.receive(&headers, body).await {
        Ok(received) => received,
        Err(refused) => return said(refused),
    };
    let read = x402_codec::json::from_slice::<x402_types::RawJson>(&received.body, api.context.limits());
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
        Err(rejection) => return said(Refused::Unreadable(rejection)),
    };
    let offered = document.get_mut("accepts").map(Value::take);
    let entries = offered.as_ref().and_then(Value::as_array).into_iter().flatten();
    let accepts: Vec<PaymentRequirements> =
        entries.filter_map(|entry| completed(api.context.engine(), entry)).collect();
    let resource = document.get("resource").filter(|resource| resource.is_object()).cloned();
    let resource = resource.unwrap_or_else(|| json!({ "url": "" }));
    answer(StatusCode::OK, &json!({ "x402Version": 2, "resource": resource, "accepts": accepts }))
}

/// Completes an entry if it is served.
fn completed(engine: &Engine, entry: &Value) -> Option<PaymentRequirements> {
    let mut entry: Map<String, Value> = entry.as_object()?.clone();
    entry.retain(|_, value| !value.is_null());
    let scheme = entry.entry("scheme").or_insert_with(|| json!(SchemeName::EXACT)).as_str()?.to_owned();
    // A legacy name denotes the same network; the answer is of version 2.
    let network: ChainId = x402_types::NetworkName::from(entry.get("network")?.as_str()?).chain_id()?;
    entry.insert("network".to_owned(), json!(network));
    let kind = engine.settlement().kinds().iter().find(|kind| is_of(kind, &scheme, network))?;
    let assets = engine.assets();
    let asset: &Asset = match entry.get("asset").and_then(Value::as_str) {
        Some(address) => assets.find(network, address)?,
        None => assets.default_for(network)?,
    };
    // The facilitator settles tokens by EIP-3009 only.
    if asset.transfer != TransferMethod::Eip3009 {
        return None;
    }
    entry.entry("asset").or_insert_with(|| json!(asset.address));
    entry.entry("maxTimeoutSeconds").or_insert_with(|| json!(TimeoutSeconds::DEFAULT));
    let extra = entry.entry("extra").or_insert_with(|| json!({})).as_object_mut()?;
    for (name, value) in kind.extra.iter() {
        if !extra.contains_key(name) {
            extra.insert(name.to_owned(), value.read().ok()?);
        }
    }
    // The token's EIP-712 domain, under which payers sign. The server must supply what is unknown here.
    for (name, value) in [("name", &asset.name), ("version", &asset.version)] {
        if !value.is_empty() {
            extra.entry(name).or_insert_with(|| json!(value));
        }
    }
    serde_json::from_value(entry.into()).ok()
}

fn is_of(kind: &SupportedKind, scheme: &str, network: ChainId) -> bool {
    kind.x402_version == Version::V2 && kind.scheme.as_str() == scheme && kind.network.chain_id() == Some(network)
}
