//! An account that cannot pay the gas.

use std::sync::Arc;

use x402_facilitator_core::{LaneId, Ledger, MemoryLedger, OwnerId, Settlement};
use x402_types::{ErrorReason, Fault, Refusal, Rejection, SchemeName};

use crate::toy::*;

/// Two schemes of one network, each with lanes of its own: one that has an empty account stops, the other does not.
#[test]
fn a_kind_stops_when_all_of_its_own_lanes_are_empty() {
    let toy = |scheme: SchemeName, account, lanes: &[&str]| {
        let toy = Toy::default();
        toy.set(|world| {
            world.scheme = Some(scheme);
            world.account = Some(account);
            world.lanes = lanes.iter().map(|account| LaneId::new(network(), account)).collect();
        });
        toy
    };
    let (exact, upto) = (toy(SchemeName::EXACT, "0xaa", &["0xaa", "0xbb"]), toy(SchemeName::UPTO, "0xbb", &["0xbb"]));
    let ledger: Arc<dyn Ledger> = Arc::new(MemoryLedger::new(|| NOW));
    let mut settlement = Settlement::new(OwnerId::from("one"), ledger);
    for toy in [&exact, &upto] {
        settlement =
            settlement.with_mechanism(Arc::new(toy.clone())).unwrap().with_rail(Arc::new(toy.clone())).unwrap();
    }
    let stopped = || settlement.stopped_kinds().into_iter().map(|kind| kind.scheme).collect::<Vec<_>>();
    assert!(stopped().is_empty());
    // The account of 0xaa is empty: 0xbb carries both kinds.
    exact.set(|world| world.unfunded = true);
    assert!(stopped().is_empty());
    // The account of 0xbb is empty: `upto` has no other.
    exact.set(|world| world.unfunded = false);
    upto.set(|world| world.unfunded = true);
    assert_eq!(stopped(), [SchemeName::UPTO]);
    exact.set(|world| world.unfunded = true);
    assert_eq!(stopped(), [SchemeName::EXACT, SchemeName::UPTO]);
    // A mechanism that names no lanes uses those of its network, whatever scheme they were added for.
    upto.set(|world| world.lanes.clear());
    exact.set(|world| world.unfunded = false);
    assert!(stopped().is_empty());
    // A lane that has no rail carries nothing.
    upto.set(|world| world.lanes = vec![LaneId::new(network(), "0xcc")]);
    assert_eq!(stopped(), [SchemeName::UPTO]);
}

#[test]
fn a_lane_that_cannot_pay_takes_no_new_payments() {
    let bench = Bench::new();
    let settle = |nonce| wait(bench.settlement.settle(&bench.settlement.begin_request(), &claim(nonce, "a"), NOW));
    let first = bench.settlement.begin_request();
    assert_eq!(wait(bench.settlement.settle(&first, &claim(1, "a"), NOW)), Ok(pending(None)));
    // Between the check and the claim it may run out of gas, too.
    let verified = wait(bench.settlement.verify(&claim(2, "a"), NOW)).unwrap();
    bench.toy.set(|world| world.unfunded = true);

    assert_eq!(bench.settlement.unfunded(), [(lane(), no_gas(&lane()))]);
    assert_eq!(wait(bench.settlement.verify(&claim(2, "a"), NOW)), Err(Refusal::Fault(no_gas(&lane()))));
    assert_eq!(settle(2), Err(Refusal::Fault(no_gas(&lane()))));
    assert_eq!(wait(bench.settlement.claim(&bench.settlement.begin_request(), verified, NOW)), Err(no_gas(&lane())));
    assert_eq!(bench.ledger.all_payments().len(), 1, "nothing is claimed");
    // What was claimed before goes on: it may still be paid when the account is.
    drop(first);
    assert_eq!(settle(1), Ok(pending(None)));

    bench.toy.set(|world| world.unfunded = false);
    assert_eq!(settle(2), Ok(pending(None)));
    assert!(bench.settlement.unfunded().is_empty());
}

