//! `x402 mcp` as an agent has it: a child process that speaks MCP on its standard input and output, before a shop on a
//! devchain.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::routing::{any, get};
use rmcp::model::{
    CallToolRequestParams, ClientCapabilities, ClientConfig, ElicitRequestParams, ElicitResult, ElicitationAction,
    ElicitationCapability, Implementation,
};
use rmcp::service::{ClientLifecycleMode, ClientServiceExt, RequestContext, RunningService};
use rmcp::transport::TokioChildProcess;
use rmcp::{ClientHandler, ErrorData, RoleClient};
use serde_json::{Value, json};
use x402_devchain::ACCOUNTS;
use x402_evm::exact::Exact;
use x402_extensions::bazaar::Listing;
use x402_facilitator::dev::DevFacilitator;
use x402_facilitator::discovery;
use x402_http::remote::RemoteFacilitator;
use x402_http::server::Seller;
use x402_store::catalog::Catalog;
use x402_store::sqlite::{Database, SqliteCatalog};
use x402_types::UnixSeconds;

/// anvil's second account: a key that everybody knows.
const KEY: &str = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";
const SELLER: usize = 2;

/// A facilitator on a chain, and a shop with `/cheap` for a cent, `/dear` for half a dollar, and `/free`.
struct Shop {
    facilitator: DevFacilitator,
    origin: String,
    folder: tempfile::TempDir,
}

impl Shop {
    async fn open() -> Self {
        x402_http::service::install_tls();
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(folder.path().join("catalog.sqlite")).unwrap();
        let catalog: Arc<dyn Catalog> = Arc::new(SqliteCatalog::new(database));
        let listing: Listing = serde_json::from_value(json!({
            "resource": "https://api.example.com/weather", "type": "http", "x402Version": 2, "method": "GET",
            "description": "Weather of a city", "accepts": [{"scheme": "exact", "network": "eip155:84532",
                "amount": "1000", "payTo": ACCOUNTS[SELLER].address, "maxTimeoutSeconds": 60,
                "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e"}],
            "extensions": {"bazaar": {"info": {"input": {"type": "http", "method": "GET"}}}},
        }))
        .unwrap();
        catalog.put(&listing, UnixSeconds(1)).await.unwrap();
        let listen = (Ipv4Addr::LOCALHOST, 0).into();
        let facilitator =
            DevFacilitator::start(listen, |routes| routes.merge(discovery::routes(catalog))).await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let charge = |price: &str| {
            let remote = RemoteFacilitator::new(facilitator.url()).unwrap();
            let network = "eip155:84532".parse().unwrap();
            let offer =
                Exact::default().requirements(network, ACCOUNTS[SELLER].address, price.parse().unwrap()).unwrap();
            Seller::new(&origin, Arc::new(remote)).unwrap().charge([offer]).unwrap()
        };
        let app = Router::new()
            .route("/cheap", any(async |body: String| format!("sunny {body}")).layer(charge("$0.01")))
            .route("/dear", get(async || "the report").layer(charge("$0.50")))
            .route("/free", get(async || vec![0xff_u8, 0xfe]));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { facilitator, origin, folder }
    }

    fn paid(&self) -> usize {
        let transfers = self.facilitator.chain().transfers();
        transfers.iter().filter(|transfer| transfer.to == ACCOUNTS[SELLER].address).count()
    }

    fn budget(&self, text: &str) -> std::path::PathBuf {
        let path = self.folder.path().join("budget.toml");
        std::fs::write(&path, text).unwrap();
        path
    }

    async fn agent(&self, person: Person, budget: &Path, more: &[&str]) -> Agent {
        self.agent_of(person, ClientLifecycleMode::Initialize, budget, more).await
    }

    async fn agent_of(&self, person: Person, mode: ClientLifecycleMode, budget: &Path, more: &[&str]) -> Agent {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_x402"));
        command.arg("mcp").arg("--budget").arg(budget).args(["--facilitator", self.facilitator.url()]).args(more);
        command.arg("--journal").arg(self.folder.path().join("payments.sqlite")).env("X402_PRIVATE_KEY", KEY);
        let process = TokioChildProcess::new(command).unwrap();
        Agent(person.serve_with_lifecycle(process, mode).await.unwrap())
    }
}

