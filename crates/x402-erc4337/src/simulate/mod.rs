//! [Simulation](https://eips.ethereum.org/EIPS/eip-4337#simulation): what a bundle would do if it were sent now.
//!
//! First choice is `eth_simulateV1` of `handleOps`, which answers with the logs. Where a node does not know it, the
//! same bundle is called on the EntryPoint (which tells what validation says, and hides what execution reverts with),
//! and then the steps of the EntryPoint are made from its address, by a state override (which tells the rest).
//!
//! Simulated is not included: a bundle that passes here can still fail there, and only the chain's logs say that it
//! landed. Bounds of time are compared with the simulated block's time, which is some seconds off the next one's.

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
    /// Runs these on the newest block, from their payers' addresses and with their gas, each on the state that those
    /// before it left. One that is refused leaves nothing. The answers stand in the order of the bundles.
    ///
    /// # Errors
    /// The node: nothing is known then.
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

/// What a bundle would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Simulated {
    /// It would revert as a whole.
    Refused(Refused),
    /// It would be taken; what each of its operations would do, in their order.
    Executed {
        /// The operations.
        operations: Vec<Trial>,
        /// Gas that the transaction would use, where that is known.
        gas_used: Option<u64>,
    },
}

/// What an operation would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// Which operation.
    pub hash: B256,
    /// Whether the call of the account would not revert.
    pub success: bool,
    /// What it would revert with, where it would say something.
    pub revert: Option<Revert>,
    /// The logs of its execution, in their order. `None` where the node cannot tell.
    pub logs: Option<Vec<Log>>,
}

/// Why the EntryPoint would revert a bundle: the validation of one operation, as a rule.
///
/// An operation that landed already is refused, too: with `AA10` where it made its account, with `AA23` where the
/// account minds a second time (a Kernel that has enabled the key), else with `AA25`. So after a refusal it is looked
/// up by its hash before anything is made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    data: Bytes,
    error: Option<EntryPointError>,
    index: Option<usize>,
}

impl Simulated {
    /// Every operation would do what its account is called for.
    #[must_use]
    pub fn is_success(&self) -> bool {
        match self {
            Self::Refused(_) => false,
            Self::Executed { operations, .. } => operations.iter().all(|op| op.success),
        }
    }
}

impl Refused {
    /// Out of what `handleOps` reverted with.
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

    /// The same, where its bundle was part of a longer one.
    #[cfg(feature = "rpc")]
    pub(crate) fn at(self, index: usize) -> Self {
        Self { index: Some(index), ..self }
    }

    /// Which operation of the bundle, where the EntryPoint says it.
    #[must_use]
    pub const fn index(&self) -> Option<usize> {
        self.index
    }

    /// The code `AAmn`, as `AA23`.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.error.as_ref()?.code()
    }

    /// Whether the nonce is used, or not yet next: `AA25`.
    #[must_use]
    pub fn is_nonce(&self) -> bool {
        self.code() == Some("AA25")
    }

    /// What the account, factory or paymaster reverted with, where the EntryPoint passes it on.
    #[must_use]
    pub fn inner(&self) -> Option<Revert> {
        match &self.error {
            Some(EntryPointError::FailedOpWithRevert { inner, .. }) => Some(Revert::new(inner.clone())),
            Some(EntryPointError::PostOpReverted(inner)) => Some(Revert::new(inner.clone())),
            _ => None,
        }
    }

    /// What the EntryPoint said, if it was one of its own errors.
    #[must_use]
    pub const fn error(&self) -> Option<&EntryPointError> {
        self.error.as_ref()
    }

    /// All that it reverted with.
    #[must_use]
    pub const fn data(&self) -> &Bytes {
        &self.data
    }
}

impl fmt::Display for Refused {
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

impl core::error::Error for Refused {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::hex;

    #[test]
    fn the_trait_is_object_safe() {
        fn one(_: Option<&dyn SimulateUserOps>) {}
        one(None);
    }

    /// vectors `execution.failures`: what EntryPoint 0.7 reverted with.
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
            let refused = Refused::new(failure["data"].as_str().unwrap().parse().unwrap());
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
        let refused = Refused::new(nonce.to_vec().into());
        assert_eq!((refused.index(), refused.is_nonce()), (Some(1), true));
        assert_eq!(refused.to_string(), "operation 1: AA25 invalid account nonce");
        assert_eq!(Refused::new(Bytes::new()).to_string(), "handleOps reverts with nothing");
        // EntryPoint 0.9, where the payer has code.
        let other = Refused::new(hex!("ab143c06").to_vec().into());
        assert_eq!((other.index(), other.code(), other.is_nonce()), (None, None, false));
        assert_eq!(other.to_string(), "handleOps reverts with Reentrancy()");
    }
}
