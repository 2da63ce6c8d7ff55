//! Is it an account? Asked of everything that stands on the chain.

use alloy_primitives::{Address, Bytes, hex};
use alloy_provider::Provider;
use x402_devchain::TOKEN;
use x402_devchain::contracts::{ENTRY_POINT_V07, ENTRY_POINT_V08, KERNEL_FACTORY, MULTICALL3, SIMPLE_7702_ACCOUNT};
use x402_erc4337::session::zerodev::ECDSA_VALIDATOR;
use x402_erc4337::{CallAnswer, NotAccount, UserOperation, is_account, probe_calldata};

use crate::fixture::{Scene, address, bytes, key, vectors};

async fn probe(scene: &Scene, account: Address, entry_point: Address) -> Result<(), NotAccount> {
    let code = scene.chain.provider().get_code_at(account).await.unwrap();
    let ask = async |from: Address| match scene.call(from, account, probe_calldata(account)).await {
        Ok(data) => CallAnswer::Returned(data),
        Err(data) => CallAnswer::Reverted(data),
    };
    is_account(&code, &ask(Address::repeat_byte(0x57)).await, &ask(entry_point).await)
}

#[tokio::test]
async fn accounts_are_told_from_everything_else() {
    let vectors = vectors();
    let scene = Scene::new();
    let permission = &vectors["kernelPermissions"][0];
    let kernel = address(&permission["account"]);
    // Not deployed: nothing is there yet.
    assert_eq!(probe(&scene, kernel, ENTRY_POINT_V07).await, Err(NotAccount::NoCode));
    scene.handle_ops(bytes(&permission["operations"][0]["handleOpsCalldata"]), 4_000_000).await;
    assert_eq!(probe(&scene, kernel, ENTRY_POINT_V07).await, Ok(()));
    assert_eq!(probe(&scene, kernel, ENTRY_POINT_V08).await, Err(NotAccount::EntryPoint));

    let case = &vectors["safe4337"];
    let op = UserOperation::from_json(case["userOperation"].to_string().as_bytes()).unwrap();
    scene.send(&[op]).await;
    let safe = address(&case["account"]);
    assert_eq!(probe(&scene, safe, ENTRY_POINT_V07).await, Ok(()));
    assert_eq!(probe(&scene, safe, ENTRY_POINT_V08).await, Err(NotAccount::EntryPoint));

    let delegated = key(6).address();
    assert_eq!(probe(&scene, delegated, ENTRY_POINT_V08).await, Err(NotAccount::NoCode));
    let delegation: Bytes = [&hex!("ef0100")[..], SIMPLE_7702_ACCOUNT.as_slice()].concat().into();
    scene.chain.set_code(delegated, delegation).unwrap();
    assert_eq!(probe(&scene, delegated, ENTRY_POINT_V08).await, Ok(()));
    assert_eq!(probe(&scene, delegated, ENTRY_POINT_V07).await, Err(NotAccount::EntryPoint));

    for contract in [TOKEN, MULTICALL3, KERNEL_FACTORY, ECDSA_VALIDATOR, ENTRY_POINT_V07, scene.plans] {
        assert_eq!(probe(&scene, contract, ENTRY_POINT_V07).await, Err(NotAccount::Stranger), "{contract}");
    }
    // One who answers 32 bytes to everyone.
    scene.chain.set_code(Address::repeat_byte(0x99), hex!("60205ff3").into()).unwrap();
    assert_eq!(probe(&scene, Address::repeat_byte(0x99), ENTRY_POINT_V07).await, Err(NotAccount::Stranger));
}
