//! What the index of settled payments costs for each of them.
//!
//! `cargo bench -p x402-facilitator --bench indexing [-- share PAYMENTS]` settles by turns with and without the index, ledger and
//! catalog in one SQLite file, the chain in a process of its own, and prints what the index adds to the CPU time of a
//! settlement. `-- again|first TIMES` is what `benches/indexing-cost` counts by callgrind.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a bench")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use alloy_rpc_client::RpcClient;
use alloy_transport_http::Http;
use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::join_all;
use serde_json::{Value, json};
use x402_devchain::{DevChain, MiningMode};
use x402_extensions::bazaar::Listing;
use x402_facilitator::discovery::CatalogIndex;
use x402_facilitator::engine::Patience;
use x402_facilitator::mechanisms::{Builder, Evm};
use x402_facilitator::process::owner;
use x402_facilitator_core::HeldLedger;
use x402_store::catalog::{Catalog, CatalogFilter, Listed, Page};
use x402_store::sqlite::{Database, SqliteCatalog, SqliteLedger};
use x402_types::extension::SettledClaim;
use x402_types::v2::{ResourceInfo, SettleResponse};
use x402_types::{ChainId, Claim, Extension, Fault, PaymentPayload, Terms, UnixSeconds};

/// A store that costs nothing: the engine's writes are counted elsewhere, once in a minute for each route.
#[derive(Debug)]
struct Nothing;

#[async_trait]
impl Catalog for Nothing {
    async fn put(&self, _: &Listing, _: UnixSeconds) -> Result<(), Fault> {
        Ok(())
    }
    async fn list(&self, _: &CatalogFilter, _: Page) -> Result<(Vec<Listed>, u64), Fault> {
        Ok((Vec::new(), 0))
    }
    async fn search(&self, _: &str, _: &CatalogFilter, _: Page) -> Result<(Vec<Listed>, bool), Fault> {
        Ok((Vec::new(), false))
    }
}

/// A payment for a route that the published SDK declared.
fn claim(url: &str) -> Claim {
    let vectors: Value = serde_json::from_str(&x402_testkit::vector("extensions.json").unwrap()).unwrap();
    let mut payment = vectors["bazaar.facilitatorExtracts"][0]["paymentPayload"].clone();
    payment["resource"]["url"] = json!(url);
    let payment: PaymentPayload = serde_json::from_value(payment).unwrap();
    let PaymentPayload::V2(of) = &payment else { panic!() };
    Claim::new(Terms::from(&of.accepted), payment.clone())
}

/// The CPU time of this process so far, user and system, in ms; 0 where there is no `/proc`.
fn cpu_ms() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    // utime and stime, in ticks of 10 ms.
    fields.get(11..13).map_or(0, |times| times.iter().filter_map(|time| time.parse::<u64>().ok()).sum::<u64>() * 10)
}

/// A chain in a process of its own, so that its CPU time is not this one's. It ends with this one.
struct Node(Child, String);

