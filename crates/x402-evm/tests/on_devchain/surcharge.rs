//! Chains that take gas for a transaction's data before it executes anything, as Arbitrum and Orbit do.

use alloy_consensus::{Transaction, TxEnvelope};
use alloy_eips::eip2718::Decodable2718;
use alloy_primitives::U256;
use x402_devchain::NodeFault;
use x402_evm::chain::{EstimateSurcharge, ReadFunds};
use x402_evm::exact::TRANSFER_GAS;
use x402_evm::rail::{EoaRail, Fees};
use x402_facilitator_core::{Attempt, Mechanism, NextStep, Observation, Parcel, Rail, SlotId};
use x402_types::{Fault, NotTaken};

use crate::smart;
use crate::stage::{PAYER, PRICE, Stage, stage};
use crate::wallet::FACTORY;

const TRANSACTION: u64 = 400_000;
const BYTE: u64 = 400;
const BASE_FEE: u64 = 1_000_000_000;
/// More blocks than those after which the surcharge is estimated again.
const SURCHARGE_BLOCKS: u64 = 300;
const ARBITRUM: NodeFault = NodeFault::Surcharge { transaction: TRANSACTION, byte: BYTE };

/// Arbitrum's numbers: another chain's blocks, and gas for the data.
fn arbitrum(stage: &Stage) {
    stage.chain.node_fault(NodeFault::NumberAhead(20_000_000));
    stage.chain.node_fault(ARBITRUM);
}

fn slot(stage: &Stage, nonce: u64) -> SlotId {
    SlotId { lane: stage.rail.lane().clone(), nonce }
}

fn gas_limit(attempt: &Attempt) -> u64 {
    TxEnvelope::decode_2718_exact(&attempt.bytes).unwrap().gas_limit()
}

/// The surcharge of these bytes, by the fault's own rule: a byte that is zero counts a quarter.
fn surcharge(data: &[u8]) -> u64 {
    TRANSACTION + data.iter().map(|byte| if *byte == 0 { BYTE / 4 } else { BYTE }).sum::<u64>()
}

async fn parcel(stage: &Stage, nonce: u8) -> Parcel {
    let payment = stage.payment(stage.claim(PAYER, nonce).await).await;
    let NextStep::Do { parcel, .. } = stage.mechanism.plan(&payment, stage.now).await.unwrap() else { panic!() };
    parcel
}

#[tokio::test]
async fn a_transfer_a_deployment_and_an_empty_transaction_land_where_data_cost_gas() {
    let stage = stage(0);
    arbitrum(&stage);
    let mut payment = stage.payment(stage.claim(PAYER, 1).await).await;
    let attempt = stage.carry(&mut payment, 0).await;
    let data = TxEnvelope::decode_2718_exact(&attempt.bytes).unwrap().input().clone();
    // A margin of 50 % on the surcharge alone.
    assert_eq!(gas_limit(&attempt), TRANSFER_GAS + (surcharge(&data) * 3).div_ceil(2));
    stage.chain.mine(1);
    assert!(matches!(stage.observe(&payment).await, Observation::Proven(_)));
    assert_eq!(stage.paid(), U256::from(PRICE));

    let filler = stage.rail.sign(&slot(&stage, 1), &[], None).await.unwrap();
    assert_eq!(gas_limit(&filler), 21_000 + TRANSACTION * 3 / 2);
    stage.rail.send(&filler).await.unwrap();
    stage.chain.mine(1);
    assert_eq!(stage.chain.nonce_of(stage.rail.address()), 2);

    // An account that is deployed first: the factory's call, then the transfer.
    let account = smart::undeployed(&stage);
    let stage = smart::listing(stage, FACTORY);
    let mut payment = stage.payment(smart::claim(&stage, &account).await).await;
    for nonce in [2, 3] {
        stage.carry(&mut payment, nonce).await;
        stage.chain.mine(1);
        let Observation::Proven(proof) = stage.observe(&payment).await else { panic!("step {nonce}") };
        payment.steps.last_mut().unwrap().state = x402_facilitator_core::StepState::Proven(proof);
    }
    assert_eq!(stage.paid(), U256::from(PRICE * 2));
}

/// So much that a limit for the calls of a probe alone would not reach them: a good token must not look like one without
/// methods.
#[tokio::test]
async fn a_probe_refuses_no_good_payment_where_data_cost_gas() {
    let stage = stage(0);
    stage.chain.node_fault(NodeFault::Surcharge { transaction: 2_000_000, byte: 8_000 });
    stage.verify(&stage.claim(PAYER, 1).await).await.unwrap();
    let contract = smart::deployed(&stage);
    stage.verify(&smart::claim(&stage, &contract).await).await.unwrap();
}

