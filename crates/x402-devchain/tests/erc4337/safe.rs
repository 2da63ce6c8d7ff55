//! Safe4337Module: its hash beside ours, and operations that a Safe executes.

use alloy_primitives::{Bytes, U256, uint};
use alloy_signer::SignerSync;
use alloy_sol_types::{SolCall, sol};
use x402_erc4337::session::safe::{SAFE_4337_MODULE, SafeOperation};
use x402_erc4337::{Init, UserOperation};

use crate::fixture::{ENTRY_POINT, Plans, Random, Scene, TIME, address, getOperationHashCall, key, vectors, word};

sol! {
    function executeUserOp(address to, uint256 value, bytes data, uint8 operation) external;
}

#[tokio::test]
async fn the_hash_is_the_modules() {
    let scene = Scene::new();
    let mut random = Random(5);
    for _ in 0..300 {
        let mut op = random.operation();
        if random.below(2) == 0 {
            op.paymaster = Some(random.paymaster());
        }
        let (valid_after, valid_until) = (random.below(1 << 48), random.below(1 << 48));
        let safe_op = SafeOperation { op: &op, valid_after, valid_until, module: SAFE_4337_MODULE };
        let (hash, signature) = (safe_op.hash(&ENTRY_POINT).unwrap(), safe_op.signature(&random.bytes(65)).unwrap());
        op.signature = signature;
        let call = getOperationHashCall { op: op.pack(ENTRY_POINT.version).unwrap().into() };
        assert_eq!(scene.ask(SAFE_4337_MODULE, call).await.unwrap(), hash, "{op:?}");
    }
}

#[tokio::test]
async fn a_safe_executes() {
    let vectors = vectors();
    let scene = Scene::new();
    // Safe's SDK made the first operation, which makes the Safe of account 1 as well.
    let case = &vectors["safe4337"];
    let first = UserOperation::from_json(case["userOperation"].to_string().as_bytes()).unwrap();
    let safe = address(&case["account"]);
    let ended = scene.send(std::slice::from_ref(&first)).await;
    assert_eq!((ended[0].hash, ended[0].success), (word(&case["userOpHash"]), true));
    let plan = uint!(0x62eb81a80116ceff380dd0f86ff9fbfb4f866cd3d9250f38ca67c5e29769487f_U256);
    assert_eq!(scene.credits(safe, plan).await, U256::from(100));

    let data = Plans::redeemCall { planId: plan, amount: U256::from(30) }.abi_encode().into();
    let call = executeUserOpCall { to: scene.plans, value: U256::ZERO, data, operation: 0 };
    let op = UserOperation {
        nonce: U256::from(1),
        init: Init::None,
        call_data: call.abi_encode().into(),
        signature: Bytes::new(),
        ..first
    };
    let signed = |account: usize, valid_until: u64| {
        let safe_op = SafeOperation { op: &op, valid_after: 0, valid_until, module: SAFE_4337_MODULE };
        let signature = key(account).sign_hash_sync(&safe_op.hash(&ENTRY_POINT).unwrap()).unwrap();
        UserOperation { signature: safe_op.signature(&signature.as_bytes()).unwrap(), ..op.clone() }
    };
    assert_eq!(scene.refused(&[signed(2, TIME)]).await.code(), Some("AA24"));
    assert_eq!(scene.refused(&[signed(1, TIME - 1)]).await.code(), Some("AA22"));
    assert!(scene.send(&[signed(1, TIME)]).await[0].success);
    assert_eq!(scene.credits(safe, plan).await, U256::from(70));
}
