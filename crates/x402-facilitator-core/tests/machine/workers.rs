//! Rows, slots and what leaves.

use std::sync::Arc;

use x402_facilitator_core::{Lease, Ledger, MAX_PARCELS, NextStep, Nonces, Observation, Progress, StepState};
use x402_types::{AmountRule, AtomicAmount, ErrorReason, Fault};

use crate::toy::*;

#[test]
fn a_row_is_stored_whole_before_its_bytes_leave() {
    let bench = Bench::new();
    for nonce in 1..=3 {
        wait(bench.settlement.settle(&bench.settlement.begin_request(), &claim(nonce, "a"), NOW)).unwrap();
        bench.advance(nonce).unwrap();
    }
    bench.toy.set(|world| world.cannot_sign = true);
    assert_eq!(bench.carry(NOW), Err(Fault::unreachable("signer", "asleep")));
    assert!(bench.ledger.all_slots().is_empty(), "a refusal to sign uses up nothing");
    bench.toy.set(|world| world.cannot_sign = false);
    assert_eq!(bench.carry(NOW), Ok(Progress::Moved));
    // Two fit together, the third takes the next nonce; both go out in one round.
    let slots = bench.ledger.all_slots();
    let loads: Vec<_> = slots.iter().map(|slot| (slot.id.nonce, slot.payments.len(), slot.version)).collect();
    assert_eq!(loads, [(0, 2, 2), (1, 1, 2)], "stored, then noted as taken");
    assert_eq!(bench.toy.sent(), ["0:10", "1:10"]);
    assert_eq!(wait(bench.ledger.lane(&lane(), 10)).unwrap().next, 2);
    for nonce in 1..=3 {
        let steps = bench.row(nonce).steps;
        assert_eq!((&steps[0].state, steps[0].carriers.len()), (&StepState::InFlight, 1));
    }
}

/// More payments than there is room for cannot be signed, for example because they need more gas than is allowed.
#[test]
fn payments_that_cannot_be_signed_leave_room_for_the_others() {
    let mut bench = Bench::new();
    let most = |transactions| machine(&bench.toy, &bench.ledger, "one").with_most_in_flight(network(), transactions);
    // A round reads two payments, as many as its one transaction can carry.
    let (one, two) = (most(1), most(2));
    bench.settlement = one;
    bench.toy.set(|world| world.unsignable = vec![1, 2, 3, 4]);
    for nonce in 1..=6 {
        wait(bench.settlement.settle(&bench.settlement.begin_request(), &claim(nonce, "a"), NOW)).unwrap();
        bench.advance(nonce).unwrap();
    }
    let asleep = Err(Fault::unreachable("signer", "asleep"));
    assert_eq!((bench.carry(NOW), bench.carry(NOW)), (asleep.clone(), asleep));
    bench.carry(NOW).unwrap();
    assert_eq!(bench.toy.sent(), ["0:10"]);
    for nonce in [5, 6] {
        assert_eq!(bench.row(nonce).steps[0].state, StepState::InFlight, "{nonce}");
    }
    // Once they can be signed, they are.
    bench.settlement = two;
    bench.toy.set(|world| world.unsignable.clear());
    bench.carry(NOW.plus(1)).unwrap();
    assert_eq!(bench.row(1).steps[0].state, StepState::InFlight);
}

#[test]
fn a_slot_is_rebroadcast_until_its_nonce_is_final() {
    let bench = Bench::new();
    wait(bench.settlement.settle(&bench.settlement.begin_request(), &claim(1, "a"), NOW)).unwrap();
    bench.advance(1).unwrap();
    bench.carry(NOW).unwrap();
    let mut now = NOW;
    for _ in 0..4 {
        now = now.plus(60);
        bench.carry(now).unwrap();
    }
    assert_eq!(bench.toy.sent(), ["0:10", "0:10", "0:20", "0:20", "0:40"]);
    // Landed, but not final: left alone. Then final: closed.
    bench.toy.set(|world| world.nonces = Some(Nonces { head: 1, finalized: 0 }));
    assert_eq!(bench.carry(now.plus(600)), Ok(Progress::Idle));
    bench.toy.set(|world| world.nonces = Some(Nonces { head: 1, finalized: 1 }));
    assert_eq!(bench.carry(now.plus(600)), Ok(Progress::Moved));
    assert!(bench.ledger.all_slots()[0].used);
    // It reverted, for it is used and nothing is to be seen: that is no failure. The same once key goes again, alone.
    assert_eq!(bench.advance(1), Ok(Progress::Moved));
    assert_eq!(bench.row(1).steps[0].state, StepState::Unaccounted);
    assert_eq!(bench.advance(1), Ok(Progress::Moved));
    assert_eq!((bench.row(1).answer, bench.row(1).steps[0].parcels.len()), (None, 2));
}

