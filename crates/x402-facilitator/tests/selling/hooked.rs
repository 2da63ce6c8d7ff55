//! Hooks of client, seller and facilitator around payments on a chain.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy_primitives::U256;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use serde_json::json;
use x402_devchain::{ACCOUNTS, DevChain};
use x402_facilitator::clock::now;
use x402_facilitator::engine::Patience;
use x402_facilitator::heads::Polling;
use x402_facilitator::mechanisms::{Builder, Evm};
use x402_facilitator::process::owner;
use x402_facilitator::routes::Routes;
use x402_facilitator::server::Serving;
use x402_facilitator_core::{Ledger, MemoryLedger};
use x402_http::client::{ClientError, PayClient, PayError};
use x402_http::remote::RemoteFacilitator;
use x402_http::server::Seller;
use x402_types::hooks::{HookedPayment, Hooks, PayHooks, PaymentEvent, PurchaseEvent};
use x402_types::{ErrorReason, Refusal, Rejection};

use crate::shop::{BUYER, cents, client, network, payer, seller_received, serve};
use crate::support::{SELLER, body, send, signed, tls};

type Told = Arc<Mutex<Vec<String>>>;

/// Notes each event with the name of its side.
fn noting(hooks: Hooks, side: &'static str, told: &Told) -> Hooks {
    let told = Arc::clone(told);
    hooks.with_observer(move |_, event| {
        let event = match event {
            PaymentEvent::Verified { payer } => {
                assert_eq!(*payer, Some(ACCOUNTS[BUYER].address.to_string().as_str()));
                "verified".into()
            }
            PaymentEvent::Settled { receipt } => format!("settled {}", receipt.transaction),
            PaymentEvent::NotVerified { refusal } => format!("not verified: {refusal}"),
            PaymentEvent::Canceled { why, .. } => format!("canceled: {why:?}"),
            other => format!("{other:?}"),
        };
        told.lock().unwrap().push(format!("{side} {event}"));
    })
}

/// Refuses payments of more than a cent.
async fn only_cents(payment: HookedPayment) -> Result<(), Refusal> {
    if payment.claim.terms.amount > 10_000.into() {
        return Err(Rejection::new(ErrorReason::INVALID_PAYLOAD).because("only cents today").into());
    }
    Ok(())
}

async fn facilitator(chain: &DevChain, hooks: Hooks) -> Serving {
    tls();
    let ledger: Arc<dyn Ledger> = Arc::new(MemoryLedger::new(now));
    let evm = Evm {
        polling: Polling { busy: Duration::from_millis(20), rest: Duration::from_millis(20) },
        ..Evm::new(chain.client(), network(), 0, x402_devchain::key(0).into_iter().collect())
    };
    let builder = Builder::new(owner(), ledger)
        .with_evm(evm)
        .unwrap()
        .with_engine(move |engine| engine.with_patience(Patience::waiting(Duration::from_secs(60))).with_hooks(hooks));
    let (engine, heads) = builder.build().unwrap();
    let routes = Routes::new(Arc::clone(&engine)).into_router();
    Serving::start((Ipv4Addr::LOCALHOST, 0).into(), &engine, heads, routes).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_side_learns_of_the_payment_and_may_refuse_it() {
    let chain = DevChain::new().unwrap();
    let told = Told::default();
    let serving =
        facilitator(&chain, noting(Hooks::default().with_before_settle(only_cents), "facilitator", &told)).await;
    let settles = format!("http://{}", serving.address());
    let remote = Arc::new(RemoteFacilitator::new(&settles).unwrap());
    let seller = Seller::new("https://shop.example", remote).unwrap();
    let seller = seller.with_hooks(noting(Hooks::default(), "seller", &told));
    let fails = get(async || StatusCode::INTERNAL_SERVER_ERROR);
    let app = Router::new()
        .route("/cent", get(async || "a page").layer(seller.charge([cents(1, SELLER)]).unwrap()))
        .route("/dear", get(async || "a page").layer(seller.charge([cents(5, SELLER)]).unwrap()))
        .route("/fails", fails.layer(seller.charge([cents(1, SELLER)]).unwrap()));
    let url = serve(app).await;
    let lines = || std::mem::take(&mut *told.lock().unwrap());

    let purchases = Told::default();
    let events = Arc::clone(&purchases);
    let hooks = PayHooks::default().with_observer(move |_, event| {
        events.lock().unwrap().push(match event {
            PurchaseEvent::Signed { .. } => "signed".into(),
            PurchaseEvent::Paid { receipt } => format!("paid {}", receipt.unwrap().transaction),
            other => format!("{other:?}"),
        });
    });
    let buyer = PayClient::new(payer().with_hooks(hooks)).unwrap();
    assert_eq!(buyer.get(&format!("{url}/cent")).await.unwrap().status(), StatusCode::OK);
    let transaction = chain.transfers()[0].transaction;
    let expected = ["facilitator verified", "seller verified", "facilitator settled", "seller settled"];
    let found = lines();
    assert!(found.iter().zip(expected).all(|(line, start)| line.starts_with(start)), "{found:?}");
    assert_eq!((found.len(), &found[3]), (4, &format!("seller settled {transaction}")));
    assert_eq!(*purchases.lock().unwrap(), ["signed".to_owned(), format!("paid {transaction}")]);

    // The facilitator's hook refuses the settlement: nothing is sent, and the seller gives nothing away.
    let refused = client().get(&format!("{url}/dear")).await.unwrap();
    assert_eq!(refused.status(), StatusCode::PAYMENT_REQUIRED);
    assert_eq!((seller_received(&chain), chain.transfers().len()), (U256::from(10_000), 1));
    let found = lines();
    assert!(found.iter().any(|line| line.contains("only cents today")), "{found:?}");
    assert_eq!(client().get(&format!("{url}/fails")).await.unwrap().status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(lines().last().map(String::as_str), Some("seller canceled: HandlerFailed"));
    assert_eq!(chain.transfers().len(), 1);

    // On the wire the refusal is an answer as any other.
    let terms = cents(5, SELLER).terms;
    let request = body(&terms, &signed(BUYER, &terms, chain.time()).await).to_string();
    let (status, answer) = send(&format!("{settles}/settle"), request, None).await;
    assert_eq!((status, &answer["success"], &answer["errorReason"]), (200, &json!(false), &json!("invalid_payload")));

    let asked = PayHooks::default().with_before_payment(|purchase| async move {
        let terms = purchase.terms.map(|terms| terms.amount.to_string()).unwrap_or_default();
        Err(Rejection::new(ErrorReason::INVALID_PAYLOAD).because(format!("the person refused {terms}")).into())
    });
    let error = PayClient::new(payer().with_hooks(asked)).unwrap().get(&format!("{url}/cent")).await.unwrap_err();
    let ClientError::Pay(PayError::Hook(why)) = error else { panic!("{error}") };
    assert!(why.to_string().contains("the person refused 10000"), "{why}");
    assert_eq!(chain.transfers().len(), 1);
    serving.stop().await;
}
