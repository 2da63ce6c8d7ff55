//! Accounts and payers with code by EIP-7702.

use alloy_primitives::{Bytes, U256, hex};
use alloy_provider::Provider;
use alloy_signer::SignerSync;
use alloy_sol_types::{SolCall, sol};
use x402_devchain::contracts::SIMPLE_7702_ACCOUNT;
use x402_devchain::{ACCOUNTS, DevChain, TOKEN, TOKENS_EACH, Token, signer};
use x402_erc4337::{
    Bundle, Eip7702Authorization, EntryPoint, EntryPointVersion, FindUserOps, Gas, Init, NonceKey, OperationBuilder,
    RpcEntryPoint, SendUserOp, SimulateUserOps, Simulated, UserOperation,
};

use crate::stage::{PAYER, START, STRANGER, bundler};

sol! {
    function execute(address target, uint256 value, bytes data);
}

const ACCOUNT: usize = 4;

/// An operation of a Simple7702Account that is none yet, with its delegation.
fn delegating(entry_point: EntryPoint) -> UserOperation {
    let account = signer(ACCOUNT).unwrap();
    let mut auth =
        Eip7702Authorization { address: SIMPLE_7702_ACCOUNT, chain_id: U256::from(84532), nonce: 0, signature: None };
    let signed = account.sign_hash_sync(&auth.signing_hash()).unwrap();
    auth.signature = Some((signed.r().into(), signed.s().into(), signed.v()));
    let transfer = Token::transferCall { to: ACCOUNTS[STRANGER].address, value: U256::from(7) };
    let call = executeCall { target: TOKEN, value: U256::ZERO, data: transfer.abi_encode().into() };
    let ready = OperationBuilder::new(entry_point, account.address())
        .init(Init::Eip7702 { data: Bytes::new() })
        .delegated(auth)
        .nonce(NonceKey::default(), 0)
        .call_data(call.abi_encode().into())
        .gas(Gas { call_gas_limit: 200_000, verification_gas_limit: 300_000, ..Gas::default() })
        .unsponsored()
        .unwrap();
    let signature = account.sign_hash_sync(&ready.hash()).unwrap();
    ready.signed(Bytes::copy_from_slice(&signature.as_bytes()))
}

#[tokio::test]
async fn a_delegation_travels_with_the_first_operation() {
    let chain = DevChain::builder().time(START).build().unwrap();
    let entry_point = EntryPoint::canonical(EntryPointVersion::V08, 84532);
    let op = delegating(entry_point);
    let bundler = bundler(&chain, entry_point, PAYER);
    let sent = bundler.send_user_op(&op).await.unwrap();
    let found = bundler.chain().find_user_ops(&[sent.hash()], 0..=chain.block_number()).await.unwrap();
    assert!(found[0].as_ref().unwrap().executed.success);
    assert_eq!(chain.balance_of(ACCOUNTS[STRANGER].address), U256::from(TOKENS_EACH + 7));
    let code = chain.provider().get_code_at(op.sender).await.unwrap();
    assert_eq!(code[..], [&hex!("ef0100")[..], SIMPLE_7702_ACCOUNT.as_slice()].concat());
}

/// "tx.origin == msg.sender && msg.sender.code.length == 0": a payer that is delegated itself is refused by 0.9.
#[tokio::test]
async fn entry_point_09_takes_no_bundle_from_a_payer_with_code() {
    let chain = DevChain::builder().time(START).build().unwrap();
    let payer = ACCOUNTS[PAYER].address;
    let simulate = async |version| {
        let entry_point = EntryPoint::canonical(version, 84532);
        let bundle = Bundle::new(entry_point, payer, &[delegating(entry_point)]).unwrap();
        let node = RpcEntryPoint::new(chain.client(), entry_point);
        node.simulate_user_ops(&[bundle]).await.unwrap().remove(0)
    };
    let delegated = [&hex!("ef0100")[..], SIMPLE_7702_ACCOUNT.as_slice()].concat();
    chain.set_code(payer, delegated.into()).unwrap();
    assert!(simulate(EntryPointVersion::V08).await.is_success());
    let refused = simulate(EntryPointVersion::V09).await;
    assert!(
        matches!(&refused, Simulated::Refused(why) if why.to_string() == "handleOps reverts with Reentrancy()"),
        "{refused:?}"
    );
    chain.set_code(payer, Bytes::new()).unwrap();
    // The account knows 0.8 only.
    let refused = simulate(EntryPointVersion::V09).await;
    assert!(matches!(&refused, Simulated::Refused(why) if why.code() == Some("AA23")), "{refused:?}");
}
