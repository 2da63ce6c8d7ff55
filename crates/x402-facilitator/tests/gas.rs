//! Signers that cannot pay the gas: they are named, they take no new payments, and nothing is told of a transaction that
//! no node took.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

#[path = "../src/captured.rs"]
mod captured;
mod support;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::U256;
use axum::Router;
use serde_json::{Value, json};
use tower::ServiceExt;
use x402_devchain::{ACCOUNTS, DevChain, MiningMode};
use x402_facilitator::clock::now;
use x402_facilitator::engine::{Engine, Patience, Readiness, Shortage};
use x402_facilitator::heads::{HeadPollers, Polling};
use x402_facilitator::mechanisms::{Builder, Evm};
use x402_facilitator::process::owner;
use x402_facilitator::routes::Routes;
use x402_facilitator::server::Serving;
use x402_facilitator_core::{Ledger, MemoryLedger};
use x402_testkit::Log;
use x402_types::ChainId;

use crate::captured::capture;
use crate::support::{fresh, payment, send, start, tls};

const SHORT: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3_600);

async fn ready(url: &str) -> (u16, Value) {
    let response = reqwest::get(format!("{url}/ready")).await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap())
}

/// Waits until `/ready` has this status. There is no limit but the test runner's.
async fn until(url: &str, status: u16) -> Value {
    loop {
        let (is, answer) = ready(url).await;
        if is == status {
            return answer;
        }
        tokio::time::sleep(SHORT).await;
    }
}

fn lower(account: usize) -> String {
    ACCOUNTS[account].address.to_string().to_lowercase()
}

/// The kinds on Base Sepolia.
fn kinds() -> Value {
    json!([
        { "x402Version": 2, "scheme": "exact", "network": "eip155:84532" },
        { "x402Version": 1, "scheme": "exact", "network": "base-sepolia" },
        { "x402Version": 2, "scheme": "upto", "network": "eip155:84532" },
    ])
}

