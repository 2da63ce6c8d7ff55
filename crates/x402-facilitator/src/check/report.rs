//! The findings of a check, as a table and as JSON.

use std::fmt;

use serde::Serialize;

/// The state of what was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The part works.
    Ok,
    /// The part works, and something about it should be known.
    Warning,
    /// The part does not work.
    Problem,
}

impl State {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One row of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// The part that was checked: a file, a network, an account.
    pub subject: String,
    /// The state of the part.
    pub state: State,
    /// The observation about the part.
    pub found: String,
    /// The operator's next step; empty if there is none.
    #[serde(rename = "do", skip_serializing_if = "str::is_empty")]
    pub advice: String,
}

impl Finding {
    pub(super) fn ok(subject: impl fmt::Display, found: impl fmt::Display) -> Self {
        Self { subject: subject.to_string(), state: State::Ok, found: found.to_string(), advice: String::new() }
    }

    pub(super) fn warning(subject: impl fmt::Display, found: impl fmt::Display, advice: impl fmt::Display) -> Self {
        Self { state: State::Warning, advice: advice.to_string(), ..Self::ok(subject, found) }
    }

    pub(super) fn problem(subject: impl fmt::Display, found: impl fmt::Display, advice: impl fmt::Display) -> Self {
        Self { state: State::Problem, advice: advice.to_string(), ..Self::ok(subject, found) }
    }
}

/// The findings of a check, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckReport(Vec<Finding>);

impl CheckReport {
    pub(super) fn add(&mut self, finding: Finding) {
        self.0.push(finding);
    }

    /// Returns the findings.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.0
    }

    /// Returns the worst state of all.
    #[must_use]
    pub fn state(&self) -> State {
        self.0.iter().map(|finding| finding.state).max().unwrap_or(State::Ok)
    }

    /// Returns the report as one JSON document: `state` and `findings`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({ "state": self.state(), "findings": self.0 })
    }
}

/// The report as a table: state, subject, observation, and below it what to do.
impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|finding| finding.subject.chars().count()).max().unwrap_or_default();
        for Finding { subject, state, found, advice } in &self.0 {
            writeln!(f, "{:<7}  {subject:<width$}  {found}", state.as_str())?;
            if !advice.is_empty() {
                writeln!(f, "{:<7}  {:<width$}  -> {advice}", "", "")?;
            }
        }
        Ok(())
    }
}
