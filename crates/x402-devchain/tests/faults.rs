//! Reorgs, transactions and calls that go wrong, and what is counted.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)]

mod common;

use std::time::Duration;

use alloy_consensus::TxEip1559;
use alloy_primitives::U256;
use alloy_provider::Provider;
use alloy_sol_types::SolCall;
use common::{GWEI, NOW, address, by_hand, error_text, mined_in, raw, refusal, rpc, send, send_raw, signed, wei};
use serde_json::json;
use x402_devchain::{
    ACCOUNTS, DevChain, Disturbance, Failure, NodeFault, Orphans, ReorgTooDeep, TOKENS_EACH, Token, When,
};

#[tokio::test]
async fn a_reorg_mines_its_transactions_again() {
    let chain = by_hand();
    let hash = send_raw(&chain, 0, 0).await;
    chain.mine(3);
    let before = chain.provider().get_block_by_number(1.into()).await.unwrap().unwrap().header.hash;
    chain.reorg(3, Orphans::Remine).unwrap();
    assert_eq!((chain.block_number(), mined_in(&chain, hash).await), (3, Some(1)));
    let after = chain.provider().get_block_by_number(1.into()).await.unwrap().unwrap().header.hash;
    assert_ne!(before, after);
    assert!(chain.provider().get_block_by_hash(before).await.unwrap().is_none());
}

#[tokio::test]
async fn a_reorg_sends_its_transactions_back() {
    let chain = by_hand();
    let hash = send_raw(&chain, 0, 0).await;
    chain.mine(1);
    chain.reorg(1, Orphans::Requeue).unwrap();
    assert_eq!((chain.block_number(), mined_in(&chain, hash).await), (1, None));
    assert!(chain.provider().get_transaction_by_hash(hash).await.unwrap().is_some());
    assert_eq!(chain.nonce_of(address(0)), 0);
    chain.mine(1);
    assert_eq!(mined_in(&chain, hash).await, Some(2));
}

#[tokio::test]
async fn a_reorg_loses_its_transactions() {
    let chain = by_hand();
    let hash = send_raw(&chain, 0, 0).await;
    chain.mine(2);
    chain.reorg(2, Orphans::Drop).unwrap();
    chain.mine(1);
    assert_eq!((chain.block_number(), mined_in(&chain, hash).await), (3, None));
    assert!(chain.provider().get_transaction_by_hash(hash).await.unwrap().is_none());
    assert_eq!(chain.nonce_of(address(0)), 0);
    assert_eq!(send_raw(&chain, 0, 0).await, hash);
    assert_eq!(chain.reorg(4, Orphans::Drop), Err(ReorgTooDeep { depth: 4, head: 3 }));
}

#[tokio::test]
async fn a_reorg_takes_the_tokens_back_and_only_final_transfers_count() {
    let chain = DevChain::builder().time(NOW).finality_depth(2).build().unwrap();
    send(&chain, 1, Token::transferCall { to: address(2), value: U256::from(5) }).await;
    assert_eq!(chain.balance_of(address(2)), U256::from(1_000_000_005));
    chain.mine(1);
    assert_eq!((chain.final_block_number(), chain.transfers().len()), (0, 0));
    chain.mine(1);
    assert_eq!((chain.final_block_number(), chain.transfers().len()), (1, 1));
    chain.reorg(3, Orphans::Drop).unwrap();
    assert_eq!(chain.balance_of(address(2)), U256::from(1_000_000_000));
    assert_eq!(chain.transfers(), []);
}

#[tokio::test]
async fn a_dropped_transaction_is_accepted_and_forgotten() {
    let chain = common::chain();
    chain.disturb_transactions(1, Disturbance::Drop);
    let hash = send_raw(&chain, 0, 0).await;
    chain.mine(2);
    assert_eq!(mined_in(&chain, hash).await, None);
    assert!(chain.provider().get_transaction_by_hash(hash).await.unwrap().is_none());
    assert_eq!(send_raw(&chain, 0, 0).await, hash);
    assert_eq!(mined_in(&chain, hash).await, Some(3));
}

#[tokio::test]
async fn a_delayed_transaction_comes_blocks_later() {
    let chain = common::chain();
    chain.disturb_transactions(1, Disturbance::Delay(2));
    let hash = send_raw(&chain, 0, 0).await;
    chain.mine(2);
    assert_eq!(mined_in(&chain, hash).await, None);
    chain.mine(1);
    assert_eq!(mined_in(&chain, hash).await, Some(3));
}

