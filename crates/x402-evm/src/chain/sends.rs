//! Sending: transactions that are sent at about the same time are one request.

use alloy_primitives::{B256, Bytes};
use alloy_rpc_client::RpcClient;
use alloy_transport::TransportError;
use x402_types::Fault;

use super::gather::{Gather, Items};
use super::node_error::NodeError;

/// The maximum number of transactions in one request. Nodes limit the members of a batch, public ones to 100 and fewer.
const MOST_SENT: usize = 50;

/// The transactions that are gathered for the next request.
pub(super) type Sends = Gather<Bytes, Result<(), NotSent>>;

/// The refusal of a transaction, or the failure of its request.
pub(super) type NotSent = (NodeError, Fault);

impl Sends {
    /// Sends the bytes, together with all others that are sent at this moment, in their order.
    pub(super) async fn send(&self, client: &RpcClient, bytes: Bytes) -> Result<(), NotSent> {
        let run = |items: Items<Bytes>| {
            let client = client.clone();
            async move { send_all(&client, &items.take()).await }
        };
        let lost = || Err((NodeError::MayPass, Fault::unreachable("the node", "a transaction has no answer")));
        self.ask(bytes, MOST_SENT, run).await.unwrap_or_else(lost)
    }
}

async fn send_all(client: &RpcClient, all: &[Bytes]) -> Vec<Result<(), NotSent>> {
    const METHOD: &str = "eth_sendRawTransaction";
    if let [bytes] = all {
        return vec![taken(client.request(METHOD, (bytes,)).await)];
    }
    let mut batch = client.new_batch();
    let waiters: Vec<_> = all.iter().map(|bytes| batch.add_call::<_, B256>(METHOD, &(bytes,))).collect();
    if let Err(error) = batch.send().await {
        let sent = taken(Err(error));
        return all.iter().map(|_| sent.clone()).collect();
    }
    let mut sent = Vec::with_capacity(waiters.len());
    for waiter in waiters {
        sent.push(match waiter {
            Ok(waiter) => taken(waiter.await),
            Err(error) => taken(Err(error)),
        });
    }
    sent
}

/// Returns whether the node has the transaction: that it has it already, or that its nonce is used, is no error.
fn taken(answer: Result<B256, TransportError>) -> Result<(), NotSent> {
    let Err(error) = answer else { return Ok(()) };
    match NodeError::of(&error) {
        NodeError::AlreadyKnown | NodeError::NonceUsed => Ok(()),
        kind => Err((kind, kind.of_sending(error))),
    }
}
