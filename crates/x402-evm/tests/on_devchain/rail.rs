//! The account that carries: replacement, gaps, caps, and what is not an error.

use alloy_consensus::{Transaction, TxEnvelope};
use alloy_eips::eip2718::Decodable2718;
use alloy_primitives::U256;
use x402_devchain::{Failure, Orphans, When};
use x402_evm::chain::{Call, ReadChain};
use x402_evm::rail::{EoaRail, Fees};
use x402_facilitator_core::{Attempt, Nonces, Parcel, Rail, SlotId};
use x402_types::Fault;

use crate::stage::{PAYER, PRICE, Stage, stage};

fn slot(stage: &Stage, nonce: u64) -> SlotId {
    SlotId { lane: stage.rail.lane().clone(), nonce }
}

fn decoded(attempt: &Attempt) -> TxEnvelope {
    TxEnvelope::decode_2718_exact(&attempt.bytes).unwrap()
}

async fn parcel(stage: &Stage) -> Parcel {
    use x402_facilitator_core::{Mechanism, NextStep};
    let payment = stage.payment(stage.claim(PAYER, 1).await).await;
    let NextStep::Do { parcel, .. } = stage.mechanism.plan(&payment, stage.now).await.unwrap() else { panic!() };
    parcel
}

#[tokio::test]
async fn a_transfer_has_its_gas_limit_and_a_fee_below_the_cap() {
    let stage = stage(0);
    let parcel = parcel(&stage).await;
    let call = Call::from_bytes(&parcel.bytes).unwrap();
    let attempt = stage.rail.sign(&slot(&stage, 0), std::slice::from_ref(&parcel), None).await.unwrap();
    let tx = decoded(&attempt);
    assert_eq!((tx.gas_limit(), tx.nonce(), tx.chain_id(), tx.to()), (150_000, 0, Some(84532), Some(call.to)));
    assert_eq!(tx.input(), &call.data);
    assert_eq!(attempt.tx.as_str(), tx.tx_hash().to_string());
    assert!(tx.max_fee_per_gas() <= Fees::default().cap && attempt.fee == tx.max_fee_per_gas());
    assert!(stage.rail.fits(&[], &parcel));
    assert!(!stage.rail.fits(&[&parcel], &parcel));
}

#[tokio::test]
async fn a_replacement_bids_an_eighth_more_of_both_and_takes_the_place() {
    let stage = stage(0);
    let parcel = parcel(&stage).await;
    let load = std::slice::from_ref(&parcel);
    let first = stage.rail.sign(&slot(&stage, 0), load, None).await.unwrap();
    stage.rail.send(&first).await.unwrap();
    let second = stage.rail.sign(&slot(&stage, 0), load, Some(&first)).await.unwrap();
    let (old, new) = (decoded(&first), decoded(&second));
    assert!(new.max_fee_per_gas() * 8 >= old.max_fee_per_gas() * 9);
    assert!(new.max_priority_fee_per_gas().unwrap() * 8 >= old.max_priority_fee_per_gas().unwrap() * 9);
    stage.rail.send(&second).await.unwrap();
    stage.chain.mine(1);
    assert_eq!(stage.chain.nonce_of(stage.rail.address()), 1);
    assert_eq!(stage.paid(), U256::from(PRICE));
    // Both again, long after: no error, and no second payment.
    stage.rail.send(&first).await.unwrap();
    stage.rail.send(&second).await.unwrap();
    stage.chain.mine(1);
    assert_eq!(stage.paid(), U256::from(PRICE));
}

