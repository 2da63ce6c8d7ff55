//! The durable rows.

use std::sync::Arc;

use async_trait::async_trait;
use x402_types::{Fault, PaymentKey, UnixSeconds};

use crate::{LaneId, OnceKey, OwnerId, Payment, Slot, SlotId};

/// Durable rows. Every row has a version; a write with an old version changes nothing.
///
/// The conformance suite (feature `conformance`) tests the rules of a ledger:
/// - a result that a method returned as `Ok` survives a crash of the process and of the host;
/// - an error may hide a success: a caller that gets one reads again;
/// - each method is one transaction, [`Ledger::forget`] several: it sees and leaves no half of another.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Inserts the row as version 1 with an empty history, or returns the row that already has this key and changes
    /// nothing.
    /// # Errors
    /// The store failed; the row may exist.
    async fn claim(&self, payment: Payment) -> Result<Payment, Fault>;

    /// Reads the row of a key.
    /// # Errors
    /// The store failed.
    async fn read(&self, key: &PaymentKey) -> Result<Option<Payment>, Fault>;

    /// Returns those of the payments that exist, in the order of the request.
    /// # Errors
    /// The store failed.
    async fn payments(&self, keys: &[PaymentKey]) -> Result<Vec<Payment>, Fault>;

    /// Returns the payments without an answer whose key begins with these bytes, ordered by key: for example one
    /// payer's pending payments, which count in addition to the state of the chain.
    /// # Errors
    /// The store failed.
    async fn unanswered(&self, prefix: &[u8]) -> Result<Vec<Arc<Payment>>, Fault>;

    /// Returns those of the slots that exist, in the order of the request.
    /// # Errors
    /// The store failed.
    async fn slots(&self, ids: &[SlotId]) -> Result<Vec<Slot>, Fault>;

    /// Makes `owner` the only worker of a lane for this many seconds of the ledger's clock, or renews its lease. `None`
    /// means that another owner holds it. The fence increases whenever the owner changes, and only then.
    /// # Errors
    /// The store failed; the lease may have been taken.
    async fn lease(&self, lane: &LaneId, owner: &OwnerId, seconds: u64) -> Result<Option<Lease>, Fault>;

    /// Announces that `owner` works lanes for this many seconds of the ledger's clock, with 0 that it no longer does, and
    /// returns its share of the lanes. The owner that has announced itself for the longest time without a break comes
    /// first. [`Share::ALL`] where one process at most uses the ledger.
    /// # Errors
    /// The store failed; the owner may have been announced.
    async fn share(&self, owner: &OwnerId, seconds: u64) -> Result<Share, Fault>;

    /// Returns the payments of a lane that have no answer and are due at `now`, longest due first.
    /// # Errors
    /// The store failed.
    async fn due(&self, lane: &LaneId, now: UnixSeconds, limit: usize) -> Result<Vec<PaymentKey>, Fault>;

    /// Returns the next nonce (0 for a new lane), the unused slots by ascending nonce, and of the payments whose last
    /// step is `Ready` the `ready` that have been due longest.
    /// # Errors
    /// The store failed.
    async fn lane(&self, lane: &LaneId, ready: usize) -> Result<LaneView, Fault>;

    /// Commits a write as a whole or not at all, checking fence, versions, the lane's `next`, and that each once key is
    /// held by one payment ([`crate::Step::held`]).
    /// # Errors
    /// Nothing was changed, except after [`CommitError::Fault`], which may hide a success.
    async fn commit(&self, write: Write) -> Result<(), CommitError>;

    /// Returns the ledger behind this one, if what is read here may be older than what another process has stored. A
    /// worker's writes are checked, so it may begin with an older row; answers for callers are read there.
    fn behind(&self) -> Option<&dyn Ledger> {
        None
    }

    /// Forgets answered payments whose `keep_until` is before `now` and whose slots are all used, with the slots that
    /// carried nothing else, at most `limit` payments. Returns their number. The cost of one does not depend on the
    /// number of kept rows (`conformance::forgets_by_the_row`). It may use several transactions, each of which leaves
    /// whole payments: a claim must not wait for all of them.
    /// # Errors
    /// The store failed; some payments may be gone.
    async fn forget(&self, now: UnixSeconds, limit: usize) -> Result<usize, Fault>;
}

/// The right to work a lane. It is void once another owner has taken the lane over: every write carries the fence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The lane that is leased.
    pub lane: LaneId,
    /// A number that grows with every change of the owner.
    pub fence: u64,
}

/// The share of the lanes that one of several owners should lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// The number of owners that come before this one.
    pub place: usize,
    /// The number of owners, at least 1.
    pub of: usize,
}

impl Share {
    /// The share of an owner that is alone: everything.
    pub const ALL: Self = Self { place: 0, of: 1 };

    /// Returns how many of so many lanes the owner should lease. The shares of all owners add up to the number of lanes.
    #[must_use]
    pub const fn of_lanes(self, lanes: usize) -> usize {
        match (lanes.checked_div(self.of), lanes.checked_rem(self.of)) {
            (Some(each), Some(over)) if self.place < over => each.saturating_add(1),
            (Some(each), _) => each,
            (None, _) => lanes,
        }
    }
}

/// The state of a lane at one moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LaneView {
    /// The first nonce that was never taken.
    pub next: u64,
    /// The unused slots, by ascending nonce.
    pub open: Vec<Slot>,
    /// The payments whose last step is `Ready`, longest due first, up to the limit of the request.
    pub ready: Vec<Payment>,
}

/// A change of the lane's next nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    /// The required old value.
    pub from: u64,
    /// The new value.
    pub to: u64,
}

/// Rows that change together.
///
/// With a lease it is a worker's write: every row must be of the lease's lane and the fence be the newest. Without one
/// it is a caller's, who may only change which request is being answered, whether an answer is reopened, and which
/// request received a success: such a write contains only payments, and their versions alone decide.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Write {
    /// The worker's lease.
    pub lease: Option<Lease>,
    /// The change of the lane's next nonce, if there is one.
    pub next: Option<Next>,
    /// The payments, each with the version that was read. Each must exist.
    pub payments: Vec<Payment>,
    /// The slots, each with the version that was read; version 0 means that it must not exist.
    pub slots: Vec<Slot>,
}

/// The reason why nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// Another worker has the lane, or the lease does not allow the write.
    #[error("the lane has another worker")]
    Fenced,
    /// A row or the lane's next nonce has changed since it was read.
    #[error("a row has changed since it was read")]
    Conflict,
    /// Another payment has a step under this once key that is not dead.
    #[error("the once key {0} is taken")]
    Taken(OnceKey),
    /// The store failed; the write may have taken effect.
    #[error(transparent)]
    Fault(#[from] Fault),
}
