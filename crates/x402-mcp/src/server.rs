//! The seller's half: [x402 over MCP](https://github.com/coinbase/x402/blob/main/specs/transports-v2/mcp.md) as a layer
//! around a server of `rmcp`. The [`Checkout`] decides on the payment.

use core::fmt;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use rmcp::model::{
    CallToolRequest, CallToolResult, ClientNotification, ClientRequest, ContentBlock, MetaObject, ProtocolVersion,
    ServerConfig, ServerResult,
};
use rmcp::service::{MaybeSendFuture, NotificationContext, RequestContext};
use rmcp::{ErrorData, RoleServer, Service};
use serde_json::{Value, json};
use x402_http::checkout::{Checkout, Declined, IncidentStep, PaymentIn, SellerError};
use x402_types::v2::{ResourceInfo, SettleResponse};
use x402_types::{Fault, Offer, Rejection};

use crate::{PAYMENT, PAYMENT_RESPONSE};

/// The method of every call, as the checkout names requests: a payment buys one call of one tool.
const METHOD: &str = "tools/call";

/// The prices of a server's tools. A tool without a price is free.
#[derive(Debug, Clone)]
pub struct PricedTools {
    checkout: Checkout,
    tools: HashMap<Box<str>, Tool>,
}

#[derive(Debug, Clone)]
struct Tool {
    offers: Vec<Offer>,
    resource: Arc<ResourceInfo>,
    /// A cell that the first paid call sets, when it checks whether the facilitator serves the offers.
    looked: OnceLock<()>,
}

impl PricedTools {
    /// Creates an empty list of prices, paid at this checkout.
    #[must_use]
    pub fn new(checkout: Checkout) -> Self {
        Self { checkout, tools: HashMap::new() }
    }

    /// Sets the price of a tool. Several offers are several ways to pay, the preferred one first.
    ///
    /// # Errors
    /// There is no offer or too many, or a flow is not supported.
    pub fn with_price(mut self, tool: &str, offers: impl IntoIterator<Item = Offer>) -> Result<Self, SellerError> {
        let offers: Vec<_> = offers.into_iter().collect();
        self.checkout.check(&offers)?;
        let resource = Arc::new(ResourceInfo::of(format!("mcp://tool/{tool}")));
        self.tools.insert(tool.into(), Tool { offers, resource, looked: OnceLock::new() });
        Ok(self)
    }

    /// Describes a priced tool, for people and for lists of services. A tool without a price has no description here.
    #[must_use]
    pub fn with_description(mut self, tool: &str, description: &str, mime_type: &str) -> Self {
        if let Some(tool) = self.tools.get_mut(tool) {
            let resource = Arc::make_mut(&mut tool.resource);
            resource.description = Some(description.to_owned());
            resource.mime_type = Some(mime_type.to_owned());
        }
        self
    }

    /// Puts the prices before a server.
    #[must_use]
    pub const fn before<S>(self, server: S) -> PricedServer<S> {
        PricedServer { inner: server, prices: self }
    }
}

/// A server some of whose tools are paid.
#[derive(Clone)]
pub struct PricedServer<S> {
    inner: S,
    prices: PricedTools,
}

impl<S> fmt::Debug for PricedServer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PricedServer").field("prices", &self.prices).finish_non_exhaustive()
    }
}

impl<S: Service<RoleServer>> Service<RoleServer> for PricedServer<S> {
    async fn handle_request(
        &self,
        request: ClientRequest,
        context: RequestContext<RoleServer>,
    ) -> Result<ServerResult, ErrorData> {
        match request {
            ClientRequest::CallToolRequest(call) => match self.prices.tools.get(&*call.params.name) {
                Some(tool) => self.sell(tool, call, context).await,
                None => self.inner.handle_request(ClientRequest::CallToolRequest(call), context).await,
            },
            other => self.inner.handle_request(other, context).await,
        }
    }

    fn handle_notification(
        &self,
        notification: ClientNotification,
        context: NotificationContext<RoleServer>,
    ) -> impl Future<Output = Result<(), ErrorData>> + MaybeSendFuture + '_ {
        self.inner.handle_notification(notification, context)
    }

    fn get_info(&self) -> ServerConfig {
        self.inner.get_info()
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        self.inner.supported_protocol_versions()
    }
}

