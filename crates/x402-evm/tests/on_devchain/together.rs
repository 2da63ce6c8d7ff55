//! What is asked and sent at about the same time is one request, and each has its own answer.

use alloy_primitives::U256;
use futures_util::future::join_all;
use x402_devchain::{ACCOUNTS, Failure, NodeFault, When};
use x402_facilitator_core::{Rail, SlotId};
use x402_types::{Claim, Refusal};

use crate::stage::{PAYER, PRICE, Stage, stage};

/// Verifies all at once; returns the reasons of the refusals, empty for none.
async fn verdicts(stage: &Stage, claims: &[Claim]) -> Vec<String> {
    let verdicts = join_all(claims.iter().map(|claim| stage.verify(claim))).await;
    let reason = |verdict| match verdict {
        Ok(_) => String::new(),
        Err(Refusal::Rejection(why)) => why.reason.to_string(),
        Err(Refusal::Fault(fault)) => panic!("{fault}"),
    };
    verdicts.into_iter().map(reason).collect()
}

async fn claims(stage: &Stage, payers: &[usize]) -> Vec<Claim> {
    join_all((0..).zip(payers).map(|(nonce, payer)| stage.claim(*payer, nonce))).await
}

/// Payers 1, 2 and 4; the second has nothing, and the authorization of the last is used.
async fn three(stage: &Stage) -> Vec<Claim> {
    let claims = claims(stage, &[1, 2, 4]).await;
    stage.chain.set_balance_of(ACCOUNTS[2].address, U256::ZERO);
    let mut used = stage.payment(claims[2].clone()).await;
    stage.carry(&mut used, 0).await;
    stage.chain.mine(1);
    claims
}

const VERDICTS: [&str; 3] = ["", "insufficient_funds", "invalid_exact_evm_nonce_already_used"];

#[tokio::test]
async fn verifications_at_once_are_one_call_with_a_verdict_each() {
    let stage = stage(0);
    let claims = three(&stage).await;
    let refused = verdicts(&stage, &claims[2..]).await.remove(0);
    let alone = stage.chain.reset_calls().of("eth_call");
    assert_eq!(alone, 1 + 1, "the read, and one before for the payment itself");
    assert_eq!(verdicts(&stage, &claims).await, [VERDICTS[0], VERDICTS[1], &refused]);
    assert_eq!(stage.chain.calls().of("eth_call"), 1);
}

/// Each takes all that the payer has: simulated one behind the other, the second would be refused.
#[tokio::test]
async fn a_simulation_does_not_see_what_another_one_moved() {
    let stage = stage(0);
    stage.chain.set_balance_of(ACCOUNTS[PAYER].address, U256::from(PRICE));
    let claims = claims(&stage, &[PAYER; 3]).await;
    stage.chain.reset_calls();
    assert_eq!(verdicts(&stage, &claims).await, ["", "", ""]);
    assert_eq!(stage.chain.calls().of("eth_call"), 1);
    assert_eq!(stage.chain.balance_of(ACCOUNTS[PAYER].address), U256::from(PRICE));
}

/// geth's message for init code above its limit; other nodes have other limits.
#[tokio::test]
async fn what_a_node_refuses_of_many_is_asked_of_each() {
    let stage = stage(0);
    let claims = claims(&stage, &[1, 2, 4]).await;
    stage.chain.reset_calls();
    let message = "max initcode size exceeded: code size 60000 limit 49152".to_owned();
    stage.chain.fail_calls("eth_call", 1, When::Before, Failure::Error { code: -32000, message });
    assert_eq!(verdicts(&stage, &claims).await, ["", "", ""]);
    assert_eq!(stage.chain.calls().of("eth_call"), 4);
    // From here on each is asked for itself.
    assert_eq!(verdicts(&stage, &claims).await, ["", "", ""]);
    assert_eq!(stage.chain.calls().of("eth_call"), 7);
}

/// With less gas than its calls may take, a simulation could fail that would pass alone.
#[tokio::test]
async fn a_node_that_gives_a_call_little_gas_refuses_no_payment() {
    let stage = stage(0);
    stage.chain.node_fault(NodeFault::CallGas(800_000));
    let claims = claims(&stage, &[1, 2, 4]).await;
    stage.chain.reset_calls();
    assert_eq!(verdicts(&stage, &claims).await, ["", "", ""]);
    assert_eq!(stage.chain.calls().of("eth_call"), 1 + 3, "none had enough");
    // What the node gives is known now.
    stage.chain.reset_calls();
    assert_eq!(verdicts(&stage, &claims).await, ["", "", ""]);
    let calls = stage.chain.calls();
    assert_eq!(calls.of("eth_call"), 3, "{calls:?}");
}

#[tokio::test]
async fn a_node_that_fails_fails_all_and_the_next_are_answered() {
    let stage = stage(0);
    let claims = claims(&stage, &[1, 2]).await;
    stage.chain.fail_calls("eth_call", 1, When::Before, Failure::Status(503));
    let verdicts = join_all(claims.iter().map(|claim| stage.verify(claim))).await;
    assert!(verdicts.iter().all(|verdict| matches!(verdict, Err(Refusal::Fault(_)))), "{verdicts:?}");
    assert_eq!(self::verdicts(&stage, &claims).await, ["", ""]);
}

#[tokio::test]
async fn transactions_at_once_are_one_request_with_a_result_each() {
    let stage = stage(0);
    let mut attempts = Vec::new();
    for nonce in 0..3 {
        let slot = SlotId { lane: stage.rail.lane().clone(), nonce };
        attempts.push(stage.rail.sign(&slot, &[], None).await.unwrap());
    }
    stage.chain.reset_calls();
    let refused = Failure::Error { code: -32000, message: "txpool is full".into() };
    stage.chain.fail_calls("eth_sendRawTransaction", 1, When::Before, refused);
    let sent = join_all(attempts.iter().map(|attempt| stage.rail.send(attempt))).await;
    assert_eq!(sent.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true, true], "{sent:?}");
    let calls = stage.chain.calls();
    assert_eq!((calls.of("eth_sendRawTransaction"), calls.round_trips), (3, 1));
    stage.rail.send(&attempts[0]).await.unwrap();
    stage.chain.mine(1);
    assert_eq!(stage.chain.nonce_of(stage.rail.address()), 3);
}
