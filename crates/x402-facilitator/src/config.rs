//! The configuration file. Unknown keys are refused; secrets come from the environment or from files, never from here.

mod nvm;

pub use nvm::{DomainConfig, NvmConfig, PlanConfig};

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use x402_evm::chain::LOG_QUERY_BLOCKS;
use x402_types::{ChainId, EvmAddress};
use zeroize::Zeroizing;

use crate::configured::{NAMESPACES, SERVED_NAMESPACES};
use crate::heads::{BUSY_MILLISECONDS, REST_MILLISECONDS};

/// What [`NetworkConfig::log_query_blocks`] must be.
pub(crate) const LOG_QUERY_RANGE: &str = "1 to 100000";

/// Everything an operator says.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to listen. Default: `127.0.0.1:4020`.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// The ledger's SQLite file.
    pub ledger: PathBuf,
    /// How long `/settle` waits for the chain before it answers `settlement_pending`, 1 to 300 s. Default: 30.
    #[serde(default = "default_wait")]
    pub settle_wait_seconds: u64,
    /// How long a lane's lease lasts, 5 to 300 s. Default: 15.
    #[serde(default = "default_lease")]
    pub lease_seconds: u64,
    /// How long an authorization of `exact` may last, 60 to 31,536,000 s: until then it is looked after. Default: 3,600.
    #[serde(default = "default_longest")]
    pub longest_authorization_seconds: u64,
    /// Where session keys are kept that payments name by their hash. None: payments carry their keys.
    #[serde(default)]
    pub session_keys: Option<SessionKeysConfig>,
    /// Who may call. None: everybody who reaches the port, all as one caller.
    #[serde(default, rename = "caller")]
    pub callers: Vec<CallerConfig>,
    /// The networks that are served.
    #[serde(rename = "network")]
    pub networks: Vec<NetworkConfig>,
}

/// The store of session keys, in the ledger's file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionKeysConfig {
    /// The key under which they are sealed: 32 bytes in hex. Whoever has it and the file has the keys.
    pub seal: SecretSource,
}

/// A caller that presents a bearer token.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallerConfig {
    /// Its name, part of a payment's identity.
    pub name: String,
    /// Its token.
    pub token: SecretSource,
    /// Whether a success is told again to its repeated bodies without `Idempotency-Key`. Only for a server that settles
    /// each customer's request by a body of its own, or knows the mark `replayed`: any other would serve one payment
    /// as often as it is shown. Default: false.
    #[serde(default)]
    pub replay_success: bool,
}

/// One EVM network.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// CAIP-2, in the `eip155` namespace.
    pub id: ChainId,
    /// The node's JSON-RPC URL: a secret, since many hold a key.
    pub rpc: SecretSource,
    /// Blocks behind the head at which a block is final; 0 where the head is trusted.
    pub finality: u64,
    /// How often the head is asked for while a payment is unfinished, 20 to 60,000 ms. Default: 100.
    #[serde(default = "default_poll")]
    pub poll_milliseconds: u64,
    /// How often it is while none is, 20 to 60,000 ms; of no effect where `poll_milliseconds` is more. Default: 2,000.
    #[serde(default = "default_rest_poll")]
    pub rest_poll_milliseconds: u64,
    /// How many blocks one query for logs covers at most, 1 to 100,000. Default: 1,000.
    #[serde(default = "default_log_query_blocks")]
    pub log_query_blocks: u64,
    /// The highest fee for one unit of gas, in wei.
    pub max_fee_per_gas: u64,
    /// Plans whose credits smart accounts pay with. Default: none.
    #[serde(default)]
    pub nvm: Option<NvmConfig>,
    /// The accounts that send transactions and pay gas: 32-byte private keys in hex.
    pub signers: Vec<SecretSource>,
    /// Tokens beside the default ones of the network.
    #[serde(default, rename = "asset")]
    pub assets: Vec<AssetConfig>,
    /// Whether the network's default tokens are served. Default: true.
    #[serde(default = "yes")]
    pub default_assets: bool,
    /// Factories that may be called to deploy a payer's smart account (EIP-6492), at the signers' cost. Default: none.
    #[serde(default)]
    pub factories: Vec<EvmAddress>,
}

/// A token with EIP-3009.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssetConfig {
    /// Its contract.
    pub address: EvmAddress,
    /// For people.
    pub symbol: String,
    /// EIP-712 `name` of its domain.
    pub name: String,
    /// EIP-712 `version` of its domain.
    pub version: String,
    /// Digits behind the point.
    pub decimals: u8,
}

/// Where a secret stands: `{ env = "NAME" }` or `{ file = "PATH" }`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
pub enum SecretSource {
    /// An environment variable.
    Env(String),
    /// A file; white space at its end does not count.
    File(PathBuf),
}

/// A configuration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {detail}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system said.
        detail: String,
    },
    /// The file is not what it should be.
    #[error("{0}")]
    Malformed(String),
    /// A value is outside its range.
    #[error("{field}: expected {expected}")]
    Range {
        /// The field.
        field: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// A secret is not there.
    #[error("{field}: {place} is not there or empty")]
    NoSecret {
        /// The field.
        field: &'static str,
        /// Where it should be.
        place: String,
    },
}

