//! The allowance of Permit2 from the buyer's side: approved by a transaction after a 412, or signed for the facilitator.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alloy_network::TransactionBuilder;
use alloy_primitives::{Address, U256};
use alloy_provider::Provider;
use alloy_rpc_types_eth::TransactionRequest;
use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use serde_json::{Value, json};
use x402_codec::header;
use x402_devchain::{ACCOUNTS, DevChain, MiningMode, TOKEN, TOKENS_EACH, key};
use x402_evm::chain::RpcChain;
use x402_evm::key::Key;
use x402_evm::permit2::sponsored::Eip2612GasSponsoring;
use x402_evm::permit2::{
    AllowancePermits, ApproveToken, Approver, ByPermit2, PERMIT2, Payer as PermitPayer, allowance_call,
};
use x402_facilitator::dev::DevFacilitator;
use x402_http::client::{PayClient, Payer, Receipt};
use x402_http::remote::RemoteFacilitator;
use x402_http::server::Seller;
use x402_types::{AtomicAmount, ChainId, Fault, Offer};

use crate::support::{SELLER, tls};

const PAYER: usize = 1;
const PRICE: u64 = 10_000;

fn network() -> ChainId {
    ChainId::eip155(84_532)
}

async fn facilitator() -> DevFacilitator {
    tls();
    let chain = DevChain::builder().block_time(MiningMode::PerTransaction).build().unwrap();
    let listen = (Ipv4Addr::LOCALHOST, 0).into();
    DevFacilitator::on(chain, listen, Duration::from_secs(600), |routes| routes).await.unwrap()
}

async fn serve(app: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/report", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

async fn shop(facilitator: &DevFacilitator, offer: Offer, sponsors: bool) -> String {
    let remote = Arc::new(RemoteFacilitator::new(facilitator.url()).unwrap());
    let mut seller = Seller::new("https://shop.example", remote).unwrap();
    if sponsors {
        seller = seller.with_extension(Eip2612GasSponsoring);
    }
    serve(Router::new().route("/report", get(async || "the report").layer(seller.charge([offer]).unwrap()))).await
}

fn exact() -> Offer {
    ByPermit2::default().exact(network(), ACCOUNTS[SELLER].address, "$0.01".parse().unwrap()).unwrap()
}

fn payer() -> Key {
    key(PAYER).unwrap()
}

fn chain(facilitator: &DevFacilitator) -> Arc<RpcChain> {
    Arc::new(RpcChain::new(facilitator.chain().client(), network(), 0).with_freshness(Duration::ZERO))
}

fn approving(facilitator: &DevFacilitator, unlimited: bool) -> PermitPayer<Key> {
    let approver = Approver::new(chain(facilitator), payer());
    let approver = if unlimited { approver.with_unlimited() } else { approver };
    PermitPayer::new(payer()).with_approver(Arc::new(approver))
}

fn transactions(chain: &DevChain) -> u64 {
    chain.nonce_of(ACCOUNTS[PAYER].address)
}

async fn allowance(chain: &DevChain) -> U256 {
    let call =
        TransactionRequest::default().with_to(TOKEN).with_input(allowance_call(ACCOUNTS[PAYER].address, PERMIT2));
    U256::from_be_slice(&chain.provider().call(call).await.unwrap())
}

fn paid(chain: &DevChain) -> U256 {
    chain.balance_of(ACCOUNTS[SELLER].address) - U256::from(TOKENS_EACH)
}

/// Checks that a 412 makes the client approve exactly the amount, once for each payment, and send the same payment again.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_an_approver_approves_the_amount_and_pays() {
    let facilitator = facilitator().await;
    let chain = facilitator.chain();
    let url = shop(&facilitator, exact(), false).await;
    let client = PayClient::new(Payer::new(approving(&facilitator, false))).unwrap();
    for times in 1..=2 {
        let response = client.get(&url).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert!(response.extensions().get::<Receipt>().unwrap().to_string().starts_with("paid: transaction 0x"));
        assert_eq!(paid(chain), U256::from(PRICE * times));
        assert_eq!((allowance(chain).await, transactions(chain)), (U256::ZERO, times));
    }
    // Without a limit one approval is enough for all that follow.
    let client = PayClient::new(Payer::new(approving(&facilitator, true))).unwrap();
    for times in 3..=4 {
        assert_eq!(client.get(&url).await.unwrap().status(), StatusCode::OK);
        assert_eq!((paid(chain), transactions(chain)), (U256::from(PRICE * times), 3));
    }
    facilitator.stop().await;
}

