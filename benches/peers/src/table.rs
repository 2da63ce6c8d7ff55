//! One row a step, as Markdown.

use crate::timing::{self, Figures, Run};

/// A step, and who takes it.
pub struct Row {
    pub name: &'static str,
    goal: Option<f64>,
    runs: [Option<Run>; 3],
}

impl Row {
    /// `goal`: what ours may take of the faster peer's time.
    pub fn new(name: &'static str, goal: Option<f64>) -> Self {
        Self { name, goal, runs: [None, None, None] }
    }

    pub fn ours(self, run: Run) -> Self {
        self.with(0, run)
    }

    pub fn rs(self, run: Run) -> Self {
        self.with(1, run)
    }

    pub fn r402(self, run: Run) -> Self {
        self.with(2, run)
    }

    fn with(mut self, at: usize, run: Run) -> Self {
        self.runs[at] = Some(run);
        self
    }

    /// Measures and prints it.
    pub fn print(mut self) {
        let figures = timing::measure(&mut self.runs);
        let cells: Vec<_> = figures.iter().map(|of| of.map_or("-".to_owned(), cell)).collect();
        let ratio = |of: fn(Figures) -> f64| {
            let peer = figures[1..].iter().flatten().map(|&peer| of(peer)).reduce(f64::min)?;
            Some(of(figures[0]?) / peer)
        };
        let (median, least) = (ratio(|of| of.median), ratio(|of| of.least));
        let shown = |ratio: Option<f64>| ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}x"));
        let verdict = match (self.goal, median, least) {
            (Some(goal), Some(median), Some(least)) if median <= goal && least <= goal => "met",
            (Some(goal), Some(median), Some(least)) if median > goal && least > goal => "missed",
            (Some(_), Some(_), Some(_)) => "met by one",
            _ => "-",
        };
        println!(
            "| {} | {} | {} | {} | {} | {verdict} |",
            self.name,
            cells.join(" | "),
            shown(median),
            shown(least),
            shown(self.goal),
        );
    }
}

fn cell(of: Figures) -> String {
    format!("{:.0} ({:.0})", of.median, of.least)
}

pub fn head() {
    println!(
        "| ns: median (least) | ours | x402-rs 2.0.2 | r402 0.21.0 | ratio of medians | of leasts | goal | |\n\
         |---|--:|--:|--:|--:|--:|--:|---|"
    );
}
