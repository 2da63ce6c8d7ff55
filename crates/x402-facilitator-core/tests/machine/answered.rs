//! A far side that answers: its slot is closed, and what the answer did is observed at once.

use x402_facilitator_core::{Ledger, NextStep, Nonces, Observation, Progress, Receipt, Stage, StepState, TxId};
use x402_types::{ErrorReason, UnixSeconds};

use crate::toy::*;

fn begun(change: impl FnOnce(&mut World)) -> Bench {
    let bench = Bench::new();
    bench.toy.set(|world| world.nonces = None);
    bench.toy.set(change);
    let request = bench.settlement.begin_request();
    wait(bench.settlement.settle(&request, &claim(1, "a"), NOW)).unwrap();
    bench
}

/// Plans the payment's next step and carries it in one round.
fn carried(bench: &Bench, now: UnixSeconds) -> Vec<(usize, Stage)> {
    let key = bench.settlement.key(&claim(1, "a")).unwrap();
    let draft = wait(bench.settlement.draft(&key, now)).unwrap().unwrap();
    let carried = wait(bench.settlement.carry_drafts(&bench.lease, vec![draft], now));
    assert_eq!(carried.lane, Ok(Progress::Moved));
    carried.drafts.into_iter().enumerate().map(|(at, (_, stage))| (at, stage.unwrap())).collect()
}

#[test]
fn an_answer_closes_the_slot_and_makes_the_payment_due_at_once() {
    let bench = begun(|world| world.answers = true);
    let due = NOW.plus(bench.settlement.pace().poll);
    // The stored draft first, and then the payment whose slot was answered.
    assert_eq!(carried(&bench, NOW), [(0, Stage::Open(due)), (1, Stage::Open(NOW))]);
    let view = wait(bench.ledger.lane(&bench.lease.lane, 10)).unwrap();
    assert!(view.open.is_empty());
    // It is sent once, whatever follows.
    assert_eq!(bench.carry(NOW.plus(1_000)), Ok(Progress::Idle));
    assert_eq!(bench.toy.sent().len(), 1);
}

#[test]
fn an_answer_is_no_proof() {
    let bench = begun(|world| world.answers = true);
    carried(&bench, NOW);
    assert_eq!(bench.advance(1), Ok(Progress::Moved));
    let row = bench.row(1);
    assert_eq!((row.steps[0].state.clone(), row.answer), (StepState::Unaccounted, None));
    // What the far side shows decides, here that it can never happen.
    bench.toy.set(|world| {
        world.seen = Some(Observation::Dead(ErrorReason::INSUFFICIENT_FUNDS));
        world.plan = Some(NextStep::Failed(ErrorReason::INSUFFICIENT_FUNDS));
    });
    assert_eq!(bench.advance(1), Ok(Progress::Moved));
    assert_eq!(bench.row(1).answer, Some(Err(ErrorReason::INSUFFICIENT_FUNDS)));
}

#[test]
fn an_answered_step_and_the_next_one_take_no_time() {
    let bench = begun(|world| world.answers = true);
    carried(&bench, NOW);
    bench.toy.set(|world| {
        world.seen = Some(Observation::Proven(proof()));
        world.plan = Some(step(REDEEM, 2, 1));
    });
    carried(&bench, NOW);
    bench.toy.set(|world| {
        world.plan = Some(NextStep::Settled(Receipt::new(Some(TxId::from("0x01")), network(), "payer".to_owned())));
    });
    assert_eq!(bench.advance(1), Ok(Progress::Moved));
    assert_eq!(bench.row(1).answer, Some(Ok(receipt())));
    assert_eq!(bench.toy.sent().len(), 2);
}

#[test]
fn a_far_side_that_never_forgets_is_sent_the_same_until_it_answers() {
    let bench = begun(|world| (world.remembers, world.cannot_send) = (true, true));
    let key = bench.settlement.key(&claim(1, "a")).unwrap();
    let draft = wait(bench.settlement.draft(&key, NOW)).unwrap().unwrap();
    let failed = wait(bench.settlement.carry_drafts(&bench.lease, vec![draft], NOW));
    assert!(failed.lane.is_err());
    // Nothing is known of it for an hour: the slot stays, and nothing is signed anew.
    for minute in 1..=60 {
        assert!(bench.carry(NOW.plus(60 * minute)).is_err());
    }
    let view = wait(bench.ledger.lane(&bench.lease.lane, 10)).unwrap();
    assert_eq!((view.open.len(), view.open[0].attempts.len(), view.open[0].used), (1, 1, false));
    bench.toy.set(|world| (world.cannot_send, world.answers) = (false, true));
    assert_eq!(bench.carry(NOW.plus(4_000)), Ok(Progress::Moved));
    assert!(wait(bench.ledger.lane(&bench.lease.lane, 10)).unwrap().open.is_empty());
}

#[test]
fn a_lane_with_nonces_keeps_its_slot_until_the_nonce_is_final() {
    let bench = begun(|world| (world.answers, world.nonces) = (true, Some(Nonces { head: 0, finalized: 0 })));
    assert_eq!(carried(&bench, NOW).len(), 1);
    assert_eq!(wait(bench.ledger.lane(&bench.lease.lane, 10)).unwrap().open.len(), 1);
}