impl Node {
    fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg("node")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        Self(child, url.trim().to_owned())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Serves a chain until its standard input ends.
async fn node() {
    let chain = DevChain::builder().block_time(MiningMode::PerTransaction).build().unwrap();
    let node = chain.serve("127.0.0.1:0").await.unwrap();
    println!("{}", node.url);
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await.unwrap().unwrap();
}

/// Settles so many payments and returns the CPU time of this process for one, in ms. `route` names the resource of each.
async fn settle(payments: usize, indexed: bool, route: impl Fn(usize) -> String) -> f64 {
    let (node, folder) = (Node::start(), tempfile::tempdir().unwrap());
    let client = RpcClient::new(Http::with_client(reqwest::Client::new(), node.1.parse().unwrap()), false);
    let database = Database::open(folder.path().join("ledger.sqlite")).unwrap();
    let ledger = HeldLedger::alone(Arc::new(SqliteLedger::new(database.clone()))).await.unwrap();
    let catalog: Arc<dyn Catalog> = Arc::new(SqliteCatalog::new(database.with_own_reader().unwrap()));
    let evm = Evm::new(client.clone(), ChainId::eip155(84_532), 0, vec![x402_devchain::key(0).unwrap()]);
    let builder = Builder::new(owner(), Arc::new(ledger)).with_evm(evm).unwrap();
    let index = Arc::clone(&catalog);
    let (engine, heads) = builder
        .with_engine(move |engine| {
            let engine = engine.with_patience(Patience::waiting(Duration::from_secs(3_600)));
            if indexed { engine.with_extension(Arc::new(CatalogIndex::new(index))) } else { engine }
        })
        .build()
        .unwrap();
    heads.check().await.unwrap();
    let (heads, running) = (heads.watch(&engine), engine.start());
    let block: Value = client.request("eth_getBlockByNumber", ("latest", false)).await.unwrap();
    let now = u64::from_str_radix(block["timestamp"].as_str().unwrap().trim_start_matches("0x"), 16).unwrap();
    let echoed = claim("https://api.example.com/weather").extensions;
    let mut claims = Vec::new();
    for number in 0..payments {
        let (claim, _) = support::payment(1 + number % 4, now).await;
        claims.push(claim.with_resource(ResourceInfo::of(route(number))).with_extensions(echoed.clone()));
    }
    let before = cpu_ms();
    // As many at once as a busy seller has.
    for some in claims.chunks(20) {
        let settles = some.iter().map(|claim| engine.settle_claim(claim));
        assert!(join_all(settles).await.into_iter().all(|answer| answer.unwrap().success));
    }
    // What waits to be listed is written before the end.
    running.finish(Duration::from_secs(60)).await;
    let cpu = cpu_ms() - before;
    let listed = catalog.list(&CatalogFilter::default(), Page::new(0, 1)).await.unwrap().1;
    let routes: std::collections::BTreeSet<String> = (0..payments).map(&route).collect();
    assert_eq!(listed, if indexed { routes.len() as u64 } else { 0 });
    drop(heads);
    cpu as f64 / payments as f64
}

/// Prints what the index adds: for one route, whose declaration comes with every payment, for a hundred, and for as many as
/// there are payments, each listed and written.
async fn share(payments: usize) {
    const ROUNDS: usize = 5;
    println!("| {payments} payments, {ROUNDS} rounds | without, ms | with, ms | added |\n|---|--:|--:|--:|");
    for (name, routes) in [("one route", 1), ("a hundred routes", 100), ("a route for each payment", payments)] {
        let route = |number: usize| format!("https://api.example.com/weather/{}", number % routes);
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            // The first of a round is not always the same.
            for turn in [round % 2 == 0, round % 2 != 0] {
                let times = if turn { &mut with } else { &mut without };
                times.push(settle(payments, turn, route).await);
            }
        }
        let middle = |times: &mut Vec<f64>| {
            times.sort_by(f64::total_cmp);
            times[ROUNDS / 2]
        };
        let (without, with) = (middle(&mut without), middle(&mut with));
        println!("| {name} | {without:.3} | {with:.3} | {:+.1} % |", (with / without - 1.0) * 100.0);
    }
}

fn main() {
    support::tls();
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["node"] => runtime().block_on(node()),
        [mode @ ("again" | "first"), times] => count(mode, times.parse().unwrap()),
        ["share", payments] => runtime().block_on(share(payments.parse().unwrap())),
        _ => runtime().block_on(share(1_000)),
    }
}

/// Repeats what the index does for a payment: of a route that is known, or of 200 by turns.
fn count(mode: &str, times: usize) {
    let index = CatalogIndex::new(Arc::new(Nothing));
    let receipt = SettleResponse::settled("0x70997970C51812dc3A010C7d01b50e0d17dc79C8", "0xab", "eip155:84532");
    let claims: Vec<Claim> = match mode {
        "again" => vec![claim("https://api.example.com/weather")],
        _ => (0..200).map(|at| claim(&format!("https://api.example.com/weather/{at}"))).collect(),
    };
    for time in 0..times {
        let claim = &claims[time % claims.len()];
        // The queue's copy, the record, and the report to the seller.
        let (queued, receipt) = (claim.clone(), receipt.clone());
        let settled = SettledClaim::new(&queued, queued.resource.as_ref(), &receipt, UnixSeconds(1_795_923_767));
        index.on_settled(&settled).now_or_never().unwrap().unwrap();
        assert!(index.report(claim).is_some());
    }
}
