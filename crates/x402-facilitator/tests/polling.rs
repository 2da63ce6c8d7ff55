//! The calls that a settled payment costs, polls of the head counted, where blocks come by the clock. The clock of these
//! tests is made up: it goes on when everything waits.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep};
use x402_devchain::{DevChain, MiningMode};
use x402_facilitator::engine::{Engine, Running};
use x402_facilitator::mechanisms::{Builder, Evm};
use x402_facilitator::process::owner;
use x402_facilitator_core::{Ledger, MemoryLedger};
use x402_types::{ChainId, UnixSeconds};

use crate::support::payment;

const NETWORK: u64 = 84_532;
const BLOCK: Duration = Duration::from_secs(2);
const ROUND_TRIP: Duration = Duration::from_millis(40);
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
        let start = unix_time();
        let builder = DevChain::builder().block_time(MiningMode::Manual).finality_depth(finality);
        let chain = builder.time(start).time_step(BLOCK.as_secs()).rpc_delay(ROUND_TRIP).build().unwrap();
        let ledger: Arc<dyn Ledger> = Arc::new(MemoryLedger::new(|| UnixSeconds(unix_time())));
        let signers = vec![x402_devchain::key(0).unwrap()];
        let evm = Evm::new(chain.client(), ChainId::eip155(NETWORK), finality, signers);
        let (engine, heads) = Builder::new(owner(), ledger).with_evm(evm).unwrap().build().unwrap();
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
        latest = latest.max(scene.settle(1).await);
    }
    let calls = scene.chain.calls();
    println!(
        "{} calls for {count} payments: {:?}, answered {latest:?} after the block",
        calls.total(),
        calls.by_method
    );
    assert!(latest <= BLOCK / 2, "{latest:?}");
    assert!(calls.total() <= MOST_CALLS * u64::from(count), "{calls:?}");
}
