//! The health of a database, which a process watches.

use std::time::Duration;

use async_trait::async_trait;
use x402_types::Fault;

/// Checks whether a database takes writes.
#[async_trait]
pub trait CheckWriter: Send + Sync + std::fmt::Debug {
    /// Checks that the database answers and took the last write, and returns how long ago that was. A working
    /// facilitator writes every few seconds, for its leases.
    /// # Errors
    /// The database does not answer, accepts no writes, or did not take the last one.
    async fn check_writer(&self) -> Result<Duration, Fault>;

    /// Waits until this process can no longer use the database and must be started again. A database that may come back
    /// is no reason.
    async fn stopped(&self);
}

#[async_trait]
impl CheckWriter for crate::sqlite::Database {
    async fn check_writer(&self) -> Result<Duration, Fault> {
        Self::check_writer(self).await
    }

    async fn stopped(&self) {
        Self::stopped(self).await;
    }
}
