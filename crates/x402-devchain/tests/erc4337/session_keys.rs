//! ZeroDev session keys from end to end: issued, written, read, enabled, used, exhausted, expired and taken back.

use alloy_primitives::{Address, B256, Bytes, FixedBytes, U256};
use alloy_signer::SignerSync;
use alloy_sol_types::{SolCall, sol};
use x402_devchain::contracts::CALL_POLICY;
use x402_erc4337::scope::{ScopeViolation, Signatures};
use x402_erc4337::session::zerodev::{
    Approval, ECDSA_SIGNER, ECDSA_VALIDATOR, Grant, KernelAccount, KernelSignature, KernelVersion, NOT_FOR_SIGNATURES,
    Permission, PermissionSigner, contracts, invalidate_nonce, issue, uninstall, user_op_signature, wrapped_digest,
};
use x402_erc4337::{
    Call, Executed, Gas, Init, KernelMode, KernelValidation, NonceKey, OperationBuilder, Signable, UserOperation,
};
use x402_types::UnixSeconds;

use crate::fixture::{ENTRY_POINT, Plans, Scene, TIME, key};

sol! {
    interface Kernel {
        struct PermissionConfig { bytes2 permissionFlag; address signer; bytes22[] policyData; }
        struct ValidationConfig { uint32 nonce; address hook; }

        function currentNonce() external view returns (uint32);
        function validNonceFrom() external view returns (uint32);
        function permissionConfig(bytes4 id) external view returns (PermissionConfig config);
        function validationConfig(bytes21 id) external view returns (ValidationConfig config);
        function isValidSignature(bytes32 hash, bytes signature) external view returns (bytes4);
    }

    function ecdsaValidatorStorage(address account) external view returns (address owner);
    function status(bytes32 id, address account) external view returns (uint8);
    function usedIds(address account) external view returns (uint256);
}

const PLAN: u64 = 42;
const END: u64 = TIME + 3_600;
const EIP1271_VALID: FixedBytes<4> = FixedBytes([0x16, 0x26, 0xba, 0x7e]);

/// Errors of Kernel and of the policies, by their selectors in the vectors.
const INVALID_NONCE: [u8; 4] = [0x75, 0x66, 0x88, 0xfe];
const ENABLE_NOT_APPROVED: [u8; 4] = [0xc4, 0x8c, 0xf8, 0xee];
const INVALID_CALL_DATA: [u8; 4] = [0x1c, 0x49, 0xf4, 0xd1];
const PARAM_RULE: [u8; 4] = [0x59, 0xd5, 0x2e, 0x40];
const VALUE_RULE: [u8; 4] = [0x7b, 0x58, 0x12, 0xd4];
const POLICY_FAILED: [u8; 4] = [0x3e, 0x49, 0x83, 0xf6];

/// The Kernel of account 1; account 2 holds its session key.
fn kernel() -> KernelAccount {
    KernelAccount::new(KernelVersion::V031, key(1).address(), U256::ZERO)
}

fn order_grant(scene: &Scene) -> Grant {
    Grant::new(TIME - 60, END).call(scene.plans, Plans::orderCall::SELECTOR.into()).equal(0, U256::from(PLAN))
}

fn redeem_grant(scene: &Scene) -> Grant {
    Grant::new(TIME - 60, END)
        .call(scene.plans, Plans::redeemCall::SELECTOR.into())
        .equal(0, U256::from(PLAN))
        .at_most(32, U256::from(5))
}

/// Issued, written as text, read from it and checked.
async fn approve(grant: &Grant, nonce: u32) -> (Approval, Permission) {
    let text = issue(&key(1), &kernel(), key(2).address(), grant, 84532, nonce).await.unwrap().write();
    let approval = Approval::read(&text).unwrap();
    let permission = approval.check(key(2).address(), 84532, nonce).unwrap();
    (approval, permission)
}

