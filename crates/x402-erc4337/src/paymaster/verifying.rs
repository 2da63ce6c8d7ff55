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
    /// The address of the contract.
    pub address: Address,
    /// The number of its chain.
    pub chain_id: u64,
    /// The gas limit of its validation.
    pub verification_gas_limit: u128,
    /// The gas limit of its `postOp`, which does nothing.
    pub post_op_gas_limit: u128,
}

/// The error for an operation that is not sponsored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SponsorError {
    /// A time bound exceeds 48 bits.
    #[error("expected a time of at most 2^48-1, found a later one")]
    Time,
    /// The operation is not defined for EntryPoint 0.7.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// The signer failed.
    #[error(transparent)]
    Signer(#[from] Fault),
}

impl VerifyingPaymaster {
    /// Creates the contract's description, with 100,000 gas for its validation and none for its `postOp`.
    #[must_use]
    pub const fn new(address: Address, chain_id: u64) -> Self {
        Self { address, chain_id, verification_gas_limit: 100_000, post_op_gas_limit: 0 }
    }

    /// Computes the hash that the signer signs by EIP-191 for this operation, valid between two seconds, both included;
    /// `valid_until` of 0 means forever. The operation's signature and its paymaster are not part of the hash.
    /// # Errors
    /// A bound exceeds 48 bits, or the operation is not defined for EntryPoint 0.7.
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

    /// Encodes the paymaster's data: `abi.encode(uint48 validUntil, uint48 validAfter) ‖ signature`.
    #[must_use]
    pub fn data(valid_until: u64, valid_after: u64, signature: &[u8]) -> Bytes {
        let times = (U256::from(valid_until), U256::from(valid_after)).abi_encode();
        [&times[..], signature].concat().into()
    }

    /// Lets the signer sign for an operation whose gas and fees are set. The result becomes part of the operation
    /// before its own hash is computed: the account's signature covers it.
    /// # Errors
    /// A bound exceeds 48 bits, the operation has another version, or the signer fails.
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
