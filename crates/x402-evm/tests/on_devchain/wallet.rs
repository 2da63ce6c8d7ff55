//! Signatures of keys, of contracts and of contracts that are not there yet, judged by what the chain answers.

use alloy_primitives::{Address, B256, Bytes, U256, address, hex};
use alloy_signer::SignerSync;
use serde_json::Value;
use x402_devchain::{ACCOUNTS, Failure, TOKEN, When, signer};
use x402_evm::chain::{At, BatchRead, ReadChain};
use x402_evm::eip6492::Counterfactual;
use x402_evm::signature::SignatureError;
use x402_evm::wallet::{MAX_SIGNATURE, NotSigned, Signer, SignerVerdict, Signers};
use x402_types::Fault;

use crate::stage::{Stage, stage};

const DIGEST: B256 = B256::repeat_byte(0x42);
pub(crate) const WALLET: Address = Address::repeat_byte(0xaa);
pub(crate) const OWNER: usize = 4;
/// The deterministic deployment proxy, <https://github.com/Arachnid/deterministic-deployment-proxy>: `salt ‖ initCode`.
pub(crate) const FACTORY: Address = address!("4e59b44847b379578588920cA78FbF26c0B4956C");
pub(crate) const FACTORY_CODE: [u8; 69] = hex!(
    "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe03601600081602082378035828234f58015156039578182fd5b8082525050506014600cf3"
);

/// `contracts/TestWallet.sol` of the devchain: its owner stands in slot 0, how it misbehaves in slot 0 behind it.
pub(crate) fn wallet_code() -> Bytes {
    let artifact = include_str!("../../../x402-devchain/contracts/artifacts/TestWallet.json");
    let artifact: Value = serde_json::from_str(artifact).unwrap();
    serde_json::from_value(artifact["deployedBytecode"].clone()).unwrap()
}

pub(crate) fn wallet_of(stage: &Stage, account: Address, owner: Address, misbehave: u8) {
    let slot: U256 = U256::from(misbehave) << 160 | U256::from_be_slice(owner.as_slice());
    stage.chain.set_storage(account, U256::ZERO, slot.into());
}

fn signed_by(index: usize) -> Bytes {
    signer(index).unwrap().sign_hash_sync(&DIGEST).unwrap().as_bytes().into()
}

/// Init code that writes the owner into slot 0 and leaves the wallet's code.
pub(crate) fn init_code(owner: Address) -> Bytes {
    let runtime = wallet_code();
    let len = u16::try_from(runtime.len()).unwrap().to_be_bytes();
    // PUSH20 owner PUSH0 SSTORE; PUSH2 len DUP1 PUSH1 33 PUSH0 CODECOPY; PUSH0 RETURN
    let head = [&[0x73][..], owner.as_slice(), &hex!("5f5561"), &len, &hex!("8060215f395ff3")].concat();
    assert_eq!(head.len(), 33);
    [&head[..], &runtime].concat().into()
}

pub(crate) fn made_by_factory(owner: Address) -> Address {
    FACTORY.create2_from_code(B256::ZERO, init_code(owner))
}

fn wrapped(factory: Address, owner: Address, signature: Bytes) -> Bytes {
    let factory_data = [B256::ZERO.as_slice(), &init_code(owner)].concat().into();
    Counterfactual { factory, factory_data, signature }.encode()
}

async fn verdict(stage: &Stage, signers: &Signers, account: Address, signature: &Bytes) -> Result<Signer, NotSigned> {
    let (reads, asked) = signers.read(account, DIGEST, signature)?.ask(BatchRead::new().code_size(TOKEN));
    stage.chain.reset_calls();
    let answers = stage.reader.run(&reads, At::Latest).await.unwrap();
    assert_eq!((stage.chain.calls().round_trips, stage.chain.calls().total()), (1, 1), "one round trip");
    asked.verdict(&answers).unwrap().signer()
}

#[tokio::test]
async fn without_code_the_key_signs_where_keys_are_taken() {
    let stage = stage(0);
    let account = ACCOUNTS[OWNER].address;
    let any = Signers::any();
    assert_eq!(verdict(&stage, &any, account, &signed_by(OWNER)).await, Ok(Signer::Key));
    assert_eq!(verdict(&stage, &any, account, &signed_by(5)).await, Err(NotSigned::Other(ACCOUNTS[5].address)));
    let short = signed_by(OWNER).slice(..64);
    assert_eq!(verdict(&stage, &any, account, &short).await, Err(NotSigned::Key(SignatureError::Length(64))));
    let contracts = Signers::contracts();
    assert_eq!(verdict(&stage, &contracts, account, &signed_by(OWNER)).await, Err(NotSigned::NotDeployed));
}

