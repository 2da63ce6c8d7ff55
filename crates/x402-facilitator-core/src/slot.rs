//! Slots: one account nonce, and everything that was ever signed for it.

use x402_types::{PaymentKey, UnixSeconds};

use crate::{Attempt, SlotId, TxId};

/// One account nonce and everything that was ever signed for it. It is rebroadcast until the nonce is final: sent
/// again, with a higher fee, or used up by an empty transaction.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Slot {
    /// Lane and account nonce.
    pub id: SlotId,
    /// The payments that the slot carries; none in a slot that only uses up its nonce.
    pub payments: Vec<PaymentKey>,
    /// The signed attempts, oldest first. Each is stored before its first byte is sent.
    pub attempts: Vec<Attempt>,
    /// The newest attempt that the far side accepted: only this one is named to callers. It is stored after it was
    /// sent; a crash in between leaves the old value, which the next send corrects.
    pub taken: Option<TxId>,
    /// The time at which the nonce was taken; 0 in slots that were written before this member existed.
    pub opened: UnixSeconds,
    /// Whether the nonce is used in a final block or, on a lane without nonces, the slot was given up or answered.
    pub used: bool,
    /// The number of times that the slot was due to be sent again since it was first sent.
    pub resends: u32,
    /// The time at which the slot is sent again.
    pub due: UnixSeconds,
    /// A number that the ledger increases with every commit; 0 in a slot that is not stored yet.
    pub version: u64,
}

impl Slot {
    /// Makes a slot without payments and attempts.
    #[must_use]
    pub const fn new(id: SlotId) -> Self {
        Self {
            id,
            payments: Vec::new(),
            attempts: Vec::new(),
            taken: None,
            opened: UnixSeconds(0),
            used: false,
            resends: 0,
            due: UnixSeconds(0),
            version: 0,
        }
    }
}
