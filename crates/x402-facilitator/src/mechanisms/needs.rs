//! The contracts and the gas that the schemes of a network need, for the check of a configuration.

use alloy_primitives::Address;
use x402_evm::exact::TRANSFER_GAS;
use x402_evm::permit2::{EXACT_PROXY, PERMIT2, UPTO_PROXY};

use super::Evm;

/// A contract without which some of a network's payments are refused.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OptionalContract {
    pub(crate) address: Address,
    pub(crate) name: &'static str,
    /// The consequence if there is no such contract.
    pub(crate) without: &'static str,
    pub(crate) advice: &'static str,
}

impl Evm {
    /// Returns the contracts that the network's schemes call, and without which the others go on.
    pub(crate) fn optional_contracts(&self) -> Vec<OptionalContract> {
        let contracts = [(PERMIT2, "Permit2"), (EXACT_PROXY, "x402's proxy"), (UPTO_PROXY, "x402's proxy")];
        let without = "no contract: payments by Permit2 are refused";
        let advice = "set permit2 = false, unless it will be deployed";
        let contracts = contracts.into_iter().filter(|_| self.permit2);
        contracts.map(|(address, name)| OptionalContract { address, name, without, advice }).collect()
    }
}

/// Returns the gas limit of a simple payment.
pub(crate) const fn gas_of_a_payment() -> u64 {
    TRANSFER_GAS
}
