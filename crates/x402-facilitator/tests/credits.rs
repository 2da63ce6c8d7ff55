//! Credits that are counted off chain, over loopback. The answers have the shape of the doc comment of Nevermined's SDK.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy_primitives::{Address, U256, address};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use x402_devchain::{ACCOUNTS, DevChain, DevPlan, PLANS, TOKEN, signer};
use x402_erc4337::nvm::{DelegationLimits, Payer, Plans, ReadCredits as _};
use x402_erc4337::session::zerodev::{KernelAccount, KernelVersion};
use x402_facilitator::credits::HttpCredits;
use x402_facilitator::dev::served;
use x402_types::nvm::{self, PlanId, Requirements};
use x402_types::v2::ResourceInfo;
use x402_types::{AtomicAmount, ChainId, Fault, MakePayment as _, SigningContext, UnixSeconds};

use crate::support::process::{Facilitator, SESSION, configuration};
use crate::support::tls;

const HOLDER: Address = address!("505384192Ba6a4D4b50EAB846ee67db3b9A93359");
const ID: &str = "105906633592154016712415751065660953070604027297000423385655551747721326921578";

/// A service that answers every request with this, and keeps the paths.
#[derive(Clone)]
struct Books {
    says: Arc<Mutex<(StatusCode, String)>>,
    asked: Arc<Mutex<Vec<String>>>,
    url: String,
}

impl Books {
    async fn open() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let says = Arc::new(Mutex::new((StatusCode::OK, String::new())));
        let books = Self { says, asked: Arc::default(), url };
        let answer = async |State(books): State<Self>, uri: Uri| {
            books.asked.lock().unwrap().push(uri.to_string());
            books.says.lock().unwrap().clone()
        };
        let router = Router::new().fallback(answer).with_state(books.clone());
        tokio::spawn(axum::serve(listener, router).into_future());
        books
    }

    fn say(&self, status: u16, body: &str) {
        *self.says.lock().unwrap() = (StatusCode::from_u16(status).unwrap(), body.to_owned());
    }

    async fn credits(&self) -> Result<U256, Fault> {
        HttpCredits::new(&self.url).unwrap().credits(plan(), HOLDER).await
    }
}

fn plan() -> PlanId {
    ID.parse().unwrap()
}

/// The answer of the SDK's doc comment, with this as its balance.
fn answer(balance: &str) -> String {
    format!(
        r#"{{"planId":"{ID}","planType":"credits","holderAddress":"{HOLDER}",
            "creditsContract":"0xdd0240858fE744C3BF245DD377abBC04d1FDA443","balance":{balance},"isSubscriber":true}}"#
    )
}

