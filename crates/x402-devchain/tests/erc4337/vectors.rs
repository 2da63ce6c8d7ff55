//! What ZeroDev's and Safe's SDKs made and another chain executed, with the deployed contracts, is replayed here.

use alloy_primitives::{FixedBytes, U256};
use serde_json::Value;
use x402_devchain::contracts::{
    CALL_POLICY, ENTRY_POINT_V06, ENTRY_POINT_V07, ENTRY_POINT_V08, KERNEL, KERNEL_FACTORY, SAFE, SAFE_MODULE_SETUP,
    SAFE_PROXY_FACTORY, SIMPLE_7702_ACCOUNT,
};
use x402_erc4337::session::safe::SAFE_4337_MODULE;
use x402_erc4337::session::zerodev::{ECDSA_SIGNER, ECDSA_VALIDATOR, META_FACTORY, contracts};
use x402_erc4337::{Call, PackedUserOperation, SimulationRefusal};

use crate::fixture::{Scene, address, bytes, executed, key, vectors, word};

#[test]
fn the_addresses_are_those_of_the_vectors() {
    let vectors = vectors();
    for (name, at) in [
        ("ep06", ENTRY_POINT_V06),
        ("ep07", ENTRY_POINT_V07),
        ("ep08", ENTRY_POINT_V08),
        ("metaFactory", META_FACTORY),
        ("k31", KERNEL),
        ("k31f", KERNEL_FACTORY),
        ("ecdsaValidator", ECDSA_VALIDATOR),
        ("ECDSASigner", ECDSA_SIGNER),
        ("TimestampPolicy", contracts::TIMESTAMP),
        ("GasPolicy", contracts::GAS),
        ("RateLimitPolicy", contracts::RATE_LIMIT),
        ("SignaturePolicy", contracts::SIGNATURE_CALLER),
        ("SudoPolicy", contracts::SUDO),
        ("CallPolicy", CALL_POLICY),
    ] {
        assert_eq!(address(&vectors["contracts"][name]), at, "{name}");
    }
    for (name, at) in [
        ("singleton", SAFE),
        ("proxyFactory", SAFE_PROXY_FACTORY),
        ("safe4337Module", SAFE_4337_MODULE),
        ("safeModuleSetup", SAFE_MODULE_SETUP),
    ] {
        assert_eq!(address(&vectors["safe4337"][name]), at, "{name}");
    }
    assert_eq!(address(&vectors["eip7702"]["simple7702Implementation"]), SIMPLE_7702_ACCOUNT);
}

/// Credits after a call of the plans contract: `order(plan)` adds 100, `redeem(plan, amount)` takes the amount.
fn after(before: U256, op: &Value) -> U256 {
    let calls = Call::read(&bytes(&op["userOperation"]["callData"])).unwrap();
    match &calls[0].data[..] {
        order if order.len() == 36 => before + U256::from(100),
        redeem => before - U256::from_be_slice(&redeem[36..68]),
    }
}

fn plan(permission: &Value) -> U256 {
    U256::from_str_radix(permission["planId"].as_str().unwrap(), 10).unwrap()
}

#[tokio::test]
async fn the_sdks_operations_execute() {
    let vectors = vectors();
    let scene = Scene::new();
    let mut left = U256::ZERO;
    for which in [0, 1] {
        let permission = &vectors["kernelPermissions"][which];
        for op in permission["operations"].as_array().unwrap() {
            let receipt = scene.handle_ops(bytes(&op["handleOpsCalldata"]), 4_000_000).await;
            let ended = executed(&receipt);
            assert_eq!(ended.len(), 1, "{which} {}", op["mode"]);
            assert_eq!((ended[0].hash, ended[0].success), (word(&op["userOpHash"]), true), "{which} {}", op["mode"]);
            left = after(left, op);
            assert_eq!(scene.credits(address(&permission["account"]), plan(permission)).await, left);
        }
    }
}

#[tokio::test]
async fn order_and_redeem_travel_in_one_bundle() {
    let vectors = vectors();
    let scene = Scene::new();
    let mut ops = Vec::new();
    for which in [0, 1] {
        let enable = &vectors["kernelPermissions"][which]["operations"][0]["handleOpsCalldata"];
        ops.extend(PackedUserOperation::from_handle_ops(&bytes(enable)).unwrap().0);
    }
    let receipt = scene.handle_ops(PackedUserOperation::handle_ops(&ops, key(3).address()), 6_000_000).await;
    let ended: Vec<_> = executed(&receipt).into_iter().map(|op| (op.hash, op.success)).collect();
    let order = word(&vectors["kernelPermissions"][0]["operations"][0]["userOpHash"]);
    let redeem = word(&vectors["execution"]["orderAndRedeemInOneHandleOps"]["redeemHash"]);
    assert_eq!(ended, [(order, true), (redeem, true)]);
}

/// A signature that is none reverts with the deployed library's error; one of somebody else is AA24.
#[tokio::test]
async fn a_malformed_signature_is_refused_as_deployed() {
    let vectors = vectors();
    let scene = Scene::new();
    let permission = &vectors["kernelPermissions"][0];
    let calldata = bytes(&permission["operations"][0]["handleOpsCalldata"]);
    scene.handle_ops(calldata, 4_000_000).await;
    let calldata = bytes(&permission["operations"][1]["handleOpsCalldata"]);
    let (mut ops, payer) = PackedUserOperation::from_handle_ops(&calldata).unwrap();
    let good = ops[0].signature.to_vec();
    let mut refused = async |signature: Vec<u8>| {
        ops[0].signature = signature.into();
        let data = PackedUserOperation::handle_ops(&ops, payer);
        SimulationRefusal::new(scene.call(payer, ENTRY_POINT_V07, data).await.unwrap_err())
    };

    let invalid = [[0xff].as_slice(), &[0; 65]].concat();
    let answer = refused(invalid).await;
    assert_eq!(*answer.data(), bytes(&vectors["execution"]["failures"]["badSignature"]["data"]));

    let mut other = good.clone();
    other[40] ^= 1;
    assert_eq!(refused(other).await.code(), Some("AA24"));

    // The permission's own prefix is missing: Kernel's error, not the signer's.
    let inner = refused(good[1..].to_vec()).await.inner().unwrap();
    assert_eq!(inner.data()[..], FixedBytes::<4>::from([0xb3, 0x2e, 0xeb, 0x69])[..], "SignerPrefixNotPresent()");
    assert_eq!(refused(Vec::new()).await.code(), Some("AA23"));
}
