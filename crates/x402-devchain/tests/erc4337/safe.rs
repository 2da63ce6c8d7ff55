//! Safe4337Module: its hash beside ours, and operations that a Safe executes.

use alloy_primitives::{B256, Bytes, U256, uint};
use alloy_signer::SignerSync;
use alloy_sol_types::{SolCall, sol};
use x402_erc4337::session::safe::{SAFE_4337_MODULE, SafeOperation};
use x402_erc4337::{Init, Paymaster, UserOperation};

use crate::fixture::{ENTRY_POINT, Plans, Random, Scene, TIME, address, key, vectors, word};

sol! {
    struct Operation { address sender; uint256 nonce; bytes initCode; bytes callData; bytes32 accountGasLimits; uint256 preVerificationGas; bytes32 gasFees; bytes paymasterAndData; bytes signature; }

    function getOperationHash(Operation userOp) external view returns (bytes32 operationHash);
    function executeUserOp(address to, uint256 value, bytes data, uint8 operation) external;
}

async fn module_hash(scene: &Scene, op: &UserOperation) -> B256 {
    let op = op.pack(ENTRY_POINT.version).unwrap();
    let op = Operation {
        sender: op.sender,
        nonce: op.nonce,
        initCode: op.init_code,
        callData: op.call_data,
        accountGasLimits: op.account_gas_limits,
        preVerificationGas: op.pre_verification_gas,
        gasFees: op.gas_fees,
        paymasterAndData: op.paymaster_and_data,
        signature: op.signature,
    };
    scene.ask(SAFE_4337_MODULE, getOperationHashCall { userOp: op }).await.unwrap()
}

#[tokio::test]
async fn the_hash_is_the_modules() {
    let scene = Scene::new();
    let mut random = Random(5);
    for _ in 0..300 {
        let mut op = UserOperation {
            sender: random.address(),
            nonce: random.word(),
            call_data: random.bytes(200),
            call_gas_limit: random.number(),
            verification_gas_limit: random.number(),
            pre_verification_gas: random.word() >> random.below(256),
            max_fee_per_gas: random.number(),
            max_priority_fee_per_gas: random.number(),
            ..UserOperation::default()
        };
        if random.below(2) == 0 {
            op.init = Init::Factory { factory: random.address(), data: random.bytes(100) };
        }
        if random.below(2) == 0 {
            op.paymaster = Some(Paymaster {
                address: random.address(),
                verification_gas_limit: random.number(),
                post_op_gas_limit: random.number(),
                data: random.bytes(100),
                signature: Bytes::new(),
            });
        }
        let (valid_after, valid_until) = (random.below(1 << 48), random.below(1 << 48));
        let safe_op = SafeOperation { op: &op, valid_after, valid_until, module: SAFE_4337_MODULE };
        let (hash, signature) = (safe_op.hash(&ENTRY_POINT).unwrap(), safe_op.signature(&random.bytes(65)).unwrap());
        op.signature = signature;
        assert_eq!(module_hash(&scene, &op).await, hash, "{op:?}");
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
