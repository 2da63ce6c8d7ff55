//! One payment, many requests.

use x402_facilitator_core::{NextStep, Nonces, Outcome, Progress, Settlement, Telling, TxId};
use x402_types::{AtomicAmount, Claim, ErrorReason, Fault, Refusal, Rejection};

use crate::toy::*;

#[test]
fn one_request_is_answered_and_its_retries_are_told_apart() {
    let bench = Bench::new();
    let settle = |call: &_, claim: &Claim| wait(bench.settlement.settle(call, claim, NOW)).unwrap();
    let key = bench.settlement.key(&claim(1, "a")).unwrap();
    let first = bench.settlement.begin_request();
    assert_eq!(settle(&first, &claim(1, "a")), pending(None));

    // While the first call is unanswered, the same request is refused, and so is any other.
    let second = bench.settlement.begin_request();
    assert_eq!(settle(&second, &claim(1, "a")), duplicate(None));
    assert_eq!(settle(&second, &claim(1, "b")), duplicate(None));

    // After it was answered `settlement_pending`, the same request joins the wait; another is still refused.
    drop(first);
    assert_eq!(settle(&second, &claim(1, "a")), pending(None));
    let third = bench.settlement.begin_request();
    assert_eq!(settle(&third, &claim(1, "a")), duplicate(None));
    assert_eq!(settle(&third, &claim(1, "b")), duplicate(None));

    // The call that waits is told the end as new, and it alone.
    bench.finish(1, NextStep::Settled(receipt()));
    assert_eq!(wait(bench.settlement.look(&second, &key)), Ok(settled(false)));
    drop(second);
    assert_eq!(settle(&third, &claim(1, "a")), spent("0x01"));
    assert_eq!(settle(&bench.settlement.begin_request(), &claim(1, "a")), spent("0x01"));
    assert_eq!(settle(&third, &claim(1, "b")), spent("0x01"));
    // A caller that named its request gets the same end again, and no other caller's.
    assert_eq!(settle(&bench.settlement.begin_request().named(), &claim(1, "a")), settled(true));
    assert_eq!(settle(&bench.settlement.begin_request().named(), &claim(1, "b")), duplicate(Some("0x01")));
    assert_eq!(settle(&third, &claim(1, "a")), spent("0x01"));
}

#[test]
fn a_success_that_nobody_heard_is_told_to_the_first_who_asks() {
    let bench = Bench::new();
    let settle = |call: &_, claim: &Claim| wait(bench.settlement.settle(call, claim, NOW)).unwrap();
    let gone = bench.settlement.begin_request();
    assert_eq!(settle(&gone, &claim(1, "a")), pending(None));
    drop(gone);
    bench.finish(1, NextStep::Settled(receipt()));
    assert!(bench.row(1).untold);
    // Not to another request, be it in our name or in none.
    assert_eq!(settle(&bench.settlement.begin_request(), &claim(1, "b")), duplicate(Some("0x01")));
    assert_eq!(settle(&bench.settlement.begin_request().named(), &claim(1, "b")), duplicate(Some("0x01")));
    assert_eq!(settle(&bench.settlement.begin_request(), &claim(1, "a")), settled(false));
    assert!(!bench.row(1).untold);
    for _ in 0..3 {
        assert_eq!(settle(&bench.settlement.begin_request(), &claim(1, "a")), spent("0x01"));
    }
}

#[test]
fn of_two_processes_one_tells_the_success() {
    for (named, second) in [(false, spent("0x01")), (true, settled(true))] {
        let bench = Bench::new();
        let other = machine(&bench.toy, &bench.ledger, "two");
        let key = other.key(&claim(1, "a")).unwrap();
        let call = |of: &Settlement| if named { of.begin_request().named() } else { of.begin_request() };
        let (one, two) = (call(&bench.settlement), call(&other));
        assert_eq!(wait(bench.settlement.settle(&one, &claim(1, "a"), NOW)), Ok(pending(None)));
        assert_eq!(wait(other.settle(&two, &claim(1, "a"), NOW)), Ok(pending(None)));
        bench.finish(1, NextStep::Settled(receipt()));
        // The first to look is told it, though the other joined last.
        assert_eq!(wait(bench.settlement.look(&one, &key)), Ok(settled(false)));
        assert_eq!(wait(other.look(&two, &key)), Ok(second));
        assert_eq!(wait(bench.settlement.look(&one, &key)), Ok(settled(false)), "the same call is told the same");
    }
}

