//! Payments at an even rate for as long as is said: the facilitator is a process of its own on a SQLite file, with callers,
//! limits, budgets and the operator's port; chain and callers are this process. Each payment has a payer of its own.
//!
//! What is so in the end is judged from the chain and from the rows: each payment settled once, none open. The table of memory
//! and CPU is printed, and nothing of it is asserted.
//!
//! `SOAK=3600 cargo test -p x402-facilitator --test soak -- --nocapture` runs for an hour (docs/proof.md); `RATE` is the number of
//! payments a second. Ctrl-C ends the asking, and what was asked for until then is judged. A machine that stands still for a while
//! delays the payments and does not pile them up.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

#[path = "soak/sample.rs"]
mod sample;
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::{Notify, Semaphore};
use tokio::time::MissedTickBehavior;
use x402_devchain::{ACCOUNTS, DevChain, DevNode, MiningMode, TOKEN};
use x402_evm::key::Key;

use crate::sample::{Sample, metric, rows, verdict};
use crate::support::process::{Facilitator, SIGNERS};
use crate::support::{SELLER, at_last, payment_by, tls};

/// The seconds of the run, and the payments in each, if nothing else is said.
const SHORT: (u64, u64) = (6, 50);
/// The most payments that wait for an answer: a facilitator that falls behind is not given more.
const MOST_WAITING: usize = 900;

/// The delay that is caught up.
const CAUGHT_UP: Duration = Duration::from_secs(1);

fn said(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|said| said.parse().ok()).unwrap_or(otherwise)
}

fn configuration(folder: &Path) -> PathBuf {
    let path = folder.join("facilitator.toml");
    for name in ["shop", "admin"] {
        fs::write(folder.join(name), format!("{name}-token")).unwrap();
    }
    let signers: Vec<String> = SIGNERS.iter().map(|signer| format!("{{ env = \"TEST_KEY_{signer}\" }}")).collect();
    let text = format!(
        r#"
            listen = "127.0.0.1:0"
            ledger = "{folder}/ledger.sqlite"
            [limits]
            [[caller]]
            name = "shop"
            token = {{ file = "{folder}/shop" }}
            [admin]
            listen = "127.0.0.1:0"
            token = {{ file = "{folder}/admin" }}
            [[network]]
            id = "eip155:84532"
            rpc = {{ env = "TEST_RPC" }}
            finality = 1
            poll_milliseconds = 200
            transactions_in_flight = 200
            max_fee_per_gas = 100000000000
            signers = [{signers}]
            [[network.budget]]
            per = "payer"
            asset = "{TOKEN}"
            most = "1000000"
            [[network.budget]]
            per = "network"
            most = "1000000000000000000000"
        "#,
        folder = folder.display(),
        signers = signers.join(", "),
    );
    fs::write(&path, text).unwrap();
    path
}

/// A facilitator, its chain and its callers.
struct Soak {
    folder: tempfile::TempDir,
    chain: DevChain,
    _node: DevNode,
    facilitator: Facilitator,
    client: reqwest::Client,
    /// The payments that a caller was told were settled.
    settled: AtomicU64,
    /// The answers that told nothing yet, after which a caller asks again.
    again: AtomicU64,
    /// The end of the asking before its time.
    over: Notify,
}

impl Soak {
    async fn new() -> Self {
        tls();
        let folder = tempfile::tempdir().unwrap();
        let chain = DevChain::builder().block_time(MiningMode::Interval(Duration::from_secs(2))).build().unwrap();
        chain.use_real_time();
        let node = chain.serve("127.0.0.1:0").await.unwrap();
        let config = configuration(folder.path());
        let facilitator = Facilitator::start_logging(&config, &node.url, &folder.path().join("log"));
        let client = reqwest::Client::builder().timeout(Duration::from_secs(90)).build().unwrap();
        let (settled, again, over) = (AtomicU64::new(0), AtomicU64::new(0), Notify::new());
        Self { folder, chain, _node: node, facilitator, client, settled, again, over }
    }

    fn ledger(&self) -> PathBuf {
        self.folder.path().join("ledger.sqlite")
    }