#[test]
fn a_slot_without_undecided_payments_is_used_up_empty() {
    let bench = Bench::new();
    wait(bench.settlement.settle(&bench.settlement.begin_request(), &claim(1, "a"), NOW)).unwrap();
    // Somebody else's transaction settles it, so ours would only revert.
    bench.finish(1, NextStep::Settled(receipt()));
    bench.carry(NOW.plus(60)).unwrap();
    bench.carry(NOW.plus(120)).unwrap();
    assert_eq!(bench.toy.0.lock().unwrap().loads, [1, 0]);
    assert_eq!(bench.toy.sent(), ["0:10", "0:10", "0:20"]);
}

#[test]
fn a_nonce_that_nobody_holds_is_filled() {
    let bench = Bench::new();
    bench.toy.set(|world| world.nonces = Some(Nonces { head: 3, finalized: 0 }));
    wait(bench.settlement.settle(&bench.settlement.begin_request(), &claim(1, "a"), NOW)).unwrap();
    bench.advance(1).unwrap();
    bench.carry(NOW).unwrap();
    assert_eq!(bench.toy.sent(), ["3:10"], "the key was used elsewhere three times");
    // A reorganisation took two of them back.
    bench.toy.set(|world| world.nonces = Some(Nonces { head: 1, finalized: 0 }));
    bench.carry(NOW).unwrap();
    assert_eq!(bench.toy.sent(), ["3:10", "1:10", "2:10"]);
    assert_eq!(wait(bench.ledger.lane(&lane(), 10)).unwrap().next, 4);
}

#[test]
fn a_node_that_lags_opens_no_gap() {
    let bench = Bench::new();
    wait(bench.settlement.settle(&bench.settlement.begin_request(), &claim(1, "a"), NOW)).unwrap();
    bench.advance(1).unwrap();
    bench.carry(NOW).unwrap();
    bench.toy.set(|world| world.nonces = Some(Nonces { head: 1, finalized: 1 }));
    bench.carry(NOW).unwrap();
    assert!(bench.ledger.all_slots()[0].used);
    bench.toy.set(|world| world.nonces = Some(Nonces { head: 0, finalized: 0 }));
    wait(bench.settlement.settle(&bench.settlement.begin_request(), &claim(2, "a"), NOW)).unwrap();
    bench.advance(2).unwrap();
    assert_eq!(bench.carry(NOW), Ok(Progress::Moved));
    assert_eq!(bench.toy.sent(), ["0:10", "1:10"]);
}

#[test]
fn a_lane_without_nonces_gives_a_slot_up() {
    let bench = Bench::new();
    bench.toy.set(|world| world.nonces = None);
    wait(bench.settlement.settle(&bench.settlement.begin_request(), &claim(1, "a"), NOW)).unwrap();
    bench.advance(1).unwrap();
    let mut now = NOW;
    for _ in 0..4 {
        bench.carry(now).unwrap();
        now = now.plus(60);
    }
    assert_eq!(bench.toy.sent(), ["0:10", "0:10", "0:10"]);
    assert!(bench.ledger.all_slots()[0].used);
}

#[test]
fn two_payments_under_one_guard_take_turns() {
    let bench = Bench::new();
    bench.toy.set(|world| world.plan = Some(step(REDEEM, 7, 7)));
    for nonce in 1..=2 {
        wait(bench.settlement.settle(&bench.settlement.begin_request(), &claim(nonce, "a"), NOW)).unwrap();
    }
    assert_eq!(bench.advance(1), Ok(Progress::Moved));
    assert_eq!(bench.advance(2), Ok(Progress::Idle));
    assert_eq!((bench.row(2).steps.len(), bench.row(2).due), (0, NOW.plus(2)));
}

#[test]
fn a_worker_that_lost_its_lane_sends_nothing() {
    let bench = Bench::new();
    wait(bench.settlement.settle(&bench.settlement.begin_request(), &claim(1, "a"), NOW)).unwrap();
    bench.advance(1).unwrap();
    let stale = Lease { fence: bench.lease.fence + 1, ..bench.lease.clone() };
    assert_eq!(wait(bench.settlement.carry(&stale, NOW)), Ok(Progress::Overtaken));
    assert!(bench.toy.sent().is_empty() && bench.ledger.all_slots().is_empty());
}

/// A payer's contract that passes every simulation and reverts in every transaction: the mechanism says "once more" as
/// often as it is asked.
#[test]
fn a_step_that_always_reverts_costs_three_transactions() {
    for (of_scheme, most) in [(None, MAX_PARCELS), (Some(2), 2), (Some(9), MAX_PARCELS)] {
        let bench = Bench::new();
        bench.toy.set(|world| world.max_parcels = of_scheme);
        wait(bench.settlement.settle(&bench.settlement.begin_request(), &claim(1, "a"), NOW)).unwrap();
        let mut now = NOW;
        for _ in 0..40 {
            now = now.max(bench.row(1).due);
            bench.advance_at(1, now).unwrap();
            bench.carry(now).unwrap();
            // Mined and final, with nothing to be seen of it.
            let next = wait(bench.ledger.lane(&lane(), 10)).unwrap().next;
            bench.toy.set(|world| world.nonces = Some(Nonces { head: next, finalized: next }));
            bench.carry(now).unwrap();
        }
        assert_eq!(bench.toy.sent().len(), most, "{of_scheme:?}");
        let row = bench.row(1);
        assert_eq!((row.steps[0].parcels.len(), &row.steps[0].state), (most, &StepState::Unaccounted));
        assert_eq!(row.answer, None, "bytes have left: unknown is not failed");
        // The end is what a final block says.
        let expired = ErrorReason::INVALID_VALID_BEFORE;
        bench.toy.set(|world| {
            world.seen = Some(Observation::Dead(expired.clone()));
            world.plan = Some(NextStep::Failed(expired.clone()));
        });
        bench.advance_at(1, row.due).unwrap();
        assert_eq!(bench.row(1).answer, Some(Err(ErrorReason::INVALID_VALID_BEFORE)));
    }
}

