//! The settlement machine under a seeded scheduler: two or three processes, crashes, frozen and hung-up callers, lost calls,
//! stale nodes, reorganisations, evictions, front-runs and fees that rise, over toy schemes and a toy chain.
//!
//! Invariants, numbered as in the threat model: I1 settled at most once, I2 granted to one request, told as new
//! once, and to callers without a name once at all, I3 stored before sent, I4 a retry gets the same receipt, I5 unknown is never told as failed, I6 success
//! only for what a final block shows, I7 everything ends, I8 one order per purchase and on record.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)]
#![allow(unreachable_pub, missing_docs, missing_debug_implementations, reason = "a test has no public surface")]

mod bugs;
mod chain;
mod check;
mod client;
mod mechanisms;
mod memory;
mod process;
mod rails;
mod scheduler;
mod store;
mod wakes;
mod world;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::bugs::Bug;
use crate::scheduler::{Report, crash_at, run};

/// How many seeds are run; `SEEDS=100000` before a release.
fn seeds() -> u64 {
    std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(1_000)
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
fn a_thousand_seeds_keep_the_invariants() {
    let seeds = seeds();
    let start = Instant::now();
    let total = std::sync::Mutex::new((BTreeMap::<&str, u64>::new(), Vec::new(), 0));
    over(seeds, |seed| {
        let Report { violations, tally, polls } = run(seed, Bug::None);
        let mut total = total.lock().unwrap();
        for (what, times) in tally {
            *total.0.entry(what).or_default() += times;
        }
        total.1.extend(violations.into_iter().map(|violation| format!("seed {seed}: {violation}")));
        total.2 += polls;
        true
    });
    let (tally, mut violations, polls) = total.into_inner().unwrap();
    println!("{seeds} seeds, {polls} polls, {:.1} s: {tally:?}", start.elapsed().as_secs_f64());
    violations.sort();
    assert!(
        violations.is_empty(),
        "{} violations, first {:#?}",
        violations.len(),
        &violations[..violations.len().min(9)]
    );
    // A run in which nothing went wrong proves nothing.
    for trouble in [
        "crash",
        "freeze",
        "future dropped",
        "send lost",
        "reorganisation",
        "pool evicted",
        "meddled",
        "key used elsewhere",
        "fenced",
        "conflict",
        "keyed",
        "step rebuilt",
        "step out of parcels",
        "step dead",
        "fee raised",
        "shared transaction",
        "planned and carried together",
        "empty transaction",
        "undone by others",
        "old snapshot",
        "took effect late",
        "lane changed hands",
        "woken",
        "settled",
        "settled with an order",
        "failed",
        "reopened",
        "answered pending",
        "told as new",
        "told again",
        "told spent",
        "told duplicate",
        "told failed",
    ] {
        assert!(tally.get(trouble).is_some_and(|times| *times > 0), "no {trouble} in {seeds} seeds");
    }
}

/// The seeds of the long form that once found something.
#[test]
fn seeds_that_found_a_fault_keep_the_invariants() {
    // A slot whose commit took effect late was neither sent nor closed; and what this simulation took for a fault: a refusal
    // that was true when the ledger was asked, and late.
    for seed in [4_373, 13_155, 58_058, 60_381, 79_406, 79_511, 36_234, 36_991, 94_335] {
        assert_eq!(run(seed, Bug::None).violations, Vec::<String>::new(), "seed {seed}");
    }
}

/// Each bug is found by some seed, and that seed finds the same again.
#[test]
fn every_bug_is_found_and_replays() {
    // Two of them need a coincidence that a thousand seeds may not have; what is found early ends early.
    let seeds = 10 * seeds();
    for bug in Bug::ALL {
        let first = AtomicU64::new(u64::MAX);
        over(seeds, |seed| {
            if first.load(Ordering::Relaxed) != u64::MAX {
                return false;
            }
            if !run(seed, bug).violations.is_empty() {
                first.fetch_min(seed, Ordering::Relaxed);
            }
            true
        });
        let seed = first.into_inner();
        assert!(seed <= seeds, "{bug:?} was not found in {seeds} seeds");
        let report = run(seed, bug);
        println!("{bug:?}: seed {seed}: {}", report.violations.first().unwrap());
        assert_eq!(run(seed, bug), report, "{bug:?} does not replay");
    }
}

/// A process dies at every place where it can, one in each run, as long as there is something to settle.
#[test]
fn a_crash_anywhere_is_survived() {
    const STEP: u64 = 5;
    for seed in 1..=2 {
        let polls = crash_at(seed, u64::MAX).polls / 2;
        let bad = std::sync::Mutex::new(Vec::new());
        over(polls / STEP, |run| {
            let report = crash_at(seed, run * STEP);
            assert_eq!(report.tally["crash"], 1);
            bad.lock().unwrap().extend(report.violations.into_iter().map(|it| format!("poll {}: {it}", run * STEP)));
            true
        });
        println!("seed {seed}: {} crashes", polls / STEP);
        assert_eq!(bad.into_inner().unwrap(), Vec::<String>::new(), "seed {seed}");
    }
}

#[test]
fn a_seed_replays_exactly() {
    for seed in [3, 4, 5] {
        assert_eq!(run(seed, Bug::None), run(seed, Bug::None));
    }
}

/// `SEED=17 cargo test -p x402-facilitator-core --test simulation one_seed -- --ignored --nocapture`
#[test]
#[ignore = "replays the seed that is named in the environment"]
fn one_seed() {
    let seed = std::env::var("SEED").expect("SEED is set").parse().expect("SEED is a number");
    println!("{:#?}", run(seed, Bug::None));
}