impl<S: Service<RoleServer>> PricedServer<S> {
    async fn sell(
        &self,
        tool: &Tool,
        call: CallToolRequest,
        mut context: RequestContext<RoleServer>,
    ) -> Result<ServerResult, ErrorData> {
        let answers = Answers { checkout: &self.prices.checkout, tool, is_new: is_new(&context) };
        let in_params = call.params.meta.as_ref().and_then(|meta| meta.0.0.get(PAYMENT));
        let Some(payment) = in_params.or_else(|| context.meta.0.0.get(PAYMENT)) else {
            return Ok(answers.required(None));
        };
        let payment = PaymentIn::new(payment.to_string(), Arc::clone(&tool.resource), METHOD);
        let received = match self.prices.checkout.receive(payment, &tool.offers) {
            Ok(received) => received,
            Err(rejection) => return Ok(answers.required(Some(&rejection))),
        };
        self.prices.checkout.look_at_served(&tool.looked, &tool.offers, &tool.resource.url).await;
        let (admitted, paid) = match received.admit().await {
            Ok(admitted) => admitted,
            Err(declined) => return Ok(answers.declined(declined)),
        };
        // The tool may read whose payment it serves.
        context.extensions.insert(paid);
        let served = self.inner.handle_request(ClientRequest::CallToolRequest(call), context).await;
        match served {
            Ok(ServerResult::CallToolResult(mut result)) => {
                let receipt = if result.is_error == Some(true) {
                    admitted.fail()
                } else {
                    // From here on the result is only held: it leaves when the money has moved.
                    match admitted.finish(None).await {
                        Ok(receipt) => Some(receipt),
                        Err(declined) => return Ok(answers.declined(declined)),
                    }
                };
                if let Some(receipt) = receipt {
                    put_receipt(&mut result, &receipt);
                }
                Ok(ServerResult::CallToolResult(result))
            }
            // A call that is not complete, or failed, delivered nothing.
            other => {
                drop(admitted.fail());
                other
            }
        }
    }
}

/// The answers to calls that are not served.
struct Answers<'t> {
    checkout: &'t Checkout,
    tool: &'t Tool,
    /// Whether the client's version of MCP has a type of results.
    is_new: bool,
}

impl Answers<'_> {
    /// Returns the `PaymentRequired` as the result of the call.
    fn required(&self, rejection: Option<&Rejection>) -> ServerResult {
        ServerResult::CallToolResult(self.challenge(rejection))
    }

    fn challenge(&self, rejection: Option<&Rejection>) -> CallToolResult {
        let Tool { offers, resource, .. } = self.tool;
        let document = self.checkout.payment_required(offers, ResourceInfo::clone(resource), rejection);
        match serde_json::to_value(&document) {
            Ok(document) => self.error(document),
            Err(error) => {
                self.checkout.report(&resource.url, IncidentStep::Price, &Fault::broken(error));
                self.error(json!({ "error": "the price is not available" }))
            }
        }
    }

    fn declined(&self, declined: Declined) -> ServerResult {
        let result = match declined {
            Declined::Refused(rejection) | Declined::Repeated { rejection, .. } | Declined::Busy(rejection) => {
                self.challenge(Some(&rejection))
            }
            Declined::NotSettled { rejection, receipt } => {
                let mut result = self.challenge(Some(&rejection));
                put_receipt(&mut result, &receipt);
                result
            }
            // The money may have moved: nothing in this answer requires another payment.
            Declined::Unknown { receipt, .. } => {
                let code = receipt.error_reason.as_ref().map(|reason| reason.as_str().to_owned());
                let why = "the outcome of the payment is not known yet: repeat the call with the same payment";
                let mut result = self.error(json!({ "error": code, "errorMessage": why }));
                put_receipt(&mut result, &receipt);
                result
            }
            _ => self.error(json!({ "error": "the payment cannot be verified now; nothing was paid" })),
        };
        ServerResult::CallToolResult(result)
    }

    fn error(&self, document: Value) -> CallToolResult {
        let mut result = CallToolResult::error(vec![ContentBlock::text(document.to_string())]);
        result.structured_content = Some(document);
        if !self.is_new {
            result.result_type = None;
        }
        result
    }
}

fn is_new(context: &RequestContext<RoleServer>) -> bool {
    let version = context.protocol_version();
    // Versions are dates, which are ordered as text.
    version.is_some_and(|version| version.as_str() >= ProtocolVersion::V_2026_07_28.as_str())
}

fn put_receipt(result: &mut CallToolResult, receipt: &SettleResponse) {
    if let Ok(receipt) = serde_json::to_value(receipt) {
        result.meta.get_or_insert_with(MetaObject::new).0.insert(PAYMENT_RESPONSE.to_owned(), receipt);
    }
}
