//! A paid route with axum: `GET /paid` for one cent on Base Sepolia.
//!
//! `FACILITATOR_URL` and `PAY_TO` come from the environment; `LISTEN` may name another address than a free port.

use std::env;
use std::error::Error;
use std::sync::Arc;

use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;
use x402_evm::exact::Exact;
use x402_http::remote::RemoteFacilitator;
use x402_http::server::{Incident, Seller};
use x402_types::extension::PaymentIdentifier;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:0".into())).await?;
    let origin = format!("http://{}", listener.local_addr()?);

    let facilitator = RemoteFacilitator::new(&env::var("FACILITATOR_URL")?)?;
    let seller = Seller::new(&origin, Arc::new(facilitator))?.on_incident(|incident: &Incident<'_>| {
        eprintln!("{} at {}: {}", incident.step, incident.route, incident.fault);
    });
    // A payment that has an id and is shown again gets its answer again.
    let seller = seller.extension(PaymentIdentifier::optional());
    let (network, pay_to) = ("eip155:84532".parse()?, env::var("PAY_TO")?.parse()?);
    let offer = Exact::default().requirements(network, pay_to, "$0.01".parse()?)?;

    let report = async || Json(json!({ "report": "paid content" }));
    let app = Router::new().route("/paid", get(report).layer(seller.charge([offer])?));

    println!("{}", json!({ "listening": origin }));
    axum::serve(listener, app).with_graceful_shutdown(stopped()).await?;
    Ok(())
}

/// Ctrl-C or SIGTERM.
async fn stopped() {
    #[cfg(unix)]
    if let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        tokio::select! { _ = tokio::signal::ctrl_c() => {} _ = terminate.recv() => {} }
        return;
    }
    // Without signals it runs until it is killed.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