async fn operation(scene: &Scene, init: Init, nonce: NonceKey, call_data: Bytes) -> OperationBuilder<Signable> {
    let account = kernel().address();
    let sequence = scene.sequence(account, nonce).await;
    let gas = Gas { call_gas_limit: 300_000, verification_gas_limit: 2_000_000, ..Gas::default() };
    OperationBuilder::new(ENTRY_POINT, account)
        .init(init)
        .nonce(nonce, sequence)
        .call_data(call_data)
        .gas(gas)
        .unsponsored()
        .unwrap()
}

fn session_signature(hash: B256) -> Bytes {
    user_op_signature(&key(2).sign_message_sync(hash.as_slice()).unwrap().as_bytes())
}

/// The operation that enables the key, and makes the account where it is not there.
async fn enable(
    scene: &Scene,
    approval: &Approval,
    permission: &Permission,
    deploy: bool,
    call: &Call,
) -> UserOperation {
    let init = if deploy { approval.init() } else { Init::None };
    let ready = operation(scene, init, permission.nonce_key(KernelMode::Enable, 0), call.execute()).await;
    let signature = session_signature(ready.hash());
    ready.signed(permission.enable_signature(approval.enable_signature.as_ref().unwrap(), &signature))
}

/// An operation of an enabled key.
async fn again(scene: &Scene, permission: &Permission, call_data: Bytes) -> UserOperation {
    let ready = operation(scene, Init::None, permission.nonce_key(KernelMode::Default, 0), call_data).await;
    let signature = session_signature(ready.hash());
    ready.signed(signature)
}

/// The owner's own operation.
async fn by_owner(scene: &Scene, call_data: Bytes) -> UserOperation {
    let root = NonceKey::kernel(KernelMode::Default, KernelValidation::Root, 0);
    let ready = operation(scene, Init::None, root, call_data).await;
    let signature = key(1).sign_message_sync(ready.hash().as_slice()).unwrap();
    ready.signed(signature.as_bytes().into())
}

/// A chain on which a key for this grant is enabled, by an order of the plan.
async fn enabled(grant: impl FnOnce(&Scene) -> Grant) -> (Scene, Approval, Permission) {
    let scene = Scene::new();
    let (approval, permission) = approve(&grant(&scene), 1).await;
    let op = enable(&scene, &approval, &permission, true, &scene.order(PLAN)).await;
    succeeded(&scene.send(&[op]).await);
    (scene, approval, permission)
}

fn succeeded(ops: &[Executed]) {
    for op in ops {
        assert!(op.success, "{op:?}");
    }
}

/// `AA23` with the error that account or policy reverted with.
async fn reverts(scene: &Scene, op: UserOperation, error: [u8; 4]) {
    let refused = scene.refused(&[op]).await;
    let inner = refused.inner().unwrap();
    assert_eq!((refused.code(), inner.data().get(..4)), (Some("AA23"), Some(&error[..])), "{refused}");
}

async fn statuses(scene: &Scene, permission: &Permission) -> Vec<u8> {
    let id = B256::right_padding_from(permission.id().as_slice());
    let mut all = Vec::new();
    for policy in &permission.policies {
        let account = kernel().address();
        all.push(scene.ask(policy.address, statusCall { id, account }).await.unwrap());
    }
    all
}

