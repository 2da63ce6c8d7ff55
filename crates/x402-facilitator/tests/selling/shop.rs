//! A seller behind a real listener, and its facilitator on a devchain.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, U256};
use axum::Router;
use x402_devchain::{ACCOUNTS, DevChain, MiningMode, TOKENS_EACH, signer};
use x402_evm::exact::{Exact, Payer as ExactPayer, Price};
use x402_facilitator::dev::DevFacilitator;
use x402_http::client::{PayClient, Payer};
use x402_http::remote::RemoteFacilitator;
use x402_http::server::Seller;
use x402_types::{ChainId, Fault, Offer};

use crate::support::{SELLER, tls};

/// The account that buys.
pub(crate) const BUYER: usize = 1;
/// Another account that is paid.
pub(crate) const OTHER: usize = 6;

pub(crate) fn network() -> ChainId {
    ChainId::eip155(84_532)
}

/// An offer of so many cents to an account of the chain.
pub(crate) fn cents(cents: u64, account: usize) -> Offer {
    let price: Price = format!("$0.{cents:02}").parse().unwrap();
    Exact::default().requirements(network(), ACCOUNTS[account].address, price).unwrap()
}

pub(crate) fn broken(why: &str) -> Fault {
    Fault::broken(why)
}

pub(crate) async fn facilitator(mining: MiningMode, wait: Duration) -> DevFacilitator {
    tls();
    facilitator_on(DevChain::builder().block_time(mining).build().unwrap(), wait).await
}

/// Another facilitator on a chain.
pub(crate) async fn facilitator_on(chain: DevChain, wait: Duration) -> DevFacilitator {
    tls();
    DevFacilitator::on(chain, (Ipv4Addr::LOCALHOST, 0).into(), wait, |routes| routes).await.unwrap()
}

pub(crate) fn remote(facilitator: &DevFacilitator) -> Arc<RemoteFacilitator> {
    Arc::new(RemoteFacilitator::new(facilitator.url()).unwrap())
}

pub(crate) fn seller(facilitator: &DevFacilitator) -> Seller {
    Seller::new("https://shop.example", remote(facilitator)).unwrap()
}

pub(crate) async fn serve(app: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

pub(crate) fn payer() -> Payer {
    Payer::new(ExactPayer::new(signer(BUYER).unwrap()))
}

pub(crate) fn client() -> PayClient {
    PayClient::new(payer()).unwrap()
}

/// The atomic units that an account received.
pub(crate) fn received(chain: &DevChain, account: usize) -> U256 {
    let address: Address = ACCOUNTS[account].address;
    chain.balance_of(address) - U256::from(TOKENS_EACH)
}

pub(crate) fn seller_received(chain: &DevChain) -> U256 {
    received(chain, SELLER)
}