#[tokio::test]
async fn a_gap_is_filled_by_a_transaction_that_does_nothing() {
    let stage = stage(0);
    let parcel = parcel(&stage).await;
    let later = stage.rail.sign(&slot(&stage, 1), std::slice::from_ref(&parcel), None).await.unwrap();
    stage.rail.send(&later).await.unwrap();
    stage.chain.mine(1);
    assert_eq!(stage.chain.nonce_of(stage.rail.address()), 0);
    let filler = stage.rail.sign(&slot(&stage, 0), &[], None).await.unwrap();
    let tx = decoded(&filler);
    assert_eq!((tx.to(), tx.value(), tx.gas_limit()), (Some(stage.rail.address()), U256::ZERO, 21_000));
    stage.rail.send(&filler).await.unwrap();
    stage.rail.send(&filler).await.unwrap();
    stage.chain.mine(1);
    assert_eq!(stage.chain.nonce_of(stage.rail.address()), 2);
    assert_eq!(stage.paid(), U256::from(PRICE));
}

#[tokio::test]
async fn nonces_come_with_the_poll() {
    let stage = stage(3);
    let nonces = async || stage.rail.nonces(stage.rail.lane()).await.unwrap().unwrap();
    assert_eq!(nonces().await, Nonces { head: 0, finalized: 0 });
    let filler = stage.rail.sign(&slot(&stage, 0), &[], None).await.unwrap();
    stage.rail.send(&filler).await.unwrap();
    stage.chain.mine(1);
    stage.reader.poll().await.unwrap();
    assert_eq!(nonces().await, Nonces { head: 1, finalized: 0 });
    stage.chain.mine(3);
    stage.reader.poll().await.unwrap();
    stage.chain.reset_calls();
    assert_eq!(nonces().await, Nonces { head: 1, finalized: 1 });
    assert_eq!(stage.chain.calls().round_trips, 1);
}

/// Who polls regularly pays for one call between two blocks, and has the nonces as of the newest one poll behind it.
#[tokio::test]
async fn fees_and_nonces_are_polled_once_a_block() {
    let stage = stage(0);
    let network = "eip155:84532".parse().unwrap();
    let reader = std::sync::Arc::new(x402_evm::chain::RpcChain::new(stage.chain.client(), network, 0));
    let rail = EoaRail::new(reader.clone(), x402_devchain::signer(0).unwrap()).unwrap();
    let head = async || rail.nonces(rail.lane()).await.unwrap().unwrap().head;
    let calls = async || {
        stage.chain.reset_calls();
        reader.poll().await.unwrap();
        let calls = stage.chain.calls();
        assert_eq!((calls.round_trips, calls.of("eth_getBlockByNumber")), (1, 1), "{calls:?}");
        (calls.of("eth_feeHistory"), calls.of("eth_getTransactionCount"))
    };
    assert_eq!(head().await, 0);
    assert_eq!((calls().await, calls().await), ((1, 1), (0, 0)));
    let filler = stage.rail.sign(&slot(&stage, 0), &[], None).await.unwrap();
    stage.rail.send(&filler).await.unwrap();
    stage.chain.mine(1);
    assert_eq!((calls().await, head().await), ((0, 0), 0));
    assert_eq!((calls().await, head().await), ((1, 1), 1));
    assert_eq!(calls().await, (0, 0));
    // A block of the same number in the place of that one.
    stage.chain.reorg(1, Orphans::Drop).unwrap();
    assert_eq!((calls().await, head().await), ((0, 0), 1));
    assert_eq!((calls().await, head().await), ((1, 1), 0));
}

#[tokio::test]
async fn the_cap_holds() {
    let stage = stage(0);
    let signer = x402_devchain::signer(0).unwrap();
    let rail = EoaRail::new(stage.reader.clone(), signer).unwrap().with_fees(Fees::default().with_cap(1_000));
    let first = rail.sign(&slot(&stage, 0), &[], None).await.unwrap();
    assert_eq!((first.fee, decoded(&first).max_priority_fee_per_gas()), (1_000, Some(1_000)));
    let refused = rail.sign(&slot(&stage, 0), &[], Some(&first)).await.unwrap_err();
    assert!(matches!(refused, Fault::Unreachable { service: "the rail", .. }), "{refused}");
    let broken = rail.sign(&slot(&stage, 0), &[Parcel::new([0; 32], vec![])], None).await;
    assert!(matches!(broken, Err(Fault::Broken { .. })));
    assert!(!format!("{rail:?}").contains("ac0974bec39a17e36ba4a6b4d238ff94"));
}

