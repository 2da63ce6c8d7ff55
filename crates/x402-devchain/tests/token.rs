//! The token's behaviour against [EIP-3009](https://eips.ethereum.org/EIPS/eip-3009), EIP-2612 and the words of FiatTokenV2_2.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)]

mod common;

use alloy_primitives::{Address, B256, Bytes, Signature, U256, b256, hex, keccak256};
use alloy_sol_types::SolEvent;
use common::{
    CancelAuthorization, NOW, Permit, ReceiveWithAuthorization, TransferWithAuthorization, address, call, chain, send,
    sign,
};
use serde_json::Value;
use x402_devchain::{ACCOUNTS, DevChain, TOKEN, TOKENS_EACH, Token};

const NONCE: B256 = B256::repeat_byte(0x17);
const HALF_ORDER_PLUS_1: B256 = b256!("7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a1");

fn transfer(from: Address, to: Address, value: u64) -> TransferWithAuthorization {
    TransferWithAuthorization {
        from,
        to,
        value: U256::from(value),
        validAfter: U256::ZERO,
        validBefore: U256::from(NOW + 60),
        nonce: NONCE,
    }
}

fn by_bytes(m: &TransferWithAuthorization, signature: impl Into<Bytes>) -> Token::transferWithAuthorization_1Call {
    Token::transferWithAuthorization_1Call {
        from: m.from,
        to: m.to,
        value: m.value,
        validAfter: m.validAfter,
        validBefore: m.validBefore,
        nonce: m.nonce,
        signature: signature.into(),
    }
}

fn by_parts(m: &TransferWithAuthorization, v: u8, r: B256, s: B256) -> Token::transferWithAuthorization_0Call {
    Token::transferWithAuthorization_0Call {
        from: m.from,
        to: m.to,
        value: m.value,
        validAfter: m.validAfter,
        validBefore: m.validBefore,
        nonce: m.nonce,
        v,
        r,
        s,
    }
}

fn parts(signature: &Signature) -> (u8, B256, B256) {
    (27 + u8::from(signature.v()), signature.r().into(), signature.s().into())
}

fn bytes(signature: &Signature) -> Bytes {
    signature.as_bytes().into()
}

/// What both overloads say to a message signed by `account`, which has to be the same.
async fn both(chain: &DevChain, account: usize, message: &TransferWithAuthorization) -> Result<(), String> {
    let signature = sign(account, message);
    let (v, r, s) = parts(&signature);
    let one = call(chain, address(5), by_parts(message, v, r, s)).await.map(drop);
    let other = call(chain, address(5), by_bytes(message, bytes(&signature))).await.map(drop);
    assert_eq!(one, other);
    one
}

fn refused(text: &str) -> Result<(), String> {
    Err(format!("execution reverted: {text}"))
}

#[tokio::test]
async fn metadata_is_that_of_usdc_on_base_sepolia() {
    let chain = chain();
    let from = Address::ZERO;
    assert_eq!(call(&chain, from, Token::nameCall {}).await.unwrap(), "USDC");
    assert_eq!(call(&chain, from, Token::symbolCall {}).await.unwrap(), "USDC");
    assert_eq!(call(&chain, from, Token::versionCall {}).await.unwrap(), "2");
    assert_eq!(call(&chain, from, Token::currencyCall {}).await.unwrap(), "USD");
    assert_eq!(call(&chain, from, Token::decimalsCall {}).await.unwrap(), 6);
    assert_eq!(call(&chain, from, Token::totalSupplyCall {}).await.unwrap(), U256::from(10 * TOKENS_EACH));
    // Read from the contract on Base Sepolia.
    assert_eq!(
        call(&chain, from, Token::DOMAIN_SEPARATORCall {}).await.unwrap(),
        b256!("71f17a3b2ff373b803d70a5a07c046c1a2bc8e89c09ef722fcb047abe94c9818")
    );
    // The constants as EIP-3009 and EIP-2612 print them.
    assert_eq!(
        call(&chain, from, Token::TRANSFER_WITH_AUTHORIZATION_TYPEHASHCall {}).await.unwrap(),
        b256!("7c7c6cdb67a18743f49ec6fa9b35f50d52ed05cbed4cc592e13b44501c1a2267")
    );
    assert_eq!(
        call(&chain, from, Token::RECEIVE_WITH_AUTHORIZATION_TYPEHASHCall {}).await.unwrap(),
        b256!("d099cc98ef71107a616c4f0f941f04c322d8e254fe26b3c6668db87aae413de8")
    );
    assert_eq!(
        call(&chain, from, Token::CANCEL_AUTHORIZATION_TYPEHASHCall {}).await.unwrap(),
        b256!("158b0a9edf7a828aad02f63cd515c68ef2f50ba807396f6d12842833a1597429")
    );
    assert_eq!(
        call(&chain, from, Token::PERMIT_TYPEHASHCall {}).await.unwrap(),
        b256!("6e71edae12b1b97f4d1f60370fef10105fa2faae0126114a169c64845d6126c9")
    );
    for account in ACCOUNTS {
        assert_eq!(chain.balance_of(account.address), U256::from(TOKENS_EACH));
        let seen = call(&chain, from, Token::balanceOfCall { account: account.address }).await.unwrap();
        assert_eq!(seen, U256::from(TOKENS_EACH));
    }
}

