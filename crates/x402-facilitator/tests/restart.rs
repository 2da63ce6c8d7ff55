//! A restart with many pending payments: the ranges of logs that are read for one are read for all.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use tokio::task::JoinSet;
use tokio::time::sleep;
use x402_devchain::{DevChain, MiningMode};
use x402_facilitator::engine::{Engine, Patience, Running};
use x402_facilitator::mechanisms::{Builder, Evm};
use x402_facilitator::process::owner;
use x402_facilitator_core::{Ledger, MemoryLedger};
use x402_types::{ChainId, Claim, UnixSeconds};

use crate::support::payment;

const NETWORK: u64 = 84_532;

/// How many payments are pending; `PENDING=10000` before a release.
fn pending() -> usize {
    std::env::var("PENDING").ok().and_then(|pending| pending.parse().ok()).unwrap_or(400)
}

const SIGNERS: usize = 2;
/// The most authorizations of one query.
const QUERY: u64 = 200;

fn unix_time() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

/// A process over a ledger and a chain that stay.
struct Process {
    engine: Arc<Engine>,
    _running: Running,
    _heads: JoinSet<()>,
}

impl Process {
    fn start(chain: &DevChain, ledger: &Arc<dyn Ledger>) -> Self {
        let signers = (0..SIGNERS).map(|signer| x402_devchain::key(signer).unwrap()).collect();
        let evm = Evm::new(chain.client(), ChainId::eip155(NETWORK), 0, signers);
        let patience = Patience { lease_seconds: 1, ..Patience::waiting(Duration::from_millis(1)) };
        let builder =
            Builder::new(owner(), Arc::clone(ledger)).with_engine(move |engine| engine.with_patience(patience));
        let (engine, heads) = builder.with_evm(evm).unwrap().build().unwrap();
        Self { _heads: heads.watch(&engine), _running: engine.start(), engine }
    }
}

#[tokio::test]
async fn the_pending_payments_of_a_restart_share_their_log_queries() {
    let payments = pending();
    let chain = DevChain::builder().block_time(MiningMode::Manual).build().unwrap();
    chain.mine(600);
    let ledger: Arc<dyn Ledger> = Arc::new(MemoryLedger::new(|| UnixSeconds(unix_time())));
    let first = Process::start(&chain, &ledger);
    let mut claims: Vec<Claim> = Vec::new();
    for number in 0..payments {
        // Their searches begin at different blocks.
        if number % 40 == 39 {
            join_all(claims[number - 39..].iter().map(|claim| first.engine.settle_claim(claim))).await;
            chain.set_automine(false);
        }
        claims.push(payment(3 + number % 3, chain.time()).await.0);
    }
    join_all(claims.iter().map(|claim| first.engine.settle_claim(claim))).await;
    assert_eq!(ledger.unanswered(&[]).await.unwrap().len(), payments);
    drop(first);

    chain.reset_calls();
    let second = Process::start(&chain, &ledger);
    let mut blocks = 0_u64;
    while !ledger.unanswered(&[]).await.unwrap().is_empty() {
        let sent = chain.calls().of("eth_sendRawTransaction");
        sleep(Duration::from_millis(300)).await;
        if chain.calls().of("eth_sendRawTransaction") == sent {
            chain.mine(1);
            blocks += 1;
        }
        assert!(blocks < 200.max(u64::try_from(payments).unwrap()), "payments without an end");
    }
    drop(second);
    assert_eq!(chain.transfers().len(), payments);
    let calls = chain.calls();
    println!("{payments} pending, {blocks} blocks: {calls:?}");
    // Each payment is looked at after the start, and behind the blocks in which its transaction was in flight.
    let most = 2 * (u64::try_from(payments).unwrap() / QUERY + blocks) * u64::try_from(SIGNERS).unwrap();
    assert!(calls.of("eth_getLogs") <= most, "{most}: {calls:?}");
}
