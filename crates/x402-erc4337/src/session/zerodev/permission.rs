//! [Kernel v3 permissions](https://docs.zerodev.app/sdk/permissions/intro): policies and a signer, the ids derived from
//! them, the data that install them, and the signatures that use them.

use alloy_primitives::{Address, B256, Bytes, FixedBytes, address, b256, keccak256};
use alloy_sol_types::{SolValue, sol};

use super::account::KernelVersion;
use super::policy::{PolicyError, PolicyItem};
use crate::abi::STRICT;
use crate::hash::{Words, domain_separator_of, typed_data_hash};
use crate::{KernelMode, KernelValidation, NonceKey};

/// The contract that verifies an EOA's signature for a permission.
pub const ECDSA_SIGNER: Address = address!("6A6F069E2a08c2468e7724Ab3250CdBFBA14D4FF");
/// The hash of `Enable(bytes21 validationId,uint32 nonce,address hook,bytes validatorData,bytes hookData,bytes
/// selectorData)`.
const ENABLE_TYPE_HASH: B256 = b256!("b17ab1224aca0d4255ef8161acaf2ac121b8faa32a4b2258c912cc5f8308c505");
/// The hash of `Kernel(bytes32 hash)`.
const WRAP_TYPE_HASH: B256 = b256!("1547321c374afde8a591d972a084b071c594c275e36724931ff96c25f2999c83");
/// "At most 253 policies + the signer item."
pub const MAX_POLICIES: usize = 253;

sol! {
    struct EnableSignature {
        bytes enableData;
        bytes hookData;
        bytes selectorData;
        bytes enableSignature;
        bytes userOpSignature;
    }
}

/// A permission: a signer, and the policies that limit it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permission {
    /// The policies, all of which must agree.
    pub policies: Vec<PolicyItem>,
    /// The purposes for which the whole permission is invalid.
    pub flag: u16,
    /// The signer whose signature is required.
    pub signer: PermissionSigner,
}

/// A signer contract and its installation data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PermissionSigner {
    /// The address of the contract.
    pub contract: Address,
    /// The installation data; for [`ECDSA_SIGNER`] the 20 bytes of an address.
    pub data: Bytes,
}

/// The error for enable data or an enable-mode signature that this crate would not encode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PermissionError {
    /// The bytes are not the SDK's ABI, or further bytes follow.
    #[error("expected the SDK's canonical enable data, found other bytes")]
    Malformed,
    /// A policy is refused.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A hook, or another selector than `execute`, would be installed with the permission.
    #[error("expected execute without a hook, found that a hook or another selector is enabled too")]
    Extra,
}

impl PermissionSigner {
    /// Creates the signer of an EOA.
    #[must_use]
    pub fn ecdsa(session: Address) -> Self {
        Self { contract: ECDSA_SIGNER, data: Bytes::copy_from_slice(session.as_slice()) }
    }

    /// Returns the address of the EOA, if the signer is one.
    #[must_use]
    pub fn address(&self) -> Option<Address> {
        let ecdsa = self.contract == ECDSA_SIGNER && self.data.len() == 20;
        ecdsa.then(|| Address::from_slice(&self.data))
    }
}

impl Permission {
    /// Computes the id: the first 4 bytes of `keccak(abi.encode(bytes[] [policyId, flag, signerId]))`. They are too
    /// short to prove anything: another permission with the same id is found in minutes.
    #[must_use]
    pub fn id(&self) -> FixedBytes<4> {
        permission_id(&policy_id(&self.policies), self.flag, &self.signer)
    }

    /// Builds `0x02 ‖ permissionId ‖ 16 zero bytes`.
    #[must_use]
    pub fn validation_id(&self) -> FixedBytes<21> {
        validation_id(self.id())
    }

    /// Encodes the installation data: `abi.encode(bytes[] [policyItem…, signerItem])`.
    #[must_use]
    pub fn enable_data(&self) -> Bytes {
        let mut items: Vec<Bytes> = self.policies.iter().map(PolicyItem::item).collect();
        let signer = [&self.flag.to_be_bytes()[..], self.signer.contract.as_slice(), &self.signer.data].concat();
        items.push(signer.into());
        items.abi_encode().into()
    }

    /// Decodes enable data. Only bytes that [`enable_data`](Self::enable_data) produces are accepted.
    /// # Errors
    /// The bytes are others, or a policy is refused.
    pub fn from_enable_data(data: &[u8]) -> Result<Self, PermissionError> {
        let items = <Vec<Bytes>>::abi_decode_with_config(data, STRICT).map_err(|_| PermissionError::Malformed)?;
        let (signer, policies) = items.split_last().ok_or(PermissionError::Malformed)?;
        if policies.len() > MAX_POLICIES {
            return Err(PermissionError::Malformed);
        }
        let (flag, rest) = signer.split_first_chunk::<2>().ok_or(PermissionError::Malformed)?;
        let (contract, signer_data) = rest.split_first_chunk::<20>().ok_or(PermissionError::Malformed)?;
        let permission = Self {
            policies: policies.iter().map(|p| PolicyItem::from_item(p)).collect::<Result<_, _>>()?,
            flag: u16::from_be_bytes(*flag),
            signer: PermissionSigner { contract: contract.into(), data: Bytes::copy_from_slice(signer_data) },
        };
        if *permission.enable_data() == *data { Ok(permission) } else { Err(PermissionError::Malformed) }
    }

    /// Returns the key of the permission's nonces. The SDK uses channel 0; with further channels, operations in default mode
    /// do not wait for each other.
    #[must_use]
    pub fn nonce_key(&self, mode: KernelMode, channel: u16) -> NonceKey {
        NonceKey::kernel(mode, KernelValidation::Permission(self.id()), channel)
    }

