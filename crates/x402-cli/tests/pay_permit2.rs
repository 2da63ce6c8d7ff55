//! `x402 pay` for terms of Permit2 against a shop on a devchain: with an allowance, with one that it approves, and with one
//! that it signs.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

use std::net::Ipv4Addr;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::U256;
use axum::Router;
use axum::extract::Extension;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use x402_devchain::{ACCOUNTS, DevChain, MiningMode, TOKENS_EACH};
use x402_evm::permit2::ByPermit2;
use x402_evm::permit2::sponsored::Eip2612GasSponsoring;
use x402_facilitator::dev::DevFacilitator;
use x402_http::remote::RemoteFacilitator;
use x402_http::server::{Paid, Seller, Used};
use x402_types::ChainId;

/// anvil's second account: a key that everybody knows.
const KEY: &str = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";
const PAYER: usize = 1;
const SELLER: usize = 2;

/// A facilitator on a chain, and a shop with `/exact`, `/upto` that uses a half, and `/sponsored`.
struct Shop {
    facilitator: DevFacilitator,
    origin: String,
}

impl Shop {
    async fn open() -> Self {
        x402_http::service::install_tls();
        let chain = DevChain::builder().block_time(MiningMode::PerTransaction).build().unwrap();
        let listen = (Ipv4Addr::LOCALHOST, 0).into();
        let facilitator = DevFacilitator::on(chain, listen, Duration::from_secs(600), |routes| routes).await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let (network, pay_to, price) = (ChainId::eip155(84_532), ACCOUNTS[SELLER].address, "$0.01".parse().unwrap());
        let exact = || ByPermit2::default().exact(network, pay_to, price).unwrap();
        let upto = ByPermit2::default().upto(network, pay_to, price, ACCOUNTS[0].address).unwrap();
        let seller = || {
            let remote = RemoteFacilitator::new(facilitator.url()).unwrap();
            Seller::new(&origin, Arc::new(remote)).unwrap()
        };
        let half = async |Extension(paid): Extension<Paid>| -> Response {
            let mut response = "the report".into_response();
            response.extensions_mut().insert(Used((paid.amount.value() / U256::from(2)).into()));
            response
        };
        let sponsors = seller().with_extension(Eip2612GasSponsoring);
        let app = Router::new()
            .route("/exact", get(async || "the report").layer(seller().charge([exact()]).unwrap()))
            .route("/upto", get(half).layer(seller().charge([upto]).unwrap()))
            .route("/sponsored", get(async || "the report").layer(sponsors.charge([exact()]).unwrap()));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { facilitator, origin }
    }

    /// Standard output, standard error, exit status.
    async fn pay(&self, path: &str, arguments: &[&str]) -> (String, String, Option<i32>) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_x402"));
        command.args(["pay", &format!("{}{path}", self.origin), "--no-journal"]).args(arguments);
        command.env("X402_PRIVATE_KEY", KEY).env_remove("HTTP_PROXY").env_remove("http_proxy");
        let output: Output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim().to_owned();
        (text(output.stdout), text(output.stderr), output.status.code())
    }

    /// What the seller has been paid, and the number of the payer's own transactions.
    fn state(&self) -> (U256, u64) {
        let chain = self.facilitator.chain();
        let paid = chain.balance_of(ACCOUNTS[SELLER].address) - U256::from(TOKENS_EACH);
        (paid, chain.nonce_of(ACCOUNTS[PAYER].address))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allowance_is_approved_only_where_that_is_asked_for() {
    let shop = Shop::open().await;
    let rpc = shop.facilitator.rpc().to_owned();
    let refused = "refused: permit2_allowance_required; --approve with --rpc sends the transaction that gives Permit2 the \
                   allowance";
    for arguments in [&[][..], &["--rpc", &rpc]] {
        let (_, error, code) = shop.pay("/exact", arguments).await;
        assert_eq!((&*error, code), (refused, Some(1)));
    }
    let (out, _, _) = shop.pay("/exact", &["--json"]).await;
    let out: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&out["status"], &out["error"]), (&json!(412), &json!("permit2_allowance_required")));
    assert_eq!(shop.state(), (U256::ZERO, 0));
    // An approval has a node.
    let (_, error, code) = shop.pay("/exact", &["--approve"]).await;
    assert_eq!(code, Some(2), "{error}");

    // Exactly the amount is approved, so that each payment has its approval.
    for (times, path, paid) in [(1, "/exact", 10_000), (2, "/upto", 15_000)] {
        let (out, error, code) = shop.pay(path, &["--rpc", &rpc, "--approve"]).await;
        assert_eq!((&*out, code), ("the report", Some(0)), "{error}");
        assert!(error.contains("approved: Permit2 may take 10000 of 0x036CbD"), "{error}");
        assert!(error.contains("paid: transaction 0x"), "{error}");
        assert_eq!(shop.state(), (U256::from(paid), times));
    }
    // Half of the last approval is left, and an approval without a limit is the last one.
    for paid in [25_000, 35_000] {
        let (_, error, code) = shop.pay("/exact", &["--rpc", &rpc, "--approve=unlimited"]).await;
        assert_eq!(code, Some(0), "{error}");
        assert_eq!(shop.state(), (U256::from(paid), 3));
    }
    let (_, error, code) = shop.pay("/exact", &[]).await;
    assert_eq!((code, shop.state()), (Some(0), (U256::from(45_000), 3)), "{error}");
    shop.facilitator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_server_offers_it_the_allowance_is_signed_and_costs_no_gas() {
    let shop = Shop::open().await;
    // Without a node the allowance is unknown, and nothing is signed.
    let (_, error, code) = shop.pay("/sponsored", &[]).await;
    assert!(error.starts_with("refused: permit2_allowance_required"), "{error}");
    assert_eq!((code, shop.state()), (Some(1), (U256::ZERO, 0)));
    let rpc = shop.facilitator.rpc().to_owned();
    for times in 1..=2 {
        let (out, error, code) = shop.pay("/sponsored", &["--rpc", &rpc]).await;
        assert_eq!((&*out, code), ("the report", Some(0)), "{error}");
        assert_eq!(shop.state(), (U256::from(10_000 * times), 0));
    }
    shop.facilitator.stop().await;
}
