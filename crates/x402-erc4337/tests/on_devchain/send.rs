//! Operations that a plain account bundles itself.

use std::num::NonZeroU64;

use alloy_primitives::{Address, Bytes, U256};
use x402_devchain::{ACCOUNTS, Failure, NodeFault, When};
use x402_erc4337::{
    BundleError, Call, FindNonces, FindUserOps, Gas, KernelMode, Landed, Revert, SendError, SendUserOp, Sent,
    UserOperation,
};

use crate::stage::{INSUFFICIENT_CREDITS, PAYER, STRANGER, Stage, bundler, stage, to_order, to_redeem};

async fn found(stage: &Stage, op: &UserOperation) -> Option<Landed> {
    let head = stage.chain.block_number();
    stage.node().find_user_ops(&[stage.hash(op)], 0..=head).await.unwrap().remove(0)
}

#[tokio::test]
async fn the_first_operation_deploys_enables_and_executes_and_the_next_only_executes() {
    let stage = stage().await;
    let order = stage.op(&stage.order, KernelMode::Enable, 0, &to_order()).await;
    let Sent::Handed { hash, transaction } = stage.bundler.send_user_op(&order).await.unwrap() else { panic!() };
    assert_eq!(hash, stage.hash(&order));
    let landed = found(&stage, &order).await.unwrap();
    assert_eq!((Some(landed.transaction), landed.block), (transaction, 1));
    assert!(landed.executed.success && landed.executed.gas_cost.is_zero());
    // `Ordered`, and nothing of the deployment and the enabling before it.
    assert_eq!(landed.executed.logs.len(), 1);
    assert_eq!(stage.credits().await, 100);

    let again = stage.op(&stage.order, KernelMode::Default, 0, &to_order()).await;
    stage.bundler.send_user_op(&again).await.unwrap();
    assert!(found(&stage, &again).await.unwrap().executed.success);
    assert_eq!(stage.credits().await, 200);
}

/// As on Arbitrum: the limit of a bundle covers the gas of its data, in the simulation of either kind, too.
#[tokio::test]
async fn bundles_land_where_data_cost_gas() {
    for simulates in [true, false] {
        let stage = stage().await;
        stage.chain.node_fault(NodeFault::NumberAhead(20_000_000));
        stage.chain.node_fault(NodeFault::Surcharge { transaction: 400_000, byte: 400 });
        if !simulates {
            let unknown = "the method eth_simulateV1 does not exist/is not available".into();
            let unknown = Failure::Error { code: -32601, message: unknown };
            stage.chain.fail_calls("eth_simulateV1", u32::MAX, When::Before, unknown);
        }
        let order = stage.op(&stage.order, KernelMode::Enable, 0, &to_order()).await;
        stage.bundler.send_user_op(&order).await.unwrap();
        assert!(found(&stage, &order).await.unwrap().executed.success);
        let again = stage.op(&stage.order, KernelMode::Default, 0, &to_order()).await;
        stage.bundler.send_user_op(&again).await.unwrap();
        assert!(found(&stage, &again).await.unwrap().executed.success);
        assert_eq!(stage.credits().await, 200);
    }
}

/// A node that takes few blocks at once is asked more often, for every block once.
#[tokio::test]
async fn a_long_range_is_looked_through_in_pieces() {
    let stage = stage().await;
    stage.chain.mine(6);
    let order = stage.op(&stage.order, KernelMode::Enable, 0, &to_order()).await;
    stage.bundler.send_user_op(&order).await.unwrap();
    let whole = found(&stage, &order).await.unwrap();
    assert_eq!(whole.block, 7);
    for (blocks, queries) in [(1_000, 1), (4, 2), (3, 3), (1, 8)] {
        let node = stage.node().with_log_query_blocks(NonZeroU64::new(blocks).unwrap());
        stage.chain.reset_calls();
        let landed = node.find_user_ops(&[stage.hash(&order)], 0..=7).await.unwrap().remove(0);
        assert_eq!(landed.as_ref(), Some(&whole), "{blocks}");
        assert_eq!(stage.chain.calls().of("eth_getLogs"), queries, "{blocks}");
        let nonce = node.find_nonce(order.sender, order.nonce, 0..=7).await.unwrap();
        assert_eq!(nonce, Some(stage.hash(&order)), "{blocks}");
        assert_eq!(stage.chain.calls().of("eth_getLogs"), 2 * queries, "{blocks}");
    }
}

