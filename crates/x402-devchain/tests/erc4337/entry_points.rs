//! The EntryPoints themselves: the contracts that their constructors make, and operations of 0.8 and 0.9.

use alloy_eips::eip7702::{Authorization, SignedAuthorization};
use alloy_network::TransactionBuilder;
use alloy_primitives::{Address, B256, Bytes, U256, hex};
use alloy_provider::Provider;
use alloy_rpc_types_eth::{TransactionReceipt, TransactionRequest};
use alloy_signer::SignerSync;
use alloy_sol_types::{SolCall, sol};
use serde_json::Value;
use x402_devchain::contracts::{SIMPLE_7702_ACCOUNT, simple_7702_account_v09};
use x402_erc4337::{
    Bundle, Eip7702Authorization, EntryPoint, EntryPointError, EntryPointVersion, Executed, Init, UserOperation,
};

use crate::fixture::{Scene, address, bytes, key, vectors, word};

sol! {
    function getSenderAddress(bytes initCode) external;
    function execute(address target, uint256 value, bytes data) external;
}

/// EntryPoint 0.8 and Simple7702Account: one transaction delegates and executes, the next operation needs no initCode.
#[tokio::test]
async fn a_delegated_account_executes_on_0_8() {
    let vectors = vectors();
    let scene = Scene::new();
    let case = &vectors["eip7702"]["simple7702_v08"];
    let sender = address(&case["userOperation"]["sender"]);
    let entry_point = EntryPoint::canonical(EntryPointVersion::V08, 84532);
    let read = |case: &Value| UserOperation::from_json(case["userOperation"].to_string().as_bytes()).unwrap();

    let first = Bundle::new(entry_point, key(3).address(), &[read(case)]).unwrap();
    let auth = &case["authorization"];
    let authorization = Authorization { chain_id: U256::from(84532), address: SIMPLE_7702_ACCOUNT, nonce: 0 };
    let parity = auth["yParity"].as_u64().unwrap() as u8;
    let signed =
        SignedAuthorization::new_unchecked(authorization, parity, word(&auth["r"]).into(), word(&auth["s"]).into());
    let request = TransactionRequest {
        to: Some(entry_point.address.into()),
        input: first.call_data().clone().into(),
        gas: Some(first.gas() + 50_000),
        authorization_list: Some(vec![signed]),
        ..TransactionRequest::default()
    };
    let pending = scene.chain.wallet(key(3)).send_transaction(request).await.unwrap();
    let receipt = pending.get_receipt().await.unwrap();
    let ended = ended_at(entry_point.address, &receipt);
    assert_eq!(ended, [(word(&case["eventHash"]), true)]);
    assert_eq!(scene.chain.provider().get_code_at(sender).await.unwrap(), bytes(&case["codeAfter"]));

    let case = &vectors["eip7702"]["simple7702_v08_followup"];
    let next = Bundle::new(entry_point, key(3).address(), &[read(case)]).unwrap();
    let receipt = send(&scene, &next).await;
    assert_eq!(ended_at(entry_point.address, &receipt), [(word(&case["userOpHash"]), true)]);
}

async fn send(scene: &Scene, bundle: &Bundle) -> TransactionReceipt {
    let request = TransactionRequest::default()
        .with_to(bundle.entry_point().address)
        .with_input(bundle.call_data().clone())
        .with_gas_limit(bundle.gas());
    scene.chain.wallet(key(3)).send_transaction(request).await.unwrap().get_receipt().await.unwrap()
}

fn ended_at(entry_point: Address, receipt: &TransactionReceipt) -> Vec<(B256, bool)> {
    let logs: Vec<_> = receipt.inner.logs().iter().map(|log| log.inner.clone()).collect();
    Executed::read(entry_point, &logs).into_iter().map(|op| (op.hash, op.success)).collect()
}

/// `getSenderAddress` goes through the SenderCreator that each EntryPoint's constructor made and lets nobody else in.
#[tokio::test]
async fn every_entry_point_has_its_sender_creator() {
    let vectors = vectors();
    let scene = Scene::new();
    let permission = &vectors["kernelPermissions"][0];
    let init_code = [&address(&permission["factory"])[..], &bytes(&permission["factoryData"])].concat();
    for version in EntryPointVersion::ALL {
        let data = getSenderAddressCall { initCode: init_code.clone().into() }.abi_encode().into();
        let answer = scene.call(key(3).address(), version.address(), data).await.unwrap_err();
        let expected = EntryPointError::SenderAddress(address(&permission["account"]));
        assert_eq!(EntryPointError::decode(&answer), Some(expected), "{version}");
    }
}

/// 0.9 takes bundles from plain accounts alone: "the facilitator's hot key must not be 7702-delegated".
#[tokio::test]
async fn a_delegated_account_executes_on_0_9() {
    let scene = Scene::new();
    let entry_point = EntryPoint::canonical(EntryPointVersion::V09, 84532);
    let (delegate, payer) = (Address::repeat_byte(0x79), key(3).address());
    scene.chain.construct(delegate, simple_7702_account_v09()).unwrap();
    let owner = key(6);
    let delegation = |to: Address| Bytes::from([&hex!("ef0100")[..], to.as_slice()].concat());
    scene.chain.set_code(owner.address(), delegation(delegate)).unwrap();

    let order = scene.order(7);
    let call = executeCall { target: order.target, value: U256::ZERO, data: order.data };
    let auth = Eip7702Authorization { address: delegate, chain_id: U256::from(84532), nonce: 0, signature: None };
    let mut op = UserOperation {
        sender: owner.address(),
        init: Init::Eip7702 { data: Bytes::new() },
        call_data: call.abi_encode().into(),
        call_gas_limit: 200_000,
        verification_gas_limit: 200_000,
        eip7702_auth: Some(auth),
        ..UserOperation::default()
    };
    let hash = op.hash(&entry_point).unwrap();
    op.signature = owner.sign_hash_sync(&hash).unwrap().as_bytes().into();
    let bundle = Bundle::new(entry_point, payer, &[op]).unwrap();

    scene.chain.set_code(payer, delegation(delegate)).unwrap();
    let answer = scene.call(payer, entry_point.address, bundle.call_data().clone()).await;
    assert_eq!(answer, Err(hex!("ab143c06").into()), "Reentrancy()");
    scene.chain.set_code(payer, Bytes::new()).unwrap();

    let receipt = send(&scene, &bundle).await;
    assert_eq!(ended_at(entry_point.address, &receipt), [(hash, true)]);
    assert_eq!(scene.credits(owner.address(), U256::from(7)).await, U256::from(100));
}
