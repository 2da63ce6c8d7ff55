//! Builder codes at the end of the calls that settle payments, alone, by Permit2 and in batches.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Bytes, hex};
use serde_json::{Value, json};
use x402_devchain::{DevChain, MiningMode};
use x402_evm::batching::{Batching, calls_of_batch};
use x402_evm::rail::Fees;
use x402_extensions::builder_code::{BuilderCodes, FacilitatorCodes};
use x402_facilitator::config::Config;
use x402_facilitator::mechanisms::{Builder, Evm};
use x402_facilitator::process::owner;
use x402_facilitator_core::MemoryLedger;
use x402_types::{ChainId, Claim, UnixSeconds};

use crate::support::payment;

fn network() -> ChainId {
    ChainId::eip155(84_532)
}

fn builder(chain: &DevChain) -> Builder {
    let clock = chain.clone();
    let codes = FacilitatorCodes::new().with_wallet("fac_w".parse().unwrap());
    Builder::new(owner(), Arc::new(MemoryLedger::new(move || UnixSeconds(clock.time()))))
        .with_call_suffix(move |claim| codes.suffix(claim))
}

fn evm(chain: &DevChain) -> Evm {
    Evm::new(chain.client(), network(), 0, vec![x402_devchain::key(0).unwrap()])
}

/// A payment that echoes these codes.
async fn claim(chain: &DevChain, payer: usize, info: &Value) -> Claim {
    let (claim, _) = payment(payer, chain.time()).await;
    claim.with_extensions(serde_json::from_value(json!({ "builder-code": { "info": info } })).unwrap())
}

/// The calldata of a transaction, by the chain's node.
async fn input(chain: &DevChain, transaction: &str) -> Vec<u8> {
    let found: Value = chain.client().request("eth_getTransactionByHash", [transaction]).await.unwrap();
    hex::decode(found["input"].as_str().unwrap()).unwrap()
}

/// The suffix of the published SDK's facilitator for the same codes: `x402-testkit/vectors/extensions.md`.
fn recorded() -> Vec<u8> {
    let vectors: Value = serde_json::from_str(&x402_testkit::vector("extensions.json").unwrap()).unwrap();
    let input = vectors["builder-code.settleTransactions"][0]["transaction"]["input"].as_str().unwrap();
    let input = hex::decode(input).unwrap();
    // Selector and nine words of the call come before it.
    input[4 + 9 * 32..].to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_ends_with_the_suffix_of_the_sdk() {
    let chain = DevChain::builder().block_time(MiningMode::PerTransaction).build().unwrap();
    let (engine, heads) = builder(&chain).with_evm(evm(&chain)).unwrap().build().unwrap();
    let (heads, running) = (heads.watch(&engine), engine.start());
    let info = json!({"a": "bc_myapp", "s": ["svc_one"]});
    let answer = engine.settle_claim(&claim(&chain, 1, &info).await).await.unwrap();
    assert!(answer.success, "{answer:?}");
    let calldata = input(&chain, &answer.transaction).await;
    assert!(calldata.ends_with(&recorded()), "{}", hex::encode(&calldata));
    assert_eq!(calldata.len(), 4 + 9 * 32 + recorded().len());
    assert_eq!(chain.transfers().len(), 1);
    // Codes that are none are left out, and the facilitator's own stays.
    let answer = engine.settle_claim(&claim(&chain, 1, &json!({"a": "BAD!", "s": [7, "NOT OK"]})).await).await.unwrap();
    let codes = BuilderCodes::of_calldata(&input(&chain, &answer.transaction).await).unwrap();
    assert_eq!((codes.app, codes.services, codes.wallet.unwrap().as_str()), (None, Vec::new(), "fac_w"));
    running.finish(Duration::from_secs(5)).await;
    drop(heads);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_a_batch_has_its_own_suffix() {
    let chain = DevChain::builder().block_time(MiningMode::PerTransaction).build().unwrap();
    let batching = Batching::default().with_most(4);
    let builder = builder(&chain).with_batching(network(), batching, Duration::from_secs(3_600));
    let (engine, heads) = builder.with_evm(evm(&chain)).unwrap().build().unwrap();
    heads.check().await.unwrap();
    let (heads, running) = (heads.watch(&engine), engine.start());
    let mut settles = Vec::new();
    for number in 0..4 {
        let claim = claim(&chain, 1 + number, &json!({"a": format!("app_{number}")})).await;
        let engine = Arc::clone(&engine);
        settles.push(tokio::spawn(async move { engine.settle_claim(&claim).await.unwrap() }));
    }
    let mut transactions = std::collections::BTreeSet::new();
    for settle in settles {
        let answer = settle.await.unwrap();
        assert!(answer.success, "{answer:?}");
        transactions.insert(answer.transaction);
    }
    let [transaction] = &transactions.into_iter().collect::<Vec<_>>()[..] else { panic!("one transaction") };
    let calls: Vec<(_, Bytes)> = calls_of_batch(&input(&chain, transaction).await).unwrap();
    let apps = calls.iter().map(|(_, data)| BuilderCodes::of_calldata(data).unwrap().app.unwrap().to_string());
    let mut apps: Vec<_> = apps.collect();
    apps.sort();
    assert_eq!(apps, ["app_0", "app_1", "app_2", "app_3"]);
    assert_eq!(chain.transfers().len(), 4);
    running.finish(Duration::from_secs(5)).await;
    drop(heads);
}

/// A transaction that may have no more gas than a transfer needs is made, without the codes.
#[tokio::test(flavor = "multi_thread")]
async fn a_suffix_is_never_in_the_way_of_a_payment() {
    let chain = DevChain::builder().block_time(MiningMode::PerTransaction).build().unwrap();
    let evm = Evm { fees: Fees::default().with_gas_cap(x402_evm::exact::TRANSFER_GAS), ..evm(&chain) };
    let (engine, heads) = builder(&chain).with_evm(evm).unwrap().build().unwrap();
    let (heads, running) = (heads.watch(&engine), engine.start());
    let claim = claim(&chain, 1, &json!({"a": "bc_myapp"})).await;
    engine.check(&claim).await.unwrap();
    let answer = engine.settle_claim(&claim).await.unwrap();
    assert!(answer.success, "{answer:?}");
    assert_eq!(BuilderCodes::of_calldata(&input(&chain, &answer.transaction).await), None);
    running.finish(Duration::from_secs(5)).await;
    drop(heads);
}

#[test]
fn codes_of_the_configuration_are_checked() {
    let read = |section: &str| {
        let text = format!(
            "ledger = \"x.sqlite\"\n{section}\n[[network]]\nid = \"eip155:84532\"\nrpc = {{ env = \"RPC\" }}\n\
             finality = 2\nmax_fee_per_gas = 1\nsigners = [{{ file = \"key\" }}]"
        );
        Config::parse(&text).map(|config| config.builder_code)
    };
    assert!(read("").unwrap().is_none());
    let codes = read("[builder_code]\nwallet = \"fac_w\"\nservice = \"fac_s\"").unwrap().unwrap().codes().unwrap();
    assert_eq!(codes.map(|code| code.unwrap().to_string()), ["fac_w", "fac_s"]);
    for (section, named) in [
        ("[builder_code]\nwallet = \"FAC\"", "builder_code.wallet"),
        ("[builder_code]\nservice = \"\"", "builder_code.service"),
        ("[builder_code]\napp = \"a\"", "app"),
    ] {
        let error = read(section).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
}