/// Checks that the payer signs the allowance where the seller declares the extension, and needs no gas.
#[tokio::test(flavor = "multi_thread")]
async fn a_signed_allowance_pays_exact_and_upto_without_gas() {
    let facilitator = facilitator().await;
    let chain_ = facilitator.chain();
    let upto = ByPermit2::default();
    let upto = upto.upto(network(), ACCOUNTS[SELLER].address, "$0.01".parse().unwrap(), ACCOUNTS[0].address).unwrap();
    let permits = AllowancePermits::new(payer()).with_chain(chain(&facilitator));
    let client = PayClient::new(Payer::new(PermitPayer::new(payer())).with_extension(permits)).unwrap();
    for (times, offer) in [(1, exact()), (2, upto)] {
        let url = shop(&facilitator, offer, true).await;
        assert_eq!(client.get(&url).await.unwrap().status(), StatusCode::OK);
        assert_eq!(paid(chain_), U256::from(PRICE * times));
        assert_eq!((allowance(chain_).await, transactions(chain_)), (U256::ZERO, 0));
    }
    // Where the seller declares nothing, nothing is signed.
    let url = shop(&facilitator, exact(), false).await;
    assert_eq!(client.get(&url).await.unwrap().status(), StatusCode::PRECONDITION_FAILED);
    facilitator.stop().await;
}

/// An approver that counts its calls, and fails.
struct Failing(AtomicU64);

#[async_trait::async_trait]
impl ApproveToken for Failing {
    async fn approve(&self, _: ChainId, owner: Address, token: Address, amount: AtomicAmount) -> Result<bool, Fault> {
        self.0.fetch_add(1, Ordering::SeqCst);
        assert_eq!((owner, token, amount), (ACCOUNTS[PAYER].address, TOKEN, PRICE.into()));
        Err(Fault::unreachable("the person", "no approval was given"))
    }
}

/// Checks that a server which lies about the allowance gets the payment once more at most, and no approval.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lies_about_the_allowance_costs_nothing() {
    let facilitator = facilitator().await;
    let chain = facilitator.chain();
    // The allowance suffices after this.
    let honest = shop(&facilitator, exact(), false).await;
    let client = PayClient::new(Payer::new(approving(&facilitator, true))).unwrap();
    assert_eq!(client.get(&honest).await.unwrap().status(), StatusCode::OK);
    let before = transactions(chain);

    for status in [StatusCode::PRECONDITION_FAILED, StatusCode::PAYMENT_REQUIRED] {
        let seen = Arc::new(AtomicU64::new(0));
        let (count, entry) = (seen.clone(), serde_json::to_value(exact().terms.to_v2()).unwrap());
        let lying = get(async move |headers: HeaderMap| {
            count.fetch_add(1, Ordering::SeqCst);
            let required = json!({
                "x402Version": 2, "error": "permit2_allowance_required", "accepts": [entry],
                "resource": {"url": "https://shop.example/report", "description": "", "mimeType": ""},
            });
            let paid = headers.contains_key("payment-signature");
            let status = if paid { status } else { StatusCode::PAYMENT_REQUIRED };
            (status, [("payment-required", header::encode::<Value>(&required).unwrap())])
        });
        let url = serve(Router::new().route("/report", lying)).await;
        assert_eq!(client.get(&url).await.unwrap().status(), status);
        assert_eq!((seen.load(Ordering::SeqCst), transactions(chain)), (2, before));

        // An approver that fails is asked once, and its fault is the result.
        let failing = Arc::new(Failing(AtomicU64::new(0)));
        let scheme = PermitPayer::new(payer()).with_approver(failing.clone());
        let error = PayClient::new(Payer::new(scheme)).unwrap().get(&url).await.unwrap_err();
        assert!(error.to_string().contains("no approval was given"), "{error}");
        assert_eq!(failing.0.load(Ordering::SeqCst), 1);
    }
    facilitator.stop().await;
}
