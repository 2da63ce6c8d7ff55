//! Reads of the newest block that are made at about the same time: one `eth_call` for many payments.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use alloy_primitives::Bytes;
use alloy_rpc_client::RpcClient;
use alloy_transport::TransportError;
use tokio::sync::Semaphore;
use x402_types::Fault;

use super::gather::{Gather, Items};
use super::merged_read::{MOST_GAS, MOST_MERGED, merged};
use super::node_error::{NodeError, node_fault};
use super::rpc::Deployless;
use super::{Answers, BatchRead};

/// The number of calls that a node answers at the same time; reads that come meanwhile share the next one. A read that
/// comes alone waits for nothing.
const AT_ONCE: usize = 2;

/// The reads that are gathered for the next call.
#[derive(Debug)]
pub(super) struct SharedReads {
    gather: Gather<BatchRead, Result<Answers, Fault>>,
    /// The time for which the first read waits for others.
    pause: Duration,
    node: Arc<Node>,
}

#[derive(Debug)]
struct Node {
    places: Semaphore,
    /// Whether the node refused a shared call and ran its reads one by one.
    runs_single: AtomicBool,
    /// The least gas that the node gave to a shared call.
    most_gas: AtomicU64,
}

impl Default for SharedReads {
    fn default() -> Self {
        let (places, most_gas) = (Semaphore::new(AT_ONCE), AtomicU64::new(MOST_GAS));
        let node = Node { places, runs_single: AtomicBool::new(false), most_gas };
        Self { gather: Gather::default(), pause: Duration::ZERO, node: Arc::new(node) }
    }
}

impl SharedReads {
    /// Returns reads that wait so long for others.
    pub(super) fn waiting(pause: Duration) -> Self {
        Self { pause, ..Self::default() }
    }

    pub(super) async fn run(&self, client: &RpcClient, reads: &BatchRead) -> Result<Answers, Fault> {
        if self.node.runs_single.load(Ordering::Relaxed) {
            let returned: Bytes =
                client.request("eth_call", (Deployless::of(reads), "latest")).await.map_err(node_fault)?;
            return reads.answers(&returned).ok_or_else(other_answer);
        }
        let run = |items: Items<BatchRead>| {
            let (client, node, pause) = (client.clone(), Arc::clone(&self.node), self.pause);
            async move {
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
                // The semaphore is never closed.
                let _place = node.places.acquire().await.ok();
                answers(&client, &node, &items.take()).await
            }
        };
        let answer = self.gather.ask(reads.clone(), MOST_MERGED, run).await;
        answer.unwrap_or_else(|| Err(Fault::unreachable("the node", "a read has no answer")))
    }
}

/// Answers reads by as few calls as they fit into. The reads of a call that a node refuses, or answers in part, are made
/// again one by one.
async fn answers(client: &RpcClient, node: &Node, reads: &[BatchRead]) -> Vec<Result<Answers, Fault>> {
    let calls = merged(reads, node.most_gas.load(Ordering::Relaxed));
    let requests = calls.iter().map(|(_, call)| Deployless::new(call.sender(), call.code())).collect();
    let mut found: Vec<Option<Result<Answers, Fault>>> = reads.iter().map(|_| None).collect();
    let mut is_refused = false;
    for ((places, call), returned) in calls.iter().zip(eth_calls(client, requests).await) {
        let answers: Vec<Option<Result<Answers, Fault>>> = match returned {
            Ok(returned) => {
                call.gas_given(&returned).into_iter().for_each(|gas| {
                    node.most_gas.fetch_min(gas, Ordering::Relaxed);
                });
                call.answers(&returned).into_iter().map(|answer| answer.map(Ok)).collect()
            }
            Err((kind, fault)) if places.len() == 1 || kind == NodeError::MayPass => {
                places.iter().map(|_| Some(Err(fault.clone()))).collect()
            }
            Err(_) => {
                is_refused = true;
                continue;
            }
        };
        for (place, answer) in places.iter().zip(answers) {
            found.get_mut(*place).into_iter().for_each(|found| found.clone_from(&answer));
        }
    }
    let alone: Vec<usize> = (0..).zip(&found).filter(|(_, found)| found.is_none()).map(|(place, _)| place).collect();
    let single = |place: &usize| reads.get(*place).map(Deployless::of);
    let returned = eth_calls(client, alone.iter().filter_map(single).collect()).await;
    let mut taken = false;
    for (place, returned) in alone.iter().zip(returned) {
        let answer = reads.get(*place).zip(returned.as_ref().ok()).and_then(|(read, bytes)| read.answers(bytes));
        taken |= answer.is_some();
        let why = || returned.err().map_or_else(other_answer, |(_, fault)| fault);
        let answer = Some(answer.ok_or_else(why));
        found.get_mut(*place).into_iter().for_each(|found| found.clone_from(&answer));
    }
    if is_refused && taken {
        node.runs_single.store(true, Ordering::Relaxed);
    }
    found.into_iter().map(|found| found.unwrap_or_else(|| Err(other_answer()))).collect()
}

fn other_answer() -> Fault {
    Fault::unreachable("the node", "eth_call answered something else")
}

/// Makes calls on the newest block in one round trip; returns for each what the node returned.
async fn eth_calls(client: &RpcClient, calls: Vec<Deployless>) -> Vec<Result<Bytes, (NodeError, Fault)>> {
    let refused = |error: TransportError| (NodeError::of(&error), node_fault(error));
    match &*calls {
        [] => return Vec::new(),
        [call] => return vec![client.request("eth_call", (call.clone(), "latest")).await.map_err(refused)],
        _ => {}
    }
    let mut batch = client.new_batch();
    let waiters: Vec<_> = calls.iter().map(|call| batch.add_call::<_, Bytes>("eth_call", &(call, "latest"))).collect();
    if let Err(error) = batch.send().await {
        let refused = refused(error);
        return calls.iter().map(|_| Err(refused.clone())).collect();
    }
    let mut returned = Vec::with_capacity(waiters.len());
    for waiter in waiters {
        returned.push(match waiter {
            Ok(waiter) => waiter.await.map_err(refused),
            Err(error) => Err(refused(error)),
        });
    }
    returned
}
