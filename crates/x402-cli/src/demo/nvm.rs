//! `x402 demo nvm`: credits of a plan, bought and redeemed by the session keys of a smart account.
//!
//! There are three requests: the first orders credits and redeems some, the second only redeems, and the third, with a
//! key that can only redeem, requires more credits than are left.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, U256};
use axum::Router;
use axum::routing::get;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use x402_codec::{Limits, body, header};
use x402_devchain::{DevChain, DevPlan, key};
use x402_erc4337::nvm::{DelegationLimits, Payer as PlanPayer, Plans};
use x402_erc4337::session::zerodev::{KernelAccount, KernelVersion};
use x402_facilitator::dev::{DevFacilitator, served};
use x402_http::client::{PayClient, Payer, PaymentSent, Receipt, SpendLimits};
use x402_http::remote::RemoteFacilitator;
use x402_http::server::Seller;
use x402_types::nvm::{self, Requirements};
use x402_types::{AtomicAmount, ChainId, Entry, EvmAddress, Members, SchemeName};

use super::record::Recorder;
use super::show::Show;
use super::{Failure, PAYER, SELLER, account, failed};

/// The plan: ten credits for one USDC.
const PLAN: u64 = 402;
const PRICE: u64 = 1_000_000;
const CREDITS: u64 = 10;
/// The credits for a task and for a report, which costs more than two tasks leave.
const TASK: u64 = 3;
const REPORT: u64 = 5;

/// The last line; its members are in this order.
#[derive(Debug, Serialize)]
struct Done {
    step: &'static str,
    first: First,
    second: Redeemed,
    third: Refused,
}