    /// Computes the digest that the owner signs to enable the permission. `nonce` is the account's `currentNonce()`, 1
    /// if it is not deployed.
    #[must_use]
    pub fn enable_digest(&self, account: Address, version: KernelVersion, chain_id: u64, nonce: u32) -> B256 {
        enable_digest(self.validation_id(), &self.enable_data(), account, version, chain_id, nonce)
    }

    /// Encodes the signature of the operation that enables the permission: the owner's approval and the session key's
    /// signature of the operation.
    #[must_use]
    pub fn enable_signature(&self, approval: &Bytes, user_op_signature: &Bytes) -> Bytes {
        let parts = EnableSignature {
            enableData: self.enable_data(),
            hookData: Bytes::new(),
            selectorData: selector_data(),
            enableSignature: approval.clone(),
            userOpSignature: user_op_signature.clone(),
        };
        [&[0; 20][..], &parts.abi_encode_params()].concat().into()
    }

    /// Decodes the signature of an enabling operation: permission, the owner's approval, the session key's signature.
    /// Only bytes that [`enable_signature`](Self::enable_signature) produces are accepted.
    /// # Errors
    /// The bytes are others, there is a hook or another selector, or a policy is refused.
    pub fn from_enable_signature(signature: &[u8]) -> Result<(Self, Bytes, Bytes), PermissionError> {
        let (hook, parts) = signature.split_first_chunk::<20>().ok_or(PermissionError::Malformed)?;
        let parts =
            EnableSignature::abi_decode_params_with_config(parts, STRICT).map_err(|_| PermissionError::Malformed)?;
        if *hook != [0; 20] || !parts.hookData.is_empty() || parts.selectorData != selector_data() {
            return Err(PermissionError::Extra);
        }
        let permission = Self::from_enable_data(&parts.enableData)?;
        if *permission.enable_signature(&parts.enableSignature, &parts.userOpSignature) != *signature {
            return Err(PermissionError::Malformed);
        }
        Ok((permission, parts.enableSignature, parts.userOpSignature))
    }
}

/// Encodes `abi.encode(bytes[] policyItems)`.
pub(crate) fn policy_id(policies: &[PolicyItem]) -> Vec<u8> {
    policies.iter().map(PolicyItem::item).collect::<Vec<_>>().abi_encode()
}

pub(crate) fn permission_id(policy_id: &[u8], flag: u16, signer: &PermissionSigner) -> FixedBytes<4> {
    let signer_id = Bytes::from([signer.contract.as_slice(), &signer.data].concat()).abi_encode();
    let parts: [Bytes; 3] =
        [Bytes::copy_from_slice(policy_id), Bytes::copy_from_slice(&flag.to_be_bytes()), signer_id.into()];
    let hash = keccak256(parts.to_vec().abi_encode());
    hash.first_chunk::<4>().map(FixedBytes::from).unwrap_or_default()
}

pub(crate) fn validation_id(permission_id: FixedBytes<4>) -> FixedBytes<21> {
    let [a, b, c, d] = permission_id.0;
    FixedBytes::right_padding_from(&[2, a, b, c, d])
}

/// Encodes `execute ‖ no action ‖ no hook ‖ abi.encode(bytes 0xff, bytes 0x0000)`, which is enabled with every
/// permission.
pub(crate) fn selector_data() -> Bytes {
    let tail = (Bytes::from_static(&[0xff]), Bytes::from_static(&[0, 0])).abi_encode_params();
    [&[0xe9, 0xae, 0x5c, 0x53][..], &[0; 40], &tail].concat().into()
}

pub(crate) fn enable_digest(
    validation_id: FixedBytes<21>,
    enable_data: &[u8],
    account: Address,
    version: KernelVersion,
    chain_id: u64,
    nonce: u32,
) -> B256 {
    let mut words = [0; 7 * 32];
    let mut put = Words(words.chunks_exact_mut(32));
    put.word(ENABLE_TYPE_HASH);
    put.word(B256::right_padding_from(validation_id.as_slice()));
    put.word(B256::left_padding_from(&nonce.to_be_bytes()));
    put.word(B256::ZERO);
    put.word(keccak256(enable_data));
    put.word(alloy_primitives::KECCAK256_EMPTY);
    put.word(keccak256(selector_data()));
    typed_data_hash(domain_separator(account, version, chain_id), keccak256(words))
}

/// Computes the EIP-712 domain of a Kernel: {name "Kernel", its version, chain, account}.
#[must_use]
pub fn domain_separator(account: Address, version: KernelVersion, chain_id: u64) -> B256 {
    domain_separator_of(keccak256("Kernel"), keccak256(version.as_str()), chain_id, account)
}

/// Computes the digest that the owner signs for a Kernel's `isValidSignature(hash, …)`: `Kernel(bytes32 hash)` in its
/// domain.
#[must_use]
pub fn wrapped_digest(hash: B256, account: Address, version: KernelVersion, chain_id: u64) -> B256 {
    let mut words = [0; 2 * 32];
    let mut put = Words(words.chunks_exact_mut(32));
    put.word(WRAP_TYPE_HASH);
    put.word(hash);
    typed_data_hash(domain_separator(account, version, chain_id), keccak256(words))
}

/// Encodes `0xff ‖ signature`: an operation's signature for a permission whose policies require no data of their own.
#[must_use]
pub fn user_op_signature(signature: &[u8; 65]) -> Bytes {
    [&[0xff][..], signature].concat().into()
}
