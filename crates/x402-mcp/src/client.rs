//! The buyer's half: [x402 over MCP](https://github.com/coinbase/x402/blob/main/specs/transports-v2/mcp.md) as a
//! transport of the paying client.
//!
//! `x402_http::client` decides what is paid, remembers open payments and keeps budgets. Here a call of a tool is
//! presented to it as a request of HTTP, and the result as the response of the same meaning.

use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

use bytes::Bytes;
use http::header::HeaderValue;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use rmcp::model::{CallToolRequestParams, CallToolResult, RequestMetaObject};
use rmcp::service::Peer;
use rmcp::{ErrorData, RoleClient, ServiceError};
use serde_json::Value;
use tower_layer::Layer;
use tower_service::Service;
use url::Url;
use x402_codec::{Limits, header};
use x402_http::client::{ClientError, PayError, PayLayer, Payer, Receipt};

use crate::{PAYMENT, PAYMENT_RESPONSE};

/// Calls the tools of one server, and pays for those that require it.
#[derive(Debug, Clone)]
pub struct PayingClient {
    peer: Peer<RoleClient>,
    pay: PayLayer,
    base: Url,
}

/// The result of a call, with the receipt of its payment if there was one.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ToolResult {
    /// The result of the tool: `isError` and a `PaymentRequired` if the payment was refused.
    pub result: CallToolResult,
    /// The server's receipt. It may report that nothing was paid: [`Receipt::outcome`].
    pub receipt: Option<Receipt>,
}

/// The reason why there is no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The server answered with an error of JSON-RPC.
    #[error("the server answered with error {}: {}", .0.code.0, .0.message)]
    Answered(ErrorData),
    /// The connection failed and no payment was in progress.
    #[error("the call failed: {0}")]
    Transport(Box<str>),
    /// Nothing was paid.
    #[error("nothing was paid: {0}")]
    Pay(#[source] PayError),
    /// The connection failed with a payment in progress: it may have been made. The same call, made again, presents the
    /// same payment.
    #[error("the outcome of the payment is not known: {0}")]
    Unknown(Box<str>),
    /// An earlier call was settled and not served, and the server refuses the same payment.
    #[error("paid without an answer ({0})")]
    PaidWithoutAnswer(Box<Receipt>),
}

/// The error for a name that is no host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected the name of the server as a host with an optional port")]
pub struct ServerNameError;

impl PayingClient {
    /// Creates a client for a connected server. `server` names it as a host, `weather.example` or `localhost:4021`: a
    /// budget counts by it, and open payments are kept under it, so it must be the same after a restart and another one
    /// for another server.
    ///
    /// # Errors
    /// The name is not a host with an optional port.
    pub fn new(peer: Peer<RoleClient>, server: &str, payer: Payer) -> Result<Self, ServerNameError> {
        let base = base(server).ok_or(ServerNameError)?;
        Ok(Self { peer, pay: PayLayer::new(payer), base })
    }

    /// Returns the connected server.
    #[must_use]
    pub const fn peer(&self) -> &Peer<RoleClient> {
        &self.peer
    }

    /// Calls a tool, and pays for it if the server requires that and the payer allows it. The same call, made again
    /// while the outcome of its payment is not known, presents the same payment.
    ///
    /// # Errors
    /// The server answered with an error of its protocol, the connection failed, or nothing was paid.
    pub async fn call_tool(&self, call: CallToolRequestParams) -> Result<ToolResult, CallError> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.clear().extend(["tools", &*call.name]);
        }
        // A payment is for these arguments: calls with others are other purchases.
        let arguments = call.arguments.as_ref().map_or_else(|| Ok(Vec::new()), serde_json::to_vec);
        let arguments = arguments.map_err(|error| CallError::Transport(error.to_string().into()))?;
        let request = Request::post(url.as_str()).body(Full::new(Bytes::from(arguments)));
        let request = request.map_err(|_| CallError::Pay(PayError::Url))?;
        let tool = ToolCall { peer: self.peer.clone(), call };
        let response = self.pay.layer(tool).call(request).await.map_err(CallError::of)?;
        let (mut parts, _) = response.into_parts();
        let receipt = parts.extensions.remove::<Receipt>();
        match parts.extensions.remove::<Answer>() {
            Some(Answer(Ok(result))) => Ok(ToolResult { result, receipt }),
            Some(Answer(Err(error))) => Err(CallError::Answered(error)),
            None => Err(CallError::Transport("there is no answer".into())),
        }
    }
}

/// Returns the URL under which the calls of a server are kept and counted.
fn base(server: &str) -> Option<Url> {
    let base = Url::parse(&format!("https://{server}/")).ok()?;
    let written = base.as_str().strip_prefix("https://")?.strip_suffix('/')?;
    (written == server.to_ascii_lowercase() && !server.contains(['/', '@', '?', '#'])).then_some(base)
}

impl CallError {
    fn of(error: ClientError<ServiceError>) -> Self {
        match error {
            ClientError::Transport(error) => Self::Transport(error.to_string().into()),
            ClientError::Pay(error) => Self::Pay(error),
            ClientError::Unknown(error) => Self::Unknown(error.to_string().into()),
            ClientError::PaidWithoutAnswer { receipt, .. } => Self::PaidWithoutAnswer(receipt),
            other => Self::Transport(other.to_string().into()),
        }
    }
}

/// The answer of the server, in the response's extensions.
#[derive(Clone)]
struct Answer(Result<CallToolResult, ErrorData>);

/// One call as a service of HTTP's types.
#[derive(Clone)]
struct ToolCall {
    peer: Peer<RoleClient>,
    call: CallToolRequestParams,
}

