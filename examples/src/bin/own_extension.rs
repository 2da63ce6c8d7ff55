//! An extension of one's own, from outside of the crates. `Purpose` has all of it; one line registers it with a seller
//! and one with a buyer. The buyer pays twice at the facilitator of `FACILITATOR_URL` with the key in `X402_PRIVATE_KEY`:
//! for research, which is served with a licence in the receipt, and for resale, which is refused.

use std::env;
use std::error::Error;
use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::routing::get;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use x402_evm::exact::{self, Exact};
use x402_evm::key::Key;
use x402_http::client::{PayClient, Payer, Receipt};
use x402_http::remote::RemoteFacilitator;
use x402_http::server::Seller;
use x402_types::extension::{Required, SettledClaim, echo};
use x402_types::{Claim, ErrorReason, Extension, Members, RawJson, Refusal, Rejection, SigningContext, Terms};

/// What the paid content is for. A buyer says it; a seller takes `research` alone.
#[derive(Debug)]
struct Purpose(&'static str);

impl Purpose {
    const NOT_ALLOWED: ErrorReason = ErrorReason::defined("purpose_not_allowed");

    /// What a payment says.
    fn of(claim: &Claim) -> Option<String> {
        echo::info(claim.extensions.get("purpose")?)?.text("purpose")
    }
}

#[async_trait]
impl Extension for Purpose {
    fn name(&self) -> &str {
        "purpose"
    }

    /// The seller says what it takes.
    fn declare(&self, _: &Required<'_>) -> Option<RawJson> {
        let schema = json!({"type": "object", "properties": {"purpose": {"type": "string"}}});
        RawJson::of(&json!({"info": {"required": true, "allowed": ["research"]}, "schema": schema})).ok()
    }

    /// The buyer adds what it wants.
    async fn complete(&self, _: &Members, _: &Terms, _: &SigningContext<'_>) -> Result<Members, Refusal> {
        let mut additions = Members::new();
        additions.insert_text("purpose", self.0);
        Ok(additions)
    }

    /// The seller refuses everything else, before anybody is asked and nothing has moved.
    async fn on_claim(&self, claim: &Claim) -> Result<Option<String>, Refusal> {
        match Self::of(claim).as_deref() {
            Some("research") => Ok(None),
            _ => Err(Rejection::new(Self::NOT_ALLOWED).because("purpose: expected `research`").with_status(403).into()),
        }
    }

    /// The receipt says what was sold.
    fn on_receipt(&self, settled: &SettledClaim<'_>) -> Option<RawJson> {
        RawJson::of(&json!({"info": {"licence": format!("{} only", Self::of(settled.claim)?)}})).ok()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let origin = format!("http://{}", listener.local_addr()?);
    let facilitator = RemoteFacilitator::new(&env::var("FACILITATOR_URL")?)?;
    let key: Key = env::var("X402_PRIVATE_KEY")?.parse()?;
    let offer =
        Exact::default().requirements("eip155:84532".parse()?, env::var("PAY_TO")?.parse()?, "$0.01".parse()?)?;

    // The line of the seller.
    let seller = Seller::new(&origin, Arc::new(facilitator))?.with_extension(Purpose(""));
    let app = Router::new().route("/data", get(async || "data").layer(seller.charge([offer])?));
    tokio::spawn(axum::serve(listener, app).into_future());

    for purpose in ["research", "resale"] {
        // The line of the buyer.
        let payer = Payer::new(exact::Payer::new(key.clone())).with_extension(Purpose(purpose));
        let response = PayClient::new(payer)?.get(&format!("{origin}/data")).await?;
        let status = response.status().as_u16();
        let receipt = response.extensions().get::<Receipt>().map(|Receipt(settled)| settled.clone());
        let licence = receipt.and_then(|settled| settled.extensions.get("purpose").map(|value| value.read::<Value>()));
        let said = response.text().await?;
        println!("{}", json!({"purpose": purpose, "status": status, "said": said, "receipt": licence.transpose()?}));
    }
    Ok(())
}