/// A payer who moved the balance away: each look is another call to the node, and a commit.
#[test]
fn an_unaccounted_step_that_must_wait_is_looked_at_ever_less_often_and_at_last_by_its_logs_only() {
    let bench = Bench::new();
    wait(bench.settlement.settle(&bench.settlement.begin_request(), &claim(1, "a"), NOW)).unwrap();
    bench.advance(1).unwrap();
    bench.carry(NOW).unwrap();
    bench.toy.set(|world| world.nonces = Some(Nonces { head: 1, finalized: 1 }));
    bench.carry(NOW).unwrap();
    assert_eq!(bench.advance(1), Ok(Progress::Moved));
    assert_eq!(bench.row(1).steps[0].state, StepState::Unaccounted);
    bench.toy.set(|world| (world.plan, world.planned) = (Some(NextStep::Wait(NOW)), 0));
    let mut distances = Vec::new();
    for _ in 0..100 {
        let now = bench.row(1).due;
        bench.advance_at(1, now).unwrap();
        distances.push(bench.row(1).due.0 - now.0);
    }
    assert_eq!(distances[..8], [1, 2, 4, 8, 16, 30, 30, 30]);
    assert!(distances[8..].iter().all(|distance| *distance == 30));
    // The first eight looks, and the 9th, 17th, 33rd and 65th.
    assert_eq!(bench.toy.0.lock().unwrap().planned, 8 + 4);
    // Its transaction is found after all: at once it goes on at the usual pace.
    let now = bench.row(1).due;
    bench.toy.set(|world| {
        world.seen = Some(Observation::Proven(proof()));
        world.plan = Some(NextStep::Settled(receipt()));
    });
    bench.advance_at(1, now).unwrap();
    assert_eq!(bench.row(1).answer, Some(Ok(receipt())));
}

/// One that waits for credits, for example: nothing of it has left, so it may still be planned.
#[test]
fn a_payment_that_must_wait_is_planned_ever_less_often() {
    let bench = Bench::new();
    wait(bench.settlement.settle(&bench.settlement.begin_request(), &claim(1, "a"), NOW)).unwrap();
    bench.toy.set(|world| world.plan = Some(NextStep::Wait(NOW)));
    let mut now = NOW;
    while now < NOW.plus(600) {
        bench.advance_at(1, now).unwrap();
        now = bench.row(1).due;
    }
    assert_eq!(bench.toy.0.lock().unwrap().planned, 5 + 19);
    bench.toy.set(|world| world.plan = None);
    bench.advance_at(1, now).unwrap();
    assert_eq!((bench.row(1).steps.len(), bench.row(1).waits), (1, 0));
}

/// What is settled follows the scheme's rule: what was asked, or at most that.
#[test]
fn a_receipt_of_an_amount_that_the_rule_forbids_breaks_a_rule() {
    for (rule, amount, answered) in [
        (AmountRule::Equal, 5, true),
        (AmountRule::Equal, 4, false),
        (AmountRule::AtMost, 4, true),
        (AmountRule::AtMost, 6, false),
    ] {
        let bench = Bench::new();
        bench.toy.set(|world| world.rule = rule);
        wait(bench.settlement.settle(&bench.settlement.begin_request(), &claim(1, "a"), NOW)).unwrap();
        let end = receipt().of_amount(AtomicAmount::from(amount));
        bench.toy.set(|world| world.plan = Some(NextStep::Settled(end)));
        assert_eq!(bench.advance(1).is_ok(), answered, "{rule:?} {amount}");
        assert_eq!(bench.row(1).answer.is_some(), answered, "{rule:?} {amount}");
    }
}

/// All mechanisms of a scheme have one rule.
#[test]
fn a_scheme_has_one_rule_for_its_amount() {
    let bench = Bench::new();
    bench.toy.set(|world| world.method = Some("one"));
    let other = Toy::default();
    other.set(|world| (world.method, world.rule) = (Some("other"), AmountRule::AtMost));
    let with = |toy: &Toy| machine(&bench.toy, &bench.ledger, "two").with_mechanism(Arc::new(toy.clone()));
    assert_eq!(with(&other).unwrap_err(), Fault::broken("exact has two rules for its amount"));
    other.set(|world| world.rule = AmountRule::Equal);
    assert_eq!(with(&other).unwrap().amount_rule(&claim(1, "a").terms.scheme), AmountRule::Equal);
}
