//! The [serialized permission account](https://docs.zerodev.app/sdk/permissions/transmit-privatekey) of the ZeroDev
//! SDK: base64 of JSON, parsed and written.
//!
//! It contains no chain, Kernel version, EntryPoint, factory, signer (unless its key is included) or permission flag.

use core::fmt;

use alloy_primitives::{Address, B256, Bytes, FixedBytes, hex, keccak256};
use base64_simd::STANDARD;
use x402_codec::DecodeError;
use x402_evm::key::Key;
use x402_evm::signature::{self, Signature};
use zeroize::Zeroizing;

use super::account::{AccountError, KernelAccount, KernelVersion};
use super::permission::{Permission, PermissionSigner, enable_digest, permission_id, policy_id};
use super::policy::{PolicyError, PolicyItem};
use super::serialized::Serialized;
use super::write;
use crate::fields::{Field, FieldError, Problem, is_lower};
use crate::{Call, Eip7702Authorization, Init};

/// The maximum length of a serialized approval, in bytes of base64: 16 KiB.
pub const MAX_APPROVAL: usize = 16 * 1024;

/// A serialized permission account.
///
/// Parsing checks only its form. [`check`](Self::check) verifies that the owner approved it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// The policies that limit the permission.
    pub policies: Vec<PolicyItem>,
    /// The id that the text claims.
    pub permission_id: FixedBytes<4>,
    /// The address of the account.
    pub account: Address,
    /// The way in which the account is created.
    pub root: Root,
    /// The owner's approval; `None` if the permission is installed already.
    pub enable_signature: Option<Bytes>,
    /// The session key itself, if the text contains it.
    pub private_key: Option<SessionPrivateKey>,
    /// The authorization of an EIP-7702 account, if the text contains it.
    pub eip7702_auth: Option<Eip7702Authorization>,
    hash: B256,
}

/// The way in which a Kernel is created, which also determines its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Root {
    /// A factory creates the account.
    Factory(KernelAccount),
    /// The owner's own address delegates to Kernel 0.3.3 by EIP-7702.
    Eip7702,
}

/// A private key contained in an approval. It is zeroized when dropped, and never displayed.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionPrivateKey(Zeroizing<[u8; 32]>);

/// The error for text that is not a serialized permission account, or is one that this crate does not accept.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ApprovalError {
    /// The text is longer than [`MAX_APPROVAL`].
    #[error("expected at most {MAX_APPROVAL} bytes, found more")]
    TooLong,
    /// The text is not standard base64 with padding.
    #[error("expected standard base64 with padding, found other text")]
    Base64,
    /// The decoded text is not JSON.
    #[error("expected base64 of JSON: {}", .0.kind().text())]
    Json(DecodeError),
    /// A member does not have its required form.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// A policy is refused.
    #[error("policy {index}: {error}")]
    Policy {
        /// The index of the policy.
        index: usize,
        /// The reason of the refusal.
        error: PolicyError,
    },
    /// Two policies use one contract. Each contract stores one installation of a permission: the second would never be
    /// enabled.
    #[error("expected each policy contract once, found {0} twice")]
    PolicyTwice(Address),
    /// The account's `initCode` is refused.
    #[error("accountParams.initCode: {0}")]
    Account(#[from] AccountError),
}

/// The error for an approval that proves nothing for this signer and chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApprovalCheckError {
    /// No flag makes policies and signer give the permission id.
    #[error("the permission id fits none of the signers")]
    PermissionId,
    /// The owner did not sign this permission for this account and chain.
    #[error("the enable signature is not the owner's")]
    EnableSignature,
    /// The enable signature is absent: only the chain shows whether the permission is installed.
    #[error("a pre-installed permission is checked on chain")]
    PreInstalled,
    /// The account does not have the permission, or no longer has it.
    #[error("the account has not installed this permission")]
    NotInstalled,
}

/// The facts about an approval that follow from candidates for signer and chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    /// The permission, if it matches one of the signers.
    pub permission: Option<Permission>,
    /// Whether the signer is the embedded key.
    pub signer_embedded: bool,
    /// The chain, if the owner signed for one of the candidates.
    pub chain_id: Option<u64>,
    /// The status of the enable signature.
    pub enable_signature: EnableStatus,
}

/// The status of an enable signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnableStatus {
    /// The signature is the owner's, for one of the candidates.
    Valid,
    /// The signature is the owner's for none of the candidates.
    Invalid,
    /// Signer or chain is unknown.
    Unchecked,
    /// The signature is absent.
    Absent,
}

