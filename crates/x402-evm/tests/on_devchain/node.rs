//! Nodes as they are: each fault of the node that devchain makes on demand, and what it must not do to a payment.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use x402_devchain::{Disturbance, Failure, NodeFault, When};
use x402_evm::chain::{At, BatchRead, Peculiarity, ReadChain, ReadNonces, RpcChain, repeating};
use x402_evm::exact::ExactMechanism;
use x402_evm::token::Tokens;
use x402_facilitator_core::{Mechanism, NextStep, Observation, Rail, StepState};
use x402_types::ErrorReason;

use crate::stage::{PAYER, Stage, payload, stage};

/// The same stage, whose reader asks again for what may pass.
fn patient(mut stage: Stage) -> Stage {
    let provider = repeating(&stage.chain.client());
    let reader = RpcChain::new(provider, "eip155:84532".parse().unwrap(), 0).with_freshness(Duration::ZERO);
    stage.reader = Arc::new(reader);
    stage.mechanism = ExactMechanism::new(stage.reader.clone(), Tokens::default(), vec![stage.rail.lane().clone()]);
    stage
}

/// On Arbitrum and Orbit `NUMBER` is the number of another chain's block.
#[tokio::test]
async fn a_payment_ends_where_number_is_not_the_block_s_number() {
    let stage = stage(0);
    stage.chain.node_fault(NodeFault::NumberAhead(20_000_000));
    let mut payment = stage.payment(stage.claim(PAYER, 1).await).await;
    stage.chain.disturb_transactions(1, Disturbance::Drop);
    stage.carry(&mut payment, 0).await;
    stage.chain.set_next_timestamp(payload(&payment.claim).authorization.valid_before.0);
    stage.chain.mine(1);
    assert_eq!(stage.observe(&payment).await, Observation::Dead(ErrorReason::INVALID_VALID_BEFORE));
}

/// A final block is read by its hash, so a node that lacks it refuses and nothing is concluded.
#[tokio::test]
async fn a_second_node_that_lacks_the_block_refuses_to_read_it() {
    let stage = stage(0);
    let number = stage.chain.block_number();
    stage.chain.node_fault(NodeFault::SecondNode(1));
    stage.reader.run(&BatchRead::new(), At::Number(number)).await.unwrap_err();
    // By turns: the one that has it is asked again.
    let stage = patient(stage);
    stage.reader.run(&BatchRead::new(), At::Number(number)).await.unwrap();
}

/// The node was away for longer than it keeps states.
#[tokio::test]
async fn the_head_moves_on_at_a_node_that_lost_the_state_of_the_last_final_block() {
    let stage = stage(2);
    let account = stage.rail.address();
    stage.carry(&mut stage.payment(stage.claim(PAYER, 1).await).await, 0).await;
    stage.chain.mine(4);
    for _ in 0..2 {
        stage.reader.poll().await.unwrap();
    }
    let before = stage.reader.account_nonces(account).await.unwrap();
    assert_eq!((before.head, before.finalized), (1, 1));
    // A poll that finds a block: the next one also requests the nonces at the final block that is known now.
    stage.chain.mine(1);
    stage.reader.poll().await.unwrap();
    stage.chain.node_fault(NodeFault::StateWindow(8));
    stage.chain.mine(100);
    let head = stage.reader.poll().await.unwrap();
    assert_eq!(head.number, stage.chain.block_number());
    let after = stage.reader.account_nonces(account).await.unwrap();
    assert_eq!((after.head, after.finalized), (1, 1));
}

/// At rest no further query comes by itself; that the nonce is used is what tells of the missing log.
#[tokio::test]
async fn a_log_that_the_node_did_not_have_yet_is_looked_for_when_the_nonce_is_used() {
    let stage = stage(0);
    let mut payment = stage.payment(stage.claim(PAYER, 1).await).await;
    stage.carry(&mut payment, 0).await;
    stage.chain.mine(1);
    stage.chain.node_fault(NodeFault::LogLag(1));
    assert_eq!(stage.observe(&payment).await, Observation::Pending);
    stage.chain.clear_faults();
    assert_eq!(stage.observe(&payment).await, Observation::Pending, "that block was looked at");
    payment.steps[0].state = StepState::Unaccounted;
    assert!(matches!(stage.mechanism.plan(&payment, stage.now).await, Ok(NextStep::Wait(_))));
    assert!(matches!(stage.observe(&payment).await, Observation::Proven(_)));
}

