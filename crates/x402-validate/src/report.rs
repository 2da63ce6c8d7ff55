//! The linter's output.

use core::fmt;
use std::borrow::Cow;
use std::ops::Range;

use serde::Serialize;
use serde_json::Value;

use crate::{Code, Severity};

/// The format of a document, or the one by which it is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DocumentFormat {
    /// The format of x402 version 2.
    V2,
    /// The format of x402 version 1.
    V1,
    /// A record of endpoints, each a document of its own.
    Manifest,
    /// The flat form: `payTo` at the top level, no `accepts`.
    Legacy,
    /// None of the known formats.
    Unknown,
}

impl DocumentFormat {
    /// Returns `v2`, `v1`, `manifest`, `legacy` or `unknown`.
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

impl fmt::Display for DocumentFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One fault of a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Issue {
    /// The stable code.
    pub code: Code,
    /// The field: `$`, `accepts`, `accepts[0].payTo`, `resource.url`, `endpoints.NAME.accepts[0].payTo`. The name of an
    /// endpoint or of a header is cut at 128 bytes and then ends with `…`.
    pub field: String,
    /// The description of the fault, for people.
    pub message: Cow<'static, str>,
    /// The severity: an error makes the document invalid.
    pub severity: Severity,
    /// The remedy, if there is one.
    pub fix: Option<Cow<'static, str>>,
    /// The affected bytes of the document; for a missing member, those of the object that lacks it. For a document
    /// given as a [`Value`], the span refers to its compact text.
    #[serde(skip)]
    pub span: Range<usize>,
}

impl Issue {
    /// Creates an issue with the texts of the table.
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

/// All issues of a document.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// Whether there are no errors.
    pub valid: bool,
    /// The format of the document.
    pub version: DocumentFormat,
    /// The errors in the order of the document, with `strict` followed by the warnings.
    pub errors: Vec<Issue>,
    /// The warnings in the order of the document.
    pub warnings: Vec<Issue>,
    /// The version 2 form of the document, if its format was recognised.
    pub normalized: Option<Value>,
}

impl Report {
    pub(crate) fn new(version: DocumentFormat, issues: Issues, normalized: Option<Value>, strict: bool) -> Self {
        let Issues { mut errors, mut warnings } = issues;
        for issues in [&mut errors, &mut warnings] {
            // The sort is stable: issues at one place keep the order of the rules.
            issues.sort_by_key(|issue| issue.span.start);
        }
        if strict {
            errors.extend(warnings.drain(..).map(|issue| issue.severity(Severity::Error)));
        }
        Self { valid: errors.is_empty(), version, errors, warnings, normalized }
    }

    /// Creates the report on nothing: no document was found.
    pub(crate) fn empty() -> Self {
        Self::new(DocumentFormat::Unknown, Issues::default(), None, false)
    }

    /// Adds what was found beside the document.
    pub(crate) fn add(&mut self, issues: Vec<Issue>, strict: bool) {
        for issue in issues {
            match issue.severity {
                Severity::Warning if !strict => self.warnings.push(issue),
                _ => self.errors.push(issue.severity(Severity::Error)),
            }
        }
        self.valid = self.errors.is_empty();
    }

    /// Iterates over the errors, then over the warnings.
    pub fn issues(&self) -> impl Iterator<Item = &Issue> {
        self.errors.iter().chain(&self.warnings)
    }

    /// Returns whether an issue with this code was found.
    #[must_use]
    pub fn has(&self, code: Code) -> bool {
        self.issues().any(|issue| issue.code == code)
    }
}

/// The issues found so far. They are kept in two lists from the start, so that none is copied: a hostile document may
/// have millions of issues.
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

/// Quotes, escapes and cuts the sender's text, so that it is safe in a log or a terminal.
pub(crate) fn quote(text: &str) -> String {
    const LONGEST: usize = 80;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("\"{}…\"", text.get(..end).unwrap_or_default().escape_debug()),
        None => format!("\"{}\"", text.escape_debug()),
    }
}
