//! A dialect of one's own, from outside of the crates: `slip.rs` has all of it, one line here plugs it in. A page is
//! sold and bought in it, and in x402 beside it, with the facilitator at `FACILITATOR_URL`.

mod slip;

use std::error::Error;
use std::sync::Arc;

use alloy_primitives::Address;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use axum::{Router, routing::get};
use tower::ServiceExt;
use x402_evm::exact::{self, Exact};
use x402_evm::key::Key;
use x402_http::client::{Clock, SystemClock};
use x402_http::remote::RemoteFacilitator;
use x402_http::server::Seller;
use x402_types::v2::PaymentRequirements;
use x402_types::{ChainId, MakePayment, SigningContext, Terms};

use slip::{RECEIPT, SLIP, Slip, Slips};

const URL: &str = "https://shop.example/page";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let variable = |name: &str| std::env::var(name).map_err(|error| format!("{name}: {error}"));
    let facilitator = RemoteFacilitator::new(&variable("FACILITATOR_URL")?)?;
    let pay_to: Address = variable("PAY_TO")?.parse()?;
    let key: Key = variable("X402_PRIVATE_KEY")?.parse()?;

    let offer = Exact::default().requirements(ChainId::eip155(84532), pay_to, "$0.01".parse()?)?;
    let seller = Seller::new("https://shop.example", Arc::new(facilitator))?
        // The one line.
        .with_dialect(Arc::new(Slips));
    let shop = Router::new().route("/page", get(|| async { "the page" }).layer(seller.charge([offer])?));

    // The buyer reads the entries, has the first one signed, and sends the slip.
    let unpaid = shop.clone().oneshot(Request::get("/page").body(Body::empty())?).await?;
    assert_eq!(unpaid.status(), StatusCode::PAYMENT_REQUIRED);
    let entries: Vec<PaymentRequirements> = serde_json::from_slice(&to_bytes(unpaid.into_body(), 1 << 16).await?)?;
    let terms = Terms::from(entries.first().ok_or("nothing is offered")?);
    let entropy = SystemClock.entropy().ok_or("no randomness")?;
    let context = SigningContext { now: SystemClock.now(), entropy, url: URL, method: "GET" };
    let made = exact::Payer::new(key).make_payment(&terms, &context).await?;
    let slip = serde_json::to_string(&Slip { entry: 0, payload: made.payload })?;
    let pay = |slip: &str| Ok::<_, Box<dyn Error>>(Request::get("/page").header(&SLIP, slip).body(Body::empty())?);

    let absent = shop.clone().oneshot(pay(&slip.replace("\"entry\":0", "\"entry\":7"))?).await?;
    assert_eq!(absent.status(), StatusCode::PAYMENT_REQUIRED, "an entry that is not offered");
    let paid = shop.clone().oneshot(pay(&slip)?).await?;
    assert_eq!(paid.status(), StatusCode::OK);
    let receipt = paid.headers().get(&RECEIPT).ok_or("no receipt")?.to_str()?.to_owned();
    assert_eq!(to_bytes(paid.into_body(), 1 << 16).await?, "the page");
    let again = shop.oneshot(pay(&slip)?).await?;
    assert_eq!(again.status(), StatusCode::CONFLICT, "a slip buys one answer");
    println!("{receipt}");
    Ok(())
}
