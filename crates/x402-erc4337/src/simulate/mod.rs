//! [Simulation](https://eips.ethereum.org/EIPS/eip-4337#simulation): the effect that a bundle would have if it were
//! sent now.
//!
//! The first choice is `eth_simulateV1` of `handleOps`, which returns the logs. If a node does not support it, the same
//! bundle is called on the EntryPoint (which reveals the result of validation, and hides the revert data of execution),
//! and then the steps of the EntryPoint are executed from its address, by a state override (which reveals the rest).
//!
//! A simulation does not prove inclusion: a bundle that passes here can still fail on chain, and only the chain's logs
//! prove that it landed. Time bounds are compared with the simulated block's time, which differs by some seconds from
//! the next block's.

#[cfg(feature = "rpc")]
mod overrides;
#[cfg(feature = "rpc")]
mod v1;

use core::fmt;

use alloy_primitives::{B256, Bytes, Log};
use async_trait::async_trait;
use x402_types::Fault;

use crate::{Bundle, EntryPointError, Revert};

/// Runs bundles without sending them.
#[async_trait]
pub trait SimulateUserOps: Send + Sync {
    /// Runs these bundles on the newest block, from their payers' addresses, each on the state that the earlier ones
    /// left. A refused bundle leaves no effect. The results are in the order of the bundles.
    /// # Errors
    /// The node failed, so that nothing is known.
    async fn simulate_user_ops(&self, bundles: &[Bundle]) -> Result<Vec<Simulated>, Fault>;
}

#[cfg(feature = "rpc")]
pub(crate) async fn by_rpc(chain: &crate::RpcEntryPoint, bundles: &[Bundle]) -> Result<Vec<Simulated>, Fault> {
    if bundles.is_empty() {
        return Ok(Vec::new());
    }
    match v1::simulate(chain, bundles).await? {
        Some(answers) => Ok(answers),
        None => overrides::simulate(chain, bundles).await,
    }
}

/// The simulated effect of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Simulated {
    /// The bundle would revert as a whole.
    Refused(SimulationRefusal),
    /// The bundle would be accepted, with these effects of its operations, in order.
    Executed {
        /// The effects of the operations.
        operations: Vec<SimulatedOperation>,
        /// The gas that the transaction would use, if it is known.
        gas_used: Option<u64>,
    },
}

/// The simulated effect of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimulatedOperation {
    /// The hash of the operation.
    pub hash: B256,
    /// Whether the account's call would not revert.
    pub success: bool,
    /// The revert data, if there would be any.
    pub revert: Option<Revert>,
    /// The logs of its execution, in order. `None` if the node does not provide them.
    pub logs: Option<Vec<Log>>,
}

/// The reason for which the EntryPoint would revert a bundle: usually the validation of one operation.
///
/// An operation that landed already is refused, too: with `AA10` if it created its account, with `AA23` if the account
/// itself refuses the repetition (a Kernel that has enabled the key), otherwise with `AA25`. Therefore an operation
/// must be looked up by its hash after a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimulationRefusal {
    data: Bytes,
    error: Option<EntryPointError>,
    index: Option<usize>,
}

impl Simulated {
    /// Returns whether every operation would succeed.
    #[must_use]
    pub fn is_success(&self) -> bool {
        match self {
            Self::Refused(_) => false,
            Self::Executed { operations, .. } => operations.iter().all(|op| op.success),
        }
    }
}

impl SimulationRefusal {
    /// Parses the revert data of `handleOps`.
    #[must_use]
    pub fn new(data: Bytes) -> Self {
        let error = EntryPointError::decode(&data);
        let index = match &error {
            Some(EntryPointError::FailedOp { index, .. } | EntryPointError::FailedOpWithRevert { index, .. }) => {
                usize::try_from(*index).ok()
            }
            _ => None,
        };
        Self { data, error, index }
    }

    /// Adjusts the index for a bundle that was part of a longer one.
    #[cfg(feature = "rpc")]
    pub(crate) fn at(self, index: usize) -> Self {
        Self { index: Some(index), ..self }
    }