#[tokio::test]
async fn a_replaced_transaction_loses_its_nonce_to_another() {
    let chain = common::chain();
    chain.disturb_transactions(1, Disturbance::Replace);
    let hash = send_raw(&chain, 0, 0).await;
    assert_eq!((chain.block_number(), chain.nonce_of(address(0))), (1, 1));
    assert_eq!(mined_in(&chain, hash).await, None);
    assert_eq!(refusal(&chain, raw(0, 0, 3 * GWEI, GWEI)).await, "nonce too low: next nonce 1, tx nonce 0");
    assert_eq!(chain.ether_of(address(9)), U256::from(10_000 * 10_u128.pow(18)), "the original did not happen");
}

#[tokio::test]
async fn a_waiting_transaction_can_be_taken_out() {
    let chain = by_hand();
    let hash = send_raw(&chain, 0, 0).await;
    assert!(chain.drop_transaction(hash));
    assert!(!chain.drop_transaction(hash));
    chain.mine(1);
    assert_eq!(mined_in(&chain, hash).await, None);
}

#[tokio::test]
async fn calls_fail_before_or_after_they_took_effect() {
    let chain = common::chain();
    let error = Failure::Error { code: -32603, message: "out of sorts".into() };
    chain.fail_calls("eth_sendRawTransaction", 1, When::Before, error.clone());
    assert_eq!(refusal(&chain, raw(0, 0, 3 * GWEI, GWEI)).await, "out of sorts");
    assert_eq!(chain.block_number(), 0);
    chain.fail_calls("eth_sendRawTransaction", 1, When::After, error);
    assert_eq!(refusal(&chain, raw(0, 0, 3 * GWEI, GWEI)).await, "out of sorts");
    assert_eq!((chain.block_number(), chain.nonce_of(address(0))), (1, 1));

    chain.fail_calls("eth_sendRawTransaction", 1, When::After, Failure::Lost);
    let lost = rpc(&chain, "eth_sendRawTransaction", json!([raw(0, 1, 3 * GWEI, GWEI)])).await.unwrap_err();
    assert!(lost.as_transport_err().is_some_and(|kind| kind.is_backend_gone()), "{lost:?}");
    assert_eq!(chain.nonce_of(address(0)), 2);

    chain.fail_any_calls(2, When::Before, Failure::Malformed);
    for _ in 0..2 {
        assert!(rpc(&chain, "eth_chainId", json!([])).await.unwrap_err().is_deser_error());
    }
    chain.fail_calls("eth_chainId", 1, When::Before, Failure::Status(429));
    assert_eq!(rpc(&chain, "eth_blockNumber", json!([])).await.unwrap(), "0x2");
    let limited = rpc(&chain, "eth_chainId", json!([])).await.unwrap_err();
    assert_eq!(limited.as_transport_err().and_then(|kind| kind.as_http_error()).unwrap().status, 429);
    assert_eq!(rpc(&chain, "eth_chainId", json!([])).await.unwrap(), "0x14a34");
    chain.fail_any_calls(9, When::Before, Failure::Lost);
    chain.clear_faults();
    assert_eq!(rpc(&chain, "eth_chainId", json!([])).await.unwrap(), "0x14a34");
}

#[tokio::test]
async fn a_batch_is_one_round_trip_and_counts_its_members() {
    let chain = common::chain();
    let client = chain.client();
    let mut batch = client.new_batch();
    let id = batch.add_call::<_, String>("eth_chainId", &()).unwrap();
    let head = batch.add_call::<_, String>("eth_blockNumber", &()).unwrap();
    let other = batch.add_call::<_, String>("eth_chainId", &()).unwrap();
    chain.fail_calls("eth_blockNumber", 1, When::Before, Failure::Error { code: -32000, message: "no".into() });
    batch.send().await.unwrap();
    assert_eq!((id.await.unwrap().as_str(), other.await.unwrap().as_str()), ("0x14a34", "0x14a34"));
    assert_eq!(error_text(&head.await.unwrap_err()), "no");
    let calls = chain.reset_calls();
    assert_eq!((calls.round_trips, calls.total()), (1, 3));
    assert_eq!((calls.of("eth_chainId"), calls.of("eth_blockNumber"), calls.of("eth_call")), (2, 1, 0));
    assert_eq!(chain.calls().total(), 0);
}

#[tokio::test]
async fn a_round_trip_takes_its_delay() {
    let chain = DevChain::builder().rpc_delay(Duration::from_millis(40)).build().unwrap();
    let start = std::time::Instant::now();
    rpc(&chain, "eth_chainId", json!([])).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(40));
}

