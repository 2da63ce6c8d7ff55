//! The chain itself: blocks, state, pool and clock, and the mining of blocks. `evm_snapshot` clones it as a whole.

use std::collections::HashMap;
use std::sync::Arc;

use alloy_consensus::transaction::Recovered;
use alloy_consensus::{Header, Transaction, TxEnvelope};
use alloy_eips::eip1559::BaseFeeParams;
use alloy_primitives::{Address, B256};
use revm::DatabaseCommit;
use revm::state::EvmState;

use crate::block::{Block, Ran, next_header, seal};
use crate::clock::Clock;
use crate::execute::{Overlay, Rules, run, tx_env};
use crate::faults::{Limit, NodeFault};
use crate::pool::{Pool, Pooled};
use crate::state::{History, StateAt};

/// The gas limit of a block; EIP-1559 targets half of it.
pub(crate) const BLOCK_GAS_LIMIT: u64 = 60_000_000;

/// The base fee of the first block, in wei.
pub(crate) const FIRST_BASE_FEE: u64 = 1_000_000_000;

/// The minimum of the base fee, which empty blocks lower, in wei.
pub(crate) const LEAST_BASE_FEE: u64 = 1_000_000;

/// The fate of the transactions of blocks that a reorg replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Orphans {
    /// The transactions return to the pool and the replacing blocks include them again, under new block hashes.
    Remine,
    /// The transactions return to the pool, the replacing blocks are empty, and a later block may include them.
    Requeue,
    /// The transactions are lost; their senders' nonces are free again.
    Drop,
}

/// The view that a faulty node has of the chain.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// The number of newest blocks that the node does not have yet.
    pub(crate) hidden: usize,
    pub(crate) state_window: Option<u64>,
    pub(crate) log_lag: u64,
    pub(crate) log_span: Option<Limit<u64>>,
    pub(crate) log_count: Option<Limit<usize>>,
    pub(crate) call_time: Option<u64>,
    /// The most gas that `eth_call` gives to a transaction.
    pub(crate) call_gas: Option<u64>,
    /// Whether `eth_sendRawTransactionSync` reports a block of each transaction.
    pub(crate) false_reports: bool,
    /// The error for a block that is given by its hash.
    pub(crate) no_block_hash: Option<(i64, String)>,
}

#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) view: View,
    pub(crate) rules: Rules,
    pub(crate) finality_depth: u64,
    pub(crate) history: History,
    pub(crate) pool: Pool,
    pub(crate) clock: Clock,
    pub(crate) next_base_fee: Option<u64>,
    genesis: Arc<Block>,
    later: Vec<Arc<Block>>,
    mined: HashMap<B256, (u64, usize)>,
    numbers: HashMap<B256, u64>,
    forks: u64,
}

/// A block that was executed but not yet added to the chain.
pub(crate) struct Draft {
    block: Block,
    pub(crate) changes: Vec<EvmState>,
    hopeless: Vec<B256>,
}

#[derive(Default)]
struct Filling {
    ran: Vec<Ran>,
    changes: Vec<EvmState>,
    hopeless: Vec<B256>,
}

impl World {
    pub(crate) fn new(rules: Rules, finality_depth: u64, mut history: History, clock: Clock) -> Self {
        let header = Header {
            gas_limit: BLOCK_GAS_LIMIT,
            timestamp: clock.now(),
            base_fee_per_gas: Some(FIRST_BASE_FEE),
            ..next_header(&Header::default(), B256::ZERO, 0, 0, 0)
        };
        let genesis = Arc::new(seal(Header { number: 0, ..header }, Vec::new()));
        history.push_hash(genesis.hash);
        let numbers = HashMap::from([(genesis.hash, 0)]);
        Self {
            view: View::default(),
            rules,
            finality_depth,
            history,
            pool: Pool::default(),
            clock,
            next_base_fee: None,
            genesis,
            later: Vec::new(),
            mined: HashMap::new(),
            numbers,
            forks: 0,
        }
    }

    /// Executes one block's transactions from the pool and adds the block to the chain.
    pub(crate) fn mine(&mut self) {
        let timestamp = self.clock.take(self.head().header.timestamp);
        self.mine_at(timestamp, true);
    }