#[tokio::test]
async fn the_domain_follows_the_chain_id() {
    let base = DevChain::builder().chain_id(8453).build().unwrap();
    assert_ne!(
        call(&base, Address::ZERO, Token::DOMAIN_SEPARATORCall {}).await.unwrap(),
        b256!("71f17a3b2ff373b803d70a5a07c046c1a2bc8e89c09ef722fcb047abe94c9818")
    );
}

#[tokio::test]
async fn a_payment_signed_by_viem_settles_by_either_overload() {
    let vector: Value = serde_json::from_str(include_str!("vectors/eip3009_transfer.json")).unwrap();
    let field = |name: &str| vector["message"][name].as_str().unwrap().to_owned();
    let message = TransferWithAuthorization {
        from: field("from").parse().unwrap(),
        to: field("to").parse().unwrap(),
        value: field("value").parse().unwrap(),
        validAfter: field("validAfter").parse().unwrap(),
        validBefore: field("validBefore").parse().unwrap(),
        nonce: field("nonce").parse().unwrap(),
    };
    let signature = hex::decode(vector["signature"].as_str().unwrap()).unwrap();
    for overload in [0_usize, 1] {
        let chain = chain();
        let receipt = if overload == 0 {
            let (r, s) = (B256::from_slice(&signature[..32]), B256::from_slice(&signature[32..64]));
            send(&chain, 0, by_parts(&message, signature[64], r, s)).await
        } else {
            send(&chain, 0, by_bytes(&message, signature.clone())).await
        };
        assert!(receipt.status());
        // As anvil 1.7.1 measured the same two transactions on the same code, under the rules of Osaka.
        assert_eq!(receipt.gas_used, [75_697, 75_972][overload]);
        assert_eq!(chain.balance_of(message.to), U256::from(TOKENS_EACH + 10_000));
        assert_eq!(chain.balance_of(message.from), U256::from(TOKENS_EACH - 10_000));

        let logs = receipt.inner.logs();
        assert_eq!(logs.len(), 2);
        let used = Token::AuthorizationUsed::decode_log(&logs[0].inner).unwrap();
        assert_eq!((used.address, used.authorizer, used.nonce), (TOKEN, message.from, message.nonce));
        let moved = Token::Transfer::decode_log(&logs[1].inner).unwrap();
        assert_eq!((moved.from, moved.to, moved.value), (message.from, message.to, U256::from(10_000)));

        let state = Token::authorizationStateCall { authorizer: message.from, nonce: message.nonce };
        assert!(call(&chain, Address::ZERO, state).await.unwrap());
        let again = call(&chain, address(0), by_bytes(&message, signature.clone())).await.map(drop);
        assert_eq!(again, refused("FiatTokenV2: authorization is used or canceled"));
    }
}

