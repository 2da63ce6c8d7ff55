//! Payments by Permit2 under a seeded schedule: `exact`, `upto`, and approvals that payers signed, carried by the real
//! mechanisms, the real rail and the settlement machine of two processes over one ledger, on an EVM with Permit2's own code.
//! Processes crash between any two calls, calls and transactions get lost, blocks are taken back, base fees rise, others
//! settle what they have seen, and payers take allowances and permits back.
//!
//! Invariants, numbered as in the threat model: I1 settled at most once, I2 told as new once, I5 unknown is never told as
//! failed, I6 success only for what a final block shows, I7 everything ends, I16 the books are equal. And three of these
//! schemes: no transaction is planned that the chain has shown to fail, no approval is sent that comes to nothing, and nobody
//! is charged more than the maximum.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)]
#![allow(unreachable_pub, missing_docs, missing_debug_implementations, reason = "a test has no public surface")]

mod approvals;
mod bugs;
mod chain;
mod check;
mod judge;
mod payments;
mod process;
mod scheduler;
mod wire;
mod world;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::bugs::Bug;
use crate::scheduler::{Report, run};

/// How many seeds are run; `SEEDS=1000` before a release.
fn seeds() -> u64 {
    std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(24)
}

/// Runs seeds on every core until one is over the end or `each` says stop; in no order.
fn over(seeds: u64, each: impl Fn(u64) -> bool + Sync) {
    let next = AtomicU64::new(1);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > seeds || !each(seed) {
                        break;
                    }
                }
            });
        }
    });
}

#[test]
fn every_seed_keeps_the_invariants() {
    let (seeds, start) = (seeds(), Instant::now());
    let total = Mutex::new((BTreeMap::<&str, u64>::new(), Vec::new()));
    over(seeds, |seed| {
        let Report { violations, tally } = run(seed, Bug::None);
        let mut total = total.lock().unwrap();
        for (what, times) in tally {
            *total.0.entry(what).or_default() += times;
        }
        total.1.extend(violations.into_iter().map(|violation| format!("seed {seed}: {violation}")));
        true
    });
    let (tally, mut violations) = total.into_inner().unwrap();
    println!("{seeds} seeds, {:.1} s: {tally:?}", start.elapsed().as_secs_f64());
    violations.sort();
    assert!(violations.is_empty(), "{} violations: {violations:#?}", violations.len());
    // A run in which nothing went wrong proves nothing.
    for trouble in [
        "crash",
        "call lost",
        "answer lost",
        "transaction lost",
        "reorganisation",
        "base fee raised",
        "settled by others",
        "allowance taken back",
        "permit invalidated",
        "token began to take a fee",
        "approve planned",
        "settle planned",
        "settled",
        "settled for nothing",
        "failed",
        "refused",
        "told as new",
        "told again",
        "both spellings asked for",
        "more than the maximum asked for",
        "bad approval asked for",
    ] {
        assert!(tally.get(trouble).is_some_and(|times| *times > 0), "no {trouble} in {seeds} seeds");
    }
}

/// Each bug is found by some seed, as what it is, and that seed finds it again.
#[test]
fn every_bug_is_found_by_name() {
    let seeds = 5 * seeds();
    for bug in Bug::ALL {
        let found = |seed| {
            run(seed, bug).violations.into_iter().find(|it| bug.shows_as().iter().any(|as_| it.starts_with(as_)))
        };
        let first = AtomicU64::new(u64::MAX);
        over(seeds, |seed| {
            if first.load(Ordering::Relaxed) == u64::MAX && found(seed).is_some() {
                first.fetch_min(seed, Ordering::Relaxed);
            }
            first.load(Ordering::Relaxed) == u64::MAX
        });
        let seed = first.into_inner();
        assert!(seed <= seeds, "{bug:?} was not found in {seeds} seeds");
        let violation = found(seed);
        assert!(violation.is_some(), "{bug:?} does not replay");
        println!("{bug:?}: seed {seed}: {}", violation.unwrap());
    }
}

#[test]
fn a_seed_replays_exactly() {
    for seed in [3, 4] {
        assert_eq!(run(seed, Bug::None), run(seed, Bug::None));
    }
}

/// `SEED=17 cargo test -p x402-evm --test permit2_simulation one_seed -- --ignored --nocapture`
#[test]
#[ignore = "replays the seed that is named in the environment"]
fn one_seed() {
    let seed = std::env::var("SEED").expect("SEED is set").parse().expect("SEED is a number");
    println!("{:#?}", run(seed, Bug::None));
}