impl EnableStatus {
    /// Returns `valid`, `invalid`, `unchecked` or `absent`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Invalid => "invalid",
            Self::Unchecked => "unchecked",
            Self::Absent => "absent",
        }
    }
}

impl Approval {
    /// Parses the base64 text. Every relevant member has only one accepted spelling, so that a second text is another
    /// key and not the same key with another hash; irrelevant members are ignored.
    /// # Errors
    /// The text is not such an account; the error names the member or policy, never its value.
    pub fn read(text: &str) -> Result<Self, ApprovalError> {
        let read = Serialized::read(text)?;
        let root = match read.init {
            Some(data) => Root::Factory(KernelAccount::made_at(read.account, data)?),
            None => Root::Eip7702,
        };
        Ok(Self {
            policies: read.policies,
            permission_id: read.permission_id,
            account: read.account,
            root,
            enable_signature: read.enable_signature,
            private_key: read.private_key,
            eip7702_auth: read.eip7702_auth,
            hash: read.hash,
        })
    }

    /// Creates an approval that was just given.
    pub(crate) fn new(permission: &Permission, account: KernelAccount, enable_signature: Bytes) -> Self {
        let mut approval = Self {
            policies: permission.policies.clone(),
            permission_id: permission.id(),
            account: account.address(),
            root: Root::Factory(account),
            enable_signature: Some(enable_signature),
            private_key: None,
            eip7702_auth: None,
            hash: B256::ZERO,
        };
        approval.hash = keccak256(approval.write().as_bytes());
        approval
    }

    /// Formats the base64 text as the SDK does. It contains the private key, if there is one.
    #[must_use]
    pub fn write(&self) -> Zeroizing<String> {
        let json = write::approval(self);
        Zeroizing::new(STANDARD.encode_to_string(json.as_bytes()))
    }

    /// Returns the `keccak256` of the text that was parsed, by which payments refer to the key.
    #[must_use]
    pub const fn hash(&self) -> B256 {
        self.hash
    }

    /// Returns the owner, whose signature the account requires.
    #[must_use]
    pub const fn owner(&self) -> Address {
        match &self.root {
            Root::Factory(account) => account.owner,
            Root::Eip7702 => self.account,
        }
    }

    /// Returns the version of the Kernel.
    #[must_use]
    pub const fn version(&self) -> KernelVersion {
        match &self.root {
            Root::Factory(account) => account.version,
            Root::Eip7702 => KernelVersion::V033,
        }
    }

    /// Returns the init code for an operation.
    #[must_use]
    pub fn init(&self) -> Init {
        match &self.root {
            Root::Factory(account) => account.init(),
            // EntryPoint 0.7: no initCode, only an authorization in the transaction.
            Root::Eip7702 => Init::None,
        }
    }

    /// Creates the owner's call that revokes the permission.
    #[must_use]
    pub fn uninstall(&self) -> Call {
        super::uninstall(self.account, self.permission_id, self.policies.len())
    }

    /// Returns whether the enable signature is absent because the permission is installed already.
    #[must_use]
    pub const fn is_pre_installed(&self) -> bool {
        self.enable_signature.is_none()
    }

    /// Returns the permission of this approval, if `signer` is its session key: the flag is found by trying which one
    /// gives the id.
    #[must_use]
    pub fn permission_for(&self, signer: Address) -> Option<Permission> {
        fit(&self.policies, self.permission_id, [signer])
    }

    /// Checks that the owner approved this permission, for this session key, on this chain.
    ///
    /// The 4 bytes of the id prove nothing: the enable signature must recover to the owner. `nonce` is the account's
    /// `currentNonce()`, 1 if it is not deployed.
    /// # Errors
    /// The signer or owner is another, or only the chain knows the permission.
    pub fn check(&self, signer: Address, chain_id: u64, nonce: u32) -> Result<Permission, ApprovalCheckError> {
        let permission = self.permission_for(signer).ok_or(ApprovalCheckError::PermissionId)?;
        let signature = self.enable_signature.as_ref().ok_or(ApprovalCheckError::PreInstalled)?;
        if self.approved(&permission, signature, chain_id, nonce) {
            Ok(permission)
        } else {
            Err(ApprovalCheckError::EnableSignature)
        }
    }

