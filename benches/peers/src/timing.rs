//! Many short batches, the implementations by turns, so that a busy machine slows all of them alike.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// Runs so many iterations and says how long they took; what it prepares is not counted.
pub type Run = Box<dyn FnMut(u32) -> Duration>;

/// A step with nothing to prepare.
pub fn plain<T>(mut step: impl FnMut() -> T + 'static) -> Run {
    Box::new(move |iterations| {
        let start = Instant::now();
        for _ in 0..iterations {
            black_box(step());
        }
        start.elapsed()
    })
}

/// A step that consumes an input; what it returns is dropped while the clock runs.
pub fn each<I, T>(mut input: impl FnMut() -> I + 'static, mut step: impl FnMut(I) -> T + 'static) -> Run {
    Box::new(move |iterations| {
        let inputs: Vec<I> = (0..iterations).map(|_| input()).collect();
        let start = Instant::now();
        for input in inputs {
            black_box(step(black_box(input)));
        }
        start.elapsed()
    })
}

/// Nanoseconds an iteration, over all batches.
#[derive(Clone, Copy)]
pub struct Figures {
    pub least: f64,
    pub median: f64,
}

const BATCH: Duration = Duration::from_micros(120);
const BATCHES: usize = 1_500;
/// More would push the prepared inputs out of the cache, where a header that just came over the wire is.
const MOST_ITERATIONS: u32 = 32;

/// The figures of each, measured by turns.
pub fn measure(runs: &mut [Option<Run>]) -> Vec<Option<Figures>> {
    let mut lanes: Vec<_> = runs
        .iter_mut()
        .map(|run| run.as_mut().map(|run| (iterations_of(run), run, Vec::with_capacity(BATCHES))))
        .collect();
    for _ in 0..BATCHES {
        for (iterations, run, samples) in lanes.iter_mut().flatten() {
            samples.push(run(*iterations).as_nanos() as f64 / f64::from(*iterations));
        }
    }
    let figures = |mut samples: Vec<f64>| {
        samples.sort_by(f64::total_cmp);
        Figures { least: samples[0], median: samples[samples.len() / 2] }
    };
    lanes.into_iter().map(|lane| lane.map(|(_, _, samples)| figures(samples))).collect()
}

/// How many fill a batch, after a warm-up.
fn iterations_of(run: &mut Run) -> u32 {
    let least = (0..40).map(|_| run(4)).min().unwrap_or_default() / 4;
    let fitting = BATCH.as_nanos() / least.as_nanos().max(1);
    u32::try_from(fitting).unwrap_or(MOST_ITERATIONS).clamp(1, MOST_ITERATIONS)
}
