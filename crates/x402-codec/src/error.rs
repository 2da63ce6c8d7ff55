//! Decode errors: the kind of the fault, its place, and the expected form.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error, Expected, Unexpected};
use x402_types::{ErrorReason, Rejection};

/// Generates the variant, its stable code and its text from one table.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        /// The kinds of decode errors. Each has a stable machine-readable code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum DecodeErrorKind { $($(#[$doc])* $name,)* }

        impl DecodeErrorKind {
            /// Every kind, for tables and documents.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Returns the machine-readable code: snake case, never changes.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// Returns the text for people.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

kinds! {
    /// The text is not base64 of the protocol's forms. `at` is a byte of the header value.
    InvalidBase64 = "invalid_base64", "invalid base64";
    /// The text is not UTF-8. `at` is the first wrong byte of the JSON text.
    InvalidUtf8 = "invalid_utf8", "invalid UTF-8";
    /// The text is not JSON (RFC 8259). `at` is a byte of the JSON text.
    InvalidJson = "invalid_json", "invalid JSON";
    /// An object has the same key twice. `at` is the path of the second.
    DuplicateKey = "duplicate_key", "duplicate key";
    /// Arrays and objects are nested deeper than the limit. `at` is the first bracket beyond it.
    TooDeep = "too_deep", "nested too deep";
    /// The input is larger than the limit. `at` is the first byte beyond it.
    TooLarge = "too_large", "too large";
    /// Further data follow the document. `at` is the first byte of them.
    TrailingData = "trailing_data", "data after the document";
    /// A member does not have its required form. `at` is its path.
    InvalidField = "invalid_field", "invalid field";
    /// A required member is absent. `at` is its path.
    MissingField = "missing_field", "missing field";
    /// The array `accepts` has more entries than the limit. `at` is the first entry beyond it.
    TooManyAccepts = "too_many_accepts", "too many entries in accepts";
    /// Headers contradict each other. `at` is one of them.
    AmbiguousHeader = "ambiguous_header", "ambiguous header";
    /// The outer `x402Version` is not the payment's.
    VersionMismatch = "version_mismatch", "x402 versions differ";
}

/// The place of a fault in the input.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorPlace {
    /// A byte of the input, counted from 0. In a header value the input is the decoded JSON text, except for
    /// `invalid_base64` and `too_large`, where it is the value itself.
    Byte(usize),
    /// A JSON path: `$.accepts[0].amount`.
    Path(Box<str>),
    /// A header as a whole.
    Header(&'static str),
}

impl fmt::Display for ErrorPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Byte(n) => write!(f, "byte {n}"),
            Self::Path(path) => f.write_str(path),
            Self::Header(name) => write!(f, "header {name}"),
        }
    }
}

/// The error for bytes that cannot be decoded as the expected message.
///
/// It never repeats the value that was found, only its type: values are the payer's, and may be secrets.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {}; {}", self.0.at, self.0.kind.text(), self.0.message)]
pub struct DecodeError(Box<Inner>);

#[derive(Clone, PartialEq, Eq)]
struct Inner {
    kind: DecodeErrorKind,
    at: ErrorPlace,
    offset: Option<usize>,
    message: Cow<'static, str>,
}

impl DecodeError {
    #[cold]
    pub(crate) fn at_byte(kind: DecodeErrorKind, offset: usize, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner { kind, at: ErrorPlace::Byte(offset), offset: Some(offset), message: message.into() }))
    }

    /// Creates an error at a path relative to the current value, without `$`; each enclosing object and array prepends
    /// its own part.
    #[cold]
    pub(crate) fn at_path(kind: DecodeErrorKind, path: &str, message: impl Into<Cow<'static, str>>) -> Self {
        let at = ErrorPlace::Path(format!("${path}").into());
        Self(Box::new(Inner { kind, at, offset: None, message: message.into() }))
    }

    #[cold]
    pub(crate) fn at_header(kind: DecodeErrorKind, name: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner { kind, at: ErrorPlace::Header(name), offset: None, message: message.into() }))
    }

    /// Returns the kind of the error.
    #[must_use]
    pub fn kind(&self) -> DecodeErrorKind {
        self.0.kind
    }

    /// Returns the stable machine-readable code, for example `duplicate_key`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.0.kind.code()
    }

    /// Returns the place: `byte 17`, `$.accepts[0].amount`, `header PAYMENT-SIGNATURE`.
    #[must_use]
    pub fn at(&self) -> &ErrorPlace {
        &self.0.at
    }

    /// Returns the byte of the JSON text (or of the base64) at which decoding stopped, if it is known.
    #[must_use]
    pub fn offset(&self) -> Option<usize> {
        self.0.offset
    }

    /// Returns the description of the expected form.
    #[must_use]
    pub fn expected(&self) -> &str {
        self.0.message.strip_prefix("expected ").unwrap_or(&self.0.message)
    }

    #[cold]
    pub(crate) fn at_offset(mut self, offset: usize) -> Self {
        self.0.offset = Some(offset);
        self
    }

    /// Prepends one segment to the path, and sets the offset if it is unknown.
    #[cold]
    pub(crate) fn inside(mut self, segment: Segment<'_>, offset: usize) -> Self {
        self.put_inside(&segment, offset);
        self
    }

    /// Does the same in place: a result that contains a large value need not be moved.
    #[cold]
    pub(crate) fn put_inside(&mut self, segment: &Segment<'_>, offset: usize) {
        if let ErrorPlace::Path(path) = &mut self.0.at {
            let mut longer = String::from("$");
            segment.write(&mut longer);
            longer.push_str(path.strip_prefix('$').unwrap_or(path));
            *path = longer.into();
        }
        self.0.offset.get_or_insert(offset);
    }
}