impl fmt::Debug for ToolCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToolCall").field("tool", &self.call.name).finish_non_exhaustive()
    }
}

impl Service<Request<Full<Bytes>>> for ToolCall {
    type Response = Response<Full<Bytes>>;
    type Error = ServiceError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ServiceError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ServiceError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let Self { peer, mut call } = self.clone();
        Box::pin(async move {
            let headers = request.headers();
            let payment = headers.get(&header::PAYMENT_SIGNATURE).or_else(|| headers.get(&header::X_PAYMENT));
            if let Some(payment) = payment {
                let payment: Value = header::decode(payment.as_bytes(), &Limits::DEFAULT)
                    .map_err(|_| ServiceError::UnexpectedResponse)?;
                call.meta.get_or_insert_with(RequestMetaObject::new).0.0.insert(PAYMENT.to_owned(), payment);
            }
            match peer.call_tool(call).await {
                Ok(result) => Ok(response(result)),
                // Servers of other SDKs require payment by these codes, with the document as their data.
                Err(ServiceError::McpError(error)) => {
                    let required = [402, -32_042].contains(&error.code.0);
                    let document = error.data.clone().filter(|data| required && is_required(data));
                    Ok(with_answer(document.as_ref(), StatusCode::INTERNAL_SERVER_ERROR, None, Err(error)))
                }
                Err(error) => Err(error),
            }
        })
    }
}

/// Returns the response of HTTP with the meaning of a result.
fn response(result: CallToolResult) -> Response<Full<Bytes>> {
    let receipt = result.meta.as_ref().and_then(|meta| meta.0.get(PAYMENT_RESPONSE)).cloned();
    if result.is_error != Some(true) {
        return with_answer(None, StatusCode::OK, receipt, Ok(result));
    }
    // "Clients prefer structuredContent, and fall back to the text."
    let structured = result.structured_content.clone().filter(is_required);
    let document = structured.or_else(|| {
        let text = result.content.first().and_then(|block| block.as_text())?;
        serde_json::from_str(&text.text).ok().filter(is_required)
    });
    // A receipt that reports an open settlement makes the payer present the same payment again.
    let status = if receipt.is_some() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::INTERNAL_SERVER_ERROR };
    with_answer(document.as_ref(), status, receipt, Ok(result))
}

fn is_required(document: &Value) -> bool {
    document.get("x402Version").is_some() && document.get("accepts").is_some_and(Value::is_array)
}

fn with_answer(
    document: Option<&Value>,
    otherwise: StatusCode,
    receipt: Option<Value>,
    answer: Result<CallToolResult, ErrorData>,
) -> Response<Full<Bytes>> {
    let body = document.map(Value::to_string).unwrap_or_default();
    let mut response = Response::new(Full::new(Bytes::from(body.clone())));
    *response.status_mut() = document.map_or(otherwise, |_| StatusCode::PAYMENT_REQUIRED);
    let mut set = |name: &http::HeaderName, json: &str| {
        // A document that is too long for a header cannot be read either.
        let value = header::encode_text(json.as_bytes());
        response.headers_mut().insert(name, value.unwrap_or_else(|_| HeaderValue::from_static("")));
    };
    if let Some(document) = document
        && document.get("x402Version").and_then(Value::as_u64) == Some(2)
    {
        set(&header::PAYMENT_REQUIRED, &body);
    }
    if let Some(receipt) = receipt.filter(|receipt| !receipt.is_null()) {
        set(&header::PAYMENT_RESPONSE, &receipt.to_string());
    }
    response.extensions_mut().insert(Answer(answer));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(json: &str) -> CallToolResult {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_server_is_named_as_a_host() {
        for name in ["", "a b", "a/b", "a?b", "u@a", "a#b", "a:443", "a:b", "a\tb"] {
            assert_eq!(base(name), None, "{name}");
        }
        for name in ["weather.example", "Weather.example", "localhost:8080", "127.0.0.1:1", "[::1]:1"] {
            assert!(base(name).is_some(), "{name}");
        }
    }

    #[test]
    fn a_result_is_read_as_its_http_response() {
        const ASK: &str = r#"{"x402Version":2,"accepts":[]}"#;
        let text = serde_json::to_string(ASK).unwrap();
        for (json, status, has_required, has_receipt) in [
            (r#"{"content":[],"isError":false}"#.to_owned(), 200, false, false),
            (r#"{"content":[]}"#.to_owned(), 200, false, false),
            (r#"{"content":[],"_meta":{"x402/payment-response":{"success":true}}}"#.to_owned(), 200, false, true),
            (format!(r#"{{"content":[],"structuredContent":{ASK},"isError":true}}"#), 402, true, false),
            (format!(r#"{{"content":[{{"type":"text","text":{text}}}],"isError":true}}"#), 402, true, false),
            // What is no error asks for nothing, whatever it contains.
            (format!(r#"{{"content":[],"structuredContent":{ASK}}}"#), 200, false, false),
            (r#"{"content":[],"isError":true}"#.to_owned(), 500, false, false),
            (r#"{"content":[],"isError":true,"_meta":{"x402/payment-response":null}}"#.to_owned(), 503, false, false),
            (r#"{"content":[],"isError":true,"_meta":{"x402/payment-response":{}}}"#.to_owned(), 503, false, true),
        ] {
            let response = response(result(&json));
            assert_eq!(response.status().as_u16(), status, "{json}");
            assert_eq!(response.headers().contains_key(&header::PAYMENT_REQUIRED), has_required, "{json}");
            assert_eq!(response.headers().contains_key(&header::PAYMENT_RESPONSE), has_receipt, "{json}");
        }
    }
}
