//! `GET /discovery/resources` and `GET /discovery/search`: [x402 v2
//! §8](https://github.com/x402-foundation/x402/blob/main/specs/x402-specification-v2.md).
//!
//! The routes serve everyone, as `/supported` does. A parameter that is out of its range is 400, and a fault of the store 503.

use std::sync::Arc;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::routing::get;
use serde_json::json;
use x402_store::catalog::{Catalog, ListQuery, MAX_OFFSET, Page, SearchQuery, WrongParameter};

use crate::dialect::Reply;

/// Returns the routes of a catalog.
pub fn routes(catalog: Arc<dyn Catalog>) -> Router {
    Router::new()
        .route("/discovery/resources", get(resources))
        .route("/discovery/search", get(search))
        .with_state(catalog)
}

fn wrong(parameter: &WrongParameter) -> Reply {
    Reply::json(StatusCode::BAD_REQUEST, &json!({ "error": parameter.to_string() }))
}

async fn resources(State(catalog): State<Arc<dyn Catalog>>, RawQuery(query): RawQuery) -> Reply {
    let ListQuery { filter, page, .. } = match ListQuery::parse(&query.unwrap_or_default()) {
        Ok(asked) => asked,
        Err(parameter) => return wrong(&parameter),
    };
    match catalog.list(&filter, page).await {
        Ok((items, total)) => Reply::json(
            StatusCode::OK,
            &json!({
                "x402Version": 2,
                "items": items,
                "pagination": { "limit": page.limit, "offset": page.offset, "total": total },
            }),
        ),
        Err(fault) => Reply::unavailable(&fault, &json!({ "error": "unavailable" })),
    }
}

async fn search(State(catalog): State<Arc<dyn Catalog>>, RawQuery(query): RawQuery) -> Reply {
    let SearchQuery { words, filter, page, .. } = match SearchQuery::parse(&query.unwrap_or_default()) {
        Ok(asked) => asked,
        Err(parameter) => return wrong(&parameter),
    };
    let Page { offset, limit } = page;
    let (found, has_more) = match catalog.search(&words, &filter, page).await {
        Ok(found) => found,
        Err(fault) => return Reply::unavailable(&fault, &json!({ "error": "unavailable" })),
    };
    let next = offset.saturating_add(limit);
    let cursor = (has_more && next <= MAX_OFFSET).then(|| next.to_string());
    Reply::json(
        StatusCode::OK,
        &json!({
            "x402Version": 2,
            "resources": found,
            "partialResults": has_more && cursor.is_none(),
            "pagination": { "limit": limit, "cursor": cursor },
        }),
    )
}
