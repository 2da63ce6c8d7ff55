//! The server: the dispatch to the tools, and the questions to a person.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ElicitRequest, ElicitRequestParams, ElicitationAction,
    ElicitationSchema, Implementation, InputRequest, InputRequiredResult, ListToolsResult, PaginatedRequestParams,
    ProtocolVersion, ServerCapabilities, ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::{Map, Value, json};
use x402_extensions::offer_receipt::KeptReceipt;
use x402_http::client::{Clock, Payer, SystemClock};
use x402_http::discovery::{Discovery, DiscoveryFilter};
use x402_types::U256;

use super::books::{Books, in_dollars, left_in_dollars, limit_in_dollars};
use super::confirm::{Open, Question};
use super::fetch::{Ended, Prepared, fetch};
use super::price::price;
use super::reach::Reach;
use super::tools::{self, FetchArguments, FindArguments, arguments};
use crate::pay::journal::Journal;

/// The name of the question in a request for input.
const PAY: &str = "pay";
/// The time in which a person answers.
const PATIENCE: Duration = Duration::from_secs(300);
/// The most receipts that are listed.
const RECEIPTS: usize = 50;

/// The tools of an agent.
pub(super) struct Agent {
    payer: Payer,
    books: Arc<Books>,
    journal: Arc<Journal>,
    reach: Reach,
    facilitator: String,
    open: Open,
}

impl Agent {
    pub(super) fn new(
        payer: Payer,
        books: Arc<Books>,
        journal: Arc<Journal>,
        reach: Reach,
        facilitator: String,
    ) -> Self {
        Self { payer, books, journal, reach, facilitator, open: Open::default() }
    }

