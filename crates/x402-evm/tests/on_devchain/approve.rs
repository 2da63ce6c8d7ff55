//! `erc20ApprovalGasSponsoring` on a chain: what only the chain knows of a signed approval, and the two steps of a payment.

use alloy_consensus::transaction::RlpEcdsaEncodableTx;
use alloy_consensus::{SignableTransaction, TxEip1559};
use alloy_primitives::{TxKind, U256, hex, keccak256};
use alloy_provider::Provider;
use alloy_rpc_types_eth::TransactionRequest;
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;
use serde_json::json;
use x402_devchain::{ACCOUNTS, TOKEN, signer};
use x402_evm::permit2::sponsored::ERC20_APPROVAL_GAS_SPONSORING;
use x402_evm::permit2::{EXACT_PROXY, PERMIT2, approve_call};
use x402_evm::token::Tokens;
use x402_facilitator_core::{NextStep, Observation, Payment, Rail, StepState};
use x402_types::{Assets, Claim, ErrorReason, Members, RawJson};

use crate::permit::{Permits, exact_terms, permits_with, settle_call, upto_terms};
use crate::stage::{PAYER, PRICE, stage};

fn permits(depth: u64) -> Permits {
    permits_with(stage(depth), &Tokens::for_permit2(&Assets::default()))
}

/// The payer's next transaction: an approval of the price.
async fn approval(permits: &Permits) -> TxEip1559 {
    let provider = permits.stage.chain.provider();
    TxEip1559 {
        chain_id: 84_532,
        nonce: provider.get_transaction_count(ACCOUNTS[PAYER].address).await.unwrap(),
        max_priority_fee_per_gas: 1_000_000,
        max_fee_per_gas: 50_000_000_000,
        gas_limit: 70_000,
        to: TxKind::Call(TOKEN),
        value: U256::ZERO,
        access_list: Default::default(),
        input: approve_call(PERMIT2, U256::from(PRICE)),
    }
}

fn signed(transaction: &TxEip1559, by: &PrivateKeySigner) -> Vec<u8> {
    let mut bytes = Vec::new();
    transaction.eip2718_encode(&by.sign_hash_sync(&transaction.signature_hash()).unwrap(), &mut bytes);
    bytes
}

/// The claim with a signed approval beside it, as the extension carries it.
fn with(claim: &Claim, transaction: &TxEip1559, by: &PrivateKeySigner) -> Claim {
    let info = json!({
        "description": "as declared", "version": "1", "from": by.address().to_string(), "asset": TOKEN.to_string(),
        "spender": PERMIT2.to_string(), "amount": PRICE.to_string(),
        "signedTransaction": hex::encode_prefixed(signed(transaction, by)),
    });
    let mut extensions = Members::new();
    extensions.insert(ERC20_APPROVAL_GAS_SPONSORING, RawJson::of(&json!({ "info": info })).unwrap());
    claim.clone().with_extensions(extensions)
}

fn payer() -> PrivateKeySigner {
    signer(PAYER).unwrap()
}

/// Carries the next step with this account nonce, and proves it.
async fn step(permits: &Permits, payment: &mut Payment, nonce: u64, name: &str) {
    let attempt = permits.carry(payment, nonce).await;
    assert_eq!(payment.steps.last().unwrap().name.as_str(), name);
    let sent = [attempt.tx.clone()];
    assert_eq!(permits.observe(payment, &sent).await, Observation::Pending);
    // A second process sends the same bytes again.
    permits.stage.rail.send(&attempt).await.unwrap();
    permits.stage.chain.mine(1);
    assert_eq!(permits.observe(payment, &sent).await, Observation::Pending, "the block is not final");
    permits.stage.chain.mine(2);
    let Observation::Proven(proof) = permits.observe(payment, &sent).await else { panic!() };
    payment.steps.last_mut().unwrap().state = StepState::Proven(proof);
}

#[tokio::test]
async fn what_the_chain_knows_of_an_approval_decides_before_anything_is_sent() {
    let permits = permits(0);
    let claim = permits.claim(7).await;
    assert_eq!(permits.refused(&claim).await, ErrorReason::PERMIT2_ALLOWANCE_REQUIRED);
    let good = approval(&permits).await;
    for (change, reason) in [
        ((|tx| tx.nonce += 1) as fn(&mut TxEip1559), ErrorReason::ERC20_APPROVAL_WRONG_NONCE),
        (|tx| tx.gas_limit = 30_000, ErrorReason::ERC20_APPROVAL_TX_FAILED),
        (|tx| (tx.max_fee_per_gas, tx.max_priority_fee_per_gas) = (1, 1), ErrorReason::ERC20_APPROVAL_UNDERPRICED),
        (|tx| tx.max_fee_per_gas = u128::MAX, ErrorReason::ERC20_APPROVAL_UNFUNDED),
        (|tx| tx.chain_id = 1, ErrorReason::ERC20_APPROVAL_WRONG_CHAIN),
    ] {
        let mut bad = good.clone();
        change(&mut bad);
        assert_eq!(permits.refused(&with(&claim, &bad, &payer())).await, reason);
    }
    // The payer's own transaction takes the nonce.
    let used = with(&claim, &good, &payer());
    permits.payment(&used).await;
    permits.stage.other(PAYER, ACCOUNTS[5].address, Default::default()).await;
    permits.stage.chain.mine(1);
    assert_eq!(permits.refused(&used).await, ErrorReason::ERC20_APPROVAL_WRONG_NONCE);
    // Whoever sent it: an allowance that suffices makes the approval superfluous, and nothing of it is judged.
    permits.approve(PAYER, TOKEN, U256::from(PRICE)).await;
    permits.payment(&used).await;
}

