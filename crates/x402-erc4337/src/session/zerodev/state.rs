//! [Kernel's ValidationManager](https://github.com/zerodevapp/kernel): the state of an account and of one of its
//! permissions on a chain, read in one round trip.

use alloy_primitives::{Address, B256, FixedBytes};
use alloy_sol_types::{SolCall, sol};
use x402_evm::chain::{Answers, At, BatchRead, ReadChain, Returned};
use x402_types::Fault;

use super::approval::ApprovalCheckError;
use super::permission::validation_id;
use super::{Approval, ECDSA_SIGNER, ECDSA_VALIDATOR, KernelVersion, Permission};

sol! {
    struct PermissionConfig {
        bytes2 permissionFlag;
        address signer;
        bytes22[] policyData;
    }

    function accountId() external view returns (string memory id);
    function currentNonce() external view returns (uint32 nonce);
    function validNonceFrom() external view returns (uint32 nonce);
    function rootValidator() external view returns (bytes21 id);
    function permissionConfig(bytes4 id) external view returns (PermissionConfig memory config);
    function validationConfig(bytes21 id) external view returns (uint32 nonce, address hook);
    function ecdsaValidatorStorage(address account) external view returns (address owner);
    function signer(bytes32 id, address account) external view returns (address session);
}

/// A Kernel and one of its permissions in one block.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KernelState {
    /// Whether there is code at the address.
    pub deployed: bool,
    /// The version that the Kernel states; `None` if it is not deployed, or not a known Kernel.
    pub version: Option<KernelVersion>,
    /// `currentNonce()`, for which an approval must be signed; 1 if the account is not deployed.
    pub current_nonce: u32,
    /// The owner, who signs for the root validator; `None` if that is not the ECDSA validator, or nothing is deployed.
    pub owner: Option<Address>,
    /// The state of the permission.
    pub permission: PermissionState,
    /// The stored permission, enabled or not.
    pub installed: Option<Installed>,
}

/// The state of a permission on a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PermissionState {
    /// The permission was never enabled: its first operation enables it.
    Absent,
    /// The permission is enabled: it validates operations in default mode.
    Enabled,
    /// The permission was enabled and revoked, by `uninstallValidation` or `invalidateNonce`. It cannot be enabled
    /// again.
    Revoked,
}

/// A permission as the account stores it: contracts and flags, without the installation data of the policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// The purposes for which the whole permission is invalid.
    pub flag: u16,
    /// The signer contract.
    pub signer: Address,
    /// The flag and contract of each policy.
    pub policies: Vec<(u16, Address)>,
    /// The session key of [`ECDSA_SIGNER`], if the contract reveals it.
    pub session: Option<Address>,
}

/// The words of a `permissionConfig` with 253 policies.
const CONFIG_WORDS: u16 = 260;

impl KernelState {
    /// Reads account and permission.
    /// # Errors
    /// The node failed, or the account's responses are not those of a Kernel.
    pub async fn read(
        chain: &dyn ReadChain,
        account: Address,
        permission_id: FixedBytes<4>,
        at: At,
    ) -> Result<Self, Fault> {
        let answers = chain.run(&Self::reads(account, permission_id), at).await?;
        Self::from_answers(&answers).ok_or_else(|| Fault::unreachable("the account", "it does not answer as a Kernel"))
    }

    /// Builds the batch of reads, which may be appended to a longer one.
    fn reads(account: Address, permission_id: FixedBytes<4>) -> BatchRead {
        let id = B256::right_padding_from(permission_id.as_slice());
        BatchRead::new()
            .code_size(account)
            .call(account, accountIdCall {}.abi_encode().into(), 50_000, 4)
            .call(account, currentNonceCall {}.abi_encode().into(), 50_000, 1)
            .call(account, validNonceFromCall {}.abi_encode().into(), 50_000, 1)
            .call(account, rootValidatorCall {}.abi_encode().into(), 50_000, 1)
            .call(account, permissionConfigCall { id: permission_id }.abi_encode().into(), 1_000_000, CONFIG_WORDS)
            .call(account, validationConfigCall { id: validation_id(permission_id) }.abi_encode().into(), 50_000, 2)
            .call(ECDSA_VALIDATOR, ecdsaValidatorStorageCall { account }.abi_encode().into(), 50_000, 1)
            .call(ECDSA_SIGNER, signerCall { id, account }.abi_encode().into(), 50_000, 1)
    }

