//! [`DevChainBuilder`]: the settings of a chain.

use std::time::Duration;

use alloy_primitives::Address;

use crate::chain::{DevChain, WeakChain};
use crate::clock::Clock;
use crate::execute::Rules;
use crate::faults::Faults;
use crate::genesis;
use crate::world::World;

/// The times at which blocks are mined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MiningMode {
    /// One block for each transaction, mined as soon as the transaction can be: before the response to
    /// `eth_sendRawTransaction`.
    PerTransaction,
    /// A block at this interval, empty or not, mined by a tokio task that ends with the chain.
    Interval(Duration),
    /// Blocks are mined only by [`DevChain::mine`] or `evm_mine`.
    Manual,
}

/// The settings of a new [`DevChain`].
#[derive(Clone, Debug)]
pub struct DevChainBuilder {
    chain_id: u64,
    block_time: MiningMode,
    finality_depth: u64,
    time: Option<u64>,
    time_step: u64,
    rpc_delay: Duration,
    code_size_limit: usize,
}

/// The maximum size of deployed code on Ethereum: [EIP-170](https://eips.ethereum.org/EIPS/eip-170).
const CODE_SIZE_LIMIT: usize = 24_576;

/// The reason why a chain cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainBuildError {
    /// [`MiningMode::Interval`] was set outside of a tokio runtime.
    #[error("expected a tokio runtime for blocks by interval, found none")]
    NoRuntime,
    /// [`MiningMode::Interval`] was set to zero.
    #[error("expected a block interval above zero, found zero")]
    ZeroInterval,
    /// A contract artifact of this crate is not what its build script writes.
    #[error("the artifact of the contract at {address} is damaged: {reason}")]
    Artifact {
        /// The address of the contract in genesis.
        address: Address,
        /// The fault of its JSON or its code.
        reason: String,
    },
}

impl Default for DevChainBuilder {
    fn default() -> Self {
        Self {
            chain_id: 84532,
            block_time: MiningMode::PerTransaction,
            finality_depth: 0,
            time: None,
            time_step: 0,
            rpc_delay: Duration::ZERO,
            code_size_limit: CODE_SIZE_LIMIT,
        }
    }
}

impl DevChainBuilder {
    /// Sets the chain id; 84532 (Base Sepolia) by default.
    #[must_use]
    pub fn chain_id(mut self, chain_id: u64) -> Self {
        self.chain_id = chain_id;
        self
    }

    /// Sets the times at which blocks are mined; [`MiningMode::PerTransaction`] by default.
    #[must_use]
    pub fn block_time(mut self, block_time: MiningMode) -> Self {
        self.block_time = block_time;
        self
    }

    /// Sets how many blocks `finalized` and `safe` are behind `latest`; 0 by default.
    #[must_use]
    pub fn finality_depth(mut self, blocks: u64) -> Self {
        self.finality_depth = blocks;
        self
    }

    /// Stops the clock at this Unix time, in seconds, which is also that of genesis. By default the machine's clock
    /// runs.
    #[must_use]
    pub fn time(mut self, seconds: u64) -> Self {
        self.time = Some(seconds);
        self
    }

    /// Sets the seconds by which each block advances a stopped clock; 0 by default.
    #[must_use]
    pub fn time_step(mut self, seconds: u64) -> Self {
        self.time_step = seconds;
        self
    }

    /// Sets the duration of each round trip; see [`DevChain::rpc_delay`].
    #[must_use]
    pub fn rpc_delay(mut self, delay: Duration) -> Self {
        self.rpc_delay = delay;
        self
    }

    /// Sets the maximum size of deployed code, which is half of the maximum size of initcode; EIP-170's 24,576 bytes by
    /// default. Contracts built without an optimizer are larger than those on a real network.
    #[must_use]
    pub fn code_size_limit(mut self, bytes: usize) -> Self {
        self.code_size_limit = bytes;
        self
    }

    /// Builds the chain.
    /// # Errors
    /// [`MiningMode::Interval`] was set outside of a tokio runtime or to zero, or an artifact is damaged.
    pub fn build(self) -> Result<DevChain, ChainBuildError> {
        let history = genesis::state(self.chain_id)?;
        let clock = Clock::new(self.time, self.time_step);
        let rules = Rules {
            chain_id: self.chain_id,
            code_size_limit: self.code_size_limit,
            number_ahead: 0,
            surcharge: (0, 0),
        };
        let world = World::new(rules, self.finality_depth, history, clock);
        let automine = self.block_time == MiningMode::PerTransaction;
        let chain = DevChain::start(world, Faults::new(self.rpc_delay), automine);
        if let MiningMode::Interval(period) = self.block_time {
            if period.is_zero() {
                return Err(ChainBuildError::ZeroInterval);
            }
            let runtime = tokio::runtime::Handle::try_current().map_err(|_| ChainBuildError::NoRuntime)?;
            runtime.spawn(mine_by_interval(chain.downgrade(), period));
        }
        Ok(chain)
    }
}

async fn mine_by_interval(chain: WeakChain, period: Duration) {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
    // A runtime that was delayed does not catch up on missed blocks.
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(chain) = chain.upgrade() else { return };
        chain.mine(1);
    }
}
