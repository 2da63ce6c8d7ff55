//! [UserOperationEvent](https://eips.ethereum.org/EIPS/eip-4337#required-entry-point-contract-functionality): whether
//! an operation landed, in whosever transaction.
//!
//! An operation is public once it was sent, and anybody may put it into a bundle. So it is looked up by its hash before
//! it is sent again, and after `AA25`. What is not found is unknown, never failed.

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
    /// How these ended, in the order of the hashes, if they landed in one of these blocks. What is final is the
    /// caller's to say: blocks above may still be replaced.
    ///
    /// # Errors
    /// The node: nothing is known then.
    async fn find_user_ops(&self, hashes: &[B256], blocks: RangeInclusive<u64>) -> Result<Vec<Option<Landed>>, Fault>;
}

/// Finds out what used a nonce.
#[async_trait]
pub trait FindNonces: Send + Sync {
    /// The operation of this account that used this nonce in one of these blocks. `None` says nothing where the nonce
    /// is known to be used: a node may know a block's state before its logs.
    ///
    /// # Errors
    /// The node: nothing is known then.
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
    /// The transaction that carried it, whoever sent that.
    pub transaction: B256,
    /// The block's number.
    pub block: u64,
    /// How it ended.
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