#[tokio::test]
async fn the_first_operation_makes_the_account_and_enables_the_key() {
    let scene = Scene::new();
    let account = kernel().address();
    let (approval, permission) = approve(&order_grant(&scene), 1).await;
    assert_eq!(statuses(&scene, &permission).await, [0, 0, 0]);
    // There is no account yet to ask: EntryPoint 0.7 says nothing at all.
    let early = again(&scene, &permission, scene.order(PLAN).execute()).await;
    assert!(scene.refused(&[early]).await.data().is_empty());

    let op = enable(&scene, &approval, &permission, true, &scene.order(PLAN)).await;
    succeeded(&scene.send(&[op]).await);
    assert_eq!(scene.credits(account, U256::from(PLAN)).await, U256::from(100));
    assert_eq!(scene.ask(ECDSA_VALIDATOR, ecdsaValidatorStorageCall { account }).await.unwrap(), key(1).address());

    let config = scene.ask(account, Kernel::permissionConfigCall { id: permission.id() }).await.unwrap();
    assert_eq!((config.signer, config.permissionFlag), (ECDSA_SIGNER, FixedBytes([0, 0])));
    let policies: Vec<Address> = config.policyData.iter().map(|item| Address::from_slice(&item[2..])).collect();
    assert_eq!(policies, [CALL_POLICY, contracts::TIMESTAMP, contracts::SIGNATURE_CALLER]);
    let config = scene.ask(account, Kernel::validationConfigCall { id: permission.validation_id() }).await.unwrap();
    assert_eq!(config.nonce, 1);
    assert!(scene.ask(account, Kernel::validNonceFromCall {}).await.unwrap() <= config.nonce);
    assert_eq!(statuses(&scene, &permission).await, [1, 1, 1]);

    let op = again(&scene, &permission, scene.order(PLAN).execute()).await;
    succeeded(&scene.send(&[op]).await);
    assert_eq!(scene.credits(account, U256::from(PLAN)).await, U256::from(200));

    // Enabling is once.
    let twice = enable(&scene, &approval, &permission, false, &scene.order(PLAN)).await;
    reverts(&scene, twice, INVALID_NONCE).await;
}

#[tokio::test]
async fn two_keys_act_in_one_bundle() {
    let scene = Scene::new();
    let (order, may_order) = approve(&order_grant(&scene), 1).await;
    let (redeem, may_redeem) = approve(&redeem_grant(&scene), 1).await;
    let ops = [
        enable(&scene, &order, &may_order, true, &scene.order(PLAN)).await,
        enable(&scene, &redeem, &may_redeem, false, &scene.redeem(PLAN, 5)).await,
    ];
    succeeded(&scene.send(&ops).await);
    assert_eq!(scene.credits(kernel().address(), U256::from(PLAN)).await, U256::from(95));

    // In default mode both again; what the second one takes is there by the first.
    let ops = [
        again(&scene, &may_order, scene.order(PLAN).execute()).await,
        again(&scene, &may_redeem, scene.redeem(PLAN, 4).execute()).await,
    ];
    succeeded(&scene.send(&ops).await);
    assert_eq!(scene.credits(kernel().address(), U256::from(PLAN)).await, U256::from(191));
    // The key that may order does not redeem, although the same one signs.
    let op = again(&scene, &may_order, scene.redeem(PLAN, 4).execute()).await;
    reverts(&scene, op, INVALID_CALL_DATA).await;
}

/// "The EntryPoint takes an operation at both bounds": 0.7.
#[tokio::test]
async fn a_key_counts_within_its_time() {
    let (scene, _, permission) = enabled(order_grant).await;
    let scope = permission.scope(kernel().address());
    for (time, allowed) in [(TIME, true), (END, true), (END + 1, false)] {
        scene.chain.set_time(time);
        scene.chain.mine(1);
        let permits = scope.permits(&scene.order(PLAN), UnixSeconds(time));
        let op = again(&scene, &permission, scene.order(PLAN).execute()).await;
        if allowed {
            assert_eq!(permits, Ok(()));
            succeeded(&scene.send(&[op]).await);
        } else {
            assert_eq!(permits, Err(ScopeViolation::Expired(END)));
            assert_eq!(scene.refused(&[op]).await.code(), Some("AA22"));
        }
    }

    let later = |scene: &Scene| {
        Grant::new(TIME + 10, END).call(scene.plans, Plans::orderCall::SELECTOR.into()).equal(0, U256::from(PLAN))
    };
    let scene = Scene::new();
    let (approval, permission) = approve(&later(&scene), 1).await;
    let op = enable(&scene, &approval, &permission, true, &scene.order(PLAN)).await;
    assert_eq!(scene.refused(std::slice::from_ref(&op)).await.code(), Some("AA22"));
    scene.chain.set_time(TIME + 10);
    scene.chain.mine(1);
    succeeded(&scene.send(&[op]).await);
}

