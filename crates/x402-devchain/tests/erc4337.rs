//! The contracts of ERC-4337 at work: what another SDK and another chain made is replayed, op by op.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use alloy_network::TransactionBuilder;
use alloy_primitives::{Address, B256, Bytes, FixedBytes, U256};
use alloy_provider::Provider;
use alloy_rpc_types_eth::{TransactionReceipt, TransactionRequest};
use common::rpc;
use serde_json::{Value, json};
use x402_devchain::contracts::{ENTRY_POINT_V07, KERNEL, KERNEL_FACTORY};
use x402_devchain::{DevChain, signer};
use x402_erc4337::session::zerodev::{ECDSA_SIGNER, ECDSA_VALIDATOR, META_FACTORY};
use x402_erc4337::{Call, EntryPointEvent};

/// Inside the policies' time: 1780000000 to 1900000000.
const TIME: u64 = 1_800_000_000;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../x402-testkit/vectors/erc4337.json")).unwrap()
}

fn bytes(value: &Value) -> Bytes {
    value.as_str().unwrap().parse().unwrap()
}

fn account(value: &Value) -> Address {
    value.as_str().unwrap().parse().unwrap()
}

fn word(value: &Value) -> B256 {
    value.as_str().unwrap().parse().unwrap()
}

/// A chain with the plans contract of the vectors.
fn chain(vectors: &Value) -> DevChain {
    let chain = DevChain::builder().time(TIME).build().unwrap();
    chain.construct(account(&vectors["contracts"]["plans"]), bytes(&vectors["plansInitCode"])).unwrap();
    chain
}

/// `handleOps` from account 3, which is the vectors' beneficiary.
async fn handle_ops(chain: &DevChain, data: Bytes) -> TransactionReceipt {
    let request = TransactionRequest::default().with_to(ENTRY_POINT_V07).with_input(data).with_gas_limit(5_000_000);
    chain.wallet(signer(3).unwrap()).send_transaction(request).await.unwrap().get_receipt().await.unwrap()
}

/// The operations that a receipt tells of: hash, and whether the call succeeded.
fn executed(receipt: &TransactionReceipt) -> Vec<(B256, bool)> {
    let logs = receipt.inner.logs().iter().filter(|log| log.address() == ENTRY_POINT_V07);
    let events = logs.filter_map(|log| EntryPointEvent::decode(log.topics(), &log.data().data));
    events
        .filter_map(|event| match event {
            EntryPointEvent::UserOperation { hash, success, .. } => Some((hash, success)),
            _ => None,
        })
        .collect()
}

/// What the plans contract still owes the account.
async fn credits(chain: &DevChain, vectors: &Value, permission: &Value) -> U256 {
    let plan = U256::from_str_radix(permission["planId"].as_str().unwrap(), 10).unwrap();
    // balanceOf(address,uint256)
    let selector: FixedBytes<4> = "0x00fdd58e".parse().unwrap();
    let owner = account(&permission["account"]).into_word();
    let data = Bytes::from([&selector[..], owner.as_slice(), &plan.to_be_bytes::<32>()].concat());
    let call = json!([{ "to": account(&vectors["contracts"]["plans"]), "data": data }, "latest"]);
    serde_json::from_value(rpc(chain, "eth_call", call).await.unwrap()).unwrap()
}

/// Credits after a call of the plans contract: `order(plan)` adds 100, `redeem(plan, amount)` takes the amount.
fn after(before: U256, op: &Value) -> U256 {
    let calls = Call::read(&bytes(&op["userOperation"]["callData"])).unwrap();
    match &calls[0].data[..] {
        order if order.len() == 36 => before + U256::from(100),
        redeem => before - U256::from_be_slice(&redeem[36..68]),
    }
}

#[test]
fn the_addresses_are_those_of_the_vectors() {
    let vectors = vectors();
    let contracts = &vectors["contracts"];
    for (name, address) in [
        ("ep07", ENTRY_POINT_V07),
        ("metaFactory", META_FACTORY),
        ("k31", KERNEL),
        ("k31f", KERNEL_FACTORY),
        ("ecdsaValidator", ECDSA_VALIDATOR),
        ("ECDSASigner", ECDSA_SIGNER),
    ] {
        assert_eq!(account(&contracts[name]), address, "{name}");
    }
}

/// ZeroDev's SDK made these operations; another chain executed them, with the real modules.
#[tokio::test]
async fn the_sdks_operations_execute() {
    let vectors = vectors();
    let chain = chain(&vectors);
    let mut left = U256::ZERO;
    for which in [0, 1] {
        let permission = &vectors["kernelPermissions"][which];
        for op in permission["operations"].as_array().unwrap() {
            let receipt = handle_ops(&chain, bytes(&op["handleOpsCalldata"])).await;
            assert!(receipt.status());
            assert_eq!(executed(&receipt), [(word(&op["userOpHash"]), true)], "{which} {}", op["mode"]);
            left = after(left, op);
            assert_eq!(credits(&chain, &vectors, permission).await, left);
        }
    }
}
