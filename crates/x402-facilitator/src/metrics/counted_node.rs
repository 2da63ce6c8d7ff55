//! Counts the calls to a node, and their errors by kind.

use std::task::{Context, Poll};

use alloy_json_rpc::{RequestPacket, ResponsePacket};
use alloy_rpc_client::RpcClient;
use alloy_transport::{BoxTransport, TransportError, TransportFut};
use tower_service::Service;
use x402_evm::chain::NodeError;
use x402_types::ChainId;

use super::{Metrics, names};

/// Wraps a client so that every call is counted as it leaves, repetitions included.
pub(crate) fn counted(client: &RpcClient, network: ChainId, metrics: Metrics) -> RpcClient {
    let inner = client.transport().clone();
    RpcClient::new(Counted { inner, network, metrics }, client.is_local())
}

#[derive(Debug, Clone)]
struct Counted {
    inner: BoxTransport,
    network: ChainId,
    metrics: Metrics,
}

impl Service<RequestPacket> for Counted {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, packet: RequestPacket) -> Self::Future {
        let methods: Vec<_> = packet.requests().iter().map(|it| (it.id().clone(), it.method().to_owned())).collect();
        let (network, metrics) = (self.network, self.metrics.clone());
        for (_, method) in &methods {
            metrics.add(&names::RPC_CALLS, &[network.as_str(), method], 1);
        }
        let answer = self.inner.call(packet);
        Box::pin(async move {
            let answer = answer.await;
            let failed = |method: &str, kind| {
                metrics.add(&names::RPC_ERRORS, &[network.as_str(), method, name(kind)], 1);
            };
            match &answer {
                Ok(answer) => {
                    for response in answer.responses() {
                        let Some(error) = response.payload.as_error() else { continue };
                        let method = methods.iter().find(|(id, _)| *id == response.id);
                        let method = method.map_or("unknown", |(_, method)| method);
                        failed(method, NodeError::of_response(error.code, &error.message));
                    }
                }
                Err(error) => methods.iter().for_each(|(_, method)| failed(method, NodeError::of(error))),
            }
            answer
        })
    }
}

/// Returns the label of an error's kind, which never changes.
const fn name(kind: NodeError) -> &'static str {
    match kind {
        NodeError::AlreadyKnown => "already_known",
        NodeError::NonceUsed => "nonce_used",
        NodeError::NonceTooHigh => "nonce_too_high",
        NodeError::FeeTooLow => "fee_too_low",
        NodeError::GasLimitTooLow => "gas_limit_too_low",
        NodeError::NoGasFunds => "no_gas_funds",
        NodeError::Reverted => "reverted",
        NodeError::TooMuch => "too_much",
        NodeError::StateGone => "state_gone",
        NodeError::BlockUnknown => "block_unknown",
        NodeError::MayPass => "may_pass",
        _ => "unusable",
    }
}