    /// A payer whom nobody has seen pays, and asks until it knows.
    async fn pay(&self, number: u64) {
        let mut bytes = [1; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        let key = Key::from_bytes(&bytes).unwrap();
        self.chain.set_balance_of(key.address(), alloy_primitives::U256::from(10_000));
        let body = serde_json::to_string(&payment_by(key, self.chain.time()).await.1).unwrap();
        let url = format!("{}/settle", self.facilitator.url);
        for turn in 0..100 {
            let request = self.client.post(&url).bearer_auth("shop-token").header("content-type", "application/json");
            let request = request.header("idempotency-key", format!("order-{number}")).body(body.clone());
            if let Ok(answer) = request.send().await {
                let status = answer.status().as_u16();
                let told: Value = serde_json::from_slice(&answer.bytes().await.unwrap_or_default()).unwrap_or_default();
                if told["success"] == true {
                    self.settled.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                let unknown = matches!(status, 429 | 503) || told["errorReason"] == "settlement_pending";
                assert!(unknown, "payment {number}: {status} {told}");
            }
            self.again.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(100 * (turn + 1))).await;
        }
        panic!("payment {number} never came to an end");
    }

    async fn metrics(&self) -> String {
        let request = self.client.get(format!("{}/metrics", self.facilitator.line["admin"].as_str().unwrap()));
        request.bearer_auth("admin-token").send().await.unwrap().text().await.unwrap()
    }

    async fn sample(&self, at: Duration) -> Sample {
        Sample::of(self.facilitator.child.id(), at, &self.metrics().await, &self.ledger())
    }

    /// Looks at the process every 15 s, as Prometheus does, and prints a line of every minute; of every second in a short run.
    async fn watch(&self, began: Instant, seconds: u64) -> Vec<Sample> {
        let (every, lines) = if seconds < 300 { (1, 1) } else { (15, 4) };
        let mut samples = vec![self.sample(began.elapsed()).await];
        println!("{}", Sample::HEAD);
        let mut ticks =
            tokio::time::interval_at((began + Duration::from_secs(every)).into(), Duration::from_secs(every));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for tick in 1..=seconds / every {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.over.notified() => break,
            }
            let sample = self.sample(began.elapsed()).await;
            if tick % lines == 0 {
                println!("{}", sample.line(&samples[samples.len() - 1]));
                samples.push(sample);
            }
        }
        samples
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn payments_at_an_even_rate_are_each_settled_once_and_leave_nothing_open() {
    let (seconds, rate) = (said("SOAK", SHORT.0), said("RATE", SHORT.1));
    let soak = Arc::new(Soak::new().await);
    let began = Instant::now();
    let watcher = Arc::clone(&soak);
    let watcher = tokio::spawn(async move { watcher.watch(began, seconds).await });

    let waiting = Arc::new(Semaphore::new(MOST_WAITING));
    let mut callers = tokio::task::JoinSet::new();
    let (mut due, pause) = (tokio::time::Instant::now(), Duration::from_secs(1) / u32::try_from(rate).unwrap());
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    let mut payments = 0;
    for number in 1..=seconds * rate {
        tokio::select! {
            () = tokio::time::sleep_until(due) => {}
            _ = &mut interrupted => {
                soak.over.notify_one();
                break;
            }
        }
        payments = number;
        // What a short delay has cost is caught up, and not what a long one has.
        due = due.max(tokio::time::Instant::now() - CAUGHT_UP) + pause;
        let place = Arc::clone(&waiting).acquire_owned().await.unwrap();
        let soak = Arc::clone(&soak);
        callers.spawn(async move {
            soak.pay(number).await;
            drop(place);
        });
        while let Some(ended) = callers.try_join_next() {
            ended.unwrap();
        }
    }
    let asked = began.elapsed();
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
    let samples = watcher.await.unwrap();

    // A nonce stays open until its block is final.
    at_last("an end", async || metric(&soak.metrics().await, "x402_open_slots{", "") == 0).await;
    let metrics = soak.metrics().await;
    println!(
        "{payments} payments asked for in {asked:?}, answered after {:?}; {} asked again; {}",
        began.elapsed(),
        soak.again.load(Ordering::Relaxed),
        verdict(&samples)
    );
    assert_eq!(metric(&metrics, "x402_answered_total{", "\"settled\""), payments);
    assert_eq!(metric(&metrics, "x402_answered_total{", "\"failed\""), 0);
    assert_eq!(metric(&metrics, "x402_open_payments{", ""), 0);
    assert_eq!((rows(&soak.ledger(), "true"), rows(&soak.ledger(), "due IS NOT NULL")), (payments, 0));
    assert_eq!(soak.settled.load(Ordering::Relaxed), payments, "each caller was told");
    let transfers = soak.chain.transfers();
    let payers: BTreeSet<_> = transfers.iter().map(|transfer| transfer.from).collect();
    assert_eq!((transfers.len() as u64, payers.len() as u64), (payments, payments), "one transfer of each payer");
    let seller = ACCOUNTS[SELLER].address;
    assert!(transfers.iter().all(|transfer| transfer.to == seller), "all of them to the seller");
    let log = fs::read_to_string(soak.folder.path().join("log")).unwrap();
    let loud: Vec<&str> =
        log.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")).take(5).collect();
    println!("the log has {} lines; loud ones: {loud:#?}", log.lines().count());
}
