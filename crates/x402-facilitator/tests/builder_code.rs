//! Builder codes at the end of the calls that settle payments, alone, by Permit2 and in batches.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use alloy_network::TransactionBuilder;
use alloy_primitives::{Bytes, U256, hex};
use alloy_provider::Provider;
use alloy_rpc_types_eth::TransactionRequest;
use alloy_sol_types::SolCall;
use serde_json::{Value, json};
use x402_devchain::{ACCOUNTS, DevChain, DevPlan, MiningMode, TOKEN, Token, signer};
use x402_erc4337::nvm::{DelegationLimits, NvmPolicy, Payer as PlanPayer, Plans};
use x402_erc4337::session::zerodev::{KernelAccount, KernelVersion};
use x402_evm::batching::{Batching, calls_of_batch};
use x402_evm::permit2::{ByPermit2, PERMIT2, Payer as PermitPayer};
use x402_evm::rail::Fees;
use x402_extensions::builder_code::{BuilderCodes, FacilitatorCodes};
use x402_facilitator::config::Config;
use x402_facilitator::dev::{SESSION_SIGNER, served};
use x402_facilitator::engine::Patience;
use x402_facilitator::mechanisms::{Builder, Evm, Nvm};
use x402_facilitator::process::owner;
use x402_facilitator_core::MemoryLedger;
use x402_types::nvm::{self, Requirements};
use x402_types::v2::ResourceInfo;
use x402_types::{AtomicAmount, ChainId, Claim, MakePayment, SigningContext, UnixSeconds};

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

/// Both proxies of Permit2 are called with the suffix.
#[tokio::test(flavor = "multi_thread")]
async fn calls_of_permit2_s_proxies_end_with_the_suffix_of_the_sdk() {
    let chain = DevChain::builder().block_time(MiningMode::PerTransaction).build().unwrap();
    let data = Token::approveCall { spender: PERMIT2, value: U256::MAX }.abi_encode();
    let approval = TransactionRequest::default().with_to(TOKEN).with_input(data);
    let wallet = chain.wallet(signer(1).unwrap());
    assert!(wallet.send_transaction(approval).await.unwrap().get_receipt().await.unwrap().status());
    let (engine, heads) = builder(&chain).with_evm(evm(&chain)).unwrap().build().unwrap();
    let (heads, running) = (heads.watch(&engine), engine.start());
    let price = "$0.001".parse().unwrap();
    let (payee, facilitator) = (ACCOUNTS[3].address, ACCOUNTS[0].address);
    let exact = ByPermit2::default().exact(network(), payee, price).unwrap().terms;
    let upto = ByPermit2::default().upto(network(), payee, price, facilitator).unwrap().terms;
    for (terms, entropy) in [(exact, 7), (upto, 8)] {
        let context = SigningContext {
            now: UnixSeconds(chain.time()),
            entropy: [entropy; 32],
            url: "https://shop.example/",
            method: "GET",
        };
        let made = PermitPayer::new(signer(1).unwrap()).make_payment(&terms, &context).await.unwrap();
        let echo = json!({ "builder-code": { "info": {"a": "bc_myapp", "s": ["svc_one"]} } });
        let claim = Claim::of_payload(terms, made.payload).with_extensions(serde_json::from_value(echo).unwrap());
        let answer = engine.settle_claim(&claim).await.unwrap();
        assert!(answer.success, "{answer:?}");
        let calldata = input(&chain, &answer.transaction).await;
        assert!(calldata.ends_with(&recorded()), "{}", hex::encode(&calldata));
    }
    assert_eq!(chain.transfers().len(), 2);
    running.finish(Duration::from_secs(5)).await;
    drop(heads);
}

/// The calls of the entry point that order a plan and redeem its credits have the suffix, each; they settle as without.
#[tokio::test(flavor = "multi_thread")]
async fn user_operations_of_plans_end_with_the_suffix_of_the_sdk() {
    x402_http::service::install_tls();
    let (id, price) = (U256::from(42), 1_000_000);
    let chain = DevChain::new().unwrap();
    let plan = DevPlan::credits(ACCOUNTS[2].address, price, 10);
    chain.register_plan(id, plan).unwrap();
    let account = KernelAccount::new(KernelVersion::V031, ACCOUNTS[1].address, U256::ZERO);
    chain.set_balance_of(account.address(), U256::from(10 * price));
    let network = ChainId::eip155(chain.chain_id());
    let plans = || Plans::new([served(id, plan)]).unwrap();
    let nvm = Nvm {
        network,
        session_signer: x402_devchain::key(SESSION_SIGNER).unwrap(),
        plans: plans(),
        credits: None,
        policy: NvmPolicy::default().with_kernel_factories(),
    };
    let evm = Evm::new(chain.client(), network, 0, vec![x402_devchain::key(0).unwrap()]);
    let patience = Patience::waiting(Duration::from_secs(3_600));
    let codes = FacilitatorCodes::new().with_wallet("fac_w".parse().unwrap());
    let builder = Builder::new(owner(), Arc::new(MemoryLedger::new(now)))
        .with_call_suffix(move |claim| codes.suffix(claim))
        .with_engine(move |engine| engine.with_patience(patience))
        .with_evm(evm)
        .unwrap()
        .with_nvm(nvm)
        .unwrap();
    let (engine, heads) = builder.build().unwrap();
    let (heads, running) = (heads.watch(&engine), engine.start());
    let entry = Requirements::new(network, id.into())
        .with_session_signer(&ACCOUNTS[SESSION_SIGNER].address.to_string())
        .with_verb("POST");
    for nonce in [1, 2] {
        let terms = |credits: u64| entry.to_terms(AtomicAmount::from(credits)).unwrap();
        let signers = vec![ACCOUNTS[SESSION_SIGNER].address];
        let payer = PlanPayer::new(signer(1).unwrap(), account, plans(), signers)
            .with_allowance(DelegationLimits { purchases: 1, ..DelegationLimits::default() });
        let context =
            SigningContext { now: now(), entropy: [nonce; 32], url: "https://agent.example/tasks", method: "POST" };
        let made = payer.make_payment(&terms(0), &context).await.unwrap();
        let echo = json!({ "builder-code": { "info": {"a": "bc_myapp", "s": ["svc_one"]} } });
        let claim = Claim::of_payload(terms(3), made.payload)
            .with_resource(ResourceInfo::of("https://agent.example/tasks"))
            .with_extensions(serde_json::from_value(echo).unwrap());
        let answer = engine.settle_claim(&claim).await.unwrap();
        assert!(answer.success, "{answer:?}");
        let receipt = nvm::Receipt::from_response(&answer).unwrap();
        assert_eq!(receipt.order_tx.is_some(), nonce == 1, "the first one orders");
        for transaction in receipt.order_tx.into_iter().chain([receipt.transaction]) {
            let calldata = input(&chain, &transaction).await;
            assert!(calldata.ends_with(&recorded()), "{transaction}: {}", hex::encode(&calldata));
        }
    }
    assert_eq!(chain.credits_of(account.address(), id).unwrap(), U256::from(4));
    running.finish(Duration::from_secs(5)).await;
    drop(heads);
}

fn now() -> UnixSeconds {
    UnixSeconds(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs())
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
