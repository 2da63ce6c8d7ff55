//! What proves a payment by Permit2, whoever sent it, and what leaves it unknown.

use alloy_primitives::{U256, hex};
use alloy_sol_types::{SolCall, sol};
use x402_devchain::contracts::MULTICALL3;
use x402_devchain::{ACCOUNTS, TOKEN};
use x402_evm::permit2::{EXACT_PROXY, PERMIT2, PermitPayload};
use x402_facilitator_core::{Mechanism, NextStep, Observation, Step, StepState};
use x402_types::{ErrorReason, UnixSeconds};

use crate::permit::{payload, permits, proven, settle_call, signed_again};
use crate::stage::{PAYEE, PAYER, PRICE};

sol! {
    function invalidateUnorderedNonces(uint256 wordPos, uint256 mask) external;
    function transfer(address to, uint256 value) external returns (bool);
    struct Call3 { address target; bool allowFailure; bytes callData; }
    function aggregate3(Call3[] calldata calls) external payable;
}

/// Checks that both spellings of `s` settle, under one key, and once.
#[tokio::test]
async fn the_twin_of_a_signature_is_the_same_payment() {
    let permits = permits(0).await;
    let claim = permits.claim(7).await;
    let PermitPayload { authorization, signature } = payload(&claim);
    let mut high = signature.to_vec();
    let order = U256::from_be_bytes(hex!("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"));
    let twin = order - U256::from_be_slice(&signature[32..64]);
    high[32..64].copy_from_slice(&twin.to_be_bytes::<32>());
    high[64] = 55 - high[64];
    let twin = claim.clone().with_payload(PermitPayload { authorization, signature: high.into() }.to_json());
    assert_eq!(permits.exact.key(&twin), permits.exact.key(&claim));
    let mut payment = permits.payment(&twin).await;
    let attempt = permits.carry(&mut payment, 0).await;
    permits.stage.chain.mine(1);
    assert_eq!(permits.observe(&payment, &[attempt.tx]).await.clone(), permits.observe(&payment, &[]).await);
    assert_eq!(permits.stage.paid(), U256::from(PRICE));
    assert_eq!(permits.refused(&claim).await, ErrorReason::PERMIT2_INVALID_NONCE);
}

#[tokio::test]
async fn whoever_sends_the_permit_it_is_paid() {
    let permits = permits(0).await;
    let claim = permits.claim(7).await;
    let mut payment = permits.payment(&claim).await;
    let theirs = permits.stage.other(5, EXACT_PROXY, settle_call(&claim).call()).await;
    permits.carry(&mut payment, 0).await;
    permits.stage.chain.mine(1);
    assert_eq!(permits.observe(&payment, &[]).await, proven(theirs, PRICE));
    assert_eq!(permits.stage.paid(), U256::from(PRICE));
}

/// Checks a payment that another account settled before this facilitator sent anything: it is not sent, and names the
/// transaction.
#[tokio::test]
async fn a_permit_that_was_settled_elsewhere_is_not_sent() {
    let permits = permits(0).await;
    let claim = permits.claim(7).await;
    let mut payment = permits.payment(&claim).await;
    let theirs = permits.stage.other(5, EXACT_PROXY, settle_call(&claim).call()).await;
    permits.stage.chain.mine(1);
    payment.due = UnixSeconds(0);
    let spent =
        NextStep::Spent { reason: ErrorReason::DUPLICATE_SETTLEMENT, transaction: hex::encode_prefixed(theirs).into() };
    assert_eq!(permits.planned(&payment).await, spent);
    // The seller learns of it even when the permit is over.
    permits.after_the_deadline();
    let why = permits.refusal(&claim).await;
    assert_eq!(why.reason, ErrorReason::PERMIT2_INVALID_NONCE);
    assert!(why.details.get("transaction").is_some());
}

