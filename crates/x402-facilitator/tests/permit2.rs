//! Payments by Permit2 through the routes of the process, from a buyer's request to the chain: `exact` and `upto`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alloy_network::TransactionBuilder;
use alloy_primitives::{Address, U256};
use alloy_provider::Provider;
use alloy_rpc_types_eth::TransactionRequest;
use alloy_sol_types::SolCall;
use axum::Router;
use axum::extract::Extension;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use x402_codec::{Limits, header};
use x402_devchain::{ACCOUNTS, DevChain, MiningMode, TOKEN, TOKENS_EACH, Token, signer};
use x402_evm::exact::TRANSFER_GAS;
use x402_evm::permit2::{ByPermit2, PERMIT2, Payer as PermitPayer};
use x402_evm::rail::Fees;
use x402_facilitator::dev::DevFacilitator;
use x402_facilitator::engine::Patience;
use x402_facilitator::mechanisms::{Builder, Evm};
use x402_facilitator::process::owner;
use x402_facilitator::routes::Routes;
use x402_facilitator::server::Serving;
use x402_facilitator_core::MemoryLedger;
use x402_http::client::{MemoryBudget, PayClient, Payer, Receipt};
use x402_http::remote::RemoteFacilitator;
use x402_http::server::{Incident, Paid, Seller, Used};
use x402_types::{ChainId, Claim, MakePayment, Offer, SigningContext, UnixSeconds};

use crate::support::{SELLER, body, send, tls};

const PAYER: usize = 1;

fn network() -> ChainId {
    ChainId::eip155(84_532)
}

async fn approve(chain: &DevChain, owner: usize, value: U256) {
    let data = Token::approveCall { spender: PERMIT2, value }.abi_encode();
    let tx = TransactionRequest::default().with_to(TOKEN).with_input(data);
    let receipt = chain.wallet(signer(owner).unwrap()).send_transaction(tx).await.unwrap().get_receipt().await.unwrap();
    assert!(receipt.status());
}

async fn facilitator() -> DevFacilitator {
    tls();
    let chain = DevChain::builder().block_time(MiningMode::PerTransaction).build().unwrap();
    let listen = (Ipv4Addr::LOCALHOST, 0).into();
    DevFacilitator::on(chain, listen, Duration::from_secs(600), |routes| routes).await.unwrap()
}

