//! The error of every newtype that is a string with a grammar.

/// The error for a string that does not match its grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub struct Malformed {
    expected: &'static str,
}

impl Malformed {
    /// Creates the error from a description of the expected form.
    #[must_use]
    pub const fn new(expected: &'static str) -> Self {
        Self { expected }
    }

    /// Returns the description of the expected form.
    #[must_use]
    pub const fn expected(self) -> &'static str {
        self.expected
    }
}
