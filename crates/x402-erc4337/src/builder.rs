//! Building an operation in the only order that works: sender, nonce, call, gas, paymaster, signature.

use alloy_primitives::{Address, B256, Bytes, U256};

use crate::{
    Call, Eip7702Authorization, EntryPoint, EntryPointVersion, HashError, Init, NonceKey, Paymaster, UserOperation,
};

/// An operation that is being built; `Step` says what it needs next.
///
/// Only the last step can be hashed and signed:
///
/// ```compile_fail
/// # use x402_erc4337::{Builder, EntryPoint, EntryPointVersion};
/// # use alloy_primitives::Address;
/// let entry_point = EntryPoint::canonical(EntryPointVersion::V07, 84532);
/// Builder::new(entry_point, Address::ZERO).hash(); // no nonce, no call, no gas
/// ```
#[derive(Debug, Clone)]
pub struct Builder<Step> {
    op: UserOperation,
    entry_point: EntryPoint,
    step: Step,
}

/// The nonce comes next; before it, what makes the account.
#[derive(Debug, Clone, Copy)]
pub struct NeedsNonce(());

/// The call comes next.
#[derive(Debug, Clone, Copy)]
pub struct NeedsCall(());

/// Gas comes next.
#[derive(Debug, Clone, Copy)]
pub struct NeedsGas(());

/// Who pays comes next.
#[derive(Debug, Clone, Copy)]
pub struct NeedsPayer(());

/// Complete, with the hash that is to be signed.
#[derive(Debug, Clone, Copy)]
pub struct Signable {
    hash: B256,
}

/// Gas limits and fees of an operation. Fees of zero are for `handleOps` that the payer of the gas sends itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Gas {
    /// Gas of the execution.
    pub call_gas_limit: u128,
    /// Gas of validation and deployment.
    pub verification_gas_limit: u128,
    /// Gas paid beside what is measured.
    pub pre_verification_gas: U256,
    /// Wei for one gas, at most.
    pub max_fee_per_gas: u128,
    /// Wei for one gas above the base fee, at most.
    pub max_priority_fee_per_gas: u128,
}

/// A step that cannot be taken with these values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A call to the account itself changes the account: owners, modules, permissions.
    #[error("the account itself is the target of a call")]
    SelfTarget,
    /// A call to the EntryPoint moves the account's deposit.
    #[error("the EntryPoint is the target of a call")]
    EntryPointTarget,
    /// A batch of nothing.
    #[error("no call")]
    NoCall,
    /// Operations of 0.6 are not built here.
    #[error("operations are built for EntryPoint 0.7 and later")]
    Version,
    /// A member that this EntryPoint does not know.
    #[error(transparent)]
    Hash(#[from] HashError),
}

impl Builder<NeedsNonce> {
    /// An operation of this account at this EntryPoint.
    #[must_use]
    pub fn new(entry_point: EntryPoint, sender: Address) -> Self {
        Self { op: UserOperation { sender, ..UserOperation::default() }, entry_point, step: NeedsNonce(()) }
    }

    /// The account is not there yet: this makes it.
    #[must_use]
    pub fn init(mut self, init: Init) -> Self {
        self.op.init = init;
        self
    }

    /// The account delegates by EIP-7702 with this authorization.
    #[must_use]
    pub fn delegated(mut self, auth: Eip7702Authorization) -> Self {
        self.op.eip7702_auth = Some(auth);
        self
    }

    /// The key, which names validator and lane, and the next sequence number of that key.
    #[must_use]
    pub fn nonce(mut self, key: NonceKey, sequence: u64) -> Builder<NeedsCall> {
        self.op.nonce = key.nonce(sequence);
        self.step(NeedsCall(()))
    }
}

impl Builder<NeedsCall> {
    /// One call by ERC-7579 `execute`; its revert is the operation's.
    ///
    /// # Errors
    /// The account itself or the EntryPoint as target.
    pub fn call(self, call: &Call) -> Result<Builder<NeedsGas>, BuildError> {
        self.outward(call)?;
        Ok(self.call_data(call.execute()))
    }

    /// Several calls by ERC-7579 `execute`, all or none.
    ///
    /// # Errors
    /// No call, or one to the account itself or the EntryPoint.
    pub fn batch(self, calls: &[Call]) -> Result<Builder<NeedsGas>, BuildError> {
        if calls.is_empty() {
            return Err(BuildError::NoCall);
        }
        for call in calls {
            self.outward(call)?;
        }
        Ok(self.call_data(Call::execute_batch(calls)))
    }

    /// Anything else that the account understands, unchecked: the owner's own calls to the account go here.
    #[must_use]
    pub fn call_data(mut self, call_data: Bytes) -> Builder<NeedsGas> {
        self.op.call_data = call_data;
        self.step(NeedsGas(()))
    }

    fn outward(&self, call: &Call) -> Result<(), BuildError> {
        if call.target == self.op.sender {
            return Err(BuildError::SelfTarget);
        }
        if call.target == self.entry_point.address {
            return Err(BuildError::EntryPointTarget);
        }
        Ok(())
    }
}

impl Builder<NeedsGas> {
    /// Limits and fees.
    #[must_use]
    pub fn gas(mut self, gas: Gas) -> Builder<NeedsPayer> {
        self.op.call_gas_limit = gas.call_gas_limit;
        self.op.verification_gas_limit = gas.verification_gas_limit;
        self.op.pre_verification_gas = gas.pre_verification_gas;
        self.op.max_fee_per_gas = gas.max_fee_per_gas;
        self.op.max_priority_fee_per_gas = gas.max_priority_fee_per_gas;
        self.step(NeedsPayer(()))
    }
}

impl Builder<NeedsPayer> {
    /// The operation so far: what a paymaster is asked about.
    #[must_use]
    pub const fn operation(&self) -> &UserOperation {
        &self.op
    }

    /// A paymaster pays.
    ///
    /// # Errors
    /// A member that this EntryPoint does not know.
    pub fn paymaster(mut self, paymaster: Paymaster) -> Result<Builder<Signable>, BuildError> {
        self.op.paymaster = Some(paymaster);
        self.signable()
    }

    /// The account pays, or nobody: with fees of zero the sender of `handleOps` does.
    ///
    /// # Errors
    /// A member that this EntryPoint does not know.
    pub fn unsponsored(self) -> Result<Builder<Signable>, BuildError> {
        self.signable()
    }

    fn signable(self) -> Result<Builder<Signable>, BuildError> {
        if self.entry_point.version == EntryPointVersion::V06 {
            return Err(BuildError::Version);
        }
        let hash = self.op.hash(&self.entry_point)?;
        Ok(self.step(Signable { hash }))
    }
}

impl Builder<Signable> {
    /// What is to be signed.
    #[must_use]
    pub const fn hash(&self) -> B256 {
        self.step.hash
    }

    /// The operation without its signature.
    #[must_use]
    pub const fn operation(&self) -> &UserOperation {
        &self.op
    }

    /// The finished operation. `signature` is in the account's format.
    #[must_use]
    pub fn signed(mut self, signature: Bytes) -> UserOperation {
        self.op.signature = signature;
        self.op
    }
}

impl<Step> Builder<Step> {
    fn step<Next>(self, step: Next) -> Builder<Next> {
        Builder { op: self.op, entry_point: self.entry_point, step }
    }
}
