//! SIGKILL between order and redemption, at random points: one order a purchase, and the redemption is completed after
//! the restart.
//!
//! The process that is killed is the real one; its ledger is a file, and its chain answers JSON-RPC over HTTP.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use alloy_primitives::{Address, U256};
use alloy_provider::Provider;
use alloy_rpc_types_eth::Filter;
use alloy_sol_types::SolEvent;
use serde_json::{Value, json};
use x402_devchain::{ACCOUNTS, DevChain, DevPlan, Failure, PLANS, Plans as Contract, TOKEN, When, signer};
use x402_erc4337::nvm::{Payer, Plans};
use x402_erc4337::session::zerodev::{KernelAccount, KernelVersion};
use x402_facilitator::dev::served;
use x402_types::nvm::{self, Requirements};
use x402_types::v2::ResourceInfo;
use x402_types::{AtomicAmount, ChainId, MakePayment, SigningContext, UnixSeconds};

use crate::support::process::{Facilitator, SESSION, configuration};
use crate::support::tls;

/// Kills.
const TIMES: u8 = 50;
const PLAN: u64 = 42;
const PRICE: u64 = 1_000_000;
/// What an order brings and a request costs, so that every request orders.
const CREDITS: u64 = 10;
const OWNER: usize = 1;
const SELLER: usize = 2;
const URL: &str = "https://agent.example/tasks";

fn entry(network: ChainId) -> Requirements {
    let session = ACCOUNTS[SESSION].address.to_string();
    Requirements::new(network, U256::from(PLAN).into()).with_session_signer(&session).with_verb("POST")
}

/// The body of `/settle`, for a fresh payment of the account.
async fn body(payer: &impl MakePayment, chain: &DevChain, nonce: u8) -> Value {
    let network = ChainId::eip155(chain.chain_id());
    let terms = entry(network).to_terms(AtomicAmount::ZERO).unwrap();
    let context = SigningContext { now: UnixSeconds(chain.time()), entropy: [nonce; 32], url: URL, method: "POST" };
    let made = payer.make_payment(&terms, &context).await.unwrap();
    let payment = nvm::v03::PaymentPayload::new(Some(ResourceInfo::of(URL)), entry(network), made.payload);
    json!({
        "paymentRequired": {
            "x402Version": 2, "error": "Payment required", "resource": { "url": URL },
            "accepts": [entry(network)], "extensions": {},
        },
        "paymentPayload": payment,
        "maxAmount": CREDITS.to_string(),
    })
}

async fn settle(url: &str, body: &Value, id: &str) -> reqwest::Result<(u16, Value)> {
    let request = reqwest::Client::new().post(format!("{url}/settle")).json(body).header("idempotency-key", id);
    let response = request.send().await?;
    let status = response.status().as_u16();
    Ok((status, response.json().await.unwrap_or_default()))
}

/// Orders that were paid.
fn orders(chain: &DevChain) -> usize {
    chain.transfers().iter().filter(|transfer| transfer.to == ACCOUNTS[SELLER].address).count()
}

/// What was redeemed, by the transactions.
async fn redemptions(chain: &DevChain) -> Vec<(String, U256)> {
    let filter = Filter::new().address(PLANS).event_signature(Contract::TransferSingle::SIGNATURE_HASH).from_block(0);
    let logs = chain.provider().get_logs(&filter).await.unwrap();
    let burns = logs.iter().filter_map(|log| {
        let event = Contract::TransferSingle::decode_log(&log.inner).unwrap();
        (event.to == Address::ZERO).then(|| (log.transaction_hash.unwrap().to_string(), event.value))
    });
    burns.collect()
}

/// The plan, as the facilitator's configuration has it.
fn with_plan(config: &Path) {
    let mut text = std::fs::read_to_string(config).unwrap();
    write!(
        text,
        r#"
            [network.nvm]
            session_signer = {{ env = "TEST_SESSION" }}
            undeployed = true
            [[network.nvm.plan]]
            id = "{PLAN}"
            template = "{PLANS}"
            credits = "{PLANS}"
            token = "{TOKEN}"
            spender = "{PLANS}"
            price = "{PRICE}"
            credits_per_order = "{CREDITS}"
            maximum = "{CREDITS}"
        "#
    )
    .unwrap();
    std::fs::write(config, text).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_order_and_redemption_it_orders_once_and_redeems() {
    tls();
    let directory = tempfile::tempdir().unwrap();
    let ledger = directory.path().join("ledger.sqlite");
    let chain = DevChain::new().unwrap();
    let plan = DevPlan::credits(ACCOUNTS[SELLER].address, PRICE, CREDITS);
    chain.register_plan(U256::from(PLAN), plan).unwrap();
    let account = KernelAccount::new(KernelVersion::V031, ACCOUNTS[OWNER].address, U256::ZERO);
    chain.set_balance_of(account.address(), U256::from(u64::from(TIMES) * PRICE));
    let plans = Plans::new([served(U256::from(PLAN), plan)]).unwrap();
    let payer = Payer::new(signer(OWNER).unwrap(), account, plans, vec![ACCOUNTS[SESSION].address]);
    let node = chain.serve("127.0.0.1:0").await.unwrap();
    let config = configuration(directory.path(), &ledger);
    with_plan(&config);

    let mut random = 0x2026_1121_u64;
    let mut receipts = BTreeSet::new();
    for turn in 1..=TIMES {
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
        let answered = first.await.unwrap();
        let said = format!("{answered:?}");
        let answered = answered.ok().filter(|(_, answer)| answer["success"] == true);
        assert_eq!(orders(&chain), usize::from(turn), "{turn}: {said}");
        if held {
            assert_eq!((&answered, redemptions(&chain).await.len()), (&None, usize::from(turn) - 1), "{turn}");
        }
        chain.clear_faults();

        let facilitator = Facilitator::start(&config, &node.url);
        let (status, after) = settle(&facilitator.url, &request, &id).await.unwrap();
        assert_eq!((status, &after["success"]), (200, &json!(true)), "{turn}: {after}");
        assert_eq!(after["creditsRedeemed"], json!(CREDITS.to_string()), "{turn}");
        if let Some((_, answer)) = answered {
            assert_eq!(answer["transaction"], after["transaction"], "{turn}: the same receipt");
        }
        assert!(receipts.insert(after["transaction"].as_str().unwrap().to_owned()), "{turn}: a receipt of its own");
        assert_eq!(orders(&chain), usize::from(turn), "{turn}: one order a purchase");
        assert_eq!(chain.credits_of(account.address(), U256::from(PLAN)), Ok(U256::ZERO), "{turn}");
    }
    let redeemed = redemptions(&chain).await;
    assert_eq!(redeemed.len(), usize::from(TIMES), "one redemption a purchase");
    assert!(
        redeemed.iter().all(|(transaction, value)| receipts.contains(transaction) && *value == U256::from(CREDITS))
    );
}
