//! Endpoints that disagree: docs/adr/0056-several-endpoints.md.

use alloy_primitives::{B256, U64};
use alloy_rpc_client::RpcClient;
use alloy_transport::TransportError;
use futures_util::future::join_all;
use x402_types::Fault;

use super::rpc::Block;
use super::{Head, ReadChain, RpcChain};

/// Two endpoints of one network whose chains differ in a final block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("two endpoints disagree: block {number} is {ours} at one, and {theirs} at the other")]
struct Disagreement {
    number: u64,
    ours: B256,
    theirs: B256,
}

impl RpcChain {
    /// Sets the clients of all endpoints of the network, each for itself. Whenever there is a new final block they are compared in
    /// it, and as long as two differ no poll succeeds, so that nothing is proven. An endpoint that does not answer, or does
    /// not have the block yet, does not object.
    #[must_use]
    pub fn with_compared(mut self, endpoints: Vec<RpcClient>) -> Self {
        self.endpoints = endpoints;
        self
    }

    /// Checks that all endpoints have the same final block below a new head, whose hash is `newest`.
    pub(super) async fn check_agreement(&self, head: Head, newest: B256) -> Result<(), Fault> {
        if self.endpoints.len() < 2 {
            return Ok(());
        }
        let number = head.finalized;
        // The head that was polled counts as well: it may be another node's behind the URL of an endpoint.
        let polled = (number == head.number).then_some(newest);
        let found = join_all(self.endpoints.iter().map(|client| hash_of(client, number))).await;
        let mut hashes = polled.into_iter().chain(found.into_iter().flatten());
        let Some(ours) = hashes.next() else { return Ok(()) };
        match hashes.find(|theirs| *theirs != ours) {
            Some(theirs) => Err(Fault::unreachable("the network", Disagreement { number, ours, theirs })),
            None => Ok(()),
        }
    }

    /// Checks that every endpoint that answers serves the network.
    pub(super) async fn check_endpoints(&self) -> Result<(), Fault> {
        for (place, found) in (1_usize..).zip(join_all(self.endpoints.iter().map(chain_id)).await) {
            match found {
                Ok(found) if self.is_network(found) => {}
                Ok(found) => {
                    let why = format_args!("endpoint {place} serves eip155:{found}, not {}", self.network());
                    return Err(Fault::unreachable("the node", why));
                }
                // The others serve without it.
                Err(_) => {}
            }
        }
        Ok(())
    }
}

/// Returns the hash of a block; `None` if the endpoint does not answer, or does not have the block.
async fn hash_of(client: &RpcClient, number: u64) -> Option<B256> {
    let number = U64::from(number);
    let block: Result<Option<Block>, TransportError> = client.request("eth_getBlockByNumber", (number, false)).await;
    block.ok().flatten().filter(|block| block.number == number).map(|block| block.hash)
}

async fn chain_id(client: &RpcClient) -> Result<U64, TransportError> {
    client.request("eth_chainId", ()).await
}
