//! [Safe4337Module 0.3.0](https://github.com/safe-global/safe-modules/tree/main/modules/4337): the hash that the owners
//! of a Safe 1.4.1 sign for an operation, and the form of their signature.
//!
//! Session keys of a Safe7579 are those of [Smart Sessions](crate::session::smart).

use alloy_primitives::{Address, B256, Bytes, U256, address, keccak256};
use alloy_sol_types::{SolValue, sol};

use crate::hash::typed_data_hash;
use crate::{EntryPoint, EntryPointVersion, MAX_UINT48, PackError, UserOperation};

/// The address of the module on every chain.
pub const SAFE_4337_MODULE: Address = address!("75cf11467937ce3F2f357CE24ffc3DBF8fD5c226");

sol! {
    #[allow(clippy::too_many_arguments, reason = "the layout that the module hashes")]
    struct SafeOp {
        bytes32 typeHash;
        address safe;
        uint256 nonce;
        bytes32 initCode;
        bytes32 callData;
        uint128 verificationGasLimit;
        uint128 callGasLimit;
        uint256 preVerificationGas;
        uint128 maxPriorityFeePerGas;
        uint128 maxFeePerGas;
        bytes32 paymasterAndData;
        uint48 validAfter;
        uint48 validUntil;
        address entryPoint;
    }
}

/// An operation that the owners of a Safe approve, with a period of validity.
#[derive(Debug, Clone, Copy)]
pub struct SafeOperation<'a> {
    /// The operation, of EntryPoint 0.7.
    pub op: &'a UserOperation,
    /// The first second, 48 bits; 0 means always.
    pub valid_after: u64,
    /// The last second, 48 bits; 0 means forever.
    pub valid_until: u64,
    /// The module, usually [`SAFE_4337_MODULE`].
    pub module: Address,
}

/// The error for an operation that the module does not accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SafeError {
    /// The operation has no form for EntryPoint 0.7.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// A time bound exceeds 48 bits.
    #[error("expected a time of at most 48 bits, found a later one")]
    Time,
    /// The signature has fewer than 12 bytes, which is too short for the times.
    #[error("expected a signature of at least 12 bytes, found {0}")]
    Signature(usize),
}

impl SafeOperation<'_> {
    /// Computes `SafeOp` by EIP-712 in the domain {chainId, module}, the hash that each owner signs.
    /// # Errors
    /// A time exceeds 48 bits, or the operation is not one of 0.7.
    pub fn hash(&self, entry_point: &EntryPoint) -> Result<B256, SafeError> {
        let packed = self.op.pack(EntryPointVersion::V07)?;
        let (after, until) = self.times()?;
        let op = SafeOp {
            typeHash: keccak256(SAFE_OP_TYPE),
            safe: self.op.sender,
            nonce: self.op.nonce,
            initCode: keccak256(&packed.init_code),
            callData: keccak256(&packed.call_data),
            verificationGasLimit: self.op.verification_gas_limit,
            callGasLimit: self.op.call_gas_limit,
            preVerificationGas: self.op.pre_verification_gas,
            maxPriorityFeePerGas: self.op.max_priority_fee_per_gas,
            maxFeePerGas: self.op.max_fee_per_gas,
            paymasterAndData: keccak256(&packed.paymaster_and_data),
            validAfter: after,
            validUntil: until,
            entryPoint: entry_point.address,
        };
        let domain_type = keccak256("EIP712Domain(uint256 chainId,address verifyingContract)");
        let domain = keccak256((domain_type, U256::from(entry_point.chain_id), self.module).abi_encode());
        Ok(typed_data_hash(domain, keccak256(op.abi_encode())))
    }

    /// Encodes `u48 validAfter ‖ u48 validUntil ‖ owners' signatures`; the signatures must be in ascending order of the
    /// owners.
    /// # Errors
    /// A time exceeds 48 bits.
    pub fn signature(&self, owners: &[u8]) -> Result<Bytes, SafeError> {
        let (after, until) = self.times()?;
        Ok([&after.to_be_bytes::<6>()[..], &until.to_be_bytes::<6>(), owners].concat().into())
    }

    fn times(&self) -> Result<(U48, U48), SafeError> {
        if self.valid_after > MAX_UINT48 || self.valid_until > MAX_UINT48 {
            return Err(SafeError::Time);
        }
        Ok((U48::saturating_from(self.valid_after), U48::saturating_from(self.valid_until)))
    }
}

/// Splits a signature into validAfter, validUntil and the owners' signatures.
/// # Errors
/// The signature has fewer than 12 bytes.
pub fn read_signature(signature: &[u8]) -> Result<(u64, u64, &[u8]), SafeError> {
    let short = SafeError::Signature(signature.len());
    let (after, rest) = signature.split_first_chunk::<6>().ok_or(short)?;
    let (until, owners) = rest.split_first_chunk::<6>().ok_or(short)?;
    let time = |bytes: &[u8; 6]| bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b));
    Ok((time(after), time(until), owners))
}

type U48 = alloy_primitives::Uint<48, 1>;

/// The hash of this type is 0xc03dfc11d8b10bf9cf703d558958c8c42777f785d998c62060d85a4f0ef6ea7f.
const SAFE_OP_TYPE: &str = "SafeOp(address safe,uint256 nonce,bytes initCode,bytes callData,uint128 verificationGasLimit,uint128 callGasLimit,uint256 preVerificationGas,uint128 maxPriorityFeePerGas,uint128 maxFeePerGas,bytes paymasterAndData,uint48 validAfter,uint48 validUntil,address entryPoint)";
