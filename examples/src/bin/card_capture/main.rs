//! A scheme that settles less than was approved, from outside of the crates: `capture.rs` has all of it, one line here
//! plugs it in. A route may cost up to ten cents; a request uses three of them, another none.

mod capture;

use std::error::Error;
use std::sync::Arc;

use alloy_primitives::U256;
use async_trait::async_trait;
use axum::routing::get;
use axum::{Extension, Router};
use tokio::net::TcpListener;
use x402_facilitator_core::{Facilitator, Ledger, MemoryLedger, Outcome, OwnerId, PaymentRequest, Settlement};
use x402_http::client::{Clock, PayClient, Payer, Receipt, SpendLimits, SystemClock};
use x402_http::server::{Seller, Used};
use x402_types::v2::{SettleResponse, SupportedResponse, VerifyResponse};
use x402_types::{Claim, Entry, Fault, Members, Refusal, UnixSeconds};

use capture::{Bank, Capture, Card};

const LIMIT: u64 = 10;

/// The machine in the seller's own process. A facilitator's process has a task for the lane instead of this loop.
struct InProcess {
    settlement: Settlement,
    ledger: Arc<MemoryLedger>,
}

impl InProcess {
    async fn outcome(&self, claim: &Claim) -> Result<Outcome, Refusal> {
        let request = self.settlement.begin_request().named();
        let key = self.settlement.key(claim)?;
        let mut outcome = self.settlement.settle(&request, claim, now()).await?;
        let lease = self.ledger.lease(&Bank::lane(), self.settlement.owner(), 60).await?;
        let lease = lease.ok_or_else(|| Fault::broken("the lane has another worker"))?;
        for _ in 0..10 {
            if outcome.is_final() {
                break;
            }
            self.settlement.advance(&lease, &key, now()).await?;
            self.settlement.carry(&lease, now()).await?;
            outcome = self.settlement.look(&request, &key).await?;
        }
        Ok(outcome)
    }
}

#[async_trait]
impl Facilitator for InProcess {
    async fn verify(&self, request: &PaymentRequest) -> Result<VerifyResponse, Fault> {
        let verified = self.settlement.verify(&request.claim, now()).await;
        let (payer, reason) = match verified {
            Ok(verified) => (Some(verified.verdict().payer.clone()), None),
            Err(Refusal::Rejection(why)) => (why.payer.map(String::from), Some(why.reason)),
            Err(Refusal::Fault(fault)) => return Err(fault),
        };
        Ok(VerifyResponse {
            is_valid: reason.is_none(),
            invalid_reason: reason,
            invalid_message: None,
            payer,
            extra: Members::new(),
            extensions: Members::new(),
            rest: Members::new(),
        })
    }

    async fn settle(&self, request: &PaymentRequest) -> Result<SettleResponse, Fault> {
        // The claim asks for what was used; the payload says what was approved.
        let outcome = match self.outcome(&request.claim).await {
            Ok(outcome) => outcome,
            Err(Refusal::Rejection(why)) => Outcome::Failed {
                reason: why.reason,
                transaction: None,
                payer: why.payer.map(String::from).unwrap_or_default(),
            },
            Err(Refusal::Fault(fault)) => return Err(fault),
        };
        Ok(outcome.to_response(&request.claim.terms))
    }

    async fn supported(&self) -> Result<SupportedResponse, Fault> {
        Ok(SupportedResponse {
            kinds: self.settlement.kinds().iter().cloned().map(Entry::Known).collect(),
            extensions: Vec::new(),
            signers: Members::new(),
            rest: Members::new(),
        })
    }
}

fn now() -> UnixSeconds {
    SystemClock.now()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let card = Card { number: "4242", secret: [7; 32] };
    let bank = Arc::new(Bank::default());
    bank.issue(&card, 100);

    // The facilitator: ledger and machine are those of every other scheme.
    let ledger = Arc::new(MemoryLedger::new(now));
    let settlement = Settlement::new(OwnerId::from("this run"), Arc::clone(&ledger) as _)
        .with_rail(Arc::clone(&bank) as _)?
        .with_mechanism(Arc::new(Capture::new(Arc::clone(&bank))?))?;
    let facilitator = Arc::new(InProcess { settlement, ledger });

    // The seller says what a request may cost, the handler what it used.
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let origin = format!("http://{}", listener.local_addr()?);
    let seller = Seller::new(&origin, facilitator)?;
    let layer = seller.charge([capture::requirements("shop", LIMIT)?])?;
    let three = async || (Extension(Used(3.into())), "three pages");
    let none = async || (Extension(Used(0.into())), "nothing new");
    let app = Router::new().route("/pages", get(three)).route("/news", get(none)).layer(layer);
    tokio::spawn(async move { axum::serve(listener, app).await });

    // The buyer approves up to the limit.
    let limits = SpendLimits::default().with_asset("card:demo".parse()?, "EUR-cent", LIMIT.into());
    let buyer = Card { ..card };
    let client = PayClient::new(Payer::new(buyer).with_spending(limits))?;
    for (path, used, left) in [("/pages", 3, 97), ("/news", 0, 97), ("/pages", 3, 94)] {
        let response = client.get(&format!("{origin}{path}")).await?.error_for_status()?;
        let receipt = response.extensions().get::<Receipt>().ok_or("no receipt")?.to_string();
        println!("{path}: {}; {receipt}; the card has {} cents", response.text().await?, bank.balance(&card));
        assert_eq!(bank.balance(&card), U256::from(left), "{path} used {used} of {LIMIT}");
    }
    Ok(())
}