/// The person before the client, who says what is written here, or cannot be asked.
#[derive(Clone)]
struct Person {
    says: Option<ElicitationAction>,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Person {
    fn who(says: Option<ElicitationAction>) -> Self {
        Self { says, heard: Arc::default() }
    }
}

impl ClientHandler for Person {
    fn get_info(&self) -> ClientConfig {
        let mut capabilities = ClientCapabilities::default();
        capabilities.elicitation = self.says.as_ref().map(|_| ElicitationCapability::new());
        ClientConfig::new(capabilities, Implementation::new("test", "1"))
    }

    async fn create_elicitation(
        &self,
        request: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let ElicitRequestParams::FormElicitationParams { message, .. } = request else { panic!() };
        self.heard.lock().unwrap().push(message);
        Ok(ElicitResult::new(self.says.clone().unwrap()))
    }
}

struct Agent(RunningService<RoleClient, Person>);

impl Agent {
    /// Calls a tool, and returns its answer or its error.
    async fn call(&self, tool: &'static str, arguments: Value) -> Result<Value, String> {
        let Value::Object(arguments) = arguments else { panic!() };
        let result = self.0.call_tool(CallToolRequestParams::new(tool).with_arguments(arguments)).await.unwrap();
        let value = result.structured_content.unwrap();
        assert!(!value.to_string().contains(&KEY[2..]), "the key is in no answer");
        if result.is_error == Some(true) { Err(value["error"].as_str().unwrap().to_owned()) } else { Ok(value) }
    }

    async fn fetch(&self, url: String) -> Result<Value, String> {
        self.call("fetch", json!({ "url": url })).await
    }

