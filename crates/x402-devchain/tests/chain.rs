//! Pool, blocks, fees and time.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)]

mod common;

use std::time::Duration;

use alloy_consensus::{TxEip1559, TxEip2930, TxEip7702, TxLegacy};
use alloy_eips::eip7702::Authorization;
use alloy_primitives::{Address, B256, Bytes, U256, hex};
use alloy_provider::Provider;
use alloy_signer::SignerSync;
use common::{GWEI, NOW, address, by_hand, call, error_text, mined_in, raw, refusal, rpc, send, send_raw, signed, wei};
use serde_json::json;
use x402_devchain::{ChainBuildError, DevChain, MiningMode, Token, signer};

#[tokio::test]
async fn a_transaction_is_a_block() {
    let chain = common::chain();
    let hash = send_raw(&chain, 0, 0).await;
    assert_eq!(mined_in(&chain, hash).await, Some(1));
    assert_eq!(chain.block_number(), 1);
    assert_eq!(chain.nonce_of(address(0)), 1);
    assert_eq!(chain.ether_of(address(9)), U256::from(10_000 * 10_u128.pow(18) + 1));
}

#[tokio::test]
async fn a_nonce_gap_waits_until_it_is_filled() {
    let chain = common::chain();
    let third = send_raw(&chain, 0, 2).await;
    let second = send_raw(&chain, 0, 1).await;
    assert_eq!(chain.block_number(), 0);
    let provider = chain.provider();
    assert_eq!(provider.get_transaction_count(address(0)).pending().await.unwrap(), 0);
    let waiting = provider.get_transaction_by_hash(third).await.unwrap().unwrap();
    assert_eq!((waiting.block_number, waiting.inner.signer()), (None, address(0)));
    let first = send_raw(&chain, 0, 0).await;
    for hash in [first, second, third] {
        assert_eq!(mined_in(&chain, hash).await, Some(1));
    }
}

#[tokio::test]
async fn a_block_by_hand_takes_transactions_in_order_of_arrival() {
    let chain = by_hand();
    let mut sent = Vec::new();
    for (account, nonce) in [(1, 0), (0, 0), (1, 1), (2, 0)] {
        sent.push(send_raw(&chain, account, nonce).await);
    }
    assert_eq!(chain.provider().get_transaction_count(address(1)).pending().await.unwrap(), 2);
    assert_eq!(chain.provider().get_transaction_count(address(1)).await.unwrap(), 0);
    chain.mine(1);
    let block = chain.provider().get_block_by_number(1.into()).await.unwrap().unwrap();
    assert_eq!(block.transactions.hashes().collect::<Vec<_>>(), sent);
    assert_eq!(block.header.gas_used, 84_000);
}

