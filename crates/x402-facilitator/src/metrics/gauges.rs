//! The gauges: what is open and how old it is, read when it is requested.

use std::collections::BTreeMap;

use x402_facilitator_core::{LaneId, Payment, StepState};

use super::{Text, names};
use crate::budgets::BudgetState;
use crate::clock::now;
use crate::engine::Engine;

/// Returns the state of a payment without an answer: that of its last step.
pub(crate) fn state_of(payment: &Payment) -> &'static str {
    match payment.steps.last().map(|step| &step.state) {
        None => "claimed",
        Some(StepState::Ready) => "ready",
        Some(StepState::InFlight) => "in_flight",
        Some(StepState::Unaccounted) => "unaccounted",
        Some(StepState::Proven(_) | StepState::Dead(_)) => "decided",
    }
}

/// Writes every gauge. If the ledger does not answer, its gauges are left out, and `x402_ledger_up` is 0.
pub(crate) async fn write(engine: &Engine, text: &mut Text) {
    let health = engine.health().await;
    text.head(&names::LEDGER_UP);
    text.gauge(&names::LEDGER_UP, &[], u8::from(health.is_ok()));
    text.head(&names::PAUSED);
    text.gauge(&names::PAUSED, &[], u8::from(engine.paused().is_some()));
    text.head(&names::QUARANTINED);
    text.gauge(&names::QUARANTINED, &[], u8::from(engine.quarantine().is_some()));
    text.head(&names::HEAD_AGE);
    for (network, age) in engine.head_ages() {
        text.gauge(&names::HEAD_AGE, &[network.as_str()], age);
    }
    text.head(&names::COMMIT_AGE);
    if let Ok(Some(age)) = health.as_ref().map(|health| health.last_commit) {
        text.gauge(&names::COMMIT_AGE, &[], age);
    }
    let readiness = engine.readiness();
    let short: Vec<LaneId> = readiness.short.into_iter().map(|short| short.lane).collect();
    text.head(&names::SHORT);
    for lane in engine.settlement().lanes() {
        text.gauge(&names::SHORT, &[lane.as_str()], u8::from(short.contains(lane)));
    }
    text.head(&names::LOW);
    for lane in engine.settlement().lanes() {
        text.gauge(&names::LOW, &[lane.as_str()], u8::from(readiness.low.iter().any(|low| low.lane == *lane)));
    }
    if let Ok(states) = engine.budgets().await {
        text.head(&names::BUDGET_LEFT);
        for BudgetState { network, asset, per, of, left, .. } in &states {
            text.gauge(&names::BUDGET_LEFT, &[network, asset, per, of], left);
        }
    }
    if let Ok(Some(waiting)) = engine.waiting_webhooks().await {
        text.head(&names::WEBHOOKS_WAITING);
        text.gauge(&names::WEBHOOKS_WAITING, &[], waiting);
    }
    text.head(&names::BALANCE);
    for (lane, wei) in engine.balances() {
        text.gauge(&names::BALANCE, &[lane.as_str()], wei);
    }
    if health.is_ok() {
        payments(engine, text).await;
        slots(engine, text).await;
    }
}

async fn payments(engine: &Engine, text: &mut Text) {
    let Ok(open) = engine.ledger().unanswered(&[]).await else { return };
    let mut groups: BTreeMap<(&str, &str), (u64, u64)> = BTreeMap::new();
    for payment in &open {
        let age = now().0.saturating_sub(payment.claimed.0);
        // A row of an older release has no time of its claim.
        let age = if payment.claimed.0 == 0 { 0 } else { age };
        let (count, oldest) = groups.entry((payment.lane.as_str(), state_of(payment))).or_default();
        (*count, *oldest) = (count.saturating_add(1), age.max(*oldest));
    }
    text.head(&names::OPEN);
    for ((lane, state), (count, _)) in &groups {
        text.gauge(&names::OPEN, &[lane, state], count);
    }
    text.head(&names::OLDEST);
    for ((lane, state), (_, oldest)) in &groups {
        text.gauge(&names::OLDEST, &[lane, state], oldest);
    }
}

async fn slots(engine: &Engine, text: &mut Text) {
    let mut views = Vec::new();
    for lane in engine.settlement().lanes() {
        if let Ok(view) = engine.ledger().lane(lane, 0).await {
            views.push((lane, view));
        }
    }
    text.head(&names::SLOTS);
    for (lane, view) in &views {
        text.gauge(&names::SLOTS, &[lane.as_str()], view.open.len());
    }
    text.head(&names::OLDEST_SLOT);
    for (lane, view) in &views {
        let oldest = view.open.iter().filter(|slot| slot.opened.0 != 0).map(|slot| slot.opened.0).min();
        text.gauge(&names::OLDEST_SLOT, &[lane.as_str()], oldest.map_or(0, |since| now().0.saturating_sub(since)));
    }
    text.head(&names::SLOT_ATTEMPTS);
    for (lane, view) in &views {
        let attempts = view.open.iter().map(|slot| slot.attempts.len()).fold(0, usize::saturating_add);
        text.gauge(&names::SLOT_ATTEMPTS, &[lane.as_str()], attempts);
    }
    text.head(&names::NEXT_NONCE);
    for (lane, view) in &views {
        text.gauge(&names::NEXT_NONCE, &[lane.as_str()], view.next);
    }
}