fn no_gas() -> Value {
    let signer = json!({ "network": "eip155:84532", "address": lower(0), "level": "error" });
    json!({ "status": "no gas", "kinds": kinds(), "signers": [signer] })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signer_without_gas_is_refused_work_and_named() {
    let facilitator = start(Duration::from_secs(600)).await;
    let chain = facilitator.chain();
    let signer = ACCOUNTS[0].address;
    let enough = chain.ether_of(signer);
    assert_eq!(ready(facilitator.url()).await, (200, json!({ "status": "ready" })));
    chain.set_ether_of(signer, U256::from(1_000_000));
    chain.mine(1);
    assert_eq!(until(facilitator.url(), 503).await, no_gas());

    let good = fresh(chain).await;
    for path in ["verify", "settle"] {
        let (status, answer) = send(&format!("{}/{path}", facilitator.url()), good.to_string(), None).await;
        assert_eq!(status, 503, "{answer}");
    }
    // A payment that is not good is told so all the same.
    let mut bad = good.clone();
    bad["paymentPayload"]["payload"]["authorization"]["validBefore"] = json!("1");
    let (status, answer) = send(&format!("{}/verify", facilitator.url()), bad.to_string(), None).await;
    assert_eq!((status, &answer["isValid"]), (200, &json!(false)), "{answer}");
    assert_eq!(chain.calls().of("eth_sendRawTransaction"), 0);

    chain.set_ether_of(signer, enough);
    chain.mine(1);
    until(facilitator.url(), 200).await;
    // Nothing was claimed of it: it is settled now as one that comes for the first time.
    let url = format!("{}/settle", facilitator.url());
    let settled = tokio::spawn(async move { send(&url, good.to_string(), None).await });
    while chain.calls().of("eth_sendRawTransaction") == 0 {
        tokio::time::sleep(SHORT).await;
    }
    chain.mine(1);
    let (status, answer) = settled.await.unwrap();
    assert_eq!((status, &answer["success"]), (200, &json!(true)), "{answer}");
    facilitator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_no_node_took_is_not_told_as_sent() {
    tls();
    // On a slow machine a poll that began earlier may still see the empty account, and nothing is begun: then once more.
    let (chain, url, good, serving) = loop {
        let chain = DevChain::builder().block_time(MiningMode::Manual).build().unwrap();
        // The balance is polled once, and then the node alone knows better.
        let polling = Polling { busy: HOUR, rest: HOUR };
        let ledger: Arc<dyn Ledger> = Arc::new(MemoryLedger::new(now));
        let builder = Builder::new(owner(), ledger).with_evm(Evm { polling, ..evm(&chain, &[0]) }).unwrap();
        let wait = Patience::waiting(Duration::from_secs(1));
        let (engine, heads) = builder.with_engine(move |engine| engine.with_patience(wait)).build().unwrap();
        let routes = Routes::new(Arc::clone(&engine)).into_router();
        let serving = Serving::start((Ipv4Addr::LOCALHOST, 0).into(), &engine, heads, routes).await.unwrap();
        let url = format!("http://{}", serving.address());
        // A call that the node has counted may be answered with a later balance.
        while engine.balances().next().is_none() || engine.health().await.unwrap().heads.is_empty() {
            tokio::time::sleep(SHORT).await;
        }
        chain.set_ether_of(ACCOUNTS[0].address, U256::ZERO);
        let good = fresh(&chain).await;
        let (status, answer) = send(&format!("{url}/settle"), good.to_string(), None).await;
        if status != 503 {
            assert_eq!((status, &answer["errorReason"]), (200, &json!("settlement_pending")), "{answer}");
            assert_eq!(answer["transaction"], "");
            break (chain, url, good, serving);
        }
        assert_eq!(chain.calls().of("eth_sendRawTransaction"), 0, "{answer}");
    };
    let (chain, settle, _serving) = (&chain, format!("{url}/settle"), serving);
    // However long the lane took to come to it, the node refused it.
    while chain.calls().of("eth_sendRawTransaction") == 0 {
        tokio::time::sleep(SHORT).await;
    }
    // The node's word counts, without a new block.
    assert_eq!(until(&url, 503).await, no_gas());
    let other = fresh(chain).await;
    let (status, answer) = send(&format!("{url}/verify"), other.to_string(), None).await;
    assert_eq!(status, 503, "{answer}");
    // Whoever asks for the first payment again is named no hash either.
    let (status, answer) = send(&settle, good.to_string(), None).await;
    assert_eq!((status, &answer["transaction"]), (200, &json!("")), "{answer}");
}

/// A chain's network, settled by these accounts.
fn evm(chain: &DevChain, signers: &[usize]) -> Evm {
    Evm::new(
        chain.client(),
        ChainId::eip155(chain.chain_id()),
        0,
        signers.iter().map(|account| x402_devchain::key(*account).unwrap()).collect(),
    )
}

/// The answer to `/ready`, and what is logged, once the networks of an engine were polled anew.
struct Observed {
    routes: Router,
    engine: Arc<Engine>,
    heads: HeadPollers,
    chains: Vec<DevChain>,
}

impl Observed {
    fn of(networks: &[(&DevChain, &[usize])]) -> Self {
        let ledger: Arc<dyn Ledger> = Arc::new(MemoryLedger::new(|| x402_types::UnixSeconds(1_700_000_000)));
        let mut builder = Builder::new(owner(), ledger);
        for (chain, signers) in networks {
            builder = builder.with_evm(evm(chain, signers)).unwrap();
        }
        let (engine, heads) = builder.build().unwrap();
        let routes = Routes::new(Arc::clone(&engine)).into_router();
        Self { routes, engine, heads, chains: networks.iter().map(|(chain, _)| (*chain).clone()).collect() }
    }

    async fn ready(&self) -> (u16, Value, String) {
        let log = Log::default();
        for chain in &self.chains {
            chain.mine(1);
        }
        // The first poll sees the new block, the second its balances.
        self.heads.check().await.unwrap();
        self.heads.check().await.unwrap();
        {
            let _here = capture(&log);
            self.engine.note_funds();
        }
        let request = http::Request::get("/ready").body(axum::body::Body::empty()).unwrap();
        let response = self.routes.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 65_536).await.unwrap();
        let text = log.text();
        (status, serde_json::from_slice(&body).unwrap(), text)
    }
}

/// The log has one line of this level that names this account, and no other about gas.
fn tells(log: &str, level: &str, account: usize) -> bool {
    let about: Vec<&str> = log.lines().filter(|line| line.contains("a signer has")).collect();
    matches!(about.as_slice(), [line] if line.contains(level) && line.contains(&lower(account)))
}

#[tokio::test]
async fn one_short_signer_of_two_is_named_and_the_facilitator_is_ready() {
    let chain = DevChain::new().unwrap();
    let observed = Observed::of(&[(&chain, &[8, 9])]);
    let enough = chain.ether_of(ACCOUNTS[8].address);
    let (status, answer, log) = observed.ready().await;
    assert_eq!((status, answer, log.contains("signer")), (200, json!({ "status": "ready" }), false), "{log}");

    chain.set_ether_of(ACCOUNTS[8].address, U256::from(7));
    let (status, answer, log) = observed.ready().await;
    let first = |level| json!({ "network": "eip155:84532", "address": lower(8), "level": level });
    assert_eq!((status, answer), (200, json!({ "status": "ready", "signers": [first("warning")] })));
    assert!(tells(&log, "WARN", 8) && log.contains("it has 7 wei"), "{log}");
    // It is logged once.
    assert_eq!(observed.ready().await.2, "");

    chain.set_ether_of(ACCOUNTS[9].address, U256::ZERO);
    let (status, answer, log) = observed.ready().await;
    let mut signers = vec![first("error"), json!({ "network": "eip155:84532", "address": lower(9), "level": "error" })];
    signers.sort_by_key(|signer| signer["address"].as_str().unwrap().to_owned());
    assert_eq!((status, answer), (503, json!({ "status": "no gas", "kinds": kinds(), "signers": signers })));
    assert_eq!(log.matches("ERROR").count(), 2, "{log}");

    chain.set_ether_of(ACCOUNTS[8].address, enough);
    let (status, answer, log) = observed.ready().await;
    let second = json!({ "network": "eip155:84532", "address": lower(9), "level": "warning" });
    assert_eq!((status, answer), (200, json!({ "status": "ready", "signers": [second] })));
    let levels = (log.matches("WARN").count(), log.matches("INFO").count(), log.matches("ERROR").count());
    assert_eq!(levels, (1, 1, 0), "{log}");
}

#[tokio::test]
async fn a_network_without_a_signer_is_not_ready_beside_one_that_is() {
    let base_sepolia = DevChain::new().unwrap();
    let base = DevChain::builder().chain_id(8453).build().unwrap();
    let observed = Observed::of(&[(&base_sepolia, &[8]), (&base, &[8, 9])]);
    // The same account on two networks has two balances.
    base.set_ether_of(ACCOUNTS[8].address, U256::ZERO);
    let (status, answer, log) = observed.ready().await;
    let signer = |level| json!({ "network": "eip155:8453", "address": lower(8), "level": level });
    assert_eq!((status, answer), (200, json!({ "status": "ready", "signers": [signer("warning")] })));
    assert!(tells(&log, "WARN", 8), "{log}");

    base.set_ether_of(ACCOUNTS[9].address, U256::ZERO);
    let (status, answer, _) = observed.ready().await;
    assert_eq!((status, &answer["status"]), (503, &json!("no gas")));
    let kinds = json!([
        { "x402Version": 2, "scheme": "exact", "network": "eip155:8453" },
        { "x402Version": 1, "scheme": "exact", "network": "base" },
        { "x402Version": 2, "scheme": "upto", "network": "eip155:8453" },
    ]);
    assert_eq!(answer["kinds"], kinds);
    let networks: Vec<_> = answer["signers"].as_array().unwrap().iter().map(|signer| &signer["network"]).collect();
    assert_eq!(networks, ["eip155:8453", "eip155:8453"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_signer_that_has_gas_takes_what_the_other_cannot() {
    tls();
    let chain = DevChain::new().unwrap();
    chain.set_ether_of(ACCOUNTS[8].address, U256::ZERO);
    let ledger: Arc<dyn Ledger> = Arc::new(MemoryLedger::new(|| x402_types::UnixSeconds(1_700_000_000)));
    let evm = evm(&chain, &[8, 9]);
    let builder = Builder::new(owner(), ledger)
        .with_evm(evm)
        .unwrap()
        .with_engine(move |engine| engine.with_patience(Patience::waiting(Duration::from_secs(600))));
    let (engine, heads) = builder.build().unwrap();
    // The start knows it before the first payment.
    heads.check().await.unwrap();
    let Readiness { short, stopped, .. } = engine.readiness();
    assert_eq!((short.len(), short[0].lane.account(), short[0].shortage), (1, &*lower(8), Shortage::Spared));
    assert_eq!(stopped, []);
    let said = short[0].fault.to_string();
    assert!(said.contains(&ACCOUNTS[8].address.to_string()) && said.contains("eip155:84532"), "{said}");

    let heads = heads.watch(&engine);
    let running = engine.start();
    for _ in 0..6 {
        let (claim, _) = payment(1, chain.time()).await;
        let answer = engine.settle_claim(&claim).await.unwrap();
        assert!(answer.success, "{answer:?}");
    }
    assert_eq!((chain.nonce_of(ACCOUNTS[8].address), chain.nonce_of(ACCOUNTS[9].address)), (0, 6));
    running.finish(Duration::from_secs(60)).await;
    drop(heads);
}
