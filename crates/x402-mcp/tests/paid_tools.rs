//! A server with a paid tool and a client that pays, over an in-memory connection, with a facilitator on a chain in this
//! process.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, RequestMetaObject, ServerCapabilities,
    ServerConfig,
};
use rmcp::service::{RequestContext, RunningService};
use rmcp::{ErrorData, RoleClient, RoleServer, ServerHandler, ServiceExt};
use serde_json::{Value, json};
use x402_devchain::{ACCOUNTS, key};
use x402_evm::exact::{self, Exact};
use x402_facilitator::dev::DevFacilitator;
use x402_facilitator_core::{Facilitator, PaymentRequest};
use x402_http::checkout::{Checkout, Paid};
use x402_http::client::{MemoryBudget, NotPayable, PayError, Payer, ReceiptOutcome, SpendLimits};
use x402_mcp::client::{CallError, PayingClient};
use x402_mcp::server::{PricedServer, PricedTools};
use x402_mcp::{PAYMENT, PAYMENT_RESPONSE};
use x402_types::v2::{SettleResponse, SupportedResponse, VerifyResponse};
use x402_types::{ErrorReason, Fault};

const PAYER: usize = 1;
const SELLER: usize = 2;

/// The tools: `get_weather`, `broken`, `free`. Each call is counted.
#[derive(Clone, Default)]
struct Weather(Arc<AtomicUsize>);

impl ServerHandler for Weather {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let payer = context.extensions.get::<Paid>().and_then(|paid| paid.payer.clone());
        let text = ContentBlock::text(format!("sunny, for {}", payer.as_deref().unwrap_or("nobody")));
        Ok(match &*request.name {
            "broken" => CallToolResult::error(vec![text]),
            "no_such_tool" => return Err(ErrorData::invalid_params("no such tool", None)),
            _ => CallToolResult::success(vec![text]),
        }
        .into())
    }
}

struct Stage {
    facilitator: DevFacilitator,
    calls: Arc<AtomicUsize>,
    client: RunningService<RoleClient, ()>,
}

async fn prices(facilitator: Arc<dyn Facilitator>) -> PricedTools {
    let offer = Exact::default()
        .requirements("eip155:84532".parse().unwrap(), ACCOUNTS[SELLER].address, "$0.01".parse().unwrap())
        .unwrap();
    let tools = ["get_weather", "broken", "no_such_tool"];
    let prices = PricedTools::new(Checkout::new(facilitator));
    tools.iter().fold(prices, |prices, tool| prices.with_price(tool, [offer.clone()]).unwrap())
}

async fn connect(server: PricedServer<Weather>) -> RunningService<RoleClient, ()> {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    tokio::spawn(async move { server.serve(theirs).await.unwrap().waiting().await });
    ().serve(ours).await.unwrap()
}

async fn stage() -> Stage {
    let facilitator = DevFacilitator::start((Ipv4Addr::LOCALHOST, 0).into(), |routes| routes).await.unwrap();
    let weather = Weather::default();
    let calls = Arc::clone(&weather.0);
    let server = prices(Arc::clone(facilitator.engine()) as _).await.before(weather);
    Stage { facilitator, calls, client: connect(server).await }
}

impl Stage {
    fn paying(&self, payer: Payer) -> PayingClient {
        PayingClient::new(self.client.peer().clone(), "weather.example", payer).unwrap()
    }

