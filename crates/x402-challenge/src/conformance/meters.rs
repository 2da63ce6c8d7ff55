//! The rules for meters: recorded usage survives, and never exceeds the maximum.

use std::sync::Arc;

use x402_types::challenge::{Proof, ProofKind};
use x402_types::{AtomicAmount, SchemeName};

use super::samples::{NOW, by, held, id, issued};
use super::{Broken, Subject, same};
use crate::{Added, Confirmation, Confirmed, MeterState, Metered, ProofKey, Store, answer};

/// Returns the meter of challenge `n`, with a maximum of 1,000.
fn metered(n: u8) -> Result<Metered, Broken> {
    let mut issued = issued(n)?;
    issued.challenge.scheme = SchemeName::UPTO;
    let proof = Proof { ticket: Some("t".into()), ..Proof::new(ProofKind::Facilitator) };
    let payment = answer(&issued.challenge, proof, [n; 16], NOW);
    Ok(Metered { issued, payment, used: AtomicAmount::ZERO, state: MeterState::Open, touched_at: NOW })
}

pub(super) async fn opened(store: &Arc<dyn Store>, n: u8) -> Result<(), Broken> {
    let meter = metered(n)?;
    store.issue(meter.issued.clone()).await?;
    let hold = held(store, n, n, NOW).await?;
    let with = Confirmation { meter: Some(meter), ..Confirmation::default() };
    same(&store.confirm(&hold, with).await?, &Confirmed::Paid, "the confirmation")
}

pub(super) async fn counts(subject: &dyn Subject) -> Result<(), Broken> {
    let store = subject.empty().await;
    same(&store.add_use(&id(1), 1.into(), NOW).await?, &Added::Unknown, "a meter of nothing")?;
    opened(&store, 1).await?;
    same(&store.add_use(&id(1), 400.into(), NOW).await?, &Added::Used(400.into()), "the first use")?;
    let store = subject.reopened(store).await;
    let full = Added::Full { left: 600.into() };
    for more in ["601", "115792089237316195423570985008687907853269984665640564039457584007913129639935"] {
        same(&store.add_use(&id(1), more.parse()?, NOW).await?, &full, "more than the maximum")?;
    }
    same(&store.add_use(&id(1), 600.into(), NOW).await?, &Added::Used(1000.into()), "to the maximum")?;
    same(&store.add_use(&id(1), 1.into(), NOW).await?, &Added::Full { left: AtomicAmount::ZERO }, "one more")?;
    same(&store.add_use(&id(1), AtomicAmount::ZERO, NOW).await?, &Added::Used(1000.into()), "nothing more")
}

pub(super) async fn closes(subject: &dyn Subject) -> Result<(), Broken> {
    let store = subject.empty().await;
    same(&store.close_meter(&id(1), NOW).await?, &None, "a meter of nothing")?;
    opened(&store, 1).await?;
    // The end is not recorded before the meter is closed, because the amount to settle would not be fixed.
    store.end_meter(&id(1), MeterState::Settled).await?;
    store.add_use(&id(1), 400.into(), NOW).await?;
    let closed = Metered { used: 400.into(), state: MeterState::Closed, touched_at: NOW.plus(5), ..metered(1)? };
    same(&store.close_meter(&id(1), NOW.plus(5)).await?, &Some(closed.clone()), "closed")?;
    same(&store.add_use(&id(1), 1.into(), NOW).await?, &Added::Closed, "a use of what is closed")?;
    let store = subject.reopened(store).await;
    same(&store.close_meter(&id(1), NOW.plus(9)).await?, &Some(closed.clone()), "closed again, after a restart")?;
    store.end_meter(&id(1), MeterState::Settled).await?;
    store.end_meter(&id(1), MeterState::Refused).await?;
    let settled = Metered { state: MeterState::Settled, ..closed };
    same(&store.close_meter(&id(1), NOW.plus(9)).await?, &Some(settled), "settled, and that stays")
}

pub(super) async fn waived(subject: &dyn Subject) -> Result<(), Broken> {
    let store = subject.empty().await;
    store.waive_meter(&id(1), NOW).await?;
    for n in 1..=2 {
        opened(&store, n).await?;
        store.add_use(&id(n), 400.into(), NOW).await?;
    }
    store.waive_meter(&id(1), NOW.plus(5)).await?;
    let store = subject.reopened(store).await;
    let waived = Metered { used: 400.into(), state: MeterState::Refused, touched_at: NOW.plus(5), ..metered(1)? };
    same(&store.close_meter(&id(1), NOW.plus(9)).await?, &Some(waived), "waived, and that stays")?;
    same(&store.add_use(&id(1), 1.into(), NOW).await?, &Added::Closed, "a use of what is waived")?;
    // A closed meter may be under settlement.
    let closed = store.close_meter(&id(2), NOW).await?;
    store.waive_meter(&id(2), NOW.plus(5)).await?;
    same(&store.close_meter(&id(2), NOW.plus(9)).await?, &closed, "closed, and that stays")?;
    same(&store.open_meters(NOW.plus(99), 9).await?, &vec![id(2)], "what is left to settle")
}

pub(super) async fn listed(subject: &dyn Subject) -> Result<(), Broken> {
    let store = subject.empty().await;
    for n in 1..=4 {
        opened(&store, n).await?;
    }
    store.add_use(&id(1), 1.into(), NOW.plus(20)).await?;
    store.close_meter(&id(2), NOW.plus(10)).await?;
    store.close_meter(&id(3), NOW).await?;
    store.end_meter(&id(3), MeterState::Refused).await?;
    let store = subject.reopened(store).await;
    let all = vec![id(4), id(2), id(1)];
    same(&store.open_meters(NOW.plus(21), 10).await?, &all, "what is not over, the oldest first")?;
    same(&store.open_meters(NOW.plus(20), 10).await?, &vec![id(4), id(2)], "what was changed before")?;
    same(&store.open_meters(NOW.plus(21), 1).await?, &vec![id(4)], "as many as asked for")?;
    // A meter that is not settled is never forgotten.
    store.forget(NOW.plus(1_000_000)).await?;
    same(&store.open_meters(NOW.plus(21), 10).await?, &all, "long after")?;
    same(&store.close_meter(&id(3), NOW).await?, &None, "what is over is forgotten with its challenge")
}

pub(super) async fn with_payment(subject: &dyn Subject) -> Result<(), Broken> {
    let store = subject.empty().await;
    let key = ProofKey("facilitator:t".into());
    for n in [1, 2] {
        let meter = metered(n)?;
        store.issue(meter.issued.clone()).await?;
        let hold = held(&store, n, n, NOW).await?;
        store.confirm(&hold, Confirmation { meter: Some(meter), ..by(&key) }).await?;
    }
    same(&store.add_use(&id(1), 1.into(), NOW).await?, &Added::Used(1.into()), "the payment's meter")?;
    same(&store.add_use(&id(2), 1.into(), NOW).await?, &Added::Unknown, "that of a proof that was used before")
}
