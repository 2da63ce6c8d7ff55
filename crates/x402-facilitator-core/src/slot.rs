//! One account nonce and everything that was ever signed for it.

use serde::{Deserialize, Serialize};
use x402_types::{PaymentKey, UnixSeconds};

use crate::bytes;
use crate::{Attempt, SlotId, TxId};

/// One account nonce and everything that was ever signed for it. It is rebroadcast until the nonce is final: sent
/// again, with a higher fee, or used up by a transaction that does nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    /// Lane and account nonce.
    pub id: SlotId,
    /// The payments aboard; none in a slot that only uses up its nonce.
    #[serde(rename = "cargo", with = "bytes::keys")]
    pub payments: Vec<PaymentKey>,
    /// What was signed, oldest first. Stored before the first byte is sent.
    pub attempts: Vec<Attempt>,
    /// The newest attempt that the far side took: callers are named this one and no other. Stored after it was sent,
    /// so a crash between leaves it as it was, and the next send finds out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<TxId>,
    /// The nonce is used in a final block; on a lane that numbers nothing, it was given up.
    pub used: bool,
    /// How often it was due to be sent again since it was first sent.
    #[serde(rename = "turns")]
    pub resends: u32,
    /// When it is to be sent again.
    pub due: UnixSeconds,
    /// Counted up by the ledger with every commit; 0 in a slot that is not stored yet.
    pub version: u64,
}