#[tokio::test]
async fn the_window_is_open_on_both_sides() {
    let chain = chain();
    let mut message = transfer(address(1), address(2), 5);
    assert_eq!(both(&chain, 1, &message).await, Ok(()));
    message.validAfter = U256::from(NOW);
    assert_eq!(both(&chain, 1, &message).await, refused("FiatTokenV2: authorization is not yet valid"));
    message.validAfter = U256::from(NOW - 1);
    assert_eq!(both(&chain, 1, &message).await, Ok(()));
    message.validBefore = U256::from(NOW);
    assert_eq!(both(&chain, 1, &message).await, refused("FiatTokenV2: authorization is expired"));
    message.validBefore = U256::from(NOW + 1);
    assert_eq!(both(&chain, 1, &message).await, Ok(()));
}

#[tokio::test]
async fn a_signature_is_65_bytes_with_low_s_and_v_27_or_28() {
    let chain = chain();
    let message = transfer(address(1), address(2), 5);
    let (v, r, s) = parts(&sign(1, &message));
    let parts = async |v, r, s| call(&chain, address(5), by_parts(&message, v, r, s)).await.map(drop);
    assert_eq!(parts(v, r, s).await, Ok(()));
    assert_eq!(parts(v - 27, r, s).await, refused("ECRecover: invalid signature 'v' value"));
    assert_eq!(parts(29, r, s).await, refused("ECRecover: invalid signature 'v' value"));
    assert_eq!(parts(55 - v, r, s).await, refused("FiatTokenV2: invalid signature"));
    assert_eq!(parts(v, r, HALF_ORDER_PLUS_1).await, refused("ECRecover: invalid signature 's' value"));
    assert_eq!(parts(v, B256::ZERO, s).await, refused("ECRecover: invalid signature"));

    // The other signature of the same message and key: what malleability means.
    let order = U256::from_be_bytes(hex!("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"));
    let high = B256::from(order - U256::from_be_bytes(s.0));
    assert_eq!(parts(55 - v, r, high).await, refused("ECRecover: invalid signature 's' value"));

    let good = bytes(&sign(1, &message));
    for length in [0, 1, 64, 66] {
        let mut wrong = good.to_vec();
        wrong.resize(length, 0);
        let answer = call(&chain, address(5), by_bytes(&message, wrong)).await.map(drop);
        assert_eq!(answer, refused("ECRecover: invalid signature length"), "{length}");
    }
    assert_eq!(both(&chain, 3, &message).await, refused("FiatTokenV2: invalid signature"));
}

#[tokio::test]
async fn every_field_is_signed() {
    let chain = chain();
    let good = transfer(address(1), address(2), 5);
    let signature = bytes(&sign(1, &good));
    let changes: [fn(&mut TransferWithAuthorization); 6] = [
        |m| m.from = address(3),
        |m| m.to = address(3),
        |m| m.value += U256::ONE,
        |m| m.validAfter += U256::ONE,
        |m| m.validBefore += U256::ONE,
        |m| m.nonce = B256::ZERO,
    ];
    for change in changes {
        let mut message = good.clone();
        change(&mut message);
        let answer = call(&chain, address(5), by_bytes(&message, signature.clone())).await.map(drop);
        assert_eq!(answer, refused("FiatTokenV2: invalid signature"), "{message:?}");
    }
}

#[tokio::test]
async fn balance_blocklist_pause_and_zero_address() {
    let chain = chain();
    let message = transfer(address(1), address(2), 5);
    let too_much = transfer(address(1), address(2), TOKENS_EACH + 1);
    assert_eq!(both(&chain, 1, &too_much).await, refused("ERC20: transfer amount exceeds balance"));
    let to_nobody = transfer(address(1), Address::ZERO, 5);
    assert_eq!(both(&chain, 1, &to_nobody).await, refused("ERC20: transfer to the zero address"));

    for account in [address(1), address(2)] {
        send(&chain, 0, Token::blacklistCall { account }).await;
        assert!(call(&chain, Address::ZERO, Token::isBlacklistedCall { account }).await.unwrap());
        assert_eq!(both(&chain, 1, &message).await, refused("Blacklistable: account is blacklisted"));
        send(&chain, 0, Token::unBlacklistCall { account }).await;
        assert_eq!(both(&chain, 1, &message).await, Ok(()));
    }
    send(&chain, 0, Token::pauseCall {}).await;
    assert_eq!(both(&chain, 1, &message).await, refused("Pausable: paused"));
    send(&chain, 0, Token::unpauseCall {}).await;
    assert_eq!(both(&chain, 1, &message).await, Ok(()));
}

