//! The error of everything here: a run that cannot be trusted ends with one message.

/// What can fail anywhere.
pub type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;
