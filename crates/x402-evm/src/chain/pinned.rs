//! Reads of one block, and what an operator should know of a node that reads otherwise than most.

use core::fmt;
use core::time::Duration;
use std::sync::atomic::Ordering;

use alloy_primitives::{Bytes, U64};
use alloy_transport::TransportError;
use x402_types::{Fault, UnixSeconds};

use super::node_error::{NodeError, node_fault};
use super::rpc::{Block, Deployless, Pinned, RpcChain};
use super::{Answers, Program};

/// Seconds that `eth_call` and the newest block may lie apart: a node may have a block more by then.
const APART: u64 = 60;
/// Before each look at a block: of two nodes behind one URL, the one that lags may be the first to answer.
const PAUSES: [Duration; 3] = [Duration::ZERO, Duration::from_millis(20), Duration::from_millis(100)];

/// What a node does otherwise than most, so that payments fare otherwise than its operator expects.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Peculiarity {
    /// `eth_call` on the newest block runs in another second than that block's. A fresh anvil answers 1:
    /// payments that name a beginning are refused as not valid yet.
    CallTime {
        /// The second that `eth_call` sees, Unix time.
        call: u64,
        /// The newest block's.
        block: u64,
    },
    /// No block can be named by its hash (EIP-1898). Blocks are read by their numbers then, and compared with their
    /// hashes before and after.
    NoBlockHash {
        /// The node's words.
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
    /// What the node does otherwise than most. `now` is the machine's time: a node may run `eth_call` in the next block.
    ///
    /// # Errors
    /// The node.
    pub async fn peculiarities(&self, now: UnixSeconds) -> Result<Vec<Peculiarity>, Fault> {
        let program = Program::new();
        let mut batch = self.client.new_batch();
        let block =
            batch.add_call::<_, Option<Block>>("eth_getBlockByNumber", &("latest", false)).map_err(node_fault)?;
        let returned =
            batch.add_call::<_, Bytes>("eth_call", &(Deployless::of(&program), "latest")).map_err(node_fault)?;
        batch.send().await.map_err(node_fault)?;
        let block = block.await.map_err(node_fault)?;
        let block = block.ok_or_else(|| Fault::unreachable("the node", "no latest block"))?;
        let call = answers(&program, &returned.await.map_err(node_fault)?)?.timestamp;
        let mut found = Vec::new();
        let time: u64 = block.timestamp.to();
        if call.saturating_add(APART) < time || call > time.max(now.0).saturating_add(APART) {
            found.push(Peculiarity::CallTime { call, block: time });
        }
        let read = self.pinned(&Deployless::of(&program), &block).await;
        if let Err(error) = read
            && is_unsupported(&error)
        {
            self.by_number.store(true, Ordering::Relaxed);
            let words = node_fault(error).to_string();
            found.push(Peculiarity::NoBlockHash { words });
        }
        Ok(found)
    }

    /// Runs a program on the block of that number. Its time is the block's own, whatever `eth_call` sees.
    pub(super) async fn run_at(&self, program: &Program, number: u64) -> Result<Answers, Fault> {
        let call = Deployless::of(program);
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
                Ok(returned) => return Ok(Answers { timestamp, ..answers(program, &returned)? }),
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
        let answers = answers(program, &returned)?;
        if answers.timestamp != timestamp {
            // Neither hash nor time says that this block was read.
            return Err(Fault::unreachable("the node", "eth_call runs in another second than the block that it is on"));
        }
        self.by_number.store(true, Ordering::Relaxed);
        Ok(answers)
    }

    async fn pinned(&self, call: &Deployless, block: &Block) -> Result<Bytes, TransportError> {
        let pinned = Pinned { block_hash: block.hash, require_canonical: true };
        self.client.request("eth_call", (call, pinned)).await
    }

    /// By number, in one batch between two looks at the block of that number: it must be the same before and after.
    /// `None` where a node answered that lags, and does not have it yet.
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

/// Whether the node refuses the form of the request: its words are none of those about a block, and nothing reverted.
fn is_unsupported(error: &TransportError) -> bool {
    matches!(error, TransportError::ErrorResp(_)) && NodeError::of(error) == NodeError::Unusable
}

fn answers(program: &Program, returned: &Bytes) -> Result<Answers, Fault> {
    program.answers(returned).ok_or_else(|| Fault::unreachable("the node", "eth_call answered something else"))
}