#[tokio::test]
async fn with_code_only_the_code_is_asked() {
    let stage = stage(0);
    stage.chain.set_code(WALLET, wallet_code()).unwrap();
    let (owner, mine) = (ACCOUNTS[OWNER].address, signed_by(OWNER));
    // How it misbehaves, and what is made of it: right, wrong magic, a revert, 4 bytes, the magic with dirt behind it.
    for (misbehave, expected) in [
        (0, Ok(Signer::Contract)),
        (1, Err(NotSigned::Refused)),
        (2, Err(NotSigned::Reverted)),
        (3, Err(NotSigned::Refused)),
        (4, Err(NotSigned::Refused)),
    ] {
        wallet_of(&stage, WALLET, owner, misbehave);
        for signers in [Signers::any(), Signers::contracts()] {
            assert_eq!(verdict(&stage, &signers, WALLET, &mine).await, expected, "{misbehave}");
        }
    }
    wallet_of(&stage, WALLET, owner, 0);
    assert_eq!(verdict(&stage, &Signers::any(), WALLET, &signed_by(5)).await, Err(NotSigned::Refused));

    // EIP-7702: the key of the address still makes signatures that recover to it. The code does not take them.
    let account = ACCOUNTS[6].address;
    stage.chain.set_code(account, [&hex!("ef0100")[..], WALLET.as_slice()].concat().into()).unwrap();
    wallet_of(&stage, account, owner, 0);
    assert_eq!(verdict(&stage, &Signers::any(), account, &signed_by(6)).await, Err(NotSigned::Refused));
    assert_eq!(verdict(&stage, &Signers::any(), account, &mine).await, Ok(Signer::Contract));
}

#[tokio::test]
async fn a_contract_is_not_believed_by_its_length_nor_let_run_or_write() {
    let stage = stage(0);
    // The magic and what else is returned; `isValidSignature` is a view with a bound.
    for (code, expected) in [
        (&hex!("631626ba7e60e01b5f5260205ff3")[..], Ok(Signer::Contract)),
        (&hex!("631626ba7e60e01b5f5260405ff3"), Ok(Signer::Contract)),
        (&hex!("631626ba7e60e01b5f52601f5ff3"), Err(NotSigned::Refused)),
        (&hex!("631626ba7e5f5260205ff3"), Err(NotSigned::Refused)),
        (&hex!("365f5f37365ff3"), Err(NotSigned::Refused)),
        (&hex!("00"), Err(NotSigned::Refused)),
        (&hex!("60015f55631626ba7e60e01b5f5260205ff3"), Err(NotSigned::Reverted)),
        (&hex!("5b5f56"), Err(NotSigned::Reverted)),
        (&hex!("fe"), Err(NotSigned::Reverted)),
    ] {
        stage.chain.set_code(WALLET, code.to_vec().into()).unwrap();
        assert_eq!(
            verdict(&stage, &Signers::any(), WALLET, &signed_by(OWNER)).await,
            expected,
            "{}",
            hex::encode(code)
        );
    }
    // What needs more gas than it is given reverts: ecrecover takes 3,000.
    stage.chain.set_code(WALLET, wallet_code()).unwrap();
    wallet_of(&stage, WALLET, ACCOUNTS[OWNER].address, 0);
    let mine = signed_by(OWNER);
    assert_eq!(verdict(&stage, &Signers::any().with_gas(3_000), WALLET, &mine).await, Err(NotSigned::Reverted));
    assert_eq!(verdict(&stage, &Signers::any().with_gas(20_000), WALLET, &mine).await, Ok(Signer::Contract));
}

