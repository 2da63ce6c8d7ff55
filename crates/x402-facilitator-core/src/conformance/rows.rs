//! The rules for the content of rows, and for how long they are kept.

use x402_types::{ErrorReason, UnixSeconds};

use super::samples::{claimed, commit, dead, key, lane, leased, payment, proven, read, receipt, slot, step};
use super::{Broken, Subject, ensure, same};
use crate::{LaneView, Next, OnceKey, Payment, Slot, Step, StepState, Write};

pub(super) async fn read_as_written(subject: &dyn Subject) -> Result<(), Broken> {
    let ledger = subject.empty().await;
    let lease = leased(&ledger).await?;
    let row = claimed(&ledger, 1).await?;
    let carrier = slot(&lane("a"), 0, &[1]);
    let full = Payment {
        steps: vec![
            step(1, dead()),
            step(2, proven(2)),
            Step { carriers: vec![carrier.id.clone()], ..step(3, StepState::InFlight) },
        ],
        reopened: 3,
        untold: true,
        due: UnixSeconds(u64::from(u32::MAX)),
        keep_until: UnixSeconds(u64::from(u32::MAX) + 1),
        ..row
    };
    let write = Write {
        lease: Some(lease.clone()),
        next: Some(Next { from: 0, to: 1 }),
        payments: vec![full.clone()],
        slots: vec![carrier.clone()],
    };
    ledger.commit(write).await?;
    let ledger = subject.reopened(ledger).await;
    let full = Payment { version: 2, ..full };
    same(&read(&ledger, 1).await?, &full, "the payment")?;
    let stored = Slot { version: 1, ..carrier };
    same(&ledger.slots(core::slice::from_ref(&stored.id)).await?, &vec![stored.clone()], "the slot")?;
    let view = LaneView { next: 1, open: vec![stored], ready: Vec::new() };
    same(&ledger.lane(&lane("a"), 10).await?, &view, "the lane")?;
    for (version, answer) in [(2, Ok(receipt(1))), (3, Err(ErrorReason::from_wire("a code of somebody's")))] {
        let answered = Payment { answer: Some(answer), version, ..full.clone() };
        commit(&ledger, &lease, vec![answered.clone()]).await?;
        let expected = Payment { version: version + 1, ..answered };
        same(&read(&ledger, 1).await?, &expected, "the answered payment")?;
    }
    Ok(())
}

pub(super) async fn forget(subject: &dyn Subject) -> Result<(), Broken> {
    let ledger = subject.empty().await;
    let lease = leased(&ledger).await?;
    let answer = Some(Ok(receipt(1)));
    let carried = |number: u8, slot: &Slot| Step { carriers: vec![slot.id.clone()], ..step(number, proven(number)) };
    // 1: over. 2: over, but its slot may still land. 3: still kept. 4: not answered. 5: over, shares a slot with 4.
    let used = slot(&lane("a"), 0, &[1]);
    let open = slot(&lane("a"), 1, &[2]);
    let shared = slot(&lane("a"), 2, &[4, 5]);
    let mut payments = Vec::new();
    for number in 1..=5 {
        payments.push(Payment { keep_until: UnixSeconds(100), ..claimed(&ledger, number).await? });
    }
    if let [one, two, three, four, five] = payments.as_mut_slice() {
        *one = Payment { answer: answer.clone(), steps: vec![carried(1, &used)], ..one.clone() };
        *two = Payment { answer: answer.clone(), steps: vec![carried(2, &open)], ..two.clone() };
        *three = Payment { answer: answer.clone(), keep_until: UnixSeconds(200), ..three.clone() };
        *four = Payment { steps: vec![carried(4, &shared)], ..four.clone() };
        *five = Payment { answer, steps: vec![carried(5, &shared)], ..five.clone() };
    }
    let write = Write {
        lease: Some(lease.clone()),
        next: Some(Next { from: 0, to: 3 }),
        payments,
        slots: vec![Slot { used: true, ..used.clone() }, open.clone(), Slot { used: true, ..shared.clone() }],
    };
    ledger.commit(write).await?;
    same(&ledger.forget(UnixSeconds(100), 10).await?, &0, "kept until, and with, that second")?;
    same(&ledger.forget(UnixSeconds(101), 1).await?, &1, "up to a limit")?;
    // The second is over before the fifth: a payment that cannot be forgotten yet does not count towards the limit.
    same(&ledger.forget(UnixSeconds(101), 1).await?, &1, "the rest")?;
    same(&ledger.forget(UnixSeconds(101), 10).await?, &0, "nothing else")?;
    for (number, there) in [(1, false), (2, true), (3, true), (4, true), (5, false)] {
        ensure(ledger.read(&key(number)).await?.is_some() == there, &format!("payment {number}"))?;
    }
    let left = ledger.slots(&[used.id, open.id.clone(), shared.id.clone()]).await?;
    same(&left.into_iter().map(|slot| slot.id).collect(), &vec![open.id, shared.id], "the slots left")?;
    same(&ledger.lane(&lane("a"), 10).await?.next, &3, "the next nonce stays")?;
    // The once key and the key of a forgotten payment are free.
    let again = claimed(&ledger, 1).await?;
    same(&again, &Payment { version: 1, ..payment(1) }, "the key is free")?;
    let keyed = Step { once_key: OnceKey(vec![5]), ..step(1, StepState::Ready) };
    commit(&ledger, &lease, vec![Payment { steps: vec![keyed], ..again }]).await?;
    Ok(())
}
