//! The proof of a payment by Permit2 consists of the bit of its nonce in a final block, the payee's `Transfer`, and the call
//! that made both. The status of a transaction alone proves nothing.
//!
//! Permit2 emits no event when a permit is used. A set bit alone proves only that the permit can never be used again: the
//! payer may have invalidated the nonce, or used it for another permit. A `Transfer` alone may be another payment of the
//! same sum. Both together prove the payment if the transaction with the `Transfer` called the proxy with this permit.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use alloy_primitives::{Address, B256, b256};
use x402_facilitator_core::{Observation, OnceKey, Step, StepProof, TxId};
use x402_types::{ChainId, ErrorReason, Fault};

use super::PERMIT2;
use super::calls::{NONCE_BITMAP, SettleCall, nonce_bitmap_call};
use super::check::{PermitScheme, seconds};
use super::message::Permit;
use super::probe::word_and_mask;
use crate::chain::{At, BatchRead, Call, Chain, Fate, Returned, StateBit, Watched, WatchedEvent};
use crate::exact::{VIEW_GAS, tx_id};

/// The hash `keccak256("Settled()")` of the proxies' event.
const SETTLED: B256 = b256!("0x97088ec3606cfe8cc112180570d03fcde05f9b8e1bfef8e27784eaf5dd5691b6");
/// The hash `keccak256("SettledWithPermit()")`.
const SETTLED_WITH_PERMIT: B256 = b256!("0xde5b89d10fc800c459329c382fabfcad0be0ed7e5328e01fae04e507b09ef5d8");
/// The number of transactions of others whose calls are remembered.
const KEPT: usize = 10_000;
/// The maximum number of transactions of others that are read for one observation.
const READ_AT_ONCE: usize = 64;

/// Returns (network, Permit2, payer, nonce), which Permit2 burns.
pub(super) fn once_key(network: ChainId, permit: &Permit) -> OnceKey {
    OnceKey(permit.key(network).as_bytes().to_vec())
}

/// Names what shows on the chain that a permit was used to settle this amount.
pub(super) fn watched(call: &SettleCall, since: u64) -> Watched {
    let Permit { from, token, nonce, witness, .. } = call.authorization;
    let (word, mask) = word_and_mask(nonce);
    let used =
        StateBit { contract: PERMIT2, selector: NONCE_BITMAP, arguments: [from.into_word(), B256::from(word)], mask };
    Watched::by_state(used, WatchedEvent::transfer(token, from, witness.to), call.amount.value(), since)
}

/// The origin of the transfer in a transaction of another account.
#[derive(Debug, Clone, PartialEq)]
enum Told {
    /// The transaction called the proxy itself, with this call.
    Settled(Box<SettleCall>),
    /// A proxy settled in the transaction, called by another contract: the calldata do not reveal for which permit.
    Unclear,
    /// No proxy settled in the transaction.
    Nothing,
}

/// The calls of others' transactions that made a transfer which a payment was expected to make.
#[derive(Debug, Default)]
pub(super) struct OthersCalls(Mutex<HashMap<B256, Told>>);

impl OthersCalls {
    /// Finds the transaction that settled a permit among those with the expected transfer in final blocks. `Err` with
    /// whether one of them may have settled it.
    pub(super) async fn settling(
        &self,
        chain: &impl Chain,
        scheme: PermitScheme,
        call: &SettleCall,
        candidates: &[B256],
    ) -> Result<Result<B256, bool>, Fault> {
        let (mut unclear, mut reads) = (false, 0_usize);
        // The newest come first: what settles a payment is rarely long before it.
        for transaction in candidates.iter().rev() {
            let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(transaction).cloned();
            let told = match known {
                Some(told) => Some(told),
                // The next observation goes on from here.
                None if reads >= READ_AT_ONCE => None,
                None => {
                    reads = reads.saturating_add(1);
                    let told = told(chain, scheme, *transaction).await?;
                    self.keep(*transaction, told.as_ref());
                    told
                }
            };
            match told {
                Some(Told::Settled(theirs)) if is_same(&theirs, call) => return Ok(Ok(*transaction)),
                Some(Told::Settled(_) | Told::Nothing) => {}
                Some(Told::Unclear) | None => unclear = true,
            }
        }
        Ok(Err(unclear))
    }

    fn keep(&self, transaction: B256, told: Option<&Told>) {
        let Some(told) = told else { return };
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(transaction, told.clone());
    }
}

/// Finds the transaction that settled a permit among those with the expected transfer in any blocks.
pub(super) async fn settling_now(
    chain: &impl Chain,
    scheme: PermitScheme,
    call: &SettleCall,
    candidates: &[B256],
) -> Result<Option<B256>, Fault> {
    for transaction in candidates.iter().rev().take(READ_AT_ONCE) {
        match told(chain, scheme, *transaction).await? {
            Some(Told::Settled(theirs)) if is_same(&theirs, call) => return Ok(Some(*transaction)),
            _ => {}
        }
    }
    Ok(None)
}

