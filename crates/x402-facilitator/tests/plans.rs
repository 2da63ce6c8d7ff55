//! Credits of a plan, end to end: client, server, facilitator and chain, over loopback.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)]

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy_primitives::{Address, U256};
use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use x402_codec::{Limits, base64, header};
use x402_devchain::{ACCOUNTS, DevChain, DevPlan, NodeFault, signer};
use x402_erc4337::nvm::{DelegationLimits, Payer as PlanPayer, Plans, RegisterKeys};
use x402_erc4337::session::zerodev::{Approval, KernelAccount, KernelVersion};
use x402_facilitator::dev::{DevFacilitator, SESSION_SIGNER, served};
use x402_facilitator::routes::Routes;
use x402_http::client::{ClientError, PayClient, Payer, Receipt, SpendLimits};
use x402_http::remote::RemoteFacilitator;
use x402_http::server::{Seller, Used};
use x402_store::requests::{MemoryRequests, Remembered, Requests};
use x402_types::nvm::{self, Requirements};
use x402_types::v2::ResourceInfo;
use x402_types::{AtomicAmount, ChainId, Fault, MakePayment, SigningContext, UnixSeconds};

const PLAN: u64 = 42;
const PRICE: u64 = 1_000_000;
const OWNER: usize = 1;
const SELLER: usize = 2;

struct World {
    facilitator: DevFacilitator,
    account: KernelAccount,
    plan: DevPlan,
    network: ChainId,
}

async fn world(plan: DevPlan) -> World {
    world_on(DevChain::new().unwrap(), plan).await
}

async fn world_on(chain: DevChain, plan: DevPlan) -> World {
    // reqwest needs a TLS provider even where no TLS is spoken.
    x402_http::service::install_tls();
    let id = U256::from(PLAN);
    chain.register_plan(id, plan).unwrap();
    let account = KernelAccount::new(KernelVersion::V031, ACCOUNTS[OWNER].address, U256::ZERO);
    chain.set_balance_of(account.address(), U256::from(10 * PRICE));
    let network = ChainId::eip155(chain.chain_id());
    let listen = (Ipv4Addr::LOCALHOST, 0).into();
    let wait = Duration::from_secs(60);
    let facilitator = DevFacilitator::selling(chain, &[(id, plan)], listen, wait, |routes| routes).await.unwrap();
    World { facilitator, account, plan, network }
}

fn ten_credits() -> DevPlan {
    DevPlan::credits(ACCOUNTS[SELLER].address, PRICE, 10)
}

impl World {
    fn credits(&self) -> u64 {
        self.facilitator.chain().credits_of(self.account.address(), U256::from(PLAN)).unwrap().to()
    }

    fn entry(&self) -> Requirements {
        Requirements::new(self.network, U256::from(PLAN).into())
            .with_session_signer(&ACCOUNTS[SESSION_SIGNER].address.to_string())
    }

    fn payer(&self, signers: Vec<Address>, purchases: u64) -> PlanPayer<impl x402_evm::key::Sign + use<>> {
        let plans = Plans::new([served(U256::from(PLAN), self.plan)]).unwrap();
        PlanPayer::new(signer(OWNER).unwrap(), self.account, plans, signers)
            .with_allowance(DelegationLimits { purchases, ..DelegationLimits::default() })
    }

    fn signers() -> Vec<Address> {
        vec![ACCOUNTS[SESSION_SIGNER].address]
    }

    fn client(&self, payer: impl MakePayment + 'static) -> PayClient {
        let spending = SpendLimits::default().with_asset(self.network, &PLAN.to_string(), AtomicAmount::ZERO);
        PayClient::new(Payer::new(payer).with_spending(spending)).unwrap()
    }

