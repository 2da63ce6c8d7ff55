//! §4.2 steps 9 and 23: "the Facilitator queries the blockchain to check the Client balance".
//!
//! Where the credits of a plan are counted is the plan's own affair: in a contract, or in the books of who sells it
//! (Nevermined mirrors them on chain only for plans that ask for it). So the balance stands behind a trait.

use core::fmt;
use std::sync::Arc;

use alloy_primitives::{Address, U256};
use alloy_sol_types::{SolCall, sol};
use async_trait::async_trait;
use x402_evm::chain::{At, Program, ReadChain};
use x402_types::Fault;
use x402_types::nvm::PlanId;

sol! {
    /// ERC-1155: the plan's id is the token's.
    function balanceOf(address account, uint256 id) external view returns (uint256);
}

/// Gas of a view: a balance that expires reads its entries one by one.
const VIEW_GAS: u32 = 3_000_000;

/// Reads how many credits of a plan an account holds.
#[async_trait]
pub trait ReadCredits: Send + Sync {
    /// The credits that the account can use now, 0 for one that never ordered.
    ///
    /// # Errors
    /// They could not be read: unknown, not 0.
    async fn credits(&self, plan: PlanId, holder: Address) -> Result<U256, Fault>;
}

/// Credits counted by a contract: `balanceOf(holder, planId)` at the head of the chain.
#[derive(Clone)]
pub struct ChainCredits {
    chain: Arc<dyn ReadChain>,
    contract: Address,
}

impl ChainCredits {
    /// The credits that this contract counts.
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
        let program = Program::new().code_size(self.contract).call(self.contract, call.into(), VIEW_GAS, 1);
        let answers = self.chain.run(&program, At::Latest).await?;
        // A call to an address without code succeeds with nothing in it.
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
