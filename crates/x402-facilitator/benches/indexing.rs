//! What the index of settled payments costs for each of them: `benches/indexing-cost` counts it by callgrind.
//!
//! `cargo bench -p x402-facilitator --bench indexing -- again|first TIMES`

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a bench")]

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::FutureExt;
use serde_json::{Value, json};
use x402_extensions::bazaar::Listing;
use x402_facilitator::discovery::CatalogIndex;
use x402_store::catalog::{Catalog, CatalogFilter, Listed, Page};
use x402_types::extension::SettledClaim;
use x402_types::v2::SettleResponse;
use x402_types::{Claim, Extension, Fault, PaymentPayload, Terms, UnixSeconds};

/// A store that costs nothing: the engine's writes are counted elsewhere, once in a minute for each route.
#[derive(Debug)]
struct Nothing;

#[async_trait]
impl Catalog for Nothing {
    async fn put(&self, _: &Listing, _: UnixSeconds) -> Result<(), Fault> {
        Ok(())
    }
    async fn list(&self, _: &CatalogFilter, _: Page) -> Result<(Vec<Listed>, u64), Fault> {
        Ok((Vec::new(), 0))
    }
    async fn search(&self, _: &str, _: &CatalogFilter, _: Page) -> Result<(Vec<Listed>, bool), Fault> {
        Ok((Vec::new(), false))
    }
}

/// A payment for a route that the published SDK declared.
fn claim(url: &str) -> Claim {
    let vectors: Value = serde_json::from_str(&x402_testkit::vector("extensions.json").unwrap()).unwrap();
    let mut payment = vectors["bazaar.facilitatorExtracts"][0]["paymentPayload"].clone();
    payment["resource"]["url"] = json!(url);
    let payment: PaymentPayload = serde_json::from_value(payment).unwrap();
    let PaymentPayload::V2(of) = &payment else { panic!() };
    Claim::new(Terms::from(&of.accepted), payment.clone())
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let (mode, times) = match arguments.as_slice() {
        [mode, times] => (mode.as_str(), times.parse().unwrap()),
        _ => ("again", 1),
    };
    let index = CatalogIndex::new(Arc::new(Nothing));
    let receipt = SettleResponse::settled("0x70997970C51812dc3A010C7d01b50e0d17dc79C8", "0xab", "eip155:84532");
    let claims: Vec<Claim> = match mode {
        "again" => vec![claim("https://api.example.com/weather")],
        _ => (0..200).map(|at| claim(&format!("https://api.example.com/weather/{at}"))).collect(),
    };
    for time in 0..times {
        let claim = &claims[time % claims.len()];
        // The queue's copy, the record, and the report to the seller.
        let (queued, receipt) = (claim.clone(), receipt.clone());
        let settled = SettledClaim::new(&queued, queued.resource.as_ref(), &receipt, UnixSeconds(1_795_923_767));
        index.on_settled(&settled).now_or_never().unwrap().unwrap();
        assert!(index.report(claim).is_some());
    }
}
