//! Further endpoints of a chain: nodes of their own, with faults of their own.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use alloy_json_rpc::{RequestPacket, ResponsePacket};
use alloy_rpc_client::RpcClient;
use alloy_transport::{TransportError, TransportErrorKind, TransportFut};
use serde_json::Value;
use tower::Service;

use crate::chain::DevChain;
use crate::rpc::{Reply, round_trip_behind};

/// The faults of an endpoint, and the number of its round trips.
#[derive(Clone, Debug, Default)]
struct State {
    is_down: bool,
    behind: u64,
    is_lying: bool,
    refusal: Option<String>,
    round_trips: u64,
}

/// An endpoint of a [`DevChain`]: it answers from the chain, by faults of its own. Clones are handles of the same endpoint.
#[derive(Clone, Debug)]
pub struct DevEndpoint {
    chain: DevChain,
    state: Arc<Mutex<State>>,
}

impl DevChain {
    /// Returns a further endpoint of this chain, without faults.
    #[must_use]
    pub fn endpoint(&self) -> DevEndpoint {
        DevEndpoint { chain: self.clone(), state: Arc::default() }
    }
}

impl DevEndpoint {
    /// Sets whether connections to the endpoint break.
    pub fn set_down(&self, is_down: bool) {
        self.state().is_down = is_down;
    }

    /// Sets how many of the newest blocks the endpoint does not have.
    pub fn set_behind(&self, blocks: u64) {
        self.state().behind = blocks;
    }

    /// Sets whether the endpoint reports other hashes for all blocks, as if it were on another branch.
    pub fn set_lying(&self, is_lying: bool) {
        self.state().is_lying = is_lying;
    }

    /// Sets the text with which the endpoint refuses transactions, with the code -32000.
    pub fn set_refusal(&self, text: Option<&str>) {
        self.state().refusal = text.map(str::to_owned);
    }

    /// Returns the number of single requests and batches that reached the endpoint, failed ones included.
    #[must_use]
    pub fn round_trips(&self) -> u64 {
        self.state().round_trips
    }

    /// Returns an RPC client of the endpoint. It keeps the chain alive.
    #[must_use]
    pub fn client(&self) -> RpcClient {
        RpcClient::new(EndpointTransport(self.clone()), true)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, request: &str) -> Result<String, TransportError> {
        let state = {
            let mut state = self.state();
            state.round_trips = state.round_trips.saturating_add(1);
            state.clone()
        };
        if state.is_down {
            return Err(TransportErrorKind::backend_gone());
        }
        if let Some(refusal) = &state.refusal
            && request.contains("eth_sendRawTransaction")
        {
            return Ok(refused(request, refusal));
        }
        match round_trip_behind(&mut self.chain.core(), request.as_bytes(), Some(state.behind)) {
            Reply::Body(body) if state.is_lying => Ok(falsified(&body)),
            Reply::Body(body) => Ok(body),
            Reply::Status(status) => Err(TransportErrorKind::http_error(status, String::new())),
            // A round trip of an endpoint takes no time: what is never answered breaks at once.
            Reply::Lost | Reply::Never => Err(TransportErrorKind::backend_gone()),
        }
    }
}

/// Refuses each request.
fn refused(request: &str, text: &str) -> String {
    let error = |one: &Value| {
        let error = serde_json::json!({ "code": -32000, "message": text });
        serde_json::json!({ "jsonrpc": "2.0", "id": one.get("id"), "error": error })
    };
    match serde_json::from_str(request).unwrap_or_default() {
        Value::Array(members) => Value::Array(members.iter().map(error).collect()).to_string(),
        single => error(&single).to_string(),
    }
}

/// Replaces the hashes of blocks: the first digit of each is another one.
fn falsified(body: &str) -> String {
    let mut answer: Value = serde_json::from_str(body).unwrap_or_default();
    let members = match &mut answer {
        Value::Array(members) => members.iter_mut().collect(),
        single => vec![single],
    };
    for member in members {
        let block = member.get_mut("result").filter(|result| result.get("parentHash").is_some());
        if let Some(Value::String(hash)) = block.and_then(|block| block.get_mut("hash")) {
            let other = if hash.starts_with("0x0") { "0x1" } else { "0x0" };
            hash.replace_range(..3, other);
        }
    }
    answer.to_string()
}

#[derive(Clone, Debug)]
struct EndpointTransport(DevEndpoint);

impl Service<RequestPacket> for EndpointTransport {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, packet: RequestPacket) -> Self::Future {
        let endpoint = self.0.clone();
        Box::pin(async move {
            let request = packet.serialize().map_err(TransportError::ser_err)?;
            let body = endpoint.answer(request.get())?;
            serde_json::from_str(&body).map_err(|error| TransportError::deser_err(error, body))
        })
    }
}
