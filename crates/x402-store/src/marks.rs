//! The mark of a ledger, by which an older copy of it is recognised, and the quarantine that follows.

use async_trait::async_trait;
use x402_types::{Fault, UnixSeconds};

/// The mark of a ledger. A ledger with a lower count than one that was seen before, or of another name, is an older copy
/// or a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The name of the ledger, which is random and stays for its life.
    pub ledger: String,
    /// A count that only grows. A working facilitator raises it every few seconds.
    pub count: u64,
}

/// A mark as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundMark {
    /// The mark of the ledger.
    pub mark: Mark,
    /// Whether the ledger was in another place when the mark was raised last: the database was restored into a new one, or
    /// its server has begun a new timeline.
    pub moved: bool,
}

/// The state in which payments without a nonce on a chain are refused: the ledger may have forgotten some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantine {
    /// The time at which it began.
    pub since: UnixSeconds,
    /// The sign by which an older copy was recognised.
    pub why: String,
}

/// Keeps the mark of a ledger, and its quarantine.
#[async_trait]
pub trait KeepMark: Send + Sync + std::fmt::Debug {
    /// Reads the mark; `None` in a ledger that no process has worked on yet.
    /// # Errors
    /// The store failed.
    async fn mark(&self) -> Result<Option<FoundMark>, Fault>;

    /// Raises the count of the mark by one. A ledger without a mark gets this name, and the count 1.
    /// # Errors
    /// The store failed; the mark may have been raised.
    async fn raise(&self, name: &str) -> Result<Mark, Fault>;

    /// Begins the quarantine. One that has begun already stays as it is.
    /// # Errors
    /// The store failed; the quarantine may have begun.
    async fn quarantine(&self, new: Quarantine) -> Result<(), Fault>;

    /// Reads the quarantine, if there is one.
    /// # Errors
    /// The store failed.
    async fn quarantined(&self) -> Result<Option<Quarantine>, Fault>;

    /// Ends the quarantine, and returns the one that was there.
    /// # Errors
    /// The store failed; the quarantine may have ended.
    async fn release(&self) -> Result<Option<Quarantine>, Fault>;
}
