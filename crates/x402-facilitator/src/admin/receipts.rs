//! The export of answered payments for accounting: CSV by [RFC 4180](https://www.rfc-editor.org/rfc/rfc4180), and JSON lines.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use x402_types::Fault;

use super::Admin;
use crate::engine::Engine;
use crate::view::View;

/// The payments of one read of the ledger.
const PAGE: usize = 500;

/// The columns of the CSV.
const COLUMNS: &str = "id,claimed,state,network,scheme,asset,amount,payTo,payer,caller,request,transaction,reason\r\n";

pub(super) async fn csv(State(admin): State<Admin>) -> Response {
    let head = [(CONTENT_TYPE, "text/csv; charset=utf-8"), (CONTENT_DISPOSITION, "attachment; filename=receipts.csv")];
    (head, Body::from_stream(lines(admin.engine, COLUMNS, row))).into_response()
}

/// Answers with one JSON document a line.
pub(super) async fn json(State(admin): State<Admin>) -> Response {
    let line = |view: &View| serde_json::to_string(view).map_or_else(|_| String::new(), |text| format!("{text}\n"));
    ([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines(admin.engine, "", line))).into_response()
}

/// Reads the ledger page by page, so that an export of any length needs the memory of one page. A fault of the ledger
/// breaks the answer off: a whole one ends by itself.
fn lines(
    engine: Arc<Engine>,
    head: &'static str,
    line: impl Fn(&View) -> String + Copy + Send + 'static,
) -> impl Stream<Item = Result<Bytes, Fault>> {
    stream::try_unfold(Some(Vec::new()), move |after: Option<Vec<u8>>| {
        let engine = Arc::clone(&engine);
        async move {
            let Some(after) = after else { return Ok(None) };
            let page = engine.answered(&after, PAGE).await?;
            let head = if after.is_empty() { head } else { "" };
            let text = page.iter().map(View::of).fold(head.to_owned(), |text, view| text + &line(&view));
            Ok(Some((Bytes::from(text), page.last().map(|last| last.key.as_bytes().to_vec()))))
        }
    })
}

fn row(view: &View) -> String {
    let claimed = view.claimed.to_string();
    let fields = [
        &view.id,
        &claimed,
        view.state,
        &view.network,
        &view.scheme,
        &view.asset,
        &view.amount,
        &view.pay_to,
        &view.payer,
        &view.caller,
        &view.request,
        view.transaction.as_deref().unwrap_or_default(),
        view.reason.as_deref().unwrap_or_default(),
    ];
    let fields: Vec<String> = fields.into_iter().map(field).collect();
    format!("{}\r\n", fields.join(","))
}

/// Quotes a field. Spreadsheets run a field that begins like a formula, and callers choose some of the texts.
fn field(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    if text.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_quoted_and_never_a_formula() {
        for (text, expected) in [
            ("plain", "plain"),
            ("a,b", "\"a,b\""),
            ("say \"x\"", "\"say \"\"x\"\"\""),
            ("=1+1", "'=1+1"),
            ("@cmd,x", "\"'@cmd,x\""),
            ("", ""),
        ] {
            assert_eq!(field(text), expected);
        }
    }
}
