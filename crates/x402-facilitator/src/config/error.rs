//! The errors of a configuration, and their places in the file.

/// An unusable configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {detail}")]
    Unreadable {
        /// The path of the file.
        path: String,
        /// The operating system's message.
        detail: String,
    },
    /// The file is not valid TOML, or does not have the expected keys.
    #[error("{0}")]
    Malformed(String),
    /// A part of the file is unusable.
    #[error("line {line}, column {column}: {error}")]
    At {
        /// The line, the first one is 1.
        line: usize,
        /// The column in characters, the first one is 1.
        column: usize,
        /// The fault of that part.
        error: Box<Self>,
    },
    /// A value is outside its range.
    #[error("{field}: expected {expected}")]
    Range {
        /// The name of the key.
        field: &'static str,
        /// The values that are allowed.
        expected: &'static str,
    },
    /// A secret is missing.
    #[error("{field}: {place} is not there or empty")]
    NoSecret {
        /// The name of the key.
        field: &'static str,
        /// The place where the secret was expected.
        place: String,
    },
    /// An encrypted key cannot be opened.
    #[error("{field}: keystore {place}: {detail}")]
    Keystore {
        /// The name of the key.
        field: &'static str,
        /// The path of the keystore.
        place: String,
        /// The reason, which contains no secret.
        detail: String,
    },
}

impl ConfigError {
    /// Returns the fault without the place in the file.
    #[must_use]
    pub fn cause(&self) -> &Self {
        match self {
            Self::At { error, .. } => error.cause(),
            other => other,
        }
    }
}

/// A fault of one entry of an array of tables.
pub(crate) struct Misplaced {
    /// The number of the entry; the first one is 0.
    pub(super) entry: usize,
    pub(super) error: ConfigError,
}

impl From<ConfigError> for Misplaced {
    fn from(error: ConfigError) -> Self {
        Self { entry: 0, error }
    }
}