#[test]
fn what_the_rail_would_never_sign_is_refused_before_it_is_claimed() {
    let bench = Bench::new();
    let settle = || wait(bench.settlement.settle(&bench.settlement.begin_request(), &claim(1, "a"), NOW));
    let verified = wait(bench.settlement.verify(&claim(1, "a"), NOW)).unwrap();
    let never = Rejection::new(ErrorReason::GAS_ABOVE_LIMIT).because("eip155:84532: a transaction needs 2 gas of 1");
    bench.toy.set(|world| world.unsigned = Some(never.clone().into()));
    let of_payer = Refusal::Rejection(never.of("payer"));
    assert_eq!(wait(bench.settlement.verify(&claim(1, "a"), NOW)), Err(of_payer.clone()));
    assert_eq!(settle(), Err(of_payer));
    // What was verified before is not claimed either.
    let claimed = wait(bench.settlement.claim(&bench.settlement.begin_request(), verified, NOW));
    assert!(matches!(claimed, Err(Fault::Unreachable { .. })), "{claimed:?}");

    // A surcharge may fall again: no refusal, but nothing is claimed.
    let at_present = Refusal::Fault(Fault::unreachable("the rail", "a transaction needs 2 gas of 1"));
    bench.toy.set(|world| world.unsigned = Some(at_present.clone()));
    assert_eq!(wait(bench.settlement.verify(&claim(1, "a"), NOW)), Err(at_present.clone()));
    assert_eq!(settle(), Err(at_present));
    assert_eq!(bench.ledger.all_payments().len(), 0);
    bench.toy.set(|world| world.unsigned = None);
    assert_eq!(settle(), Ok(pending(None)));
}

#[test]
fn a_hash_that_nobody_took_is_not_named() {
    let bench = Bench::new();
    let call = bench.settlement.begin_request();
    let key = bench.settlement.key(&claim(1, "a")).unwrap();
    let look = || wait(bench.settlement.look(&call, &key)).unwrap();
    assert_eq!(wait(bench.settlement.settle(&call, &claim(1, "a"), NOW)), Ok(pending(None)));
    bench.advance(1).unwrap();
    bench.toy.set(|world| world.cannot_send = true);
    assert_eq!(bench.carry(NOW), Err(no_gas(&lane())));
    assert_eq!(bench.ledger.all_slots()[0].attempts.len(), 1, "stored to be sent");
    assert_eq!(look(), pending(None));
    // Whether the bytes left is not known, so that nobody may read that nothing was sent.
    let message = look().to_response(&claim(1, "a").terms).error_message.unwrap();
    assert!(!message.contains("sent"), "{message}");
    let other = wait(bench.settlement.settle(&bench.settlement.begin_request(), &claim(1, "b"), NOW));
    assert_eq!(other, Ok(duplicate(None)));

    // The account has gas again: the same bytes are taken, and named.
    bench.toy.set(|world| world.cannot_send = false);
    bench.carry(NOW.plus(60)).unwrap();
    assert_eq!(bench.toy.sent(), ["0:10"]);
    assert_eq!(look(), pending(Some("0:10")));

    // A replacement that is not taken leaves the name of the one that was.
    bench.toy.set(|world| world.cannot_send = true);
    assert_eq!(bench.carry(NOW.plus(600)), Err(no_gas(&lane())));
    assert_eq!(bench.ledger.all_slots()[0].attempts.len(), 2);
    assert_eq!(look(), pending(Some("0:10")));
    bench.toy.set(|world| world.cannot_send = false);
    bench.carry(NOW.plus(6_000)).unwrap();
    assert_eq!(look(), pending(Some("0:20")));
}

#[test]
fn what_was_taken_is_noted_once() {
    let bench = Bench::new();
    wait(bench.settlement.settle(&bench.settlement.begin_request(), &claim(1, "a"), NOW)).unwrap();
    bench.advance(1).unwrap();
    bench.carry(NOW).unwrap();
    // Stored, noted, sent again: the second send of the same bytes stores nothing beside the turn.
    assert_eq!(bench.ledger.all_slots()[0].version, 2);
    bench.carry(NOW.plus(60)).unwrap();
    assert_eq!(bench.toy.sent(), ["0:10", "0:10"]);
    let slots = bench.ledger.all_slots();
    assert_eq!((slots[0].version, slots[0].taken.as_ref().map(|tx| tx.as_str())), (3, Some("0:10")));
}
