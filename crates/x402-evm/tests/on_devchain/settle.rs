//! What final logs prove, whoever sent the transaction.

use std::sync::Arc;

use alloy_primitives::U256;
use alloy_sol_types::SolCall;
use x402_devchain::{ACCOUNTS, Failure, NodeFault, Orphans, TOKEN, TestToken, Token, When};
use x402_evm::chain::{ReadChain, RpcChain};
use x402_evm::eip3009::Authorization;
use x402_evm::exact::ExactMechanism;
use x402_evm::rail::EoaRail;
use x402_evm::token::Tokens;
use x402_facilitator_core::{Mechanism, NextStep, Observation, Rail, StepProof, StepState, TxId};
use x402_types::{Asset, Assets, ErrorReason};

use crate::stage::{
    PAYER, PRICE, Stage, cancel_call, claim_of, domain, payload, sign, stage, stage_with, terms, transfer_call,
};

fn proven(tx: impl Into<TxId>) -> Observation {
    Observation::Proven(StepProof::new(tx.into(), PRICE.into()))
}

fn hash(hash: alloy_primitives::B256) -> TxId {
    hash.to_string().into()
}

#[tokio::test]
async fn a_payment_is_made_and_answered_with_its_transaction() {
    let stage = stage(0);
    let claim = stage.claim(PAYER, 1).await;
    stage.chain.reset_calls();
    let mut payment = stage.payment(claim).await;
    let attempt = stage.carry(&mut payment, 0).await;
    assert_eq!(stage.observe(&payment).await, Observation::Pending);
    stage.chain.mine(1);
    assert_eq!(stage.paid(), U256::from(PRICE));
    let observed = stage.observe(&payment).await;
    assert_eq!(observed, proven(attempt.tx.clone()));
    let calls = stage.chain.reset_calls();
    let of_this = calls.of("eth_call") + calls.of("eth_sendRawTransaction") + calls.of("eth_getLogs");
    // Before there was a block nothing was looked for.
    assert_eq!((of_this, calls.of("eth_call"), calls.of("eth_sendRawTransaction")), (3, 1, 1), "{calls:?}");

    let Observation::Proven(proof) = observed else { panic!() };
    payment.steps[0].state = StepState::Proven(proof);
    let NextStep::Settled(receipt) = stage.mechanism.plan(&payment, stage.now).await.unwrap() else { panic!() };
    assert_eq!(receipt.transaction, Some(attempt.tx));
    assert_eq!(receipt.payer, ACCOUNTS[PAYER].address.to_string());
    // Asked again it says the same, and asks nobody.
    stage.chain.mine(3);
    stage.chain.reset_calls();
    assert!(matches!(stage.observe(&payment).await, Observation::Proven(_)));
    assert_eq!(stage.chain.calls().of("eth_getLogs"), 0);
}

#[tokio::test]
async fn another_s_transaction_proves_it_too() {
    let stage = stage(0);
    let claim = stage.claim(PAYER, 1).await;
    let mut payment = stage.payment(claim.clone()).await;
    let theirs = stage.other(5, TOKEN, transfer_call(&claim)).await;
    stage.chain.mine(1);
    let ours = stage.carry(&mut payment, 0).await;
    stage.chain.mine(1);
    assert_ne!(ours.tx, hash(theirs));
    assert_eq!(stage.observe(&payment).await, proven(hash(theirs)));
    assert_eq!(stage.paid(), U256::from(PRICE));
}

#[tokio::test]
async fn a_cancelled_authorization_is_dead() {
    let stage = stage(0);
    let claim = stage.claim(PAYER, 1).await;
    let mut payment = stage.payment(claim.clone()).await;
    stage.other(5, TOKEN, cancel_call(&claim)).await;
    stage.chain.mine(1);
    stage.carry(&mut payment, 0).await;
    stage.chain.mine(1);
    assert_eq!(stage.observe(&payment).await, Observation::Dead(ErrorReason::AUTHORIZATION_CANCELED));
    payment.steps[0].state = StepState::Dead(ErrorReason::AUTHORIZATION_CANCELED);
    let plan = stage.mechanism.plan(&payment, stage.now).await.unwrap();
    assert_eq!(plan, NextStep::Failed(ErrorReason::AUTHORIZATION_CANCELED));
    assert_eq!(stage.paid(), U256::ZERO);
}

#[tokio::test]
async fn only_the_final_block_s_own_time_proves_that_it_expired() {
    let stage = stage(2);
    let mut payment = stage.payment(stage.claim(PAYER, 1).await).await;
    stage.chain.disturb_transactions(1, x402_devchain::Disturbance::Drop);
    stage.carry(&mut payment, 0).await;
    let before = payload(&payment.claim).authorization.valid_before.0;
    stage.chain.set_next_timestamp(before - 1);
    stage.chain.mine(1);
    assert_eq!(stage.observe(&payment).await, Observation::Pending);
    stage.chain.set_next_timestamp(before);
    stage.chain.mine(2);
    // The head is past it; the final block is not: it has the time validBefore - 1.
    assert_eq!(stage.observe(&payment).await, Observation::Pending);
    stage.chain.mine(1);
    assert_eq!(stage.observe(&payment).await, Observation::Dead(ErrorReason::INVALID_VALID_BEFORE));
}

