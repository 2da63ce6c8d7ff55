//! Repeats requests that a node refuses temporarily, before any caller sees the error.

use std::task::{Context, Poll};
use std::time::Duration;

use alloy_json_rpc::{RequestPacket, Response, ResponsePacket, SerializedRequest};
use alloy_rpc_client::RpcClient;
use alloy_transport::{BoxTransport, TransportError, TransportErrorKind, TransportFut};
use tower_service::Service;

use super::node_error::NodeError;

/// The pauses before each further attempt.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(50), Duration::from_millis(150), Duration::from_millis(400), Duration::from_millis(900)];

/// Wraps a client so that requests are repeated, at most four times and within about 1.5 s, if the node's error is
/// temporary: a rate limit, a gateway without its node, a broken connection, an unreadable answer, a block that it does
/// not have yet. Every request of this crate can be repeated: a node recognises a transaction that it has already.
#[must_use]
pub fn repeating(client: &RpcClient) -> RpcClient {
    let repeat = Repeat(client.transport().clone());
    RpcClient::new(repeat, client.is_local())
}

#[derive(Debug, Clone)]
struct Repeat(BoxTransport);

/// Returns whether another attempt is useful.
pub(super) const fn passes(kind: NodeError) -> bool {
    matches!(kind, NodeError::MayPass | NodeError::BlockUnknown)
}

/// Returns the time for which the node requests a pause, at most as long as the last pause; `None` if the error is not
/// temporary.
fn pause(error: &TransportError, before: Duration) -> Option<Duration> {
    match error {
        // An unreadable answer does not prove that the request was at fault.
        TransportError::DeserError { .. } => Some(before),
        _ if !passes(NodeError::of(error)) => None,
        TransportError::Transport(way @ TransportErrorKind::HttpErrorWithRetryAfter { .. }) => {
            let wanted = way.retry_after().unwrap_or_default().max(before);
            PAUSES.last().is_some_and(|most| wanted <= *most).then_some(wanted)
        }
        _ => Some(before),
    }
}

/// Returns the responses of an answer.
pub(super) const fn responses(answer: &ResponsePacket) -> &[Response] {
    match answer {
        ResponsePacket::Single(response) => core::slice::from_ref(response),
        ResponsePacket::Batch(responses) => responses.as_slice(),
    }
}

/// Joins responses to the answer of a single request or of a batch.
pub(super) fn whole(single: bool, mut responses: Vec<Response>) -> ResponsePacket {
    match responses.pop() {
        Some(response) if single && responses.is_empty() => ResponsePacket::Single(response),
        last => ResponsePacket::Batch(responses.into_iter().chain(last).collect()),
    }
}

/// Returns the requests that these responses are for; `None` if there is none.
pub(super) fn subset(packet: &RequestPacket, single: bool, again: &[Response]) -> Option<RequestPacket> {
    let refused = |request: &&SerializedRequest| again.iter().any(|it| it.id == *request.id());
    let requests: Vec<SerializedRequest> = packet.requests().iter().filter(refused).cloned().collect();
    match (single, requests) {
        (_, none) if none.is_empty() => None,
        (true, one) => one.into_iter().next().map(RequestPacket::Single),
        (false, some) => Some(RequestPacket::Batch(some)),
    }
}

/// Splits a response into final answers and those that another attempt may improve. The members of a batch are refused
/// individually: a node that counts calls refuses some of the same batch each time.
fn split(answer: ResponsePacket) -> (Vec<Response>, Vec<Response>) {
    let responses = match answer {
        ResponsePacket::Single(response) => vec![response],
        ResponsePacket::Batch(responses) => responses,
    };
    responses.into_iter().partition(|response| {
        let error = response.payload.as_error();
        error.is_none_or(|error| !passes(NodeError::of_response(error.code, &error.message)))
    })
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
            let single = packet.as_single().is_some();
            let (mut left, mut stands) = (packet, Vec::new());
            for before in PAUSES {
                let wait = match transport.call(left.clone()).await {
                    Ok(answer) => {
                        let (good, again) = split(answer);
                        stands.extend(good);
                        if again.is_empty() {
                            return Ok(whole(single, stands));
                        }
                        match subset(&left, single, &again) {
                            Some(rest) => left = rest,
                            // The refusals are for requests that were not sent: there is nothing to repeat.
                            None => {
                                stands.extend(again);
                                return Ok(whole(single, stands));
                            }
                        }
                        before
                    }
                    Err(error) => match pause(&error, before) {
                        Some(pause) => pause,
                        None => return Err(error),
                    },
                };
                tokio::time::sleep(wait).await;
            }
            let (good, refused) = split(transport.call(left).await?);
            stands.extend(good.into_iter().chain(refused));
            Ok(whole(single, stands))
        })
    }
}
