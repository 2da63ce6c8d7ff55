//! [ZeroDev](https://docs.zerodev.app/sdk/permissions/intro): Kernel 0.3.1 to 0.3.3 permissions on EntryPoint 0.7.

mod account;
mod approval;
mod erc1271;
mod issue;
mod permission;
mod policy;
mod read;
mod revoke;
mod scope;
mod serialized;
mod state;
mod unverified;
mod write;

pub use account::{AccountError, ECDSA_VALIDATOR, KernelAccount, KernelVersion, META_FACTORY};
pub(crate) use approval::recover;
pub use approval::{
    Approval, ApprovalCheckError, ApprovalError, EnableStatus, Findings, MAX_APPROVAL, Root, SessionPrivateKey,
};
pub use erc1271::KernelSignature;
pub use issue::{Draft, Grant, IssueError, issue};
pub use permission::{
    ECDSA_SIGNER, MAX_POLICIES, Permission, PermissionError, PermissionSigner, domain_separator, user_op_signature,
    wrapped_digest,
};
pub use policy::{
    CallPermission, CallPolicyVersion, CallRule, Condition, NOT_FOR_SIGNATURES, NOT_FOR_USER_OP, Policy, PolicyError,
    PolicyItem, contracts,
};
pub use revoke::{invalidate_nonce, uninstall};
pub use state::{Installed, KernelState, PermissionState};
pub use unverified::UnverifiedApproval;
pub use x402_evm::eip6492::Counterfactual;
