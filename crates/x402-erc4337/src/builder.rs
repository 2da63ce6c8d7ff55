//! Builds an operation in the only order that works: sender, nonce, call, gas, paymaster, signature.

use alloy_primitives::{Address, B256, Bytes, U256};

use crate::{
    Call, Eip7702Authorization, EntryPoint, EntryPointVersion, HashError, Init, NonceKey, Paymaster, UserOperation,
};

/// An operation under construction; `Step` is the next required part.
///
/// Only the last step can be hashed and signed:
///
/// ```compile_fail
/// # use x402_erc4337::{OperationBuilder, EntryPoint, EntryPointVersion};
/// # use alloy_primitives::Address;
/// let entry_point = EntryPoint::canonical(EntryPointVersion::V07, 84532);
/// OperationBuilder::new(entry_point, Address::ZERO).hash(); // no nonce, no call, no gas
/// ```
#[derive(Debug, Clone)]
pub struct OperationBuilder<Step> {
    op: UserOperation,
    entry_point: EntryPoint,
    step: Step,
}

/// The step that adds the nonce and, before it, the code that creates the account.
#[derive(Debug, Clone, Copy)]
pub struct NeedsNonce(());

/// The step that adds the call.
#[derive(Debug, Clone, Copy)]
pub struct NeedsCall(());

/// The step that adds gas limits and fees.
#[derive(Debug, Clone, Copy)]
pub struct NeedsGas(());

/// The step that determines who pays for gas.
#[derive(Debug, Clone, Copy)]
pub struct NeedsPayer(());

/// A complete operation, with the hash to sign.
#[derive(Debug, Clone, Copy)]
pub struct Signable {
    hash: B256,
}

/// Gas limits and fees of an operation. Fees of zero are for bundles whose sender pays for the gas itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Gas {
    /// The gas limit of the execution.
    pub call_gas_limit: u128,
    /// The gas limit of validation and deployment.
    pub verification_gas_limit: u128,
    /// The gas that is charged in addition to the measured gas.
    pub pre_verification_gas: U256,
    /// The maximum price of one gas, in wei.
    pub max_fee_per_gas: u128,
    /// The maximum price of one gas above the base fee, in wei.
    pub max_priority_fee_per_gas: u128,
}

/// The error for values that a step does not accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OperationBuildError {
    /// A call to the account itself could change the account: owners, modules, permissions.
    #[error("expected a call to another contract, found one to the account itself")]
    SelfTarget,
    /// A call to the EntryPoint could move the account's deposit.
    #[error("expected a call to another contract, found one to the EntryPoint")]
    EntryPointTarget,
    /// The batch is empty.
    #[error("expected at least one call, found none")]
    NoCall,
    /// The EntryPoint has version 0.6, for which this crate builds no operations.
    #[error("expected EntryPoint 0.7 or later, found 0.6")]
    Version,
    /// A member is not defined for this EntryPoint.
    #[error(transparent)]
    Hash(#[from] HashError),
}

impl OperationBuilder<NeedsNonce> {
    /// Creates an operation of this account at this EntryPoint.
    #[must_use]
    pub fn new(entry_point: EntryPoint, sender: Address) -> Self {
        Self { op: UserOperation { sender, ..UserOperation::default() }, entry_point, step: NeedsNonce(()) }
    }

    /// Sets the code that creates the account, for an account that is not deployed.
    #[must_use]
    pub fn init(mut self, init: Init) -> Self {
        self.op.init = init;
        self
    }

    /// Delegates the account by EIP-7702 with this authorization.
    #[must_use]
    pub fn delegated(mut self, auth: Eip7702Authorization) -> Self {
        self.op.eip7702_auth = Some(auth);
        self
    }

    /// Sets the key, which identifies validator and channel, and the next sequence number of that key.
    #[must_use]
    pub fn nonce(mut self, key: NonceKey, sequence: u64) -> OperationBuilder<NeedsCall> {
        self.op.nonce = key.nonce(sequence);
        self.step(NeedsCall(()))
    }
}

