//! Payments to send to a facilitator, and what the chain says of them.

#![allow(dead_code, reason = "each test uses its part")]

pub(crate) mod plan;
pub(crate) mod process;

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use x402_devchain::{ACCOUNTS, DevChain, MiningMode, Transfer, signer};
use x402_evm::exact::{Exact, Payer, Price};
use x402_evm::key::Sign;
use x402_facilitator::dev::DevFacilitator;
use x402_types::{
    ChainId, Claim, MakePayment, Members, PaymentPayload, RawJson, SigningContext, Terms, UnixSeconds, VerifyRequest,
    Version, v2,
};

/// Who is paid.
pub(crate) const SELLER: usize = 5;

/// $0.01 on the devchain.
pub(crate) fn terms() -> Terms {
    let price: Price = "$0.01".parse().map(Price::Dollars).unwrap();
    Exact::default().requirements(ChainId::eip155(84532), ACCOUNTS[SELLER].address, price).unwrap().terms
}

/// What an account of the chain signs for terms, under a fresh nonce: `payload`.
pub(crate) async fn signed(payer: usize, terms: &Terms, now: u64) -> RawJson {
    signed_by(signer(payer).unwrap(), terms, now).await
}

/// The same, by any key.
pub(crate) async fn signed_by(key: impl Sign, terms: &Terms, now: u64) -> RawJson {
    static NONCE: AtomicU64 = AtomicU64::new(1);
    let mut entropy = [7u8; 32];
    entropy[..8].copy_from_slice(&NONCE.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    let context = SigningContext { now: UnixSeconds(now), entropy, url: "https://shop.example/", method: "GET" };
    Payer::new(key).make_payment(terms, &context).await.unwrap().payload
}

/// The body of `/verify` and `/settle` in version 2.
pub(crate) fn body(terms: &Terms, payload: &RawJson) -> Value {
    let terms = serde_json::to_value(terms.to_v2()).unwrap();
    let payload: Value = payload.read().unwrap();
    json!({
        "x402Version": 2,
        "paymentPayload": { "x402Version": 2, "accepted": terms, "payload": payload },
        "paymentRequirements": terms,
    })
}

/// The body of `/verify` and `/settle` in version 1.
pub(crate) fn body_v1(terms: &Terms, payload: &RawJson) -> Value {
    let terms = terms.to_v1(&v2::ResourceInfo::of("https://shop.example/"));
    let payload: Value = payload.read().unwrap();
    json!({
        "x402Version": 1,
        "paymentPayload": { "x402Version": 1, "scheme": "exact", "network": "base-sepolia", "payload": payload },
        "paymentRequirements": serde_json::to_value(terms).unwrap(),
    })
}

/// A fresh payment of an account of the chain.
pub(crate) async fn payment(payer: usize, now: u64) -> (Claim, VerifyRequest) {
    payment_by(signer(payer).unwrap(), now).await
}

/// The same, of any key.
pub(crate) async fn payment_by(key: impl Sign, now: u64) -> (Claim, VerifyRequest) {
    let terms = terms();
    let payload = signed_by(key, &terms, now).await;
    let payment = PaymentPayload::V2(v2::PaymentPayload {
        x402_version: Version::V2,
        resource: None,
        accepted: terms.to_v2(),
        payload,
        extensions: Members::new(),
        rest: Members::new(),
    });
    let request = VerifyRequest {
        x402_version: Some(Version::V2),
        payment_payload: payment.clone(),
        payment_requirements: x402_types::PaymentRequirements::V2(terms.to_v2()),
    };
    (Claim::new(terms, payment), request)
}

/// The transfers that a payment made, by the nonce in its row's key: one is right.
pub(crate) fn transfers_of(chain: &DevChain, transaction: &str) -> Vec<Transfer> {
    let hash: alloy_primitives::B256 = transaction.parse().unwrap();
    chain.transfers().into_iter().filter(|transfer| transfer.transaction == hash).collect()
}

/// Posts a body, and reads the answer.
pub(crate) async fn post(url: &str, request: &VerifyRequest) -> reqwest::Result<(u16, Value)> {
    let client = reqwest::Client::builder().build()?;
    let body = serde_json::to_string(request).unwrap();
    let response = client.post(url).header("content-type", "application/json").body(body).send().await?;
    let status = response.status().as_u16();
    Ok((status, serde_json::from_slice(&response.bytes().await?).unwrap_or_default()))
}

/// Posts a body under an `Idempotency-Key`, and reads the answer, if there is one.
pub(crate) async fn post_named(url: &str, body: String, key: &str) -> reqwest::Result<(u16, Value)> {
    let request = reqwest::Client::builder().build()?.post(url).header("content-type", "application/json");
    let response = request.header("idempotency-key", key).body(body).send().await?;
    let status = response.status().as_u16();
    Ok((status, serde_json::from_slice(&response.bytes().await?).unwrap_or_default()))
}

/// reqwest needs a TLS provider even where no TLS is spoken.
pub(crate) fn tls() {
    x402_http::service::install_tls();
}

/// Starts a facilitator whose chain mines by hand, so that a settlement waits for as long as the test wants, or for the
/// facilitator's own limit.
pub(crate) async fn start(wait: Duration) -> DevFacilitator {
    tls();
    let chain = DevChain::builder().block_time(MiningMode::Manual).build().unwrap();
    DevFacilitator::on(chain, (Ipv4Addr::LOCALHOST, 0).into(), wait, |routes| routes).await.unwrap()
}

/// The body of a payment that no other test made.
pub(crate) async fn fresh(chain: &DevChain) -> Value {
    let terms = terms();
    body(&terms, &signed(1, &terms, chain.time()).await)
}

/// Posts any bytes, with an `Idempotency-Key` or without, and reads the answer.
pub(crate) async fn send(url: &str, body: impl Into<reqwest::Body>, key: Option<&str>) -> (u16, Value) {
    let request = reqwest::Client::new().post(url).header("content-type", "application/json").body(body);
    let request = key.into_iter().fold(request, |request, key| request.header("idempotency-key", key));
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default())
}

/// Waits until a condition holds, for two minutes at most.
pub(crate) async fn at_last(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let mut met = condition().await;
    for _ in 0..60_000 {
        if met {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
        met = condition().await;
    }
    assert!(met, "{what}: it never came");
}
