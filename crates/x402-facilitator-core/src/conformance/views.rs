//! The rules for a worker's queries.

use std::sync::Arc;

use x402_types::{ErrorReason, PaymentKey, UnixSeconds};

use super::samples::{claimed, commit, dead, key, lane, leased, payment, proven, read, receipt, slot, step};
use super::{Broken, Subject, ensure, same};
use crate::{LaneView, Ledger, Next, Payment, Slot, StepState, Write};

pub(super) async fn due_order(subject: &dyn Subject) -> Result<(), Broken> {
    let ledger = subject.empty().await;
    let lease = leased(&ledger).await?;
    let mut rows = Vec::new();
    // 10 follows 9: times are numbers, not text.
    for (number, due) in [(1, 30), (2, 10), (3, 20), (4, 9), (5, 40)] {
        rows.push(Payment { due: UnixSeconds(due), ..claimed(&ledger, number).await? });
    }
    commit(&ledger, &lease, rows).await?;
    ledger.claim(Payment { lane: lane("b"), ..payment(6) }).await?;
    let a = lane("a");
    let keys = |numbers: &[u8]| numbers.iter().map(|number| key(*number)).collect::<Vec<_>>();
    same(&ledger.due(&a, UnixSeconds(8), 10).await?, &keys(&[]), "nothing is due yet")?;
    same(&ledger.due(&a, UnixSeconds(20), 10).await?, &keys(&[4, 2, 3]), "due at that second, longest due first")?;
    same(&ledger.due(&a, UnixSeconds(u64::MAX), 2).await?, &keys(&[4, 2]), "up to a limit")?;
    same(&ledger.due(&lane("b"), UnixSeconds(10), 10).await?, &keys(&[6]), "another lane's")?;
    same(&ledger.due(&lane("c"), UnixSeconds(u64::MAX), 10).await?, &keys(&[]), "a lane that never was")
}

pub(super) async fn answered_is_not_due(subject: &dyn Subject) -> Result<(), Broken> {
    let ledger = subject.empty().await;
    let lease = leased(&ledger).await?;
    for (number, answer) in [(1, Ok(receipt(1))), (2, Err(ErrorReason::INSUFFICIENT_FUNDS))] {
        let row = claimed(&ledger, number).await?;
        commit(&ledger, &lease, vec![Payment { answer: Some(answer), ..row }]).await?;
    }
    same(&ledger.due(&lane("a"), UnixSeconds(u64::MAX), 10).await?, &Vec::new(), "answered")?;
    let reopened = Payment { answer: None, ..read(&ledger, 2).await? };
    ledger.commit(Write { payments: vec![reopened], ..Write::default() }).await?;
    same(&ledger.due(&lane("a"), UnixSeconds(u64::MAX), 10).await?, &vec![key(2)], "reopened")
}

async fn a_lane(subject: &dyn Subject) -> Result<LaneView, Broken> {
    let ledger = subject.empty().await;
    let lease = leased(&ledger).await?;
    let states = [
        StepState::Ready,
        StepState::InFlight,
        StepState::Unaccounted,
        proven(4),
        dead(),
        StepState::Ready,
        StepState::Ready,
    ];
    let mut payments = Vec::new();
    for (number, state) in (1..).zip(states) {
        let due = UnixSeconds(100 - u64::from(number));
        payments.push(Payment { steps: vec![step(number, state)], due, ..claimed(&ledger, number).await? });
    }
    // A Ready step that is not the last does not count.
    if let Some(last) = payments.last_mut() {
        last.steps.push(step(8, StepState::InFlight));
    }
    let a = lane("a");
    let slots = vec![
        slot(&a, 10, &[2]),
        slot(&a, 9, &[]),
        Slot { used: true, ..slot(&a, 8, &[3]) },
        slot(&a, u64::from(u32::MAX), &[4]),
    ];
    let next = Some(Next { from: 0, to: u64::from(u32::MAX) + 1 });
    ledger.commit(Write { lease: Some(lease), next, payments, slots }).await?;
    let ledger = subject.reopened(ledger).await;
    same(&ledger.lane(&lane("b"), 10).await?, &LaneView::default(), "another lane")?;
    let none = ledger.lane(&a, 0).await?;
    let view = ledger.lane(&a, 10).await?;
    same(&none, &LaneView { ready: Vec::new(), ..view.clone() }, "and none of what is ready")?;
    let first = view.ready.iter().take(1).cloned().collect();
    same(&ledger.lane(&a, 1).await?, &LaneView { ready: first, ..view.clone() }, "up to a limit")?;
    Ok(view)
}

