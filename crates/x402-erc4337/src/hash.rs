//! [userOpHash](https://eips.ethereum.org/EIPS/eip-4337#useroperation): "a hash over the userOp (except signature),
//! entryPoint and chainId", in the form of each version.

use alloy_primitives::{Address, B256, Keccak256, U256, b256, keccak256};

use crate::packed::{PAYMASTER_SIG_MAGIC, before_paymaster_signature, halves, paymaster_signature_len};
use crate::user_operation::EIP7702_MARKER;
use crate::{EntryPoint, EntryPointVersion, Init, PackError, PackedUserOperation, Paymaster, UserOperation};

/// The hash of `PackedUserOperation(address sender,uint256 nonce,bytes initCode,bytes callData,bytes32
/// accountGasLimits,uint256 preVerificationGas,bytes32 gasFees,bytes paymasterAndData)`.
const PACKED_USEROP_TYPE_HASH: B256 = b256!("29a0bca4af4be3421398da00295e58e6d7de38cb492214754cb6a47507dd6f8e");
/// The hash of `EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)`.
pub(crate) const DOMAIN_TYPE_HASH: B256 = b256!("8b73c3c69bb8fe3d512ecc4cf759cc79239f7b179b0ffacaa9a75d522b39400f");
/// The hash of `ERC4337`.
const DOMAIN_NAME: B256 = b256!("364da28a5c92bcc87fe97c8813a6c6b8a3a049b0ea0a328fcb0b4f0e00337586");
/// The hash of `1`.
const DOMAIN_VERSION: B256 = b256!("c89efdaa54c0f20c7adf612882df0950f5a951637e0307cdcb4c672f298b8bc6");
const EMPTY: B256 = alloy_primitives::KECCAK256_EMPTY;

/// The error for an operation that has no hash at this EntryPoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HashError {
    /// The operation has no packed form for this version.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// The delegate of an EIP-7702 account is part of the hash, and is unknown.
    #[error("eip7702Auth: expected the delegate's address for factory 0x7702, found none")]
    DelegateMissing,
    /// The authorization's delegate differs from the caller's.
    #[error("eip7702Auth.address: expected the given delegate, found another")]
    DelegateMismatch,
}

/// The inputs of the hash, 32 bytes each.
pub(crate) struct Parts {
    sender: Address,
    nonce: U256,
    init_code: B256,
    call_data: B256,
    account_gas_limits: B256,
    pre_verification_gas: U256,
    gas_fees: B256,
    paymaster_and_data: B256,
}

impl UserOperation {
    /// Computes the hash that the account signs. The delegate of an EIP-7702 account is that of `eip7702_auth`.
    /// # Errors
    /// A member is not defined for this version, or the delegate is unknown.
    pub fn hash(&self, entry_point: &EntryPoint) -> Result<B256, HashError> {
        self.hash_delegated(entry_point, None)
    }

    /// Computes the hash for an EIP-7702 account whose delegate the caller knows.
    /// # Errors
    /// A member is not defined for this version, or the delegate is unknown or ambiguous.
    pub fn hash_delegated(&self, entry_point: &EntryPoint, delegate: Option<Address>) -> Result<B256, HashError> {
        self.fits(entry_point.version)?;
        let authorized = self.eip7702_auth.map(|a| a.address);
        if let (Some(a), Some(b)) = (authorized, delegate)
            && a != b
        {
            return Err(HashError::DelegateMismatch);
        }
        let parts = Parts {
            sender: self.sender,
            nonce: self.nonce,
            init_code: match &self.init {
                Init::None => EMPTY,
                Init::Factory { factory, data } => keccak_of([factory.as_slice(), data]),
                // "the 20 bytes are replaced by the delegate address"
                Init::Eip7702 { data } => {
                    keccak_of([delegate.or(authorized).ok_or(HashError::DelegateMissing)?.as_slice(), data])
                }
            },
            call_data: keccak256(&self.call_data),
            account_gas_limits: halves(self.verification_gas_limit, self.call_gas_limit),
            pre_verification_gas: self.pre_verification_gas,
            gas_fees: halves(self.max_priority_fee_per_gas, self.max_fee_per_gas),
            paymaster_and_data: match &self.paymaster {
                None => EMPTY,
                Some(p) => p.hash(entry_point.version)?,
            },
        };
        Ok(parts.hash(entry_point))
    }
}

impl Paymaster {
    fn hash(&self, version: EntryPointVersion) -> Result<B256, PackError> {
        let head = self.head();
        if self.signature.is_empty() { paymaster_hash(&head, version) } else { Ok(signed_paymaster_hash(&head)) }
    }
}

