#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic))]

#[cfg(feature = "ledger")]
pub mod answered;
#[cfg(feature = "ledger")]
pub mod budgets;
#[cfg(feature = "catalog")]
pub mod catalog;
#[cfg(feature = "ledger")]
pub mod ended;
#[cfg(feature = "fuzz")]
#[doc(hidden)]
pub mod fuzz;
pub mod health;
#[cfg(feature = "grants")]
mod kept_answers;
#[cfg(feature = "ledger")]
pub mod marks;
#[cfg(any(
    feature = "catalog",
    feature = "challenges",
    feature = "grants",
    feature = "requests",
    feature = "session-keys"
))]
mod open;
// Without a store there is nothing to open the database for.
#[cfg(all(
    feature = "postgres",
    any(
        feature = "catalog",
        feature = "challenges",
        feature = "grants",
        feature = "ledger",
        feature = "requests",
        feature = "session-keys"
    )
))]
pub mod postgres;
#[cfg(feature = "requests")]
pub mod requests;
#[cfg(feature = "ledger")]
mod row;
#[cfg(feature = "ledger")]
mod rows;
#[cfg(feature = "session-keys")]
mod seal;
#[cfg(feature = "session-keys")]
pub mod session_keys;
pub mod sqlite;

#[cfg(any(
    feature = "catalog",
    feature = "challenges",
    feature = "grants",
    feature = "requests",
    feature = "session-keys"
))]
pub use open::Stores;
#[cfg(feature = "grants")]
pub use open::open_grants;