    fn paid(&self) -> usize {
        let transfers = self.facilitator.chain().transfers();
        transfers.iter().filter(|transfer| transfer.to == ACCOUNTS[SELLER].address).count()
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

fn payer() -> Payer {
    Payer::new(exact::Payer::new(key(PAYER).unwrap()))
}

fn call(tool: &'static str) -> CallToolRequestParams {
    let Value::Object(arguments) = json!({"city": "Paris"}) else { panic!() };
    CallToolRequestParams::new(tool).with_arguments(arguments)
}

fn text(result: &CallToolResult) -> &str {
    &result.content[0].as_text().unwrap().text
}

/// The challenge that the Python SDK's server sent for the same tool: `shared/vectors/mcp.json`, step 4.
const RECORDED: &str = r#"{"x402Version":2,"accepts":[{"scheme":"exact","network":"eip155:84532","asset":"0x036CbD53842c5426634e7929541eC2318f3dCF7e","amount":"1000","payTo":"0x90F79bf6EB2c4f870365E785982E1f101E93b906","maxTimeoutSeconds":300,"extra":{"name":"USDC","version":"2"}}],"error":"Payment Required","resource":{"url":"mcp://tool/get_weather","description":"d","mimeType":"application/json"}}"#;

#[tokio::test]
async fn a_call_without_payment_is_asked_as_the_python_sdk_asks() {
    let stage = stage().await;
    let result = stage.client.peer().call_tool(call("get_weather")).await.unwrap();
    assert_eq!(result.is_error, Some(true));
    let ours = result.structured_content.clone().unwrap();
    assert_eq!(serde_json::from_str::<Value>(text(&result)).unwrap(), ours);
    let recorded: Value = serde_json::from_str(RECORDED).unwrap();
    let members = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(members(&ours), members(&recorded));
    assert_eq!(members(&ours["accepts"][0]), members(&recorded["accepts"][0]));
    for member in ["scheme", "network", "asset", "maxTimeoutSeconds", "extra"] {
        assert_eq!(ours["accepts"][0][member], recorded["accepts"][0][member], "{member}");
    }
    assert_eq!(ours["resource"]["url"], recorded["resource"]["url"]);
    assert_eq!((stage.calls(), stage.paid()), (0, 0));
}

#[tokio::test]
async fn a_tool_is_paid_once_and_told_by_whom() {
    let stage = stage().await;
    let client = stage.paying(payer());
    let paid = client.call_tool(call("get_weather")).await.unwrap();
    assert_eq!(paid.result.is_error, Some(false));
    assert!(text(&paid.result).to_lowercase().contains(&ACCOUNTS[PAYER].address.to_string().to_lowercase()));
    let receipt = paid.receipt.unwrap();
    assert!(matches!(receipt.outcome(), ReceiptOutcome::Paid { .. }));
    assert_eq!(paid.result.meta.unwrap().0[PAYMENT_RESPONSE]["transaction"], json!(receipt.0.transaction));
    assert_eq!((stage.calls(), stage.paid()), (1, 1));
    // A tool without a price, and one that fails.
    let free = client.call_tool(call("free")).await.unwrap();
    assert!(text(&free.result).contains("nobody") && free.receipt.is_none());
    let broken = client.call_tool(call("broken")).await.unwrap();
    assert_eq!(broken.result.is_error, Some(true));
    assert!(broken.receipt.is_none());
    let CallError::Answered(error) = client.call_tool(call("no_such_tool")).await.unwrap_err() else { panic!() };
    assert_eq!(error.message, "no such tool");
    assert_eq!((stage.calls(), stage.paid()), (4, 1));
}

#[tokio::test]
async fn one_payment_is_one_call_of_one_tool() {
    let stage = stage().await;
    // The payment as a client of the wire sends it, with the nulls that the Python SDK once wrote.
    let asked = stage.client.peer().call_tool(call("get_weather")).await.unwrap().structured_content.unwrap();
    let required: x402_types::PaymentRequired =
        x402_codec::body::payment_required(asked.to_string().as_bytes(), &x402_codec::Limits::DEFAULT).unwrap();
    let context = x402_types::SigningContext {
        now: x402_http::client::Clock::now(&x402_http::client::SystemClock),
        entropy: [9; 32],
        url: "mcp://tool/get_weather",
        method: "tools/call",
    };
    let scheme = exact::Payer::new(key(PAYER).unwrap());
    let made = x402_types::MakePayment::make_payment(&scheme, &required.terms()[0], &context).await.unwrap();
    let payment = json!({
        "x402Version": 2,
        "payload": serde_json::from_str::<Value>(made.payload.as_str()).unwrap(),
        "accepted": asked["accepts"][0],
        "resource": {"url": "mcp://tool/get_weather", "serviceName": null, "tags": null, "iconUrl": null},
        "extensions": null,
    });
    let with = |tool: &'static str| {
        let mut call = call(tool);
        let mut meta = RequestMetaObject::new();
        meta.0.0.insert(PAYMENT.to_owned(), payment.clone());
        call.meta = Some(meta);
        call
    };
    let peer = stage.client.peer();
    let first = peer.call_tool(with("get_weather")).await.unwrap();
    assert_eq!(first.is_error, Some(false), "{first:?}");
    for again in ["get_weather", "broken"] {
        let refused = peer.call_tool(with(again)).await.unwrap();
        assert_eq!(refused.is_error, Some(true));
        assert_eq!(refused.structured_content.unwrap()["error"], ErrorReason::DUPLICATE_SETTLEMENT.as_str(), "{again}");
    }
    for malformed in [json!(7), json!({}), json!("e30="), json!(null)] {
        let mut call = call("get_weather");
        let mut meta = RequestMetaObject::new();
        meta.0.0.insert(PAYMENT.to_owned(), malformed.clone());
        call.meta = Some(meta);
        let refused = peer.call_tool(call).await.unwrap();
        assert_eq!(refused.is_error, Some(true), "{malformed}");
        assert!(refused.structured_content.unwrap()["accepts"].is_array(), "{malformed}");
    }
    assert_eq!((stage.calls(), stage.paid()), (1, 1));
}

#[tokio::test]
async fn an_agent_pays_twenty_calls_within_one_budget_and_no_more() {
    let stage = stage().await;
    let budget = Arc::new(MemoryBudget::default().with_daily("0.20".parse().unwrap()));
    let client = stage.paying(payer().with_budget(budget));
    for at in 0..20 {
        let mut call = call("get_weather");
        call.arguments.as_mut().unwrap().insert("at".to_owned(), at.into());
        assert_eq!(client.call_tool(call).await.unwrap().result.is_error, Some(false), "{at}");
    }
    let CallError::Pay(PayError::NothingPayable(reasons)) = client.call_tool(call("get_weather")).await.unwrap_err()
    else {
        panic!()
    };
    assert!(matches!(reasons[..], [NotPayable::OverBudget(_)]), "{reasons:?}");
    assert_eq!((stage.calls(), stage.paid()), (20, 20));
    let dear = stage.paying(payer().with_spending(SpendLimits::default().with_cap("0.001".parse().unwrap())));
    let CallError::Pay(PayError::NothingPayable(reasons)) = dear.call_tool(call("get_weather")).await.unwrap_err()
    else {
        panic!()
    };
    assert!(matches!(reasons[..], [NotPayable::OverCap { .. }]), "{reasons:?}");
}

/// A facilitator whose settlements end in a given way.
struct Ends(SettleResponse);

#[async_trait]
impl Facilitator for Ends {
    async fn verify(&self, _: &PaymentRequest) -> Result<VerifyResponse, Fault> {
        Ok(serde_json::from_value(json!({"isValid": true, "payer": ACCOUNTS[PAYER].address})).unwrap())
    }