#[test]
fn a_row_of_before_this_was_stored_is_not_told_again() {
    let bench = Bench::new();
    wait(bench.settlement.settle(&bench.settlement.begin_request(), &claim(1, "a"), NOW)).unwrap();
    bench.finish(1, NextStep::Settled(receipt()));
    let mut row = bench.row(1);
    assert!(core::mem::replace(&mut row.untold, false), "as a row without the member is read");
    let call = bench.settlement.begin_request();
    assert_eq!(row.telling(call.id(), false, false), Telling::Spent);
    assert_eq!(row.telling(call.id(), true, false), Telling::Replayed);
}

#[test]
fn the_same_name_for_something_else_is_another_request() {
    let bench = Bench::new();
    let call = bench.settlement.begin_request();
    wait(bench.settlement.settle(&call, &claim(1, "a"), NOW)).unwrap();
    drop(call);
    let mut dearer = claim(1, "a");
    dearer.terms.amount = AtomicAmount::from(6);
    assert_eq!(wait(bench.settlement.settle(&bench.settlement.begin_request(), &dearer, NOW)), Ok(duplicate(None)));
    let mut stranger = claim(1, "a");
    stranger.identity.caller = "another shop".to_owned();
    assert_eq!(wait(bench.settlement.settle(&bench.settlement.begin_request(), &stranger, NOW)), Ok(duplicate(None)));
}

#[test]
fn after_a_crash_the_same_request_joins_at_once() {
    let bench = Bench::new();
    let lost = bench.settlement.begin_request();
    wait(bench.settlement.settle(&lost, &claim(1, "a"), NOW)).unwrap();

    // The first process still believes that it answers; the new one knows nothing of it.
    let after = machine(&bench.toy, &bench.ledger, "two");
    let call = after.begin_request();
    assert_eq!(wait(after.settle(&call, &claim(1, "a"), NOW)), Ok(pending(None)));
    bench.finish(1, NextStep::Settled(receipt()));
    let key = after.key(&claim(1, "a")).unwrap();
    assert_eq!(wait(after.look(&call, &key)), Ok(settled(false)));
    // A replica that was displaced does not tell it: it is told once.
    assert_eq!(wait(bench.settlement.look(&lost, &key)), Ok(spent("0x01")));
}

#[test]
fn a_caller_that_hangs_up_changes_nothing() {
    let bench = Bench::new();
    let call = bench.settlement.begin_request();
    drop(bench.settlement.settle(&call, &claim(1, "a"), NOW));
    assert!(bench.ledger.all_payments().is_empty());
    wait(bench.settlement.settle(&call, &claim(1, "a"), NOW)).unwrap();
    drop(call);
    bench.finish(1, NextStep::Settled(receipt()));
    assert_eq!(bench.row(1).answer, Some(Ok(receipt())));
    assert_eq!(bench.toy.sent(), ["0:10"]);
}

#[test]
fn verify_refuses_what_is_in_flight_or_spent() {
    let bench = Bench::new();
    let verify =
        |claim: &Claim| wait(bench.settlement.verify(claim, NOW)).map(|verified| verified.verdict().payer.clone());
    assert_eq!(verify(&claim(1, "a")), Ok("payer".to_owned()));
    assert!(bench.ledger.all_payments().is_empty(), "a check writes nothing");
    let refused = |reason| Err(Refusal::from(Rejection::new(reason).of("payer")));
    wait(bench.settlement.settle(&bench.settlement.begin_request(), &claim(1, "a"), NOW)).unwrap();
    assert_eq!(verify(&claim(1, "a")), refused(ErrorReason::DUPLICATE_SETTLEMENT));
    bench.finish(1, NextStep::Settled(receipt()));
    assert_eq!(verify(&claim(1, "b")), refused(ErrorReason::DUPLICATE_SETTLEMENT));
    bench.toy.set(|world| world.plan = Some(NextStep::Failed(ErrorReason::INSUFFICIENT_FUNDS)));
    wait(bench.settlement.settle(&bench.settlement.begin_request(), &claim(2, "a"), NOW)).unwrap();
    assert_eq!(bench.advance(2), Ok(Progress::Moved));
    assert_eq!(verify(&claim(2, "a")), refused(ErrorReason::INSUFFICIENT_FUNDS));
}