#[tokio::test]
async fn only_the_payee_receives() {
    let message = ReceiveWithAuthorization {
        from: address(1),
        to: address(2),
        value: U256::from(7),
        validAfter: U256::ZERO,
        validBefore: U256::from(NOW + 60),
        nonce: NONCE,
    };
    let signature = sign(1, &message);
    let (v, r, s) = parts(&signature);
    let ReceiveWithAuthorization { from, to, value, validAfter, validBefore, nonce } = message.clone();
    let by_parts = Token::receiveWithAuthorization_0Call { from, to, value, validAfter, validBefore, nonce, v, r, s };
    let by_bytes = Token::receiveWithAuthorization_1Call {
        from,
        to,
        value,
        validAfter,
        validBefore,
        nonce,
        signature: bytes(&signature),
    };
    let stranger = refused("FiatTokenV2: caller must be the payee");
    let first = chain();
    assert_eq!(call(&first, address(3), by_parts.clone()).await.map(drop), stranger);
    assert_eq!(call(&first, address(3), by_bytes.clone()).await.map(drop), stranger);
    assert!(send(&first, 2, by_parts).await.status());
    assert_eq!(first.balance_of(address(2)), U256::from(TOKENS_EACH + 7));
    let used = refused("FiatTokenV2: authorization is used or canceled");
    assert_eq!(call(&first, address(2), by_bytes.clone()).await.map(drop), used);
    let second = chain();
    assert!(send(&second, 2, by_bytes).await.status());
    assert_eq!(second.balance_of(address(2)), U256::from(TOKENS_EACH + 7));
}

#[tokio::test]
async fn a_cancelled_authorization_is_spent() {
    let cancel = CancelAuthorization { authorizer: address(1), nonce: NONCE };
    let signature = sign(1, &cancel);
    let (v, r, s) = parts(&signature);
    let by_parts = Token::cancelAuthorization_0Call { authorizer: address(1), nonce: NONCE, v, r, s };
    let by_bytes =
        Token::cancelAuthorization_1Call { authorizer: address(1), nonce: NONCE, signature: bytes(&signature) };
    let used = refused("FiatTokenV2: authorization is used or canceled");
    for overload in 0..2 {
        let chain = chain();
        let forged = Token::cancelAuthorization_1Call {
            authorizer: address(1),
            nonce: NONCE,
            signature: bytes(&sign(2, &cancel)),
        };
        assert_eq!(call(&chain, address(3), forged).await.map(drop), refused("FiatTokenV2: invalid signature"));
        let receipt = match overload {
            0 => send(&chain, 3, by_parts.clone()).await,
            _ => send(&chain, 3, by_bytes.clone()).await,
        };
        let logs = receipt.inner.logs();
        assert_eq!(logs.len(), 1);
        let event = Token::AuthorizationCanceled::decode_log(&logs[0].inner).unwrap();
        assert_eq!((event.authorizer, event.nonce), (address(1), NONCE));
        assert_eq!(both(&chain, 1, &transfer(address(1), address(2), 5)).await, used);
        assert_eq!(call(&chain, address(3), by_parts.clone()).await.map(drop), used);
        assert_eq!(chain.transfers(), []);
    }
}

