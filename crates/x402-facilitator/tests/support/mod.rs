//! Payments to send to a facilitator, and what the chain says of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;
use x402_devchain::{ACCOUNTS, DevChain, Transfer, signer};
use x402_evm::exact::{Exact, Payer, Price};
use x402_types::{
    ChainId, Claim, MakePayment, Members, Occasion, PaymentPayload, Terms, UnixSeconds, VerifyRequest, Version, v2,
};

/// Who is paid.
pub(crate) const SELLER: usize = 5;

/// $0.01 on the devchain.
pub(crate) fn terms() -> Terms {
    let price: Price = "$0.01".parse().map(Price::Dollars).unwrap();
    Exact::default().requirements(ChainId::eip155(84532), ACCOUNTS[SELLER].address, price).unwrap().terms
}

/// A fresh payment of an account of the chain.
pub(crate) async fn payment(payer: usize, now: u64) -> (Claim, VerifyRequest) {
    static NONCE: AtomicU64 = AtomicU64::new(1);
    let mut entropy = [7u8; 32];
    entropy[..8].copy_from_slice(&NONCE.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    let occasion = Occasion { now: UnixSeconds(now), entropy, url: "https://shop.example/", method: "GET" };
    let terms = terms();
    let made = Arc::new(Payer::new(signer(payer).unwrap())).make_payment(&terms, &occasion).await.unwrap();
    let payment = PaymentPayload::V2(v2::PaymentPayload {
        x402_version: Version::V2,
        resource: None,
        accepted: terms.to_v2(),
        payload: made.payload,
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

/// reqwest needs a TLS provider even where no TLS is spoken.
pub(crate) fn tls() {
    drop(rustls::crypto::ring::default_provider().install_default());
}