#[derive(Debug, Serialize)]
struct First {
    #[serde(rename = "orderTx")]
    order_tx: String,
    #[serde(flatten)]
    redeemed: Redeemed,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Redeemed {
    transaction: String,
    credits_redeemed: AtomicAmount,
    remaining_balance: AtomicAmount,
}

#[derive(Debug, Serialize)]
struct Refused {
    status: u16,
    error: String,
    details: Members,
}

pub(super) async fn run(show: &mut Show) -> Result<(), Failure> {
    let recorder = Recorder::default();
    let (owner, seller) = (account(PAYER)?, account(SELLER)?);
    let smart = KernelAccount::new(KernelVersion::V031, owner, U256::ZERO);
    let plan = DevPlan::credits(seller, PRICE, CREDITS);

    let chain = DevChain::new().map_err(failed)?;
    chain.register_plan(U256::from(PLAN), plan).map_err(failed)?;
    chain.set_balance_of(smart.address(), U256::from(5 * PRICE));
    let network = ChainId::eip155(chain.chain_id());
    let listen = (Ipv4Addr::LOCALHOST, 0).into();
    let dress = |routes| recorder.on("facilitator", routes);
    let plans = [(U256::from(PLAN), plan)];
    let facilitator = DevFacilitator::selling(chain.clone(), &plans, listen, Duration::from_secs(30), dress);
    let facilitator = facilitator.await.map_err(failed)?;
    let remote = RemoteFacilitator::new(facilitator.url()).map_err(failed)?;
    // "`/supported` lists the session signer; the server copies it to `accepts[].extra.sessionSigner`."
    let session_signer = session_signer(facilitator.url(), network).await?;
    let entry = Requirements::new(network, U256::from(PLAN).into()).with_session_signer(&session_signer.to_string());

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
    let origin = format!("http://{}", listener.local_addr().map_err(failed)?);
    let shop = Seller::new(&origin, Arc::new(remote)).map_err(failed)?;
    let costs = |credits: u64| {
        let offer = entry.to_offer(AtomicAmount::from(credits)).map_err(failed)?;
        shop.charge([offer]).map_err(failed)
    };
    let routes = Router::new()
        .route("/task", get(async || "done\n").layer(costs(TASK)?))
        .route("/report", get(async || "never reached\n").layer(costs(REPORT)?));
    let server = tokio::spawn(axum::serve(listener, recorder.on("server", routes)).into_future());

    show.step(&json!({
        "step": "start", "server": origin, "facilitator": facilitator.url(), "rpc": facilitator.rpc(),
        "network": network, "account": smart.address(), "owner": owner, "seller": seller, "plan": PLAN.to_string(),
        "sessionSigner": session_signer,
    }));
    let balances = |show: &mut Show, when: &str| -> Result<(), Failure> {
        let credits = chain.credits_of(smart.address(), U256::from(PLAN)).map_err(failed)?;
        show.balances(when, &chain, &[("account", smart.address()), ("seller", seller)]);
        show.step(&json!({ "step": "credits", "when": when, "account": credits.to_string() }));
        Ok(())
    };
    balances(show, "before")?;

    let client = |allowance| client(network, smart, plan, session_signer, allowance);
    let allowance = DelegationLimits { credits: U256::from(TASK), ..DelegationLimits::default() };
    show.step(&json!({
        "step": "issue", "keys": ["order", "redeem"], "signer": session_signer,
        "creditsPerRequest": allowance.credits.to_string(), "purchasesPerOrder": allowance.purchases,
        "operations": allowance.count, "seconds": allowance.seconds,
    }));
    let both = client(allowance)?;
    let task = format!("{origin}/task");
    let first = paid(show, &both, &task).await?;
    record(show, &recorder);
    balances(show, "after the first")?;
    let second = paid(show, &both, &task).await?;
    record(show, &recorder);
    balances(show, "after the second")?;

    let redeem = client(DelegationLimits { credits: U256::from(REPORT), purchases: 0, ..allowance })?;
    let third = refused(&redeem, &format!("{origin}/report")).await?;
    record(show, &recorder);
    balances(show, "after the third")?;
    server.abort();
    facilitator.stop().await;

    let order_tx = first.order_tx.clone().ok_or("the first request ordered nothing")?;
    let done = Done {
        step: "done",
        first: First { order_tx, redeemed: redeemed(&first)? },
        second: redeemed(&second)?,
        third,
    };
    let distinct = done.first.order_tx != done.first.redeemed.transaction
        && done.first.order_tx != done.second.transaction
        && done.first.redeemed.transaction != done.second.transaction
        && second.order_tx.is_none();
    show.last(&done);
    if distinct && done.third.status == 402 { Ok(()) } else { Err("the requests did not go as they should".into()) }
}

/// Returns the address that signs operations at this facilitator.
async fn session_signer(facilitator: &str, network: ChainId) -> Result<Address, Failure> {
    let answer = reqwest::get(format!("{facilitator}/supported")).await.map_err(failed)?;
    let answer = answer.bytes().await.map_err(failed)?;
    let supported = body::supported_response(&answer, &Limits::DEFAULT).map_err(failed)?;
    let mut kinds = supported.kinds.iter().filter_map(Entry::known);
    let kind = kinds.find(|kind| kind.scheme == SchemeName::NVM_ERC4337 && kind.network.chain_id() == Some(network));
    let named: Option<EvmAddress> = kind.and_then(|kind| kind.extra.get("sessionSigner")?.read().ok());
    named
        .and_then(|named| Address::try_from(named).ok())
        .ok_or_else(|| "the facilitator names no session signer".into())
}

fn client(
    network: ChainId,
    smart: KernelAccount,
    plan: DevPlan,
    session_signer: Address,
    allowance: DelegationLimits,
) -> Result<PayClient, Failure> {
    let owner = key(PAYER).ok_or("the chain has no such account")?;
    let plans = Plans::new([served(U256::from(PLAN), plan)]).map_err(failed)?;
    let payer = PlanPayer::new(owner, smart, plans, [session_signer]).with_allowance(allowance);
    let spending = SpendLimits::default().with_asset(network, &PLAN.to_string(), AtomicAmount::ZERO);
    PayClient::new(Payer::new(payer).with_spending(spending)).map_err(failed)
}

async fn paid(show: &mut Show, client: &PayClient, url: &str) -> Result<nvm::Receipt, Failure> {
    let response = client.get(url).await.map_err(failed)?;
    let sent = response.extensions().get::<PaymentSent>().ok_or("nothing was paid")?;
    // Session keys make the header longer than some proxies accept.
    show.step(&json!({ "step": "header", "name": "PAYMENT-SIGNATURE", "bytes": sent.header_bytes }));
    let receipt = response.extensions().get::<Receipt>().map(|receipt| receipt.0.clone()).ok_or("no receipt")?;
    let receipt = nvm::Receipt::from_response(&receipt).map_err(failed)?;
    response.bytes().await.map_err(failed)?;
    if receipt.success { Ok(receipt) } else { Err("a request was not settled".into()) }
}

fn redeemed(receipt: &nvm::Receipt) -> Result<Redeemed, Failure> {
    Ok(Redeemed {
        transaction: receipt.transaction.clone(),
        credits_redeemed: receipt.credits_redeemed.ok_or("a receipt without creditsRedeemed")?,
        remaining_balance: receipt.remaining_balance.ok_or("a receipt without remainingBalance")?,
    })
}

async fn refused(client: &PayClient, url: &str) -> Result<Refused, Failure> {
    let response = client.get(url).await.map_err(failed)?;
    let status = response.status().as_u16();
    let value = response.headers().get(&header::PAYMENT_REQUIRED).ok_or("a refusal without PAYMENT-REQUIRED")?;
    let required: Value = header::decode(value.as_bytes(), &Limits::DEFAULT).map_err(failed)?;
    let member = |name: &str| required.get(name).cloned().unwrap_or_default();
    let details = serde_json::from_value(member("details")).map_err(failed)?;
    Ok(Refused { status, error: member("error").as_str().unwrap_or_default().to_owned(), details })
}

fn record(show: &mut Show, recorder: &Recorder) {
    for exchange in recorder.take() {
        show.step(&exchange);
    }
}