/// A shop with `GET /report`, whose handler uses a tenth of what was authorized, or all of it.
async fn shop(facilitator: &DevFacilitator, offer: Offer, tenth: bool) -> String {
    let remote = Arc::new(RemoteFacilitator::new(facilitator.url()).unwrap());
    let seller = Seller::new("https://shop.example", remote).unwrap();
    let report = async move |Extension(paid): Extension<Paid>| -> Response {
        let used = paid.amount.value() / U256::from(if tenth { 10 } else { 1 });
        let mut response = "the report".into_response();
        response.extensions_mut().insert(Used(used.into()));
        response
    };
    let app = Router::new().route("/report", get(report).layer(seller.charge([offer]).unwrap()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/report", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

fn paid(chain: &DevChain) -> U256 {
    chain.balance_of(ACCOUNTS[SELLER].address) - U256::from(TOKENS_EACH)
}

/// Checks that a buyer without an approval is told so by 412, and pays once Permit2 is approved.
#[tokio::test(flavor = "multi_thread")]
async fn a_buyer_pays_once_permit2_is_approved() {
    let facilitator = facilitator().await;
    let price = "$0.01".parse().unwrap();
    let offer = ByPermit2::default().exact(network(), ACCOUNTS[SELLER].address, price).unwrap();
    let url = shop(&facilitator, offer, false).await;
    let client = PayClient::new(Payer::new(PermitPayer::new(signer(PAYER).unwrap()))).unwrap();

    let refused = client.get(&url).await.unwrap();
    assert_eq!(refused.status().as_u16(), 412);
    assert_eq!(refused.headers()["cache-control"], "no-store");
    let required: Value = header::decode(refused.headers()["payment-required"].as_bytes(), &Limits::DEFAULT).unwrap();
    assert_eq!(required["error"], "permit2_allowance_required");
    assert_eq!(paid(facilitator.chain()), U256::ZERO);

    approve(facilitator.chain(), PAYER, U256::from(10_000)).await;
    let response = client.get(&url).await.unwrap();
    assert_eq!(response.status().as_u16(), 200);
    let receipt = response.extensions().get::<Receipt>().unwrap().to_string();
    assert!(receipt.starts_with("paid: transaction 0x"), "{receipt}");
    assert_eq!(response.text().await.unwrap(), "the report");
    assert_eq!(paid(facilitator.chain()), U256::from(10_000));
    // The approval was for one payment.
    assert_eq!(client.get(&url).await.unwrap().status().as_u16(), 412);
    facilitator.stop().await;
}

/// Checks `upto` from the offer to the budget: the maximum is reserved, and what was used is moved and kept.
#[tokio::test(flavor = "multi_thread")]
async fn a_buyer_pays_what_was_used_of_the_maximum() {
    let facilitator = facilitator().await;
    let supported: Value =
        reqwest::get(format!("{}/supported", facilitator.url())).await.unwrap().json().await.unwrap();
    let kinds = supported["kinds"].as_array().unwrap();
    let upto = kinds.iter().find(|kind| kind["scheme"] == "upto").unwrap();
    let account: Address = upto["extra"]["facilitatorAddress"].as_str().unwrap().parse().unwrap();
    assert_eq!(upto["facilitatorAddresses"], json!([account.to_string()]));

    let most = "$0.01".parse().unwrap();
    let offer = ByPermit2::default().upto(network(), ACCOUNTS[SELLER].address, most, account).unwrap();
    let url = shop(&facilitator, offer, true).await;
    approve(facilitator.chain(), PAYER, U256::MAX).await;
    let budget = Arc::new(MemoryBudget::default().with_daily("$0.011".parse().unwrap()));
    let payer = Payer::new(PermitPayer::new(signer(PAYER).unwrap())).with_budget(budget.clone());
    let client = PayClient::new(payer).unwrap();
    let host = url.trim_start_matches("http://").trim_end_matches("/report").to_owned();
    for times in 1..=2u64 {
        let response = client.get(&url).await.unwrap();
        assert_eq!(response.status().as_u16(), 200);
        assert_eq!(paid(facilitator.chain()), U256::from(1_000 * times));
        assert_eq!(budget.used(&host, network(), &TOKEN.to_string()).to_string(), (1_000 * times).to_string());
    }
    facilitator.stop().await;
}

/// Checks `Settlement-Overrides`: the handler's header decides on the amount, and leaves the server in no case.
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_names_the_amount_in_a_header_that_the_buyer_never_sees() {
    let facilitator = facilitator().await;
    approve(facilitator.chain(), PAYER, U256::MAX).await;
    let account = ACCOUNTS[0].address;
    let (most, pay_to) = ("$0.01".parse().unwrap(), ACCOUNTS[SELLER].address);
    let upto = ByPermit2::default().upto(network(), pay_to, most, account).unwrap();
    let exact = ByPermit2::default().exact(network(), pay_to, most).unwrap();
    let remote = Arc::new(RemoteFacilitator::new(facilitator.url()).unwrap());
    let incidents = Arc::new(AtomicU64::new(0));
    let counted = incidents.clone();
    let seller = Seller::new("https://shop.example", remote).unwrap();
    let seller = seller.with_incident_hook(move |_: &Incident<'_>| {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    let handler = async |headers: HeaderMap| {
        let status = if headers.contains_key("fail") { StatusCode::BAD_GATEWAY } else { StatusCode::OK };
        let mut response = (status, "the report").into_response();
        response.headers_mut().insert("settlement-overrides", headers["wanted"].clone());
        response
    };
    let app = Router::new()
        .route("/upto", get(handler).layer(seller.charge([upto]).unwrap()))
        .route("/exact", get(handler).layer(seller.charge([exact]).unwrap()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let client = PayClient::new(Payer::new(PermitPayer::new(signer(PAYER).unwrap()))).unwrap();
    let mut sum = 0;
    for (path, wanted, status, charged) in [
        ("/upto", r#"{"amount":"1234"}"#, 200, 1_234),
        ("/upto", r#"{"amount":"12.5%"}"#, 200, 1_250),
        ("/upto", r#"{"amount":"$0.005"}"#, 200, 5_000),
        ("/upto", r#"{"amount":"0"}"#, 200, 0),
        ("/upto", "{}", 200, 10_000),
        ("/exact", r#"{"amount":"100%"}"#, 200, 10_000),
        // Nothing is charged that the handler did not ask for.
        ("/upto", r#"{"amount":"10001"}"#, 500, 0),
        ("/upto", r#"{"amount":"33.333%"}"#, 500, 0),
        ("/upto", "no JSON", 500, 0),
        ("/exact", r#"{"amount":"50%"}"#, 500, 0),
    ] {
        let request = client.http().get(format!("{origin}{path}")).header("wanted", wanted).build().unwrap();
        let response = client.execute(request).await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{wanted}");
        assert!(!response.headers().contains_key("settlement-overrides"), "{wanted}");
        sum += charged;
        assert_eq!(paid(facilitator.chain()), U256::from(sum), "{wanted}");
    }
    assert_eq!(incidents.load(Ordering::SeqCst), 4);
    let failing = client.http().get(format!("{origin}/upto")).header("wanted", r#"{"amount":"1"}"#).header("fail", "1");
    let response = client.execute(failing.build().unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    assert!(!response.headers().contains_key("settlement-overrides"));
    assert_eq!(paid(facilitator.chain()), U256::from(sum));
    facilitator.stop().await;
}

/// Checks the routes themselves: verdicts, a settlement of nothing, and of more than was authorized.
#[tokio::test(flavor = "multi_thread")]
async fn the_routes_settle_nothing_and_never_more_than_the_maximum() {
    let facilitator = facilitator().await;
    approve(facilitator.chain(), PAYER, U256::MAX).await;
    let account = ACCOUNTS[0].address;
    let most = "$0.01".parse().unwrap();
    let terms = ByPermit2::default().upto(network(), ACCOUNTS[SELLER].address, most, account).unwrap().terms;
    let now = UnixSeconds(facilitator.chain().time());
    let context = SigningContext { now, entropy: [7; 32], url: "https://shop.example/", method: "GET" };
    let payload = PermitPayer::new(signer(PAYER).unwrap()).make_payment(&terms, &context).await.unwrap().payload;
    let settling = |amount: &str| {
        let mut body = body(&terms, &payload);
        body["paymentRequirements"]["amount"] = json!(amount);
        body.to_string()
    };
    let url = |path: &str| format!("{}/{path}", facilitator.url());
    let (status, verdict) = send(&url("verify"), settling("10000"), None).await;
    assert_eq!((status, &verdict["isValid"]), (200, &json!(true)), "{verdict}");
    for refused in ["-1", "12.5", "", "0x10", "1e3"] {
        let (status, _) = send(&url("settle"), settling(refused), None).await;
        assert_eq!(status, 400, "{refused}");
    }
    let (status, answer) = send(&url("settle"), settling("10001"), None).await;
    let exceeds = json!("invalid_upto_evm_payload_settlement_exceeds_amount");
    assert_eq!((status, &answer["errorReason"], &answer["success"]), (200, &exceeds, &json!(false)));
    let (status, answer) = send(&url("settle"), settling("0"), Some("a-request-of-nothing")).await;
    assert_eq!((status, &answer["success"], &answer["transaction"]), (200, &json!(true), &json!("")), "{answer}");
    assert_eq!(answer["amount"], json!("0"));
    // The same request has the same answer; another one cannot settle the permit again.
    let (_, again) = send(&url("settle"), settling("0"), Some("a-request-of-nothing")).await;
    assert_eq!(again["success"], json!(true), "{again}");
    let (status, other) = send(&url("settle"), settling("5"), Some("another-request-of-5")).await;
    assert_eq!((status, &other["errorReason"]), (409, &json!("duplicate_settlement")), "{other}");
    assert_eq!(paid(facilitator.chain()), U256::ZERO);
    facilitator.stop().await;
}

/// A transaction above `network.max_gas` is never signed, so that its payment is refused before anything is claimed. A
/// settlement of nothing needs no transaction.
#[tokio::test(flavor = "multi_thread")]
async fn a_permit_that_needs_more_gas_than_is_ever_spent_is_refused() {
    tls();
    let chain = DevChain::builder().block_time(MiningMode::PerTransaction).build().unwrap();
    approve(&chain, PAYER, U256::MAX).await;
    let clock = chain.clone();
    let ledger = Arc::new(MemoryLedger::new(move || UnixSeconds(clock.time())));
    let keys = x402_devchain::key(0).into_iter().collect();
    let fees = Fees::default().with_gas_cap(TRANSFER_GAS);
    let builder = Builder::new(owner(), ledger)
        .with_evm(Evm { fees, ..Evm::new(chain.client(), network(), 0, keys) })
        .unwrap()
        .with_engine(|engine| engine.with_patience(Patience::waiting(Duration::from_secs(60))));
    let (engine, heads) = builder.build().unwrap();
    let routes = Routes::new(Arc::clone(&engine)).into_router();
    let serving = Serving::start((Ipv4Addr::LOCALHOST, 0).into(), &engine, heads, routes).await.unwrap();
    let url = |path: &str| format!("http://{}/{path}", serving.address());

    let most = "$0.01".parse().unwrap();
    let exact = ByPermit2::default().exact(network(), ACCOUNTS[SELLER].address, most).unwrap().terms;
    let upto = ByPermit2::default().upto(network(), ACCOUNTS[SELLER].address, most, ACCOUNTS[0].address).unwrap().terms;
    let now = UnixSeconds(chain.time());
    for (terms, entropy) in [(&exact, [7; 32]), (&upto, [8; 32])] {
        let context = SigningContext { now, entropy, url: "https://shop.example/", method: "GET" };
        let payload = PermitPayer::new(signer(PAYER).unwrap()).make_payment(terms, &context).await.unwrap().payload;
        let mut body = body(terms, &payload);
        let (status, verdict) = send(&url("verify"), body.to_string(), None).await;
        assert_eq!((status, &verdict["invalidReason"]), (200, &json!("gas_above_limit")), "{verdict}");
        assert_eq!(verdict["payer"], json!(ACCOUNTS[PAYER].address.to_string()));
        let (status, answer) = send(&url("settle"), body.to_string(), None).await;
        assert_eq!((status, &answer["errorReason"]), (200, &json!("gas_above_limit")), "{answer}");
        assert_eq!(answer["success"], json!(false));
        if terms.scheme == upto.scheme {
            // That the same permit settles now shows that it was not claimed before.
            body["paymentRequirements"]["amount"] = json!("0");
            let (status, answer) = send(&url("settle"), body.to_string(), None).await;
            assert_eq!((status, &answer["success"]), (200, &json!(true)), "{answer}");
        }
    }
    assert_eq!(chain.nonce_of(ACCOUNTS[0].address), 0);
    serving.stop().await;
}

/// Checks 1,000 settlements of `upto` at once, by four accounts that the payers named, each for a sum between nothing
/// and its maximum: what arrives on the chain is what the meters said.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_settlements_over_four_lanes_add_up_to_the_meters() {
    const PAYMENTS: u64 = 1_000;
    let every = MiningMode::Interval(Duration::from_millis(500));
    let chain = DevChain::builder().block_time(every).build().unwrap();
    let lanes = [0usize, 6, 7, 8];
    let payers = [1usize, 2, 3, 4];
    for payer in payers {
        approve(&chain, payer, U256::MAX).await;
    }
    let clock = chain.clone();
    let ledger = Arc::new(MemoryLedger::new(move || UnixSeconds(clock.time())));
    let keys = lanes.iter().map(|lane| x402_devchain::key(*lane).unwrap()).collect();
    // However slow the machine is, each is waited for.
    let patience = Patience::waiting(Duration::from_secs(3_600));
    let builder = Builder::new(owner(), ledger).with_engine(move |engine| engine.with_patience(patience));
    let builder = builder.with_evm(Evm::new(chain.client(), network(), 0, keys)).unwrap();
    let (engine, heads) = builder.build().unwrap();
    heads.check().await.unwrap();
    let (heads, running) = (heads.watch(&engine), engine.start());

    // A fixed sequence of numbers, as random as the test needs.
    let state = AtomicU64::new(0x9e37_79b9_7f4a_7c15);
    let random = || {
        let next = |x: u64| x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let before = state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |x| Some(next(x))).unwrap();
        next(before) >> 33
    };
    let (mut settles, mut metered) = (Vec::new(), BTreeMap::<usize, U256>::new());
    for number in 0..PAYMENTS {
        let (lane, payer) =
            (lanes[usize::try_from(number % 4).unwrap()], payers[usize::try_from(number / 4 % 4).unwrap()]);
        let maximum = 1 + random() % 10_000;
        let used = if number % 50 == 0 { 0 } else { random() % (maximum + 1) };
        let price = x402_evm::exact::Price::Atomic(maximum.into());
        let offer = ByPermit2::default().upto(network(), ACCOUNTS[SELLER].address, price, ACCOUNTS[lane].address);
        let mut terms = offer.unwrap().terms;
        let mut entropy = [9u8; 32];
        entropy[..8].copy_from_slice(&number.to_be_bytes());
        let now = UnixSeconds(chain.time());
        let context = SigningContext { now, entropy, url: "https://shop.example/", method: "GET" };
        let payer_of = PermitPayer::new(signer(payer).unwrap());
        let payload = payer_of.make_payment(&terms, &context).await.unwrap().payload;
        terms.amount = used.into();
        *metered.entry(payer).or_default() += U256::from(used);
        let engine = Arc::clone(&engine);
        settles.push(tokio::spawn(async move {
            let claim = Claim::of_payload(terms, payload);
            (payer, used, engine.settle_claim(&claim).await.unwrap())
        }));
    }
    let mut told = Vec::new();
    for settle in settles {
        let (payer, used, answer) = settle.await.unwrap();
        assert!(answer.success, "{answer:?}");
        let amount = serde_json::to_value(&answer).unwrap()["amount"].clone();
        assert_eq!(amount, json!(used.to_string()));
        assert_eq!(answer.transaction.is_empty(), used == 0, "{answer:?}");
        if used > 0 {
            told.push((answer.transaction, ACCOUNTS[payer].address, U256::from(used)));
        }
    }
    let total: U256 = metered.values().copied().sum();
    assert_eq!(paid(&chain), total);
    for payer in payers {
        let left = U256::from(TOKENS_EACH) - metered[&payer];
        assert_eq!(chain.balance_of(ACCOUNTS[payer].address), left, "account {payer}");
    }
    // Each by itself, too: no two payments have changed their sums.
    let mut moved: Vec<_> =
        chain.transfers().iter().map(|it| (it.transaction.to_string(), it.from, it.value)).collect();
    moved.sort_unstable();
    told.sort_unstable();
    assert_eq!(moved, told);
    let sent = lanes.map(|lane| chain.nonce_of(ACCOUNTS[lane].address));
    let expected = told.len() as u64;
    assert!(sent.iter().all(|sent| *sent > 0) && sent.iter().sum::<u64>() == expected, "{sent:?} of {expected}");
    running.finish(Duration::from_secs(5)).await;
    drop(heads);
}
