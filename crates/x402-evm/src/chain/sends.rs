//! Sending: transactions that are sent at about the same time are one request, and the last of them may be sent
//! synchronously ([EIP-7966](https://eips.ethereum.org/EIPS/eip-7966)).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alloy_primitives::{B256, Bytes, U64};
use alloy_rpc_client::RpcClient;
use alloy_transport::{TransportError, TransportErrorKind};
use serde::Deserialize;
use tokio::sync::Notify;
use x402_types::Fault;

use super::gather::{Gather, Items};
use super::node_error::NodeError;

/// The maximum number of transactions in one request. Nodes limit the members of a batch, public ones to 100 and fewer.
const MOST_SENT: usize = 50;
/// The time beyond its wait in which a node must answer.
const GRACE: Duration = Duration::from_secs(1);
/// The code of EIP-7966 for a transaction that is in the pool and was in no block in time.
const NOT_IN_TIME: i64 = 4;
/// The code of JSON-RPC for a method that does not exist.
const NO_METHOD: i64 = -32_601;

/// The refusal of a transaction, or the failure of its request.
pub(super) type NotSent = (NodeError, Fault);

/// The transactions that are gathered for the next request.
#[derive(Debug, Default)]
pub(super) struct Sends {
    gather: Gather<Bytes, Result<(), NotSent>>,
    way: Arc<Way>,
}

/// The way in which the last transaction of a request is sent.
#[derive(Debug, Default)]
struct Way {
    /// The time for which a node is to wait for the block of a transaction; 0 sends it the usual way.
    wait: Duration,
    /// Whether the node does not have the method, or did not answer it once: the method is not called again.
    is_missing: AtomicBool,
    /// Notices that a node reported the block of a transaction.
    reported: Notify,
}

/// The relevant members of a receipt. Nothing is concluded from them, except that a look may be worth its call.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reported {
    #[serde(default)]
    block_number: Option<U64>,
}

impl Sends {
    /// Returns sends of which the last of each request waits so long for its block.
    pub(super) fn waiting(wait: Duration) -> Self {
        Self { way: Arc::new(Way { wait, ..Way::default() }), ..Self::default() }
    }

    /// Sends the bytes, together with all others that are sent at this moment, in their order.
    pub(super) async fn send(&self, client: &RpcClient, bytes: Bytes) -> Result<(), NotSent> {
        let run = |items: Items<Bytes>| {
            let (client, way) = (client.clone(), Arc::clone(&self.way));
            async move { way.send_all(&client, &items.take()).await }
        };
        let lost = || Err((NodeError::MayPass, Fault::unreachable("the node", "a transaction has no answer")));
        self.gather.ask(bytes, MOST_SENT, run).await.unwrap_or_else(lost)
    }

    /// Waits until a node reports the block of a transaction.
    pub(super) async fn reported(&self) {
        self.way.reported.notified().await;
    }
}

impl Way {
    /// Returns the longest time that a node's answer is awaited.
    fn longest(&self) -> Duration {
        self.wait.saturating_add(GRACE)
    }

    async fn send_all(&self, client: &RpcClient, all: &[Bytes]) -> Vec<Result<(), NotSent>> {
        let is_sync = !self.wait.is_zero() && !self.is_missing.load(Ordering::Relaxed);
        match all.split_last() {
            // The others are in the pool before one waits for its block, which includes them, too.
            Some((last, first)) if is_sync => {
                let mut sent = plain(client, first).await;
                sent.push(self.send_waiting(client, last).await);
                sent
            }
            _ => plain(client, all).await,
        }
    }

    /// Sends a transaction and waits for its block. A refusal of the method is none of the transaction: that is sent again,
    /// the usual way, whose answer decides.
    async fn send_waiting(&self, client: &RpcClient, bytes: &Bytes) -> Result<(), NotSent> {
        let wait = U64::from(u64::try_from(self.wait.as_millis()).unwrap_or(u64::MAX));
        let asked = client.request("eth_sendRawTransactionSync", (bytes.clone(), wait));
        let answer: Result<Option<Reported>, TransportError> = match tokio::time::timeout(self.longest(), asked).await {
            Ok(answer) => answer,
            Err(_) => Err(TransportErrorKind::custom_str("eth_sendRawTransactionSync: no answer in time")),
        };
        match answer {
            Ok(report) => {
                if report.is_some_and(|report| report.block_number.is_some()) {
                    self.reported.notify_one();
                }
                Ok(())
            }
            Err(TransportError::ErrorResp(refusal)) if refusal.code == NOT_IN_TIME => Ok(()),
            // The node may have it: the machine sends it again, the usual way, as it does whenever an answer is lost.
            Err(error @ TransportError::Transport(_)) => {
                self.is_missing.store(true, Ordering::Relaxed);
                taken(Err(error))
            }
            Err(error) => {
                if error.as_error_resp().is_some_and(|refusal| refusal.code == NO_METHOD) {
                    self.is_missing.store(true, Ordering::Relaxed);
                }
                plain(client, core::slice::from_ref(bytes)).await.pop().unwrap_or_else(|| taken(Err(error)))
            }
        }
    }
}

/// Sends transactions by one request.
async fn plain(client: &RpcClient, all: &[Bytes]) -> Vec<Result<(), NotSent>> {
    const METHOD: &str = "eth_sendRawTransaction";
    match all {
        [] => return Vec::new(),
        [bytes] => return vec![taken(client.request(METHOD, (bytes.clone(),)).await)],
        _ => {}
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