/// Converts to a rejection, since a malformed request is the payer's fault: `invalid_x402_version` for a fault of the
/// version, `invalid_payload` for all others.
impl From<DecodeError> for Rejection {
    fn from(error: DecodeError) -> Self {
        let version = matches!(error.at(), ErrorPlace::Path(path) if path.ends_with(".x402Version"));
        let reason = if version { ErrorReason::INVALID_X402_VERSION } else { ErrorReason::INVALID_PAYLOAD };
        Self::new(reason).because(error.to_string())
    }
}

impl fmt::Debug for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecodeError")
            .field("code", &self.code())
            .field("at", &self.at().to_string())
            .field("message", &self.0.message)
            .finish()
    }
}

/// The error for a message that cannot be encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The message's `Serialize` failed.
    #[error("cannot be written as JSON: {detail}")]
    Json {
        /// The error's own message.
        detail: Box<str>,
    },
    /// A header cannot contain the text.
    #[error("cannot be written as a header value")]
    Header,
}

impl EncodeError {
    pub(crate) fn json(error: &serde_json::Error) -> Self {
        Self::Json { detail: error.to_string().into() }
    }
}

/// One step of a JSON path.
pub(crate) enum Segment<'a> {
    Key(&'a str),
    Index(usize),
}

impl Segment<'_> {
    /// Formats the segment. A key is the sender's text: it is cut, and quoted and escaped unless it is a plain name, so
    /// that it is safe in a log.
    pub(crate) fn write(&self, out: &mut String) {
        const LONGEST: usize = 64;
        match *self {
            Self::Index(i) => out.push_str(&format!("[{i}]")),
            Self::Key(key) => {
                let (shown, cut) = match key.char_indices().nth(LONGEST) {
                    Some((end, _)) => (key.get(..end).unwrap_or_default(), "…"),
                    None => (key, ""),
                };
                let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
                if !key.is_empty() && key.chars().all(plain) {
                    out.push('.');
                    out.push_str(shown);
                    out.push_str(cut);
                } else {
                    out.push_str(&format!("[\"{}{cut}\"]", shown.escape_default()));
                }
            }
        }
    }
}

/// Returns the type of the found value, without its content.
fn found(unexpected: Unexpected<'_>) -> &'static str {
    match unexpected {
        Unexpected::Bool(_) => "a boolean",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "an integer",
        Unexpected::Float(_) => "a number",
        Unexpected::Char(_) | Unexpected::Str(_) => "a string",
        Unexpected::Unit | Unexpected::Option => "null",
        Unexpected::Seq => "an array",
        Unexpected::Map => "an object",
        _ => "another type",
    }
}

impl Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::at_path(DecodeErrorKind::InvalidField, "", message.to_string())
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let message = format!("expected {expected}, found {}", found(unexpected));
        Self::at_path(DecodeErrorKind::InvalidField, "", message)
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::at_path(DecodeErrorKind::InvalidField, "", format!("expected {expected}"))
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        Self::at_path(DecodeErrorKind::InvalidField, "", format!("expected {expected}, found {length} elements"))
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        let message = format!("expected one of `{}`", expected.join("`, `"));
        Self::at_path(DecodeErrorKind::InvalidField, "", message)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let message = format!("expected only the members `{}`", expected.join("`, `"));
        let mut path = String::new();
        Segment::Key(field).write(&mut path);
        Self::at_path(DecodeErrorKind::InvalidField, &path, message)
    }

    fn missing_field(field: &'static str) -> Self {
        // The name is written in this workspace, and may be a path to a nested member: `paymentPayload.accepted`.
        Self::at_path(DecodeErrorKind::MissingField, &format!(".{field}"), "expected the member to be there")
    }

    fn duplicate_field(field: &'static str) -> Self {
        let mut path = String::new();
        Segment::Key(field).write(&mut path);
        Self::at_path(DecodeErrorKind::DuplicateKey, &path, "expected each key once")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_snake_case() {
        let mut codes: Vec<_> = DecodeErrorKind::ALL.iter().map(|kind| kind.code()).collect();
        assert!(
            codes.iter().all(|code| code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit()))
        );
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), DecodeErrorKind::ALL.len());
        let readme = include_str!("../README.md");
        assert!(codes.iter().all(|code| readme.contains(&format!("`{code}`"))));
    }
}
