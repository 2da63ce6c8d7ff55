//! Payments by card over HTTP: the double, a facilitator, a seller and a client, each on a port of its own.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use base64_simd::STANDARD;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use x402_card::double::{Double, DoubleRequest, Mishap};
use x402_card::{
    BasisPoints, CardAccount, CardPayer, CardPlan, CardPlans, Cents, Currency, MemoryCards, Merchant, PlanLimit,
    TokenKeys, TokenSigner, offer,
};
use x402_facilitator::clock::now;
use x402_facilitator::dev_cards::DoubleServer;
use x402_facilitator::mechanisms::{Builder, CardPayments};
use x402_facilitator::process::owner;
use x402_facilitator::processor::HttpProcessor;
use x402_facilitator::routes::Routes;
use x402_facilitator::server::Serving;
use x402_facilitator_core::MemoryLedger;
use x402_http::client::{PayClient, Payer, Receipt, SpendLimits};
use x402_http::remote::{Authorize, RemoteFacilitator};
use x402_http::server::Seller;
use x402_types::nvm::card::{CardRequirements, Processor};
use zeroize::Zeroizing;

const SELLER: &str = "acct_Seller01";

fn cents(cents: u64) -> Cents {
    Cents::try_from(cents).unwrap()
}

struct Market {
    double: Arc<Double>,
    facilitator: String,
    http: reqwest::Client,
    _serving: Serving,
    _processor: DoubleServer,
}

struct Token(&'static str);

#[async_trait::async_trait]
impl Authorize for Token {
    async fn headers(&self, _: &http::Method, _: &url::Url) -> Result<http::HeaderMap, x402_types::Fault> {
        let mut headers = http::HeaderMap::new();
        headers.insert("authorization", format!("Bearer {}", self.0).parse().unwrap());
        Ok(headers)
    }
}

impl Market {
    async fn open() -> Self {
        x402_http::service::install_tls();
        let double = Arc::new(Double::default());
        double.add_account(SELLER);
        let key = Zeroizing::new("sk_test_double".to_owned());
        let server = DoubleServer::start(Arc::clone(&double)).await.unwrap();
        let processor = HttpProcessor::new(server.url(), key).unwrap();
        let stores = Arc::new(MemoryCards::default());
        let merchant = Merchant::new(SELLER, BasisPoints::try_from(250).unwrap());
        let plan = CardPlan::new("1001".parse().unwrap(), Currency::Usd, cents(700), 10).with_merchant(merchant);
        let (builder, desk) = Builder::new(owner(), Arc::new(MemoryLedger::new(now)))
            .with_cards(CardPayments {
                issuer: "https://facilitator.example".to_owned(),
                signer: TokenSigner::new("k1", &[7; 32]).unwrap(),
                former: TokenKeys::new(),
                plans: CardPlans::new([plan]).unwrap(),
                account: Arc::new(CardAccount::new(Arc::new(processor), "main", false)),
                delegations: stores.clone() as _,
                books: stores.clone() as _,
                cards: stores,
                longest: 86_400,
                lanes: 2,
            })
            .unwrap();
        let (engine, heads) = builder.build().unwrap();
        let secret = |text: &str| Zeroizing::new(text.to_owned());
        let routes = Routes::new(Arc::clone(&engine)).with_cards(desk);
        let routes = routes.with_caller("alice", secret("alice-key")).with_caller("bob", secret("bob-key"));
        let routes = routes.with_caller("shop", secret("shop-key"));
        let serving =
            Serving::start("127.0.0.1:0".parse().unwrap(), &engine, heads, routes.into_router()).await.unwrap();
        let facilitator = format!("http://{}", serving.address());
        Self { double, facilitator, http: reqwest::Client::new(), _serving: serving, _processor: server }
    }

    async fn call(&self, method: reqwest::Method, path: &str, key: &str, body: Value) -> (u16, Value) {
        let request = self.http.request(method, format!("{}{path}", self.facilitator)).bearer_auth(key);
        let request = if body.is_null() { request } else { request.json(&body) };
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap_or_default())
    }

    async fn post(&self, path: &str, key: &str, body: Value) -> (u16, Value) {
        self.call(reqwest::Method::POST, path, key, body).await
    }

    async fn get(&self, path: &str, key: &str) -> (u16, Value) {
        self.call(reqwest::Method::GET, path, key, Value::Null).await
    }

    /// Enrols a card as the user's browser does, and returns its handle.
    async fn enrol(&self, key: &str, method: &str) -> String {
        let (status, setup) = self.post("/payments/card/setup", key, json!({})).await;
        assert_eq!(status, 200, "{setup}");
        let id = setup["setupIntentId"].as_str().unwrap();
        assert_eq!(self.post("/payments/card/enroll", key, json!({ "setupIntentId": id })).await.0, 409, "not yet");
        let confirm = DoubleRequest {
            method: "POST".to_owned(),
            target: format!("/v1/setup_intents/{id}/confirm"),
            body: format!("payment_method={method}"),
            authorization: "Bearer sk_test_browser".to_owned(),
            key: None,
        };
        assert_eq!(self.double.handle(&confirm, now()).unwrap().status, 200);
        let (status, card) =
            self.post("/api/v1/delegation/finalize-enrollment", key, json!({ "setupIntentId": id })).await;
        assert_eq!(
            (status, &card["brand"], &card["last4"], &card["expMonth"]),
            (200, &json!("visa"), &json!("4242"), &Value::Null)
        );
        card["id"].as_str().unwrap().to_owned()
    }

    /// Makes a delegation, and returns its id and its token.
    async fn delegate(&self, key: &str, method: &str, limit: u64) -> (String, String) {
        let body = json!({ "provider": "stripe", "providerPaymentMethodId": method, "spendingLimitCents": limit,
                           "durationSecs": 3600, "currency": "usd" });
        let (status, made) = self.post("/api/v1/delegation/create", key, body).await;
        assert_eq!(status, 201, "{made}");
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        (text("delegationId"), text("delegationToken"))
    }

    /// The SDK's access token for the plan.
    async fn permit(&self, key: &str, delegation: &str, version: u64) -> (u16, Value) {
        let accepted = json!({ "scheme": "nvm:card-delegation", "network": "stripe", "planId": "1001" });
        let body = json!({ "accepted": accepted, "tokenVersion": version, "delegationConfig": { "delegationId": delegation } });
        self.post("/api/v1/x402/permissions", key, body).await
    }

    /// The SDK's request: no `error`, no `extra`, a relative URL.
    async fn ask(&self, path: &str, token: &str, credits: &str, id: Option<&str>) -> (u16, Value) {
        let mut body = json!({
            "paymentRequired": { "x402Version": 2, "resource": { "url": "/reports" }, "extensions": {},
                "accepts": [{ "scheme": "nvm:card-delegation", "network": "stripe", "planId": "1001" }] },
            "x402AccessToken": token, "maxAmount": credits,
        });
        if let Some(id) = id {
            body["agentRequestId"] = json!(id);
        }
        self.post(path, "shop-key", body).await
    }
}