#[tokio::test]
async fn an_invalidated_nonce_beside_a_plain_transfer_pays_nothing() {
    let permits = permits(0).await;
    let claim = permits.claim(7).await;
    let mut payment = permits.payment(&claim).await;
    let nonce = payload(&claim).authorization.nonce;
    let cancel =
        invalidateUnorderedNoncesCall { wordPos: nonce >> 8, mask: U256::from(1) << (nonce & U256::from(255)) };
    permits.stage.other(PAYER, PERMIT2, cancel.abi_encode().into()).await;
    let attempt = permits.carry(&mut payment, 0).await;
    let to = ACCOUNTS[PAYEE].address;
    permits.stage.other(PAYER, TOKEN, transferCall { to, value: U256::from(PRICE) }.abi_encode().into()).await;
    permits.stage.chain.mine(1);
    assert_eq!(permits.stage.paid(), U256::from(PRICE));
    let sent = [attempt.tx];
    assert_eq!(permits.observe(&payment, &sent).await, Observation::Pending);
    permits.after_the_deadline();
    assert_eq!(permits.observe(&payment, &sent).await, Observation::Dead(ErrorReason::PERMIT2_INVALID_NONCE));
}

/// Checks two permits of one payer with nonces of one word, for the same sum and recipient: one is settled, and the
/// other's nonce is used up in the same block.
#[tokio::test]
async fn one_transfer_is_the_payment_of_one_permit() {
    let permits = permits(0).await;
    let first = permits.claim(7).await;
    let second = signed_again(&first, |permit| permit.nonce ^= U256::from(1));
    let (mut paid, mut unpaid) = (permits.payment(&first).await, permits.payment(&second).await);
    let attempt = permits.carry(&mut paid, 0).await;
    let nonce = payload(&second).authorization.nonce;
    let cancel =
        invalidateUnorderedNoncesCall { wordPos: nonce >> 8, mask: U256::from(1) << (nonce & U256::from(255)) };
    permits.stage.other(PAYER, PERMIT2, cancel.abi_encode().into()).await;
    let reverted = permits.carry(&mut unpaid, 1).await;
    permits.stage.chain.mine(1);
    assert_eq!(permits.stage.paid(), U256::from(PRICE));
    assert!(matches!(permits.observe(&paid, &[attempt.tx]).await, Observation::Proven(_)));
    assert_eq!(permits.observe(&unpaid, std::slice::from_ref(&reverted.tx)).await, Observation::Pending);
    permits.after_the_deadline();
    let dead = Observation::Dead(ErrorReason::PERMIT2_INVALID_NONCE);
    assert_eq!(permits.observe(&unpaid, &[reverted.tx]).await, dead);
}

/// Checks a settlement inside of another contract's transaction: its calldata are the sender's to choose, so that they
/// prove nothing, and an unknown outcome is never told as failed.
#[tokio::test]
async fn a_settlement_by_another_contract_stays_unknown() {
    let permits = permits(0).await;
    let claim = permits.claim(7).await;
    let mut payment = permits.payment(&claim).await;
    let call = Call3 { target: EXACT_PROXY, allowFailure: false, callData: settle_call(&claim).call() };
    permits.stage.other(5, MULTICALL3, aggregate3Call { calls: vec![call] }.abi_encode().into()).await;
    let attempt = permits.carry(&mut payment, 0).await;
    permits.stage.chain.mine(1);
    assert_eq!(permits.stage.paid(), U256::from(PRICE));
    permits.after_the_deadline();
    assert_eq!(permits.observe(&payment, &[attempt.tx]).await, Observation::Pending);
}

#[tokio::test]
async fn a_permit_ends_by_the_time_of_a_final_block() {
    let permits = permits(2).await;
    let claim = permits.claim(7).await;
    let mut payment = permits.payment(&claim).await;
    let plan = permits.planned(&payment).await;
    let NextStep::Do { name, once_key, parcel, .. } = plan else { panic!("{plan:?}") };
    let mut step = Step::new(name, once_key);
    (step.state, step.parcels) = (StepState::InFlight, vec![parcel]);
    payment.steps.push(step);
    permits.after_the_deadline();
    assert_eq!(permits.observe(&payment, &[]).await, Observation::Pending, "the block is not final");
    permits.stage.chain.mine(2);
    let dead = Observation::Dead(ErrorReason::PERMIT2_DEADLINE_EXPIRED);
    assert_eq!(permits.observe(&payment, &[]).await, dead);
}