    fn mine_at(&mut self, timestamp: u64, take_transactions: bool) {
        let draft = self.draft(timestamp, take_transactions);
        self.next_base_fee = None;
        for hash in draft.hopeless {
            self.pool.remove(hash);
        }
        let number = draft.block.header.number;
        for changes in draft.changes {
            self.history.apply(number, changes);
        }
        self.history.push_hash(draft.block.hash);
        self.numbers.insert(draft.block.hash, number);
        for (index, mined) in draft.block.transactions.iter().enumerate() {
            self.mined.insert(*mined.tx.tx_hash(), (number, index));
        }
        self.later.push(Arc::new(draft.block));
        let senders: Vec<Address> = self.pool.senders().collect();
        for sender in senders {
            let nonce = self.latest().account(sender).nonce;
            self.pool.settle(sender, nonce);
        }
    }

    /// Executes the block that would be mined now, and returns it with its changes.
    pub(crate) fn draft(&self, timestamp: u64, take_transactions: bool) -> Draft {
        let parent = self.head();
        let header = next_header(&parent.header, parent.hash, timestamp, self.upcoming_base_fee(), self.forks);
        let filling = if take_transactions { self.fill(&header) } else { Filling::default() };
        Draft { block: seal(header, filling.ran), changes: filling.changes, hopeless: filling.hopeless }
    }

    /// Executes the ready transactions of the pool, in the order of arrival, until the block is full.
    fn fill(&self, header: &Header) -> Filling {
        let mut overlay = Overlay::new(self.latest());
        let mut filling = Filling::default();
        let mut nonces: HashMap<Address, u64> = HashMap::new();
        let mut gas_left = header.gas_limit;
        loop {
            let nonce_of = |sender| nonces.get(&sender).copied().unwrap_or_else(|| self.latest().account(sender).nonce);
            let admits = |pooled: &Pooled| self.admits(pooled, header, gas_left);
            let Some(Pooled { tx, .. }) = self.pool.first_ready(nonce_of, admits) else { return filling };
            match run(&mut overlay, self.rules.block(), self.rules.block_env(header), tx_env(tx)) {
                Ok(outcome) => {
                    gas_left = gas_left.saturating_sub(outcome.result.tx_gas_used());
                    overlay.commit(outcome.state.clone());
                    // The nonces are read from the state instead of counted, because an EIP-7702 authorization consumes
                    // a nonce of its signer as well.
                    for (address, account) in &outcome.state {
                        nonces.insert(*address, account.info.nonce);
                    }
                    filling.changes.push(outcome.state);
                    filling.ran.push(Ran { tx: tx.clone(), result: outcome.result });
                }
                Err(_) => {
                    // The sender spent the ether after the transaction was accepted. Nodes drop such a transaction;
                    // later ones wait.
                    filling.hopeless.push(*tx.tx_hash());
                    nonces.insert(tx.signer(), u64::MAX);
                }
            }
        }
    }

    fn admits(&self, pooled: &Pooled, header: &Header, gas_left: u64) -> bool {
        pooled.not_before <= header.number
            && pooled.tx.gas_limit() <= gas_left
            && pooled.tx.max_fee_per_gas() >= u128::from(header.base_fee_per_gas.unwrap_or_default())
    }

    /// Replaces the last `depth` blocks by others of the same number and time. Returns `false` if genesis would be
    /// replaced.
    pub(crate) fn reorg(&mut self, depth: u64, orphans: Orphans) -> bool {
        let head = self.head_number();
        let Some(fork) = head.checked_sub(depth) else { return false };
        let replaced = usize::try_from(fork).map_or_else(|_| Vec::new(), |kept| self.later.split_off(kept));
        self.history.truncate(fork);
        self.forks = self.forks.saturating_add(1);
        let mut freed: Vec<Recovered<TxEnvelope>> = Vec::new();
        let mut timestamps = Vec::new();
        for block in replaced {
            self.numbers.remove(&block.hash);
            timestamps.push(block.header.timestamp);
            for mined in &block.transactions {
                self.mined.remove(mined.tx.tx_hash());
                freed.push(mined.tx.clone());
            }
        }
        let waiting = std::mem::take(&mut self.pool);
        if orphans != Orphans::Drop {
            for tx in freed {
                // A sender's nonces are distinct on one chain, so the place is free.
                let _ = self.pool.insert(tx, 0);
            }
        }
        for pooled in waiting.into_arrivals() {
            let _ = self.pool.insert(pooled.tx, pooled.not_before);
        }
        for timestamp in timestamps {
            self.mine_at(timestamp, orphans == Orphans::Remine);
        }
        true
    }

