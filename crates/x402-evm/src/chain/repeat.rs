//! A node that refuses for a moment: the request is made again before anybody hears of it.

use std::task::{Context, Poll};
use std::time::Duration;

use alloy_json_rpc::{RequestPacket, ResponsePacket};
use alloy_provider::{DynProvider, Provider, RootProvider};
use alloy_rpc_client::RpcClient;
use alloy_transport::{BoxTransport, TransportError, TransportErrorKind, TransportFut};
use tower_service::Service;

use super::node_error::NodeError;

/// How long is waited before each further try.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(50), Duration::from_millis(150), Duration::from_millis(400), Duration::from_millis(900)];

/// The same provider, whose requests are made again, four times at most and within some 1.5 s, where what the node said
/// may pass: a limit of rate, a gateway without its node, a connection that broke, a block that it does not have yet.
/// Everything that is asked of a node here can be asked twice: a transaction that it has already, it says so.
#[must_use]
pub fn repeating(provider: &DynProvider) -> DynProvider {
    let client = provider.client();
    let repeat = Repeat(client.transport().clone());
    RootProvider::<alloy_network::Ethereum>::new(RpcClient::new(repeat, client.is_local())).erased()
}

#[derive(Debug, Clone)]
struct Repeat(BoxTransport);

/// How long the node wants to be left alone, at most as long as the last pause; `None` where it says nothing that passes.
fn pause(answer: &Result<ResponsePacket, TransportError>, before: Duration) -> Option<Duration> {
    let passes = |kind| matches!(kind, NodeError::MayPass | NodeError::BlockUnknown);
    match answer {
        Ok(packet) => {
            let mut errors = packet.iter_errors().map(|error| NodeError::of_response(error.code, &error.message));
            errors.any(passes).then_some(before)
        }
        Err(error) if !passes(NodeError::of(error)) => None,
        Err(TransportError::Transport(way @ TransportErrorKind::HttpErrorWithRetryAfter { .. })) => {
            let wanted = way.retry_after().unwrap_or_default().max(before);
            PAUSES.last().is_some_and(|most| wanted <= *most).then_some(wanted)
        }
        Err(_) => Some(before),
    }
}

impl Service<RequestPacket> for Repeat {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, packet: RequestPacket) -> Self::Future {
        let mut transport = self.0.clone();
        Box::pin(async move {
            for before in PAUSES {
                let answer = transport.call(packet.clone()).await;
                let Some(pause) = pause(&answer, before) else { return answer };
                tokio::time::sleep(pause).await;
            }
            transport.call(packet).await
        })
    }
}