#[tokio::test]
async fn an_account_that_is_not_deployed_needs_a_factory_of_the_list() {
    let stage = stage(0);
    stage.chain.set_code(FACTORY, FACTORY_CODE.to_vec().into()).unwrap();
    let owner = ACCOUNTS[OWNER].address;
    let (account, good) = (made_by_factory(owner), wrapped(FACTORY, owner, signed_by(OWNER)));
    let listed = Signers::contracts().with_factory(FACTORY);
    assert_eq!(verdict(&stage, &listed, account, &good).await, Ok(Signer::Undeployed));
    // The list is empty unless told.
    for signers in [Signers::contracts(), Signers::any(), Signers::any().with_factory(WALLET)] {
        assert_eq!(verdict(&stage, &signers, account, &good).await, Err(NotSigned::Factory(FACTORY)));
    }
    // Another key's signature; another account's, whatever the factory makes beside it; not wrapped at all.
    let forged = wrapped(FACTORY, owner, signed_by(5));
    assert_eq!(verdict(&stage, &listed, account, &forged).await, Err(NotSigned::Refused));
    let other = made_by_factory(ACCOUNTS[5].address);
    assert_eq!(verdict(&stage, &listed, other, &good).await, Err(NotSigned::Deployment(FACTORY)));
    assert_eq!(verdict(&stage, &listed, owner, &good).await, Err(NotSigned::Deployment(FACTORY)));
    assert_eq!(verdict(&stage, &listed, account, &signed_by(OWNER)).await, Err(NotSigned::NotDeployed));
    // A factory that reverts, and one that has no code.
    let listed = listed.with_factory(WALLET).with_factory(Address::repeat_byte(0xbb));
    stage.chain.set_code(WALLET, hex!("5f5ffd").to_vec().into()).unwrap();
    for factory in [WALLET, Address::repeat_byte(0xbb)] {
        let signature = wrapped(factory, owner, signed_by(OWNER));
        assert_eq!(verdict(&stage, &listed, account, &signature).await, Err(NotSigned::Deployment(factory)));
    }
    // Once it is deployed the same bytes are good, and no factory is asked or needed.
    stage.chain.set_code(account, wallet_code()).unwrap();
    wallet_of(&stage, account, owner, 0);
    for signers in [listed, Signers::contracts()] {
        assert_eq!(verdict(&stage, &signers, account, &good).await, Ok(Signer::Contract));
        assert_eq!(verdict(&stage, &signers, account, &forged).await, Err(NotSigned::Refused));
    }
}

#[tokio::test]
async fn what_is_nobody_s_is_refused_without_the_chain() {
    let owner = ACCOUNTS[OWNER].address;
    let good = wrapped(FACTORY, owner, signed_by(OWNER));
    let read = |bytes: Vec<u8>| Signers::any().read(owner, DIGEST, &bytes.into()).map(drop);
    assert_eq!(read(good.to_vec()), Ok(()));
    assert_eq!(read([&[0][..], &good].concat()), Err(NotSigned::Malformed));
    assert_eq!(read(good[good.len() - 32..].to_vec()), Err(NotSigned::Malformed));
    assert_eq!(read(vec![0; MAX_SIGNATURE]), Ok(()));
    assert_eq!(read(vec![0; MAX_SIGNATURE + 1]), Err(NotSigned::TooLong));
    // A payload has the same limit: a greater one could never be reached.
    let payload = |length: usize| {
        let zero = alloy_primitives::Address::ZERO.to_string();
        let authorization = serde_json::json!({
            "from": zero, "to": zero, "value": "1", "validAfter": "0", "validBefore": "1",
            "nonce": format!("0x{}", "00".repeat(32)),
        });
        let signature = format!("0x{}", "00".repeat(length));
        let payload = serde_json::json!({ "signature": signature, "authorization": authorization });
        x402_evm::eip3009::Payload::read(&x402_types::RawJson::of(&payload).unwrap()).map(drop)
    };
    assert_eq!((payload(MAX_SIGNATURE).is_ok(), payload(MAX_SIGNATURE + 1).is_ok()), (true, false));
}

#[tokio::test]
async fn a_node_that_fails_is_no_refusal() {
    let stage = stage(0);
    let (reads, asked) =
        Signers::any().read(ACCOUNTS[OWNER].address, DIGEST, &signed_by(OWNER)).unwrap().ask(BatchRead::new());
    for failure in [Failure::Lost, Failure::Error { code: -32000, message: "out of gas".into() }] {
        stage.chain.fail_calls("eth_call", 1, When::Before, failure);
        let answer = stage.reader.run(&reads, At::Latest).await;
        assert!(matches!(answer, Err(Fault::Unreachable { .. })), "{answer:?}");
    }
    let answers = stage.reader.run(&reads, At::Latest).await.unwrap();
    assert_eq!(asked.verdict(&answers), Ok(SignerVerdict::Signed(Signer::Key)));
    // The answers of another batch read say nothing.
    let other = stage.reader.run(&BatchRead::new(), At::Latest).await.unwrap();
    assert!(matches!(asked.verdict(&other), Err(Fault::Broken { .. })));
}