#[tokio::test]
async fn a_key_is_used_up() {
    let (scene, _, permission) = enabled(|scene| order_grant(scene).times(2)).await;
    let op = again(&scene, &permission, scene.order(PLAN).execute()).await;
    succeeded(&scene.send(&[op]).await);
    let op = again(&scene, &permission, scene.order(PLAN).execute()).await;
    let refused = scene.refused(std::slice::from_ref(&op)).await;
    let inner = refused.inner().unwrap();
    // PolicyFailed(2): the rate limit stands third.
    assert_eq!(inner.data()[..], [&POLICY_FAILED[..], &U256::from(2).to_be_bytes::<32>()].concat());
    assert_eq!(scene.credits(kernel().address(), U256::from(PLAN)).await, U256::from(200));
}

/// Counted in validation: an operation whose call reverts has used its turn, and a key that it enabled is enabled.
#[tokio::test]
async fn a_reverted_call_counts() {
    let scene = Scene::new();
    let (approval, permission) = approve(&redeem_grant(&scene).times(2), 1).await;
    let op = enable(&scene, &approval, &permission, true, &scene.redeem(PLAN, 5)).await;
    let ended = scene.send(&[op]).await;
    assert!(!ended[0].success);
    assert_eq!(ended[0].revert.as_ref().unwrap().data()[..4], [0x68, 0x5c, 0x53, 0x70], "InsufficientCredits");
    let op = again(&scene, &permission, scene.redeem(PLAN, 5).execute()).await;
    assert!(!scene.send(&[op]).await[0].success);
    let op = again(&scene, &permission, scene.redeem(PLAN, 5).execute()).await;
    reverts(&scene, op, POLICY_FAILED).await;
}

#[tokio::test]
async fn what_the_owner_did_not_allow_is_refused_here_and_there() {
    let (scene, _, permission) = enabled(order_grant).await;
    let scope = permission.scope(kernel().address());
    let good = scene.order(PLAN);
    let calls = [
        (scene.order(PLAN + 1), ScopeViolation::Argument(0), PARAM_RULE),
        (scene.redeem(PLAN, 1), ScopeViolation::Selector(Plans::redeemCall::SELECTOR.into()), INVALID_CALL_DATA),
        (
            Call { target: Address::repeat_byte(7), ..good.clone() },
            ScopeViolation::Target(Address::repeat_byte(7)),
            INVALID_CALL_DATA,
        ),
        (Call { value: U256::from(1), ..good.clone() }, ScopeViolation::Value(U256::ZERO), VALUE_RULE),
    ];
    for (bad, violation, error) in calls {
        let single = bad.execute();
        let batch = Call::execute_batch(&[good.clone(), bad]);
        for data in [single, batch] {
            assert_eq!(scope.permits_call_data(&data, UnixSeconds(TIME)), Err(violation.clone()));
            let op = again(&scene, &permission, data).await;
            reverts(&scene, op, error).await;
        }
    }
    let both = Call::execute_batch(&[good.clone(), good.clone()]);
    assert_eq!(scope.permits_call_data(&both, UnixSeconds(TIME)), Ok(()));
    let op = again(&scene, &permission, both).await;
    succeeded(&scene.send(&[op]).await);
    assert_eq!(scene.credits(kernel().address(), U256::from(PLAN)).await, U256::from(300));
    // Any other function of the account is none of the policy's.
    let op = again(&scene, &permission, Kernel::currentNonceCall {}.abi_encode().into()).await;
    assert_eq!(scene.refused(&[op]).await.code(), Some("AA23"));
}