    async fn settle(&self, _: &PaymentRequest) -> Result<SettleResponse, Fault> {
        Ok(self.0.clone())
    }

    async fn supported(&self) -> Result<SupportedResponse, Fault> {
        Err(Fault::unreachable("facilitator", "none"))
    }
}

#[tokio::test]
async fn a_result_whose_payment_is_not_settled_is_withheld() {
    for (code, is_asked_again) in [("insufficient_funds", true), ("settlement_pending", false)] {
        let answer = json!({"success": false, "errorReason": code, "transaction": "", "network": "eip155:84532"});
        let facilitator = Arc::new(Ends(serde_json::from_value(answer).unwrap()));
        let weather = Weather::default();
        let calls = Arc::clone(&weather.0);
        let running = connect(prices(facilitator).await.before(weather)).await;
        let client = PayingClient::new(running.peer().clone(), "weather.example", payer().with_resends(0)).unwrap();
        let answered = client.call_tool(call("get_weather")).await.unwrap();
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        assert_eq!(answered.result.is_error, Some(true), "{code}");
        assert!(!text(&answered.result).contains("sunny"), "{code}");
        let document = answered.result.structured_content.unwrap();
        assert_eq!(document.get("accepts").is_some(), is_asked_again, "{code}");
        assert!(!answered.receipt.unwrap().0.success);
    }
}