/// The tip follows what others paid, not what the node suggests: devchain suggests 0.001 gwei.
#[tokio::test]
async fn the_tip_is_that_of_recent_blocks() {
    let stage = stage(0);
    let signed = async |nonce| decoded(&stage.rail.sign(&slot(&stage, nonce), &[], None).await.unwrap());
    assert_eq!(signed(0).await.max_priority_fee_per_gas(), Some(1_000_000), "blocks without transactions");
    for tip in [7_000_000, 5_000_000, 9_000_000] {
        stage.tipped(2, tip).await;
        stage.chain.mine(1);
    }
    stage.reader.poll().await.unwrap();
    stage.reader.poll().await.unwrap();
    let tx = signed(0).await;
    let base = u128::from(stage.chain.base_fee());
    assert_eq!(tx.max_priority_fee_per_gas(), Some(7_000_000));
    assert!(tx.max_fee_per_gas() >= base + 7_000_000, "{tx:?}");
    // A node without the method: its suggestion counts.
    let none = Failure::Error { code: -32601, message: "the method eth_feeHistory does not exist".into() };
    stage.chain.fail_calls("eth_feeHistory", 100, When::Before, none);
    stage.chain.mine(1);
    stage.reader.poll().await.unwrap();
    stage.reader.poll().await.unwrap();
    assert_eq!(signed(0).await.max_priority_fee_per_gas(), Some(1_000_000));
}

/// Replacements end at a multiple of the present price, and go on where the price has risen.
#[tokio::test]
async fn replacements_end_at_the_relative_cap() {
    let stage = stage(0);
    let signer = x402_devchain::signer(0).unwrap();
    let rail = EoaRail::new(stage.reader.clone(), signer).unwrap().with_fees(Fees::default().with_relative_cap(300));
    let head = stage.reader.head().await.unwrap();
    let most = 3 * (head.base_fee + head.tip);
    let mut attempt = rail.sign(&slot(&stage, 0), &[], None).await.unwrap();
    let refused = loop {
        match rail.sign(&slot(&stage, 0), &[], Some(&attempt)).await {
            Ok(next) => attempt = next,
            Err(refused) => break refused,
        }
        assert!(attempt.fee <= most, "{} of {most}", attempt.fee);
    };
    assert!(attempt.fee * 8 / 7 + 2 > most, "{} of {most}", attempt.fee);
    assert!(matches!(refused, Fault::Unreachable { service: "the rail", .. }), "{refused}");
    stage.chain.set_base_fee(u64::try_from(2 * head.base_fee).unwrap());
    stage.chain.mine(1);
    stage.reader.poll().await.unwrap();
    assert!(rail.sign(&slot(&stage, 0), &[], Some(&attempt)).await.unwrap().fee > attempt.fee);
    assert_eq!(Fees::default().with_relative_cap(5).relative_cap, 200);
}

#[tokio::test]
async fn signing_needs_no_request_while_a_poll_is_fresh() {
    let stage = stage(0);
    let network = "eip155:84532".parse().unwrap();
    let reader = std::sync::Arc::new(x402_evm::chain::RpcChain::new(stage.chain.client(), network, 0));
    let rail = EoaRail::new(reader.clone(), x402_devchain::signer(0).unwrap()).unwrap();
    rail.nonces(rail.lane()).await.unwrap();
    stage.chain.reset_calls();
    rail.nonces(rail.lane()).await.unwrap();
    rail.sign(&slot(&stage, 0), &[], None).await.unwrap();
    assert_eq!(stage.chain.calls().total(), 0);
    reader.poll().await.unwrap();
    assert_eq!(stage.chain.calls().round_trips, 1);
    reader.check_network().await.unwrap();
    let other = x402_evm::chain::RpcChain::new(stage.chain.client(), "eip155:1".parse().unwrap(), 0);
    assert!(matches!(other.check_network().await, Err(Fault::Unreachable { .. })));
}