    /// Returns the index of the operation in the bundle, if the EntryPoint gives it.
    #[must_use]
    pub const fn index(&self) -> Option<usize> {
        self.index
    }

    /// Returns the code `AAmn`, such as `AA23`.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.error.as_ref()?.code()
    }

    /// Returns whether the nonce is used, or not yet next: `AA25`.
    #[must_use]
    pub fn is_nonce(&self) -> bool {
        self.code() == Some("AA25")
    }

    /// Returns the revert data of the account, factory or paymaster, if the EntryPoint forwards them.
    #[must_use]
    pub fn inner(&self) -> Option<Revert> {
        match &self.error {
            Some(EntryPointError::FailedOpWithRevert { inner, .. }) => Some(Revert::new(inner.clone())),
            Some(EntryPointError::PostOpReverted(inner)) => Some(Revert::new(inner.clone())),
            _ => None,
        }
    }

    /// Returns the EntryPoint's error, if it was one of its own.
    #[must_use]
    pub const fn error(&self) -> Option<&EntryPointError> {
        self.error.as_ref()
    }

    /// Returns the complete revert data.
    #[must_use]
    pub const fn data(&self) -> &Bytes {
        &self.data
    }
}

impl fmt::Display for SimulationRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(index) = self.index {
            write!(f, "operation {index}: ")?;
        }
        match &self.error {
            Some(EntryPointError::FailedOp { reason, .. }) => write!(f, "{}", reason.escape_debug()),
            Some(EntryPointError::FailedOpWithRevert { reason, inner, .. }) => {
                write!(f, "{}: {}", reason.escape_debug(), Revert::new(inner.clone()))
            }
            _ => write!(f, "handleOps reverts with {}", Revert::new(self.data.clone())),
        }
    }
}

impl core::error::Error for SimulationRefusal {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::hex;

    #[test]
    fn the_trait_is_object_safe() {
        fn one(_: Option<&dyn SimulateUserOps>) {}
        one(None);
    }

    /// Checks the vectors `execution.failures`: revert data of EntryPoint 0.7.
    #[test]
    fn refusals_name_operation_code_and_cause() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../../x402-testkit/vectors/erc4337.json")).unwrap();
        for (name, shown) in [
            ("badSignature", "operation 0: AA23 reverted: InvalidSignature()"),
            ("wrongPlan", "operation 0: AA23 reverted: CallViolatesParamRule()"),
            ("afterRevocation_default", "operation 0: AA23 reverted: InvalidNonce()"),
        ] {
            let failure = &vectors["execution"]["failures"][name];
            let refused = SimulationRefusal::new(failure["data"].as_str().unwrap().parse().unwrap());
            assert_eq!((refused.index(), refused.code()), (Some(0), Some("AA23")));
            assert_eq!(refused.inner().unwrap().data().to_string(), failure["args"][2].as_str().unwrap());
            assert_eq!(refused.to_string(), shown);
        }
    }

    #[test]
    fn refusals_without_a_cause_and_other_reverts() {
        let nonce = hex!(
            "220266b6"
            "0000000000000000000000000000000000000000000000000000000000000001"
            "0000000000000000000000000000000000000000000000000000000000000040"
            "000000000000000000000000000000000000000000000000000000000000001a"
            "4141323520696e76616c6964206163636f756e74206e6f6e6365000000000000"
        );
        let refused = SimulationRefusal::new(nonce.to_vec().into());
        assert_eq!((refused.index(), refused.is_nonce()), (Some(1), true));
        assert_eq!(refused.to_string(), "operation 1: AA25 invalid account nonce");
        assert_eq!(SimulationRefusal::new(Bytes::new()).to_string(), "handleOps reverts with nothing");
        // EntryPoint 0.9, if the payer has code.
        let other = SimulationRefusal::new(hex!("ab143c06").to_vec().into());
        assert_eq!((other.index(), other.code(), other.is_nonce()), (None, None, false));
        assert_eq!(other.to_string(), "handleOps reverts with Reentrancy()");
    }
}