/// The node refuses so many blocks, or logs, at once.
#[tokio::test]
async fn a_look_up_shrinks_until_the_node_takes_it() {
    let stage = stage().await;
    stage.chain.mine(60);
    let order = stage.op(&stage.order, KernelMode::Enable, 0, &to_order()).await;
    stage.bundler.send_user_op(&order).await.unwrap();
    let again = stage.op(&stage.order, KernelMode::Default, 0, &to_order()).await;
    stage.bundler.send_user_op(&again).await.unwrap();
    let hashes = [stage.hash(&order), stage.hash(&again)];
    let landed = stage.node().find_user_ops(&hashes, 0..=62).await.unwrap();
    assert!(landed.iter().all(Option::is_some));
    let free_tier = "Under the free tier, eth_getLogs requests may have up to a 10 block range.";
    for fault in [
        NodeFault::LogSpan { most: 10, code: -32600, message: free_tier.into() },
        NodeFault::LogSpan { most: 1, code: -1, message: "no".into() },
        NodeFault::LogCount { most: 1, code: -32005, message: "query returned more than 1 results".into() },
    ] {
        stage.chain.clear_faults();
        stage.chain.node_fault(fault.clone());
        stage.chain.reset_calls();
        let node = stage.node();
        assert_eq!(node.find_user_ops(&hashes, 0..=62).await.as_ref(), Ok(&landed), "{fault:?}");
        let nonce = node.find_nonce(order.sender, again.nonce, 0..=62).await;
        assert_eq!(nonce, Ok(Some(hashes[1])), "{fault:?}");
        assert!(stage.chain.calls().of("eth_getLogs") < 160, "{fault:?}");
    }
    // The smallest query is refused for once, in the midst of the others: it is made again, and not all of them.
    stage.chain.node_fault(NodeFault::LogSpan { most: 1, code: -1, message: "no".into() });
    let node = stage.node();
    node.find_nonce(order.sender, again.nonce, 0..=62).await.unwrap();
    stage.chain.fail_calls("eth_getLogs", 1, When::Before, Failure::Error { code: -32603, message: "no".into() });
    assert_eq!(node.find_nonce(order.sender, again.nonce, 0..=62).await, Ok(Some(hashes[1])));
    // What no query is small enough for ends, and names the setting.
    stage.chain.node_fault(NodeFault::LogSpan { most: 0, code: -32000, message: "no logs here".into() });
    stage.chain.reset_calls();
    let node = stage.node();
    for fault in [
        node.find_user_ops(&hashes, 0..=62).await.unwrap_err(),
        node.find_nonce(order.sender, again.nonce, 0..=62).await.unwrap_err(),
    ] {
        assert!(fault.to_string().contains("network.log_query_blocks"), "{fault}");
    }
    assert!(stage.chain.calls().of("eth_getLogs") < 20);
}

#[tokio::test]
async fn two_operations_share_a_transaction_and_not_their_logs() {
    let stage = stage().await;
    let order = stage.op(&stage.order, KernelMode::Enable, 0, &to_order()).await;
    let redeem = stage.second(&stage.redeem, &to_redeem(3));
    let ops = [order, redeem];
    let sent = stage.bundler.send(&ops).await.unwrap();
    assert_eq!(sent[0].transaction(), sent[1].transaction());
    assert_eq!(stage.credits().await, 97);
    let [order, redeem] = [found(&stage, &ops[0]).await.unwrap(), found(&stage, &ops[1]).await.unwrap()];
    assert_eq!(order.transaction, redeem.transaction);
    assert_eq!((order.executed.logs.len(), redeem.executed.logs.len()), (1, 1));
    // `Ordered` and `Redeemed`.
    assert_ne!(order.executed.logs[0].topics()[0], redeem.executed.logs[0].topics()[0]);
    // Both again: nothing is sent.
    let nonce = stage.chain.nonce_of(ACCOUNTS[PAYER].address);
    let again = stage.bundler.send(&ops).await.unwrap();
    assert_eq!(again, [Sent::Landed(Box::new(order)), Sent::Landed(Box::new(redeem))]);
    assert_eq!(stage.chain.nonce_of(ACCOUNTS[PAYER].address), nonce);
}

#[tokio::test]
async fn what_somebody_else_landed_is_found_and_not_sent_again() {
    let stage = stage().await;
    let order = stage.op(&stage.order, KernelMode::Enable, 0, &to_order()).await;
    let other = bundler(&stage.chain, stage.entry_point, STRANGER).send_user_op(&order).await.unwrap();
    let Sent::Landed(landed) = stage.bundler.send_user_op(&order).await.unwrap() else { panic!() };
    assert_eq!(Some(landed.transaction), other.transaction());
    assert_eq!(stage.chain.nonce_of(ACCOUNTS[PAYER].address), 0);

    // Beyond the look-back it is not seen: the refusal says only that the account is there.
    stage.chain.mine(5);
    let blind = bundler(&stage.chain, stage.entry_point, PAYER).with_lookback(2);
    let Err(SendError::Refused(refused)) = blind.send_user_op(&order).await else { panic!() };
    assert_eq!(refused.code(), Some("AA10"));
    // Another operation of the same nonce did not land.
    let other = stage.second(&stage.order, &to_order());
    let Err(SendError::Refused(refused)) = stage.bundler.send_user_op(&other).await else { panic!() };
    assert_eq!(refused.to_string(), "operation 0: AA23 reverted: InvalidNonce()");
    assert_eq!(found(&stage, &other).await, None);
}

