//! The HTTP API: what is said of a facilitator, of bodies that cannot be read or routed (400), and of payments that
//! are not good (200).

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

#[path = "routes/bodies.rs"]
mod bodies;
#[path = "routes/mined_before.rs"]
mod mined_before;
mod support;
#[path = "routes/v1.rs"]
mod v1;
#[path = "routes/verdicts.rs"]
mod verdicts;

use std::net::Ipv4Addr;
use std::sync::Arc;

use serde_json::{Value, json};
use x402_devchain::{ACCOUNTS, DevChain, Failure, TOKEN, When};
use x402_evm::eip3009::UncheckedPayload;
use x402_facilitator::dev::DevFacilitator;
use x402_facilitator::routes::Routes;
use x402_types::{EvmAddress, RawJson, Version};
use zeroize::Zeroizing;

use crate::support::{SELLER, body, body_v1, send, signed, terms, tls};

async fn start() -> DevFacilitator {
    tls();
    DevFacilitator::start((Ipv4Addr::LOCALHOST, 0).into(), |routes| routes).await.unwrap()
}

async fn fetch(url: String) -> (u16, Value) {
    let response = reqwest::get(url).await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap())
}

/// A good body of version 2.
async fn good(facilitator: &DevFacilitator) -> Value {
    let terms = terms();
    body(&terms, &signed(1, &terms, facilitator.chain().time()).await)
}

/// What a refusal has to repeat of a body: the network that was asked, and who would have paid, where it can be read.
fn named(sent: &str) -> (Option<Value>, Option<String>) {
    let Ok(body) = serde_json::from_str::<Value>(sent) else { return (None, None) };
    let places = ["/paymentRequirements/network", "/paymentPayload/accepted/network", "/paymentPayload/network"];
    let mut networks = places.iter().filter_map(|place| body.pointer(place));
    let network = networks.find(|network| network.as_str().is_some_and(|name| !name.is_empty())).cloned();
    let payload = body.pointer("/paymentPayload/payload").map(|payload| RawJson::of(payload).unwrap());
    let payer = payload.and_then(|payload| UncheckedPayload::read(&payload).ok());
    (network, payer.map(|payer| EvmAddress::from(payer.from.unchecked()).to_string()))
}

/// Both endpoints refuse the body, nothing is sent, and the answer has code, status and words. Both name the payer once
/// the payload was read, and `/settle` the network.
async fn refused(facilitator: &DevFacilitator, sent: impl Into<String>, status: u16, code: &str, words: &str) {
    let sent = sent.into();
    let nonce = facilitator.chain().nonce_of(ACCOUNTS[0].address);
    for (path, flag, reason, message) in
        [("verify", "isValid", "invalidReason", "invalidMessage"), ("settle", "success", "errorReason", "errorMessage")]
    {
        let (is, answer) = send(&format!("{}/{path}", facilitator.url()), sent.clone(), None).await;
        let shown = sent.chars().take(300).collect::<String>();
        assert_eq!((is, &answer[flag], &answer[reason]), (status, &json!(false), &json!(code)), "{answer} {shown}");
        let said = answer[message].as_str().unwrap_or_default();
        assert!(said.contains(words), "{path}: {words:?} is not in {said:?}: {shown}");
        let (network, payer) = named(&sent);
        if status == 200 || code == "invalid_payment_requirements" {
            assert_eq!(answer["payer"].as_str(), payer.as_deref(), "{path}: who would have paid: {answer} {shown}");
        }
        if path == "settle" {
            assert_eq!(answer["transaction"], "", "nothing was sent: {answer}");
            let network = network.filter(|_| status != 413).unwrap_or_else(|| json!(""));
            assert_eq!(answer["network"], network, "what was asked: {answer} {shown}");
        }
    }
    assert_eq!(facilitator.chain().nonce_of(ACCOUNTS[0].address), nonce, "{code}: nothing was sent");
}

fn at<'a>(body: &'a mut Value, pointer: &str) -> &'a mut Value {
    body.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}"))
}

fn with(body: &Value, pointer: &str, value: Value) -> String {
    let mut body = body.clone();
    *at(&mut body, pointer) = value;
    body.to_string()
}

fn without(body: &Value, pointer: &str) -> String {
    let mut body = body.clone();
    let (object, member) = pointer.rsplit_once('/').unwrap();
    at(&mut body, object).as_object_mut().unwrap().remove(member).unwrap();
    body.to_string()
}

