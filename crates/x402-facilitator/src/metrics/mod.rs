//! The metrics of a facilitator, in the text format of
//! [Prometheus](https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format).
//!
//! Counters grow where things happen; gauges are read when they are requested (`gauges.rs`). Every name is in [`names`], and
//! a test compares the dashboard and the alert rules with that list.

mod counted_ledger;
mod counted_node;
pub(crate) mod gas;
pub(crate) mod gauges;
pub mod names;
mod watch;

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use self::counted_ledger::CountedLedger;
pub(crate) use self::counted_node::counted;
pub(crate) use self::watch::Watch;

/// The most series of one name. Labels come from the configuration and from closed lists; the bound holds even where a
/// reason of a refusal does not.
const MOST_SERIES: usize = 500;

/// A name with its kind and labels.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Family {
    /// The name, `x402_…`.
    pub name: &'static str,
    /// The kind of value.
    pub kind: Kind,
    /// The description in the exported text.
    pub help: &'static str,
    /// The names of the labels, in the order of their values.
    pub labels: &'static [&'static str],
}

/// The kind of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A number that only grows.
    Counter,
    /// A number of this moment.
    Gauge,
    /// A distribution of seconds over these upper bounds, in milliseconds.
    Seconds(&'static [u64]),
}

/// The counters of a facilitator. Clones count into the same numbers.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Arc<Mutex<Families>>);

/// The series of each family by the values of their labels.
type Families = BTreeMap<&'static str, BTreeMap<Vec<String>, Series>>;

#[derive(Debug, Clone, Default)]
struct Series {
    /// The counter's value; of a distribution the number of observations.
    count: u128,
    /// The sum of the observations in microseconds.
    micros: u128,
    /// The number of observations at most as long as each bound.
    buckets: Vec<u64>,
}

impl Metrics {
    /// Adds to a counter.
    pub(crate) fn add(&self, family: &Family, labels: &[&str], value: u128) {
        self.with(family, labels, |series| series.count = series.count.saturating_add(value));
    }

    /// Adds an observation to a distribution.
    pub(crate) fn observe(&self, family: &Family, labels: &[&str], took: Duration) {
        let Kind::Seconds(bounds) = family.kind else { return };
        self.with(family, labels, |series| {
            series.buckets.resize(bounds.len(), 0);
            series.count = series.count.saturating_add(1);
            series.micros = series.micros.saturating_add(took.as_micros());
            for (bucket, bound) in series.buckets.iter_mut().zip(bounds) {
                if took <= Duration::from_millis(*bound) {
                    *bucket = bucket.saturating_add(1);
                }
            }
        });
    }

    fn with(&self, family: &Family, labels: &[&str], change: impl FnOnce(&mut Series)) {
        let mut all = self.all();
        let series = all.entry(family.name).or_default();
        let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        if series.len() >= MOST_SERIES && !series.contains_key(&labels) {
            let others = family.labels.iter().map(|_| "other".to_owned()).collect();
            return change(series.entry(others).or_default());
        }
        change(series.entry(labels).or_default());
    }

    fn all(&self) -> MutexGuard<'_, Families> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes every counter and distribution into the text.
    pub(crate) fn write(&self, text: &mut Text) {
        let all = self.all().clone();
        for family in names::ALL.iter().filter(|family| family.kind != Kind::Gauge) {
            text.head(family);
            for (labels, series) in all.get(family.name).into_iter().flatten() {
                let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
                match family.kind {
                    Kind::Seconds(bounds) => text.distribution(family, &labels, bounds, series),
                    _ => text.sample(family, "", &labels, None, series.count),
                }
            }
        }
    }
}

/// A text in Prometheus' format.
#[derive(Debug, Default)]
pub(crate) struct Text(String);

impl Text {
    /// Begins a family: its kind and description.
    pub(crate) fn head(&mut self, family: &Family) {
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Seconds(_) => "histogram",
        };
        self.line(format_args!("# HELP {} {}", family.name, family.help));
        self.line(format_args!("# TYPE {} {kind}", family.name));
    }

    /// Writes a gauge of this moment, below its head.
    pub(crate) fn gauge(&mut self, family: &Family, labels: &[&str], value: impl fmt::Display) {
        self.sample(family, "", labels, None, value);
    }

    fn distribution(&mut self, family: &Family, labels: &[&str], bounds: &[u64], series: &Series) {
        for (bound, count) in bounds.iter().zip(&series.buckets) {
            let bound = seconds(u128::from(*bound).saturating_mul(1_000));
            self.sample(family, "_bucket", labels, Some(&bound), count);
        }
        self.sample(family, "_bucket", labels, Some("+Inf"), series.count);
        self.sample(family, "_sum", labels, None, seconds(series.micros));
        self.sample(family, "_count", labels, None, series.count);
    }

    fn sample(
        &mut self,
        family: &Family,
        suffix: &str,
        labels: &[&str],
        bound: Option<&str>,
        value: impl fmt::Display,
    ) {
        let pairs = family.labels.iter().copied().zip(labels.iter().copied()).chain(bound.map(|bound| ("le", bound)));
        let pairs: Vec<String> = pairs.map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) };
        self.line(format_args!("{}{suffix}{labels} {value}", family.name));
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        // To write into a String cannot fail.
        let _ = writeln!(self.0, "{line}");
    }

    /// Returns the text.
    pub(crate) fn into_string(self) -> String {
        self.0
    }
}

/// Writes microseconds as seconds.
fn seconds(micros: u128) -> String {
    let (whole, part) = (micros / 1_000_000, micros % 1_000_000);
    let text = format!("{whole}.{part:06}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text is as the format's document has it: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
    #[test]
    fn the_text_is_prometheus() {
        let metrics = Metrics::default();
        metrics.add(&names::REFUSED, &["eip155:1", "exact", "a \"quoted\"\\\nreason"], 2);
        metrics.observe(&names::REQUEST_SECONDS, &["/settle"], Duration::from_millis(30));
        metrics.observe(&names::REQUEST_SECONDS, &["/settle"], Duration::from_millis(2_500));
        let mut text = Text::default();
        metrics.write(&mut text);
        let text = text.into_string();
        for line in [
            "# TYPE x402_refused_total counter",
            "x402_refused_total{network=\"eip155:1\",scheme=\"exact\",reason=\"a \\\"quoted\\\"\\\\\\nreason\"} 2",
            "# TYPE x402_request_seconds histogram",
            "x402_request_seconds_bucket{route=\"/settle\",le=\"0.025\"} 0",
            "x402_request_seconds_bucket{route=\"/settle\",le=\"0.05\"} 1",
            "x402_request_seconds_bucket{route=\"/settle\",le=\"2.5\"} 2",
            "x402_request_seconds_bucket{route=\"/settle\",le=\"+Inf\"} 2",
            "x402_request_seconds_sum{route=\"/settle\"} 2.53",
            "x402_request_seconds_count{route=\"/settle\"} 2",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
    }

    #[test]
    fn a_peer_that_invents_reasons_does_not_fill_the_memory() {
        let metrics = Metrics::default();
        for number in 0..10 * MOST_SERIES {
            metrics.add(&names::REFUSED, &["eip155:1", "exact", &number.to_string()], 1);
        }
        let all = metrics.all();
        let series = &all[names::REFUSED.name];
        assert_eq!(series.len(), MOST_SERIES + 1);
        assert_eq!(series.values().map(|series| series.count).sum::<u128>(), 5_000);
    }
}