#[tokio::test]
async fn permit_allows_and_counts_its_nonce() {
    let message = Permit {
        owner: address(1),
        spender: address(2),
        value: U256::from(50),
        nonce: U256::ZERO,
        deadline: U256::from(NOW),
    };
    let permit = |message: &Permit, signature: &Signature| Token::permit_1Call {
        owner: message.owner,
        spender: message.spender,
        value: message.value,
        deadline: message.deadline,
        signature: bytes(signature),
    };
    let chain = chain();
    let late = Permit { deadline: U256::from(NOW - 1), ..message.clone() };
    let answer = call(&chain, address(3), permit(&late, &sign(1, &late))).await.map(drop);
    assert_eq!(answer, refused("FiatTokenV2: permit is expired"));
    let answer = call(&chain, address(3), permit(&message, &sign(2, &message))).await.map(drop);
    assert_eq!(answer, refused("EIP2612: invalid signature"));

    assert!(send(&chain, 3, permit(&message, &sign(1, &message))).await.status());
    let allowance = Token::allowanceCall { owner: address(1), spender: address(2) };
    assert_eq!(call(&chain, Address::ZERO, allowance.clone()).await.unwrap(), U256::from(50));
    assert_eq!(call(&chain, Address::ZERO, Token::noncesCall { owner: address(1) }).await.unwrap(), U256::ONE);
    let answer = call(&chain, address(3), permit(&message, &sign(1, &message))).await.map(drop);
    assert_eq!(answer, refused("EIP2612: invalid signature"));

    let second = Permit { nonce: U256::ONE, value: U256::from(60), deadline: U256::MAX, ..message };
    let (v, r, s) = parts(&sign(1, &second));
    let Permit { owner, spender, value, deadline, .. } = second;
    assert!(send(&chain, 3, Token::permit_0Call { owner, spender, value, deadline, v, r, s }).await.status());
    assert_eq!(call(&chain, Address::ZERO, allowance.clone()).await.unwrap(), U256::from(60));

    let take = |value: u64| Token::transferFromCall { from: address(1), to: address(4), value: U256::from(value) };
    let answer = call(&chain, address(2), take(61)).await.map(drop);
    assert_eq!(answer, refused("ERC20: transfer amount exceeds allowance"));
    assert!(send(&chain, 2, take(20)).await.status());
    assert_eq!(call(&chain, Address::ZERO, allowance).await.unwrap(), U256::from(40));
    assert_eq!(chain.balance_of(address(4)), U256::from(TOKENS_EACH + 20));
}

#[tokio::test]
async fn erc_20() {
    let chain = chain();
    let more = Token::transferCall { to: address(2), value: U256::from(TOKENS_EACH + 1) };
    assert_eq!(call(&chain, address(1), more).await.map(drop), refused("ERC20: transfer amount exceeds balance"));
    let nobody = Token::transferCall { to: Address::ZERO, value: U256::ONE };
    assert_eq!(call(&chain, address(1), nobody).await.map(drop), refused("ERC20: transfer to the zero address"));
    let approval = send(&chain, 1, Token::approveCall { spender: address(2), value: U256::from(9) }).await;
    let event = Token::Approval::decode_log(&approval.inner.logs()[0].inner).unwrap();
    assert_eq!((event.owner, event.spender, event.value), (address(1), address(2), U256::from(9)));
    let nobody = Token::approveCall { spender: Address::ZERO, value: U256::ONE };
    assert_eq!(call(&chain, address(1), nobody).await.map(drop), refused("ERC20: approve to the zero address"));
    send(&chain, 1, Token::increaseAllowanceCall { spender: address(2), increment: U256::from(3) }).await;
    send(&chain, 1, Token::decreaseAllowanceCall { spender: address(2), decrement: U256::from(2) }).await;
    let allowance = Token::allowanceCall { owner: address(1), spender: address(2) };
    assert_eq!(call(&chain, Address::ZERO, allowance).await.unwrap(), U256::from(10));
    let below = Token::decreaseAllowanceCall { spender: address(2), decrement: U256::from(11) };
    assert_eq!(call(&chain, address(1), below).await.map(drop), refused("ERC20: decreased allowance below zero"));
}

#[tokio::test]
async fn minting_is_open_and_counted() {
    let chain = chain();
    let fresh = Address::repeat_byte(0xab);
    let receipt = send(&chain, 4, Token::mintCall { to: fresh, amount: U256::from(123) }).await;
    assert_eq!(chain.balance_of(fresh), U256::from(123));
    let supply = call(&chain, Address::ZERO, Token::totalSupplyCall {}).await.unwrap();
    assert_eq!(supply, U256::from(10 * TOKENS_EACH + 123));
    let transfers = chain.transfers();
    assert_eq!(transfers.len(), 1);
    assert_eq!((transfers[0].from, transfers[0].to, transfers[0].value), (Address::ZERO, fresh, U256::from(123)));
    assert_eq!(
        (transfers[0].transaction, transfers[0].block, transfers[0].log_index),
        (receipt.transaction_hash, 1, 1)
    );
    chain.set_balance_of(fresh, U256::from(100));
    assert_eq!(chain.balance_of(fresh), U256::from(100));
    let supply = call(&chain, Address::ZERO, Token::totalSupplyCall {}).await.unwrap();
    assert_eq!(supply, U256::from(10 * TOKENS_EACH + 100));
}