    /// A shop whose handler answers with this; each request costs up to so many credits.
    async fn shop<F>(&self, credits: u64, serve: F) -> String
    where
        F: Fn() -> Response + Clone + Send + Sync + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let remote = RemoteFacilitator::new(self.facilitator.url()).unwrap();
        let offer = self.entry().with_verb("POST").to_offer(AtomicAmount::from(credits)).unwrap();
        let paid = Seller::new(&origin, Arc::new(remote)).unwrap().charge([offer]).unwrap();
        let router = Router::new().route("/tasks", post(async move || serve()).layer(paid));
        tokio::spawn(axum::serve(listener, router).into_future());
        format!("{origin}/tasks")
    }

    /// A payment for a resource as the client makes it.
    async fn payment(&self, nonce: u8, purchases: u64) -> Value {
        self.payment_of(self.payer(Self::signers(), purchases), nonce).await
    }

    async fn payment_of(&self, payer: impl MakePayment, nonce: u8) -> Value {
        let terms = self.entry().with_verb("POST").to_terms(AtomicAmount::ZERO).unwrap();
        let now = UnixSeconds(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs());
        let context = SigningContext { now, entropy: [nonce; 32], url: URL, method: "POST" };
        let made = payer.make_payment(&terms, &context).await.unwrap();
        let resource = Some(ResourceInfo::of(URL));
        let payment = nvm::v03::PaymentPayload::new(resource, self.entry().with_verb("POST"), made.payload);
        serde_json::to_value(payment).unwrap()
    }

    fn required(&self) -> Value {
        json!({
            "x402Version": 2, "error": "Payment required", "resource": {"url": URL},
            "accepts": [self.entry().with_verb("POST")], "extensions": {},
        })
    }

    /// Asks the facilitator as a server does.
    async fn ask(&self, path: &str, body: &Value, key: Option<&str>) -> (u16, Value) {
        let mut request = reqwest::Client::new().post(format!("{}{path}", self.facilitator.url())).json(body);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap_or_default())
    }

    fn body(&self, payment: &Value, amount: u64) -> Value {
        let token = base64::encode(payment.to_string().as_bytes());
        json!({"paymentRequired": self.required(), "paymentPayload": token, "maxAmount": amount.to_string()})
    }
}

async fn post_to(client: &PayClient, url: &str) -> Result<reqwest::Response, ClientError<reqwest::Error>> {
    client.execute(reqwest::Client::new().post(url).body("task").build().unwrap()).await
}

const URL: &str = "https://agent.example/tasks";

fn text(value: &Value, member: &str) -> String {
    value[member].as_str().unwrap_or_else(|| panic!("{member}: {value}")).to_owned()
}

/// Steps 1 to 32.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_request_orders_and_redeems_the_second_redeems_alone() {
    let world = world(ten_credits()).await;
    let url = world.shop(3, || "done".into_response()).await;
    let client = world.client(world.payer(World::signers(), 1));
    let mut seen = Vec::new();
    for (left, orders) in [(7, 1), (4, 1)] {
        let response = post_to(&client, &url).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let receipt = response.extensions().get::<Receipt>().unwrap().0.clone();
        let receipt = nvm::Receipt::from_response(&receipt).unwrap();
        assert!(receipt.success);
        assert_eq!(receipt.credits_redeemed, Some(AtomicAmount::from(3)));
        assert_eq!(receipt.remaining_balance, Some(AtomicAmount::from(left)));
        assert_eq!(receipt.order_tx.is_some(), left == 7);
        assert_eq!(world.credits(), left);
        assert_eq!(world.facilitator.chain().transfers().len(), orders);
        seen.extend(receipt.order_tx);
        seen.push(receipt.transaction);
        assert_eq!(response.bytes().await.unwrap(), "done");
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 3, "{seen:?}");
    world.facilitator.stop().await;
}

/// As on Arbitrum: the gas limits of the deployment, the order and the redemption cover the gas of their data.
#[tokio::test(flavor = "multi_thread")]
async fn credits_are_ordered_and_redeemed_where_data_cost_gas() {
    let chain = DevChain::new().unwrap();
    chain.node_fault(NodeFault::NumberAhead(20_000_000));
    chain.node_fault(NodeFault::Surcharge { transaction: 400_000, byte: 400 });
    let world = world_on(chain, ten_credits()).await;
    for (nonce, left) in [(1, 7), (2, 4)] {
        let body = world.body(&world.payment(nonce, 1).await, 3);
        let (status, receipt) = world.ask("/settle", &body, None).await;
        assert_eq!((status, &receipt["success"]), (200, &true.into()), "{receipt}");
        assert_eq!(world.credits(), left);
    }
    world.facilitator.stop().await;
}