#[tokio::test]
async fn other_signers_and_nonces_are_refused() {
    let (scene, _, permission) = enabled(order_grant).await;
    let op = again(&scene, &permission, scene.order(PLAN).execute()).await;
    let hash = op.hash(&ENTRY_POINT).unwrap();
    let stranger = key(5).sign_message_sync(hash.as_slice()).unwrap().as_bytes();
    let forged = UserOperation { signature: user_op_signature(&stranger), ..op.clone() };
    assert_eq!(scene.refused(&[forged]).await.code(), Some("AA24"));
    let ahead = UserOperation { nonce: op.nonce + U256::from(1), ..op.clone() };
    assert!(scene.refused(&[ahead]).await.is_nonce());
    // The signer takes the bare hash as well as a personal message of it.
    let bare = key(2).sign_hash_sync(&hash).unwrap().as_bytes();
    let op = UserOperation { signature: user_op_signature(&bare), ..op };
    succeeded(&scene.send(std::slice::from_ref(&op)).await);
    assert!(scene.refused(&[op]).await.is_nonce());

    // An approval of somebody who is not the owner, and one of the owner for another nonce.
    let scene = Scene::new();
    let (approval, permission) = approve(&order_grant(&scene), 2).await;
    let op = enable(&scene, &approval, &permission, true, &scene.order(PLAN)).await;
    reverts(&scene, op, ENABLE_NOT_APPROVED).await;
}

#[tokio::test]
async fn invalidating_the_nonce_ends_every_key() {
    let (scene, approval, permission) = enabled(order_grant).await;
    let account = kernel().address();
    let (waiting, may_redeem) = approve(&redeem_grant(&scene), 1).await;
    let op = by_owner(&scene, invalidate_nonce(account, 2).execute()).await;
    succeeded(&scene.send(&[op]).await);
    assert_eq!(scene.ask(account, Kernel::currentNonceCall {}).await.unwrap(), 2);
    assert_eq!(scene.ask(account, Kernel::validNonceFromCall {}).await.unwrap(), 2);

    let op = again(&scene, &permission, scene.order(PLAN).execute()).await;
    reverts(&scene, op, INVALID_NONCE).await;
    for (approval, permission, call) in
        [(&approval, &permission, scene.order(PLAN)), (&waiting, &may_redeem, scene.redeem(PLAN, 1))]
    {
        let op = enable(&scene, approval, permission, false, &call).await;
        reverts(&scene, op, ENABLE_NOT_APPROVED).await;
    }

    // The identical permission never again: its policies are used. The revert has no data.
    let (same, permission) = approve(&order_grant(&scene), 2).await;
    let op = enable(&scene, &same, &permission, false, &scene.order(PLAN)).await;
    let refused = scene.refused(&[op]).await;
    assert_eq!((refused.code(), refused.inner().unwrap().data().len()), (Some("AA23"), 0));
    // One that differs in something: yes.
    let other =
        Grant::new(TIME - 60, END + 1).call(scene.plans, Plans::orderCall::SELECTOR.into()).equal(0, U256::from(PLAN));
    let (approval, permission) = approve(&other, 2).await;
    let op = enable(&scene, &approval, &permission, false, &scene.order(PLAN)).await;
    succeeded(&scene.send(&[op]).await);
}

/// `uninstallValidation` with the data that this workspace writes: policies and signer hear of it.
#[tokio::test]
async fn uninstalling_ends_one_key() {
    let (scene, approval, permission) = enabled(order_grant).await;
    let account = kernel().address();
    let (other, may_redeem) = approve(&redeem_grant(&scene), 1).await;
    let op = enable(&scene, &other, &may_redeem, false, &scene.redeem(PLAN, 1)).await;
    succeeded(&scene.send(&[op]).await);
    let signers = async || scene.ask(ECDSA_SIGNER, usedIdsCall { account }).await.unwrap();
    assert_eq!((statuses(&scene, &permission).await, signers().await), (vec![1, 1, 1], U256::from(2)));

    let op = by_owner(&scene, approval.uninstall().execute()).await;
    succeeded(&scene.send(&[op]).await);
    assert_eq!((statuses(&scene, &permission).await, signers().await), (vec![2, 2, 2], U256::from(1)));
    let config = scene.ask(account, Kernel::permissionConfigCall { id: permission.id() }).await.unwrap();
    assert_eq!((config.signer, config.policyData.len()), (Address::ZERO, 0));

    let op = again(&scene, &permission, scene.order(PLAN).execute()).await;
    assert_eq!(scene.refused(&[op]).await.code(), Some("AA23"));
    let op = enable(&scene, &approval, &permission, false, &scene.order(PLAN)).await;
    assert_eq!(scene.refused(&[op]).await.code(), Some("AA23"));
    // The other key is as it was.
    let op = again(&scene, &may_redeem, scene.redeem(PLAN, 1).execute()).await;
    succeeded(&scene.send(&[op]).await);
}