/// Reads the call of a mined transaction; `None` if no block contains it now, or it reverted there.
async fn told(chain: &impl Chain, scheme: PermitScheme, transaction: B256) -> Result<Option<Told>, Fault> {
    let Some(mined) = chain.mined_call(transaction).await?.filter(|mined| mined.success) else { return Ok(None) };
    let proxy = scheme.proxy();
    let settles = |(contract, event): &(Address, B256)| {
        *contract == proxy && (*event == SETTLED || *event == SETTLED_WITH_PERMIT)
    };
    Ok(Some(match SettleCall::of_call(&mined.input).filter(|_| mined.to == Some(proxy)) {
        Some(call) => Told::Settled(Box::new(call)),
        None if mined.events.iter().any(settles) => Told::Unclear,
        None => Told::Nothing,
    }))
}

/// Returns whether two calls settle one permit with one amount, in whichever spelling of the signature, and with or
/// without a permit of the token before.
fn is_same(theirs: &SettleCall, ours: &SettleCall) -> bool {
    theirs.authorization == ours.authorization && theirs.amount == ours.amount
}

/// Returns whether one of this facilitator's own transactions settled. Without the expected transfer that is no payment,
/// and no failure either: a token may emit no `Transfer`, or one of less.
async fn has_settled(
    chain: &impl Chain,
    scheme: PermitScheme,
    call: &SettleCall,
    sent: &[TxId],
) -> Result<bool, Fault> {
    for transaction in sent.iter().filter_map(|sent| sent.as_str().parse().ok()) {
        if matches!(told(chain, scheme, transaction).await?, Some(Told::Settled(ours)) if is_same(&ours, call)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Decides a step from ONE final block.
pub(super) async fn observe(
    chain: &impl Chain,
    scheme: PermitScheme,
    others: &OthersCalls,
    step: &Step,
    sent: &[TxId],
) -> Result<Observation, Fault> {
    let calls = step.parcels.iter().map(|parcel| Call::from_bytes(&parcel.bytes)).collect::<Result<Vec<_>, _>>()?;
    let none = || Fault::broken("a step without a parcel");
    let first = calls.first().ok_or_else(none)?;
    let since = calls.iter().map(|call| call.since).min().ok_or_else(none)?;
    let call = SettleCall::of_call(&first.data).ok_or_else(|| Fault::broken("a parcel that settles nothing"))?;
    let watched = watched(&call, since);
    let Fate::Set { candidates } = chain.sighting(watched).await?.fate else {
        return expiry(chain, watched, &call).await;
    };
    // This facilitator's own transactions carried this call and no other: with the expected transfer in it, and the nonce
    // used, it settled.
    let ours = candidates.iter().find(|candidate| sent.contains(&tx_id(**candidate)));
    let settling = match ours {
        Some(transaction) => Ok(*transaction),
        None => others.settling(chain, scheme, &call, &candidates).await?,
    };
    match settling {
        Ok(transaction) => Ok(Observation::Proven(StepProof::new(tx_id(transaction), call.amount))),
        Err(unclear) => {
            // A lagging node may not have had the log of the transfer.
            chain.look_again(watched);
            let late = chain.head().await?.timestamp > seconds(&call.authorization).0;
            Ok(if late && !unclear && !has_settled(chain, scheme, &call, sent).await? {
                Observation::Dead(ErrorReason::PERMIT2_INVALID_NONCE)
            } else {
                Observation::Pending
            })
        }
    }
}

/// Decides from ONE final block whether the permit has expired: by its own time, and the nonce in it.
async fn expiry(chain: &impl Chain, watched: Watched, call: &SettleCall) -> Result<Observation, Fault> {
    let Permit { from, nonce, .. } = call.authorization;
    let deadline = seconds(&call.authorization).0;
    let head = chain.head().await?;
    if head.timestamp <= deadline {
        return Ok(Observation::Pending);
    }
    let (word, mask) = word_and_mask(nonce);
    let reads = BatchRead::new().call(PERMIT2, nonce_bitmap_call(from, word), VIEW_GAS, 1);
    let answers = chain.run(&reads, At::Number(head.finalized)).await?;
    let used = answers.calls.first().and_then(Returned::word).map(|word| !(word & mask).is_zero());
    match used {
        // Permit2 requires "now <= deadline".
        Some(false) if answers.timestamp > deadline => Ok(Observation::Dead(ErrorReason::PERMIT2_DEADLINE_EXPIRED)),
        Some(true) => {
            chain.look_again(watched);
            Ok(Observation::Pending)
        }
        _ => Ok(Observation::Pending),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::keccak256;

    #[test]
    fn the_events_are_the_hashes_of_their_texts() {
        assert_eq!([SETTLED, SETTLED_WITH_PERMIT], ["Settled()", "SettledWithPermit()"].map(keccak256));
    }
}
