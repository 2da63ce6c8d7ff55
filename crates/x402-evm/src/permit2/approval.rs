//! The payer's transaction that gives Permit2 its allowance of a token: `scheme_exact_evm.md` §2 "Phase 1: One-Time Gas
//! Approval".

use alloy_primitives::Address;
use async_trait::async_trait;
use x402_types::{AtomicAmount, ChainId, Fault};

/// An approver of a payer's tokens. [`Approver`](super::Approver) sends the transaction itself; that of an application may
/// leave the decision to a person.
#[async_trait]
pub trait ApproveToken: Send + Sync {
    /// Gives Permit2 an allowance that covers this amount of the owner's token, and returns `true` once the chain has it.
    /// It returns `false`, and sends nothing, where the allowance covers the amount already, and for an owner or on a network
    /// that it does not serve.
    ///
    /// # Errors
    /// The allowance could not be given, or it is not known in time whether it was.
    async fn approve(
        &self,
        network: ChainId,
        owner: Address,
        token: Address,
        amount: AtomicAmount,
    ) -> Result<bool, Fault>;
}