/// Nodes refuse a query for more than 10 blocks, or for more logs than they count, whatever their code and words.
#[tokio::test]
async fn a_query_for_logs_shrinks_until_the_node_takes_it() {
    let free_tier = "Under the free tier, eth_getLogs requests may have up to a 10 block range.";
    for fault in [
        NodeFault::LogSpan { most: 10, code: -32600, message: free_tier.into() },
        NodeFault::LogSpan { most: 1, code: -1, message: "no".into() },
        NodeFault::LogCount { most: 2, code: -32005, message: "query returned more than 2 results".into() },
    ] {
        let stage = stage(0);
        let mut payment = stage.payment(stage.claim(PAYER, 1).await).await;
        stage.carry(&mut payment, 0).await;
        stage.chain.mine(60);
        stage.chain.node_fault(fault.clone());
        assert!(matches!(stage.observe(&payment).await, Observation::Proven(_)), "{fault:?}");
        let calls = stage.chain.calls().of("eth_getLogs");
        assert!(calls < 100, "{fault:?}: {calls}");
    }
}

/// One block contains more transfers of a payer than the node returns, and no query is smaller than a block.
#[tokio::test]
async fn transfers_in_one_block_that_are_more_logs_than_the_node_gives_out_hold_up_no_payment() {
    let stage = stage(0);
    let mut made = Vec::new();
    for number in 0..3 {
        let mut payment = stage.payment(stage.claim(PAYER, number).await).await;
        let attempt = stage.carry(&mut payment, number.into()).await;
        made.push((payment, attempt));
    }
    stage.chain.mine(1);
    let mut expires = stage.payment(stage.claim(PAYER, 9).await).await;
    stage.chain.disturb_transactions(1, Disturbance::Drop);
    stage.carry(&mut expires, 3).await;
    stage.chain.node_fault(NodeFault::LogCount { most: 2, code: -32005, message: "more than 2 results".into() });
    stage.chain.set_next_timestamp(payload(&expires.claim).authorization.valid_before.0);
    stage.chain.mine(1);
    assert_eq!(stage.observe(&expires).await, Observation::Dead(ErrorReason::INVALID_VALID_BEFORE));
    for (payment, attempt) in made {
        let Observation::Proven(facts) = stage.observe(&payment).await else { panic!() };
        assert_eq!(facts.tx, attempt.tx);
        // A facilitator that made none of them finds them, too.
        let refused = stage.verify(&payment.claim).await.unwrap_err().to_string();
        assert!(refused.contains(attempt.tx.as_str()) && refused.contains("paid what is asked"), "{refused}");
    }
    let calls = stage.chain.calls().of("eth_getLogs");
    assert!(calls < 100, "{calls}");
}

/// An unreadable answer is not a refusal of the number of blocks: the same query is repeated.
#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_read_is_asked_for_again_and_makes_no_query_smaller() {
    let stage = patient(stage(0));
    let mut payment = stage.payment(stage.claim(PAYER, 1).await).await;
    stage.chain.disturb_transactions(1, Disturbance::Drop);
    stage.carry(&mut payment, 0).await;
    stage.chain.mine(60);
    stage.chain.node_fault(NodeFault::Every(2, Failure::Malformed));
    for _ in 0..10 {
        stage.chain.mine(1);
        stage.chain.reset_calls();
        assert_eq!(stage.observe(&payment).await, Observation::Dead(ErrorReason::INVALID_VALID_BEFORE));
        let calls = stage.chain.calls().of("eth_getLogs");
        assert!(calls <= 2, "{calls}");
    }
}