/// The interface in Rust and the contract are the same: every function and every event.
#[test]
fn the_interface_is_that_of_the_artifact() {
    let artifact: Value = serde_json::from_str(include_str!("../contracts/artifacts/DevUsdc.json")).unwrap();
    let hashes = |kind: &str| -> std::collections::BTreeSet<B256> {
        let entries = artifact["abi"].as_array().unwrap().iter().filter(|entry| entry["type"] == kind);
        let signature = |entry: &Value| {
            let inputs = entry["inputs"].as_array().unwrap().iter();
            let types: Vec<&str> = inputs.map(|input| input["type"].as_str().unwrap()).collect();
            keccak256(format!("{}({})", entry["name"].as_str().unwrap(), types.join(",")))
        };
        entries.map(signature).collect()
    };
    let functions: Vec<[u8; 4]> = hashes("function").iter().map(|hash| hash[..4].try_into().unwrap()).collect();
    assert_eq!(functions, Token::TokenCalls::SELECTORS);
    let events: Vec<[u8; 32]> = hashes("event").iter().map(|hash| hash.0).collect();
    assert_eq!(events, Token::TokenEvents::SELECTORS);
}

fn wallet_code() -> Bytes {
    let artifact: Value = serde_json::from_str(include_str!("../contracts/artifacts/TestWallet.json")).unwrap();
    artifact["deployedBytecode"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_payer_with_code_answers_by_eip_1271_alone() {
    let chain = chain();
    let wallet = Address::repeat_byte(0x77);
    chain.set_code(wallet, wallet_code()).unwrap();
    chain.set_storage(wallet, U256::ZERO, address(1).into_word());
    chain.set_balance_of(wallet, U256::from(1_000));
    let message = transfer(wallet, address(2), 5);
    assert_eq!(both(&chain, 1, &message).await, Ok(()));
    assert_eq!(both(&chain, 3, &message).await, refused("FiatTokenV2: invalid signature"));
    // The wallet decides on length and spelling, not the token.
    let answer = call(&chain, address(5), by_bytes(&message, vec![1; 3])).await.map(drop);
    assert_eq!(answer, refused("FiatTokenV2: invalid signature"));
    for misbehaviour in 1..=4_u64 {
        // Slot 0: the owner's 20 bytes, above them the misbehaviour.
        let slot = address(1).into_word() | B256::from(U256::from(misbehaviour) << 160);
        chain.set_storage(wallet, U256::ZERO, slot);
        assert_eq!(
            both(&chain, 1, &message).await,
            refused("FiatTokenV2: invalid signature"),
            "misbehaviour {misbehaviour}"
        );
    }
    chain.set_storage(wallet, U256::ZERO, address(1).into_word());
    assert!(send(&chain, 5, by_bytes(&message, bytes(&sign(1, &message)))).await.status());
    assert_eq!(chain.balance_of(wallet), U256::from(995));
}

/// x402 #2658: an account that has delegated has code, so its own ECDSA signature counts only if the delegate says so.
#[tokio::test]
async fn a_delegated_account_answers_by_its_delegate() {
    let chain = chain();
    let message = transfer(address(1), address(2), 5);
    assert_eq!(both(&chain, 1, &message).await, Ok(()));
    let code = Address::repeat_byte(0x77);
    chain.set_code(code, wallet_code()).unwrap();
    let delegation = [&hex!("ef0100")[..], code.as_slice()].concat();
    chain.set_code(address(1), delegation.into()).unwrap();
    assert_eq!(both(&chain, 1, &message).await, refused("FiatTokenV2: invalid signature"));
    chain.set_storage(address(1), U256::ZERO, address(1).into_word());
    assert_eq!(both(&chain, 1, &message).await, Ok(()));
}