    /// Collects the facts that follow from some candidates; the embedded key is always one of them.
    /// # Errors
    /// [`ApprovalCheckError::PermissionId`] if there are candidates and none of them matches.
    pub fn inspect(&self, signers: &[Address], chains: &[u64], nonce: u32) -> Result<Findings, ApprovalCheckError> {
        let embedded = self.private_key.as_ref().map(SessionPrivateKey::address);
        let permission = fit_any(&self.policies, self.permission_id, embedded, signers)?;
        let mut chain_id = None;
        let enable_signature = match (&self.enable_signature, &permission) {
            (None, _) => EnableStatus::Absent,
            (Some(_), None) => EnableStatus::Unchecked,
            (Some(_), Some(_)) if chains.is_empty() => EnableStatus::Unchecked,
            (Some(signature), Some(permission)) => {
                chain_id = chains.iter().copied().find(|c| self.approved(permission, signature, *c, nonce));
                if chain_id.is_some() { EnableStatus::Valid } else { EnableStatus::Invalid }
            }
        };
        let signer = permission.as_ref().and_then(|p| p.signer.address());
        Ok(Findings {
            signer_embedded: embedded.is_some() && signer == embedded,
            permission,
            chain_id,
            enable_signature,
        })
    }

    fn approved(&self, permission: &Permission, signature: &[u8], chain_id: u64, nonce: u32) -> bool {
        let digest = enable_digest(
            permission.validation_id(),
            &permission.enable_data(),
            self.account,
            self.version(),
            chain_id,
            nonce,
        );
        recover(digest, signature) == Some(self.owner())
    }
}

/// Finds the permission of these policies with one of the signers that gives the id, and its flag.
fn fit(policies: &[PolicyItem], id: FixedBytes<4>, signers: impl IntoIterator<Item = Address>) -> Option<Permission> {
    let policy_id = policy_id(policies);
    signers.into_iter().map(PermissionSigner::ecdsa).find_map(|signer| {
        let flag = (0..=3).find(|flag| permission_id(&policy_id, *flag, &signer) == id)?;
        Some(Permission { policies: policies.to_vec(), flag, signer })
    })
}

/// Applies [`fit`] to the embedded key and the candidates; returns `None` if there are none of them.
pub(super) fn fit_any(
    policies: &[PolicyItem],
    id: FixedBytes<4>,
    embedded: Option<Address>,
    signers: &[Address],
) -> Result<Option<Permission>, ApprovalCheckError> {
    let permission = fit(policies, id, embedded.into_iter().chain(signers.iter().copied()));
    if permission.is_none() && (embedded.is_some() || !signers.is_empty()) {
        return Err(ApprovalCheckError::PermissionId);
    }
    Ok(permission)
}

/// Recovers the signer of a 65-byte signature: `v` must be 27 or 28 and `s` the lower one, so that each signature has
/// one form.
pub(crate) fn recover(digest: B256, signature: &[u8]) -> Option<Address> {
    signature::recover(digest, &Signature::from_bytes(signature).ok()?).ok()
}

impl SessionPrivateKey {
    pub(super) fn read(field: &Field<'_>) -> Result<Self, FieldError> {
        let digits = field.text()?.strip_prefix("0x").unwrap_or_default();
        let mut key = Zeroizing::new([0; 32]);
        let bad = || field.error(Problem::Form("32 bytes of a private key"));
        // `hex` would strip a second prefix.
        if !is_lower(digits) || digits.starts_with("0x") {
            return Err(bad());
        }
        hex::decode_to_slice(digits, &mut *key).map_err(|_| bad())?;
        Self::from_bytes(&key).ok_or_else(bad)
    }

    /// Converts bytes to a key, if they are valid: not zero, and below the order of the curve.
    #[must_use]
    pub fn from_bytes(key: &[u8; 32]) -> Option<Self> {
        Key::from_bytes(key).ok().map(|_| Self(Zeroizing::new(*key)))
    }

    /// Returns the address of the key.
    #[must_use]
    pub fn address(&self) -> Address {
        Key::from_bytes(&self.0).map(|key| key.address()).unwrap_or_default()
    }

    /// Returns the bytes, for a signer. The caller must keep them secret.
    #[must_use]
    pub fn expose_secret(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn expose_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode_prefixed(*self.0))
    }
}

impl fmt::Debug for SessionPrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionPrivateKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_shown() {
        let key = SessionPrivateKey::from_bytes(&[7; 32]).unwrap();
        assert_eq!(format!("{key:?}"), "SessionPrivateKey(..)");
        assert_eq!(SessionPrivateKey::from_bytes(&[0; 32]), None);
        assert_eq!(SessionPrivateKey::from_bytes(&[0xff; 32]), None);
        assert_eq!(key.expose_secret(), &[7; 32]);
    }
}