impl OperationBuilder<NeedsCall> {
    /// Sets one call by ERC-7579 `execute`; if the call reverts, so does the operation.
    /// # Errors
    /// The target is the account itself or the EntryPoint.
    pub fn call(self, call: &Call) -> Result<OperationBuilder<NeedsGas>, OperationBuildError> {
        self.outward(call)?;
        Ok(self.call_data(call.execute()))
    }

    /// Sets several calls by ERC-7579 `execute`, all or none of which take effect.
    /// # Errors
    /// The batch is empty, or a target is the account itself or the EntryPoint.
    pub fn batch(self, calls: &[Call]) -> Result<OperationBuilder<NeedsGas>, OperationBuildError> {
        if calls.is_empty() {
            return Err(OperationBuildError::NoCall);
        }
        for call in calls {
            self.outward(call)?;
        }
        Ok(self.call_data(Call::execute_batch(calls)))
    }

    /// Sets any other calldata, without a check; the owner uses it for calls to the account itself.
    #[must_use]
    pub fn call_data(mut self, call_data: Bytes) -> OperationBuilder<NeedsGas> {
        self.op.call_data = call_data;
        self.step(NeedsGas(()))
    }

    fn outward(&self, call: &Call) -> Result<(), OperationBuildError> {
        if call.target == self.op.sender {
            return Err(OperationBuildError::SelfTarget);
        }
        if call.target == self.entry_point.address {
            return Err(OperationBuildError::EntryPointTarget);
        }
        Ok(())
    }
}

impl OperationBuilder<NeedsGas> {
    /// Sets limits and fees.
    #[must_use]
    pub fn gas(mut self, gas: Gas) -> OperationBuilder<NeedsPayer> {
        self.op.call_gas_limit = gas.call_gas_limit;
        self.op.verification_gas_limit = gas.verification_gas_limit;
        self.op.pre_verification_gas = gas.pre_verification_gas;
        self.op.max_fee_per_gas = gas.max_fee_per_gas;
        self.op.max_priority_fee_per_gas = gas.max_priority_fee_per_gas;
        self.step(NeedsPayer(()))
    }
}

impl OperationBuilder<NeedsPayer> {
    /// Returns the operation built so far, which a paymaster service needs.
    #[must_use]
    pub const fn operation(&self) -> &UserOperation {
        &self.op
    }

    /// Sets the paymaster that pays.
    /// # Errors
    /// A member is not defined for this EntryPoint.
    pub fn paymaster(mut self, paymaster: Paymaster) -> Result<OperationBuilder<Signable>, OperationBuildError> {
        self.op.paymaster = Some(paymaster);
        self.signable()
    }

    /// Completes the operation without a paymaster: the account pays or, with fees of zero, the sender of `handleOps`.
    /// # Errors
    /// A member is not defined for this EntryPoint.
    pub fn unsponsored(self) -> Result<OperationBuilder<Signable>, OperationBuildError> {
        self.signable()
    }

    fn signable(self) -> Result<OperationBuilder<Signable>, OperationBuildError> {
        if self.entry_point.version == EntryPointVersion::V06 {
            return Err(OperationBuildError::Version);
        }
        let hash = self.op.hash(&self.entry_point)?;
        Ok(self.step(Signable { hash }))
    }
}

impl OperationBuilder<Signable> {
    /// Returns the hash to sign.
    #[must_use]
    pub const fn hash(&self) -> B256 {
        self.step.hash
    }

    /// Returns the operation without its signature.
    #[must_use]
    pub const fn operation(&self) -> &UserOperation {
        &self.op
    }

    /// Returns the finished operation. `signature` is in the account's format.
    #[must_use]
    pub fn signed(mut self, signature: Bytes) -> UserOperation {
        self.op.signature = signature;
        self.op
    }
}

impl<Step> OperationBuilder<Step> {
    fn step<Next>(self, step: Next) -> OperationBuilder<Next> {
        OperationBuilder { op: self.op, entry_point: self.entry_point, step }
    }
}
