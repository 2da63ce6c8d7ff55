//! The extent of log queries.

use core::num::NonZeroU64;

use alloy_transport::TransportError;
use x402_types::Fault;

use super::node_error::{NodeError, node_fault};

/// The maximum number of values in a query; geth refuses more than 1,000 at one position of a topic.
const VALUES: usize = 200;
/// The number of full queries in a row after which the next may cover twice as many blocks.
const GROW_AFTER: u32 = 8;

/// The extent of one log query: as many blocks as configured, fewer while the node refuses, whatever its code and
/// message, and more again after a while.
#[derive(Debug, Clone)]
pub struct LogSpan {
    /// The configured maximum of blocks in a query.
    most: u64,
    /// The number of blocks that the node currently accepts: halved on a refusal, doubled after a while.
    blocks: u64,
    values: usize,
    /// The number of full queries answered since the last change.
    answered: u32,
    /// The number of full queries required before the next growth; it increases with each refusal.
    patience: u32,
    /// The smallest query was refused: it is repeated once before the refusal is a fault.
    last_try: bool,
}

impl LogSpan {
    /// Creates a span with this maximum of blocks.
    #[must_use]
    pub const fn new(blocks: NonZeroU64) -> Self {
        let blocks = blocks.get();
        Self { most: blocks, blocks, values: VALUES, answered: 0, patience: GROW_AFTER, last_try: false }
    }

    /// Returns the maximum number of blocks of the next query.
    #[must_use]
    pub const fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Returns the maximum number of values at one position of a topic in the next query.
    #[must_use]
    pub const fn values(&self) -> usize {
        self.values
    }

    /// Returns the last block of a query that begins at `from` and should extend to `to`.
    #[must_use]
    pub fn until(&self, from: u64, to: u64) -> u64 {
        to.min(from.saturating_add(self.blocks.saturating_sub(1)))
    }

    /// Returns whether the next query is the last try: the smallest query was refused.
    #[must_use]
    pub const fn is_last_try(&self) -> bool {
        self.last_try
    }

    /// Records a refusal: the next query covers half as many blocks, then half as many values, then it is the last try.
    /// # Errors
    /// The last try was refused, or the refusal is temporary: the fault names the setting.
    pub fn refused(&mut self, blocks: u64, values: usize, error: TransportError) -> Result<(), Fault> {
        // Nodes limit the blocks or the logs of one query, each with its own code and message.
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

    /// Halves the span, and returns whether that was possible.
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

    /// Records an answered query: after some full ones, longer queries are tried again.
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

    /// Returns whether the span has its configured size.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.blocks == self.most && self.values == VALUES
    }
}
