//! Many payments at once: engine, ledger on SQLite and chain in one process. Prints what they cost, and asserts nothing.
//!
//! `cargo bench -p x402-facilitator --bench load [-- PAYMENTS…]`

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a bench")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use x402_devchain::{DevChain, MiningMode};
use x402_facilitator::engine::Patience;
use x402_facilitator::mechanisms::{Builder, Evm};
use x402_facilitator::process::owner;
use x402_facilitator_core::{HeldLedger, Ledger};
use x402_store::sqlite::{Database, SqliteLedger};
use x402_types::ChainId;

use crate::support::payment;

const NETWORK: u64 = 84_532;

async fn ledger(database: Database) -> Arc<dyn Ledger> {
    Arc::new(HeldLedger::alone(Arc::new(SqliteLedger::new(database))).await.unwrap())
}

/// The CPU time of this process so far, in ms; 0 where there is no `/proc`.
fn cpu_ms() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    // utime and stime, in ticks of 10 ms.
    fields.get(11..13).map_or(0, |times| times.iter().filter_map(|time| time.parse::<u64>().ok()).sum::<u64>() * 10)
}

async fn load(payments: usize, name: &str, mining: MiningMode) {
    let file = tempfile::tempdir().unwrap();
    let database = Database::open(file.path().join("ledger.sqlite")).unwrap();
    let chain = DevChain::builder().block_time(mining).build().unwrap();
    let evm = Evm::new(chain.client(), ChainId::eip155(NETWORK), 0, vec![x402_devchain::key(0).unwrap()]);
    let builder = Builder::new(owner(), ledger(database).await).with_evm(evm).unwrap();
    let (engine, heads) = builder
        .with_engine(move |engine| engine.with_patience(Patience::waiting(Duration::from_secs(60))))
        .build()
        .unwrap();
    heads.check().await.unwrap();
    let (heads, running) = (heads.watch(&engine), engine.start());
    let mut claims = Vec::new();
    for number in 0..payments {
        claims.push(payment(1 + number % 4, chain.time()).await.0);
    }

    chain.reset_calls();
    let (began, cpu) = (Instant::now(), cpu_ms());
    let over = Arc::new(AtomicBool::new(false));
    let (sends, ends) = (chain.clone(), Arc::clone(&over));
    // When each transaction was sent, by a look at the count every ms.
    let sent = std::thread::spawn(move || {
        let mut sent = Vec::new();
        while !ends.load(Ordering::Relaxed) && sent.len() < payments {
            let known = usize::try_from(sends.calls().of("eth_sendRawTransaction")).unwrap();
            sent.resize(known.max(sent.len()), began.elapsed());
            std::thread::sleep(Duration::from_millis(1));
        }
        sent
    });
    let settles = claims.into_iter().map(|claim| {
        let engine = Arc::clone(&engine);
        tokio::spawn(async move { (engine.settle_claim(&claim).await, began.elapsed()) })
    });
    let answers = join_all(settles).await;
    let (took, cpu) = (began.elapsed(), cpu_ms() - cpu);
    over.store(true, Ordering::Relaxed);
    let sent = sent.join().unwrap();
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    for answer in answers {
        let (answer, _) = answer.unwrap();
        let outcome = match answer {
            Ok(answer) if answer.success => "settled".to_owned(),
            Ok(answer) => answer.error_reason.map(|reason| reason.to_string()).unwrap_or_default(),
            Err(fault) => format!("503: {fault}"),
        };
        *outcomes.entry(outcome).or_default() += 1;
    }
    println!(
        "{payments} at once, {name}: {:.2} ms CPU a payment; sent median {:?}, last {:?}; all answered {took:?}; {outcomes:?}; {} calls",
        cpu as f64 / payments as f64,
        sent.get(sent.len() / 2).copied().unwrap_or_default(),
        sent.last().copied().unwrap_or_default(),
        chain.calls().total(),
    );
    running.finish(Duration::from_secs(5)).await;
    drop(heads);
}

#[tokio::main]
async fn main() {
    support::tls();
    let counts: Vec<usize> = std::env::args().skip(1).filter_map(|count| count.parse().ok()).collect();
    let counts = if counts.is_empty() { vec![200, 1_000] } else { counts };
    for payments in counts {
        load(payments, "a block a transaction", MiningMode::PerTransaction).await;
        load(payments, "blocks of 2 s", MiningMode::Interval(Duration::from_secs(2))).await;
    }
}