#[test]
fn a_refusal_is_told_unless_a_row_says_otherwise() {
    let bench = Bench::new();
    bench.toy.set(|world| world.rejection = Some(ErrorReason::NONCE_ALREADY_USED));
    let refused = wait(bench.settlement.settle(&bench.settlement.begin_request(), &claim(1, "a"), NOW));
    assert_eq!(refused, Err(Rejection::new(ErrorReason::NONCE_ALREADY_USED).into()));
    assert!(bench.ledger.all_payments().is_empty());
    bench.toy.set(|world| world.rejection = None);
    wait(bench.settlement.settle(&bench.settlement.begin_request(), &claim(1, "a"), NOW)).unwrap();
    bench.finish(1, NextStep::Settled(receipt()));
    bench.toy.set(|world| world.rejection = Some(ErrorReason::NONCE_ALREADY_USED));
    let again = wait(bench.settlement.settle(&bench.settlement.begin_request(), &claim(1, "a"), NOW));
    assert_eq!(again, Ok(settled(false)), "its own payment used the nonce");
}

#[test]
fn an_order_without_a_redeem_is_taken_up_again_for_its_request_alone() {
    let bench = Bench::new();
    let failed = Outcome::Failed {
        reason: ErrorReason::UNEXPECTED_SETTLE_ERROR,
        transaction: Some(TxId::from("0x01")),
        payer: "payer".to_owned(),
    };
    let first = bench.settlement.begin_request();
    wait(bench.settlement.settle(&first, &claim(1, "a"), NOW)).unwrap();
    bench.finish(1, NextStep::Failed(ErrorReason::UNEXPECTED_SETTLE_ERROR));
    let key = bench.settlement.key(&claim(1, "a")).unwrap();
    assert_eq!(wait(bench.settlement.look(&first, &key)), Ok(failed));
    let other = wait(bench.settlement.settle(&bench.settlement.begin_request(), &claim(1, "b"), NOW));
    assert_eq!(other, Ok(duplicate(Some("0x01"))));
    assert_eq!(bench.row(1).reopened, 0);

    drop(first);
    let again = bench.settlement.begin_request();
    assert!(wait(bench.settlement.verify(&claim(1, "a"), NOW)).is_ok(), "its own request may come back");
    assert_eq!(wait(bench.settlement.settle(&again, &claim(1, "a"), NOW)), Ok(pending(Some("0x01"))));
    assert_eq!(bench.row(1).reopened, 1);
    // The order stays proven, so only the redeem is left to do; a second order is refused by the machine.
    bench.toy.set(|world| world.plan = Some(step(ORDER, 8, 8)));
    assert!(matches!(bench.advance(1), Err(Fault::Broken { .. })));
    bench.toy.set(|world| {
        world.plan = Some(step(REDEEM, 9, 9));
        world.nonces = Some(Nonces { head: 1, finalized: 1 });
    });
    bench.finish(1, NextStep::Settled(receipt()));
    assert_eq!(wait(bench.settlement.look(&again, &key)), Ok(settled(false)));
    let names: Vec<_> = bench.row(1).steps.iter().map(|step| step.name.clone()).collect();
    assert_eq!(names, [ORDER, REDEEM]);
}

#[test]
fn a_payment_that_another_transaction_spent_names_it() {
    let bench = Bench::new();
    let call = bench.settlement.begin_request();
    wait(bench.settlement.settle(&call, &claim(1, "a"), NOW)).unwrap();
    let (reason, transaction) = (ErrorReason::DUPLICATE_SETTLEMENT, TxId::from("0x0e"));
    bench.toy.set(|world| {
        world.plan = Some(NextStep::Spent { reason: reason.clone(), transaction: transaction.clone() });
    });
    assert_eq!(bench.advance(1), Ok(Progress::Moved));
    let failed = Outcome::Failed { reason, transaction: Some(transaction), payer: "payer".to_owned() };
    let key = bench.settlement.key(&claim(1, "a")).unwrap();
    assert_eq!(wait(bench.settlement.look(&call, &key)), Ok(failed));
    let other = wait(bench.settlement.settle(&bench.settlement.begin_request(), &claim(1, "b"), NOW));
    assert_eq!(other, Ok(duplicate(Some("0x0e"))));
}

#[test]
fn a_failure_before_anything_happened_stays() {
    let bench = Bench::new();
    wait(bench.settlement.settle(&bench.settlement.begin_request(), &claim(1, "a"), NOW)).unwrap();
    bench.toy.set(|world| world.plan = Some(NextStep::Failed(ErrorReason::INSUFFICIENT_FUNDS)));
    assert_eq!(bench.advance(1), Ok(Progress::Moved));
    assert_eq!(bench.advance(1), Ok(Progress::Idle));
    let again = wait(bench.settlement.settle(&bench.settlement.begin_request(), &claim(1, "a"), NOW));
    let failed =
        Outcome::Failed { reason: ErrorReason::INSUFFICIENT_FUNDS, transaction: None, payer: "payer".to_owned() };
    assert_eq!(again, Ok(failed));
    assert_eq!(bench.row(1).reopened, 0);
}
