//! Several endpoints of one network as one client: docs/adr/0056-several-endpoints.md.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use alloy_json_rpc::{RequestPacket, Response, ResponsePacket};
use alloy_rpc_client::RpcClient;
use alloy_transport::{BoxTransport, TransportError, TransportErrorKind, TransportFut};
use tower_service::Service;

use super::node_error::NodeError;
use super::repeat::{passes, responses, subset, whole};

/// Makes one client of the clients of several endpoints, in the order of preference. Without any, each request fails.
///
/// A read goes to one endpoint, and to the next if that fails for a reason that may pass; the endpoint that answered gets
/// the first attempt from then on, so that consecutive reads see one node's chain. A transaction goes to one and, if that
/// does not take it, to the next: it was taken if one of them took it, and refused only if all of them refused it.
#[must_use]
pub fn endpoints(clients: &[RpcClient]) -> RpcClient {
    let is_local = clients.iter().all(|client| client.is_local());
    let all = clients.iter().map(|client| client.transport().clone()).collect();
    RpcClient::new(Endpoints { all, preferred: Arc::default() }, is_local)
}

#[derive(Debug, Clone)]
struct Endpoints {
    all: Arc<[BoxTransport]>,
    /// The place of the endpoint that gets the first attempt.
    preferred: Arc<AtomicUsize>,
}

/// Returns whether every request of the packet sends a transaction.
fn is_sending(packet: &RequestPacket) -> bool {
    packet.requests().iter().all(|request| request.method().starts_with("eth_sendRawTransaction"))
}

/// Returns the kind of a response's error.
fn refusal(response: &Response) -> Option<NodeError> {
    let error = response.payload.as_error()?;
    Some(NodeError::of_response(error.code, &error.message))
}

/// Returns whether a node has the transaction, or had one in its place: no other node can take it for the first time. The
/// code 4 of [EIP-7966](https://eips.ethereum.org/EIPS/eip-7966) means that it is in the pool.
fn is_taken(response: &Response) -> bool {
    response.payload.as_error().is_some_and(|error| error.code == 4)
        || matches!(refusal(response), None | Some(NodeError::AlreadyKnown | NodeError::NonceUsed))
}

fn none() -> TransportError {
    TransportErrorKind::custom_str("no endpoint")
}

impl Endpoints {
    /// Returns the places of all endpoints, the preferred one first.
    fn order(&self) -> impl Iterator<Item = (usize, BoxTransport)> + use<> {
        let (all, first) = (Arc::clone(&self.all), self.preferred.load(Ordering::Relaxed));
        (0..all.len()).filter_map(move |step| {
            let place = first.checked_add(step)?.checked_rem(all.len())?;
            Some((place, all.get(place)?.clone()))
        })
    }

    /// Prefers the endpoint behind this one, if this one is still preferred.
    fn pass_on(&self, place: usize) {
        let next = place.saturating_add(1).checked_rem(self.all.len()).unwrap_or_default();
        // Another request may have passed on already.
        let _ = self.preferred.compare_exchange(place, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    async fn read(self, packet: RequestPacket) -> Result<ResponsePacket, TransportError> {
        let mut last = Err(none());
        for (place, mut endpoint) in self.order() {
            let answer = endpoint.call(packet.clone()).await;
            let (failed, is_final) = match &answer {
                Ok(answer) => {
                    let fails = |response: &Response| refusal(response).is_some_and(passes);
                    let failed = responses(answer).iter().filter(|response| fails(response)).count();
                    // The answers of a batch are kept, and its repetition goes to the next endpoint with the rest.
                    (failed > 0, failed < responses(answer).len())
                }
                Err(TransportError::DeserError { .. }) => (true, false),
                Err(error) => (true, !passes(NodeError::of(error))),
            };
            if failed {
                self.pass_on(place);
            }
            last = answer;
            if is_final {
                break;
            }
        }
        last
    }

    async fn send(self, packet: RequestPacket) -> Result<ResponsePacket, TransportError> {
        let single = packet.as_single().is_some();
        let (mut left, mut stands, mut refused) = (packet, Vec::new(), Vec::new());
        let mut lost = None;
        for (place, mut endpoint) in self.order() {
            match endpoint.call(left.clone()).await {
                Ok(ResponsePacket::Single(response)) => refused = vec![response],
                Ok(ResponsePacket::Batch(responses)) => refused = responses,
                Err(error) => {
                    // The endpoint may have taken them: no refusal by another one is the last word.
                    lost.get_or_insert(error);
                    self.pass_on(place);
                    continue;
                }
            }
            let (taken, rest): (Vec<Response>, Vec<Response>) = refused.into_iter().partition(is_taken);
            (stands, refused) = (stands.into_iter().chain(taken).collect(), rest);
            match subset(&left, single, &refused) {
                Some(rest) => left = rest,
                None => return Ok(whole(single, stands.into_iter().chain(refused).collect())),
            }
        }
        match lost {
            Some(error) => Err(error),
            None if stands.is_empty() && refused.is_empty() => Err(none()),
            None => Ok(whole(single, stands.into_iter().chain(refused).collect())),
        }
    }
}

impl Service<RequestPacket> for Endpoints {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        // alloy's transports are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, packet: RequestPacket) -> Self::Future {
        let endpoints = self.clone();
        if is_sending(&packet) { Box::pin(endpoints.send(packet)) } else { Box::pin(endpoints.read(packet)) }
    }
}
