//! `x402 demo card`: credits of a plan, bought with a delegated card. The processor is a double in this process: no account,
//! key or chain is needed.
//!
//! The requests: one that buys, one that only uses credits, a declined card, a bank that wants its customer to confirm, a
//! limit, an answer that was lost although the card was charged, and a revoked delegation. The books come last.

use std::net::Ipv4Addr;
use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::routing::get;
use http::{HeaderMap, HeaderValue, Method};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use url::Url;
use x402_card::double::{DoubleRequest, Mishap};
use x402_card::{BasisPoints, CardPayer, CardPlan, CardPlans, Cents, Currency, Merchant, PlanLimit, offer};
use x402_facilitator::clock::now;
use x402_facilitator::dev_cards::DevCards;
use x402_http::client::{PayClient, Payer, SpendLimits};
use x402_http::remote::{Authorize, RemoteFacilitator};
use x402_http::server::Seller;
use x402_types::nvm::PlanId;
use x402_types::nvm::card::{CardRequirements, Processor};
use x402_types::{ChainId, Fault, U256};

use super::record::Recorder;
use super::show::Show;
use super::{Failure, failed};

/// The plan: ten credits for 7.00 usd, of which a request costs three.
const PLAN: u64 = 1001;
const PRICE: u64 = 700;
const CREDITS: u64 = 10;
const REPORT: u64 = 3;
/// The facilitator's share, in hundredths of a percent.
const FEE: u16 = 250;
const SELLER: &str = "acct_Seller01";

/// The callers of the facilitator: three buyers, whose cards behave differently, and the seller.
const CALLERS: [(&str, &str); 4] =
    [("alice", "alice-key"), ("bob", "bob-key"), ("carol", "carol-key"), ("shop", "shop-key")];

/// The last line; its members are in this order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Done {
    step: &'static str,
    card_debits: Vec<u64>,
    seller_received: u64,
    platform_fee: u64,
    credits: u64,
    spent_cents: String,
    charges: u64,
}

/// The seller's bearer token.
struct Shop;

#[async_trait]
impl Authorize for Shop {
    async fn headers(&self, _: &Method, _: &Url) -> Result<HeaderMap, Fault> {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_static("Bearer shop-key"));
        Ok(headers)
    }
}

struct Market {
    cards: DevCards,
    http: reqwest::Client,
    origin: String,
    plan: PlanId,
    /// The calls of the processor that were shown.
    shown: usize,
}

pub(super) async fn run(show: &mut Show) -> Result<(), Failure> {
    let plan = PlanId::from(U256::from(PLAN));
    let price = Cents::try_from(PRICE).map_err(failed)?;
    let fee = BasisPoints::try_from(FEE).map_err(failed)?;
    let of_plan = CardPlan::new(plan, Currency::Usd, price, CREDITS).with_merchant(Merchant::new(SELLER, fee));
    let plans = CardPlans::new([of_plan]).map_err(failed)?;
    let recorder = Recorder::default();
    let cards = DevCards::start((Ipv4Addr::LOCALHOST, 0).into(), plans, &CALLERS, |routes| routes);
    let cards = cards.await.map_err(failed)?;
    cards.double().add_account(SELLER);

    let remote = RemoteFacilitator::new(cards.url()).map_err(failed)?.with_authorize(Arc::new(Shop));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
    let origin = format!("http://{}", listener.local_addr().map_err(failed)?);
    let entry = CardRequirements::new(Processor::Stripe, plan);
    let offer = offer(&entry, REPORT.into()).map_err(failed)?;
    let layer = Seller::new(&origin, Arc::new(remote)).and_then(|shop| shop.charge([offer])).map_err(failed)?;
    let routes = Router::new().route("/report", get(async || "a report\n").layer(layer));
    let server = tokio::spawn(axum::serve(listener, recorder.on("server", routes)).into_future());

    show.step(&json!({ "step": "start", "server": origin, "facilitator": cards.url(), "network": "stripe",
        "plan": PLAN.to_string(), "priceCents": PRICE, "credits": CREDITS, "seller": SELLER }));
    let mut market = Market { cards, http: reqwest::Client::new(), origin, plan, shown: 0 };

    let method = market.enrol(show, "alice-key", "pm_card_visa").await?;
    let (first, token) = market.delegate(show, "alice-key", &method, 2_000).await?;
    market.buy(show, "a request that buys", &token, 200).await?;
    market.buy(show, "a request that uses credits", &token, 200).await?;

    let declined = market.enrol(show, "bob-key", "pm_card_visa_chargeDeclinedInsufficientFunds").await?;
    let (_, bobs) = market.delegate(show, "bob-key", &declined, 2_000).await?;
    market.buy(show, "a declined card", &bobs, 402).await?;
    let strong = market.enrol(show, "carol-key", "pm_card_authenticationRequired").await?;
    let (_, carols) = market.delegate(show, "carol-key", &strong, 2_000).await?;
    market.buy(show, "a bank that wants its customer (3-D Secure)", &carols, 402).await?;

    let (_, small) = market.delegate(show, "alice-key", &method, 700).await?;
    market.buy(show, "credits that are left", &small, 200).await?;
    market.cards.double().fail("POST", "/confirm", 1, Mishap::LostAfter);
    market.buy(show, "a lost answer that did charge", &small, 200).await?;
    market.cards.double().recover();
    market.buy(show, "the limit", &small, 402).await?;

    let path = format!("/api/v1/delegation/{first}");
    let revoked = market.call(Method::DELETE, &path, "alice-key", None).await?;
    show.step(&json!({ "step": "revoked", "delegation": first, "answer": revoked }));
    market.buy(show, "a revoked delegation", &token, 402).await?;
    server.abort();

    for exchange in recorder.take() {
        show.step(&exchange);
    }
    let book = market.cards.double().book();
    let record = market.cards.delegations().list("alice").await.map_err(failed)?;
    let credits = market.cards.books().credits(plan, "alice").await.map_err(failed)?;
    let spent: u64 = record.iter().map(|record| record.spent.value()).sum();
    let fees = book.debits.iter().filter_map(|debit| Some(debit.seller.as_ref()?.1)).sum();
    show.last(&Done {
        step: "done",
        card_debits: book.debits.iter().map(|debit| debit.amount).collect(),
        seller_received: book.received(SELLER),
        platform_fee: fees,
        credits,
        spent_cents: spent.to_string(),
        charges: record.iter().map(|record| record.charges).sum(),
    });
    let agree = book.charged() == spent;
    market.cards.stop().await;
    if agree { Ok(()) } else { Err("the processor's book and the counters differ".into()) }
}