/// A node that refuses the smallest query, too, ends in a fault that names the setting.
#[tokio::test]
async fn a_node_that_gives_out_no_logs_ends_in_a_fault_that_names_the_setting() {
    let stage = stage(0);
    let reader = RpcChain::new(stage.chain.client(), "eip155:84532".parse().unwrap(), 0);
    let reader = Arc::new(reader.with_log_query_blocks(NonZeroU64::new(1_000).unwrap()));
    let mechanism = ExactMechanism::new(reader, Tokens::default(), vec![stage.rail.lane().clone()]);
    let mut payment = stage.payment(stage.claim(PAYER, 1).await).await;
    stage.carry(&mut payment, 0).await;
    stage.chain.mine(60);
    stage.chain.node_fault(NodeFault::LogSpan { most: 0, code: -32000, message: "no logs here".into() });
    let fault = mechanism.observe(payment.steps.last().unwrap(), &[]).await.unwrap_err();
    assert!(fault.to_string().contains("network.log_query_blocks"), "{fault}");
    assert!(stage.chain.calls().of("eth_getLogs") < 20);
}

/// The node fails four times in a row, for ever, or at every third call with 429.
#[tokio::test(start_paused = true)]
async fn what_may_pass_is_asked_again_and_not_for_ever() {
    let stage = patient(stage(0));
    let claim = stage.claim(PAYER, 1).await;
    let limited = Failure::Error { code: 429, message: "capacity exceeded".into() };
    for failure in [Failure::Status(429), Failure::Status(502), Failure::Lost, limited] {
        stage.chain.fail_any_calls(4, When::Before, failure.clone());
        stage.chain.reset_calls();
        stage.verify(&claim).await.unwrap();
        assert_eq!(stage.chain.calls().of("eth_call"), 5, "{failure:?}");
        stage.chain.fail_any_calls(100, When::Before, failure);
        stage.chain.reset_calls();
        stage.verify(&claim).await.unwrap_err();
        assert_eq!(stage.chain.calls().total(), 5);
        stage.chain.clear_faults();
    }
    // What does not pass is asked once.
    stage.chain.fail_any_calls(1, When::Before, Failure::Error { code: -32000, message: "out of order".into() });
    stage.chain.reset_calls();
    stage.verify(&claim).await.unwrap_err();
    assert_eq!(stage.chain.calls().total(), 1);
    stage.chain.node_fault(NodeFault::Every(3, Failure::Status(429)));
    for _ in 0..10 {
        stage.verify(&claim).await.unwrap();
    }
}

/// A node that counts the members of a batch refuses some of each, and the others stand.
#[tokio::test(start_paused = true)]
async fn of_a_batch_only_what_was_refused_is_asked_again() {
    let stage = patient(stage(0));
    stage.reader.account_nonces(stage.rail.address()).await.unwrap();
    let limited = Failure::Error { code: 429, message: "capacity exceeded".into() };
    stage.chain.mine(1);
    // The poll that finds the new block and the one behind it, of 4 calls each.
    for refused in [1, 2] {
        stage.chain.reset_calls();
        stage.chain.fail_any_calls(refused, When::Before, limited.clone());
        stage.reader.poll().await.unwrap();
        let made = stage.chain.calls();
        assert_eq!(made.total(), 4 + u64::from(refused), "{made:?}");
    }
    stage.chain.node_fault(NodeFault::Every(2, limited));
    for _ in 0..10 {
        stage.chain.mine(1);
        stage.reader.poll().await.unwrap();
        stage.reader.poll().await.unwrap();
        assert_eq!(stage.reader.head().await.unwrap().number, stage.chain.block_number());
    }
}

/// The node took the transaction, and says that it knows it.
#[tokio::test]
async fn a_transaction_that_the_node_knows_already_was_sent_and_settles_once() {
    let known = Failure::Error { code: -32000, message: "already known".into() };
    let stage = stage(0);
    let mut payment = stage.payment(stage.claim(PAYER, 1).await).await;
    stage.chain.fail_calls("eth_sendRawTransaction", 1, When::After, known);
    let attempt = stage.carry(&mut payment, 0).await;
    stage.rail.send(&attempt).await.unwrap();
    stage.chain.mine(1);
    let Observation::Proven(proof) = stage.observe(&payment).await else { panic!() };
    assert_eq!(proof.tx, attempt.tx);
    assert_eq!(stage.chain.nonce_of(stage.rail.address()), 1);
    assert_eq!(stage.paid(), alloy_primitives::U256::from(crate::stage::PRICE));
}