#[tokio::test]
async fn it_says_what_it_serves_and_how_it_is() {
    let facilitator = start().await;
    assert_eq!(
        fetch(format!("{}/supported", facilitator.url())).await,
        (
            200,
            json!({
                "kinds": [
                    { "x402Version": 2, "scheme": "exact", "network": "eip155:84532" },
                    { "x402Version": 1, "scheme": "exact", "network": "base-sepolia" },
                    {
                        "x402Version": 2, "scheme": "upto", "network": "eip155:84532",
                        "extra": { "facilitatorAddress": "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266" },
                        "facilitatorAddresses": ["0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"],
                    },
                ],
                "extensions": ["payment-identifier", "eip2612GasSponsoring", "erc20ApprovalGasSponsoring"],
                "signers": { "eip155:84532": ["0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"] },
                "keepsRequests": true,
            })
        )
    );
    let (mut status, mut health) = (0, Value::Null);
    // The first poll of the head may still be on its way.
    while health["headAgeSeconds"]["eip155:84532"].is_null() {
        (status, health) = fetch(format!("{}/health", facilitator.url())).await;
    }
    let head = health["headAgeSeconds"]["eip155:84532"].as_u64();
    assert_eq!((status, &health["status"], head.is_some()), (200, &json!("ok"), true), "{health}");
    assert_eq!(fetch(format!("{}/ready", facilitator.url())).await, (200, json!({ "status": "ready" })));
    facilitator.stop().await;
}

#[tokio::test]
async fn wrong_methods_and_paths_are_none_of_its_own() {
    let facilitator = start().await;
    let http = reqwest::Client::new();
    for (method, path, status) in [
        (reqwest::Method::GET, "verify", 405),
        (reqwest::Method::PUT, "settle", 405),
        (reqwest::Method::DELETE, "settle", 405),
        (reqwest::Method::POST, "supported", 405),
        (reqwest::Method::POST, "health", 405),
        (reqwest::Method::POST, "ready", 405),
        (reqwest::Method::POST, "settle/", 404),
        (reqwest::Method::GET, "", 404),
    ] {
        let answer = http.request(method.clone(), format!("{}/{path}", facilitator.url())).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{method} /{path}");
    }
    facilitator.stop().await;
}

#[tokio::test]
async fn nevermineds_paths_are_the_same_endpoints() {
    let facilitator = start().await;
    let good = good(&facilitator).await.to_string();
    let payer = json!(ACCOUNTS[1].address.to_string());
    let under = |path: &str| format!("{}/api/v1/x402/{path}", facilitator.url());
    let verified = send(&under("verify"), good.clone(), None).await;
    assert_eq!(verified, (200, json!({ "isValid": true, "payer": payer })));
    let (status, answer) = send(&under("settle"), good, None).await;
    assert_eq!((status, &answer["success"], &answer["payer"]), (200, &json!(true), &payer), "{answer}");
    facilitator.stop().await;
}