#[tokio::test]
async fn refusals_are_in_the_words_of_geth() {
    let chain = by_hand();
    let first = raw(0, 0, 3 * GWEI, GWEI);
    rpc(&chain, "eth_sendRawTransaction", json!([first])).await.unwrap();
    assert_eq!(refusal(&chain, first.clone()).await, "already known");
    let underpriced = "replacement transaction underpriced";
    assert_eq!(refusal(&chain, raw(0, 0, 3 * GWEI + 1, GWEI + 1)).await, underpriced);
    assert_eq!(refusal(&chain, raw(0, 0, 33 * GWEI / 10, GWEI)).await, underpriced);
    assert_eq!(refusal(&chain, raw(0, 0, 3 * GWEI, 11 * GWEI / 10)).await, underpriced);

    let second =
        rpc(&chain, "eth_sendRawTransaction", json!([raw(0, 0, 33 * GWEI / 10, 11 * GWEI / 10)])).await.unwrap();
    chain.mine(1);
    assert_eq!(mined_in(&chain, second.as_str().unwrap().parse().unwrap()).await, Some(1));
    assert_eq!(refusal(&chain, first).await, "nonce too low: next nonce 1, tx nonce 0");

    assert_eq!(
        refusal(&chain, raw(0, 1, GWEI, 2 * GWEI)).await,
        "max priority fee per gas higher than max fee per gas: maxPriorityFeePerGas: 2000000000, maxFeePerGas: 1000000000"
    );
    chain.set_ether_of(address(3), U256::from(1_000));
    assert_eq!(
        refusal(&chain, raw(3, 0, 1, 1)).await,
        "insufficient funds for gas * price + value: balance 1000, tx cost 21001, overshot 20001"
    );
    assert_eq!(refusal(&chain, Bytes::new()).await, "typed transaction too short");
    let trailing = [raw(0, 1, 3 * GWEI, GWEI).as_ref(), &[0]].concat();
    assert_eq!(refusal(&chain, trailing.into()).await, "rlp: input contains more than one value");
    assert_eq!(refusal(&chain, Bytes::from_static(&[2, 1])).await, "rlp: unexpected string");
    let elsewhere = DevChain::builder().chain_id(1).build().unwrap();
    assert_eq!(refusal(&elsewhere, raw(0, 0, GWEI, 1)).await, "invalid chain id for signer: have 84532 want 1");
    chain.set_code(address(4), Bytes::from_static(&[0])).unwrap();
    assert!(refusal(&chain, raw(4, 0, GWEI, 1)).await.starts_with("sender not an eoa: address "));
}

#[tokio::test]
async fn gas_limits_are_checked_before_the_pool() {
    let chain = by_hand();
    let gas = |gas_limit| TxEip1559 { gas_limit, ..wei(0, 3 * GWEI, GWEI) };
    let text = "intrinsic gas too low: gas 20999, minimum needed 21000";
    assert_eq!(refusal(&chain, signed(0, gas(20_999))).await, text);
    assert_eq!(refusal(&chain, signed(0, gas(60_000_001))).await, "exceeds block gas limit");
    // EIP-7825
    let text = "transaction gas limit too high (cap: 16777216, tx: 16777217)";
    assert_eq!(refusal(&chain, signed(0, gas(16_777_217))).await, text);
    // EIP-7623: 10 gas a token, four tokens a byte that is not zero.
    let data = TxEip1559 { gas_limit: 60_999, input: vec![1; 1_000].into(), ..wei(0, 3 * GWEI, GWEI) };
    let text = "insufficient gas for floor data gas cost: gas 60999, minimum needed 61000";
    assert_eq!(refusal(&chain, signed(0, data)).await, text);
    let nothing = TxEip7702 { chain_id: 84532, gas_limit: 21_000, max_fee_per_gas: GWEI, ..Default::default() };
    let text = "set code tx must have at least one authorization tuple";
    assert_eq!(refusal(&chain, signed(0, nothing)).await, text);
}

#[tokio::test]
async fn older_transaction_types_are_mined() {
    let chain = common::chain();
    let (to, value, gas_price) = (address(9).into(), U256::ONE, 3 * GWEI);
    let plain = TxLegacy { chain_id: Some(84532), gas_limit: 21_000, gas_price, to, value, ..Default::default() };
    let unprotected = TxLegacy { chain_id: None, nonce: 1, ..plain.clone() };
    let listed = TxEip2930 { chain_id: 84532, nonce: 2, gas_limit: 21_000, gas_price, to, value, ..Default::default() };
    for bytes in [signed(0, plain), signed(0, unprotected), signed(0, listed)] {
        let hash = rpc(&chain, "eth_sendRawTransaction", json!([bytes])).await.unwrap();
        assert_eq!(hash, json!(alloy_primitives::keccak256(&bytes)));
        let receipt = rpc(&chain, "eth_getTransactionReceipt", json!([hash])).await.unwrap();
        assert_eq!((&receipt["status"], &receipt["effectiveGasPrice"]), (&json!("0x1"), &json!("0xb2d05e00")));
    }
    assert_eq!(chain.block_number(), 3);
}

