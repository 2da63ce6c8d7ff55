//! `x402 demo`: a server, a client, a facilitator and a chain in this process, and one payment through all of them.
//!
//! They communicate over loopback TCP, as they would between machines; the output is the recorded traffic.

mod card;
mod challenge;
mod nvm;
mod record;
mod show;

use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::Arc;

use alloy_primitives::{Address, B256};
use axum::Router;
use axum::routing::get;
use serde::Serialize;
use serde_json::json;
use tokio::net::TcpListener;
use x402_devchain::{ACCOUNTS, DevChain, Transfer, key};
use x402_evm::exact::{self, Exact, Price};
use x402_facilitator::dev::DevFacilitator;
use x402_http::client::{PayClient, Payer, Receipt};
use x402_http::remote::RemoteFacilitator;
use x402_http::server::Seller;
use x402_types::{ChainId, NetworkName};

use self::record::Recorder;
use self::show::Show;

/// Shows a paid request end to end, on a chain in this process. Nothing leaves the machine.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// Prints only one JSON object per step.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Pays with credits of a plan that are bought with a delegated card. The card processor is a double.
    Card,
    /// Pays by a challenge of the x402.v1 dialect, then sends the same payment again, which is refused.
    Challenge,
    /// Pays with credits of a plan, bought and redeemed by the session keys of a smart account.
    Nvm,
}

/// The description of a failure, for people.
type Failure = Box<str>;

pub(crate) async fn run(args: Args) -> ExitCode {
    let mut show = Show::new(args.json);
    let shown = match args.what {
        None => one_payment(&mut show).await,
        Some(What::Card) => card::run(&mut show).await,
        Some(What::Challenge) => challenge::one_payment(&mut show).await,
        Some(What::Nvm) => nvm::run(&mut show).await,
    };
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

/// The last line; its members are in this order.
#[derive(Debug, Serialize)]
struct Done {
    step: &'static str,
    settled: bool,
    transaction: String,
    network: NetworkName,
    payer: Option<String>,
    amount: String,
}

fn failed(error: impl std::fmt::Display) -> Failure {
    error.to_string().into()
}

/// The payer is the second account of the chain, the seller the third.
const PAYER: usize = 1;
const SELLER: usize = 2;

async fn one_payment(show: &mut Show) -> Result<(), Failure> {
    let recorder = Recorder::default();
    let facilitator =
        DevFacilitator::start((Ipv4Addr::LOCALHOST, 0).into(), |routes| recorder.on("facilitator", routes))
            .await
            .map_err(failed)?;
    let chain = facilitator.chain().clone();
    let network = ChainId::eip155(chain.chain_id());
    let (payer, seller) = (account(PAYER)?, account(SELLER)?);

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
    let origin = format!("http://{}", listener.local_addr().map_err(failed)?);
    let price = "$0.01".parse().map(Price::Dollars).map_err(failed)?;
    let offer = Exact::default().requirements(network, seller, price).map_err(failed)?;
    let remote = RemoteFacilitator::new(facilitator.url()).map_err(failed)?;
    let paid = Seller::new(&origin, Arc::new(remote)).and_then(|shop| shop.charge([offer])).map_err(failed)?;
    let shop = Router::new().route("/weather", get(async || "sunny, 24 °C\n").layer(paid));
    let server = tokio::spawn(axum::serve(listener, recorder.on("server", shop)).into_future());

    show.step(&json!({
        "step": "start", "server": origin, "facilitator": facilitator.url(), "rpc": facilitator.rpc(),
        "network": network, "payer": payer, "seller": seller,
    }));
    show.balances("before", &chain, &[("payer", payer), ("seller", seller)]);

    let key = key(PAYER).ok_or("the chain has no such account")?;
    let client = PayClient::new(Payer::new(exact::Payer::new(key))).map_err(failed)?;
    let response = client.get(&format!("{origin}/weather")).await.map_err(failed)?;
    let receipt = response.extensions().get::<Receipt>().map(|receipt| receipt.0.clone()).ok_or("no receipt")?;
    response.bytes().await.map_err(failed)?;
    server.abort();

    for exchange in recorder.take() {
        show.step(&exchange);
    }
    let transfer = transfer(&chain, &receipt.transaction)?;
    show.step(&json!({
        "step": "transaction", "transaction": transfer.transaction, "block": transfer.block,
        "from": transfer.from, "to": transfer.to, "amount": transfer.value.to_string(),
    }));
    show.balances("after", &chain, &[("payer", payer), ("seller", seller)]);
    facilitator.stop().await;
    show.last(&Done {
        step: "done",
        settled: receipt.success,
        transaction: receipt.transaction.to_lowercase(),
        network: receipt.network,
        payer: receipt.payer,
        amount: transfer.value.to_string(),
    });
    if receipt.success { Ok(()) } else { Err("the payment was not settled".into()) }
}

fn account(index: usize) -> Result<Address, Failure> {
    ACCOUNTS.get(index).map(|account| account.address).ok_or_else(|| "the chain has no such account".into())
}

/// Looks up the receipt's transfer on the chain.
fn transfer(chain: &DevChain, transaction: &str) -> Result<Transfer, Failure> {
    let hash: B256 = transaction.parse().map_err(failed)?;
    let found = chain.transfers().into_iter().find(|transfer| transfer.transaction == hash);
    found.ok_or_else(|| "the chain knows no such transfer".into())
}
