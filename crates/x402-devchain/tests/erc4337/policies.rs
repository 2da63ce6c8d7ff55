//! The policies by themselves: an account installs one with the bytes that this workspace encodes, and asks it.

use alloy_network::TransactionBuilder;
use alloy_primitives::{Address, B256, Bytes, FixedBytes, U256};
use alloy_provider::Provider;
use alloy_rpc_types_eth::TransactionRequest;
use alloy_sol_types::{SolCall, sol};
use x402_erc4337::session::zerodev::{
    CallPermission, CallPolicyVersion, CallRule, Condition, Permission, PermissionSigner, Policy, PolicyItem,
};
use x402_erc4337::{Call, PackedUserOperation};
use x402_types::UnixSeconds;

use crate::fixture::{Random, Scene, TIME, checkUserOpPolicyCall, key};

sol! {
    function onInstall(bytes data) external payable;
    function onUninstall(bytes data) external payable;
    function checkSignaturePolicy(bytes32 id, address sender, bytes32 hash, bytes signature) external view returns (uint256);
    function isInitialized(address account) external view returns (bool);
}

/// The account that has the policies: a plain one, since no policy asks what its caller is.
const ACCOUNT: usize = 4;
const ID: B256 = B256::repeat_byte(0x1d);
const INVALID: U256 = U256::from_limbs([1, 0, 0, 0]);

struct Asked<'a> {
    scene: &'a Scene,
    policy: Address,
    id: B256,
}

impl Asked<'_> {
    /// A transaction of the account to the policy; whether it succeeded.
    async fn send(&self, call: impl SolCall) -> bool {
        let request = TransactionRequest::default().with_to(self.policy).with_input(call.abi_encode());
        let pending = self.scene.chain.wallet(key(ACCOUNT)).send_transaction(request.with_gas_limit(3_000_000)).await;
        pending.unwrap().get_receipt().await.unwrap().status()
    }

    async fn install(&self, data: &[u8]) -> bool {
        self.send(onInstallCall { data: [self.id.as_slice(), data].concat().into() }).await
    }

    fn check(&self, op: &PackedUserOperation) -> checkUserOpPolicyCall {
        checkUserOpPolicyCall { id: self.id, op: op.clone().into() }
    }

    /// What the policy would say to an operation.
    async fn ask(&self, op: &PackedUserOperation) -> Result<U256, Bytes> {
        let data = self.check(op).abi_encode().into();
        let answer = self.scene.call(key(ACCOUNT).address(), self.policy, data).await?;
        Ok(checkUserOpPolicyCall::abi_decode_returns(&answer).unwrap())
    }

    /// What it says to one, which counts.
    async fn check_and_count(&self, op: &PackedUserOperation) -> Result<U256, Bytes> {
        let answer = self.ask(op).await;
        self.send(self.check(op)).await;
        answer
    }
}

async fn installed(scene: &Scene, policy: Policy) -> Asked<'_> {
    let item = PolicyItem::standard(policy);
    let asked = Asked { scene, policy: item.address, id: ID };
    // Flag and address stand before what the policy is installed with.
    assert!(asked.install(&item.item()[22..]).await);
    asked
}

#[tokio::test]
async fn a_permission_lives_once() {
    let scene = Scene::new();
    let policies = [
        Policy::Call { version: CallPolicyVersion::V004, permissions: Vec::new() },
        Policy::Timestamp { valid_after: 1, valid_until: 2 },
        Policy::RateLimit { interval: 0, count: 1, start_at: 0 },
        Policy::RateLimitWithReset { interval: 1, count: 1 },
        Policy::Gas { allowed: 1, enforce_paymaster: false, allowed_paymaster: Address::ZERO },
        Policy::SignatureCaller(Vec::new()),
        Policy::Sudo,
    ];
    for policy in policies {
        let data = PolicyItem::standard(policy.clone()).item().slice(22..);
        let policy = installed(&scene, policy).await;
        let initialized = async || {
            let answer = scene.ask(policy.policy, isInitializedCall { account: key(ACCOUNT).address() }).await;
            answer.unwrap()
        };
        assert!(!policy.install(&data).await, "{} twice", policy.policy);
        assert!(initialized().await);
        assert!(policy.send(onUninstallCall { data: ID.into() }).await);
        assert!(!initialized().await);
        assert!(!policy.send(onUninstallCall { data: ID.into() }).await);
        assert!(!policy.install(&data).await, "{} again", policy.policy);
        assert!(policy.ask(&PackedUserOperation::default()).await.is_err());
    }
}

