//! The linter's input, and how it is parsed: strict JSON, with limits enforced before allocation.

use std::borrow::Cow;

use serde_json::Value;
use x402_codec::Limits;
use x402_codec::json::{self, Node};

use crate::report::{DocumentFormat, Issue, Issues, Report};
use crate::{Code, Options};

/// A document: text, bytes or a value.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Document<'a> {
    /// A document as JSON text.
    Text(&'a str),
    /// A document as JSON text that may not be UTF-8.
    Bytes(&'a [u8]),
    /// A document as a value. It is serialized to compact text first, so that there is only one engine; its numbers and
    /// keys are those of `serde_json`, which keeps the last of two equal keys.
    Value(&'a Value),
}

impl<'a> From<&'a str> for Document<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a String> for Document<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a [u8]> for Document<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(bytes)
    }
}

impl<'a> From<&'a Vec<u8>> for Document<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl<'a> From<&'a Value> for Document<'a> {
    fn from(value: &'a Value) -> Self {
        Self::Value(value)
    }
}

impl<'a> Document<'a> {
    /// Returns the text; `None` for a value that is nested too deeply to be serialized.
    pub(crate) fn bytes(self) -> Option<Cow<'a, [u8]>> {
        match self {
            Self::Text(text) => Some(Cow::Borrowed(text.as_bytes())),
            Self::Bytes(bytes) => Some(Cow::Borrowed(bytes)),
            // Serialization recurses, and a value built in memory may be deeper than any parsed one.
            Self::Value(value) if deeper(value, usize::from(DEPTH)) => None,
            Self::Value(value) => serde_json::to_vec(value).ok().map(Cow::Owned),
        }
    }
}

/// The maximum nesting depth of arrays and objects.
pub(crate) const DEPTH: u8 = 64;

fn deeper(value: &Value, limit: usize) -> bool {
    let mut open = vec![(value, 0)];
    while let Some((value, depth)) = open.pop() {
        match value {
            Value::Array(_) | Value::Object(_) if depth >= limit => return true,
            Value::Array(elements) => open.extend(elements.iter().map(|v| (v, depth + 1))),
            Value::Object(members) => open.extend(members.values().map(|v| (v, depth + 1))),
            _ => {}
        }
    }
    false
}

/// Parses the text, or reports the byte at which it stops being JSON.
pub(crate) fn read<'b>(bytes: Option<&'b [u8]>, options: &Options) -> Result<Node<'b>, Report> {
    let Some(bytes) = bytes else {
        return Err(invalid(&format!("expected at most {DEPTH} levels"), 0, 0, options.strict));
    };
    let limits = Limits { body: options.limit, depth: DEPTH, ..Limits::DEFAULT };
    json::parse(bytes, &limits).map_err(|error| {
        let what = format!("{}; expected {}", error.kind().text(), error.expected());
        invalid(&what, error.offset().unwrap_or(0), bytes.len(), options.strict)
    })
}

/// Creates a report of `INVALID_JSON`, with the byte at which parsing stopped.
pub(crate) fn invalid(what: &str, offset: usize, length: usize, strict: bool) -> Report {
    let at = offset.min(length);
    let issue = Issue::new(Code::InvalidJson, "$".to_owned(), &(at..length.min(at + 1)))
        .message(format!("the input is not JSON: {what}, at byte {offset}"));
    let mut issues = Issues::default();
    issues.push(issue);
    Report::new(DocumentFormat::Unknown, issues, None, strict)
}