    /// Applies a fault, which lasts until it is cleared.
    pub(crate) fn show(&mut self, fault: &NodeFault) {
        match fault {
            NodeFault::NumberAhead(blocks) => self.rules.number_ahead = *blocks,
            NodeFault::Surcharge { transaction, byte } => self.rules.surcharge = (*transaction, *byte),
            NodeFault::StateWindow(blocks) => self.view.state_window = Some(*blocks),
            NodeFault::LogLag(blocks) => self.view.log_lag = *blocks,
            NodeFault::LogSpan { most, code, message } => {
                self.view.log_span = Some(Limit { most: *most, code: *code, message: message.clone() });
            }
            NodeFault::LogCount { most, code, message } => {
                self.view.log_count = Some(Limit { most: *most, code: *code, message: message.clone() });
            }
            NodeFault::CallTime(time) => self.view.call_time = Some(*time),
            NodeFault::CallGas(gas) => self.view.call_gas = Some(*gas),
            NodeFault::FalseReports => self.view.false_reports = true,
            NodeFault::NoBlockHash { code, message } => self.view.no_block_hash = Some((*code, message.clone())),
            NodeFault::SecondNode(_) | NodeFault::Every(..) | NodeFault::Padded(_) | NodeFault::SilentHeads => {}
        }
    }

    pub(crate) fn show_all(&mut self) {
        (self.rules.number_ahead, self.rules.surcharge) = (0, (0, 0));
        self.view = View::default();
    }

    pub(crate) fn head(&self) -> &Arc<Block> {
        let seen = self.later.len().saturating_sub(self.view.hidden);
        seen.checked_sub(1).and_then(|last| self.later.get(last)).unwrap_or(&self.genesis)
    }

    pub(crate) fn head_number(&self) -> u64 {
        self.head().header.number
    }

    pub(crate) fn final_number(&self) -> u64 {
        self.head_number().saturating_sub(self.finality_depth)
    }

    pub(crate) fn block(&self, number: u64) -> Option<&Arc<Block>> {
        match number.checked_sub(1) {
            None => Some(&self.genesis),
            Some(_) if number > self.head_number() => None,
            Some(index) => self.later.get(usize::try_from(index).ok()?),
        }
    }

    pub(crate) fn number_of(&self, hash: B256) -> Option<u64> {
        self.numbers.get(&hash).copied().filter(|number| *number <= self.head_number())
    }

    pub(crate) fn mined(&self, hash: B256) -> Option<(&Arc<Block>, &crate::block::Mined)> {
        let (number, index) = self.mined.get(&hash)?;
        let block = self.block(*number)?;
        Some((block, block.transactions.get(*index)?))
    }

    pub(crate) fn latest(&self) -> StateAt<'_> {
        self.history.at(self.head_number())
    }

    /// Returns the base fee of the next block.
    pub(crate) fn upcoming_base_fee(&self) -> u64 {
        self.next_base_fee.unwrap_or_else(|| base_fee_after(&self.head().header))
    }

    /// Returns whether mining now would put a transaction into the block.
    pub(crate) fn has_ready(&self) -> bool {
        let parent = self.head();
        let header = next_header(&parent.header, parent.hash, 0, self.upcoming_base_fee(), 0);
        let nonce_of = |sender| self.latest().account(sender).nonce;
        self.pool.first_ready(nonce_of, |pooled| self.admits(pooled, &header, header.gas_limit)).is_some()
    }

    pub(crate) fn next_timestamp(&self) -> u64 {
        self.clock.peek(self.head().header.timestamp)
    }

    /// Returns the sender's nonce after its pending transactions.
    pub(crate) fn pending_nonce(&self, sender: Address) -> u64 {
        self.pool.next_nonce(sender, self.latest().account(sender).nonce)
    }
}

/// Computes EIP-1559's base fee for the child of a block, in wei.
pub(crate) fn base_fee_after(parent: &Header) -> u64 {
    parent.next_block_base_fee(BaseFeeParams::ethereum()).unwrap_or_default().max(LEAST_BASE_FEE)
}

impl Draft {
    pub(crate) fn block(&self) -> &Block {
        &self.block
    }
}
