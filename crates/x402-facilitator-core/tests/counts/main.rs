//! What a payment costs the ledger, in calls and rows: the same however many others are pending.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)]
#![allow(unreachable_pub, missing_docs, missing_debug_implementations, reason = "a test has no public surface")]

mod many;

use x402_facilitator_core::conformance::Counts;
use x402_facilitator_core::{Ledger, Outcome};

use crate::many::Bench;

fn counts(reads: u64, commits: u64, payments_written: u64, slots_written: u64) -> Counts {
    let mut counts = Counts::default();
    (counts.reads, counts.commits) = (reads, commits);
    (counts.payments_written, counts.slots_written) = (payments_written, slots_written);
    counts
}

/// All but the number of rows that reads returned.
fn calls(bench: &Bench) -> Counts {
    let mut counts = bench.ledger.take();
    counts.rows_read = 0;
    counts
}

/// A payment is written three times: claimed; planned and in flight; decided, answered and told to the request that waits.
/// Its slot three times: signed; taken; used.
#[test]
fn a_payment_is_written_three_times_and_read_twice() {
    for n in [1, 10, 1_000] {
        let bench = Bench::new(1_000);
        calls(&bench);
        let waits = bench.claim(0..n);
        let n = u64::from(n);
        // Whether there is a row is read once, before the payment is verified.
        assert_eq!(calls(&bench), counts(n, n, n, 0), "claimed");
        bench.carry(&waits);
        // The lane is read once, since its lease is new. One commit stores payments and slots, one what the node took.
        assert_eq!(calls(&bench), counts(1, 2, n, 2 * n), "carried");
        bench.observe(&waits);
        assert_eq!(calls(&bench), counts(0, 0, 0, 0), "nothing was to be seen, and nothing is written");
        bench.land(n);
        bench.observe(&waits);
        assert_eq!(calls(&bench), counts(0, 1, n, 0), "one block is one commit");
        let told = bench.look(&waits);
        assert!(told.iter().all(|told| matches!(told, Outcome::Settled { replayed: false, .. })));
        // An answered payment is in the ledger alone. That its request receives the success is stored with the answer.
        assert_eq!(calls(&bench), counts(n, 0, 0, 0), "told");
        bench.carry(&[]);
        assert_eq!(calls(&bench), counts(0, 1, 0, n), "used");
    }
}

/// Of a payment whose request ended, the next request stores that it receives the success.
#[test]
fn a_success_that_nobody_waits_for_is_told_by_a_write_of_its_own() {
    let bench = Bench::new(10);
    let keys: Vec<_> = bench.claim(0..1).into_iter().map(|(_, key)| (bench.settlement.begin_request(), key)).collect();
    bench.carry(&keys);
    bench.land(1);
    bench.observe(&keys);
    calls(&bench);
    let claim = many::claim(0);
    let again = many::wait(bench.settlement.settle(&keys[0].0, &claim, many::NOW));
    assert!(matches!(again, Ok(Outcome::Settled { replayed: false, .. })));
    // The request takes the row over, and is told.
    assert_eq!(calls(&bench), counts(1, 1, 1, 0));
}

/// One payment beside 10 that are pending, and beside 1,000.
#[test]
fn a_payment_costs_the_same_beside_any_number_of_others() {
    let cost = |pending: u32, in_flight: usize| {
        let bench = Bench::new(in_flight);
        let others = bench.claim(0..pending);
        bench.carry(&others);
        calls(&bench);
        let one = bench.claim(pending..pending + 1);
        bench.carry(&one);
        bench.observe(&one);
        bench.look(&one);
        bench.carry(&[]);
        (calls(&bench), bench.ledger.take().rows_read)
    };
    // All of them in flight, or most of them waiting.
    assert_eq!(cost(10, 2_000), cost(1_000, 2_000));
    assert_eq!(cost(10, 4), cost(1_000, 4));
}

/// A lane that is full shows and takes nothing of what waits for it.
#[test]
fn what_finds_no_room_is_stored_to_wait_and_carried_when_there_is_some() {
    let bench = Bench::new(4);
    let waits = bench.claim(0..10);
    calls(&bench);
    bench.carry(&waits);
    assert_eq!(calls(&bench), counts(1, 2, 10, 8), "six wait, in the same commit");
    let view = || many::wait(bench.held.lane(&bench.lease.lane, 100)).unwrap();
    assert_eq!((view().open.len(), view().ready.len()), (4, 6));
    bench.carry(&[]);
    assert_eq!(calls(&bench), counts(0, 0, 0, 0), "there is no room");
    bench.land_nonce(3);
    bench.carry(&[]);
    // Three slots are used up, three payments are in flight, and the node took them.
    assert_eq!(calls(&bench), counts(0, 3, 3, 9));
    assert_eq!((view().open.len(), view().ready.len()), (4, 3));
    let oldest: Vec<_> = view().ready.iter().map(|row| row.key.clone()).collect();
    assert_eq!(oldest, waits[7..].iter().map(|(_, key)| key.clone()).collect::<Vec<_>>(), "the first came first");
}
