//! A paid route with every extension of the seller's side: `GET /paid` for one cent on Base Sepolia.
//!
//! `FACILITATOR_URL`, `PAY_TO` and `SIGNER` (the key that signs offers, receipts and nonces) come from the environment.
//! `EXTENSIONS` names those that are wanted, with commas between them.

use std::env;
use std::error::Error;
use std::sync::Arc;

use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;
use x402::challenge::MemoryStore;
use x402::evm::exact::Exact;
use x402::evm::key::Key;
use x402::extensions::bazaar::DiscoverableRoute;
use x402::extensions::builder_code::SellerCodes;
use x402::extensions::offer_receipt::{IssuerKey, OfferIssuer};
use x402::extensions::sign_in::SignInGate;
use x402::server::{RemoteFacilitator, Seller};
use x402::types::extension::PaymentIdentifier;

const ALL: &str = "payment-identifier,offer-receipt,sign-in-with-x,bazaar,builder-code";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let origin = format!("http://{}", listener.local_addr()?);
    let facilitator = RemoteFacilitator::new(&env::var("FACILITATOR_URL")?)?;
    // The seller learns what became of its description; the buyer does not.
    let facilitator = facilitator.with_report_hook(|request, reports| {
        eprintln!("{}: {}", request.resource.url, json!(reports));
    });
    let mut seller = Seller::new(&origin, Arc::new(facilitator))?;
    for name in env::var("EXTENSIONS").unwrap_or_else(|_| ALL.into()).split(',') {
        let key = || env::var("SIGNER")?.parse::<Key>().map_err(Box::<dyn Error>::from);
        seller = match name {
            "payment-identifier" => seller.with_extension(PaymentIdentifier::optional()),
            "offer-receipt" => seller.with_extension(OfferIssuer::new(IssuerKey::eip712(key()?)).with_transaction()),
            "sign-in-with-x" => {
                let secret = key()?.address().into_word().0;
                seller.with_extension(SignInGate::new(&origin, &secret, Arc::new(MemoryStore::default()))?)
            }
            "bazaar" => {
                let schema = json!({"properties": {"city": {"type": "string"}}, "required": ["city"]});
                let route = DiscoverableRoute::query("GET", &json!({"city": "Paris"}), &schema);
                let report = json!({"properties": {"report": {"type": "string"}}});
                seller.with_extension(route.with_output(&json!({"report": "paid content"}), &report))
            }
            "builder-code" => {
                let codes = SellerCodes::new("our_app".parse()?).with_services(["our_service".parse()?])?;
                seller.with_extension(codes)
            }
            other => return Err(format!("EXTENSIONS: {other}").into()),
        };
    }
    let (network, pay_to) = ("eip155:84532".parse()?, env::var("PAY_TO")?.parse()?);
    let offer = Exact::default().requirements(network, pay_to, "$0.01".parse()?)?;
    let report = async || Json(json!({ "report": "paid content" }));
    let app = Router::new().route("/paid", get(report).layer(seller.charge([offer])?));
    println!("{}", json!({ "listening": origin }));
    Ok(axum::serve(listener, app).await?)
}
