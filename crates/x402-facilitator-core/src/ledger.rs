//! Durable rows.

use async_trait::async_trait;
use x402_types::{Fault, PaymentKey, UnixSeconds};

use crate::{LaneId, OnceKey, OwnerId, Payment, Slot, SlotId};

/// Durable rows. Every row has a version; a write that names an old one changes nothing.
///
/// The rules that a ledger keeps, tested by the conformance suite (feature `conformance`):
/// - what a method answered with `Ok` survives a crash of the process and of the host;
/// - an error may hide a success: whoever gets one reads again;
/// - each method is one transaction, [`Ledger::forget`] several: it sees and leaves no half of another.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Inserts the row as version 1 with an empty history, or answers the row that has this key and changes nothing.
    ///
    /// # Errors
    /// The store failed; the row may be there.
    async fn claim(&self, payment: Payment) -> Result<Payment, Fault>;

    /// The row of a key.
    ///
    /// # Errors
    /// The store failed.
    async fn read(&self, key: &PaymentKey) -> Result<Option<Payment>, Fault>;

    /// The payments without an answer whose key begins with these bytes, by their keys: what is under way for one
    /// payer, for example, beside what a chain says.
    ///
    /// # Errors
    /// The store failed.
    async fn unanswered(&self, prefix: &[u8]) -> Result<Vec<Payment>, Fault>;

    /// The slots of that name that are there, in the order asked.
    ///
    /// # Errors
    /// The store failed.
    async fn slots(&self, ids: &[SlotId]) -> Result<Vec<Slot>, Fault>;

    /// Makes `owner` the one worker of a lane for so many seconds of the ledger's clock, or renews it. `None`:
    /// another holds it. The fence is counted up whenever the owner changes, and only then.
    ///
    /// # Errors
    /// The store failed; the lease may have been taken.
    async fn lease(&self, lane: &LaneId, owner: &OwnerId, seconds: u64) -> Result<Option<Lease>, Fault>;

    /// The payments of a lane that have no answer and are due at `now`, longest due first.
    ///
    /// # Errors
    /// The store failed.
    async fn due(&self, lane: &LaneId, now: UnixSeconds, limit: usize) -> Result<Vec<PaymentKey>, Fault>;

    /// The next nonce (0 in a lane that never had one), the slots that are not used by ascending nonce, and the
    /// payments whose last step is `Ready`, longest due first.
    ///
    /// # Errors
    /// The store failed.
    async fn lane(&self, lane: &LaneId) -> Result<LaneView, Fault>;

    /// All or nothing: fence, versions, the lane's `next`, one payment for each once key that is held
    /// ([`crate::Step::held`]).
    ///
    /// # Errors
    /// Nothing was changed, but for [`CommitError::Fault`], which may hide a success.
    async fn commit(&self, write: Write) -> Result<(), CommitError>;

    /// Forgets answered payments whose `keep_until` is before `now` and whose slots are all used, with the slots
    /// that carried nothing else, at most `limit` payments. Answers how many. What one costs does not depend on how
    /// many are kept (`conformance::forgets_by_the_row`), and it may be
    /// several transactions, each of which leaves whole payments: a claim must not wait for all of them.
    ///
    /// # Errors
    /// The store failed; some may be gone.
    async fn forget(&self, now: UnixSeconds, limit: usize) -> Result<usize, Fault>;
}

/// The right to work a lane. Worth nothing once another has taken the lane over: every write names the fence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The lane.
    pub lane: LaneId,
    /// Counted up with every change of the owner.
    pub fence: u64,
}

/// A lane at one moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LaneView {
    /// The first nonce that was never taken.
    pub next: u64,
    /// The slots that are not used, by ascending nonce.
    pub open: Vec<Slot>,
    /// The payments whose last step is `Ready`, longest due first.
    pub ready: Vec<Payment>,
}

/// The lane's next nonce, before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    /// What it must be.
    pub from: u64,
    /// What it becomes.
    pub to: u64,
}

/// Rows that change together.
///
/// With a lease it is a worker's: every row must be of the lease's lane and the fence be the newest. Without one
/// it is a caller's, who may change nothing but who is being answered, whether an answer is reopened, and that a
/// success was told: such a write holds payments only, and their versions alone decide.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Write {
    /// The worker's right.
    pub lease: Option<Lease>,
    /// The lane's next nonce, where it moves.
    pub next: Option<Next>,
    /// Payments at the version that was read. Each must be there.
    pub payments: Vec<Payment>,
    /// Slots at the version that was read; version 0: must not be there.
    pub slots: Vec<Slot>,
}

/// Why nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// Another worker has the lane, or the write is none that its lease allows.
    #[error("the lane has another worker")]
    Fenced,
    /// A row or the lane's next nonce is not at the version that was read.
    #[error("a row has changed since it was read")]
    Conflict,
    /// Another payment has a step under this once key that is not dead.
    #[error("the once key {0} is taken")]
    Taken(OnceKey),
    /// The store failed; what was written may be there.
    #[error(transparent)]
    Fault(#[from] Fault),
}
