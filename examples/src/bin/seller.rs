//! A paid route with axum: `GET /paid` for one cent on Base Sepolia.
//!
//! `FACILITATOR_URL` and `PAY_TO` come from the environment; `LISTEN` may name another address than a free port, and `GRANTS`
//! another file than `grants.sqlite`, or a database.

use std::env;
use std::error::Error;
use std::sync::Arc;

use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;
use x402::evm::exact::Exact;
use x402::server::{Incident, RemoteFacilitator, Seller, open_grants};
use x402::types::extension::PaymentIdentifier;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:0".into())).await?;
    let origin = format!("http://{}", listener.local_addr()?);

    let facilitator = RemoteFacilitator::new(&env::var("FACILITATOR_URL")?)?;
    let seller = Seller::new(&origin, Arc::new(facilitator))?;
    // Clients of x402 version 1 can pay, too.
    let seller = seller.with_v1();
    // A payment that was served stays served when this process restarts. Several processes share `postgres://…`.
    let seller = seller.with_grants(open_grants(&env::var("GRANTS").unwrap_or_else(|_| "grants.sqlite".into())).await?);
    let seller = seller.with_incident_hook(|incident: &Incident<'_>| {
        eprintln!("{} at {}: {}", incident.step, incident.route, incident.fault);
    });
    // A payment that has an id and is shown again gets its answer again.
    let seller = seller.with_extension(PaymentIdentifier::optional());
    let (network, pay_to) = ("eip155:84532".parse()?, env::var("PAY_TO")?.parse()?);
    let offer = Exact::default().requirements(network, pay_to, "$0.01".parse()?)?;

    let report = async || Json(json!({ "report": "paid content" }));
    let app = Router::new().route("/paid", get(report).layer(seller.charge([offer])?));
    println!("{}", json!({ "listening": origin }));
    Ok(axum::serve(listener, app).await?)
}
