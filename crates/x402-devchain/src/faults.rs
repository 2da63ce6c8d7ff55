//! Faults on demand, and what the RPC has been asked.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// When a call fails: before it did anything, or after it took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The call is not carried out.
    Before,
    /// The call is carried out and its answer is withheld: a transaction sent is in the pool or mined.
    After,
}

/// What the caller gets in the place of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A JSON-RPC error, for this member of a batch alone.
    Error {
        /// The error's code, such as -32603.
        code: i64,
        /// The error's text.
        message: String,
    },
    /// Bytes that are no JSON-RPC answer, for the whole round trip.
    Malformed,
    /// No answer: the connection breaks, for the whole round trip.
    Lost,
    /// An HTTP status such as 429 or 503 without a JSON-RPC answer, for the whole round trip.
    Status(u16),
}

/// What becomes of a transaction that `eth_sendRawTransaction` has accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disturbance {
    /// Its hash is answered, and the node forgets it: it is never mined unless it is sent again.
    Drop,
    /// It stays in the pool for this many blocks: with 1, the next block does not hold it and the one after may.
    Delay(u64),
    /// Another transaction of the same sender and nonce, an empty one at higher fees, takes its place.
    /// The chain signs it, so the sender has to be one of [`ACCOUNTS`](crate::ACCOUNTS); else sending fails with -32603.
    Replace,
}

/// What is wrong with the node for as long as it is not taken back by [`clear_faults`](crate::DevChain::clear_faults).
/// Several at once add up; a second one of the same kind takes the place of the first.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeFault {
    /// The opcode `NUMBER` is not the block's number but so much more, as on Arbitrum, where it is another chain's.
    NumberAhead(u64),
    /// States of blocks older than this many before the head are gone.
    StateWindow(u64),
    /// `eth_getLogs` answers without the logs of this many newest blocks, and without an error.
    LogLag(u64),
    /// `eth_getLogs` refuses more than this many blocks.
    LogSpan {
        /// The most blocks.
        most: u64,
        /// The error's code.
        code: i64,
        /// The error's text.
        message: String,
    },
    /// `eth_getLogs` refuses where it finds more than this many logs.
    LogCount {
        /// The most logs.
        most: usize,
        /// The error's code.
        code: i64,
        /// The error's text.
        message: String,
    },
    /// Every second round trip is answered by another node, which is so many blocks behind.
    SecondNode(u64),
    /// Every so many calls one fails before it does anything; where the failure is that of a whole round trip, every so
    /// many round trips.
    Every(u64, Failure),
    /// Every answer has at least so many bytes.
    Padded(usize),
    /// `eth_call` sees this time, whatever the block's is, as a fresh anvil sees 1.
    CallTime(u64),
    /// A block cannot be named by its hash ([EIP-1898](https://eips.ethereum.org/EIPS/eip-1898)) where a state is read.
    NoBlockHash {
        /// The error's code.
        code: i64,
        /// The error's text.
        message: String,
    },
}

/// The most that `eth_getLogs` gives out, and how it refuses more.
#[derive(Clone, Debug)]
pub(crate) struct Limit<T> {
    pub(crate) most: T,
    pub(crate) code: i64,
    pub(crate) message: String,
}

/// How often each method was called. A batch counts as its members and as one round trip.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// JSON-RPC requests by method, those that failed included.
    pub by_method: BTreeMap<String, u64>,
    /// Single requests and batches.
    pub round_trips: u64,
}

impl Calls {
    /// Calls of one method.
    #[must_use]
    pub fn of(&self, method: &str) -> u64 {
        self.by_method.get(method).copied().unwrap_or_default()
    }

    /// Calls of all methods.
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
    second_node: u64,
    second_next: bool,
    every: Option<(u64, Failure)>,
    counted: u64,
    /// No member of this round trip was counted yet.
    first_member: bool,
}

impl Faults {
    pub(crate) fn stand(&mut self, fault: NodeFault) {
        match fault {
            NodeFault::SecondNode(behind) => self.second_node = behind,
            NodeFault::Every(calls, failure) => self.every = Some((calls.max(1), failure)),
            NodeFault::Padded(bytes) => self.padded = bytes,
            _ => {}
        }
    }

    /// A round trip begins: how many blocks the node that answers it is behind.
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

    /// The failure that is due for this call, which uses it up.
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