pub(super) async fn lane_shows(subject: &dyn Subject) -> Result<(), Broken> {
    let view = a_lane(subject).await?;
    same(&view.next, &(u64::from(u32::MAX) + 1), "the next nonce")?;
    let nonces: Vec<u64> = view.open.iter().map(|slot| slot.id.nonce).collect();
    same(&nonces, &vec![9, 10, u64::from(u32::MAX)], "the slots that are not used, by nonce")?;
    let ready: Vec<_> = view.ready.iter().map(|payment| payment.key.clone()).collect();
    same(&ready, &vec![key(6), key(1)], "what is ready, longest due first")?;
    ensure(view.ready.iter().all(|payment| payment.version == 2), "with the rows as they are")
}

pub(super) async fn slots_in_order(subject: &dyn Subject) -> Result<(), Broken> {
    let ledger = subject.empty().await;
    let lease = leased(&ledger).await?;
    let a = lane("a");
    let slots: Vec<Slot> = (0..3).map(|nonce| slot(&a, nonce, &[])).collect();
    ledger.commit(Write { lease: Some(lease), slots, ..Write::default() }).await?;
    let ids: Vec<_> = [2, 7, 0].map(|nonce| slot(&a, nonce, &[]).id).to_vec();
    let found: Vec<u64> = ledger.slots(&ids).await?.iter().map(|slot| slot.id.nonce).collect();
    same(&found, &vec![2, 0], "in the order asked, without the missing")?;
    same(&ledger.slots(&[]).await?, &Vec::new(), "none asked")
}

pub(super) async fn payments_in_order(subject: &dyn Subject) -> Result<(), Broken> {
    let ledger = subject.empty().await;
    let lease = leased(&ledger).await?;
    for number in 1..=3 {
        claimed(&ledger, number).await?;
    }
    let row = read(&ledger, 3).await?;
    commit(&ledger, &lease, vec![Payment { answer: Some(Ok(receipt(3))), ..row }]).await?;
    let found = ledger.payments(&[key(3), key(9), key(1)]).await?;
    same(&found, &vec![read(&ledger, 3).await?, read(&ledger, 1).await?], "in the order asked, answered or not")?;
    same(&ledger.payments(&[]).await?, &Vec::new(), "none asked")
}

pub(super) async fn unanswered_by_prefix(subject: &dyn Subject) -> Result<(), Broken> {
    let ledger = subject.empty().await;
    let lease = leased(&ledger).await?;
    let named = |bytes: &[u8]| PaymentKey::from_bytes(bytes);
    for (number, bytes) in [(1, &[1, 0xff][..]), (2, &[1, 0xff, 0]), (3, &[1, 0xff, 0xff]), (4, &[2]), (5, &[1, 0xfe])]
    {
        ledger.claim(Payment { key: named(bytes), ..payment(number) }).await?;
    }
    let of = async |ledger: &Arc<dyn Ledger>, prefix: &[u8]| -> Result<Vec<PaymentKey>, Broken> {
        Ok(ledger.unanswered(prefix).await?.into_iter().map(|payment| payment.key.clone()).collect())
    };
    let three = vec![named(&[1, 0xff]), named(&[1, 0xff, 0]), named(&[1, 0xff, 0xff])];
    same(&of(&ledger, &[1, 0xff]).await?, &three, "those that begin so, by their keys")?;
    same(&of(&ledger, &[1, 0xff, 0xff]).await?, &vec![named(&[1, 0xff, 0xff])], "the last of its kind")?;
    same(&of(&ledger, &[3]).await?, &Vec::new(), "none")?;
    same(&of(&ledger, &[]).await?.len(), &5, "all of them")?;
    let row = ledger.read(&named(&[1, 0xff, 0])).await?.ok_or_else(|| Broken("it is gone".into()))?;
    commit(&ledger, &lease, vec![Payment { answer: Some(Ok(receipt(2))), ..row }]).await?;
    let ledger = subject.reopened(ledger).await;
    same(&of(&ledger, &[1, 0xff]).await?, &vec![named(&[1, 0xff]), named(&[1, 0xff, 0xff])], "one has its answer")
}
