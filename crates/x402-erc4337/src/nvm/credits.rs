//! §4.2 steps 9 and 23: "the Facilitator queries the blockchain to check the Client balance".
//!
//! Each plan decides where its credits are counted: in a contract, or in the seller's own database (Nevermined mirrors
//! them on chain only for plans that request it). Therefore the balance is read through a trait.

use core::fmt;
use std::sync::Arc;

use alloy_primitives::{Address, U256};
use alloy_sol_types::{SolCall, sol};
use async_trait::async_trait;
use x402_evm::chain::{At, BatchRead, ReadChain};
use x402_types::Fault;
use x402_types::nvm::PlanId;

sol! {
    /// ERC-1155: the plan's id is the token's id.
    function balanceOf(address account, uint256 id) external view returns (uint256);
}

/// The gas of a view: reading a balance that expires iterates over its entries.
const VIEW_GAS: u32 = 3_000_000;

/// Reads the number of a plan's credits that an account holds.
#[async_trait]
pub trait ReadCredits: Send + Sync {
    /// Returns the credits that the account can use now, 0 for an account that never ordered.
    /// # Errors
    /// The balance could not be read: it is unknown, not 0.
    async fn credits(&self, plan: PlanId, holder: Address) -> Result<U256, Fault>;
}

/// Credits counted by a contract: `balanceOf(holder, planId)` at the head of the chain.
#[derive(Clone)]
pub struct ChainCredits {
    chain: Arc<dyn ReadChain>,
    contract: Address,
}

impl ChainCredits {
    /// Creates a reader for the credits that this contract counts.
    #[must_use]
    pub fn new(chain: Arc<dyn ReadChain>, contract: Address) -> Self {
        Self { chain, contract }
    }
}

impl fmt::Debug for ChainCredits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChainCredits")
            .field("network", &self.chain.network())
            .field("contract", &self.contract)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl ReadCredits for ChainCredits {
    async fn credits(&self, plan: PlanId, holder: Address) -> Result<U256, Fault> {
        let call = balanceOfCall { account: holder, id: plan.value() }.abi_encode();
        let reads = BatchRead::new().code_size(self.contract).call(self.contract, call.into(), VIEW_GAS, 1);
        let answers = self.chain.run(&reads, At::Latest).await?;
        // A call to an address without code succeeds with empty data.
        let balance = answers.calls.first().and_then(x402_evm::chain::Returned::word);
        balance
            .filter(|_| answers.sizes.first().is_some_and(|size| *size > 0))
            .ok_or_else(|| Fault::unreachable("the plans contract", format_args!("{} has no balanceOf", self.contract)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trait_is_object_safe_and_the_selector_is_the_facts() {
        fn takes(_: Option<&dyn ReadCredits>) {}
        takes(None);
        assert_eq!(balanceOfCall::SELECTOR, [0x00, 0xfd, 0xd5, 0x8e]);
    }
}
