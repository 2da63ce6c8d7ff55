//! The stores on PostgreSQL 15 or newer: one database for several processes and hosts.
//!
//! Every transaction is `READ COMMITTED` and protects itself: by unique keys, by row versions that are compared in the
//! statement that changes the row, and by row locks. Nothing needs an advisory lock, a notification or a session's
//! state. A transaction that the database could not serialize (SQLSTATE 40001, 40P01) is repeated; a lost answer is a
//! [`Fault`](x402_types::Fault), because the write may have taken effect.

#[cfg(feature = "ledger")]
mod budgets;
#[cfg(feature = "catalog")]
mod catalog;
#[cfg(feature = "challenges")]
mod challenges;
mod connect;
#[cfg(feature = "ledger")]
mod ended;
mod failure;
#[cfg(feature = "grants")]
mod grants;
#[cfg(feature = "grants")]
mod kept_answers;
#[cfg(feature = "ledger")]
mod ledger;
#[cfg(feature = "ledger")]
mod marks;
mod migrate;
#[cfg(feature = "requests")]
mod requests;
mod run;
#[cfg(feature = "session-keys")]
mod session_keys;
mod url;

#[cfg(feature = "ledger")]
pub use budgets::PostgresBudgets;
#[cfg(feature = "catalog")]
pub use catalog::PostgresCatalog;
#[cfg(feature = "challenges")]
pub use challenges::PostgresChallenges;
pub use connect::{Postgres, PostgresOpenError};
#[cfg(feature = "ledger")]
pub use ended::PostgresEnded;
#[cfg(feature = "grants")]
pub use grants::PostgresGrants;
#[cfg(feature = "grants")]
pub use kept_answers::PostgresKeptAnswers;
#[cfg(feature = "ledger")]
pub use ledger::PostgresLedger;
#[cfg(feature = "ledger")]
pub use marks::PostgresMarks;
#[cfg(feature = "requests")]
pub use requests::PostgresRequests;
#[cfg(feature = "session-keys")]
pub use session_keys::PostgresSessionKeys;
pub use url::{PostgresUrl, PostgresUrlError};

/// Converts a number. PostgreSQL has no unsigned 64-bit integers; times, nonces and versions beyond 2^63-1, which do
/// not occur, saturate.
#[cfg(any(feature = "catalog", feature = "ledger", feature = "challenges", feature = "requests"))]
fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(any(feature = "catalog", feature = "ledger", feature = "challenges", feature = "requests"))]
fn natural(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
