//! The rail: the transport of parcels.

use core::fmt;

use async_trait::async_trait;
use x402_types::{Fault, Refusal};

use crate::bytes;
use crate::{LaneId, SlotId, TxId};

/// An action that a mechanism requests, ready to be put into a transaction: a call, an operation, a charge.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Parcel {
    /// The far side's identifier: the hash of a call's bytes, a userOpHash, an idempotency key.
    pub id: [u8; 32],
    /// The content for the rail, in a form that mechanism and rail agree on. It must hold no secret.
    pub bytes: Vec<u8>,
}

impl Parcel {
    /// Makes a parcel of these bytes, with the far side's identifier.
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
    /// The transaction's identifier on the far side.
    pub tx: TxId,
    /// The exact bytes.
    pub bytes: Vec<u8>,
    /// The bid, in the rail's own unit; an attempt that replaces another bids more.
    pub fee: u128,
}

impl Attempt {
    /// Makes an attempt of signed bytes, with the transaction's identifier on the far side and the bid.
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
    /// The number in the newest block.
    pub head: u64,
    /// The number in the newest final block. Nonces below it are permanently used.
    pub finalized: u64,
}

/// The state of bytes that were sent, as far as the far side has shown it. Neither state proves anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The far side took the bytes. Their effect shows later, if at all.
    Taken,
    /// The far side has finished with the bytes, whatever it did: sending them again changes nothing. A lane without
    /// nonces closes their slot, and its payments are observed at once.
    Answered,
}

/// The transport of parcels: an EOA on a chain, a bundler, a card processor. Mechanisms share it.
#[async_trait]
pub trait Rail: Send + Sync {
    /// Returns the lanes that this rail serves.
    fn lanes(&self) -> Vec<LaneId>;

    /// Returns whether `next` may share one transaction with the parcels `aboard` (Multicall3, handleOps; `upto`
    /// never). The result must be `true` when `aboard` is empty.
    ///
    /// In a shared transaction another contract makes the calls. A parcel may be aboard only if its effect does not
    /// depend on the caller (`msg.sender`) and events of its own prove it, never the transaction's status.
    fn fits(&self, aboard: &[&Parcel], next: &Parcel) -> bool;

    /// Returns the maximum number of parcels in a transaction: so many payments are read from the ledger for each free
    /// slot, and [`Rail::fits`] is not called for a transaction with so many.
    fn most_aboard(&self) -> usize {
        1
    }

    /// Checks whether the lane can pay for one more transaction, as far as that is known without I/O. A lane that
    /// cannot takes no new payments.
    /// # Errors
    /// The lane cannot pay: the error names the account, the network, the balance and the required amount.
    fn funded(&self, _lane: &LaneId) -> Result<(), Fault> {
        Ok(())
    }

    /// Checks whether the rail would sign this parcel, alone in a transaction, as far as that is known without I/O.
    /// [`Rail::sign`] applies the same rule, so that a payment that it would never sign is refused at verification.
    /// # Errors
    /// A rejection: the parcel would never be signed. It names the network, and the required and the allowed amount. A
    /// fault: it would not be signed at present.
    fn check_parcel(&self, _parcel: &Parcel) -> Result<(), Refusal> {
        Ok(())
    }

    /// Returns the account's nonce at head and at finality; `None` if the rail has no nonces (bundler, card).
    /// # Errors
    /// The far side could not be reached.
    async fn nonces(&self, lane: &LaneId) -> Result<Option<Nonces>, Fault>;

    /// Signs the exact bytes for this slot. An empty load makes a transaction that only uses up the nonce; `replaces`
    /// requires a higher fee. Any process that finds the bytes stored may send them, so they must not depend on this
    /// process.
    /// # Errors
    /// Nothing was signed, and nothing is used up; the call will be repeated.
    async fn sign(&self, slot: &SlotId, load: &[Parcel], replaces: Option<&Attempt>) -> Result<Attempt, Fault>;

    /// Returns whether the far side may forget bytes that it took, which matters on a lane without nonces alone: a slot is
    /// given up after two resends, and its step is rebuilt. With `false` a slot is sent again until the far side has
    /// [answered](Delivery::Answered) or its payments are decided.
    fn forgets(&self) -> bool {
        true
    }

    /// Sends stored bytes; the call may be repeated. Its result never proves anything.
    /// # Errors
    /// The far side refused the bytes, or accepted them and the response was lost.
    async fn send(&self, attempt: &Attempt) -> Result<Delivery, Fault>;
}