#[tokio::test]
async fn the_approval_is_a_step_of_its_own_and_the_settlement_follows_its_proof() {
    for upto in [false, true] {
        let permits = permits(2);
        let terms = if upto { upto_terms(permits.stage.rail.address()) } else { exact_terms() };
        let claim = permits.claim_by(payer(), terms, 7).await;
        let approval = approval(&permits).await;
        let mut payment = permits.payment(&with(&claim, &approval, &payer())).await;
        step(&permits, &mut payment, 0, "approve").await;
        assert_eq!(permits.stage.paid(), U256::ZERO);
        // A process that starts here has the row alone.
        step(&permits, &mut payment, 1, "settle").await;
        assert_eq!(permits.stage.paid(), U256::from(PRICE));
        let NextStep::Settled(receipt) = permits.planned(&payment).await else { panic!() };
        assert_ne!(receipt.transaction.unwrap().as_str(), hex::encode_prefixed(keccak256(signed(&approval, &payer()))));
        assert_eq!(receipt.amount, upto.then(|| PRICE.into()));
    }
}

#[tokio::test]
async fn an_approval_that_comes_to_nothing_ends_the_payment_and_costs_no_settlement() {
    let permits = permits(0);
    let claim = with(&permits.claim(7).await, &approval(&permits).await, &payer());
    let mut payment = permits.payment(&claim).await;
    let attempt = permits.carry(&mut payment, 0).await;
    // The payer replaces the approval in the pool by another transaction, with a higher fee.
    let other = TransactionRequest::default().to(ACCOUNTS[5].address).gas_limit(21_000).nonce(0);
    let other = other.max_fee_per_gas(200_000_000_000).max_priority_fee_per_gas(100_000_000_000);
    drop(permits.stage.chain.wallet(payer()).send_transaction(other).await.unwrap());
    permits.stage.chain.mine(1);
    let sent = [attempt.tx];
    assert_eq!(permits.observe(&payment, &sent).await, Observation::Pending);
    payment.steps.last_mut().unwrap().state = StepState::Unaccounted;
    assert!(matches!(permits.planned(&payment).await, NextStep::Wait(_)), "its nonce is used");
    permits.after_the_deadline();
    let dead = Observation::Dead(ErrorReason::PERMIT2_DEADLINE_EXPIRED);
    assert_eq!(permits.observe(&payment, &sent).await, dead);
    payment.steps.last_mut().unwrap().state = StepState::Dead(ErrorReason::PERMIT2_DEADLINE_EXPIRED);
    assert_eq!(permits.planned(&payment).await, NextStep::Failed(ErrorReason::PERMIT2_DEADLINE_EXPIRED));
    assert_eq!(permits.stage.paid(), U256::ZERO);
}

/// Checks that the allowance is read again before the settlement is sent: the payer may have taken it back meanwhile.
#[tokio::test]
async fn an_allowance_that_was_taken_back_after_the_approval_ends_the_payment() {
    let permits = permits(2);
    let claim = with(&permits.claim(7).await, &approval(&permits).await, &payer());
    let mut payment = permits.payment(&claim).await;
    step(&permits, &mut payment, 0, "approve").await;
    permits.approve(PAYER, TOKEN, U256::ZERO).await;
    assert_eq!(permits.planned(&payment).await, NextStep::Failed(ErrorReason::PERMIT2_ALLOWANCE_REQUIRED));
}

/// Checks that an allowance which another transaction of the payer gave is as good.
#[tokio::test]
async fn an_approval_that_was_given_meanwhile_is_not_sent() {
    let permits = permits(0);
    let claim = with(&permits.claim(7).await, &approval(&permits).await, &payer());
    let mut payment = permits.payment(&claim).await;
    permits.approve(PAYER, TOKEN, U256::MAX).await;
    let attempt = permits.carry(&mut payment, 0).await;
    assert_eq!(payment.steps.last().unwrap().name.as_str(), "settle");
    permits.stage.chain.mine(1);
    assert!(matches!(permits.observe(&payment, &[attempt.tx]).await, Observation::Proven(_)));
    assert_eq!(permits.stage.paid(), U256::from(PRICE));
}

/// Checks that a payment is not told as failed that another account settled with the allowance, before this facilitator saw it:
/// no final block shows the allowance then, though the approval stands in one.
#[tokio::test]
async fn an_allowance_that_another_settlement_has_used_is_no_failure() {
    for own in [false, true] {
        let permits = permits(2);
        let claim = permits.claim(7).await;
        let approval = approval(&permits).await;
        let mut payment = permits.payment(&with(&claim, &approval, &payer())).await;
        let attempt = permits.carry(&mut payment, 0).await;
        if own {
            // The payer's own approval takes the nonce of the one that was sent.
            permits.stage.chain.drop_transaction(keccak256(signed(&approval, &payer())));
            permits.approve(PAYER, TOKEN, U256::from(PRICE)).await;
        } else {
            permits.stage.chain.mine(1);
        }
        let theirs = permits.stage.other(5, EXACT_PROXY, settle_call(&claim).call()).await;
        permits.stage.chain.mine(4);
        if own {
            permits.after_the_deadline();
            permits.stage.chain.mine(2);
        }
        assert_eq!(permits.stage.paid(), U256::from(PRICE));
        let sent = [attempt.tx];
        let Observation::Dead(reason) = permits.observe(&payment, &sent).await else { panic!() };
        payment.steps.last_mut().unwrap().state = StepState::Dead(reason);
        let spent = NextStep::Spent {
            reason: ErrorReason::DUPLICATE_SETTLEMENT,
            transaction: hex::encode_prefixed(theirs).into(),
        };
        assert_eq!(permits.planned(&payment).await, spent, "own: {own}");
    }
}
