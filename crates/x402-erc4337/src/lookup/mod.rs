//! [UserOperationEvent](https://eips.ethereum.org/EIPS/eip-4337#required-entry-point-contract-functionality): finds out
//! whether an operation landed, in a transaction of any account.
//!
//! An operation is public once it was sent, and any account may put it into a bundle. Therefore it is looked up by its
//! hash before it is sent again, and after `AA25`. An operation that is not found is unknown, never failed.

#[cfg(feature = "rpc")]
mod by_rpc;

use core::ops::RangeInclusive;

use alloy_primitives::{Address, B256, U256};
use async_trait::async_trait;
use x402_types::Fault;

use crate::Executed;

/// Finds operations that landed.
#[async_trait]
pub trait FindUserOps: Send + Sync {
    /// Returns the outcomes of these operations, in the order of the hashes, if they landed in one of these blocks. The
    /// caller decides which blocks are final: later ones may still be replaced.
    /// # Errors
    /// The node failed, so that nothing is known.
    async fn find_user_ops(&self, hashes: &[B256], blocks: RangeInclusive<u64>) -> Result<Vec<Option<Landed>>, Fault>;
}

/// Finds the operation that used a nonce.
#[async_trait]
pub trait FindNonces: Send + Sync {
    /// Finds the operation of this account that used this nonce in one of these blocks. `None` is inconclusive if the
    /// nonce is known to be used: a node may have a block's state before its logs.
    /// # Errors
    /// The node failed, so that nothing is known.
    async fn find_nonce(
        &self,
        sender: Address,
        nonce: U256,
        blocks: RangeInclusive<u64>,
    ) -> Result<Option<B256>, Fault>;
}

/// An operation that landed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Landed {
    /// The transaction that carried the operation, whatever its sender.
    pub transaction: B256,
    /// The number of the block.
    pub block: u64,
    /// The outcome of the operation.
    pub executed: Executed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trait_is_object_safe() {
        fn one(_: Option<&dyn FindUserOps>) {}
        one(None);
    }
}
