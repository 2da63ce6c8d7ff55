//! Prices and recipients that depend on the request, or change between the 402 and the payment.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alloy_primitives::U256;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use x402_devchain::{DevChain, MiningMode};
use x402_http::client::{ClientError, NotPayable, PayClient, PayError, SpendLimits};
use x402_http::server::price_by;

use crate::shop::{
    OTHER, broken, cents, client, facilitator, network, payer, received, seller, seller_received, serve,
};
use crate::support::{SELLER, at_last};

const LONG: Duration = Duration::from_secs(600);

/// Each author is paid for their own pages, by a price in the query; an unknown price sells nothing.
#[tokio::test(flavor = "multi_thread")]
async fn the_request_decides_price_and_recipient() {
    let facilitator = facilitator(MiningMode::PerTransaction, LONG).await;
    let chain = facilitator.chain();
    let price = price_by(|request| {
        let account = if request.uri.path().ends_with("/other") { OTHER } else { SELLER };
        let pages = request.uri.query().and_then(|query| query.strip_prefix("pages=")?.parse::<u64>().ok());
        async move {
            tokio::task::yield_now().await;
            Ok(vec![cents(pages.ok_or_else(|| broken("expected pages=<number>"))?, account)])
        }
    });
    let page = get(async || "a page").layer(seller(&facilitator).charge_by(price));
    let url = serve(Router::new().route("/by/{author}", page)).await;
    let client = client();
    for (path, mine, others) in
        [("seller?pages=1", 10_000, 0), ("other?pages=3", 10_000, 30_000), ("seller?pages=2", 30_000, 30_000)]
    {
        assert_eq!(client.get(&format!("{url}/by/{path}")).await.unwrap().status(), StatusCode::OK);
        assert_eq!((seller_received(chain), received(chain, OTHER)), (U256::from(mine), U256::from(others)), "{path}");
    }
    // Without a price there is neither a 402 nor a handler.
    let response = client.get(&format!("{url}/by/seller")).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(chain.transfers().len(), 3);
    // The buyer's cap is compared with what this request costs.
    let careful = payer().with_spending(SpendLimits::default().with_cap("0.02".parse().unwrap()));
    let error = PayClient::new(careful).unwrap().get(&format!("{url}/by/seller?pages=3")).await.unwrap_err();
    let ClientError::Pay(PayError::NothingPayable(reasons)) = error else { panic!("{error}") };
    assert_eq!(reasons, [NotPayable::OverCap { amount: 30_000.into(), cap: 20_000.into() }]);
    facilitator.stop().await;
}

fn mine(chain: &DevChain) {
    chain.mine(1);
}

/// The price doubles while a settlement waits for its block. The payment that began is finished at the price that its
/// buyer accepted, and the next one costs the new price.
#[tokio::test(flavor = "multi_thread")]
async fn a_price_that_changes_during_the_settlement_changes_nothing_of_it() {
    // The facilitator answers at once that the outcome is unknown, and the client asks again until it is known.
    let facilitator = facilitator(MiningMode::Manual, Duration::ZERO).await;
    let chain = facilitator.chain();
    let price = Arc::new(AtomicU64::new(1));
    let now = Arc::clone(&price);
    let by_time = price_by(move |_| {
        let cents = cents(now.load(Ordering::SeqCst), SELLER);
        async move { Ok(vec![cents]) }
    });
    let page = get(async || "a page").layer(seller(&facilitator).charge_by(by_time));
    let url = serve(Router::new().route("/page", page)).await;
    let client = PayClient::new(payer().with_resends(0)).unwrap();
    let first = client.get(&format!("{url}/page")).await.unwrap();
    assert_eq!(first.status(), StatusCode::SERVICE_UNAVAILABLE);
    price.store(2, Ordering::SeqCst);
    at_last("the transaction", async || chain.calls().of("eth_sendRawTransaction") == 1).await;
    mine(chain);
    at_last("the page", async || client.get(&format!("{url}/page")).await.unwrap().status() == StatusCode::OK).await;
    assert_eq!((seller_received(chain), chain.transfers().len()), (U256::from(10_000), 1), "{}", network());
    // It is a new purchase from here on.
    let next = client.get(&format!("{url}/page")).await.unwrap();
    assert_eq!(next.status(), StatusCode::SERVICE_UNAVAILABLE);
    at_last("the transaction", async || chain.calls().of("eth_sendRawTransaction") == 2).await;
    mine(chain);
    at_last("the page", async || client.get(&format!("{url}/page")).await.unwrap().status() == StatusCode::OK).await;
    assert_eq!((seller_received(chain), chain.transfers().len()), (U256::from(30_000), 2));
    facilitator.stop().await;
}