#[tokio::test]
async fn what_would_revert_is_not_paid_for() {
    let stage = stage().await;
    let redeem = stage.op(&stage.redeem, KernelMode::Enable, 0, &to_redeem(1)).await;
    let Err(SendError::Reverts { hash, revert }) = stage.bundler.send_user_op(&redeem).await else { panic!() };
    assert_eq!((hash, revert.selector()), (stage.hash(&redeem), Some(INSUFFICIENT_CREDITS)));
    assert_eq!(stage.bundler.send(&[]).await, Err(SendError::Bundle(BundleError::Empty)));
    assert_eq!(stage.chain.nonce_of(ACCOUNTS[PAYER].address), 0);
}

/// An operation that reverts lands all the same: its transaction succeeds, its event says that it failed, and why.
#[tokio::test]
async fn a_landed_operation_that_failed_says_why() {
    let stage = stage().await;
    let redeem = stage.op(&stage.redeem, KernelMode::Enable, 0, &to_redeem(1)).await;
    let bundle = stage.bundle(std::slice::from_ref(&redeem));
    let receipt = stage.transact(&bundle, bundle.gas()).await;
    assert!(receipt.status());
    let landed = found(&stage, &redeem).await.unwrap();
    assert!(!landed.executed.success);
    assert_eq!(landed.executed.revert.as_ref().and_then(Revert::selector), Some(INSUFFICIENT_CREDITS));
    // It enabled the key nevertheless: the same again in the same mode is refused for good.
    let again = stage.op(&stage.redeem, KernelMode::Enable, 1, &to_redeem(1)).await;
    let Err(SendError::Refused(refused)) = stage.bundler.send_user_op(&again).await else { panic!() };
    assert_eq!(refused.inner().as_ref().and_then(Revert::name), Some("InvalidNonce()"));
}

#[tokio::test]
async fn a_lost_answer_is_unknown_and_the_next_try_finds_it() {
    let stage = stage().await;
    let order = stage.op(&stage.order, KernelMode::Enable, 0, &to_order()).await;
    stage.chain.fail_calls("eth_sendRawTransaction", 1, When::After, Failure::Lost);
    assert!(matches!(stage.bundler.send_user_op(&order).await, Err(SendError::Unknown(_))));
    let Sent::Landed(landed) = stage.bundler.send_user_op(&order).await.unwrap() else { panic!() };
    assert!(landed.executed.success);
    assert_eq!(stage.credits().await, 100);
    // A node that does not answer the look-up leaves everything open, too.
    stage.chain.fail_calls("eth_getLogs", 1, When::Before, Failure::Lost);
    assert!(matches!(stage.bundler.send_user_op(&order).await, Err(SendError::Unknown(_))));
}

/// "If gasleft() * 63 / 64 < callGasLimit + …" the whole bundle reverts with AA95: calls that burn all that they are
/// given show that ours does not, and that what both use is too little.
#[tokio::test]
async fn the_outer_gas_covers_calls_that_use_all_of_theirs() {
    let stage = stage().await;
    stage.bundler.send_user_op(&stage.op(&stage.order, KernelMode::Enable, 0, &to_order()).await).await.unwrap();
    let burner = Address::repeat_byte(0xbb);
    stage.chain.set_code(burner, Bytes::from_static(&[0xfe])).unwrap();
    let call = Call { target: burner, value: U256::ZERO, data: Bytes::new() };
    let gas = Gas { call_gas_limit: 5_000_000, verification_gas_limit: 150_000, ..Gas::default() };
    let mut ops = Vec::new();
    for sequence in [0, 1] {
        ops.push(stage.by_owner_with(gas, sequence, call.execute()).await);
    }
    let bundle = stage.bundle(&ops);
    let receipt = stage.transact(&bundle, 2 * 5_050_000).await;
    assert!(!receipt.status());
    assert_eq!(found(&stage, &ops[0]).await, None);
    let receipt = stage.transact(&bundle, bundle.gas()).await;
    assert!(receipt.status() && receipt.gas_used > 9_800_000);
    for op in &ops {
        assert!(!found(&stage, op).await.unwrap().executed.success);
    }
}