#[tokio::test]
async fn a_balance_is_a_decimal_string_or_an_integer() {
    let books = Books::open().await;
    let most = U256::MAX.to_string();
    for (balance, credits) in [
        (r#""100""#, U256::from(100)),
        ("100", U256::from(100)),
        (r#""0""#, U256::ZERO),
        ("0", U256::ZERO),
        // No float comes between: 2^53 + 1, and the most there is.
        ("9007199254740993", U256::from(9_007_199_254_740_993_u64)),
        (&format!("\"{most}\""), U256::MAX),
        (&most, U256::MAX),
    ] {
        books.say(200, &answer(balance));
        assert_eq!(books.credits().await, Ok(credits), "{balance}");
    }
    // What the Python SDK reads beside it does not matter.
    books.say(200, r#"{"planName":"Plan","balance":7,"pricePerCredit":0.01,"batch":null}"#);
    assert_eq!(books.credits().await, Ok(U256::from(7)));
    let path = format!("/api/v1/protocol/plans/{ID}/balance/0x505384192Ba6a4D4b50EAB846ee67db3b9A93359");
    assert!(books.asked.lock().unwrap().iter().all(|asked| *asked == path));

    let below = HttpCredits::new(&format!("{}/nvm/", books.url)).unwrap();
    below.credits(plan(), HOLDER).await.unwrap();
    assert_eq!(*books.asked.lock().unwrap().last().unwrap(), format!("/nvm{path}"));
}

#[tokio::test]
async fn what_is_no_balance_is_unknown_and_never_nothing() {
    let books = Books::open().await;
    let too_much = "115792089237316195423570985008687907853269984665640564039457584007913129639936";
    for balance in [
        too_much,
        &format!("\"{too_much}\""),
        "-1",
        r#""-1""#,
        "1.0",
        r#""1.5""#,
        "1e3",
        r#""0x64""#,
        r#""007""#,
        r#""""#,
        r#"" 1""#,
        r#""1\u0030""#,
        "null",
        "true",
        "[1]",
        r#"{"balance":1}"#,
    ] {
        books.say(200, &answer(balance));
        assert!(books.credits().await.is_err(), "{balance}");
    }
    let good = answer("100");
    for (body, why) in [
        (String::new(), "nothing"),
        ("<html>".to_owned(), "another format"),
        ("{}".to_owned(), "no balance"),
        ("100".to_owned(), "no object"),
        (good[..good.len() - 1].to_owned(), "cut off"),
        (format!("{good}{good}"), "two answers"),
        (good.replace("\"isSubscriber\":true", "\"balance\":5"), "two balances"),
        (good.replace(ID, "42"), "another plan"),
        (good.replace("0x5053", "0x5054"), "another account"),
        (good.replace("true", &format!("\"{}\"", "x".repeat(20_000))), "too long"),
    ] {
        books.say(200, &body);
        assert!(books.credits().await.is_err(), "{why}");
    }
    // A readable balance under a status that says there is none.
    for status in [302, 400, 401, 403, 404, 429, 500, 503] {
        books.say(status, &answer("100"));
        let fault = books.credits().await.unwrap_err().to_string();
        assert!(fault.contains(&status.to_string()), "{fault}");
    }
    books.say(200, &good);
    assert_eq!(books.credits().await, Ok(U256::from(100)));
}

#[tokio::test]
async fn a_service_that_is_silent_or_away_is_unknown() {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let credits = HttpCredits::with_timeout(&url, Duration::from_millis(50)).unwrap();
    let fault = credits.credits(plan(), HOLDER).await.unwrap_err().to_string();
    assert!(!fault.contains("0x5053"), "{fault}");
    drop(silent);
    credits.credits(plan(), HOLDER).await.unwrap_err();
}

#[test]
fn an_address_is_plain() {
    HttpCredits::new("https://api.sandbox.nevermined.app").unwrap();
    for address in ["", "api.nevermined.app", "ftp://host", "https://user@host", "https://host?key=1", "https://host#a"]
    {
        let error = HttpCredits::new(address).unwrap_err().to_string();
        assert!(error.starts_with("network.nvm.credits"), "{address}: {error}");
    }
}

/// The setting decides who is asked: on chain the account has nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_facilitator_asks_the_service_that_it_is_told() {
    const URL: &str = "https://agent.example/tasks";
    tls();
    let books = Books::open().await;
    let chain = DevChain::new().unwrap();
    let (id, sold) = (U256::from(42), DevPlan::credits(ACCOUNTS[2].address, 1_000_000, 10));
    chain.register_plan(id, sold).unwrap();
    let node = chain.serve("127.0.0.1:0").await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let config = configuration(directory.path(), &directory.path().join("ledger.sqlite"));
    let mut text = std::fs::read_to_string(&config).unwrap();
    write!(
        text,
        r#"
            [network.nvm]
            session_signer = {{ env = "TEST_SESSION" }}
            undeployed = true
            credits = "{}"
            [[network.nvm.plan]]
            id = "42"
            template = "{PLANS}"
            credits = "{PLANS}"
            token = "{TOKEN}"
            spender = "{PLANS}"
            price = "1000000"
            credits_per_order = "10"
            maximum = "10"
        "#,
        books.url
    )
    .unwrap();
    std::fs::write(&config, text).unwrap();
    let facilitator = Facilitator::start(&config, &node.url);

    // A payment without an order key.
    let account = KernelAccount::new(KernelVersion::V031, ACCOUNTS[1].address, U256::ZERO);
    let session = ACCOUNTS[SESSION].address;
    let plans = Plans::new([served(id, sold)]).unwrap();
    let payer = Payer::new(signer(1).unwrap(), account, plans, vec![session])
        .with_allowance(DelegationLimits { purchases: 0, ..DelegationLimits::default() });
    let network = ChainId::eip155(chain.chain_id());
    let entry = Requirements::new(network, id.into()).with_session_signer(&session.to_string()).with_verb("POST");
    let context = SigningContext { now: UnixSeconds(chain.time()), entropy: [1; 32], url: URL, method: "POST" };
    let made = payer.make_payment(&entry.to_terms(AtomicAmount::ZERO).unwrap(), &context).await.unwrap();
    let payment = nvm::v03::PaymentPayload::new(Some(ResourceInfo::of(URL)), entry.clone(), made.payload);
    let body = json!({
        "paymentRequired": {
            "x402Version": 2, "error": "Payment required", "resource": { "url": URL }, "accepts": [entry], "extensions": {},
        },
        "paymentPayload": payment,
        "maxAmount": "3",
    });
    let verify = async || {
        let request = reqwest::Client::new().post(format!("{}/verify", facilitator.url)).json(&body);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap_or_default())
    };

    books.say(200, r#"{"balance":"2"}"#);
    let (status, verdict) = verify().await;
    assert_eq!((status, &verdict["isValid"]), (200, &json!(false)), "{verdict}");
    assert_eq!(verdict["error"]["code"], "INSUFFICIENT_BALANCE");
    assert_eq!(verdict["error"]["details"]["currentBalance"], "2");
    let path = format!("/api/v1/protocol/plans/42/balance/{}", account.address());
    assert_eq!(books.asked.lock().unwrap().last(), Some(&path));
    // Unknown is not short.
    books.say(500, "{}");
    let (status, verdict) = verify().await;
    assert!(status >= 500 && verdict["error"]["code"] != "INSUFFICIENT_BALANCE", "{status} {verdict}");
}
