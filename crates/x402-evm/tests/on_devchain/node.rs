//! Nodes as they are: each fault of the node that devchain makes on demand, and what it must not do to a payment.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use x402_devchain::{Disturbance, Failure, NodeFault, When};
use x402_evm::chain::{At, Program, ReadChain, ReadNonces, RpcChain, repeating};
use x402_evm::exact::ExactMechanism;
use x402_evm::token::Tokens;
use x402_facilitator_core::{Mechanism, Observation, Plan, StepState};
use x402_types::ErrorReason;

use crate::stage::{PAYER, Stage, payload, stage};

/// The same stage, whose reader asks again for what may pass.
fn patient(mut stage: Stage) -> Stage {
    let provider = repeating(&stage.chain.provider());
    let reader = RpcChain::new(provider, "eip155:84532".parse().unwrap(), 0).fresh_for(Duration::ZERO);
    stage.reader = Arc::new(reader);
    stage.mechanism = ExactMechanism::new(stage.reader.clone(), Tokens::default(), vec![stage.rail.lane().clone()]);
    stage
}

/// A4: on Arbitrum and Orbit `NUMBER` is the number of another chain's block.
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

/// A4: a final block is read by its hash, so a node that lacks it refuses and nothing is concluded.
#[tokio::test]
async fn a_second_node_that_lacks_the_block_refuses_to_read_it() {
    let stage = stage(0);
    let number = stage.chain.block_number();
    stage.chain.node_fault(NodeFault::SecondNode(1));
    stage.reader.run(&Program::new(), At::Number(number)).await.unwrap_err();
    // By turns: the one that has it is asked again.
    let stage = patient(stage);
    stage.reader.run(&Program::new(), At::Number(number)).await.unwrap();
}

/// A6: the node was away for longer than it keeps states.
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
    stage.chain.node_fault(NodeFault::StateWindow(8));
    stage.chain.mine(100);
    stage.reader.poll().await.unwrap();
    let head = stage.reader.poll().await.unwrap();
    assert_eq!(head.number, stage.chain.block_number());
    let after = stage.reader.account_nonces(account).await.unwrap();
    assert_eq!((after.head, after.finalized), (1, 1));
}

/// A8: at rest no further query comes by itself; that the nonce is used is what tells of the missing log.
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
    payment.steps[0].state = StepState::Loose;
    assert!(matches!(stage.mechanism.plan(&payment, stage.now).await, Ok(Plan::Wait(_))));
    assert!(matches!(stage.observe(&payment).await, Observation::Proven(_)));
}

/// R-F13, `shared/cases/nodes/n01-getlogs-10-blocks.json`, and nodes that count logs, whatever their code and words.
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

/// R-F13: what no query can be small enough for ends, and names the setting.
#[tokio::test]
async fn a_node_that_gives_out_no_logs_ends_in_a_fault_that_names_the_setting() {
    let stage = stage(0);
    let reader = RpcChain::new(stage.chain.provider(), "eip155:84532".parse().unwrap(), 0);
    let reader = Arc::new(reader.log_query_blocks(NonZeroU64::new(1_000).unwrap()));
    let mechanism = ExactMechanism::new(reader, Tokens::default(), vec![stage.rail.lane().clone()]);
    let mut payment = stage.payment(stage.claim(PAYER, 1).await).await;
    stage.carry(&mut payment, 0).await;
    stage.chain.mine(60);
    stage.chain.node_fault(NodeFault::LogSpan { most: 0, code: -32000, message: "no logs here".into() });
    let fault = mechanism.observe(payment.steps.last().unwrap(), &[]).await.unwrap_err();
    assert!(fault.to_string().contains("network.log_query_blocks"), "{fault}");
    assert!(stage.chain.calls().of("eth_getLogs") < 20);
}

/// R-F14, `shared/cases/nodes/n03-every-third-call-429.json`.
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

/// Answers of 10 MB are read, and an error of 10 MB is not logged whole.
#[tokio::test]
async fn answers_of_10_megabytes_are_read() {
    let stage = stage(0);
    stage.chain.node_fault(NodeFault::Padded(10_000_000));
    stage.verify(&stage.claim(PAYER, 1).await).await.unwrap();
}