#[tokio::test]
async fn a_fee_below_the_base_fee_waits() {
    let chain = common::chain();
    chain.set_base_fee(50 * GWEI as u64);
    let hash = send_raw(&chain, 0, 0).await;
    assert_eq!(mined_in(&chain, hash).await, None);
    chain.mine(1);
    assert_eq!((chain.block_number(), mined_in(&chain, hash).await), (1, None));
    // EIP-1559: an empty block takes an eighth off.
    assert_eq!(chain.base_fee(), 43_750_000_000);
    chain.set_base_fee(GWEI as u64);
    chain.mine(1);
    assert_eq!(mined_in(&chain, hash).await, Some(2));
}

#[tokio::test]
async fn the_base_fee_falls_to_its_floor() {
    let chain = by_hand();
    assert_eq!(chain.base_fee(), 875_000_000);
    chain.mine(100);
    assert_eq!(chain.base_fee(), 1_000_000);
}

#[tokio::test]
async fn a_transaction_that_can_no_longer_pay_is_forgotten() {
    let chain = by_hand();
    let hash = send_raw(&chain, 0, 0).await;
    chain.set_ether_of(address(0), U256::ONE);
    chain.mine(1);
    assert_eq!(mined_in(&chain, hash).await, None);
    assert!(chain.provider().get_transaction_by_hash(hash).await.unwrap().is_none());
}

#[tokio::test]
async fn time_is_the_tests() {
    let chain = by_hand();
    let time_of = async |number: u64| {
        chain.provider().get_block_by_number(number.into()).await.unwrap().unwrap().header.timestamp
    };
    assert_eq!(time_of(0).await, NOW);
    chain.mine(1);
    chain.increase_time(10);
    chain.mine(1);
    rpc(&chain, "evm_setNextBlockTimestamp", json!([NOW + 100])).await.unwrap();
    chain.mine(1);
    assert_eq!(rpc(&chain, "evm_increaseTime", json!(["0x5"])).await.unwrap(), 5);
    rpc(&chain, "evm_mine", json!([])).await.unwrap();
    chain.set_time_step(2);
    chain.mine(2);
    chain.set_time(NOW);
    chain.mine(1);
    let mut times = Vec::new();
    for number in 1..=7 {
        times.push(time_of(number).await - NOW);
    }
    assert_eq!(times, [0, 10, 100, 105, 105, 107, 107]);
    let back = rpc(&chain, "evm_setNextBlockTimestamp", json!([NOW])).await.unwrap_err();
    assert!(error_text(&back).starts_with("Timestamp error: "));
    chain.use_real_time();
    assert!(chain.time() > NOW + 10_000_000);
}

#[tokio::test]
async fn a_snapshot_brings_everything_back() {
    let chain = common::chain();
    let id = rpc(&chain, "evm_snapshot", json!([])).await.unwrap();
    send(&chain, 1, Token::transferCall { to: address(2), value: U256::from(5) }).await;
    assert_eq!(rpc(&chain, "evm_revert", json!([id])).await.unwrap(), true);
    assert_eq!((chain.block_number(), chain.balance_of(address(2))), (0, U256::from(1_000_000_000)));
    assert_eq!(rpc(&chain, "evm_revert", json!([id])).await.unwrap(), false);
}