    fn from_answers(answers: &Answers) -> Option<Self> {
        let [size] = answers.sizes.as_slice() else { return None };
        let [id, current, valid_from, root, config, validation, owner, session] = answers.calls.as_slice() else {
            return None;
        };
        if *size == 0 {
            return Some(Self {
                deployed: false,
                version: None,
                current_nonce: 1,
                owner: None,
                permission: PermissionState::Absent,
                installed: None,
            });
        }
        let current_nonce = answer::<currentNonceCall>(current)?;
        let valid_from = answer::<validNonceFromCall>(valid_from)?;
        let config = answer::<permissionConfigCall>(config)?;
        let validation = answer::<validationConfigCall>(validation)?;
        let address = |returned: &Returned| {
            let address = Address::from_word(returned.word()?.into());
            (!address.is_zero()).then_some(address)
        };
        let installed = (!config.signer.is_zero()).then(|| Installed {
            flag: u16::from_be_bytes(config.permissionFlag.0),
            signer: config.signer,
            policies: config.policyData.iter().map(policy).collect(),
            session: if config.signer == ECDSA_SIGNER { address(session) } else { None },
        });
        // A hook of zero means "not installed": without a hook it is 1.
        let permission = match (&installed, validation.hook.is_zero()) {
            (Some(_), false) if validation.nonce >= valid_from => PermissionState::Enabled,
            (None, true) if validation.nonce == 0 => PermissionState::Absent,
            _ => PermissionState::Revoked,
        };
        let ecdsa_root = FixedBytes::<1>::from([1]).concat_const::<20, 21>(ECDSA_VALIDATOR.0);
        Some(Self {
            deployed: true,
            version: id.text().and_then(KernelVersion::from_account_id),
            current_nonce,
            owner: address(owner).filter(|_| answer::<rootValidatorCall>(root) == Some(ecdsa_root)),
            permission,
            installed,
        })
    }

    /// Returns whether the permission validates operations in default mode.
    #[must_use]
    pub const fn is_enabled(&self) -> bool {
        matches!(self.permission, PermissionState::Enabled)
    }
}

fn answer<C: SolCall>(returned: &Returned) -> Option<C::Return> {
    if returned.success { C::abi_decode_returns(&returned.data).ok() } else { None }
}

fn policy(item: &FixedBytes<22>) -> (u16, Address) {
    let [high, low, address @ ..] = item.0;
    (u16::from_be_bytes([high, low]), address.into())
}

impl Approval {
    /// Checks an approval against what the account has installed, which is the only evidence for a pre-installed
    /// permission. Flag, policies and session key must be those of the account, and the permission must be enabled.
    ///
    /// The installation data of the policies are in the policies' own storage: only the 4 bytes of the id tie them to
    /// the approval.
    /// # Errors
    /// The signer is another, or the permission is not enabled or differs from the approval.
    pub fn check_installed(&self, signer: Address, state: &KernelState) -> Result<Permission, ApprovalCheckError> {
        let permission = self.permission_for(signer).ok_or(ApprovalCheckError::PermissionId)?;
        let installed =
            state.installed.as_ref().filter(|_| state.is_enabled()).ok_or(ApprovalCheckError::NotInstalled)?;
        let policies: Vec<(u16, Address)> = permission.policies.iter().map(|p| (p.flag, p.address)).collect();
        let same = installed.flag == permission.flag
            && installed.signer == permission.signer.contract
            && installed.policies == policies
            && installed.session.is_none_or(|session| session == signer);
        if same { Ok(permission) } else { Err(ApprovalCheckError::NotInstalled) }
    }
}
