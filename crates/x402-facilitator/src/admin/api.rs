//! The operator's JSON: the state of the process, payments, and the kill switch.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use x402_types::Fault;

use super::Admin;
use crate::clock::now;
use crate::dialect::Reply;
use crate::engine::{Engine, Paused, Readiness};
use crate::view::{View, key, timeline};

/// The most payments in one answer.
const MOST: usize = 200;
/// The most answered payments that a search reads.
const SEARCHED: usize = 20_000;

fn answer(result: Result<Value, Fault>) -> Response {
    match result {
        Ok(value) => Reply::json(StatusCode::OK, &value).into_response(),
        Err(fault) => Reply::unavailable(&fault, &json!({ "error": "unavailable" })).into_response(),
    }
}

pub(super) async fn state(State(admin): State<Admin>) -> Response {
    answer(read_state(&admin.engine).await)
}

async fn read_state(engine: &Engine) -> Result<Value, Fault> {
    let Readiness { short, low, .. } = engine.readiness();
    let balances: Vec<_> = engine.balances().collect();
    let mut lanes = Vec::new();
    for lane in engine.settlement().lanes() {
        let view = engine.ledger().lane(lane, 0).await?;
        let balance = balances.iter().find(|(of, _)| *of == lane).map(|(_, wei)| wei.to_string());
        lanes.push(json!({
            "lane": lane.as_str(),
            "balance": balance,
            "low": low.iter().any(|it| it.lane == *lane),
            "short": short.iter().any(|it| it.lane == *lane),
            "nextNonce": view.next,
            "openSlots": view.open.len(),
        }));
    }
    let heads: serde_json::Map<_, _> =
        engine.head_ages().into_iter().map(|(network, age)| (network.to_string(), age.into())).collect();
    let mut open = engine.ledger().unanswered(&[]).await?;
    open.sort_by_key(|payment| payment.claimed);
    let views: Vec<View> = open.iter().take(MOST).map(|payment| View::of(payment)).collect();
    Ok(json!({
        "now": now().0,
        "paused": paused(engine),
        "headAgeSeconds": heads,
        "lanes": lanes,
        "budgets": engine.budgets().await?,
        "openPayments": open.len(),
        "oldest": views,
    }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// A part of a payment's key, transaction, payer, recipient, request or caller.
    #[serde(default)]
    q: String,
}

pub(super) async fn search(State(admin): State<Admin>, Query(Wanted { q }): Query<Wanted>) -> Response {
    answer(find(&admin.engine, q.trim()).await)
}

async fn find(engine: &Engine, text: &str) -> Result<Value, Fault> {
    let open = engine.ledger().unanswered(&[]).await?;
    let mut found: Vec<View> = open.iter().map(|payment| View::of(payment)).filter(|it| it.matches(text)).collect();
    let (mut after, mut read) = (Vec::new(), 0_usize);
    while found.len() < MOST && read < SEARCHED {
        let page = engine.answered(&after, MOST).await?;
        let Some(last) = page.last() else { break };
        after = last.key.as_bytes().to_vec();
        read = read.saturating_add(page.len());
        found.extend(page.iter().map(View::of).filter(|it| it.matches(text)));
    }
    let whole = found.len() <= MOST && read < SEARCHED;
    found.truncate(MOST);
    found.sort_by_key(|view| std::cmp::Reverse(view.claimed));
    Ok(json!({ "payments": found, "whole": whole }))
}

pub(super) async fn payment(State(admin): State<Admin>, Path(id): Path<String>) -> Response {
    let missing = || Reply::json(StatusCode::NOT_FOUND, &json!({ "error": "no such payment" })).into_response();
    let Some(key) = key(&id) else { return missing() };
    let read = async {
        let Some(payment) = admin.engine.settlement().payment(&key).await? else { return Ok(None) };
        let ids: Vec<_> = payment.steps.iter().flat_map(|step| step.carriers.iter().cloned()).collect();
        let slots = admin.engine.ledger().slots(&ids).await?;
        Ok(Some(timeline(&payment, &slots)))
    };
    match read.await {
        Ok(Some(value)) => answer(Ok(value)),
        Ok(None) => missing(),
        Err(fault) => answer(Err(fault)),
    }
}

pub(super) async fn pause(State(admin): State<Admin>) -> Response {
    admin.engine.pause();
    tracing::info!("new payments are refused from here on, by request");
    answer(Ok(json!({ "paused": paused(&admin.engine) })))
}

pub(super) async fn resume(State(admin): State<Admin>) -> Response {
    admin.engine.resume();
    tracing::info!("new payments are taken again, unless the pause file exists");
    answer(Ok(json!({ "paused": paused(&admin.engine) })))
}

fn paused(engine: &Engine) -> Option<&'static str> {
    engine.paused().map(|reason| match reason {
        Paused::ByRequest => "by request",
        Paused::ByFile => "by file",
    })
}
