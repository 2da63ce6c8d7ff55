//! Routes that are paid by Permit2, whose facilitator takes signed allowances: `GET /exact` for one cent, and `GET /upto` for at
//! most one cent, of which the handler uses a tenth. `GET /approved` takes signed approvals alone. `GET /eip3009` and
//! `GET /upfront`, which is settled before its handler runs, are paid without Permit2.
//!
//! `FACILITATOR_URL` and `PAY_TO` come from the environment; `LISTEN` may name another address than a free port.

use std::env;
use std::error::Error;
use std::sync::Arc;

use alloy_primitives::Address;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;
use x402_evm::exact::Exact;
use x402_evm::permit2::ByPermit2;
use x402_evm::permit2::sponsored::{Eip2612GasSponsoring, Erc20ApprovalGasSponsoring};
use x402_facilitator_core::Facilitator;
use x402_http::remote::RemoteFacilitator;
use x402_http::server::Seller;
use x402_types::{ChainId, Entry, SchemeName};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:0".into())).await?;
    let origin = format!("http://{}", listener.local_addr()?);
    let facilitator = Arc::new(RemoteFacilitator::new(&env::var("FACILITATOR_URL")?)?);
    let (network, pay_to, price) = (ChainId::eip155(84_532), env::var("PAY_TO")?.parse()?, "$0.01".parse()?);

    // Payers of `upto` name the account that settles, which the facilitator publishes.
    let supported = facilitator.supported().await?;
    let mut kinds = supported.kinds.iter().filter_map(Entry::known);
    let upto = kinds.find(|kind| kind.scheme == SchemeName::UPTO).ok_or("no `upto` is served")?;
    let account: Address = upto.extra.text("facilitatorAddress").ok_or("no account settles `upto`")?.parse()?;
    let offers = ByPermit2::default();
    let (exact, upto) = (offers.exact(network, pay_to, price)?, offers.upto(network, pay_to, price, account)?);

    let plain = Exact::default().requirements(network, pay_to, price)?;
    let mut upfront = plain.clone();
    upfront.terms.extra.insert_text("paymentFlow", "upfront");

    let approved = Seller::new(&origin, facilitator)?.with_extension(Erc20ApprovalGasSponsoring);
    let seller = approved.clone().with_extension(Eip2612GasSponsoring);
    let report = async || Json(json!({ "report": "paid content" }));
    // `Used` in the response's extensions says the same; this header also comes from handlers that do not know this crate.
    let tenth = async || {
        let overrides = [("settlement-overrides", r#"{"amount":"10%"}"#)];
        (overrides, Json(json!({ "report": "paid content" }))).into_response()
    };
    let app = Router::new()
        .route("/exact", get(report).layer(seller.charge([exact.clone()])?))
        .route("/eip3009", get(report).layer(seller.charge([plain])?))
        .route("/upfront", get(report).layer(seller.charge([upfront])?))
        .route("/approved", get(report).layer(approved.charge([exact])?))
        .route("/upto", get(tenth).layer(seller.charge([upto])?));
    println!("{}", json!({ "listening": origin }));
    Ok(axum::serve(listener, app).await?)
}
