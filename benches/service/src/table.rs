//! The table for `docs/benchmarks.md`.

use std::collections::BTreeMap;

use crate::facilitator::{ALL, Implementation};
use crate::measure::{Figures, percentile};
use crate::rows::{Bound, Metric, Row, UNDERLYING};

/// What was measured of a row.
pub struct Measured<'a> {
    row: &'a Row,
    runs: BTreeMap<Implementation, Vec<Figures>>,
}

impl<'a> Measured<'a> {
    pub const fn new(row: &'a Row) -> Self {
        Self { row, runs: BTreeMap::new() }
    }

    pub fn add(&mut self, implementation: Implementation, figures: Figures) {
        self.runs.entry(implementation).or_default().push(figures);
    }

    /// The median of all rounds.
    fn median(&self, metric: Metric, of: Implementation) -> Option<f64> {
        let numbers = self.runs.get(&of)?.iter().flat_map(|figures| &figures.numbers);
        let mut values: Vec<f64> = numbers.filter(|(name, _)| *name == metric).map(|(_, value)| *value).collect();
        (!values.is_empty()).then(|| percentile(&mut values, 0.5))
    }

    fn metrics(&self) -> Vec<Metric> {
        let first = self.runs.values().next().and_then(|runs| runs.first());
        first.map(|figures| figures.numbers.iter().map(|(name, _)| *name).collect()).unwrap_or_default()
    }

    /// Prints the lines of this row.
    pub fn print(&self) {
        let held_to = |metric| self.row.goals.iter().any(|(name, _)| *name == metric);
        for metric in self.metrics().into_iter().filter(|metric| held_to(*metric) || !UNDERLYING.contains(metric)) {
            let cell = |of| self.median(metric, of).map_or("-".to_owned(), number);
            let cells: Vec<_> = ALL.map(cell).into();
            let this = self.median(metric, Implementation::This);
            let ratio = |other| {
                let ratio = this? / self.median(metric, other)?;
                ratio.is_finite().then(|| format!("{}x", number(ratio)))
            };
            let ratios = [Implementation::Before, Implementation::X402Rs].map(|of| ratio(of).unwrap_or("-".to_owned()));
            let goals = self.row.goals.iter().filter(|(name, _)| *name == metric);
            let goals: Vec<_> = goals.map(|(_, bound)| self.verdict(metric, *bound)).collect();
            let (cells, ratios, goals) = (cells.join(" | "), ratios.join(" | "), goals.join("; "));
            println!("| {}: {metric} | {cells} | {ratios} | {goals} |", self.row.name);
        }
        for (implementation, runs) in &self.runs {
            let mut all = BTreeMap::<&str, usize>::new();
            for (kind, count) in runs.iter().flat_map(|figures| &figures.answers) {
                *all.entry(kind).or_default() += count;
            }
            let all: Vec<_> = all.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
            if !all.is_empty() {
                eprintln!("  {}, {}: {}", self.row.name, implementation.name(), all.join(", "));
            }
        }
    }

    fn verdict(&self, metric: Metric, bound: Bound) -> String {
        let this = self.median(metric, Implementation::This);
        let other = |of| self.median(metric, of);
        let (text, met) = match bound {
            Bound::AtMost(factor, of) => (
                format!("at most {}x of {}", number(factor), of.name()),
                this.zip(other(of)).map(|(this, other)| this <= factor * other),
            ),
            Bound::AtLeast(factor, of) => (
                format!("at least {}x of {}", number(factor), of.name()),
                this.zip(other(of)).map(|(this, other)| this >= factor * other),
            ),
            Bound::NoMore(most) => (format!("at most {}", number(most)), this.map(|this| this <= most)),
            Bound::NoLess(least) => (format!("at least {}", number(least)), this.map(|this| this >= least)),
        };
        let verdict = match met {
            Some(true) => "met",
            Some(false) => "missed",
            None => "not measured",
        };
        format!("{text}: {verdict}")
    }
}

/// Three digits.
fn number(value: f64) -> String {
    match value.abs() {
        size if !size.is_finite() => "-".to_owned(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

pub fn head() {
    let names = ALL.map(Implementation::name).join(" | ");
    println!("| | {names} | to 17f55ea | to x402-rs | goal |\n|---|{}--:|--:|---|", "--:|".repeat(ALL.len()));
}