#[tokio::test]
async fn the_same_nonce_used_for_something_else_is_dead() {
    let stage = stage(0);
    let claim = stage.claim(PAYER, 1).await;
    let mut payment = stage.payment(claim.clone()).await;
    // Another authorization of the payer under the same nonce, and beside it a plain transfer of the right sum.
    let other = Authorization { to: ACCOUNTS[6].address, ..payload(&claim).authorization };
    let other = sign(other, domain());
    stage.other(5, TOKEN, other.authorization.transfer_call_with_bytes(other.signature)).await;
    let transfer = Token::transferCall { to: ACCOUNTS[3].address, value: U256::from(PRICE) };
    stage.other(PAYER, TOKEN, transfer.abi_encode().into()).await;
    stage.chain.mine(1);
    stage.carry(&mut payment, 0).await;
    stage.chain.mine(1);
    assert_eq!(stage.observe(&payment).await, Observation::Dead(ErrorReason::NONCE_ALREADY_USED));
}

#[tokio::test]
async fn less_under_the_same_nonce_is_dead() {
    let stage = stage(0);
    let claim = stage.claim(PAYER, 1).await;
    let mut payment = stage.payment(claim.clone()).await;
    let less = sign(Authorization { value: 1.into(), ..payload(&claim).authorization }, domain());
    stage.other(5, TOKEN, less.authorization.transfer_call_with_bytes(less.signature)).await;
    stage.chain.mine(1);
    stage.carry(&mut payment, 0).await;
    stage.chain.mine(1);
    assert_eq!(stage.observe(&payment).await, Observation::Dead(ErrorReason::NONCE_ALREADY_USED));
}

/// A token without `Transfer`, served because its node could not try it: what our own transaction used is never failed.
#[tokio::test]
async fn what_our_transaction_used_without_a_log_is_never_failed() {
    let (silent, mut assets) = (ACCOUNTS[9].address, Assets::none());
    assets.add(Asset::new("eip155:84532".parse().unwrap(), silent, "ODD", TestToken::Silent.name(), "1", 6).dollar());
    let stage = stage_with(0, Tokens::new(&assets));
    stage.chain.put_token(TestToken::Silent, silent).unwrap();
    let mut terms = terms();
    terms.asset = silent.to_string();
    terms.extra.insert_text("name", TestToken::Silent.name());
    terms.extra.insert_text("version", "1");
    let authorization = payload(&stage.claim(PAYER, 1).await).authorization;
    let of_token = x402_evm::eip712::DomainSeparator::new(TestToken::Silent.name(), "1", 84532, silent);
    let mut payment = stage.payment(claim_of(terms, sign(authorization, of_token).to_json())).await;
    let attempt = stage.carry(&mut payment, 0).await;
    stage.chain.mine(1);
    let step = payment.steps.last().unwrap();
    assert_eq!(stage.mechanism.observe(step, &[attempt.tx]).await.unwrap(), Observation::Pending);
    // Used by somebody else, it may have been another authorization under the same nonce.
    let dead = Observation::Dead(ErrorReason::NONCE_ALREADY_USED);
    assert_eq!(stage.mechanism.observe(step, &[]).await.unwrap(), dead);
}

#[tokio::test]
async fn a_revert_is_pending_and_the_transfer_can_be_sent_again() {
    let stage = stage(0);
    let payer = ACCOUNTS[PAYER].address;
    let mut payment = stage.payment(stage.claim(PAYER, 1).await).await;
    let rich = stage.chain.balance_of(payer);
    stage.chain.set_balance_of(payer, U256::ZERO);
    stage.carry(&mut payment, 0).await;
    stage.chain.mine(1);
    assert_eq!(stage.chain.nonce_of(stage.rail.address()), 1);
    assert_eq!(stage.observe(&payment).await, Observation::Pending);

    // Nothing is sent while it would revert again.
    payment.steps[0].state = StepState::Unaccounted;
    assert_eq!(stage.mechanism.plan(&payment, stage.now).await.unwrap(), NextStep::Wait(stage.now.plus(2)));
    stage.chain.set_balance_of(payer, rich);
    let again = stage.carry(&mut payment, 1).await;
    stage.chain.mine(1);
    assert_eq!(stage.observe(&payment).await, proven(again.tx));
    assert_eq!(stage.paid(), U256::from(PRICE));
}

