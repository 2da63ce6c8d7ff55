//! `GET /discovery/resources` and `GET /discovery/search`: [x402 v2
//! §8](https://github.com/x402-foundation/x402/blob/main/specs/x402-specification-v2.md).
//!
//! The routes serve everyone, as `/supported` does. A parameter that is out of its range is 400, and a fault of the store 503.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::routing::get;
use serde_json::json;
use x402_store::catalog::{Catalog, CatalogFilter, MAX_OFFSET, MAX_PAGE, Page};

use crate::dialect::Reply;

/// The size of a page if the request names none.
const PAGE: u32 = 20;
/// The longest query string in bytes.
const MAX_QUERY: usize = 4_096;
/// The longest text of a filter in bytes.
const MAX_FILTER: usize = 256;

/// Returns the routes of a catalog.
pub fn routes(catalog: Arc<dyn Catalog>) -> Router {
    Router::new()
        .route("/discovery/resources", get(resources))
        .route("/discovery/search", get(search))
        .with_state(catalog)
}

/// The parameters of a request, each once. Unknown ones are ignored.
struct Query(BTreeMap<String, String>);

/// The parameter that is wrong, and its form.
struct Wrong(&'static str, &'static str);

impl Query {
    fn read(text: Option<String>) -> Result<Self, Wrong> {
        let text = text.unwrap_or_default();
        if text.len() > MAX_QUERY {
            return Err(Wrong("query", "a query string of at most 4096 bytes"));
        }
        let mut members = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(text.as_bytes()) {
            if members.insert(name.into_owned(), value.into_owned()).is_some() {
                return Err(Wrong("query", "each parameter once"));
            }
        }
        Ok(Self(members))
    }

    fn text(&self, name: &'static str) -> Result<Option<&str>, Wrong> {
        let Some(text) = self.0.get(name) else { return Ok(None) };
        let plain = (1..=MAX_FILTER).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if plain { Ok(Some(text)) } else { Err(Wrong(name, "1 to 256 visible ASCII characters")) }
    }

    fn number(&self, name: &'static str, range: (u32, u32), expected: &'static str) -> Result<Option<u32>, Wrong> {
        let Some(text) = self.0.get(name) else { return Ok(None) };
        let number = text.parse().ok().filter(|number: &u32| number.to_string() == *text);
        number.filter(|number| (range.0..=range.1).contains(number)).map(Some).ok_or(Wrong(name, expected))
    }

    fn limit(&self) -> Result<u32, Wrong> {
        Ok(self.number("limit", (1, MAX_PAGE), "1 to 100")?.unwrap_or(PAGE))
    }

    fn filter(&self) -> Result<CatalogFilter, Wrong> {
        let mut filter = CatalogFilter::default();
        filter.r#type = self.text("type")?.map(str::to_owned);
        filter.pay_to = self.text("payTo")?.map(str::to_owned);
        filter.scheme = self.text("scheme")?.map(str::to_owned);
        let network = self.text("network")?.map(str::parse).transpose();
        filter.network = network.map_err(|_| Wrong("network", "a CAIP-2 identifier"))?;
        filter.extensions =
            self.text("extensions")?.into_iter().flat_map(|text| text.split(',')).map(str::to_owned).collect();
        Ok(filter)
    }
}

impl From<Wrong> for Reply {
    fn from(Wrong(name, expected): Wrong) -> Self {
        Self::json(StatusCode::BAD_REQUEST, &json!({ "error": format!("{name}: expected {expected}") }))
    }
}

async fn resources(State(catalog): State<Arc<dyn Catalog>>, RawQuery(query): RawQuery) -> Reply {
    let asked = || -> Result<_, Wrong> {
        let query = Query::read(query)?;
        let offset = query.number("offset", (0, MAX_OFFSET), "0 to 10000")?.unwrap_or(0);
        Ok((query.filter()?, Page::new(offset, query.limit()?)))
    };
    let (filter, page) = match asked() {
        Ok(asked) => asked,
        Err(wrong) => return wrong.into(),
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
    let asked = || -> Result<_, Wrong> {
        let query = Query::read(query)?;
        let words = query.0.get("query").filter(|words| !words.is_empty()).cloned();
        let words = words.ok_or(Wrong("query", "the words that are searched"))?;
        // The cursor is the number of matches before the page; clients do not interpret it.
        let offset = query.number("cursor", (1, MAX_OFFSET), "the cursor of an earlier answer")?.unwrap_or(0);
        // "Advisory maximum number of results; facilitator may return fewer or ignore".
        let limit = query.number("limit", (1, u32::MAX), "a number from 1")?.unwrap_or(PAGE).min(MAX_PAGE);
        Ok((words, query.filter()?, offset, limit))
    };
    let (words, filter, offset, limit) = match asked() {
        Ok(asked) => asked,
        Err(wrong) => return wrong.into(),
    };
    let (found, has_more) = match catalog.search(&words, &filter, Page::new(offset, limit)).await {
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
