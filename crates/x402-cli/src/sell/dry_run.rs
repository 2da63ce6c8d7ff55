//! `x402 sell --dry-run`: what each route requires, as payers and the linter see it. Nothing listens and nothing is
//! forwarded.

use std::process::ExitCode;

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};
use x402_validate::{HttpAnswer, Options, Registry, lint_answer};

use super::gate::Shop;
use crate::lint::{Outcome, text};

/// The longest body of a 402.
const LARGEST: usize = 256 * 1024;

pub(super) async fn show(shop: &Shop, origin: &str, as_json: bool) -> Result<ExitCode, String> {
    let (mut valid, mut shown) = (true, Vec::new());
    for route in &shop.routes {
        let path = route.config.path.example();
        let method = route.config.method.as_deref().unwrap_or("GET");
        let request = Request::builder().method(method).uri(&path).body(Body::empty());
        let response = shop.serve(request.map_err(|error| error.to_string())?).await;
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, LARGEST).await.map_err(|error| error.to_string())?;
        let headers = parts.headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()));
        let headers: Vec<_> = headers.collect();
        let url = format!("{origin}{path}");
        let options = Options { registry: Registry::all(), ..Options::default() };
        let with =
            |answer: HttpAnswer<'_>| lint_answer(&answer.with_status(parts.status.as_u16()).with_url(&url), &options);
        let outcome = Outcome::of_answer(format!("{method} {url}"), &headers, &body, with);
        valid &= outcome.is_valid();
        if as_json {
            let report: Value = serde_json::from_str(&outcome.json()).unwrap_or_default();
            shown.push(json!({ "method": method, "path": route.config.path.as_str(), "url": url, "report": report }));
        } else {
            println!("{}", text::render(&outcome, false));
        }
    }
    if as_json {
        println!("{}", json!({ "valid": valid, "routes": shown }));
    }
    Ok(if valid { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
