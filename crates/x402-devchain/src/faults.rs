//! Injected faults, and the counters of RPC calls.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// The time at which a call fails: before it had any effect, or after it took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The call is not executed.
    Before,
    /// The call is executed and its response is withheld: a transaction sent is in the pool or mined.
    After,
}

/// The failure that the caller receives instead of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A JSON-RPC error, for this member of a batch alone.
    Error {
        /// The code of the error, such as -32603.
        code: i64,
        /// The text of the error.
        message: String,
    },
    /// Bytes that are not a JSON-RPC response, for the whole round trip.
    Malformed,
    /// A broken connection without a response, for the whole round trip.
    Lost,
    /// No response, on a connection that stays open, for the whole round trip.
    Never,
    /// An HTTP status such as 429 or 503 without a JSON-RPC response, for the whole round trip.
    Status(u16),
}

/// The fate of a transaction that `eth_sendRawTransaction` has accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disturbance {
    /// The node returns the hash and forgets the transaction: it is never mined unless it is sent again.
    Drop,
    /// The transaction remains in the pool for this many blocks: with 1, the next block omits it and the one after may
    /// include it.
    Delay(u64),
    /// Another transaction of the same sender and nonce, an empty one at higher fees, replaces it. The chain signs it,
    /// so the sender must be one of [`ACCOUNTS`](crate::ACCOUNTS); otherwise sending fails with -32603.
    Replace,
}

/// A fault of the node that lasts until [`clear_faults`](crate::DevChain::clear_faults). Faults of different kinds
/// accumulate; a second one of the same kind replaces the first.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeFault {
    /// The opcode `NUMBER` exceeds the block's number by this much, as on Arbitrum, where it is another chain's. The
    /// hashes that `BLOCKHASH` returns are of another chain, too.
    NumberAhead(u64),
    /// A transaction and each byte of its data that is not zero take so much more gas before anything is executed, as
    /// on Arbitrum, where they pay for the data on another chain. Calls and estimates take it, too.
    Surcharge {
        /// The gas of a transaction.
        transaction: u64,
        /// The gas of a byte, a multiple of 4.
        byte: u64,
    },
    /// The states of blocks older than this many before the head are missing.
    StateWindow(u64),
    /// `eth_getLogs` omits the logs of this many newest blocks, without an error.
    LogLag(u64),
    /// `eth_getLogs` refuses ranges of more blocks than this.
    LogSpan {
        /// The maximum number of blocks.
        most: u64,
        /// The code of the error.
        code: i64,
        /// The text of the error.
        message: String,
    },
    /// `eth_getLogs` refuses queries that match more logs than this.
    LogCount {
        /// The maximum number of logs.
        most: usize,
        /// The code of the error.
        code: i64,
        /// The text of the error.
        message: String,
    },
    /// Every second round trip is answered by another node, which is this many blocks behind.
    SecondNode(u64),
    /// One of this many calls fails before it has any effect; if the failure is that of a whole round trip, one of this
    /// many round trips.
    Every(u64, Failure),
    /// Every response has at least this many bytes.
    Padded(usize),
    /// `eth_call` sees this time, whatever the block's is, as a fresh anvil sees 1.
    CallTime(u64),
    /// `eth_call` and `eth_estimateGas` give a transaction this gas at most.
    CallGas(u64),
    /// Connections that subscribed to new heads get no notices.
    SilentHeads,
    /// `eth_sendRawTransactionSync` reports another transaction, as one of the newest block, whatever became of its own.
    FalseReports,
    /// A state cannot be read at a block given by its hash ([EIP-1898](https://eips.ethereum.org/EIPS/eip-1898)).
    NoBlockHash {
        /// The code of the error.
        code: i64,
        /// The text of the error.
        message: String,
    },
}

/// The maximum that `eth_getLogs` returns, and its error beyond that.
#[derive(Clone, Debug)]
pub(crate) struct Limit<T> {
    pub(crate) most: T,
    pub(crate) code: i64,
    pub(crate) message: String,
}

/// The number of calls of each method. A batch counts as its members and as one round trip.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallCounts {
    /// The number of JSON-RPC requests by method, failed ones included.
    pub by_method: BTreeMap<String, u64>,
    /// The number of single requests and batches.
    pub round_trips: u64,
}

impl CallCounts {
    /// Returns the number of calls of one method.
    #[must_use]
    pub fn of(&self, method: &str) -> u64 {
        self.by_method.get(method).copied().unwrap_or_default()
    }

    /// Returns the number of calls of all methods.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.by_method.values().sum()
    }
}

#[derive(Debug)]
struct CallFault {
    method: Option<String>,
    left: u32,
    when: When,
    failure: Failure,
}

#[derive(Debug, Default)]
pub(crate) struct Faults {
    calls: Vec<CallFault>,
    transactions: VecDeque<Disturbance>,
    pub(crate) rpc_delay: Duration,
    pub(crate) padded: usize,
    pub(crate) silent: bool,
    second_node: u64,
    second_next: bool,
    every: Option<(u64, Failure)>,
    counted: u64,
    /// Whether no member of this round trip was counted yet.
    first_member: bool,
}

impl Faults {
    pub(crate) fn stand(&mut self, fault: NodeFault) {
        match fault {
            NodeFault::SecondNode(behind) => self.second_node = behind,
            NodeFault::Every(calls, failure) => self.every = Some((calls.max(1), failure)),
            NodeFault::Padded(bytes) => self.padded = bytes,
            NodeFault::SilentHeads => self.silent = true,
            _ => {}
        }
    }

    /// Begins a round trip, and returns how many blocks the responding node is behind.
    pub(crate) fn behind(&mut self) -> u64 {
        self.first_member = true;
        self.second_next = !self.second_next;
        if self.second_next { 0 } else { self.second_node }
    }

    pub(crate) fn new(rpc_delay: Duration) -> Self {
        Self { rpc_delay, ..Self::default() }
    }

    pub(crate) fn fail(&mut self, method: Option<String>, times: u32, when: When, failure: Failure) {
        self.calls.push(CallFault { method, left: times, when, failure });
    }

    pub(crate) fn disturb(&mut self, times: usize, disturbance: Disturbance) {
        self.transactions.extend(std::iter::repeat_n(disturbance, times));
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Returns the failure that is due for this call, and consumes it.
    pub(crate) fn next_failure(&mut self, method: &str) -> Option<(When, Failure)> {
        self.calls.retain(|fault| fault.left > 0);
        let first_member = std::mem::take(&mut self.first_member);
        if let Some((calls, failure)) = &self.every
            && (first_member || matches!(failure, Failure::Error { .. }))
        {
            self.counted = self.counted.saturating_add(1);
            if self.counted >= *calls {
                self.counted = 0;
                return Some((When::Before, failure.clone()));
            }
        }
        let due = |fault: &&mut CallFault| fault.method.as_deref().is_none_or(|named| named == method);
        let fault = self.calls.iter_mut().find(due)?;
        fault.left = fault.left.saturating_sub(1);
        Some((fault.when, fault.failure.clone()))
    }

    pub(crate) fn next_disturbance(&mut self) -> Option<Disturbance> {
        self.transactions.pop_front()
    }
}
