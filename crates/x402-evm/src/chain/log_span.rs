//! How much one query for logs may cover.

use core::num::NonZeroU64;

use alloy_transport::TransportError;
use x402_types::Fault;

use super::node_error::{NodeError, node_fault};

/// Values of one query; geth refuses more than 1,000 in one place of a topic.
const VALUES: usize = 200;
/// Full queries in a row after which the next may cover twice as many blocks.
const GROW_AFTER: u32 = 8;

/// How much one query for logs may cover: as many blocks as are configured, fewer where the node refuses, whatever its
/// code and words, and more again after a while.
#[derive(Debug, Clone)]
pub struct LogSpan {
    /// Blocks of one query at most, as configured.
    most: u64,
    /// As many as the node takes now: halved when it refuses, doubled after a while.
    blocks: u64,
    values: usize,
    /// Full queries that were answered since something changed.
    answered: u32,
    /// How many it takes before it grows; more after each refusal.
    patience: u32,
    /// A query that nothing can be taken from was refused: it is made once more before that is a fault.
    last_try: bool,
}

impl LogSpan {
    /// So many blocks at once.
    #[must_use]
    pub const fn new(blocks: NonZeroU64) -> Self {
        let blocks = blocks.get();
        Self { most: blocks, blocks, values: VALUES, answered: 0, patience: GROW_AFTER, last_try: false }
    }

    /// Blocks of the next query at most.
    #[must_use]
    pub const fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Values in one place of a topic of the next query at most.
    #[must_use]
    pub const fn values(&self) -> usize {
        self.values
    }

    /// The last block of a query that begins at `from` and should go on to `to`.
    #[must_use]
    pub fn until(&self, from: u64, to: u64) -> u64 {
        to.min(from.saturating_add(self.blocks.saturating_sub(1)))
    }

    /// Whether the next query is the last try: the smallest one was refused.
    #[must_use]
    pub const fn is_last_try(&self) -> bool {
        self.last_try
    }

    /// A query was refused: the next one covers half as many blocks, then half as many values, then is a last try.
    ///
    /// # Errors
    /// The last try was refused, or it may pass: the fault names the setting.
    pub fn refused(&mut self, blocks: u64, values: usize, error: TransportError) -> Result<(), Fault> {
        // Nodes limit blocks or logs of one query, each with a code and words of its own.
        let smaller = self.halve(blocks, values);
        if NodeError::of(&error) != NodeError::MayPass {
            let last_try = !smaller && !self.last_try;
            self.last_try |= last_try;
            if smaller || last_try {
                return Ok(());
            }
        }
        let words = "a query for logs was refused (network.log_query_blocks): ";
        Err(Fault::unreachable("the node", format_args!("{words}{}", node_fault(error))))
    }

    /// Whether there was anything to halve.
    pub(crate) fn halve(&mut self, blocks: u64, values: usize) -> bool {
        self.answered = 0;
        self.patience = self.patience.saturating_mul(2).min(4_096);
        if blocks > 1 {
            self.blocks = blocks.div_ceil(2).min(self.blocks);
            return true;
        }
        self.values = values.div_euclid(2).max(1).min(self.values);
        values > 1
    }

    /// A query was answered: after some that were as long as they may be, longer ones are tried again.
    pub fn answered(&mut self, blocks: u64) {
        self.last_try = false;
        let full = blocks >= self.blocks;
        if self.is_whole() || !(full || self.values < VALUES) {
            return;
        }
        self.answered = self.answered.saturating_add(1);
        if self.answered >= self.patience {
            self.answered = 0;
            self.blocks = self.blocks.saturating_mul(2).min(self.most);
            self.values = self.values.saturating_mul(2).min(VALUES);
        }
    }

    /// Whether it covers as much as it was made for.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.blocks == self.most && self.values == VALUES
    }
}
