//! The error of every newtype that is a string with a grammar.

/// A string that does not have the form it must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub struct Malformed {
    expected: &'static str,
}

impl Malformed {
    /// What was expected.
    #[must_use]
    pub const fn new(expected: &'static str) -> Self {
        Self { expected }
    }

    /// What was expected.
    #[must_use]
    pub const fn expected(self) -> &'static str {
        self.expected
    }
}