/// Steps 8 to 11 and 20: without an order key, a request for more than the balance is refused before any work.
#[tokio::test(flavor = "multi_thread")]
async fn short_of_credits_without_an_order_key_the_server_says_how_many_are_missing() {
    let world = world(ten_credits()).await;
    let url = world.shop(3, || panic!("no work is done")).await;
    let client = world.client(world.payer(World::signers(), 0));
    let response = post_to(&client, &url).await.unwrap();
    assert_eq!(response.status(), StatusCode::PAYMENT_REQUIRED);
    let value = response.headers()["payment-required"].clone();
    let required: Value = header::decode(value.as_bytes(), &Limits::DEFAULT).unwrap();
    assert_eq!(required["error"], "INSUFFICIENT_BALANCE");
    let account = world.account.address().to_string();
    let details = json!({"clientAddress": account, "requiredBalance": "3", "currentBalance": "0"});
    assert_eq!(required["details"], details);
    assert_eq!(required["extensions"], json!({}));
    assert_eq!(world.facilitator.chain().transfers().len(), 0);
    world.facilitator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_cost_less_redeems_less_and_one_that_failed_redeems_nothing() {
    let world = world(ten_credits()).await;
    let url = world
        .shop(5, || {
            let mut response = "cheap".into_response();
            response.extensions_mut().insert(Used(AtomicAmount::from(2)));
            response
        })
        .await;
    let client = world.client(world.payer(World::signers(), 1));
    assert_eq!(post_to(&client, &url).await.unwrap().status(), StatusCode::OK);
    assert_eq!(world.credits(), 8);
    let url = world.shop(5, || StatusCode::INTERNAL_SERVER_ERROR.into_response()).await;
    assert_eq!(post_to(&client, &url).await.unwrap().status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(world.credits(), 8);
    world.facilitator.stop().await;
}

/// "The client issues keys only to signers on its list."
#[tokio::test(flavor = "multi_thread")]
async fn keys_are_issued_to_nobody_else() {
    let world = world(ten_credits()).await;
    let url = world.shop(3, || "done".into_response()).await;
    let stranger = world.client(world.payer(vec![Address::repeat_byte(7)], 1));
    assert!(post_to(&stranger, &url).await.is_err());
    assert_eq!(world.credits(), 0);
    world.facilitator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_facilitator_answers_in_both_forms_and_each_id_once() {
    let world = world(ten_credits()).await;
    let payment = world.payment(1, 1).await;
    let (status, verdict) = world.ask("/verify", &world.body(&payment, 3), None).await;
    assert_eq!((status, &verdict["isValid"]), (200, &true.into()), "{verdict}");
    assert_eq!(verdict["payer"], world.account.address().to_string());
    assert_eq!(verdict["network"], "eip155:84532");
    assert_eq!(world.credits(), 0, "verification moves nothing");
    let id = text(&verdict, "agentRequestId");

    let settle = |amount: u64, id: &str, payment: &Value| {
        let mut body = world.body(payment, amount);
        body["agentRequestId"] = json!(id);
        body
    };
    // More than was verified, and an id that nobody was given.
    let (status, more) = world.ask("/settle", &settle(4, &id, &payment), None).await;
    assert_eq!((status, &more["errorReason"]), (200, &"INVALID_PAYLOAD".into()));
    let (status, unknown) = world.ask("/settle", &settle(3, "nobody", &payment), None).await;
    assert_eq!((status, &unknown["errorReason"]), (200, &"INVALID_PAYLOAD".into()));
    // Another payment under the id.
    let other = world.payment(2, 1).await;
    let (status, taken) = world.ask("/settle", &settle(3, &id, &other), None).await;
    assert_eq!((status, &taken["errorReason"]), (409, &"duplicate_settlement".into()));

    let (status, receipt) = world.ask("/settle", &settle(3, &id, &payment), None).await;
    assert_eq!((status, &receipt["success"]), (200, &true.into()), "{receipt}");
    assert_eq!(receipt["transaction"], receipt["transactionHash"]);
    assert_eq!((&receipt["creditsRedeemed"], &receipt["remainingBalance"]), (&"3".into(), &"7".into()));
    assert!(receipt.get("replayed").is_none());
    assert_ne!(text(&receipt, "orderTx"), text(&receipt, "transaction"));

    // Same id and amount: success was told, and an id of ours is no name of the caller's.
    let (status, again) = world.ask("/settle", &settle(3, &id, &payment), None).await;
    assert_eq!((status, &again["success"], &again["errorReason"]), (409, &false.into(), &"INVALID_PAYLOAD".into()));
    assert_eq!(again["error"]["details"]["nvmCode"], "BCK.X402.0059");
    assert_eq!((&again["transaction"], &again["transactionHash"]), (&receipt["transaction"], &receipt["transaction"]));
    // Another amount under the id; another id for the nonce.
    let (status, less) = world.ask("/settle", &settle(2, &id, &payment), None).await;
    assert_eq!((status, &less["errorReason"]), (409, &"duplicate_settlement".into()));
    assert_eq!(less["transaction"], receipt["transaction"]);
    assert_eq!(less["error"]["details"]["nvmCode"], "BCK.X402.0059");
    // Nevermined's clients read the code of a status that is no success at the top.
    assert_eq!((&less["code"], &less["message"]), (&"BCK.X402.0059".into(), &less["error"]["message"]));
    assert_eq!((again["code"] == "BCK.X402.0059", receipt.get("code")), (true, None));
    let (status, spent) = world.ask("/verify", &world.body(&payment, 3), None).await;
    assert_eq!((status, &spent["invalidReason"]), (200, &"INVALID_PAYLOAD".into()));
    assert_eq!(spent["error"]["details"]["nvmCode"], "BCK.X402.0059");
    let (status, second) = world.ask("/settle", &world.body(&payment, 3), Some("another")).await;
    assert_eq!((status, &second["errorReason"]), (409, &"duplicate_settlement".into()));
    assert_eq!(world.credits(), 7);
    world.facilitator.stop().await;
}

/// Remembers when each row ends.
#[derive(Debug, Default)]
struct Ends(MemoryRequests, Mutex<Vec<u64>>);

#[async_trait::async_trait]
impl Requests for Ends {
    async fn put(&self, request: Remembered, now: UnixSeconds) -> Result<Remembered, Fault> {
        self.1.lock().unwrap().push(request.expires.0 - now.0);
        self.0.put(request, now).await
    }

    async fn read(&self, caller: &str, id: &str) -> Result<Option<Remembered>, Fault> {
        self.0.read(caller, id).await
    }
}

/// The key of the payment lives for long, and every verification without a name has a row of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_verification_is_remembered_for_a_day_at_most() {
    let world = world(ten_credits()).await;
    let ends = Arc::new(Ends::default());
    let requests = Arc::clone(&ends) as Arc<dyn Requests>;
    let routes = Routes::new(Arc::clone(world.facilitator.engine())).with_requests(requests).into_router();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}/verify", listener.local_addr().unwrap());
    let serving = tokio::spawn(axum::serve(listener, routes).into_future());
    let year = DelegationLimits { seconds: 365 * 86_400, ..DelegationLimits::default() };
    let payment = world.payment_of(world.payer(World::signers(), 1).with_allowance(year), 1).await;
    let body = world.body(&payment, 3).to_string();
    let sent = reqwest::Client::new().post(&url).header("content-type", "application/json").body(body);
    let verdict: Value = serde_json::from_slice(&sent.send().await.unwrap().bytes().await.unwrap()).unwrap();
    assert_eq!(verdict["isValid"], true, "{verdict}");
    assert_eq!(*ends.1.lock().unwrap(), [86_400]);
    serving.abort();
    world.facilitator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_names_a_request_in_the_place_of_an_id() {
    let world = world(ten_credits()).await;
    let payment = world.payment(1, 1).await;
    let body = world.body(&payment, 3);
    let (_, first) = world.ask("/verify", &body, Some("k")).await;
    let (_, again) = world.ask("/verify", &body, Some("k")).await;
    assert_eq!(text(&first, "agentRequestId"), text(&again, "agentRequestId"));
    let (status, other) = world.ask("/verify", &world.body(&payment, 4), Some("k")).await;
    assert_eq!((status, &other["isValid"]), (409, &false.into()));
    let (_, receipt) = world.ask("/settle", &body, Some("k")).await;
    assert_eq!(receipt["success"], true, "{receipt}");
    let (_, replayed) = world.ask("/settle", &body, Some("k")).await;
    assert_eq!((&replayed["success"], &replayed["replayed"]), (&true.into(), &true.into()));
    assert_eq!(world.credits(), 7);
    world.facilitator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_a_code_an_envelope_and_a_status() {
    let world = world(ten_credits()).await;
    let payment = world.payment(1, 1).await;
    let changed = |pointer: &str, value: Value| {
        let mut other = payment.clone();
        *other.pointer_mut(pointer).unwrap() = value;
        other
    };
    let signature = text(&payment["payload"], "signature");
    let bad_signature = signature.replacen("0x00", "0x01", 1).replace("6492", "6493");
    for (payment, code) in [
        (changed("/x402Version", json!(1)), "INVALID_PAYLOAD"),
        (changed("/accepted/scheme", json!("exact")), "INVALID_PAYLOAD"),
        (changed("/accepted/network", json!("base-sepolia")), "UNSUPPORTED_NETWORK"),
        (changed("/accepted/planId", json!("43")), "INVALID_PAYLOAD"),
        (changed("/payload/authorization/sessionKeys", json!([])), "INVALID_PAYLOAD"),
        (changed("/payload/authorization/nonce", json!(format!("0x{}", "02".repeat(32)))), "INVALID_SIGNATURE"),
        (changed("/resource/url", json!("https://other.example/")), "INVALID_PAYLOAD"),
        (changed("/payload/signature", json!(bad_signature)), "INVALID_SIGNATURE"),
        (world.payment(3, 0).await, "INSUFFICIENT_BALANCE"),
    ] {
        let (status, verdict) = world.ask("/verify", &world.body(&payment, 3), None).await;
        assert_eq!((status, &verdict["isValid"]), (200, &false.into()), "{code}: {verdict}");
        assert_eq!((&verdict["invalidReason"], &verdict["error"]["code"]), (&code.into(), &code.into()), "{verdict}");
        assert!(verdict["error"]["message"].as_str().is_some_and(|text| !text.is_empty()));
        let (status, receipt) = world.ask("/settle", &world.body(&payment, 3), None).await;
        assert_eq!((status, &receipt["success"]), (200, &false.into()), "{code}");
        assert_eq!((&receipt["errorReason"], &receipt["error"]["code"]), (&code.into(), &code.into()), "{receipt}");
        assert_eq!((&receipt["transaction"], &receipt["transactionHash"]), (&"".into(), &"".into()));
    }
    // What cannot be parsed, and amounts that are none.
    let mut nothing = world.body(&payment, 3);
    nothing["maxAmount"] = json!("0");
    let (status, verdict) = world.ask("/verify", &nothing, None).await;
    assert_eq!((status, &verdict["invalidReason"]), (200, &"INVALID_PAYLOAD".into()));
    let mut absent = world.body(&payment, 3);
    absent.as_object_mut().unwrap().remove("maxAmount");
    assert_eq!(world.ask("/settle", &absent, None).await.0, 400);
    let mut garbled = world.body(&payment, 3);
    garbled["paymentPayload"] = json!("%%%");
    for path in ["/verify", "/settle"] {
        let (status, said) = world.ask(path, &garbled, None).await;
        assert_eq!((status, &said["error"]["code"]), (400, &"INVALID_PAYLOAD".into()));
    }
    // A network that is on no list.
    let mut elsewhere = world.body(&changed("/accepted/network", json!("eip155:8453")), 3);
    elsewhere["paymentRequired"]["accepts"][0]["network"] = json!("eip155:8453");
    let (status, verdict) = world.ask("/verify", &elsewhere, None).await;
    assert_eq!((status, &verdict["invalidReason"]), (200, &"UNSUPPORTED_NETWORK".into()));
    assert_eq!(world.credits(), 0);
    world.facilitator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registered_key_is_named_by_its_hash_until_it_is_removed() {
    let world = world(ten_credits()).await;
    let payment = world.payment(1, 1).await;
    let data = text(&payment["payload"]["authorization"]["sessionKeys"][1], "data");
    let registration = |from: &str, data: &str| json!({"network": "eip155:84532", "from": from, "sessionKeysProvider": "zerodev", "data": data});
    let account = world.account.address().to_string();
    // What the owner did not approve is not kept.
    let mut forged = Approval::read(&data).unwrap();
    forged.enable_signature = Some(vec![0; 65].into());
    let other = Address::repeat_byte(7).to_string();
    for bad in [registration(&account, &forged.write()), registration(&other, &data), registration(&account, "e30=")] {
        let (status, said) = world.ask("/session-keys", &bad, None).await;
        assert_eq!((status, &said["error"]["code"]), (400, &"INVALID_PAYLOAD".into()), "{said}");
    }
    let (status, said) = world.ask("/session-keys", &registration(&account, &data), None).await;
    assert_eq!(status, 200, "{said}");
    assert_eq!(text(&said, "hash"), alloy_primitives::keccak256(&data).to_string());

    let mut by_hash = payment.clone();
    by_hash["payload"]["authorization"]["sessionKeys"][1] = json!({"id": "redeem", "hash": said["hash"]});
    let (_, verdict) = world.ask("/verify", &world.body(&by_hash, 3), None).await;
    assert_eq!(verdict["isValid"], true, "both forms sign alike: {verdict}");

    let client = reqwest::Client::new();
    let url = format!("{}/session-keys", world.facilitator.url());
    let removed = client.delete(url).json(&registration(&account, &data)).send().await.unwrap();
    assert_eq!(removed.status(), 204);
    let (_, missing) = world.ask("/verify", &world.body(&by_hash, 3), None).await;
    let mut wrong = by_hash.clone();
    wrong["payload"]["authorization"]["sessionKeys"][1]["hash"] = json!(format!("0x{}", "11".repeat(32)));
    let (_, wrong) = world.ask("/verify", &world.body(&wrong, 3), None).await;
    assert_eq!(missing["invalidReason"], "INVALID_PAYLOAD");
    assert_eq!(missing["error"], wrong["error"], "a missing key answers as a wrong one");
    world.facilitator.stop().await;
}

/// Registers keys over HTTP, and counts them.
struct Registrar {
    url: String,
    registered: Arc<AtomicUsize>,
}

#[async_trait::async_trait]
impl RegisterKeys for Registrar {
    async fn register_key(&self, network: ChainId, from: Address, provider: &str, data: &str) -> Result<(), Fault> {
        let body = json!({"network": network, "from": from, "sessionKeysProvider": provider, "data": data});
        let request = reqwest::Client::new().post(&self.url).json(&body);
        let response = request.send().await.map_err(|error| Fault::unreachable("facilitator", error))?;
        self.registered.fetch_add(1, Ordering::SeqCst);
        let answer = response.error_for_status().map(drop);
        answer.map_err(|error| Fault::unreachable("facilitator", error))
    }
}

/// A default nginx takes 8 KiB of request head, and other proxies 4 KiB.
#[tokio::test(flavor = "multi_thread")]
async fn a_payment_with_registered_keys_fits_into_4_kib_and_settles() {
    let world = world(ten_credits()).await;
    let header = |payment: &Value| header::encode(payment).unwrap().len();
    assert!(header(&world.payment(1, 1).await) > 8_192, "with whole keys no default nginx takes it");
    let registered: Arc<AtomicUsize> = Arc::default();
    let payer = |path: &str| {
        let url = format!("{}{path}", world.facilitator.url());
        let registrar = Registrar { url, registered: Arc::clone(&registered) };
        world.payer(World::signers(), 1).with_registration(Arc::new(registrar))
    };
    let payment = world.payment_of(payer("/session-keys"), 2).await;
    assert!(header(&payment) < 4_096, "{} bytes", header(&payment));
    assert_eq!(registered.load(Ordering::SeqCst), 2, "order and redeem, once each");
    let (_, settled) = world.ask("/settle", &world.body(&payment, 3), Some("by hash")).await;
    assert_eq!(settled["success"], true, "{settled}");
    let url = world.shop(3, || "done".into_response()).await;
    let response = post_to(&world.client(payer("/session-keys")), &url).await.unwrap();
    assert_eq!(response.status().as_u16(), 200);
    // A facilitator that takes no registrations gets the keys whole.
    let whole = world.payment_of(payer("/no-such-route"), 3).await;
    assert!(header(&whole) > 8_192);
    world.facilitator.stop().await;
}