/// A node without EIP-1898 is read by number, and what expired ends.
#[tokio::test]
async fn a_payment_ends_at_a_node_that_takes_no_block_by_its_hash() {
    for (code, message) in [
        (-32602, "invalid argument 1: json: cannot unmarshal object into Go value of type string"),
        (-32000, "EIP-1898 is not supported"),
    ] {
        let stage = stage(0);
        stage.chain.node_fault(NodeFault::NoBlockHash { code, message: message.into() });
        let mut payment = stage.payment(stage.claim(PAYER, 1).await).await;
        stage.chain.disturb_transactions(1, Disturbance::Drop);
        stage.carry(&mut payment, 0).await;
        stage.chain.set_next_timestamp(payload(&payment.claim).authorization.valid_before.0);
        stage.chain.mine(1);
        assert_eq!(stage.observe(&payment).await, Observation::Dead(ErrorReason::INVALID_VALID_BEFORE));
        // It is known from then on: the refused form is not tried again.
        let trips = stage.chain.reset_calls().round_trips;
        assert_eq!(stage.observe(&payment).await, Observation::Dead(ErrorReason::INVALID_VALID_BEFORE));
        assert!(stage.chain.calls().round_trips < trips && stage.chain.calls().of("eth_call") == 1);
        // At start it is known by name.
        let reader = RpcChain::new(stage.chain.client(), "eip155:84532".parse().unwrap(), 0);
        let found = reader.peculiarities(stage.now).await.unwrap();
        assert!(matches!(&found[..], [Peculiarity::NoBlockHash { words }] if words.contains(message)), "{found:?}");
        assert!(found[0].to_string().contains("EIP-1898"), "{}", found[0]);
    }
}

/// Without EIP-1898 a block that is not the one of that number before and after proves nothing, nor does another second.
#[tokio::test]
async fn what_was_read_by_number_of_another_block_is_not_believed() {
    let stage = stage(0);
    let number = stage.chain.block_number();
    let refusal = NodeFault::NoBlockHash { code: -32602, message: "no".into() };
    stage.chain.node_fault(refusal.clone());
    stage.reader.run(&BatchRead::new(), At::Number(number)).await.unwrap();
    stage.chain.node_fault(NodeFault::SecondNode(1));
    // By turns: the one that lags does not have the block, and the other is asked again.
    let time = stage.reader.head().await.unwrap().timestamp;
    for _ in 0..4 {
        let answers = stage.reader.run(&BatchRead::new(), At::Number(number)).await.unwrap();
        assert!(answers.timestamp >= time);
    }
    stage.chain.clear_faults();
    stage.chain.node_fault(refusal);
    stage.chain.node_fault(NodeFault::CallTime(1));
    stage.reader.run(&BatchRead::new(), At::Number(number)).await.unwrap_err();
}

/// A fresh anvil's `eth_call` answers second 1. An expired payment ends there all the same, and the start names it.
#[tokio::test]
async fn a_node_whose_eth_call_sees_another_second_is_named() {
    let stage = stage(0);
    assert_eq!(stage.reader.peculiarities(stage.now).await, Ok(vec![]));
    let mut payment = stage.payment(stage.claim(PAYER, 1).await).await;
    stage.chain.disturb_transactions(1, Disturbance::Drop);
    stage.carry(&mut payment, 0).await;
    let block = payload(&payment.claim).authorization.valid_before.0;
    stage.chain.set_next_timestamp(block);
    stage.chain.mine(1);
    stage.chain.node_fault(NodeFault::CallTime(1));
    assert_eq!(stage.observe(&payment).await, Observation::Dead(ErrorReason::INVALID_VALID_BEFORE));
    let found = stage.reader.peculiarities(stage.now).await.unwrap();
    assert_eq!(found, [Peculiarity::CallTime { call: 1, block }]);
    // One that is ahead of block and machine, too; the next block's time is none.
    for (ahead, named) in [(30, false), (3_600, true)] {
        stage.chain.node_fault(NodeFault::CallTime(block + ahead));
        assert_eq!(stage.reader.peculiarities(stage.now).await.unwrap().len(), usize::from(named));
    }
}

/// Answers of 10 MB are read, and an error of 10 MB is not logged whole.
#[tokio::test]
async fn answers_of_10_megabytes_are_read() {
    let stage = stage(0);
    stage.chain.node_fault(NodeFault::Padded(10_000_000));
    stage.verify(&stage.claim(PAYER, 1).await).await.unwrap();
}