#[tokio::test]
async fn what_a_reorg_can_take_back_is_not_proven() {
    let stage = stage(2);
    let mut payment = stage.payment(stage.claim(PAYER, 1).await).await;
    let attempt = stage.carry(&mut payment, 0).await;
    stage.chain.mine(1);
    assert_eq!(stage.paid(), U256::from(PRICE));
    assert_eq!(stage.observe(&payment).await, Observation::Pending);
    stage.chain.reorg(1, Orphans::Drop).unwrap();
    assert_eq!(stage.paid(), U256::ZERO);
    stage.chain.mine(2);
    assert_eq!(stage.observe(&payment).await, Observation::Pending);
    stage.rail.send(&attempt).await.unwrap();
    stage.chain.mine(1);
    stage.chain.mine(1);
    assert_eq!(stage.observe(&payment).await, Observation::Pending);
    stage.chain.mine(1);
    assert_eq!(stage.observe(&payment).await, proven(attempt.tx));
}

/// With a poll that is fresh: one round trip to verify, one to send.
#[tokio::test]
async fn the_bytes_leave_within_two_round_trips() {
    let mut stage = stage(0);
    let network = stage.reader.network();
    let reader = Arc::new(RpcChain::new(stage.chain.client(), network, 0));
    stage.rail = EoaRail::new(reader.clone(), x402_devchain::signer(0).unwrap()).unwrap();
    stage.mechanism = ExactMechanism::new(reader.clone(), Tokens::default(), stage.rail.lanes());
    stage.reader = reader;
    let claim = stage.claim(PAYER, 1).await;
    stage.rail.nonces(stage.rail.lane()).await.unwrap();
    stage.chain.reset_calls();
    let mut payment = stage.payment(claim).await;
    assert_eq!(stage.rail.nonces(stage.rail.lane()).await.unwrap().unwrap().head, 0);
    stage.carry(&mut payment, 0).await;
    let calls = stage.chain.calls();
    assert_eq!((calls.round_trips, calls.total()), (2, 2), "{calls:?}");
}

#[tokio::test]
async fn twenty_at_once_share_their_log_queries() {
    let stage = stage(0);
    let mut payments = Vec::new();
    let mut claims = Vec::new();
    for nonce in 1..=20 {
        claims.push(stage.claim(PAYER, nonce).await);
    }
    stage.chain.reset_calls();
    for claim in claims {
        payments.push(stage.payment(claim).await);
    }
    for (nonce, payment) in payments.iter_mut().enumerate() {
        stage.carry(payment, nonce as u64).await;
    }
    for payment in &payments {
        assert_eq!(stage.observe(payment).await, Observation::Pending);
    }
    stage.chain.mine(1);
    for payment in &payments {
        assert!(matches!(stage.observe(payment).await, Observation::Proven(_)));
    }
    let calls = stage.chain.calls();
    assert_eq!((calls.of("eth_call"), calls.of("eth_sendRawTransaction"), calls.of("eth_getLogs")), (20, 20, 1));
    assert_eq!(stage.paid(), U256::from(20 * PRICE));
}

#[tokio::test]
async fn a_row_left_alone_by_a_crash_is_looked_up_before_anything_is_sent() {
    let stage = stage(0);
    let claim = stage.claim(PAYER, 1).await;
    let payment = stage.payment(claim.clone()).await;
    let later = stage.now.plus(30);
    assert!(matches!(stage.mechanism.plan(&payment, later).await.unwrap(), NextStep::Do { .. }));
    let after = payload(&claim).authorization.valid_before;
    let plan = stage.mechanism.plan(&payment, after).await.unwrap();
    assert_eq!(plan, NextStep::Failed(ErrorReason::INVALID_VALID_BEFORE));
    // Another transaction used it: seller and payer have to know by which, before its end and after.
    let transaction = stage.other(5, TOKEN, transfer_call(&claim)).await.to_string().into();
    stage.chain.mine(1);
    let spent = NextStep::Spent { reason: ErrorReason::DUPLICATE_SETTLEMENT, transaction };
    for now in [later, after] {
        assert_eq!(stage.mechanism.plan(&payment, now).await.unwrap(), spent);
    }
    // A node that shows no logs, and one that does not answer.
    let stage = Stage { mechanism: ExactMechanism::new(stage.reader.clone(), Tokens::default(), Vec::new()), ..stage };
    stage.chain.node_fault(NodeFault::LogSpan { most: 0, code: -32000, message: "no logs here".into() });
    let plan = stage.mechanism.plan(&payment, later).await.unwrap();
    assert_eq!(plan, NextStep::Failed(ErrorReason::DUPLICATE_SETTLEMENT));
    stage.chain.fail_any_calls(1, When::Before, Failure::Status(500));
    stage.mechanism.plan(&payment, after).await.unwrap_err();
}

#[tokio::test]
async fn a_restarted_reader_finds_what_happened_meanwhile() {
    let stage = stage(0);
    let mut payment = stage.payment(stage.claim(PAYER, 1).await).await;
    let attempt = stage.carry(&mut payment, 0).await;
    stage.chain.mine(50);
    let reader =
        std::sync::Arc::new(x402_evm::chain::RpcChain::new(stage.chain.client(), "eip155:84532".parse().unwrap(), 0));
    let mechanism = x402_evm::exact::ExactMechanism::new(reader, Default::default(), Vec::new());
    let observed = mechanism.observe(&payment.steps[0], &[]).await.unwrap();
    assert_eq!(observed, proven(attempt.tx));
}