/// What `isValidSignature` answers to what the session key signed for the account.
async fn answers(scene: &Scene, permission: &Permission) -> bool {
    let account = kernel().address();
    let hash = B256::repeat_byte(0xab);
    let digest = wrapped_digest(hash, account, KernelVersion::V031, 84532);
    let signature = user_op_signature(&key(2).sign_hash_sync(&digest).unwrap().as_bytes());
    let signature = KernelSignature::Permission(permission.id(), signature).encode();
    scene.ask(account, Kernel::isValidSignatureCall { hash, signature }).await == Ok(EIP1271_VALID)
}

#[tokio::test]
async fn issued_keys_sign_no_eip_1271_message() {
    let (scene, _, permission) = enabled(order_grant).await;
    assert!(!answers(&scene, &permission).await);

    let account = kernel().address();
    let hash = B256::repeat_byte(0xab);
    let digest = wrapped_digest(hash, account, KernelVersion::V031, 84532);
    let root = async |account_key: usize, digest: B256| {
        let signature = key(account_key).sign_hash_sync(&digest).unwrap().as_bytes().into();
        let signature = KernelSignature::Root(signature).encode();
        scene.ask(account, Kernel::isValidSignatureCall { hash, signature }).await.unwrap()
    };
    assert_eq!(root(1, digest).await, EIP1271_VALID);
    assert_eq!(root(2, digest).await, FixedBytes([0xff; 4]));
    assert_eq!(root(1, hash).await, FixedBytes([0xff; 4]));
}

/// The same key without the signature-caller policy: an open one, as other SDKs issue them.
async fn enabled_open(flag: u16) -> (Scene, Permission) {
    let scene = Scene::new();
    let mut policies = order_grant(&scene).policies().unwrap();
    policies.retain(|item| item.address != contracts::SIGNATURE_CALLER);
    let permission = Permission { policies, flag, signer: PermissionSigner::ecdsa(key(2).address()) };
    let account = kernel();
    let digest = permission.enable_digest(account.address(), account.version, 84532, 1);
    let approval = key(1).sign_hash_sync(&digest).unwrap().as_bytes().into();
    let nonce = permission.nonce_key(KernelMode::Enable, 0);
    let ready = operation(&scene, account.init(), nonce, scene.order(PLAN).execute()).await;
    let signature = session_signature(ready.hash());
    succeeded(&scene.send(&[ready.signed(permission.enable_signature(&approval, &signature))]).await);
    (scene, permission)
}

/// "invalidateNonce and expiry stop operations, not EIP-1271 answers of an open key; uninstallValidation stops both."
#[tokio::test]
async fn an_open_key_signs_until_it_is_uninstalled() {
    let (scene, permission) = enabled_open(0).await;
    let account = kernel().address();
    assert_eq!(permission.scope(account).signatures, Signatures::Open);
    assert!(answers(&scene, &permission).await);
    let op = by_owner(&scene, invalidate_nonce(account, 2).execute()).await;
    succeeded(&scene.send(&[op]).await);
    scene.chain.set_time(END + 1);
    scene.chain.mine(1);
    assert!(answers(&scene, &permission).await);
    let op = by_owner(&scene, uninstall(account, permission.id(), permission.policies.len()).execute()).await;
    succeeded(&scene.send(&[op]).await);
    assert!(!answers(&scene, &permission).await);
}

#[tokio::test]
async fn a_flag_closes_a_key_as_well() {
    let (scene, permission) = enabled_open(NOT_FOR_SIGNATURES).await;
    assert_eq!(permission.scope(kernel().address()).signatures, Signatures::Closed);
    assert!(!answers(&scene, &permission).await);
    let op = again(&scene, &permission, scene.order(PLAN).execute()).await;
    succeeded(&scene.send(&[op]).await);
}
