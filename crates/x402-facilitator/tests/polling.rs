//! The calls that a settled payment costs, polls of the head counted, where blocks come by the clock. The clock of these
//! tests is made up: it goes on when everything waits.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use alloy_primitives::{U256, keccak256};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep};
use x402_devchain::{DevChain, MiningMode};
use x402_evm::batching::Batching;
use x402_evm::key::Key;
use x402_facilitator::engine::{Engine, Running};
use x402_facilitator::mechanisms::{Builder, Evm};
use x402_facilitator::process::owner;
use x402_facilitator_core::{Ledger, MemoryLedger};
use x402_types::{ChainId, UnixSeconds};

use crate::support::{payment, payment_by};

const NETWORK: u64 = 84_532;
const BLOCK: Duration = Duration::from_secs(2);
const ROUND_TRIP: Duration = Duration::from_millis(40);
/// The longest time from a block to an answer: a poll just before the block, the pause behind it, and two round trips.
const MOST_DELAY: Duration = Duration::from_millis(100 + 2 * 40 + 20);
/// The most calls of a settled payment, one at a time.
const MOST_CALLS: u64 = 8;

fn unix_time() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

/// A facilitator with the usual settings on a chain that makes a block every 2 s.
struct Scene {
    chain: DevChain,
    engine: Arc<Engine>,
    _running: Running,
    _tasks: [JoinSet<()>; 2],
}

impl Scene {
    async fn start(finality: u64) -> Self {
        Self::started(finality, None).await
    }

    /// Starts one whose payments share transactions, and wait so long for each other.
    async fn sharing(gather: Duration) -> Self {
        Self::started(0, Some(gather)).await
    }

    async fn started(finality: u64, gather: Option<Duration>) -> Self {
        let start = unix_time();
        let builder = DevChain::builder().block_time(MiningMode::Manual).finality_depth(finality);
        let chain = builder.time(start).time_step(BLOCK.as_secs()).rpc_delay(ROUND_TRIP).build().unwrap();
        let ledger: Arc<dyn Ledger> = Arc::new(MemoryLedger::new(|| UnixSeconds(unix_time())));
        let signers = vec![x402_devchain::key(0).unwrap()];
        let evm = Evm::new(chain.client(), ChainId::eip155(NETWORK), finality, signers);
        let network = ChainId::eip155(NETWORK);
        let share = |it: Builder, gather| it.with_batching(network, Batching::default(), gather);
        let builder = gather.into_iter().fold(Builder::new(owner(), ledger), share);
        let (engine, heads) = builder.with_evm(evm).unwrap().build().unwrap();
        heads.check().await.unwrap();
        let mut miner = JoinSet::new();
        let mined = chain.clone();
        miner.spawn(async move {
            let mut clock = interval(BLOCK);
            loop {
                clock.tick().await;
                mined.mine(1);
            }
        });
        let (heads, running) = (heads.watch(&engine), engine.start());
        Self { chain, engine, _running: running, _tasks: [miner, heads] }
    }

    async fn next_block(&self) {
        let number = self.chain.block_number();
        while self.chain.block_number() == number {
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Settles one payment; returns the time from its block to its answer.
    async fn settle(&self, payer: usize) -> Duration {
        let (claim, _) = payment(payer, self.chain.time()).await;
        let engine = Arc::clone(&self.engine);
        let settled = tokio::spawn(async move { (engine.settle_claim(&claim).await.unwrap(), Instant::now()) });
        let before = self.chain.transfers().len();
        while self.chain.transfers().len() == before {
            sleep(Duration::from_millis(1)).await;
        }
        let mined = Instant::now();
        let (answer, answered) = settled.await.unwrap();
        assert!(answer.success, "{answer:?}");
        answered.saturating_duration_since(mined)
    }
}

/// Each begins at another time between two blocks, as in `benches/service`.
#[tokio::test(start_paused = true)]
async fn a_payment_alone_costs_few_calls_where_blocks_come_by_the_clock() {
    let scene = Scene::start(0).await;
    let count = 10_u32;
    // The first ones teach when blocks come.
    for _ in 0..6 {
        scene.settle(1).await;
    }
    scene.next_block().await;
    scene.chain.reset_calls();
    let mut latest = Duration::ZERO;
    for index in 0..count {
        scene.next_block().await;
        sleep(BLOCK * index / count).await;
        let delay = scene.settle(1).await;
        println!("begun {index} of {count} into the block: answered {delay:?} after the next");
        latest = latest.max(delay);
    }
    let calls = scene.chain.calls();
    println!(
        "{} calls for {count} payments: {:?}, answered {latest:?} after the block",
        calls.total(),
        calls.by_method
    );
    assert!(latest <= MOST_DELAY, "{latest:?}");
    assert!(calls.total() <= MOST_CALLS * u64::from(count), "{calls:?}");
}

/// A hundred payments a second, each of a payer of its own.
#[tokio::test(start_paused = true)]
async fn a_payment_among_many_costs_a_fifth_of_a_call() {
    let scene = Scene::sharing(Duration::from_millis(250)).await;
    for _ in 0..6 {
        scene.settle(1).await;
    }
    let count = 400_u32;
    let mut claims = Vec::new();
    for number in 0..count {
        let key = Key::from_bytes(&keccak256(number.to_be_bytes())).unwrap();
        scene.chain.set_balance_of(key.address(), U256::from(10_000));
        claims.push(payment_by(key, scene.chain.time()).await.0);
    }
    scene.next_block().await;
    scene.chain.reset_calls();
    let mut settles = JoinSet::new();
    for claim in claims {
        sleep(Duration::from_millis(10)).await;
        let engine = Arc::clone(&scene.engine);
        settles.spawn(async move { engine.settle_claim(&claim).await.unwrap() });
    }
    while let Some(answer) = settles.join_next().await {
        assert!(answer.as_ref().unwrap().success, "{answer:?}");
    }
    let calls = scene.chain.calls();
    println!("{} calls for {count} payments: {:?}", calls.total(), calls.by_method);
    assert!(calls.total() * 5 <= u64::from(count), "{calls:?}");
}
