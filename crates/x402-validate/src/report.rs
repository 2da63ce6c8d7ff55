//! What the linter says.

use core::fmt;
use std::borrow::Cow;
use std::ops::Range;

use serde::Serialize;
use serde_json::Value;

use crate::{Code, Severity};

/// The format that a document is in, or is checked as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    /// x402 version 2.
    V2,
    /// x402 version 1.
    V1,
    /// A record of endpoints, each a document of its own.
    Manifest,
    /// The flat form: `payTo` at the top level, no `accepts`.
    Legacy,
    /// None of these.
    Unknown,
}

impl Version {
    /// `v2`, `v1`, `manifest`, `legacy` or `unknown`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V2 => "v2",
            Self::V1 => "v1",
            Self::Manifest => "manifest",
            Self::Legacy => "legacy",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Issue {
    /// The stable code.
    pub code: Code,
    /// Where: `$`, `accepts`, `accepts[0].payTo`, `resource.url`, `endpoints.NAME.accepts[0].payTo`.
    /// The name of an endpoint or of a header is cut at 128 bytes and then ends with `…`.
    pub field: String,
    /// What, for people.
    pub message: Cow<'static, str>,
    /// Whether it makes the document invalid.
    pub severity: Severity,
    /// What to do.
    pub fix: Option<Cow<'static, str>>,
    /// The bytes of the document that it is about; for what is missing, the object that lacks it. Of a document
    /// given as a [`Value`] these are bytes of its compact text.
    #[serde(skip)]
    pub span: Range<usize>,
}

impl Issue {
    /// An issue with the texts of the table.
    pub(crate) fn new(code: Code, field: String, span: &Range<usize>) -> Self {
        let row = code.row();
        Self {
            code,
            field,
            message: Cow::Borrowed(row.text),
            severity: row.severity,
            fix: Some(Cow::Borrowed(row.fix)),
            span: span.clone(),
        }
    }

    pub(crate) fn message(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.message = message.into();
        self
    }

    pub(crate) fn fix(mut self, fix: impl Into<Cow<'static, str>>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    pub(crate) const fn severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }
}

/// Everything that is wrong with a document.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// Whether there are no errors.
    pub valid: bool,
    /// The format.
    pub version: Version,
    /// Errors in the order of the document; with `strict` the warnings behind them.
    pub errors: Vec<Issue>,
    /// Warnings in the order of the document.
    pub warnings: Vec<Issue>,
    /// The version 2 form of what was given, if its format was recognised.
    pub normalized: Option<Value>,
}

impl Report {
    pub(crate) fn new(version: Version, issues: Issues, normalized: Option<Value>, strict: bool) -> Self {
        let Issues { mut errors, mut warnings } = issues;
        for issues in [&mut errors, &mut warnings] {
            // A stable sort: issues at one place keep the order of the rules.
            issues.sort_by_key(|issue| issue.span.start);
        }
        if strict {
            errors.extend(warnings.drain(..).map(|issue| issue.severity(Severity::Error)));
        }
        Self { valid: errors.is_empty(), version, errors, warnings, normalized }
    }

    /// Errors, then warnings.
    pub fn issues(&self) -> impl Iterator<Item = &Issue> {
        self.errors.iter().chain(&self.warnings)
    }

    /// Whether an issue of that code was found.
    #[must_use]
    pub fn has(&self, code: Code) -> bool {
        self.issues().any(|issue| issue.code == code)
    }
}

/// What was found so far. Two lists from the start: a hostile document has millions of issues, and none is copied.
#[derive(Default)]
pub(crate) struct Issues {
    errors: Vec<Issue>,
    warnings: Vec<Issue>,
}

impl Issues {
    pub(crate) fn push(&mut self, issue: Issue) {
        match issue.severity {
            Severity::Error => self.errors.push(issue),
            Severity::Warning => self.warnings.push(issue),
        }
    }
}

/// The sender's text inside a message: quoted, escaped and cut, so that it can stand in a log or a terminal.
pub(crate) fn quote(text: &str) -> String {
    const LONGEST: usize = 80;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("\"{}…\"", text.get(..end).unwrap_or_default().escape_debug()),
        None => format!("\"{}\"", text.escape_debug()),
    }
}
