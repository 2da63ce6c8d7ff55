//! `x402 demo challenge`: the demonstration in the `x402.v1` dialect, paid by an `exact` proof that moves money. Then
//! the payment header is sent again, and is refused.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::routing::get;
use http::HeaderValue;
use serde::Serialize;
use serde_json::json;
use tokio::net::TcpListener;
use x402_challenge::{Bind, ChallengeOffer, Charge, ExactProof, Gate, MakeProof, MemoryStore, Proofs};
use x402_codec::header::X_PAYMENT;
use x402_devchain::{TOKEN, key};
use x402_evm::challenge::VerifyExact;
use x402_evm::exact;
use x402_facilitator::dev::DevFacilitator;
use x402_http::client::{ChallengeReceipt, PayClient, Payer};
use x402_http::remote::RemoteFacilitator;
use x402_http::server::challenge::{Ask, Challenges};
use x402_types::challenge::{ChallengeId, Networks};
use x402_types::{ChainId, TimeoutSeconds};

use super::record::Recorder;
use super::show::Show;
use super::{Failure, PAYER, SELLER, account, failed};

/// The last line; its members are in this order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Done {
    step: &'static str,
    challenge_id: ChallengeId,
    granted: bool,
    replay_status: u16,
}

/// The price, $0.01.
const PRICE: u64 = 10_000;

pub(super) async fn one_payment(show: &mut Show) -> Result<(), Failure> {
    let recorder = Recorder::default();
    let facilitator =
        DevFacilitator::start((Ipv4Addr::LOCALHOST, 0).into(), |routes| recorder.on("facilitator", routes))
            .await
            .map_err(failed)?;
    let chain = facilitator.chain().clone();
    let (payer, seller) = (account(PAYER)?, account(SELLER)?);
    let chain_id = ChainId::eip155(chain.chain_id());
    let network = Networks::default().name(chain_id).ok_or("the chain has no name in this dialect")?;

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
    let origin = format!("http://{}", listener.local_addr().map_err(failed)?);
    let remote = RemoteFacilitator::new(facilitator.url()).map_err(failed)?;
    let proofs = Proofs::default().with(Arc::new(VerifyExact::new(Arc::new(remote)))).map_err(failed)?;
    let gate = Gate::new(Arc::new(MemoryStore::default()), proofs);
    let offer = ChallengeOffer {
        network: network.clone(),
        asset: TOKEN.into(),
        pay_to: seller.into(),
        amount: PRICE.into(),
        charge: Charge::Exact,
        timeout: TimeoutSeconds::DEFAULT,
        resource: "urn:res:weather".parse().map_err(failed)?,
        meta: None,
        bind: Bind::default(),
    };
    let paid = Challenges::new(&origin, gate).and_then(|shop| shop.charge(Ask::new(offer))).map_err(failed)?;
    let sent = Sent::default();
    let shop = sent.of(Router::new().route("/weather", get(async || "sunny, 24 °C\n").layer(paid)));
    let server = tokio::spawn(axum::serve(listener, recorder.on("server", shop)).into_future());

    show.step(&json!({
        "step": "start", "server": origin, "facilitator": facilitator.url(), "rpc": facilitator.rpc(),
        "network": network, "payer": payer, "seller": seller,
    }));
    let accounts = [("payer", payer), ("seller", seller)];
    show.balances("before", &chain, &accounts);

    let key = key(PAYER).ok_or("the chain has no such account")?;
    let proof = Arc::new(ExactProof::new(exact::Payer::new(key))) as Arc<dyn MakeProof>;
    let client = PayClient::new(Payer::default().with_proofs([proof])).map_err(failed)?;
    let url = format!("{origin}/weather");
    let response = client.get(&url).await.map_err(failed)?;
    let receipt = response.extensions().get::<ChallengeReceipt>().map(|receipt| receipt.0.clone());
    let receipt = receipt.ok_or("no receipt")?;
    response.bytes().await.map_err(failed)?;

    // A client that does not pay sends the header that it intercepted.
    let header = sent.take().ok_or("no payment was sent")?;
    let replay = client.http().get(&url).header(&X_PAYMENT, header).send().await.map_err(failed)?;
    let replay_status = replay.status().as_u16();
    replay.bytes().await.map_err(failed)?;
    server.abort();
    for exchange in recorder.take() {
        show.step(&exchange);
    }
    for transfer in chain.transfers() {
        show.step(&json!({
            "step": "transaction", "transaction": transfer.transaction, "block": transfer.block,
            "from": transfer.from, "to": transfer.to, "amount": transfer.value.to_string(),
        }));
    }
    show.balances("after", &chain, &accounts);
    facilitator.stop().await;
    show.last(&Done { step: "done", challenge_id: receipt.challenge_id, granted: receipt.ok, replay_status });
    if receipt.ok && replay_status == 409 { Ok(()) } else { Err("the payment was granted twice, or not at all".into()) }
}

/// The payment header that a server received last, byte for byte.
#[derive(Debug, Clone, Default)]
struct Sent(Arc<Mutex<Option<HeaderValue>>>);

impl Sent {
    fn of(&self, routes: Router) -> Router {
        let sent = self.clone();
        routes.layer(from_fn(move |request: Request, next: Next| {
            if let Some(header) = request.headers().get(&X_PAYMENT) {
                *sent.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(header.clone());
            }
            next.run(request)
        }))
    }

    fn take(&self) -> Option<HeaderValue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