impl Market {
    async fn call(&self, method: Method, path: &str, key: &str, body: Option<Value>) -> Result<Value, Failure> {
        let request = self.http.request(method, format!("{}{path}", self.cards.url())).bearer_auth(key);
        let request = body.iter().fold(request, |request, body| request.json(body));
        let response = request.send().await.map_err(failed)?.error_for_status().map_err(failed)?;
        response.json().await.map_err(failed)
    }

    /// Enrols a card; the browser's part is a call of the processor.
    async fn enrol(&self, show: &mut Show, key: &str, card: &str) -> Result<String, Failure> {
        let setup = self.call(Method::POST, "/payments/card/setup", key, Some(json!({}))).await?;
        let id = text(&setup, "setupIntentId")?;
        let confirm = DoubleRequest {
            method: "POST".to_owned(),
            target: format!("/v1/setup_intents/{id}/confirm"),
            body: format!("payment_method={card}"),
            authorization: "Bearer sk_test_browser".to_owned(),
            key: None,
        };
        self.cards.double().handle(&confirm, now()).ok_or("the browser has no answer")?;
        let body = json!({ "setupIntentId": id });
        let enrolled = self.call(Method::POST, "/payments/card/enroll", key, Some(body)).await?;
        show.step(&json!({ "step": "enrolment", "testCard": card, "card": enrolled }));
        text(&enrolled, "id")
    }

    async fn delegate(
        &self,
        show: &mut Show,
        key: &str,
        method: &str,
        limit: u64,
    ) -> Result<(String, String), Failure> {
        let body = json!({ "provider": "stripe", "providerPaymentMethodId": method, "spendingLimitCents": limit,
                           "durationSecs": 3600, "currency": "usd", "planId": PLAN.to_string() });
        let made = self.call(Method::POST, "/api/v1/delegation/create", key, Some(body.clone())).await?;
        let (id, token) = (text(&made, "delegationId")?, text(&made, "delegationToken")?);
        show.step(&json!({ "step": "delegation", "id": id, "asked": body }));
        Ok((id, token))
    }

    /// Buys a report, and shows the calls of the processor.
    async fn buy(&mut self, show: &mut Show, what: &str, token: &str, status: u16) -> Result<(), Failure> {
        let price = Cents::try_from(PRICE).map_err(failed)?;
        let payer = CardPayer::new(token, [PlanLimit::new(self.plan, REPORT, price)]).map_err(failed)?;
        let network: ChainId = Processor::Stripe.network().ok_or("the processor has no network")?;
        let limits = SpendLimits::default().with_asset(network, &self.plan.to_string(), REPORT.into());
        let client = PayClient::new(Payer::new(payer).with_spending(limits)).map_err(failed)?;
        self.shown = self.cards.double().made();
        let response = client.get(&format!("{}/report", self.origin)).await.map_err(failed)?;
        let is = response.status().as_u16();
        let header = response.headers().get("payment-response").and_then(|value| value.to_str().ok());
        let receipt = header.and_then(|header| x402_codec::base64::decode(header.as_bytes(), 16_384).ok());
        let receipt: Value = receipt.and_then(|receipt| serde_json::from_slice(&receipt).ok()).unwrap_or_default();
        let calls = self.cards.double().requests();
        let calls: Vec<String> =
            calls.iter().skip(self.shown).map(|call| format!("{} {}", call.method, call.target)).collect();
        show.step(
            &json!({ "step": "payment", "what": what, "status": is, "processorCalls": calls, "receipt": receipt }),
        );
        if is == status { Ok(()) } else { Err(format!("{what}: status {is}, expected {status}").into()) }
    }
}

fn text(value: &Value, name: &str) -> Result<String, Failure> {
    let text = value.get(name).and_then(Value::as_str);
    text.map(str::to_owned).ok_or_else(|| format!("no {name}").into())
}