/// The invariant that tests of ledgers lean on: tokens at the head are those of genesis and the transfers since.
#[tokio::test]
async fn balances_are_the_sum_of_the_transfers_whatever_happens() {
    let chain = by_hand();
    let mut seed = 402_u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for _ in 0..300 {
        match random(8) {
            0..5 => {
                let (from, to, value) = (random(10) as usize, random(10) as usize, random(2_000_000_000));
                let nonce = chain.provider().get_transaction_count(address(from)).pending().await.unwrap();
                let tx = TxEip1559 {
                    nonce,
                    gas_limit: 100_000,
                    to: x402_devchain::TOKEN.into(),
                    value: U256::ZERO,
                    input: Token::transferCall { to: address(to), value: U256::from(value) }.abi_encode().into(),
                    ..wei(0, 50 * GWEI, GWEI)
                };
                rpc(&chain, "eth_sendRawTransaction", json!([signed(from, tx)])).await.unwrap();
            }
            5 | 6 => chain.mine(1),
            _ => {
                let orphans = [Orphans::Remine, Orphans::Requeue, Orphans::Drop][random(3) as usize];
                let depth = random(4);
                let _ = chain.reorg(depth, orphans);
            }
        }
        let transfers = chain.transfers();
        for account in ACCOUNTS {
            let mut expected = U256::from(TOKENS_EACH);
            for transfer in &transfers {
                // Added before it is taken away: a transfer may be to oneself.
                expected += if transfer.to == account.address { transfer.value } else { U256::ZERO };
                expected -= if transfer.from == account.address { transfer.value } else { U256::ZERO };
            }
            assert_eq!(chain.balance_of(account.address), expected);
        }
    }
    assert!(chain.transfers().len() > 30, "{}", chain.transfers().len());
}

#[tokio::test]
async fn a_surcharge_is_taken_before_anything_is_executed() {
    let chain = by_hand();
    chain.node_fault(NodeFault::Surcharge { transaction: 100_000, byte: 40 });
    let nobody = "0x00000000000000000000000000000000000000aa";
    let estimate = async |data: &str| {
        let estimate = rpc(&chain, "eth_estimateGas", json!([{ "to": nobody, "data": data }])).await.unwrap();
        u64::from_str_radix(estimate.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
    };
    // A byte that is not zero costs 16 and 40, one that is zero a quarter of both.
    assert_eq!((estimate("0x").await, estimate("0xff00").await), (121_000, 121_000 + 56 + 14));
    // Calls are charged, too.
    let call = |gas: u64| rpc(&chain, "eth_call", json!([{ "to": nobody, "gas": format!("0x{gas:x}") }, "latest"]));
    call(121_000).await.unwrap();
    assert!(error_text(&call(120_999).await.unwrap_err()).contains("intrinsic gas too low"));
    let tx = |gas_limit| TxEip1559 {
        chain_id: chain.chain_id(),
        gas_limit,
        max_fee_per_gas: 10 * GWEI,
        to: ACCOUNTS[2].address.into(),
        ..TxEip1559::default()
    };
    let refused = refusal(&chain, signed(0, tx(120_999))).await;
    assert_eq!(refused, "intrinsic gas too low: gas 120999, minimum needed 121000");
    let hash = rpc(&chain, "eth_sendRawTransaction", json!([signed(0, tx(121_000))])).await.unwrap();
    chain.mine(1);
    let receipt = rpc(&chain, "eth_getTransactionReceipt", json!([hash])).await.unwrap();
    assert_eq!((&receipt["status"], &receipt["gasUsed"]), (&json!("0x1"), &json!("0x1d8a8")));
    chain.clear_faults();
    assert_eq!(estimate("0x").await, 21_000);
}

/// `BLOCKHASH` of the block before the one that `NUMBER` names, as init code returns it.
#[tokio::test]
async fn the_hashes_of_another_chain_are_not_this_one_s() {
    let chain = by_hand();
    chain.mine(3);
    // PUSH1 1, NUMBER, SUB, BLOCKHASH, PUSH0, MSTORE, PUSH1 32, PUSH0, RETURN.
    let code = "0x60014303405f5260205ff3";
    let before = async || rpc(&chain, "eth_call", json!([{ "data": code }, "latest"])).await.unwrap();
    let own = rpc(&chain, "eth_getBlockByNumber", json!(["0x2", false])).await.unwrap()["hash"].clone();
    assert_eq!(before().await, own);
    chain.node_fault(NodeFault::NumberAhead(20_000_000));
    let other = before().await;
    assert!(other != own && other != json!(format!("0x{}", "00".repeat(32))), "{other}");
}
