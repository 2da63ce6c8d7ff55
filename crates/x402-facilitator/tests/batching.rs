//! Payments of one network that share transactions, from the configuration to the answers.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::Bytes;
use x402_devchain::{DevChain, MiningMode};
use x402_evm::batching::{Batching, MULTICALL3};
use x402_facilitator::heads::NoMulticall3;
use x402_facilitator::mechanisms::{Builder, Evm};
use x402_facilitator::process::owner;
use x402_facilitator_core::MemoryLedger;
use x402_types::{ChainId, Fault, UnixSeconds};

use crate::support::payment;

fn network() -> ChainId {
    ChainId::eip155(84_532)
}

fn builder(chain: &DevChain) -> Builder {
    let clock = chain.clone();
    Builder::new(owner(), Arc::new(MemoryLedger::new(move || UnixSeconds(clock.time()))))
}

fn evm(chain: &DevChain) -> Evm {
    Evm::new(chain.client(), network(), 0, vec![x402_devchain::key(0).unwrap()])
}

/// The payments wait for each other until there are ten; the time that they would wait otherwise is longer than any test.
#[tokio::test(flavor = "multi_thread")]
async fn payments_at_once_share_transactions() {
    let chain = DevChain::builder().block_time(MiningMode::PerTransaction).build().unwrap();
    let batching = Batching::default().with_most(10);
    let builder = builder(&chain).with_batching(network(), batching, Duration::from_secs(3_600));
    let (engine, heads) = builder.with_evm(evm(&chain)).unwrap().build().unwrap();
    heads.check().await.unwrap();
    let (heads, running) = (heads.watch(&engine), engine.start());
    let mut transactions = BTreeSet::new();
    // Ten at a time: of more that are ready at once those beyond ten would go too, and leave the others waiting.
    for round in 1..=2 {
        let mut settles = Vec::new();
        for number in 0..10 {
            let (claim, _) = payment(1 + number % 4, chain.time()).await;
            let engine = Arc::clone(&engine);
            settles.push(tokio::spawn(async move { engine.settle_claim(&claim).await.unwrap() }));
        }
        let mut gas = 0_u64;
        for settle in settles {
            let answer = settle.await.unwrap();
            assert!(answer.success, "{answer:?}");
            gas += answer.extra.text("gasUsed").unwrap().parse::<u64>().unwrap();
            transactions.insert(answer.transaction);
        }
        assert_eq!(transactions.len(), round, "{transactions:?}");
        assert!(gas > 10 * 40_000, "{gas}");
    }
    running.finish(Duration::from_secs(5)).await;
    drop(heads);
}

#[tokio::test]
async fn a_network_without_multicall3_is_refused_at_start() {
    let chain = DevChain::builder().block_time(MiningMode::Manual).build().unwrap();
    chain.set_code(MULTICALL3, Bytes::new()).unwrap();
    let (_, heads) = builder(&chain).with_evm(evm(&chain)).unwrap().build().unwrap();
    heads.check().await.unwrap();
    let batching = builder(&chain).with_batching(network(), Batching::default(), Duration::ZERO);
    let (_, heads) = batching.with_evm(evm(&chain)).unwrap().build().unwrap();
    let refused = heads.check().await.unwrap_err();
    assert_eq!(refused, Fault::broken(NoMulticall3 { network: network() }));
    assert!(refused.to_string().contains(
        "network.batching: expected Multicall3 at 0xcA11bde05977b3631167028862bE2a173976CA11 on eip155:84532"
    ));
}
