//! SIGKILL between order and redemption, at random points: one order a purchase, and the redemption is completed after
//! the restart.
//!
//! The process that is killed is the real one; its ledger is a SQLite file or a PostgreSQL database, and its chain answers
//! JSON-RPC over HTTP.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

#[path = "crash/store.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod store;
mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use alloy_primitives::U256;
use serde_json::json;
use x402_devchain::{DevChain, Failure, When};

use crate::store::Store;
use crate::support::plan::{CREDITS, PLAN, body, orders, redemptions, settle, subscriber, with_plan};
use crate::support::process::{Facilitator, configuration};
use crate::support::tls;

/// Kills.
const TIMES: u8 = 50;

/// Kills the process so often; each time another one takes up what it left.
async fn killed_between_order_and_redemption(store: Store, times: u8) {
    tls();
    let directory = tempfile::tempdir().unwrap();
    let chain = DevChain::new().unwrap();
    let (payer, account) = subscriber(&chain, u64::from(times));
    let node = chain.serve("127.0.0.1:0").await.unwrap();
    let config = configuration(directory.path(), store.name());
    with_plan(&config);

    let mut random = 0x2026_1121_u64;
    let mut receipts = BTreeSet::new();
    for turn in 1..=times {
        // A little distance, so that the points lie apart.
        chain.rpc_delay(Duration::from_millis(3));
        let (request, id) = (body(&payer, &chain, turn).await, format!("request-{turn}"));
        let mut facilitator = Facilitator::start(&config, &node.url);
        let (url, sent, name) = (facilitator.url.clone(), request.clone(), id.clone());
        // Every second time the redemption cannot be tried, so that the kill falls before it for certain: that is
        // arranged before the order is in a block.
        let held = turn % 2 == 0;
        chain.set_automine(!held);
        let before = chain.calls().of("eth_sendRawTransaction");
        let first = tokio::spawn(async move { settle(&url, &sent, &name).await });
        if held {
            while chain.calls().of("eth_sendRawTransaction") == before && !first.is_finished() {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
            chain.fail_calls("eth_simulateV1", u32::MAX, When::Before, Failure::Lost);
            chain.set_automine(true);
        }
        while orders(&chain) < usize::from(turn) && !first.is_finished() {
            chain.mine(u64::from(held));
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        tokio::time::sleep(Duration::from_micros((random >> 33) % 80_000)).await;
        facilitator.kill();
        // The lease of the one that was killed runs out: the clock of the database goes on, and nobody waits for it.
        store.lapse(facilitator.child.id()).await;
        let answered = first.await.unwrap();
        let said = format!("{answered:?}");
        let answered = answered.ok().filter(|(_, answer)| answer["success"] == true);
        assert_eq!(orders(&chain), usize::from(turn), "{turn}: {said}");
        if held {
            assert_eq!((&answered, redemptions(&chain).await.len()), (&None, usize::from(turn) - 1), "{turn}");
        }
        chain.clear_faults();

        let mut facilitator = Facilitator::start(&config, &node.url);
        let (status, after) = settle(&facilitator.url, &request, &id).await.unwrap();
        assert_eq!((status, &after["success"]), (200, &json!(true)), "{turn}: {after}");
        assert_eq!(after["creditsRedeemed"], json!(CREDITS.to_string()), "{turn}");
        if let Some((_, answer)) = answered {
            assert_eq!(answer["transaction"], after["transaction"], "{turn}: the same receipt");
        }
        assert!(receipts.insert(after["transaction"].as_str().unwrap().to_owned()), "{turn}: a receipt of its own");
        assert_eq!(orders(&chain), usize::from(turn), "{turn}: one order a purchase");
        assert_eq!(chain.credits_of(account, U256::from(PLAN)), Ok(U256::ZERO), "{turn}");
        facilitator.kill();
        store.lapse(facilitator.child.id()).await;
    }
    let redeemed = redemptions(&chain).await;
    assert_eq!(redeemed.len(), usize::from(times), "one redemption a purchase");
    assert!(
        redeemed.iter().all(|(transaction, value)| receipts.contains(transaction) && *value == U256::from(CREDITS))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_order_and_redemption_it_orders_once_and_redeems() {
    let directory = tempfile::tempdir().unwrap();
    killed_between_order_and_redemption(Store::sqlite(directory.path()), TIMES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgresql_it_orders_once_and_redeems_as_well() {
    killed_between_order_and_redemption(Store::postgres().await, TIMES).await;
}