/// [EIP-7702](https://eips.ethereum.org/EIPS/eip-7702): account 1 delegates to a contract, in a transaction of account 2.
#[tokio::test]
async fn a_type_4_transaction_delegates() {
    let chain = common::chain();
    let delegate = Address::repeat_byte(0x42);
    let authorization = Authorization { chain_id: U256::from(84532), address: delegate, nonce: 0 };
    let signature = signer(1).unwrap().sign_hash_sync(&authorization.signature_hash()).unwrap();
    let tx = TxEip7702 {
        chain_id: 84532,
        nonce: 0,
        gas_limit: 100_000,
        max_fee_per_gas: 3 * GWEI,
        max_priority_fee_per_gas: 0,
        to: address(9),
        authorization_list: vec![authorization.into_signed(signature)],
        ..Default::default()
    };
    let bytes = signed(2, tx);
    let hash: B256 =
        rpc(&chain, "eth_sendRawTransaction", json!([bytes])).await.unwrap().as_str().unwrap().parse().unwrap();
    let receipt = chain.provider().get_transaction_receipt(hash).await.unwrap().unwrap();
    assert!(receipt.status());
    assert_eq!(receipt.transaction_type(), alloy_consensus::TxType::Eip7702);
    let code = chain.provider().get_code_at(address(1)).await.unwrap();
    assert_eq!(code, [&hex!("ef0100")[..], delegate.as_slice()].concat());
    assert_eq!(chain.nonce_of(address(1)), 1);
    // A delegated account still sends transactions of its own.
    let own = send_raw(&chain, 1, 1).await;
    assert_eq!(mined_in(&chain, own).await, Some(2));
}

#[tokio::test]
async fn blocks_by_interval_end_with_the_chain() {
    let chain = DevChain::builder().block_time(MiningMode::Interval(Duration::from_millis(5))).build().unwrap();
    let hash = send_raw(&chain, 0, 0).await;
    while chain.block_number() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(mined_in(&chain, hash).await.is_some());
}

#[test]
fn an_interval_needs_a_runtime_and_a_length() {
    let build = |period| DevChain::builder().block_time(MiningMode::Interval(period)).build().map(drop);
    assert_eq!(build(Duration::from_secs(1)), Err(ChainBuildError::NoRuntime));
    assert_eq!(build(Duration::ZERO), Err(ChainBuildError::ZeroInterval));
}

#[tokio::test]
async fn a_payment_expires_with_the_chains_clock() {
    let chain = common::chain();
    let message = common::TransferWithAuthorization {
        from: address(1),
        to: address(2),
        value: U256::ONE,
        validAfter: U256::ZERO,
        validBefore: U256::from(NOW + 60),
        nonce: B256::ZERO,
    };
    let pay = Token::transferWithAuthorization_1Call {
        from: message.from,
        to: message.to,
        value: message.value,
        validAfter: message.validAfter,
        validBefore: message.validBefore,
        nonce: message.nonce,
        signature: common::sign(1, &message).as_bytes().into(),
    };
    assert!(call(&chain, address(0), pay.clone()).await.is_ok());
    chain.increase_time(60);
    chain.mine(1);
    let late = call(&chain, address(0), pay).await.map(drop).unwrap_err();
    assert_eq!(late, "execution reverted: FiatTokenV2: authorization is expired");
}

#[tokio::test]
async fn a_constructor_runs_at_any_address() {
    let chain = common::chain();
    let at = Address::repeat_byte(0xc0);
    // Stores its caller in slot 0 and leaves one byte of code, STOP.
    chain.construct(at, hex!("335f5560005f5360015ff3").into()).unwrap();
    let provider = chain.provider();
    assert_eq!(provider.get_code_at(at).await.unwrap(), Bytes::from_static(&[0]));
    assert_eq!(provider.get_storage_at(at, U256::ZERO).await.unwrap(), U256::from_be_bytes(address(0).into_word().0));
    assert_eq!(chain.nonce_of(address(0)), 0);
    assert_eq!(chain.ether_of(address(0)), U256::from(10_000 * 10_u128.pow(18)));

    // One that reverts, and one that leaves what cannot be code: a delegation cut short.
    assert!(chain.construct(at, hex!("5f5ffd").into()).is_err());
    assert!(chain.construct(at, hex!("61ef015f526002601ef3").into()).is_err());
    assert_eq!(provider.get_code_at(at).await.unwrap(), Bytes::from_static(&[0]));
}