#[tokio::test]
async fn times_are_left_to_the_entry_point() {
    let scene = Scene::new();
    let policy = installed(&scene, Policy::Timestamp { valid_after: 7, valid_until: 9 }).await;
    let packed = U256::from(7) << 208 | U256::from(9) << 160;
    assert_eq!(policy.ask(&PackedUserOperation::default()).await, Ok(packed));
}

#[tokio::test]
async fn the_rate_limit_spaces_operations() {
    let scene = Scene::new();
    let policy = installed(&scene, Policy::RateLimit { interval: 60, count: 3, start_at: 1_000 }).await;
    let op = PackedUserOperation::default();
    for start in [1_000_u64, 1_060, 1_120] {
        assert_eq!(policy.check_and_count(&op).await, Ok(U256::from(start) << 208));
    }
    assert_eq!(policy.check_and_count(&op).await, Ok(INVALID));
}

#[tokio::test]
async fn the_rate_limit_with_reset_starts_again() {
    let scene = Scene::new();
    let policy = installed(&scene, Policy::RateLimitWithReset { interval: 60, count: 2 }).await;
    let op = PackedUserOperation::default();
    let packed = |now: u64, until: u64| U256::from(now) << 208 | U256::from(until) << 160;
    for _ in 0..2 {
        assert_eq!(policy.check_and_count(&op).await, Ok(packed(TIME, TIME + 60)));
    }
    // RateLimited()
    assert_eq!(policy.ask(&op).await.unwrap_err()[..], alloy_primitives::keccak256("RateLimited()")[..4]);
    scene.chain.set_time(TIME + 60);
    scene.chain.mine(1);
    assert_eq!(policy.ask(&op).await, Ok(packed(TIME + 60, TIME + 120)));
}

#[tokio::test]
async fn gas_is_counted_by_its_limits() {
    let half = |high: u64, low: u64| B256::from(U256::from(high) << 128 | U256::from(low));
    // (10 + 20 + 30) * 2 = 120
    let op = PackedUserOperation {
        account_gas_limits: half(20, 30),
        pre_verification_gas: U256::from(10),
        gas_fees: half(9, 2),
        ..PackedUserOperation::default()
    };
    let gas = |enforce_paymaster, allowed_paymaster| Policy::Gas { allowed: 250, enforce_paymaster, allowed_paymaster };
    let scene = Scene::new();
    let policy = installed(&scene, gas(false, Address::ZERO)).await;
    for answer in [U256::ZERO, U256::ZERO, INVALID] {
        assert_eq!(policy.check_and_count(&op).await, Ok(answer));
    }
    let free = PackedUserOperation { gas_fees: half(9, 0), ..op.clone() };
    assert_eq!(policy.ask(&free).await, Ok(U256::ZERO));

    let paymaster = Address::repeat_byte(0xaa);
    let scene = Scene::new();
    let policy = installed(&scene, gas(true, paymaster)).await;
    let paid = |by: Address| PackedUserOperation { paymaster_and_data: by.to_vec().into(), ..op.clone() };
    assert_eq!(policy.ask(&paid(paymaster)).await, Ok(U256::ZERO));
    assert_eq!(policy.ask(&paid(Address::repeat_byte(0xbb))).await, Ok(INVALID));
    assert!(policy.ask(&op).await.is_err());
    // As deployed: without a name nothing is enforced.
    let scene = Scene::new();
    let policy = installed(&scene, gas(true, Address::ZERO)).await;
    assert_eq!(policy.ask(&op).await, Ok(U256::ZERO));
}

#[tokio::test]
async fn signatures_are_for_the_named_callers() {
    let scene = Scene::new();
    let named = Address::repeat_byte(0xaa);
    let callers = installed(&scene, Policy::SignatureCaller(vec![named])).await;
    assert_eq!(callers.ask(&PackedUserOperation::default()).await, Ok(U256::ZERO));
    let sudo = installed(&scene, Policy::Sudo).await;
    let ask = async |policy: &Asked<'_>, sender: Address| {
        let call = checkSignaturePolicyCall { id: ID, sender, hash: B256::ZERO, signature: Bytes::new() };
        let answer = scene.call(key(ACCOUNT).address(), policy.policy, call.abi_encode().into()).await.unwrap();
        checkSignaturePolicyCall::abi_decode_returns(&answer).unwrap()
    };
    assert_eq!(ask(&callers, named).await, U256::ZERO);
    assert_eq!(ask(&callers, Address::repeat_byte(0xbb)).await, INVALID);
    assert_eq!(ask(&sudo, Address::repeat_byte(0xbb)).await, U256::ZERO);
}