#[tokio::test]
async fn without_a_surcharge_nothing_is_estimated_after_the_first_poll() {
    let stage = stage(0);
    stage.reader.poll().await.unwrap();
    assert_eq!(stage.chain.calls().of("eth_estimateGas"), 1);
    let parcel = parcel(&stage, 1).await;
    for replaces in [None, Some(())] {
        let first = stage.rail.sign(&slot(&stage, 0), std::slice::from_ref(&parcel), None).await.unwrap();
        let again = replaces.map(|()| &first);
        let attempt = stage.rail.sign(&slot(&stage, 0), std::slice::from_ref(&parcel), again).await.unwrap();
        assert_eq!(gas_limit(&attempt), TRANSFER_GAS);
    }
    assert_eq!((stage.chain.calls().of("eth_estimateGas"), stage.reader.last_surcharge()), (1, 0));
}

/// The node refuses the first transaction for its gas limit; the next signature has a higher one.
#[tokio::test]
async fn a_surcharge_that_begins_later_is_found_by_the_refusal() {
    let stage = stage(0);
    let parcel = parcel(&stage, 1).await;
    let load = std::slice::from_ref(&parcel);
    let first = stage.rail.sign(&slot(&stage, 0), load, None).await.unwrap();
    arbitrum(&stage);
    let refused = stage.rail.send(&first).await.unwrap_err();
    assert!(matches!(refused, Fault::NotTaken { why: NotTaken::GasLimitTooLow, .. }), "{refused}");
    let second = stage.rail.sign(&slot(&stage, 0), load, Some(&first)).await.unwrap();
    assert!(gas_limit(&second) > TRANSFER_GAS + TRANSACTION, "{}", gas_limit(&second));
    stage.rail.send(&second).await.unwrap();
    stage.chain.mine(1);
    assert_eq!(stage.paid(), U256::from(PRICE));
}

#[tokio::test]
async fn what_needs_more_than_the_cap_is_not_signed() {
    let stage = stage(0);
    arbitrum(&stage);
    let parcel = parcel(&stage, 1).await;
    let signer = x402_devchain::signer(0).unwrap();
    let rail = EoaRail::new(stage.reader.clone(), signer).unwrap();
    let rail = rail.with_fees(Fees::default().with_gas_cap(800_000).with_surcharge_margin(100));
    // 21,000 and twice 400,000 are more; so is what carries data.
    for load in [&[][..], std::slice::from_ref(&parcel)] {
        let refused = rail.sign(&slot(&stage, 0), load, None).await.unwrap_err();
        assert!(refused.to_string().contains("gas of 800000"), "{refused}");
    }
    let rail = rail.with_fees(Fees::default().with_gas_cap(821_000).with_surcharge_margin(100));
    assert_eq!(gas_limit(&rail.sign(&slot(&stage, 0), &[], None).await.unwrap()), 821_000);
}

/// Returns the balance with which a transfer and its surcharge can be paid for at twice the base fee.
fn needed(stage: &Stage) -> U256 {
    let tip = stage.reader.funds(stage.rail.address()).unwrap().head.tip.max(Fees::default().least_tip);
    let price = 2 * u128::from(BASE_FEE) + tip;
    U256::from(price) * U256::from(TRANSFER_GAS + TRANSACTION * 3 / 2)
}

/// What a transaction may cost includes the surcharge, so that a signer which cannot pay it takes no payments.
#[tokio::test]
async fn a_signer_needs_the_surcharge_too() {
    let stage = stage(0);
    arbitrum(&stage);
    let lane = stage.rail.lane().clone();
    stage.reader.poll().await.unwrap();
    let needed = needed(&stage);
    for (balance, funded) in [(needed - U256::ONE, false), (needed, true)] {
        stage.chain.set_ether_of(stage.rail.address(), balance);
        stage.chain.set_base_fee(BASE_FEE);
        stage.chain.mine(1);
        // The first poll finds the block, the second its balances.
        stage.reader.poll().await.unwrap();
        stage.reader.poll().await.unwrap();
        assert_eq!(stage.rail.funded(&lane).is_ok(), funded);
    }
}

/// A signer that is short takes no payments, so that none of its signatures estimates anew what the data cost now.
#[tokio::test]
async fn a_signer_that_was_short_while_data_were_dear_takes_payments_again() {
    let stage = stage(0);
    arbitrum(&stage);
    let lane = stage.rail.lane().clone();
    stage.reader.poll().await.unwrap();
    let enough = needed(&stage);
    stage.chain.set_ether_of(stage.rail.address(), enough);
    let polled = async |blocks: u64| {
        stage.chain.set_base_fee(BASE_FEE);
        stage.chain.mine(blocks);
        stage.reader.poll().await.unwrap();
        stage.reader.poll().await.unwrap();
        stage.rail.funded(&lane).is_ok()
    };
    assert!(polled(1).await);
    stage.chain.node_fault(NodeFault::Surcharge { transaction: TRANSACTION * 10, byte: BYTE });
    stage.rail.sign(&slot(&stage, 0), &[], None).await.unwrap();
    assert!(!polled(1).await, "data are dear");
    arbitrum(&stage);
    assert!(polled(SURCHARGE_BLOCKS).await, "they are no longer");
    let estimated = stage.chain.calls().of("eth_estimateGas");
    polled(1).await;
    assert_eq!(stage.chain.calls().of("eth_estimateGas"), estimated, "not at every block");
    assert_eq!(stage.reader.last_surcharge(), TRANSACTION);
}