const fn default_wait() -> u64 {
    30
}
const fn default_lease() -> u64 {
    15
}
const fn default_longest() -> u64 {
    3_600
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
const fn yes() -> bool {
    true
}
fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 4020))
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// An unreadable file, an unknown key, a value outside its range.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Unreadable { path: path.display().to_string(), detail: error.to_string() })?;
        Self::parse(&text)
    }

    /// Reads and checks text.
    ///
    /// # Errors
    /// An unknown key, a value outside its range.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| ConfigError::Malformed(error.to_string()))?;
        let within = |field, value: u64, low: u64, high: u64, expected| {
            if (low..=high).contains(&value) { Ok(()) } else { Err(ConfigError::Range { field, expected }) }
        };
        within("settle_wait_seconds", config.settle_wait_seconds, 1, 300, "1 to 300")?;
        within("lease_seconds", config.lease_seconds, 5, 300, "5 to 300")?;
        let longest = config.longest_authorization_seconds;
        within("longest_authorization_seconds", longest, 60, 31_536_000, "60 to 31536000")?;
        if config.networks.is_empty() {
            return Err(ConfigError::Range { field: "network", expected: "at least one" });
        }
        for network in &config.networks {
            within("network.poll_milliseconds", network.poll_milliseconds, 20, 60_000, "20 to 60000")?;
            within("network.rest_poll_milliseconds", network.rest_poll_milliseconds, 20, 60_000, "20 to 60000")?;
            within("network.log_query_blocks", network.log_query_blocks, 1, 100_000, LOG_QUERY_RANGE)?;
            if !NAMESPACES.iter().any(|served| served.name == network.id.namespace()) {
                return Err(ConfigError::Range { field: "network.id", expected: SERVED_NAMESPACES });
            }
            if network.signers.is_empty() {
                return Err(ConfigError::Range { field: "network.signers", expected: "at least one" });
            }
        }
        Ok(config)
    }
}

impl SecretSource {
    /// The secret.
    ///
    /// # Errors
    /// It is not there, or empty.
    pub fn read(&self, field: &'static str) -> Result<Zeroizing<String>, ConfigError> {
        let (text, place) = match self {
            Self::Env(name) => (std::env::var(name).ok(), format!("environment variable {name}")),
            Self::File(path) => (std::fs::read_to_string(path).ok(), format!("file {}", path.display())),
        };
        let text = Zeroizing::new(text.unwrap_or_default());
        let trimmed = text.trim_end();
        if trimmed.is_empty() {
            return Err(ConfigError::NoSecret { field, place });
        }
        Ok(Zeroizing::new(trimmed.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        ledger = "x402.sqlite"
        [[network]]
        id = "eip155:84532"
        rpc = { env = "RPC" }
        finality = 2
        max_fee_per_gas = 2000000000
        signers = [{ file = "/run/secrets/key" }]
    "#;

    #[test]
    fn a_small_file_is_enough() {
        let config = Config::parse(GOOD).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:4020");
        assert_eq!(config.networks[0].id.as_str(), "eip155:84532");
        assert!(config.networks[0].default_assets);
        assert!(config.networks[0].factories.is_empty());
        let network = &config.networks[0];
        assert_eq!((network.poll_milliseconds, network.rest_poll_milliseconds), (100, 2_000));
        assert_eq!(network.log_query_blocks, 1_000);
        assert_eq!(config.longest_authorization_seconds, 3_600);
    }

    #[test]
    fn polls_and_log_queries_have_a_range() {
        let with = |key: &str, value: u64| Config::parse(&format!("{GOOD}\n{key} = {value}"));
        let cases = [
            ("poll_milliseconds", "network.poll_milliseconds", 20, 60_000, "20 to 60000"),
            ("rest_poll_milliseconds", "network.rest_poll_milliseconds", 20, 60_000, "20 to 60000"),
            ("log_query_blocks", "network.log_query_blocks", 1, 100_000, "1 to 100000"),
        ];
        for (key, field, least, most, expected) in cases {
            assert!(with(key, least).is_ok() && with(key, most).is_ok(), "{key}");
            for outside in [least - 1, most + 1] {
                assert_eq!(with(key, outside).unwrap_err(), ConfigError::Range { field, expected });
            }
        }
        assert_eq!(with("log_query_blocks", 5_000).unwrap().networks[0].log_query_blocks, 5_000);
    }

    #[test]
    fn what_is_misspelt_missing_or_out_of_range_is_named() {
        let cases = [
            (GOOD.replace("finality", "finalty"), "finalty"),
            (GOOD.replace("finality = 2", ""), "finality"),
            (GOOD.replace("eip155:84532", "base"), "CAIP-2"),
            (GOOD.replace("eip155:84532", "solana:abc"), "network.id"),
            (GOOD.replace("[{ file = \"/run/secrets/key\" }]", "[]"), "network.signers"),
            (GOOD.replace("[{ file = \"/run/secrets/key\" }]", "[\"0xac0974\"]"), "signers"),
            (format!("settle_wait_seconds = 0\n{GOOD}"), "settle_wait_seconds"),
            (format!("lease_seconds = 4\n{GOOD}"), "lease_seconds"),
            (format!("longest_authorization_seconds = 59\n{GOOD}"), "longest_authorization_seconds"),
            (format!("longest_authorization_seconds = 31536001\n{GOOD}"), "longest_authorization_seconds"),
            (format!("{GOOD}\nfactories = [\"0x12\"]"), "factories"),
            ("ledger = \"x\"".to_owned(), "network"),
        ];
        for (text, named) in cases {
            let error = Config::parse(&text).unwrap_err().to_string();
            assert!(error.contains(named), "{named}: {error}");
        }
    }

    #[test]
    fn an_absent_secret_says_where_it_should_be() {
        let error = SecretSource::Env("X402_NOT_SET_ANYWHERE".into()).read("network.rpc").unwrap_err();
        assert_eq!(error.to_string(), "network.rpc: environment variable X402_NOT_SET_ANYWHERE is not there or empty");
    }
}