    async fn end(self) {
        self.0.cancel().await.unwrap();
    }
}

const TWENTY_CENTS: &str = "per_host_day = \"0.20\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_pays_twenty_calls_of_one_budget_and_no_more_after_a_restart() {
    let shop = Shop::open().await;
    let budget = shop.budget(TWENTY_CENTS);
    let agent = shop.agent(Person::who(None), &budget, &["--allow-private"]).await;
    let tools: Vec<String> = agent.0.list_all_tools().await.unwrap().into_iter().map(|tool| tool.name.into()).collect();
    assert_eq!(tools, ["fetch", "price", "find", "budget", "receipts"]);
    for n in 0..20 {
        let answer = agent.fetch(format!("{}/cheap?n={n}", shop.origin)).await.unwrap();
        assert_eq!((&answer["status"], &answer["body"]), (&json!(200), &json!("sunny ")));
        assert!(answer["paid"].as_str().unwrap().starts_with("paid: transaction 0x"), "{answer}");
        assert_eq!(answer["receipt"]["success"], true);
    }
    let over = |error: Result<Value, String>| {
        let error = error.unwrap_err();
        assert!(
            error.contains("the day's budget of 200000 for this host and asset leaves 0, 10000 was asked"),
            "{error}"
        );
    };
    over(agent.fetch(format!("{}/cheap?n=20", shop.origin)).await);
    agent.end().await;
    let agent = shop.agent(Person::who(None), &budget, &["--allow-private"]).await;
    over(agent.fetch(format!("{}/cheap?n=20", shop.origin)).await);
    assert_eq!(shop.paid(), 20);
    let told = agent.call("budget", json!({})).await.unwrap();
    let host = &told["hosts"][0];
    assert_eq!((&told["spentToday"], &told["leftToday"]), (&json!("$0.20"), &json!("$4.80")));
    assert_eq!((&host["spent"], &host["left"], &host["payments"]), (&json!("$0.20"), &json!("$0"), &json!(20)));
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_calls_at_once_do_not_overdraw() {
    let shop = Shop::open().await;
    let agent = Arc::new(shop.agent(Person::who(None), &shop.budget(TWENTY_CENTS), &["--allow-private"]).await);
    let calls = (0..50).map(|n| {
        let (agent, url) = (agent.clone(), format!("{}/cheap?n={n}", shop.origin));
        tokio::spawn(async move { agent.fetch(url).await })
    });
    let mut served = 0;
    for call in calls.collect::<Vec<_>>() {
        served += usize::from(call.await.unwrap().is_ok());
    }
    assert_eq!((served, shop.paid()), (20, 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_agrees_to_what_is_dear() {
    let discover =
        || ClientLifecycleMode::Discover { preferred_versions: vec![rmcp::model::ProtocolVersion::V_2026_07_28] };
    let shop = Shop::open().await;
    let budget = shop.budget("");
    for (mode, paid) in [(ClientLifecycleMode::Initialize, 1), (discover(), 2)] {
        let dear = |n: usize| format!("{}/dear?n={n}&mode={paid}", shop.origin);
        let nobody = shop.agent_of(Person::who(None), mode.clone(), &budget, &["--allow-private"]).await;
        let error = nobody.fetch(dear(1)).await.unwrap_err();
        assert!(error.contains("Pay $0.50 to 127.0.0.1") && error.contains("this client cannot ask"), "{error}");
        nobody.end().await;
        for says in [ElicitationAction::Decline, ElicitationAction::Cancel] {
            let agent = shop.agent_of(Person::who(Some(says)), mode.clone(), &budget, &["--allow-private"]).await;
            assert_eq!(agent.fetch(dear(2)).await.unwrap_err(), "nothing was paid: the owner declined");
            agent.end().await;
        }
        assert_eq!(shop.paid(), paid - 1);
        let person = Person::who(Some(ElicitationAction::Accept));
        let agent = shop.agent_of(person.clone(), mode, &budget, &["--allow-private"]).await;
        let answer = agent.fetch(dear(3)).await.unwrap();
        assert_eq!((&answer["body"], shop.paid()), (&json!("the report"), paid));
        // A cent needs nobody.
        let heard = person.heard.lock().unwrap().clone();
        assert!(heard.len() == 1 && heard[0].starts_with("Pay $0.50 to 127.0.0.1:"), "{heard:?}");
        agent.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_is_told_and_nothing_paid() {
    let shop = Shop::open().await;
    let agent = shop.agent(Person::who(None), &shop.budget(""), &["--allow-private"]).await;
    let price = agent.call("price", json!({ "url": format!("{}/dear", shop.origin) })).await.unwrap();
    assert_eq!(price["asksForPayment"], true);
    assert_eq!(price["ways"][0]["dollars"], "$0.50");
    assert_eq!(price["ways"][0]["scheme"], "exact");
    let free = agent.call("price", json!({ "url": format!("{}/free", shop.origin) })).await.unwrap();
    assert_eq!((&free["asksForPayment"], &free["bodyBase64"]), (&json!(false), &json!("//4=")));
    let found = agent.call("find", json!({ "words": "weather city" })).await.unwrap();
    assert_eq!(found["resources"][0]["resource"], "https://api.example.com/weather");
    assert_eq!(agent.call("receipts", json!({})).await.unwrap(), json!({ "receipts": [] }));
    let less = agent.call("fetch", json!({ "url": format!("{}/cheap", shop.origin), "max": "0.009" })).await;
    assert!(less.unwrap_err().contains("10000 is more than the cap of 9000 a payment"));
    let more =
        agent.call("fetch", json!({ "url": format!("{}/cheap", shop.origin), "max": "5", "body": {"a": 1} })).await;
    assert_eq!(more.unwrap()["body"], "sunny {\"a\":1}");
    assert_eq!(shop.paid(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_calls_are_refused_by_name() {
    let shop = Shop::open().await;
    let agent = shop.agent(Person::who(None), &shop.budget(""), &[]).await;
    let cheap = format!("{}/cheap", shop.origin);
    for (tool, arguments, named) in [
        ("fetch", json!({"url": cheap}), "127.0.0.1 is this machine or a private network"),
        ("price", json!({"url": cheap}), "127.0.0.1 is this machine or a private network"),
        ("fetch", json!({"url": cheap.replace("127.0.0.1", "localhost")}), "localhost is this machine"),
        ("fetch", json!({"url": "file:///etc/passwd"}), "expected http or https"),
        ("fetch", json!({"url": "weather"}), "url: "),
        ("fetch", json!({}), "`url`"),
        ("fetch", json!({"url": cheap, "confirm_above": "100"}), "`confirm_above`"),
        ("fetch", json!({"url": cheap, "max": "a lot"}), "max: "),
        (
            "fetch",
            json!({"url": cheap, "headers": {"PAYMENT-SIGNATURE": "e30="}}),
            "payment-signature is not the agent's",
        ),
        ("fetch", json!({"url": cheap, "headers": {"a": "b\nc: d"}}), "headers.a"),
        ("fetch", json!({"url": cheap, "method": "G T"}), "method: "),
        ("pay", json!({}), "no tool has the name pay"),
    ] {
        let error = agent.call(tool, arguments.clone()).await.unwrap_err();
        assert!(error.contains(named), "{tool} {arguments}: {error}");
    }
    assert_eq!(shop.paid(), 0);
}
