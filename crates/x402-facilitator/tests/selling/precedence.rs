//! Two facilitators on one chain: the first gets the payments, the second those that the first cannot verify.

use std::time::Duration;

use alloy_primitives::U256;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use x402_devchain::{DevChain, MiningMode};
use x402_http::client::PayClient;
use x402_http::server::Seller;

use crate::shop::{cents, client, facilitator, facilitator_on, payer, remote, seller_received, serve};
use crate::support::{SELLER, at_last};

const LONG: Duration = Duration::from_secs(600);

#[tokio::test(flavor = "multi_thread")]
async fn the_second_serves_what_the_first_cannot() {
    let first = facilitator(MiningMode::PerTransaction, LONG).await;
    let chain = first.chain().clone();
    let second = facilitator_on(chain.clone(), LONG).await;
    let seller = Seller::new("https://shop.example", remote(&first)).unwrap();
    let seller = seller.with_facilitator("second", remote(&second)).unwrap().checked().await.unwrap();
    let page = get(async || "a page").layer(seller.charge([cents(1, SELLER)]).unwrap());
    let url = format!("{}/page", serve(Router::new().route("/page", page)).await);
    let client = client();
    assert_eq!(client.get(&url).await.unwrap().status(), StatusCode::OK);
    assert_eq!(seller_received(&chain), U256::from(10_000));
    first.stop().await;
    assert_eq!(client.get(&url).await.unwrap().status(), StatusCode::OK);
    assert_eq!((seller_received(&chain), chain.transfers().len()), (U256::from(20_000), 2));
    second.stop().await;
}

/// The second began a payment while the first was away. The seller is started anew, with a first that answers: the second
/// finishes the payment, and the buyer pays once.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_second_began_it_finishes() {
    let chain = DevChain::builder().block_time(MiningMode::Manual).build().unwrap();
    let second = facilitator_on(chain.clone(), Duration::ZERO).await;
    let grants = std::sync::Arc::new(x402_http::server::MemoryGrants::default());
    let shop = async |first: std::sync::Arc<x402_http::remote::RemoteFacilitator>| {
        let seller = Seller::new("https://shop.example", first).unwrap().with_grants(grants.clone());
        let seller = seller.with_facilitator("second", remote(&second)).unwrap();
        let page = get(async || "a page").layer(seller.charge([cents(1, SELLER)]).unwrap());
        serve(Router::new().route("/page", page)).await
    };
    // Nothing listens on port 1.
    let away = std::sync::Arc::new(x402_http::remote::RemoteFacilitator::new("http://127.0.0.1:1").unwrap());
    let url = format!("{}/page", shop(away).await);
    let payer = payer().with_resends(0);
    let client = PayClient::new(payer.clone()).unwrap();
    let response = client.get(&url).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let payment = payer.open_payments().pop().unwrap();
    let first = facilitator_on(chain.clone(), Duration::ZERO).await;
    let url = format!("{}/page", shop(remote(&first)).await);
    let again = async || {
        let request = reqwest::Client::new().get(&url).header(&payment.header, &payment.value);
        request.send().await.unwrap().status() == StatusCode::OK
    };
    at_last("the transaction", async || chain.calls().of("eth_sendRawTransaction") == 1).await;
    chain.mine(1);
    at_last("the page", again).await;
    assert_eq!((seller_received(&chain), chain.transfers().len()), (U256::from(10_000), 1));
    first.stop().await;
    second.stop().await;
}
