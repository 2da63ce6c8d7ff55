//! A facilitator that speaks one more dialect, on a chain in this process.
//!
//! A till knows neither versions nor headers. It posts `{"till":"7","sum":"10000","authorization":{…},"signature":"0x…"}`
//! to `/verify` and `/settle`, and is answered `{"good":true}`, `{"paid":"0x…"}` or `{"no":"why"}`. The dialect is this
//! file, and the line with `with_dialect`; x402 is spoken beside it.

use std::error::Error;
use std::sync::Arc;

use alloy_primitives::Address;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use x402_codec::json::from_slice;
use x402_devchain::{ACCOUNTS, DevChain};
use x402_evm::exact::{Exact, Price};
use x402_facilitator::clock::now;
use x402_facilitator::dialect::{Answer, Body, Context, Dialect, Reply, Request, Settled, Stopped, Submission};
use x402_facilitator::mechanisms::{Builder, Evm};
use x402_facilitator::process::owner;
use x402_facilitator::routes::Routes;
use x402_facilitator::server::Serving;
use x402_facilitator_core::{MemoryLedger, Outcome};
use x402_types::{AtomicAmount, ChainId, Claim, ErrorReason, Identity, RawJson, Rejection};

/// The dialect: whose tills these are, and on which network they are paid.
struct Tills {
    network: ChainId,
    pay_to: Address,
}

/// What a till writes.
#[derive(Deserialize)]
struct Bill {
    till: String,
    sum: AtomicAmount,
    authorization: RawJson,
    signature: String,
}

fn unreadable(why: impl ToString) -> Stopped {
    Stopped::Unreadable(Rejection::new(ErrorReason::INVALID_PAYLOAD).because(why.to_string()))
}

impl Dialect for Tills {
    fn recognises(&self, body: &Body) -> bool {
        body.mentions(r#""till""#)
    }

    fn read(&self, context: &Context, request: &Request) -> Result<Submission, Stopped> {
        let bill = request.body.view(|bytes, limits| from_slice::<Bill>(bytes, limits));
        let bill = (*bill).as_ref().map_err(unreadable)?;
        let offer = Exact::default().requirements(self.network, self.pay_to, Price::Atomic(bill.sum));
        let payload = json!({ "signature": bill.signature, "authorization": bill.authorization });
        let claim = Claim::of_payload(offer.map_err(unreadable)?.terms, RawJson::of(&payload).map_err(unreadable)?)
            .with_identity(Identity::new(request.caller.clone(), format!("till {}", bill.till)));
        context.engine().settlement().key(&claim).map_err(Stopped::Unreadable)?;
        Ok(Submission::new(claim, Vec::new()))
    }

    fn write_verdict(&self, _: &Context, _: &Request, answer: Answer<'_, String>) -> Reply {
        match answer {
            Answer::Made(..) => Reply::json(StatusCode::OK, &json!({ "good": true })),
            Answer::Stopped(_, stopped) => no(stopped),
        }
    }

    fn write_settlement(&self, _: &Context, _: &Request, answer: Answer<'_, Settled>) -> Reply {
        let outcome = match answer {
            Answer::Made(_, settled) => settled.outcome,
            Answer::Stopped(_, stopped) => return no(stopped),
        };
        match outcome {
            Outcome::Settled { receipt, .. } => Reply::json(
                StatusCode::OK,
                &json!({ "paid": receipt.transaction.as_ref().map(x402_facilitator_core::TxId::as_str) }),
            ),
            Outcome::Pending { .. } => Reply::json(StatusCode::ACCEPTED, &json!({ "no": "not yet" })),
            _ => Reply::json(StatusCode::OK, &json!({ "no": "it is used, or it failed" })),
        }
    }
}

fn no(stopped: Stopped) -> Reply {
    let status = stopped.status();
    let why = match stopped {
        Stopped::Unreadable(why) | Stopped::Refused(why) | Stopped::Rejected(why) => why.to_string(),
        Stopped::TooLarge => "too long".to_owned(),
        Stopped::Taken(_) | Stopped::Fault(_) => "ask again".to_owned(),
    };
    Reply::json(status, &json!({ "no": why }))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let chain = DevChain::new()?;
    let network = ChainId::eip155(chain.chain_id());
    let evm = Evm::new(chain.client(), network, 0, x402_devchain::key(0).into_iter().collect());
    let builder = Builder::new(owner(), Arc::new(MemoryLedger::new(now))).with_evm(evm)?;
    let tills = Arc::new(Tills { network, pay_to: ACCOUNTS[5].address });
    let builder = builder.with_engine(|engine| engine.with_dialect(tills));
    let (engine, heads) = builder.build()?;
    let routes = Routes::new(Arc::clone(&engine)).into_router();
    let mut serving = Serving::start(([127, 0, 0, 1], 0).into(), &engine, heads, routes).await?;
    println!("{}", json!({ "listening": format!("http://{}", serving.address()) }));
    tokio::select! { _ = tokio::signal::ctrl_c() => {} () = serving.broken() => {} }
    serving.stop().await;
    Ok(())
}
