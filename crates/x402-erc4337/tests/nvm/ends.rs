//! When an operation can never happen any more: only then another one takes its place, or the settlement has failed.

use std::sync::atomic::Ordering;

use alloy_primitives::{Address, hex};
use alloy_provider::Provider;
use x402_devchain::ACCOUNTS;
use x402_devchain::contracts::KERNEL;
use x402_erc4337::KernelMode;
use x402_erc4337::session::zerodev::{Approval, invalidate_nonce};
use x402_facilitator_core::StepState;
use x402_types::Claim;
use x402_types::nvm::Code;

use crate::flow::names;
use crate::stage::*;

/// A redemption that is planned and has not left.
async fn planned(stage: &Stage) -> (Claim, Approval) {
    stage.give(1).await;
    let draft = stage.draft(1, 3).await;
    let approval = Approval::read(draft.keys[0].data().unwrap()).unwrap();
    let claim = draft.sign();
    stage.settlement.settle(&stage.settlement.begin_request(), &claim, stage.now()).await.unwrap();
    stage.plan_only().await;
    (claim, approval)
}

#[tokio::test]
async fn another_operation_that_takes_the_slot_sends_it_to_another() {
    let stage = stage().await;
    let (claim, approval) = planned(&stage).await;
    stage.another_burns(&approval, KernelMode::Enable, 0).await;
    stage.work(80).await;
    assert_eq!(names(&stage, &claim), ["redeem dead", "redeem proven"]);
    assert_eq!(stage.credits(), 6);
}

#[tokio::test]
async fn another_operation_that_enables_the_key_sends_it_to_default_mode() {
    let stage = stage().await;
    let (claim, approval) = planned(&stage).await;
    stage.another_burns(&approval, KernelMode::Enable, 7).await;
    stage.work(80).await;
    assert_eq!(names(&stage, &claim), ["redeem dead", "redeem proven"]);
    assert_eq!(stage.credits(), 6);
}

/// The state says that the nonce is used, and the logs do not say by whom: nothing is concluded.
#[tokio::test]
async fn a_used_nonce_without_a_log_is_unknown() {
    let stage = stage().await;
    let (claim, _) = planned(&stage).await;
    stage.operations.without_logs.store(true, Ordering::Relaxed);
    stage.work(40).await;
    assert_eq!(stage.credits(), 7, "it has landed");
    let row = stage.row(&claim);
    assert_eq!((row.answer, &row.steps[0].state), (None, &StepState::Unaccounted));
    stage.operations.without_logs.store(false, Ordering::Relaxed);
    stage.work(60).await;
    assert_eq!((names(&stage, &claim), stage.credits()), (vec!["redeem proven".to_owned()], 7));
}

#[tokio::test]
async fn a_key_that_ends_before_the_operation_lands_fails_the_settlement() {
    let stage = stage().await;
    let (claim, _) = planned(&stage).await;
    stage.chain.set_time(UNTIL + 1);
    stage.work(80).await;
    assert_eq!(names(&stage, &claim), ["redeem dead"]);
    assert_eq!(stage.row(&claim).answer, Some(Err(Code::SettlementFailed.reason())));
    assert_eq!(stage.credits(), 10);
}

#[tokio::test]
async fn a_key_that_is_taken_back_before_the_operation_lands_fails_the_settlement() {
    let stage = stage().await;
    // Enabled by a payment before.
    stage.give(1).await;
    stage.settle(&stage.draft(9, 1).await.sign()).await.unwrap();
    let (claim, _) = planned(&stage).await;
    let left = stage.credits();
    stage.owner_calls(&invalidate_nonce(stage.account.address(), 2)).await;
    stage.work(80).await;
    assert_eq!(names(&stage, &claim), ["redeem dead"]);
    assert_eq!(stage.row(&claim).answer, Some(Err(Code::SettlementFailed.reason())));
    assert_eq!(stage.credits(), left);
}

/// A transaction that does not get through says nothing of the operation: the same slot goes again.
#[tokio::test]
async fn a_bundle_that_reverts_is_sent_again_in_the_same_slot() {
    let stage = stage().await;
    let (claim, _) = planned(&stage).await;
    let account = stage.account.address();
    let code = stage.chain.provider().get_code_at(account).await.unwrap();
    stage.chain.set_code(account, vec![0xfe].into()).unwrap();
    stage.carry_only().await;
    stage.chain.set_code(account, code).unwrap();
    stage.work(80).await;
    assert_eq!(names(&stage, &claim), ["redeem proven"]);
    let row = stage.row(&claim);
    assert!(row.steps[0].carriers.len() >= 2, "{:?}", row.steps[0].carriers);
    assert_eq!(stage.credits(), 7);
}

/// Kernel's code behind a look at the gas price: it is what it says wherever that is zero, as in a simulation, and
/// reverts in a transaction. Its address is Kernel's, so nothing but its transactions tells.
#[tokio::test]
async fn an_account_that_reverts_outside_simulations_costs_three_transactions() {
    let stage = stage().await;
    stage.give(1).await;
    let elsewhere = Address::repeat_byte(0x77);
    let code = stage.chain.provider().get_code_at(KERNEL).await.unwrap();
    stage.chain.set_code(elsewhere, code).unwrap();
    let wrapper = [
        &hex!("3a603157365f5f375f5f365f73")[..],
        elsewhere.as_slice(),
        &hex!("5af43d5f5f3e602d573d5ffd5b3d5ff35b5f5ffd"),
    ];
    stage.chain.set_code(KERNEL, wrapper.concat().into()).unwrap();

    let claim = stage.draft(1, 3).await.sign();
    let before = stage.chain.nonce_of(ACCOUNTS[GAS].address);
    stage.settle(&claim).await.unwrap();
    stage.work(60).await;
    assert_eq!(stage.chain.nonce_of(ACCOUNTS[GAS].address) - before, 3);
    let row = stage.row(&claim);
    assert_eq!((row.answer, &row.steps[0].state, row.steps[0].parcels.len()), (None, &StepState::Unaccounted, 3));
    assert_eq!(stage.credits(), 10);

    let next = stage.draft(2, 3).await.sign();
    let rejection = stage.refused(&next).await;
    assert_eq!(rejection.reason, Code::InvalidUserOperation.reason(), "{rejection}");
    assert!(rejection.to_string().contains("3 transactions of one payment of this account reverted"), "{rejection}");
    stage.chain.increase_time(3_600);
    stage.chain.mine(1);
    stage.verify(&next).await.unwrap();
}
