//! A buyer's policies and selector choose between two ways to pay, each to an account of its own.

use std::time::Duration;

use alloy_primitives::U256;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use x402_devchain::MiningMode;
use x402_http::client::{ClientError, NotPayable, PayClient, PayError, PayPolicy, Payer, Selector};

use crate::shop::{OTHER, cents, facilitator, payer, received, seller, serve};
use crate::support::SELLER;

#[tokio::test(flavor = "multi_thread")]
async fn the_buyer_decides_which_entry_is_paid() {
    let facilitator = facilitator(MiningMode::PerTransaction, Duration::from_secs(600)).await;
    let chain = facilitator.chain();
    let page = get(async || "a page").layer(seller(&facilitator).charge([cents(2, SELLER), cents(1, OTHER)]).unwrap());
    let url = serve(Router::new().route("/page", page)).await;
    let page = |payer: Payer| {
        let url = format!("{url}/page");
        async move { PayClient::new(payer).unwrap().get(&url).await }
    };
    let cheapest =
        Selector::new(|entries| (0..entries.len()).min_by_key(|at| entries.get(*at).map(|terms| terms.amount)));
    for (payer, sums) in [
        (payer(), (20_000, 0)),
        (payer().with_selector(cheapest), (20_000, 10_000)),
        (payer().with_policy(PayPolicy::at_most(10_000.into())), (20_000, 20_000)),
    ] {
        assert_eq!(page(payer).await.unwrap().status(), StatusCode::OK);
        assert_eq!((received(chain, SELLER), received(chain, OTHER)), (U256::from(sums.0), U256::from(sums.1)));
    }
    let none = payer().with_policy(PayPolicy::networks(["eip155:8453".parse().unwrap()]));
    let ClientError::Pay(PayError::NothingPayable(reasons)) = page(none).await.unwrap_err() else { panic!() };
    assert!(reasons.iter().all(|reason| matches!(reason, NotPayable::Policy { .. })), "{reasons:?}");
    assert_eq!((reasons.len(), chain.transfers().len()), (2, 3));
    facilitator.stop().await;
}
