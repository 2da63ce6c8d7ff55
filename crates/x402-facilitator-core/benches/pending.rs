//! One operation of the settlement machine beside so many pending payments, so many times: `benches/instructions` counts
//! what it costs.
//!
//! `cargo bench -p x402-facilitator-core --bench pending -- claim|advance|carry|observe PENDING TIMES`

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)]
#![allow(
    unreachable_pub,
    missing_docs,
    missing_debug_implementations,
    dead_code,
    reason = "a bench has no public surface"
)]

#[path = "../tests/counts/many.rs"]
mod many;

use many::{Bench, NOW, wait};
use x402_facilitator_core::MOST_IN_FLIGHT;

/// Further payments: more than the operation is repeated, and than are in flight.
const MORE: u32 = 200;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    // Without arguments, as `cargo test` starts it, one of each.
    let run: Vec<(String, u32, u32)> = match arguments.as_slice() {
        [operation, pending, times] => vec![(operation.clone(), pending.parse().unwrap(), times.parse().unwrap())],
        _ => ["claim", "advance", "carry", "observe"].map(|operation| (operation.to_owned(), 1, 1)).to_vec(),
    };
    for (operation, pending, times) in run {
        repeat(&operation, pending, times);
    }
}

fn repeat(operation: &str, pending: u32, times: u32) {
    let bench = Bench::new(MOST_IN_FLIGHT);
    // Some are in flight, and the others wait in the ledger for their turn.
    let waits = bench.claim(0..pending);
    bench.carry(&waits);
    // The same whatever `times` is, so that it drops out of a difference.
    let more = bench.claim(pending..pending + MORE);
    if operation == "carry" {
        bench.carry(&more);
    }
    for number in 0..times {
        match operation {
            "claim" => drop(bench.claim(pending + MORE + number..pending + MORE + number + 1)),
            "advance" => drop(wait(bench.settlement.draft(&more[number as usize].1, NOW)).unwrap()),
            // The oldest transaction lands, and the next payment takes its place.
            "carry" => {
                bench.land_nonce(u64::from(number) + 1);
                bench.carry(&[]);
            }
            "observe" => bench.observe(&waits[..1]),
            other => panic!("{other}: expected claim, advance, carry or observe"),
        }
    }
}