    async fn call(
        &self,
        call: &CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, String> {
        let given = call.arguments.clone().unwrap_or_default();
        let value = match &*call.name {
            "fetch" => return self.fetch(call, given, context).await,
            "price" => {
                let wanted: FetchArguments = arguments(&given)?;
                price(&self.reach, &Prepared::new(&wanted)?).await?
            }
            "find" => self.find(arguments(&given)?).await?,
            "budget" => self.budget().await?,
            "receipts" => self.receipts()?,
            other => return Err(format!("no tool has the name {}", other.escape_debug())),
        };
        Ok(CallToolResult::structured(value).into())
    }

    async fn fetch(
        &self,
        call: &CallToolRequestParams,
        given: Map<String, Value>,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, String> {
        let wanted: FetchArguments = arguments(&given)?;
        let prepared = Prepared::new(&wanted)?;
        let max = wanted.max.as_deref().map(str::parse).transpose().map_err(|error| format!("max: {error}"))?;
        let run = async |agreed| fetch(&self.payer, &self.books, &self.reach, &prepared, max, agreed).await;
        let question = match run(self.agreed(call, &given)?).await? {
            Ended::Answered(answer) => return Ok(CallToolResult::structured(answer).into()),
            Ended::Ask(question) => question,
        };
        let text = question.text(&wanted.url);
        if !can_ask(context) {
            return Err(format!(
                "{text} Amounts above confirm_above need a person's consent, and this client cannot ask."
            ));
        }
        let form = ElicitRequestParams::FormElicitationParams {
            meta: None,
            message: text,
            requested_schema: ElicitationSchema::new(BTreeMap::new()),
        };
        if is_new(context) {
            // The answer carries the question to a client of this version, which repeats the call.
            let handle = self.open.keep(given, question).ok_or("no randomness")?;
            let requests = BTreeMap::from([(PAY.to_owned(), InputRequest::Elicitation(ElicitRequest::new(form)))]);
            return Ok(InputRequiredResult::new(Some(requests), Some(handle)).into());
        }
        let answer = context.peer.create_elicitation_with_timeout(form, Some(PATIENCE)).await;
        let answer = answer.map_err(|error| format!("nothing was paid: no consent: {error}"))?;
        if answer.action != ElicitationAction::Accept {
            return Err("nothing was paid: the owner declined".to_owned());
        }
        match run(Some(question)).await? {
            Ended::Answered(answer) => Ok(CallToolResult::structured(answer).into()),
            Ended::Ask(_) => Err("nothing was paid: the server asks for more than what was agreed to".to_owned()),
        }
    }

    /// Returns the question that the client brings the answer of, if the owner agreed.
    fn agreed(&self, call: &CallToolRequestParams, given: &Map<String, Value>) -> Result<Option<Question>, String> {
        let Some(handle) = &call.request_state else { return Ok(None) };
        let question = self.open.take(handle, given);
        let answer = call.input_responses.as_ref().and_then(|answers| answers.get(PAY));
        let action = answer.and_then(|answer| answer.get("action")).and_then(Value::as_str);
        match question {
            Some(question) if action == Some("accept") => Ok(Some(question)),
            Some(_) => Err("nothing was paid: the owner declined".to_owned()),
            None => Err("nothing was paid: this consent was not asked for, or is used up".to_owned()),
        }
    }

    async fn find(&self, wanted: FindArguments) -> Result<Value, String> {
        let catalog = Discovery::new(&self.facilitator).map_err(|why| format!("--facilitator: {why}"))?;
        let mut filter = DiscoveryFilter::default();
        filter.limit = Some(wanted.limit.unwrap_or(10).clamp(1, 100));
        let found = catalog.search(&wanted.words, &filter, wanted.cursor.as_deref()).await;
        serde_json::to_value(found.map_err(|fault| fault.to_string())?).map_err(|error| error.to_string())
    }

    async fn budget(&self) -> Result<Value, String> {
        let day = self.books.day(SystemClock.now().0 / 86_400).await.map_err(|fault| fault.to_string())?;
        let policy = self.books.policy();
        let all = day.iter().fold(U256::ZERO, |all, host| all.saturating_add(host.sum));
        let mut hosts: Vec<Value> = Vec::new();
        let unpaid = policy.hosts().filter(|host| !day.iter().any(|known| known.host == *host));
        let known = day.iter().map(|known| (known.host.as_str(), known.sum, known.payments));
        for (host, sum, payments) in known.chain(unpaid.map(|host| (host, U256::ZERO, 0))) {
            hosts.push(json!({
                "host": host, "spent": in_dollars(sum), "payments": payments,
                "left": left_in_dollars(policy.per_host_day(host), sum),
                "perDay": limit_in_dollars(policy.per_host_day(host)),
                "perPayment": limit_in_dollars(policy.per_payment(host)),
                "confirmAbove": limit_in_dollars(policy.confirm_above(host)),
            }));
        }
        Ok(json!({
            "spentToday": in_dollars(all), "leftToday": left_in_dollars(policy.per_day(), all),
            "perDay": limit_in_dollars(policy.per_day()), "perHostDay": limit_in_dollars(policy.per_host_day("")),
            "perPayment": limit_in_dollars(policy.per_payment("")),
            "confirmAbove": limit_in_dollars(policy.confirm_above("")), "hosts": hosts,
            "note": "UTC days; payments whose outcome is not known are counted",
        }))
    }

    fn receipts(&self) -> Result<Value, String> {
        let mut list = Vec::new();
        for (number, text) in self.journal.receipts()?.into_iter().take(RECEIPTS) {
            let kept = KeptReceipt::parse(text.as_bytes()).map_err(|why| format!("receipt {number}: {why}"))?;
            list.push(json!({ "number": number, "url": kept.url, "method": kept.method,
                "transaction": kept.transaction, "keptAt": kept.kept_at }));
        }
        Ok(json!({ "receipts": list }))
    }
}

/// Returns whether the client can show a form to a person. One that names no kind of questions means forms.
fn can_ask(context: &RequestContext<RoleServer>) -> bool {
    let asks = context.client_capabilities().and_then(|client| client.elicitation);
    asks.is_some_and(|asks| asks.form.is_some() || asks.url.is_none())
}

fn is_new(context: &RequestContext<RoleServer>) -> bool {
    let version = context.protocol_version();
    // Versions are dates, which are ordered as text.
    version.is_some_and(|version| version.as_str() >= ProtocolVersion::V_2026_07_28.as_str())
}

impl ServerHandler for Agent {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("x402", env!("CARGO_PKG_VERSION")))
            .with_instructions(
                "Tools for resources that are paid by x402. `price` tells what a request costs, `fetch` makes it and pays \
                 within the owner's budgets, which no tool can change.",
            )
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(tools::list()))
    }

    async fn call_tool(
        &self,
        call: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let ended = self.call(&call, &context).await;
        Ok(ended.unwrap_or_else(|why| CallToolResult::structured_error(json!({ "error": why })).into()))
    }
}
