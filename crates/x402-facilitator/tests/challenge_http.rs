//! The x402.v1 dialect from the paying client to the chain: layer, store on SQLite, facilitator, all over TCP.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::HeaderValue;
use axum::routing::get;
use x402_challenge::{
    Bind, ChallengeOffer, Charge, ExactProof, Gate, MakeProof, MockProof, Proofs, VerifyProof, answer,
};
use x402_codec::challenge as codec;
use x402_codec::header::X_PAYMENT;
use x402_devchain::{ACCOUNTS, TOKEN, signer};
use x402_evm::challenge::VerifyExact;
use x402_evm::exact;
use x402_facilitator::clock::now;
use x402_facilitator::dev::DevFacilitator;
use x402_http::client::{PayClient, Payer};
use x402_http::remote::RemoteFacilitator;
use x402_http::server::challenge::{Ask, Challenges, Entitle};
use x402_http::ticket::{TicketFacilitator, TicketPayer};
use x402_store::sqlite::Database;
use x402_store::sqlite::SqliteChallenges;
use x402_types::TimeoutSeconds;
use x402_types::challenge::{Proof, ProofKind};

use crate::support::{SELLER, tls};

const BUYER: usize = 1;

struct Shop {
    url: String,
    served: Arc<AtomicUsize>,
    _directory: tempfile::TempDir,
}

/// A shop on SQLite that takes these proofs, behind a socket.
async fn shop(proofs: Proofs, entitle: Option<Entitle>) -> Shop {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteChallenges::new(Database::open(directory.path().join("challenges.sqlite")).unwrap());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let ask = Ask::new(ChallengeOffer {
        network: "evm:base:sepolia".parse().unwrap(),
        asset: TOKEN.into(),
        pay_to: ACCOUNTS[SELLER].address.into(),
        amount: 1000.into(),
        charge: Charge::Exact,
        timeout: TimeoutSeconds::try_from(60).unwrap(),
        resource: "urn:res:abc123".parse().unwrap(),
        meta: serde_json::from_str(r#"{"description": "One-off access"}"#).unwrap(),
        bind: Bind::default(),
    });
    let ask = entitle.into_iter().fold(ask, Ask::with_entitlement);
    let paid = Challenges::new(&origin, Gate::new(Arc::new(store), proofs)).unwrap().charge(ask).unwrap();
    let served = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&served);
    let handler = get(async move || {
        count.fetch_add(1, Ordering::SeqCst);
        "granted"
    });
    tokio::spawn(axum::serve(listener, Router::new().route("/weather", handler.layer(paid))).into_future());
    Shop { url: format!("{origin}/weather"), served, _directory: directory }
}

async fn pays(facilitator: &DevFacilitator, proof: Arc<dyn VerifyProof>, maker: Arc<dyn MakeProof>) {
    let shop = shop(Proofs::default().with(proof).unwrap(), Some(Entitle::bearer(3600))).await;
    let client = PayClient::new(Payer::default().with_proofs([maker])).unwrap();
    for _ in 0..2 {
        let response = client.get(&shop.url).await.unwrap();
        assert_eq!(response.status().as_u16(), 200);
        assert_eq!(response.text().await.unwrap(), "granted");
    }
    assert_eq!(shop.served.load(Ordering::SeqCst), 2);
    let transfers = facilitator.chain().transfers();
    assert_eq!(transfers.len(), 1, "the second request came with the entitlement");
    assert_eq!((transfers[0].from, transfers[0].to), (ACCOUNTS[BUYER].address, ACCOUNTS[SELLER].address));
    assert_eq!(transfers[0].value.to_string(), "1000");
}

async fn start() -> DevFacilitator {
    tls();
    DevFacilitator::start(([127, 0, 0, 1], 0).into(), |routes| routes).await.unwrap()
}

fn payer() -> ExactProof<exact::Payer<alloy_signer_local::PrivateKeySigner>> {
    ExactProof::new(exact::Payer::new(signer(BUYER).unwrap()))
}

#[tokio::test]
async fn an_exact_proof_moves_the_money() {
    let facilitator = start().await;
    let remote = RemoteFacilitator::new(facilitator.url()).unwrap();
    pays(&facilitator, Arc::new(VerifyExact::new(Arc::new(remote))), Arc::new(payer())).await;
    facilitator.stop().await;
}

#[tokio::test]
async fn a_facilitators_ticket_moves_the_money() {
    let facilitator = start().await;
    let tickets = TicketFacilitator::new(facilitator.url()).unwrap();
    pays(&facilitator, Arc::new(tickets.clone()), Arc::new(TicketPayer::new(tickets, payer()))).await;
    facilitator.stop().await;
}

/// A ticket for a challenge of the payer's own making, which pays himself, buys nothing.
#[tokio::test]
async fn a_ticket_that_pays_somebody_else_is_refused() {
    let facilitator = start().await;
    let tickets = TicketFacilitator::new(facilitator.url()).unwrap();
    let shop = shop(Proofs::default().with(Arc::new(tickets.clone())).unwrap(), None).await;
    let http = reqwest::Client::new();
    let asked = http.get(&shop.url).send().await.unwrap().bytes().await.unwrap();
    let challenge = codec::challenge(&asked).unwrap();
    let mut selfish = challenge.clone();
    selfish.pay_to = ACCOUNTS[BUYER].address.into();
    let payment = answer(&selfish, Proof::new(ProofKind::Facilitator), [1; 16], now());
    let context = x402_types::SigningContext { now: now(), entropy: [1; 32], url: &shop.url, method: "GET" };
    let made = TicketPayer::new(tickets, payer()).make_proof(&selfish, payment, &context).await.unwrap();
    let header = codec::encode_payment(&made.payment).unwrap();
    let response = http.get(&shop.url).header(&X_PAYMENT, header).send().await.unwrap();
    assert_eq!(response.status().as_u16(), 402);
    let refusal = codec::refusal(&response.bytes().await.unwrap()).unwrap();
    assert_eq!(refusal.error.as_str(), "mismatch");
    assert_eq!((shop.served.load(Ordering::SeqCst), facilitator.chain().transfers().len()), (0, 0));
    facilitator.stop().await;
}

async fn of_200(url: &str, header: &HeaderValue) -> Vec<u16> {
    let http = reqwest::Client::new();
    let requests: Vec<_> = (0..200)
        .map(|_| {
            let request = http.get(url).header(&X_PAYMENT, header.clone());
            tokio::spawn(async move { request.send().await.unwrap().status().as_u16() })
        })
        .collect();
    let mut statuses = Vec::new();
    for request in requests {
        statuses.push(request.await.unwrap());
    }
    statuses
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_200_requests_with_one_header_one_is_granted() {
    tls();
    let shop = shop(Proofs::default().with_mock_for_development(), None).await;
    let asked = reqwest::get(&shop.url).await.unwrap().bytes().await.unwrap();
    let challenge = codec::challenge(&asked).unwrap();
    let payment = MockProof::sign(answer(&challenge, Proof::new(ProofKind::Mock), [1; 16], now()));
    let statuses = of_200(&shop.url, &codec::encode_payment(&payment).unwrap()).await;
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1);
    assert!(statuses.iter().all(|status| [200, 409, 503].contains(status)), "{statuses:?}");
    assert_eq!(shop.served.load(Ordering::SeqCst), 1);
}