impl PackedUserOperation {
    /// Computes the hash that the account signs; `delegate` is the contract to which an EIP-7702 sender delegates.
    /// # Errors
    /// EntryPoint 0.9 refuses `paymasterAndData`, the delegate is unknown, or the EntryPoint is 0.6.
    pub fn hash(&self, entry_point: &EntryPoint, delegate: Option<Address>) -> Result<B256, HashError> {
        if entry_point.version == EntryPointVersion::V06 {
            return Err(PackError::NotPacked.into());
        }
        let parts = Parts {
            sender: self.sender,
            nonce: self.nonce,
            init_code: self.init_code_hash(entry_point.version, delegate)?,
            call_data: keccak256(&self.call_data),
            account_gas_limits: self.account_gas_limits,
            pre_verification_gas: self.pre_verification_gas,
            gas_fees: self.gas_fees,
            paymaster_and_data: paymaster_hash(&self.paymaster_and_data, entry_point.version)?,
        };
        Ok(parts.hash(entry_point))
    }

    /// Hashes the init code. `Eip7702Support`: 2 to 20 bytes that are `0x7702` padded with zeros are the marker as
    /// well.
    fn init_code_hash(&self, version: EntryPointVersion, delegate: Option<Address>) -> Result<B256, HashError> {
        let (start, data) = self.init_code.split_at_checked(20).unwrap_or((&self.init_code, &[]));
        let marked = start.len() >= 2 && EIP7702_MARKER.starts_with(start);
        if version < EntryPointVersion::V08 || !marked {
            return Ok(keccak256(&self.init_code));
        }
        Ok(keccak_of([delegate.ok_or(HashError::DelegateMissing)?.as_slice(), data]))
    }
}

impl Parts {
    fn hash(&self, entry_point: &EntryPoint) -> B256 {
        let mut words = [0; 9 * 32];
        let mut put = Words(words.chunks_exact_mut(32));
        let typed = entry_point.version >= EntryPointVersion::V08;
        if typed {
            put.word(PACKED_USEROP_TYPE_HASH);
        }
        put.word(self.sender.into_word());
        put.word(self.nonce.into());
        put.word(self.init_code);
        put.word(self.call_data);
        put.word(self.account_gas_limits);
        put.word(self.pre_verification_gas.into());
        put.word(self.gas_fees);
        put.word(self.paymaster_and_data);
        let operation = keccak256(if typed { &words[..] } else { words.split_at(8 * 32).0 });
        if typed { typed_data_hash(domain_separator(entry_point), operation) } else { wrapped(operation, entry_point) }
    }
}

/// Writes 32-byte words into a buffer that is large enough for them.
pub(crate) struct Words<'a>(pub(crate) core::slice::ChunksExactMut<'a, u8>);

impl Words<'_> {
    pub(crate) fn word(&mut self, word: B256) {
        if let Some(slot) = self.0.next() {
            slot.copy_from_slice(word.as_slice());
        }
    }
}

/// Computes `keccak(abi(operation, entryPoint, chainId))`: the hash of 0.6 and 0.7.
pub(crate) fn wrapped(operation: B256, entry_point: &EntryPoint) -> B256 {
    let mut words = [0; 3 * 32];
    let mut put = Words(words.chunks_exact_mut(32));
    put.word(operation);
    put.word(entry_point.address.into_word());
    put.word(U256::from(entry_point.chain_id).into());
    keccak256(words)
}

fn domain_separator(entry_point: &EntryPoint) -> B256 {
    domain_separator_of(DOMAIN_NAME, DOMAIN_VERSION, entry_point.chain_id, entry_point.address)
}

/// Computes the separator of a domain {name, version, chainId, verifyingContract} from the hashes of name and version.
pub(crate) fn domain_separator_of(name: B256, version: B256, chain_id: u64, contract: Address) -> B256 {
    let mut words = [0; 5 * 32];
    let mut put = Words(words.chunks_exact_mut(32));
    put.word(DOMAIN_TYPE_HASH);
    put.word(name);
    put.word(version);
    put.word(U256::from(chain_id).into());
    put.word(contract.into_word());
    keccak256(words)
}

/// Computes [EIP-712](https://eips.ethereum.org/EIPS/eip-712)'s `keccak("\x19\x01" ‖ domainSeparator ‖
/// hashStruct(message))`.
pub(crate) fn typed_data_hash(domain: B256, message: B256) -> B256 {
    keccak_of([&[0x19, 0x01], domain.as_slice(), message.as_slice()])
}

pub(crate) fn keccak_of<const N: usize>(parts: [&[u8]; N]) -> B256 {
    let mut hasher = Keccak256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

/// Hashes `paymasterAndData`: "sig and length left out, magic kept" if 0.9 finds a signature; every byte otherwise.
fn paymaster_hash(all: &[u8], version: EntryPointVersion) -> Result<B256, PackError> {
    if all.is_empty() {
        return Ok(EMPTY);
    }
    match if version >= EntryPointVersion::V09 { paymaster_signature_len(all)? } else { 0 } {
        0 => Ok(keccak256(all)),
        len => Ok(signed_paymaster_hash(before_paymaster_signature(all, len))),
    }
}

fn signed_paymaster_hash(head: &[u8]) -> B256 {
    keccak_of([head, &PAYMASTER_SIG_MAGIC])
}
