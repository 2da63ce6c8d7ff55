//! Reads at one block, and the peculiarities of a node that its operator should know.

use core::fmt;
use core::time::Duration;
use std::sync::atomic::Ordering;

use alloy_primitives::{Bytes, U64};
use alloy_transport::TransportError;
use x402_types::{Fault, UnixSeconds};

use super::node_error::{NodeError, node_fault};
use super::rpc::{Block, Deployless, Pinned, RpcChain};
use super::{Answers, BatchRead};

/// The maximum difference in seconds between `eth_call`'s time and the newest block's: a node may have received another
/// block in between.
const APART: u64 = 60;
/// The pauses before each attempt to read a block: of two nodes behind one URL, the lagging one may answer first.
const PAUSES: [Duration; 3] = [Duration::ZERO, Duration::from_millis(20), Duration::from_millis(100)];

/// A peculiarity of a node that affects payments in ways its operator may not expect.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Peculiarity {
    /// `eth_call` on the newest block sees another time than that block's. A fresh anvil returns 1: payments with a
    /// start of validity are refused as not valid yet.
    CallTime {
        /// The time that `eth_call` sees, Unix seconds.
        call: u64,
        /// The time of the newest block.
        block: u64,
    },
    /// The node does not support blocks given by their hash (EIP-1898). Blocks are then read by number, and their
    /// hashes compared before and after.
    NoBlockHash {
        /// The node's own message.
        words: String,
    },
}

impl fmt::Display for Peculiarity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CallTime { call, block } => write!(
                f,
                "eth_call on the newest block sees the second {call}, and that block's is {block}: payments are judged \
                 by the former, so that good ones may be refused"
            ),
            Self::NoBlockHash { words } => write!(
                f,
                "eth_call takes no block by its hash (EIP-1898), so final blocks are read by number and compared: {words}"
            ),
        }
    }
}

impl RpcChain {
    /// Finds the peculiarities of the node. `now` is the machine's time: a node may run `eth_call` in the next block.
    /// # Errors
    /// The node failed.
    pub async fn peculiarities(&self, now: UnixSeconds) -> Result<Vec<Peculiarity>, Fault> {
        let reads = BatchRead::new();
        let mut batch = self.client.new_batch();
        let block =
            batch.add_call::<_, Option<Block>>("eth_getBlockByNumber", &("latest", false)).map_err(node_fault)?;
        let returned =
            batch.add_call::<_, Bytes>("eth_call", &(Deployless::of(&reads), "latest")).map_err(node_fault)?;
        batch.send().await.map_err(node_fault)?;
        let block = block.await.map_err(node_fault)?;
        let block = block.ok_or_else(|| Fault::unreachable("the node", "no latest block"))?;
        let call = answers(&reads, &returned.await.map_err(node_fault)?)?.timestamp;
        let mut found = Vec::new();
        let time: u64 = block.timestamp.to();
        if call.saturating_add(APART) < time || call > time.max(now.0).saturating_add(APART) {
            found.push(Peculiarity::CallTime { call, block: time });
        }
        let read = self.pinned(&Deployless::of(&reads), &block).await;
        if let Err(error) = read
            && is_unsupported(&error)
        {
            self.by_number.store(true, Ordering::Relaxed);
            let words = node_fault(error).to_string();
            found.push(Peculiarity::NoBlockHash { words });
        }
        Ok(found)
    }

    /// Runs a batch read on the block of this number. The time in the result is the block's own, whatever `eth_call`
    /// sees.
    pub(super) async fn run_at(&self, reads: &BatchRead, number: u64) -> Result<Answers, Fault> {
        let call = Deployless::of(reads);
        let mut block: Option<Block> = None;
        for pause in PAUSES {
            tokio::time::sleep(pause).await;
            block = self.request("eth_getBlockByNumber", (U64::from(number), false)).await?;
            if block.is_some() {
                break;
            }
        }
        let block = block.filter(|block| block.number == U64::from(number));
        let block = block.ok_or_else(|| Fault::unreachable("the node", "it does not have that block yet"))?;
        let timestamp = block.timestamp.to();
        if !self.by_number.load(Ordering::Relaxed) {
            match self.pinned(&call, &block).await {
                Ok(returned) => return Ok(Answers { timestamp, ..answers(reads, &returned)? }),
                Err(error) if is_unsupported(&error) => {}
                Err(error) => return Err(node_fault(error)),
            }
        }
        let mut returned = None;
        for pause in PAUSES {
            tokio::time::sleep(pause).await;
            returned = self.compared(&call, &block).await?;
            if returned.is_some() {
                break;
            }
        }
        let returned =
            returned.ok_or_else(|| Fault::unreachable("the node", "it does not have that block at each look"))?;
        let answers = answers(reads, &returned)?;
        if answers.timestamp != timestamp {
            // Neither hash nor time proves that this block was read.
            return Err(Fault::unreachable("the node", "eth_call runs in another second than the block that it is on"));
        }
        self.by_number.store(true, Ordering::Relaxed);
        Ok(answers)
    }

    async fn pinned(&self, call: &Deployless, block: &Block) -> Result<Bytes, TransportError> {
        let pinned = Pinned { block_hash: block.hash, require_canonical: true };
        self.client.request("eth_call", (call, pinned)).await
    }

    /// Reads by number, in one batch between two reads of the block's header, which must be the same before and after.
    /// Returns `None` if a lagging node answered that does not have the block yet.
    async fn compared(&self, call: &Deployless, block: &Block) -> Result<Option<Bytes>, Fault> {
        let mut batch = self.client.new_batch();
        let of_number = (block.number, false);
        let before = batch.add_call::<_, Option<Block>>("eth_getBlockByNumber", &of_number).map_err(node_fault)?;
        let returned = batch.add_call::<_, Bytes>("eth_call", &(call, block.number)).map_err(node_fault)?;
        let after = batch.add_call::<_, Option<Block>>("eth_getBlockByNumber", &of_number).map_err(node_fault)?;
        batch.send().await.map_err(node_fault)?;
        for seen in [before.await.map_err(node_fault)?, after.await.map_err(node_fault)?] {
            let Some(seen) = seen else { return Ok(None) };
            if seen.hash != block.hash {
                return Err(Fault::unreachable("the node", "that block was replaced while it was read"));
            }
        }
        returned.await.map(Some).map_err(node_fault)
    }
}

/// Returns whether the node refuses the form of the request: its message is none of those about a block, and nothing
/// reverted.
fn is_unsupported(error: &TransportError) -> bool {
    matches!(error, TransportError::ErrorResp(_)) && NodeError::of(error) == NodeError::Unusable
}

fn answers(reads: &BatchRead, returned: &Bytes) -> Result<Answers, Fault> {
    reads.answers(returned).ok_or_else(|| Fault::unreachable("the node", "eth_call answered something else"))
}
