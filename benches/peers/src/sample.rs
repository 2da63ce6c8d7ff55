//! The one payment that everybody reads: v2, `exact`, 831 bytes of JSON, a true signature.

use alloy_primitives::{Address, address};
use ours_evm::exact::Exact;
use ours_evm::token::Tokens;
use ours_types::{AtomicAmount, Offer};

pub const ORIGIN: &str = "https://api.example.com";
pub const RESOURCE: &str = "https://api.example.com/premium-data";
pub const DESCRIPTION: &str = "Access to premium data of the market, hourly";
pub const MIME: &str = "application/json";
pub const PAYER: Address = address!("0x70997970C51812dc3A010C7d01b50e0d17dc79C8");
pub const PAY_TO: Address = address!("0x90F79bf6EB2c4f870365E785982E1f101E93b906");
pub const TOKEN: Address = address!("0x036CbD53842c5426634e7929541eC2318f3dCF7e");
pub const CHAIN: u64 = 84_532;
pub const NETWORK: &str = "eip155:84532";
pub const NONCE: &str = "0xf3746613c2d920b5fdabc0856f2aeb2d4f88ee6037b8cc5d04a71a4462f13480";

/// Signed by the second account of Anvil.
pub const PAYLOAD: &str = r#"{"signature":"0xac7fe5f6801eab3ada4edbf7e0e2f0e79ea5153167ebaaf20ff9cf36dc07345a5a1639c9b3956b2d70061ea1df072c92026174e8ef7a324cd16f59be15a115b81b","authorization":{"from":"0x70997970C51812dc3A010C7d01b50e0d17dc79C8","to":"0x90F79bf6EB2c4f870365E785982E1f101E93b906","value":"10000","validAfter":"1740672089","validBefore":"1740672154","nonce":"0xf3746613c2d920b5fdabc0856f2aeb2d4f88ee6037b8cc5d04a71a4462f13480"}}"#;

pub const ACCEPTED: &str = r#"{"scheme":"exact","network":"eip155:84532","amount":"10000","asset":"0x036CbD53842c5426634e7929541eC2318f3dCF7e","payTo":"0x90F79bf6EB2c4f870365E785982E1f101E93b906","maxTimeoutSeconds":300,"extra":{"name":"USDC","version":"2"}}"#;

pub fn payment() -> String {
    let text = format!(
        r#"{{"x402Version":2,"payload":{PAYLOAD},"resource":{{"url":"{RESOURCE}","description":"{DESCRIPTION}","mimeType":"{MIME}"}},"accepted":{ACCEPTED}}}"#
    );
    assert_eq!(text.len(), 831);
    text
}

pub fn verify_body() -> String {
    format!(r#"{{"x402Version":2,"paymentPayload":{},"paymentRequirements":{ACCEPTED}}}"#, payment())
}

/// The same, the server's own entry spelt otherwise than the payer's echo of it.
pub fn respelt_verify_body() -> String {
    let terms = ACCEPTED.strip_prefix(r#"{"scheme":"exact","#).and_then(|rest| rest.strip_suffix('}')).unwrap();
    format!(r#"{{"x402Version":2,"paymentPayload":{},"paymentRequirements":{{{terms},"scheme":"exact"}}}}"#, payment())
}

pub fn offer() -> Offer {
    let network = NETWORK.parse().unwrap();
    let offer = Exact::new(Tokens::default().on(network));
    let offer = offer.requirements(network, PAY_TO, AtomicAmount::from(10_000).into()).unwrap();
    // The peers are given this text; ours is built, and must be the same.
    let ours = serde_json::to_value(offer.terms.to_v2()).unwrap();
    assert_eq!(ours, serde_json::from_str::<serde_json::Value>(ACCEPTED).unwrap());
    offer
}
