//! The ledger is an older copy: it may have forgotten payments, and what was done for those that it knows.

use x402_facilitator_core::{LaneId, NextStep, Nonces, Observation, Outcome, Progress};
use x402_types::{ErrorReason, Refusal};

use crate::toy::*;

fn quarantined() -> Bench {
    let bench = Bench::new();
    bench.toy.set(|world| world.no_nonce = true);
    bench.settlement.set_quarantine(true);
    bench
}

fn settle(bench: &Bench, nonce: u8) -> Result<Outcome, Refusal> {
    let request = bench.settlement.begin_request();
    wait(bench.settlement.settle(&request, &claim(nonce, "a"), NOW))
}

#[test]
fn a_payment_that_only_the_ledger_knows_is_refused_until_the_release() {
    let bench = quarantined();
    let reason = |refusal| match refusal {
        Refusal::Rejection(rejection) => rejection.reason,
        Refusal::Fault(fault) => panic!("{fault}"),
    };
    // It was settled, so its nonce is used: that is no verdict either.
    bench.toy.set(|world| world.rejection = Some(ErrorReason::NONCE_ALREADY_USED));
    let refused = ErrorReason::LEDGER_QUARANTINED;
    assert_eq!(reason(settle(&bench, 1).unwrap_err()), refused);
    assert_eq!(reason(wait(bench.settlement.verify(&claim(1, ""), NOW)).unwrap_err()), refused);
    assert_eq!(bench.settlement.kinds_without_nonce().len(), 1);
    bench.settlement.set_quarantine(false);
    bench.toy.set(|world| world.rejection = None);
    assert_eq!(settle(&bench, 1), Ok(pending(None)));
}

#[test]
fn a_payment_that_the_chain_keeps_from_being_settled_twice_goes_on() {
    let bench = quarantined();
    bench.toy.set(|world| world.no_nonce = false);
    assert_eq!(settle(&bench, 1), Ok(pending(None)));
    assert!(bench.settlement.kinds_without_nonce().is_empty());
    assert_eq!(bench.advance(1), Ok(Progress::Moved));
    assert_eq!(bench.carry(NOW), Ok(Progress::Moved));
    assert_eq!(bench.toy.sent(), ["0:10"]);
}

#[test]
fn a_stored_payment_takes_no_new_step_and_is_not_failed() {
    let bench = Bench::new();
    bench.toy.set(|world| world.no_nonce = true);
    settle(&bench, 1).unwrap();
    bench.settlement.set_quarantine(true);
    for plan in [step(ORDER, 1, 1), NextStep::Failed(ErrorReason::INVALID_PAYLOAD)] {
        bench.toy.set(|world| world.plan = Some(plan));
        bench.advance(1).unwrap();
        bench.carry(NOW).unwrap();
        assert_eq!((bench.row(1).steps.len(), bench.row(1).answer), (0, None));
    }
    assert!(bench.toy.sent().is_empty());
    bench.settlement.set_quarantine(false);
    bench.toy.set(|world| world.plan = None);
    assert_eq!(bench.advance_at(1, NOW.plus(9)), Ok(Progress::Moved));
    assert_eq!(bench.carry(NOW), Ok(Progress::Moved));
    assert_eq!(bench.toy.sent(), ["0:10"]);
}

#[test]
fn what_was_sent_before_is_observed_and_answered() {
    let bench = Bench::new();
    bench.toy.set(|world| world.no_nonce = true);
    settle(&bench, 1).unwrap();
    bench.advance(1).unwrap();
    bench.carry(NOW).unwrap();
    bench.settlement.set_quarantine(true);
    bench.toy.set(|world| {
        world.seen = Some(Observation::Proven(proof()));
        world.plan = Some(NextStep::Settled(receipt()));
    });
    bench.advance(1).unwrap();
    assert_eq!(bench.row(1).answer, Some(Ok(receipt())));
}

#[test]
fn an_account_with_more_transactions_than_the_ledger_knows_is_seen() {
    let bench = Bench::new();
    let unknown = || wait(bench.settlement.unknown_transactions()).unwrap();
    let head = |head| bench.toy.set(|world| world.nonces = Some(Nonces { head, finalized: 0 }));
    head(5);
    assert!(unknown().is_empty(), "a lane that was never used says nothing");
    head(0);
    settle(&bench, 1).unwrap();
    bench.advance(1).unwrap();
    bench.carry(NOW).unwrap();
    for (chain, more) in [(0, false), (1, false), (2, true), (9, true)] {
        head(chain);
        let found: Vec<(LaneId, u64, u64)> = more.then(|| (lane(), chain, 1)).into_iter().collect();
        assert_eq!(unknown(), found, "{chain}");
    }
}
