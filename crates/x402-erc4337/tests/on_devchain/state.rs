//! What the chain says of an account and its permissions.

use x402_devchain::ACCOUNTS;
use x402_erc4337::session::zerodev::{
    Approval, ApprovalCheckError, ECDSA_SIGNER, KernelState, KernelVersion, PermissionState, invalidate_nonce,
};
use x402_erc4337::{KernelMode, SendError, SendUserOp};
use x402_evm::chain::{At, RpcChain};

use crate::stage::{Key, OWNER, SESSION, STRANGER, Stage, stage, to_order};

async fn state(stage: &Stage, key: &Key) -> KernelState {
    let chain = RpcChain::new(stage.chain.client(), "eip155:84532".parse().unwrap(), 0);
    KernelState::read(&chain, stage.account.address(), key.permission.id(), At::Latest).await.unwrap()
}

/// The same approval as one of a permission that is there already.
fn pre_installed(approval: &Approval) -> Approval {
    let mut there = approval.clone();
    there.enable_signature = None;
    there
}

#[tokio::test]
async fn a_permission_is_absent_then_enabled_then_revoked() {
    let stage = stage().await;
    let before = state(&stage, &stage.order).await;
    assert_eq!((before.deployed, before.permission, before.current_nonce), (false, PermissionState::Absent, 1));
    assert_eq!((before.owner, before.version), (None, None));

    let order = stage.op(&stage.order, KernelMode::Enable, 0, &to_order()).await;
    stage.bundler.send_user_op(&order).await.unwrap();
    let enabled = state(&stage, &stage.order).await;
    assert!(enabled.deployed && enabled.is_enabled());
    assert_eq!((enabled.version, enabled.current_nonce), (Some(KernelVersion::V031), 1));
    assert_eq!(enabled.owner, Some(ACCOUNTS[OWNER].address));
    let installed = enabled.installed.as_ref().unwrap();
    assert_eq!((installed.flag, installed.signer), (0, ECDSA_SIGNER));
    assert_eq!(installed.session, Some(ACCOUNTS[SESSION].address));
    assert_eq!(installed.policies.len(), stage.order.permission.policies.len());
    assert_eq!(state(&stage, &stage.redeem).await.permission, PermissionState::Absent);

    // What is said to be installed is compared with what is.
    let session = ACCOUNTS[SESSION].address;
    let there = pre_installed(&stage.order.approval);
    assert_eq!(there.check(session, 84532, 1), Err(ApprovalCheckError::PreInstalled));
    assert_eq!(there.check_installed(session, &enabled), Ok(stage.order.permission.clone()));
    assert_eq!(there.check_installed(ACCOUNTS[STRANGER].address, &enabled), Err(ApprovalCheckError::PermissionId));
    assert_eq!(there.check_installed(session, &before), Err(ApprovalCheckError::NotInstalled));
    let other = pre_installed(&stage.redeem.approval);
    assert_eq!(other.check_installed(session, &enabled), Err(ApprovalCheckError::NotInstalled));

    stage.bundler.send_user_op(&stage.by_owner(0, stage.order.approval.uninstall().data).await).await.unwrap();
    let revoked = state(&stage, &stage.order).await;
    assert_eq!(revoked.permission, PermissionState::Revoked);
    assert_eq!(there.check_installed(session, &revoked), Err(ApprovalCheckError::NotInstalled));
    let again = stage.op(&stage.order, KernelMode::Default, 0, &to_order()).await;
    assert!(matches!(stage.bundler.send_user_op(&again).await, Err(SendError::Refused(_))));
}

#[tokio::test]
async fn an_invalidated_nonce_ends_what_was_enabled_below_it() {
    let stage = stage().await;
    let order = stage.op(&stage.order, KernelMode::Enable, 0, &to_order()).await;
    stage.bundler.send_user_op(&order).await.unwrap();
    let call = invalidate_nonce(stage.account.address(), 2);
    stage.bundler.send_user_op(&stage.by_owner(0, call.data).await).await.unwrap();
    let revoked = state(&stage, &stage.order).await;
    assert_eq!((revoked.permission, revoked.current_nonce), (PermissionState::Revoked, 2));
}