/// A seller's route for at most three credits, before the facilitator.
async fn sell(market: &Market) -> String {
    let facilitator = RemoteFacilitator::new(&market.facilitator).unwrap().with_authorize(Arc::new(Token("shop-key")));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let seller = Seller::new(&origin, Arc::new(facilitator)).unwrap();
    let entry = CardRequirements::new(Processor::Stripe, "1001".parse().unwrap());
    let layer = seller.charge([offer(&entry, 3_u64.into()).unwrap()]).unwrap();
    let app = Router::new().route("/reports", get(async || "a report")).layer(layer);
    tokio::spawn(async move { axum::serve(listener, app).await });
    origin
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_pays_a_seller_with_a_delegated_card() {
    let market = Market::open().await;
    let method = market.enrol("alice-key", "pm_card_visa").await;
    let (id, token) = market.delegate("alice-key", &method, 2_000).await;
    let origin = sell(&market).await;
    let payer = CardPayer::new(token, [PlanLimit::new("1001".parse().unwrap(), 3, cents(700))]).unwrap();
    let limits = SpendLimits::default().with_asset("card:stripe".parse().unwrap(), "1001", 3_u64.into());
    let client = PayClient::new(Payer::new(payer).with_spending(limits)).unwrap();
    for (remaining, charged, bought) in [("7", 700, true), ("4", 700, false)] {
        let response = client.get(&format!("{origin}/reports")).await.unwrap();
        assert_eq!(response.status(), 200);
        let header = response.headers()["payment-response"].to_str().unwrap().to_owned();
        assert!(response.extensions().get::<Receipt>().is_some());
        assert_eq!(response.text().await.unwrap(), "a report");
        let receipt: Value = serde_json::from_slice(&STANDARD.decode_to_vec(header).unwrap()).unwrap();
        assert_eq!(
            (&receipt["success"], &receipt["network"], &receipt["payer"]),
            (&json!(true), &json!("stripe"), &json!("alice"))
        );
        assert_eq!((&receipt["creditsRedeemed"], &receipt["remainingBalance"]), (&json!("3"), &json!(remaining)));
        assert_eq!(receipt["orderTx"].is_string(), bought);
        assert_eq!(market.double.book().charged(), charged);
    }
    assert_eq!(market.double.book().received(SELLER), 683);
    let (_, shown) = market.get(&format!("/api/v1/delegation/{id}"), "alice-key").await;
    assert_eq!(
        (&shown["amountSpentCents"], &shown["remainingBudgetCents"], &shown["transactionCount"]),
        (&json!("700"), &json!("1300"), &json!(1))
    );
    let (_, list) = market.get(&format!("/api/v1/delegation/{id}/transactions"), "alice-key").await;
    assert_eq!(
        (&list["transactions"][0]["status"], &list["transactions"][0]["amountCents"]),
        (&json!("succeeded"), &json!("700"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdks_requests_are_verified_and_settled() {
    let market = Market::open().await;
    let method = market.enrol("alice-key", "pm_card_visa").await;
    let (id, _) = market.delegate("alice-key", &method, 2_000).await;
    let (_, permitted) = market.permit("alice-key", &id, 3).await;
    let token = permitted["accessToken"].as_str().unwrap();
    let calls = market.double.made();
    let (status, verdict) = market.ask("/api/v1/x402/verify", token, "3", None).await;
    assert_eq!(
        (status, &verdict["isValid"], &verdict["payer"], &verdict["network"]),
        (200, &json!(true), &json!("alice"), &json!("stripe"))
    );
    assert_eq!(market.double.made(), calls, "nothing is charged by a verification");
    let name = verdict["agentRequestId"].as_str().unwrap();
    let (status, more) = market.ask("/api/v1/x402/settle", token, "4", Some(name)).await;
    assert_eq!((status, &more["errorReason"]), (200, &json!("INVALID_PAYLOAD")), "more than was verified");
    let (status, receipt) = market.ask("/api/v1/x402/settle", token, "3", Some(name)).await;
    assert_eq!(
        (status, &receipt["success"], &receipt["creditsRedeemed"]),
        (200, &json!(true), &json!("3")),
        "{receipt}"
    );
    // The token pays once: another request is refused.
    let (status, again) = market.ask("/verify", token, "3", None).await;
    assert_eq!((status, &again["isValid"]), (200, &json!(false)), "{again}");
    let (status, again) = market.ask("/settle", token, "3", None).await;
    assert_eq!((status, &again["success"]), (409, &json!(false)), "{again}");
    assert_eq!(market.double.book().charged(), 700);
    let (_, supported) = market.get("/supported", "shop-key").await;
    assert_eq!(supported["kinds"], json!([{ "x402Version": 2, "scheme": "nvm:card-delegation", "network": "stripe" }]));
    assert!(!supported.to_string().contains("card:"), "{supported}");
    let (_, keys) = market.get("/.well-known/jwks.json", "").await;
    assert_eq!(
        (&keys["keys"][0]["kid"], &keys["keys"][0]["alg"], keys["keys"][0].get("d")),
        (&json!("k1"), &json!("ES256"), None)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declined_card_is_told_within_seconds() {
    let market = Market::open().await;
    let method = market.enrol("alice-key", "pm_card_visa_chargeDeclinedInsufficientFunds").await;
    let (id, _) = market.delegate("alice-key", &method, 2_000).await;
    let (_, permitted) = market.permit("alice-key", &id, 2).await;
    let began = Instant::now();
    let (status, refused) = market.ask("/settle", permitted["accessToken"].as_str().unwrap(), "3", None).await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(
        (status, &refused["success"], &refused["errorReason"], &refused["transaction"]),
        (200, &json!(false), &json!("CARD_DECLINED"), &json!(""))
    );
    let details = &refused["error"]["details"];
    assert_eq!((&details["declineCode"], &details["nvmCode"]), (&json!("insufficient_funds"), &json!("BCK.X402.0049")));
    assert_eq!(market.double.book().debits.len(), 0);
    let (_, shown) = market.get(&format!("/api/v1/delegation/{id}"), "alice-key").await;
    assert_eq!((&shown["status"], &shown["amountSpentCents"]), (&json!("Active"), &json!("0")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delegation_revoked_between_verify_and_settle_charges_nothing() {
    let market = Market::open().await;
    let method = market.enrol("alice-key", "pm_card_visa").await;
    let (id, _) = market.delegate("alice-key", &method, 2_000).await;
    let (_, permitted) = market.permit("alice-key", &id, 2).await;
    let token = permitted["accessToken"].as_str().unwrap();
    let (_, verdict) = market.ask("/verify", token, "3", None).await;
    assert_eq!(verdict["isValid"], json!(true));
    let path = format!("/api/v1/delegation/{id}");
    assert_eq!(market.call(reqwest::Method::DELETE, &path, "bob-key", Value::Null).await.0, 404, "another's");
    for _ in 0..2 {
        let revoked = market.call(reqwest::Method::DELETE, &path, "alice-key", Value::Null).await;
        assert_eq!(revoked, (200, json!({ "success": true })));
    }
    let calls = market.double.made();
    let (status, refused) = market.ask("/settle", token, "3", verdict["agentRequestId"].as_str()).await;
    assert_eq!((status, &refused["errorReason"]), (200, &json!("DELEGATION_INACTIVE")));
    assert_eq!(refused["error"]["details"]["nvmCode"], json!("BCK.X402.0020"));
    assert_eq!((market.double.made(), market.double.book().debits.len()), (calls, 0));
    assert_eq!(market.permit("alice-key", &id, 2).await.1["code"], json!("BCK.X402.0020"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_that_did_charge_is_found_and_not_repeated() {
    let market = Market::open().await;
    let method = market.enrol("alice-key", "pm_card_visa").await;
    let (id, _) = market.delegate("alice-key", &method, 2_000).await;
    let (_, permitted) = market.permit("alice-key", &id, 2).await;
    market.double.fail("POST", "/confirm", 1, Mishap::LostAfter);
    let (_, receipt) = market.ask("/settle", permitted["accessToken"].as_str().unwrap(), "3", None).await;
    assert_eq!(receipt["success"], json!(true), "{receipt}");
    assert_eq!((market.double.book().charged(), market.double.book().debits.len()), (700, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_at_the_routes_is_named() {
    let market = Market::open().await;
    let method = market.enrol("alice-key", "pm_card_visa").await;
    let good = json!({ "provider": "stripe", "providerPaymentMethodId": method, "spendingLimitCents": 5000, "currency": "usd" });
    let with = |name: &str, value: Value| {
        let mut body = good.clone();
        body[name] = value;
        body
    };
    let mut no_currency = good.clone();
    no_currency.as_object_mut().unwrap().remove("currency");
    for (key, body, status, code) in [
        ("alice-key", no_currency, 400, "BCK.DELEGATION.0004"),
        ("alice-key", with("provider", json!("braintree")), 400, "BCK.X402.0034"),
        ("alice-key", with("currency", json!("USD")), 400, "BCK.X402.0034"),
        ("alice-key", with("spendingLimitCents", json!(49)), 400, "BCK.X402.0010"),
        ("alice-key", with("spendingLimitCents", json!("5000")), 400, "BCK.X402.0010"),
        ("alice-key", with("durationSecs", json!(86_401)), 400, "BCK.X402.0010"),
        ("alice-key", with("maxTransactions", json!(0)), 400, "BCK.X402.0010"),
        ("alice-key", with("providerPaymentMethodId", json!("pm_unknown")), 404, "BCK.DELEGATION.0001"),
        // Another's card is unknown.
        ("bob-key", good.clone(), 404, "BCK.DELEGATION.0001"),
    ] {
        let (is, answer) = market.post("/api/v1/delegation/create", key, body.clone()).await;
        assert_eq!((is, &answer["code"]), (status, &json!(code)), "{body}");
    }
    assert_eq!(market.post("/api/v1/delegation/create", "nobody", good).await.0, 401);
    assert_eq!(market.get("/api/v1/delegation", "nobody").await.0, 401);
    // A card number does not belong here, in whatever member.
    let body = json!({ "setupIntentId": "seti_1", "number": "4242424242424242" });
    assert_eq!(market.post("/payments/card/enroll", "alice-key", body).await.0, 400);
    let elsewhere = json!({ "setupIntentId": "seti_1/../customers" });
    assert_eq!(market.post("/payments/card/enroll", "alice-key", elsewhere).await.1["code"], json!("BCK.X402.0037"));
    // A token for another facilitator's key, another plan, another amount of credits.
    let (status, refused) = market.ask("/settle", "e30=", "3", None).await;
    assert_eq!((status, &refused["errorReason"]), (200, &json!("INVALID_PAYLOAD")));
    // A removed card ends its delegations.
    let (id, _) = market.delegate("alice-key", &method, 2_000).await;
    let path = format!("/api/v1/payment-methods/{method}");
    assert_eq!(market.call(reqwest::Method::DELETE, &path, "alice-key", Value::Null).await.0, 200);
    let (_, shown) = market.get(&format!("/api/v1/delegation/{id}"), "alice-key").await;
    assert_eq!(shown["status"], json!("Revoked"));
    let (_, list) = market.get("/api/v1/delegation?page=1&offset=1", "alice-key").await;
    assert_eq!((&list["totalResults"], list["delegations"].as_array().unwrap().len()), (&json!(1), 1));
}