/// The shapes are those of `@faremeter/middleware` 0.22.0, `dist/src/http-handler.js` and `common.js`.
#[tokio::test]
async fn terms_are_completed_in_faremeters_shape() {
    let facilitator = start().await;
    let url = format!("{}/accepts", facilitator.url());
    let pay_to = ACCOUNTS[SELLER].address.to_string();
    let whole = json!({
        "scheme": "exact", "network": "eip155:84532", "amount": "10000", "asset": TOKEN.to_string(), "payTo": pay_to,
        "maxTimeoutSeconds": 300, "extra": { "name": "USDC", "version": "2" },
    });
    let with = |name: &str, value: Value| {
        let mut entry = whole.clone();
        entry[name] = value;
        entry
    };
    let least = json!({ "network": "base-sepolia", "amount": "10000", "payTo": pay_to });
    let own = with("extra", json!({ "name": "Mine", "more": 1 }));
    let asked = json!({
        "x402Version": 2, "resource": { "url": "https://shop.example/a", "description": "a" },
        "accepts": [
            whole, least, own, with("maxTimeoutSeconds", json!(60)),
            // Not served here, or not to be completed.
            with("network", json!("eip155:8453")), with("scheme", json!("batch-settlement")), with("asset", json!(pay_to)),
            with("amount", json!("0.01")), with("payTo", Value::Null), with("extra", json!([])), json!("exact"),
        ],
    });
    let completed = json!({
        "x402Version": 2, "resource": { "url": "https://shop.example/a", "description": "a" },
        "accepts": [
            whole, whole, with("extra", json!({ "name": "Mine", "more": 1, "version": "2" })),
            with("maxTimeoutSeconds", json!(60)),
        ],
    });
    assert_eq!(send(&url, asked.to_string(), None).await, (200, completed));
    // `createHTTPFacilitatorHandler` sends `{ url: "" }` where it knows no resource.
    let none = send(&url, r#"{"x402Version":2,"accepts":[]}"#, None).await;
    assert_eq!(none, (200, json!({ "x402Version": 2, "resource": { "url": "" }, "accepts": [] })));
    for wrong in ["", "[]", "{}", r#"{"x402Version":1,"accepts":[]}"#, r#"{"x402Version":2,"accepts":{}}"#] {
        let (status, answer) = send(&url, wrong, None).await;
        assert_eq!((status, answer["error"].is_string()), (400, true), "{wrong}: {answer}");
    }
    facilitator.stop().await;
}

#[tokio::test]
async fn a_good_payment_is_verified_and_settled_in_both_versions() {
    let facilitator = start().await;
    let terms = terms();
    let payer = ACCOUNTS[1].address.to_string();
    for (sent, network) in [
        (body(&terms, &signed(1, &terms, facilitator.chain().time()).await), "eip155:84532"),
        (body_v1(&terms, &signed(1, &terms, facilitator.chain().time()).await), "base-sepolia"),
    ] {
        let verified = send(&format!("{}/verify", facilitator.url()), sent.to_string(), None).await;
        assert_eq!(verified, (200, json!({ "isValid": true, "payer": payer })));
        let (status, answer) = send(&format!("{}/settle", facilitator.url()), sent.to_string(), None).await;
        let transfer = facilitator.chain().transfers().pop().unwrap();
        let transaction = transfer.transaction.to_string();
        let expected = json!({ "success": true, "payer": payer, "transaction": transaction, "network": network });
        assert_eq!((status, answer), (200, expected));
        assert_eq!((transfer.from, transfer.to), (ACCOUNTS[1].address, ACCOUNTS[SELLER].address));
        assert_eq!(transfer.value, alloy_primitives::U256::from(10_000));
    }
    facilitator.stop().await;
}

#[tokio::test]
async fn a_node_that_fails_is_no_verdict() {
    let facilitator = start().await;
    let good = good(&facilitator).await.to_string();
    for (path, flag, reason, code) in [
        ("verify", "isValid", "invalidReason", "unexpected_verify_error"),
        ("settle", "success", "errorReason", "unexpected_settle_error"),
    ] {
        // What may pass, or cannot be read, is asked four times more before a caller hears of it.
        for (failure, times) in [(Failure::Lost, 5), (Failure::Malformed, 5), (Failure::Status(429), 5)] {
            facilitator.chain().fail_calls("eth_call", times, When::Before, failure);
            let (status, answer) = send(&format!("{}/{path}", facilitator.url()), good.clone(), None).await;
            assert_eq!((status, &answer[flag], &answer[reason]), (503, &json!(false), &json!(code)), "{answer}");
            assert_eq!(answer["network"].as_str(), (path == "settle").then_some("eip155:84532"), "{answer}");
        }
    }
    let (_, answer) = send(&format!("{}/settle", facilitator.url()), good, None).await;
    assert_eq!(answer["success"], true, "nothing is left of it: {answer}");
    facilitator.stop().await;
}

/// A chain that mines on demand stands still at rest, and payments are judged by its time.
#[tokio::test]
async fn a_chain_at_rest_keeps_time_for_those_who_pay() {
    tls();
    let now = x402_facilitator::clock::now().0;
    for (age, keeping) in [(3_600, false), (3_600, true), (0, true)] {
        let chain = DevChain::builder().time(now - age).build().unwrap();
        chain.use_real_time();
        let listen = (Ipv4Addr::LOCALHOST, 0).into();
        let facilitator = if keeping {
            DevFacilitator::keeping_time(chain, listen, |routes| routes).await.unwrap()
        } else {
            DevFacilitator::on(chain, listen, std::time::Duration::from_secs(30), |routes| routes).await.unwrap()
        };
        // `validAfter` is 600 s ago, as payers of version 1 have it.
        let terms = terms().with_version(Version::V1);
        let sent = body_v1(&terms, &signed(1, &terms, now).await).to_string();
        let (_, answer) = send(&format!("{}/verify", facilitator.url()), sent.clone(), None).await;
        // By the chain's time it is not valid yet.
        assert_eq!(answer["isValid"], keeping, "{answer}");
        if keeping && age > 0 {
            // One block, and none for what follows at once.
            assert_eq!(facilitator.chain().block_number(), 1);
            let (_, answer) = send(&format!("{}/settle", facilitator.url()), sent, None).await;
            assert_eq!(answer["success"], true, "{answer}");
        }
        facilitator.stop().await;
    }
}

#[tokio::test]
async fn callers_are_told_apart_by_their_tokens() {
    let facilitator = start().await;
    let token = |text: &str| Zeroizing::new(text.to_owned());
    let routes = Routes::new(Arc::clone(facilitator.engine()));
    let routes = routes.with_caller("alice", token("a-token")).with_caller("bob", token("b-token")).into_router();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let good = good(&facilitator).await.to_string();
    let http = reqwest::Client::new();
    let post = async |path: &str, authorization: Option<&str>| {
        let request = http.post(format!("{url}/{path}")).header("idempotency-key", "one").body(good.clone());
        let request = authorization.into_iter().fold(request, |request, value| request.header("authorization", value));
        request.send().await.unwrap()
    };
    for wrong in [None, Some(""), Some("Bearer "), Some("Bearer c-token"), Some("a-token"), Some("Basic a-token")] {
        for path in ["verify", "settle"] {
            let answer = post(path, wrong).await;
            assert_eq!(answer.status().as_u16(), 401, "{path} {wrong:?}");
            assert_eq!(answer.headers()["www-authenticate"], "Bearer");
        }
    }
    assert_eq!(post("verify", Some("Bearer b-token")).await.status().as_u16(), 200);
    assert_eq!(post("settle", Some("Bearer a-token")).await.status().as_u16(), 200);
    // The same key of another caller is another request.
    assert_eq!(post("settle", Some("Bearer b-token")).await.status().as_u16(), 409);
    assert_eq!(post("settle", Some("Bearer a-token")).await.status().as_u16(), 200);
    facilitator.stop().await;
}
