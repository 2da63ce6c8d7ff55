//! [VerifyingPaymaster](https://github.com/eth-infinitism/account-abstraction/blob/v0.7.0/contracts/samples/VerifyingPaymaster.sol)
//! of EntryPoint 0.7: it pays for operations that its signer signed.

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_sol_types::SolValue;
use x402_evm::key::Sign;
use x402_types::Fault;

use crate::packed::halves;
use crate::{EntryPointVersion, MAX_UINT48, PackError, Paymaster, UserOperation};

/// A VerifyingPaymaster on one chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyingPaymaster {
    /// The contract.
    pub address: Address,
    /// Its chain.
    pub chain_id: u64,
    /// Gas of its validation.
    pub verification_gas_limit: u128,
    /// Gas of its `postOp`, which does nothing.
    pub post_op_gas_limit: u128,
}

/// An operation that is not sponsored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SponsorError {
    /// A bound beyond 48 bits.
    #[error("a time beyond 2^48-1")]
    Time,
    /// An operation that EntryPoint 0.7 does not know.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// The signer failed.
    #[error(transparent)]
    Signer(#[from] Fault),
}

impl VerifyingPaymaster {
    /// The contract, with 100,000 gas for its validation and none for its `postOp`.
    #[must_use]
    pub const fn new(address: Address, chain_id: u64) -> Self {
        Self { address, chain_id, verification_gas_limit: 100_000, post_op_gas_limit: 0 }
    }

    /// What its signer signs by EIP-191 for this operation, valid between two seconds, both included; `valid_until`
    /// of 0 is forever. The operation's signature and its paymaster do not count.
    ///
    /// # Errors
    /// A bound beyond 48 bits, or an operation that EntryPoint 0.7 does not know.
    pub fn hash(&self, op: &UserOperation, valid_until: u64, valid_after: u64) -> Result<B256, SponsorError> {
        if valid_until > MAX_UINT48 || valid_after > MAX_UINT48 {
            return Err(SponsorError::Time);
        }
        let packed = UserOperation { paymaster: None, ..op.clone() }.pack(EntryPointVersion::V07)?;
        let limits: U256 = halves(self.verification_gas_limit, self.post_op_gas_limit).into();
        // "keccak256(abi.encode(sender, nonce, keccak256(initCode), keccak256(callData), accountGasLimits,
        // uint256(bytes32(paymasterAndData[20:52])), preVerificationGas, gasFees, block.chainid, address(this),
        // validUntil, validAfter))"
        let parts = (
            (packed.sender, packed.nonce, keccak256(&packed.init_code), keccak256(&packed.call_data)),
            (packed.account_gas_limits, limits, packed.pre_verification_gas, packed.gas_fees),
            (U256::from(self.chain_id), self.address, U256::from(valid_until), U256::from(valid_after)),
        );
        Ok(keccak256(parts.abi_encode()))
    }

    /// What it is given: `abi.encode(uint48 validUntil, uint48 validAfter) ‖ signature`.
    #[must_use]
    pub fn data(valid_until: u64, valid_after: u64, signature: &[u8]) -> Bytes {
        let times = (U256::from(valid_until), U256::from(valid_after)).abi_encode();
        [&times[..], signature].concat().into()
    }

    /// Has the signer sign for an operation whose gas and fees are set. The answer goes into the operation before its
    /// own hash is made: the account signs over it.
    ///
    /// # Errors
    /// A bound beyond 48 bits, an operation of another version, or a signer that fails.
    pub async fn sponsor<S: Sign>(
        &self,
        signer: &S,
        op: &UserOperation,
        valid_until: u64,
        valid_after: u64,
    ) -> Result<Paymaster, SponsorError> {
        let hash = self.hash(op, valid_until, valid_after)?;
        let signature = signer.sign_message(hash.as_slice()).await?;
        Ok(Paymaster {
            address: self.address,
            verification_gas_limit: self.verification_gas_limit,
            post_op_gas_limit: self.post_op_gas_limit,
            data: Self::data(valid_until, valid_after, &signature.to_bytes()),
            signature: Bytes::new(),
        })
    }
}
