//! One account nonce and everything that was ever signed for it.

use x402_types::{PaymentKey, UnixSeconds};

use crate::{Attempt, SlotId, TxId};

/// One account nonce and everything that was ever signed for it. It is rebroadcast until the nonce is final: sent
/// again, with a higher fee, or used up by a transaction that does nothing.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Slot {
    /// Lane and account nonce.
    pub id: SlotId,
    /// The payments aboard; none in a slot that only uses up its nonce.
    pub payments: Vec<PaymentKey>,
    /// What was signed, oldest first. Stored before the first byte is sent.
    pub attempts: Vec<Attempt>,
    /// The newest attempt that the far side took: callers are named this one and no other. Stored after it was sent,
    /// so a crash between leaves it as it was, and the next send finds out.
    pub taken: Option<TxId>,
    /// When the nonce was taken. 0 in slots of before this was stored.
    pub opened: UnixSeconds,
    /// The nonce is used in a final block; on a lane that numbers nothing, it was given up.
    pub used: bool,
    /// How often it was due to be sent again since it was first sent.
    pub resends: u32,
    /// When it is to be sent again.
    pub due: UnixSeconds,
    /// Counted up by the ledger with every commit; 0 in a slot that is not stored yet.
    pub version: u64,
}

impl Slot {
    /// A slot with nothing aboard and nothing signed.
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