const CONDITIONS: [Condition; 7] = [
    Condition::Equal,
    Condition::GreaterThan,
    Condition::LessThan,
    Condition::GreaterOrEqual,
    Condition::LessOrEqual,
    Condition::NotEqual,
    Condition::OneOf,
];

/// Few values, so that they meet: small ones, their neighbours, and the largest.
fn value(random: &mut Random) -> U256 {
    match random.below(8) {
        0 => U256::MAX,
        1 => U256::from(1) << 255,
        low => U256::from(low),
    }
}

fn target(random: &mut Random) -> Address {
    [Address::ZERO, Address::repeat_byte(0xa), Address::repeat_byte(0xb)][random.below(3) as usize]
}

fn selector(random: &mut Random) -> FixedBytes<4> {
    [FixedBytes::ZERO, FixedBytes([1; 4]), FixedBytes([2; 4])][random.below(3) as usize]
}

fn permissions(random: &mut Random) -> Vec<CallPermission> {
    let mut all: Vec<CallPermission> = Vec::new();
    for _ in 0..=random.below(3) {
        let (target, selector) = (target(random), selector(random));
        if all.iter().any(|other| (other.target, other.selector) == (target, selector)) {
            continue;
        }
        let rules = (0..random.below(3)).map(|_| {
            let condition = CONDITIONS[random.below(7) as usize];
            let params = if condition == Condition::OneOf { random.below(4) } else { 1 };
            let params = (0..params).map(|_| value(random).into()).collect();
            CallRule { condition, offset: random.below(3) * 32, params }
        });
        let rules = rules.collect();
        all.push(CallPermission { target, selector, value_limit: U256::from(random.below(3)), rules });
    }
    all
}

fn call(random: &mut Random) -> Call {
    let mut data = selector(random).to_vec();
    for _ in 0..3 {
        data.extend(value(random).to_be_bytes::<32>());
    }
    data.truncate([99, 68, 36, 4, 3, 0].get(random.below(18) as usize).copied().unwrap_or(100));
    Call { target: target(random), value: U256::from(random.below(3)), data: data.into() }
}

/// What `Scope::permits` says beside the contract: the same, but for a call that an exact and an "any target" permission
/// both fit, where ours asks both and is never wider.
#[tokio::test]
async fn the_call_policy_and_the_scope_agree() {
    let scene = Scene::new();
    let account = key(ACCOUNT).address();
    let mut random = Random(4);
    let (mut allowed, mut narrower) = (0, 0);
    for round in 0..150_u64 {
        let version = CallPolicyVersion::V004;
        let policy = PolicyItem::standard(Policy::Call { version, permissions: permissions(&mut random) });
        let asked = Asked { scene: &scene, policy: policy.address, id: B256::from(U256::from(round + 1)) };
        assert!(asked.install(&policy.item()[22..]).await);
        let any_target = matches!(&policy.policy, Policy::Call { permissions, .. } if permissions.iter().any(|p| p.target.is_zero()));
        let signer = PermissionSigner::ecdsa(account);
        let scope = Permission { policies: vec![policy], flag: 0, signer }.scope(account);
        for _ in 0..20 {
            let calls: Vec<Call> = (0..=random.below(5) / 4).map(|_| call(&mut random)).collect();
            let call_data = if calls.len() == 1 { calls[0].execute() } else { Call::execute_batch(&calls) };
            let ours = scope.permits_call_data(&call_data, UnixSeconds(TIME));
            let op = PackedUserOperation { call_data, ..PackedUserOperation::default() };
            let theirs = asked.ask(&op).await;
            match (&ours, &theirs) {
                (Ok(()), Ok(data)) => {
                    assert!(data.is_zero());
                    allowed += 1;
                }
                (Err(_), Err(_)) => {}
                (Err(_), Ok(_)) if any_target => narrower += 1,
                _ => panic!("{calls:?}: {ours:?}, on chain {theirs:?}"),
            }
        }
    }
    assert!(allowed > 200, "{allowed} allowed, {narrower} by the chain alone");
}
