//! What is asked and sent at about the same time is one request, and each has its own answer.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::U256;
use futures_util::FutureExt;
use futures_util::future::join_all;
use x402_devchain::{ACCOUNTS, Failure, NodeFault, When, signer};
use x402_evm::chain::RpcChain;
use x402_evm::exact::ExactMechanism;
use x402_evm::rail::EoaRail;
use x402_evm::token::Tokens;
use x402_facilitator_core::{Observation, Rail, SlotId};
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

/// The stage with a reader that sends synchronously.
fn synchronous() -> Stage {
    let mut stage = stage(0);
    let reader = RpcChain::new(stage.chain.client(), "eip155:84532".parse().unwrap(), 0);
    let reader = Arc::new(reader.with_sync_sending(Duration::from_millis(500)).with_freshness(Duration::ZERO));
    stage.rail = EoaRail::new(Arc::clone(&reader), signer(0).unwrap()).unwrap();
    stage.mechanism = ExactMechanism::new(Arc::clone(&reader), Tokens::default(), stage.rail.lanes());
    stage.reader = reader;
    stage
}

/// A node that lies about a block moves nothing but a poll.
#[tokio::test]
async fn a_report_of_a_block_is_a_hint() {
    let stage = synchronous();
    let mut payment = stage.payment(stage.claim(PAYER, 1).await).await;
    stage.carry(&mut payment, 0).await;
    let calls = stage.chain.reset_calls();
    assert_eq!((calls.of("eth_sendRawTransactionSync"), calls.of("eth_sendRawTransaction")), (1, 0));
    assert!(stage.reader.reported().now_or_never().is_none(), "it is in the pool, and in no block");
    stage.chain.node_fault(NodeFault::FalseReports);
    let mut second = stage.payment(stage.claim(PAYER, 2).await).await;
    stage.carry(&mut second, 1).await;
    stage.reader.reported().await;
    assert_eq!(stage.observe(&second).await, Observation::Pending);
    stage.chain.mine(1);
    assert!(matches!(stage.observe(&second).await, Observation::Proven(_)));
    assert!(matches!(stage.observe(&payment).await, Observation::Proven(_)));
}

#[tokio::test]
async fn a_node_without_the_method_takes_it_the_usual_way() {
    let stage = synchronous();
    let none = Failure::Error { code: -32601, message: "the method eth_sendRawTransactionSync does not exist".into() };
    stage.chain.fail_calls("eth_sendRawTransactionSync", 9, When::Before, none);
    for nonce in 0..2 {
        let slot = SlotId { lane: stage.rail.lane().clone(), nonce };
        let attempt = stage.rail.sign(&slot, &[], None).await.unwrap();
        stage.rail.send(&attempt).await.unwrap();
    }
    let calls = stage.chain.calls();
    assert_eq!((calls.of("eth_sendRawTransactionSync"), calls.of("eth_sendRawTransaction")), (1, 2), "{calls:?}");
    stage.chain.mine(1);
    assert_eq!(stage.chain.nonce_of(stage.rail.address()), 2);
}

/// What fails after the node took the transaction costs no second one, and no wait of the next.
#[tokio::test(start_paused = true)]
async fn a_node_that_hangs_or_fails_is_sent_to_the_usual_way() {
    let error = Failure::Error { code: -32000, message: "the index of transactions is not ready".into() };
    for (failure, is_known, sync) in [(Failure::Never, false, 1), (Failure::Lost, false, 1), (error, true, 2)] {
        let stage = synchronous();
        stage.chain.fail_calls("eth_sendRawTransactionSync", 1, When::After, failure.clone());
        let mut attempts = Vec::new();
        for nonce in 0..2 {
            let slot = SlotId { lane: stage.rail.lane().clone(), nonce };
            attempts.push(stage.rail.sign(&slot, &[], None).await.unwrap());
        }
        let began = tokio::time::Instant::now();
        assert_eq!(stage.rail.send(&attempts[0]).await.is_ok(), is_known, "{failure:?}");
        assert!(began.elapsed() < Duration::from_millis(1_600), "{failure:?}: {:?}", began.elapsed());
        // The machine sends the stored bytes again.
        for attempt in &attempts {
            stage.rail.send(attempt).await.unwrap();
        }
        assert_eq!(
            stage.chain.calls().of("eth_sendRawTransactionSync"),
            if is_known { sync + 1 } else { sync },
            "{failure:?}"
        );
        stage.chain.mine(1);
        assert_eq!(stage.chain.nonce_of(stage.rail.address()), 2, "{failure:?}");
    }
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
