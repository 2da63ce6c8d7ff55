//! The section of one network.

use serde::Deserialize;
use x402_evm::chain::LOG_QUERY_BLOCKS;
use x402_evm::exact::TRANSFER_GAS;
use x402_evm::rail::Fees;
use x402_facilitator_core::MOST_IN_FLIGHT;
use x402_types::{AtomicAmount, ChainId, EvmAddress};

use super::{BatchingConfig, BudgetConfig, ConfigError, LOG_QUERY_RANGE, NvmConfig, SecretSource, within};
use crate::configured::{NAMESPACES, SERVED_NAMESPACES};
use crate::heads::{BUSY_MILLISECONDS, REST_MILLISECONDS};

/// The configuration of one EVM network.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// The network's CAIP-2 identifier, in the `eip155` namespace.
    pub id: ChainId,
    /// The URL of the node's JSON-RPC interface: a secret, since many such URLs contain an API key.
    pub rpc: SecretSource,
    /// The URLs of further endpoints of the network, used in this order if the first one fails. Default: none.
    #[serde(default)]
    pub further_rpc: Vec<SecretSource>,
    /// The number of blocks behind the head at which a block is final; 0 where the head is trusted.
    pub finality: u64,
    /// The interval between polls of the head while a payment is unfinished, 20 to 60,000 ms. Default: 100.
    #[serde(default = "default_poll")]
    pub poll_milliseconds: u64,
    /// The interval while no payment is unfinished, 20 to 60,000 ms; without effect if `poll_milliseconds` is longer.
    /// Default: 2,000.
    #[serde(default = "default_rest_poll")]
    pub rest_poll_milliseconds: u64,
    /// The most blocks that one query for logs covers, 1 to 100,000. Default: 1,000.
    #[serde(default = "default_log_query_blocks")]
    pub log_query_blocks: u64,
    /// The time for which the node should wait for the block of a transaction, 0 to 4,000 ms. Default: 0, transactions are
    /// sent the usual way.
    #[serde(default)]
    pub sync_send_milliseconds: u64,
    /// The most transactions of one signer that are in flight, 1 to 10,000: the node must keep them all. Default: 64.
    #[serde(default = "default_transactions_in_flight")]
    pub transactions_in_flight: usize,
    /// The highest fee for one unit of gas, in wei.
    pub max_fee_per_gas: u64,
    /// The highest fee for one unit of gas, as a percentage of the present price, 200 to 100,000. Default: 1,000.
    #[serde(default = "default_relative_cap")]
    pub max_fee_percent: u64,
    /// The highest gas limit of a transaction, 150,000 to 1,000,000,000. Default: 16,777,216.
    #[serde(default = "default_gas_cap")]
    pub max_gas: u64,
    /// The percentage that is added to the estimated surcharge of a network that charges for a transaction's data, 0 to
    /// 1,000. Default: 50.
    #[serde(default = "default_surcharge_margin")]
    pub surcharge_margin_percent: u64,
    /// The most that payments may move or cost. Default: no limit.
    #[serde(default, rename = "budget")]
    pub budgets: Vec<BudgetConfig>,
    /// The balance in wei below which a signer is named as low, while it still pays. A string of decimal digits. Default:
    /// none.
    #[serde(default)]
    pub low_balance: Option<AtomicAmount>,
    /// Whether and how payments share transactions; by default each has its own.
    #[serde(default)]
    pub batching: Option<BatchingConfig>,
    /// The plans whose credits smart accounts pay with. Default: none.
    #[serde(default)]
    pub nvm: Option<NvmConfig>,
    /// The accounts that send transactions and pay for gas: 32-byte private keys in hex.
    pub signers: Vec<SecretSource>,
    /// The tokens that are served beside the network's default ones.
    #[serde(default, rename = "asset")]
    pub assets: Vec<AssetConfig>,
    /// Whether the network's default tokens are served. Default: true.
    #[serde(default = "yes")]
    pub default_assets: bool,
    /// The factories that may be called to deploy a payer's smart account (EIP-6492), at the signers' expense. Default:
    /// none.
    #[serde(default)]
    pub factories: Vec<EvmAddress>,
    /// Whether payments by Permit2 are served, of `exact` and `upto`. Default: true.
    #[serde(default = "yes")]
    pub permit2: bool,
}

/// A token with EIP-3009.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssetConfig {
    /// The address of the token's contract.
    pub address: EvmAddress,
    /// The token's symbol, for display.
    pub symbol: String,
    /// The `name` of its EIP-712 domain.
    pub name: String,
    /// The `version` of its EIP-712 domain.
    pub version: String,
    /// The number of digits after the decimal point.
    pub decimals: u8,
}

impl NetworkConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        within("network.poll_milliseconds", self.poll_milliseconds, 20, 60_000, "20 to 60000")?;
        within("network.rest_poll_milliseconds", self.rest_poll_milliseconds, 20, 60_000, "20 to 60000")?;
        within("network.log_query_blocks", self.log_query_blocks, 1, 100_000, LOG_QUERY_RANGE)?;
        within("network.sync_send_milliseconds", self.sync_send_milliseconds, 0, 4_000, "0 to 4000")?;
        if !(1..=10_000).contains(&self.transactions_in_flight) {
            return Err(ConfigError::Range { field: "network.transactions_in_flight", expected: "1 to 10000" });
        }
        within("network.max_fee_percent", self.max_fee_percent, 200, 100_000, "200 to 100000")?;
        within("network.max_gas", self.max_gas, TRANSFER_GAS, 1_000_000_000, "150000 to 1000000000")?;
        let margin = self.surcharge_margin_percent;
        within("network.surcharge_margin_percent", margin, 0, 1_000, "0 to 1000")?;
        super::budget::check(&self.budgets)?;
        self.batching.as_ref().map_or(Ok(()), BatchingConfig::check)?;
        if !NAMESPACES.iter().any(|served| served.name == self.id.namespace()) {
            return Err(ConfigError::Range { field: "network.id", expected: SERVED_NAMESPACES });
        }
        if self.signers.is_empty() {
            return Err(ConfigError::Range { field: "network.signers", expected: "at least one" });
        }
        Ok(())
    }
}

const fn default_poll() -> u64 {
    BUSY_MILLISECONDS
}
const fn default_rest_poll() -> u64 {
    REST_MILLISECONDS
}
const fn default_log_query_blocks() -> u64 {
    LOG_QUERY_BLOCKS.get()
}
const fn default_transactions_in_flight() -> usize {
    MOST_IN_FLIGHT
}
fn default_relative_cap() -> u64 {
    Fees::default().relative_cap
}
fn default_gas_cap() -> u64 {
    Fees::default().gas_cap
}
fn default_surcharge_margin() -> u64 {
    Fees::default().surcharge_margin
}
const fn yes() -> bool {
    true
}
