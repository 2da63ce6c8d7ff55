//! The configuration of batching: docs/operations.md, "Batching".

use std::time::Duration;

use serde::Deserialize;
use x402_evm::batching::{Batching, MOST_IN_BATCH};

use super::ConfigError;

/// Payments of a network that go out together, each as a call of one transaction.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchingConfig {
    /// The most payments in a transaction, 2 to 250. Default: 100.
    #[serde(default = "default_most_payments")]
    pub most_payments: usize,
    /// The highest gas limit of such a transaction as a percentage of the block's, 1 to 100. Default: 50.
    #[serde(default = "default_block_percent")]
    pub block_percent: u64,
    /// The gas that is reserved for each payment, 40,000 to 1,000,000. Default: 129,000.
    #[serde(default = "default_gas_per_payment")]
    pub gas_per_payment: u64,
    /// The time for which a payment waits for others, 0 to 10,000 ms. Default: 50.
    #[serde(default = "default_gather")]
    pub gather_milliseconds: u64,
}

fn default_most_payments() -> usize {
    Batching::default().most
}
fn default_block_percent() -> u64 {
    Batching::default().block_share
}
fn default_gas_per_payment() -> u64 {
    Batching::default().gas_each
}
const fn default_gather() -> u64 {
    50
}

impl BatchingConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let range = |field, expected| Err(ConfigError::Range { field, expected });
        if !(2..=MOST_IN_BATCH).contains(&self.most_payments) {
            return range("network.batching.most_payments", "2 to 250");
        }
        if !(1..=100).contains(&self.block_percent) {
            return range("network.batching.block_percent", "1 to 100");
        }
        if !(40_000..=1_000_000).contains(&self.gas_per_payment) {
            return range("network.batching.gas_per_payment", "40000 to 1000000");
        }
        if self.gather_milliseconds > 10_000 {
            return range("network.batching.gather_milliseconds", "0 to 10000");
        }
        Ok(())
    }

    /// Returns the limits of a batch.
    #[must_use]
    pub fn limits(&self) -> Batching {
        let limits = Batching::default().with_most(self.most_payments).with_block_share(self.block_percent);
        limits.with_gas_each(self.gas_per_payment)
    }

    /// Returns the time for which a payment waits for others.
    #[must_use]
    pub const fn gather(&self) -> Duration {
        Duration::from_millis(self.gather_milliseconds)
    }
}
