//! How parcels travel.

use core::fmt;

use async_trait::async_trait;
use x402_types::Fault;

use crate::bytes;
use crate::{LaneId, SlotId, TxId};

/// What a mechanism wants done, ready to be put into a transaction: a call, an operation, a charge.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Parcel {
    /// What the far side knows it by: the hash of a call's bytes, a userOpHash, an idempotency key.
    pub id: [u8; 32],
    /// What the rail needs, in a form that mechanism and rail agree on. Holds no secret.
    pub bytes: Vec<u8>,
}

impl Parcel {
    /// A parcel of these bytes, which the far side knows by this.
    #[must_use]
    pub const fn new(id: [u8; 32], bytes: Vec<u8>) -> Self {
        Self { id, bytes }
    }
}

impl fmt::Debug for Parcel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Parcel ")?;
        bytes::write(&self.id, f)
    }
}

/// Signed bytes that may be sent.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// What the far side will call it.
    pub tx: TxId,
    /// The exact bytes.
    pub bytes: Vec<u8>,
    /// What was bid for it, in the rail's own unit; an attempt that replaces another bids more.
    pub fee: u128,
}

impl Attempt {
    /// Signed bytes, what the far side will call them, and what was bid for them.
    #[must_use]
    pub const fn new(tx: TxId, bytes: Vec<u8>, fee: u128) -> Self {
        Self { tx, bytes, fee }
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt").field("tx", &self.tx).field("fee", &self.fee).finish_non_exhaustive()
    }
}

/// An account's nonce: the number of its transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nonces {
    /// In the newest block.
    pub head: u64,
    /// In the newest block that is final. Nonces below it are used for ever.
    pub finalized: u64,
}

/// How parcels travel: an EOA on a chain, a bundler, a card processor. Shared by mechanisms.
#[async_trait]
pub trait Rail: Send + Sync {
    /// The lanes that this rail serves.
    fn lanes(&self) -> Vec<LaneId>;

    /// May `next` share one transaction with these? (Multicall3, handleOps; `upto` never.) Always so when
    /// nothing is aboard.
    fn fits(&self, aboard: &[&Parcel], next: &Parcel) -> bool;

    /// Whether the lane can pay for one more transaction, as far as that is known without a question. A lane that
    /// cannot takes no new payments.
    ///
    /// # Errors
    /// It cannot: which account, on which network, what it has and what it needs.
    fn funded(&self, _lane: &LaneId) -> Result<(), Fault> {
        Ok(())
    }

    /// The account's nonce at head and at finality. `None`: nothing here is numbered (bundler, card).
    ///
    /// # Errors
    /// The far side could not be asked.
    async fn nonces(&self, lane: &LaneId) -> Result<Option<Nonces>, Fault>;

    /// The exact bytes for this slot. No load: a transaction that only uses up the nonce. `replaces`: a higher fee.
    /// The same bytes are sent by whoever finds them stored, so they must not need this process.
    ///
    /// # Errors
    /// Nothing was signed, nothing is used up; it will be asked again.
    async fn sign(&self, slot: &SlotId, load: &[Parcel], replaces: Option<&Attempt>) -> Result<Attempt, Fault>;

    /// Stored bytes only; may be repeated. What it answers is never proof of anything.
    ///
    /// # Errors
    /// The far side did not take it, or did and the answer was lost.
    async fn send(&self, attempt: &Attempt) -> Result<(), Fault>;
}
