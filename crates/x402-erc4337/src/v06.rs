//! [UserOperation of EntryPoint
//! 0.6](https://github.com/eth-infinitism/account-abstraction/blob/v0.6.0/eip/EIPS/eip-4337.md): one form for bundlers
//! and chain.

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use serde::Serialize;
use x402_codec::Limits;
use x402_codec::json::{self, Node};

use crate::fields::{Field, FieldError, Problem};
use crate::hash::{Words, wrapped};
use crate::user_operation::{MAX_BYTES, ReadError};
use crate::{EntryPoint, EntryPointVersion};

/// A UserOperation of EntryPoint 0.6. Gas limits and fees have 256 bits here.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UserOperationV06 {
    /// The account that the operation belongs to.
    pub sender: Address,
    /// The key (192 bits) and the sequence number (64 bits).
    pub nonce: U256,
    /// `factory ‖ factoryData`, or empty.
    pub init_code: Bytes,
    /// The calldata for the account.
    pub call_data: Bytes,
    /// The gas limit of the execution.
    pub call_gas_limit: U256,
    /// The gas limit of validation and deployment.
    pub verification_gas_limit: U256,
    /// The gas that is charged in addition to the measured gas.
    pub pre_verification_gas: U256,
    /// The maximum price of one gas, in wei.
    pub max_fee_per_gas: U256,
    /// The maximum price of one gas above the base fee, in wei.
    pub max_priority_fee_per_gas: U256,
    /// `paymaster ‖ data`, or empty.
    pub paymaster_and_data: Bytes,
    /// The signature that the account checks. It is not part of the hash.
    pub signature: Bytes,
}

impl UserOperationV06 {
    /// Parses the JSON-RPC form, at most 64 KiB; a missing signature is empty.
    /// # Errors
    /// The text is not strict JSON, or a member is missing or malformed.
    pub fn from_json(json: &[u8]) -> Result<Self, ReadError> {
        Ok(Self::from_node(&json::parse(json, &Limits::DEFAULT)?)?)
    }

    /// Parses the JSON-RPC form within a larger document.
    /// # Errors
    /// A member is missing or malformed, or belongs to a later version.
    pub fn from_node(node: &Node<'_>) -> Result<Self, FieldError> {
        let op = Field::root(node).object()?;
        for key in [
            "factory",
            "factoryData",
            "paymaster",
            "paymasterData",
            "paymasterSignature",
            "paymasterVerificationGasLimit",
            "paymasterPostOpGasLimit",
            "accountGasLimits",
            "gasFees",
            "eip7702Auth",
        ] {
            op.refuse(key, "does not belong to an operation of EntryPoint 0.6")?;
        }
        Ok(Self {
            sender: op.required("sender")?.address()?,
            nonce: op.required("nonce")?.quantity()?,
            init_code: with_address(&op.required("initCode")?)?,
            call_data: op.required("callData")?.bytes(MAX_BYTES)?,
            call_gas_limit: op.required("callGasLimit")?.quantity()?,
            verification_gas_limit: op.required("verificationGasLimit")?.quantity()?,
            pre_verification_gas: op.required("preVerificationGas")?.quantity()?,
            max_fee_per_gas: op.required("maxFeePerGas")?.quantity()?,
            max_priority_fee_per_gas: op.required("maxPriorityFeePerGas")?.quantity()?,
            paymaster_and_data: with_address(&op.required("paymasterAndData")?)?,
            signature: op.optional("signature").map_or(Ok(Bytes::new()), |f| f.bytes(MAX_BYTES))?,
        })
    }

    /// Computes the hash that the account signs, at the canonical EntryPoint 0.6 of a chain.
    #[must_use]
    pub fn hash(&self, chain_id: u64) -> B256 {
        self.hash_for(EntryPointVersion::V06.address(), chain_id)
    }

    /// Computes the hash that the account signs, at an EntryPoint 0.6 with another address.
    #[must_use]
    pub fn hash_for(&self, entry_point: Address, chain_id: u64) -> B256 {
        let mut words = [0; 10 * 32];
        let mut put = Words(words.chunks_exact_mut(32));
        put.word(self.sender.into_word());
        put.word(self.nonce.into());
        put.word(keccak256(&self.init_code));
        put.word(keccak256(&self.call_data));
        put.word(self.call_gas_limit.into());
        put.word(self.verification_gas_limit.into());
        put.word(self.pre_verification_gas.into());
        put.word(self.max_fee_per_gas.into());
        put.word(self.max_priority_fee_per_gas.into());
        put.word(keccak256(&self.paymaster_and_data));
        wrapped(keccak256(words), &EntryPoint { version: EntryPointVersion::V06, address: entry_point, chain_id })
    }
}

/// Parses bytes that begin with an address, or none: on anything else the EntryPoint reverts.
fn with_address(field: &Field<'_>) -> Result<Bytes, FieldError> {
    let bytes = field.bytes(MAX_BYTES)?;
    if (1..20).contains(&bytes.len()) {
        return Err(field.error(Problem::Form("an address and data, or nothing")));
    }
    Ok(bytes)
}
