//! The meaning of the errors of the database: [SQLSTATE codes](https://www.postgresql.org/docs/15/errcodes-appendix.html).

use core::error::Error as _;

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;
use x402_types::Fault;

/// The reason why a transaction ended without a commit.
#[derive(Debug)]
pub(super) enum Abort<E> {
    /// The database failed.
    Database(Error),
    /// The stored rows do not allow the write, or cannot be read.
    Refused(E),
    /// Two statements saw different rows: the transaction is repeated, as if the database had found it out.
    #[cfg(any(feature = "challenges", feature = "ledger", feature = "requests", feature = "session-keys"))]
    Unstable,
}

impl<E> From<Error> for Abort<E> {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

/// Returns whether the database undid the transaction because of others that ran at the same time. It must be
/// repeated as a whole, and nothing of it has happened.
pub(super) fn is_serialization(error: &Error) -> bool {
    error
        .code()
        .is_some_and(|code| [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED].contains(code))
}

/// Describes an error without parameters of statements.
pub(super) fn text(error: &Error) -> String {
    match (error.as_db_error(), error.source()) {
        (Some(error), _) => format!("{} (SQLSTATE {})", error.message(), error.code().code()),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}

/// Creates the fault of a database at this place.
pub(super) fn fault(place: &str, what: impl core::fmt::Display) -> Fault {
    Fault::store(format_args!("PostgreSQL at {place}: {what}"))
}
