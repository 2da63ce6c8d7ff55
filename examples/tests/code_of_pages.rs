//! The code in `docs/selling-in-rust.md` and `docs/nvm.md`, with what a reader has around it. What compiles here is what stands
//! there: a test compares each block with this file, but for indentation.
#![allow(clippy::unwrap_used, dead_code, clippy::unused_async, clippy::let_and_return, clippy::needless_pass_by_value)]

use std::error::Error;
use std::sync::Arc;

use alloy_primitives::Address;
use axum::Router;
use axum::routing::{get, post};
use x402::client::Payer;
use x402::evm::exact;
use x402::evm::exact::Price;
use x402::evm::key::Key;
use x402::server::{RemoteFacilitator, Seller};
use x402::types::hooks::HookedPurchase;
use x402::types::nvm::{PlanId, Requirements};
use x402::types::{AtomicAmount, ChainId, Claim, Fault, Refusal};

type Done<T> = Result<T, Box<dyn Error>>;

async fn page() -> &'static str {
    "paid content"
}

/// What the page calls a database.
#[derive(Clone)]
struct Prices;

impl Prices {
    async fn of(&self, _author: &str, _words: usize) -> Result<(Address, Price), std::io::Error> {
        Ok((Address::ZERO, "$0.01".parse().unwrap()))
    }
}

fn a_price_for_each_request(seller: &Seller, prices: Prices, network: ChainId) -> Done<Router> {
    use x402::evm::exact::Exact;
    use x402::server::price_by;
    use x402::types::Fault;

    let pages = price_by(move |request| {
        let words = request.uri.query().unwrap_or_default().split('+').count();
        let author = request.uri.path().rsplit('/').next().unwrap_or_default().to_owned();
        let prices = prices.clone();
        async move {
            let (pay_to, price) = prices.of(&author, words).await.map_err(Fault::broken)?;
            Exact::default().requirements(network, pay_to, price).map(|offer| vec![offer]).map_err(Fault::broken)
        }
    });
    let app = Router::new().route("/by/{author}", get(page).layer(seller.charge_by(pages)));
    Ok(app)
}

fn several_facilitators(origin: String, own: RemoteFacilitator, hosted: RemoteFacilitator) -> Done<Seller> {
    let seller = Seller::new(&origin, Arc::new(own))?.with_facilitator("hosted", Arc::new(hosted))?;
    Ok(seller)
}

/// What the page asks about an account.
#[derive(Clone)]
struct Blocked;

impl Blocked {
    async fn has(&self, _claim: &Claim) -> Result<bool, Fault> {
        Ok(false)
    }
}

fn hooks_of_a_seller(seller: Seller, blocked: Blocked) -> Seller {
    use x402::types::hooks::{Hooks, PaymentEvent};
    use x402::types::{ErrorReason, Rejection};

    let hooks = Hooks::default()
        .with_before_verify(move |payment| {
            let blocked = blocked.clone();
            async move {
                match blocked.has(&payment.claim).await? {
                    true => Err(Rejection::new(ErrorReason::INVALID_PAYLOAD).because("this account is closed").into()),
                    false => Ok(()),
                }
            }
        })
        .with_observer(|payment, event| match event {
            PaymentEvent::Settled { receipt } => println!("paid: {}", receipt.transaction),
            PaymentEvent::Canceled { why, .. } => println!("not charged: {why:?}"),
            _ => println!("{payment:?}: {event:?}"),
        });
    let seller = seller.with_hooks(hooks);
    seller
}

fn rules_of_a_buyer(key: Key) -> Done<Payer> {
    use x402::client::{PayPolicy, Selector};

    let payer = Payer::new(exact::Payer::new(key))
        .with_policy(PayPolicy::networks(["eip155:8453".parse()?]))
        .with_policy(PayPolicy::at_most(50_000.into()))
        .with_policy(PayPolicy::new("known sellers", |terms| match terms.pay_to.as_str() {
            "0x90F79bf6EB2c4f870365E785982E1f101E93b906" => Ok(()),
            other => Err(format!("expected the library, found {other}").into()),
        }))
        .with_selector(Selector::new(|entries| {
            (0..entries.len()).min_by_key(|at| entries.get(*at).map(|terms| terms.amount))
        }));
    Ok(payer)
}

async fn ask_a_person(_purchase: HookedPurchase) -> Result<(), Refusal> {
    Ok(())
}

fn hooks_of_a_buyer(payer: Payer) -> Payer {
    use x402::types::hooks::{PayHooks, PurchaseEvent};

    let hooks = PayHooks::default()
        .with_before_payment(|purchase| async move { ask_a_person(purchase).await })
        .with_observer(|purchase, event| {
            if let PurchaseEvent::Paid { .. } = event {
                println!("paid for {}", purchase.url);
            }
        });
    payer.with_hooks(hooks)
}

async fn handler() -> &'static str {
    "an answer"
}

fn a_plan(
    (network, plan, credits): (ChainId, PlanId, AtomicAmount),
    signer: String,
    facilitator: Arc<RemoteFacilitator>,
) -> Done<Router> {
    let entry = Requirements::new(network, plan).with_session_signer(&signer).with_verb("POST");
    let shop = Seller::new("https://agent.example", facilitator)?;
    let route = post(handler).layer(shop.charge([entry.to_offer(credits)?])?);
    Ok(Router::new().route("/agent", route))
}

/// The lines of a text without their indentation.
fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
}

#[test]
fn the_code_of_the_pages_stands_here() {
    let here = lines(include_str!("code_of_pages.rs"));
    for (page, blocks) in [(include_str!("../../docs/selling-in-rust.md"), 5), (include_str!("../../docs/nvm.md"), 1)] {
        let found: Vec<&str> = page.split("```rust").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
        assert_eq!(found.len(), blocks);
        for block in found {
            let (_, code) = block.split_once('\n').unwrap();
            let code = lines(code);
            assert!(
                here.windows(code.len()).any(|window| window == code),
                "this block is not the code that is compiled here:\n{}",
                code.join("\n")
            );
        }
    }
}
