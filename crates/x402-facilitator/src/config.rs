//! The configuration file. Unknown keys are refused. The file holds no secrets: it names environment variables or files
//! that do.

mod admin;
mod batching;
mod budget;
#[cfg(feature = "attribution")]
mod builder_code;
mod caller;
#[cfg(feature = "cards")]
mod card;
mod error;
#[cfg(feature = "keystore")]
mod keystore;
mod ledger;
mod limits;
mod network;
mod nvm;
mod origin;
#[cfg(feature = "otlp")]
mod otlp;
mod place;
mod secret;
#[cfg(feature = "tls")]
mod tls;
mod webhook;

pub use admin::AdminConfig;
pub use batching::BatchingConfig;
pub use budget::{BudgetConfig, BudgetScope};
#[cfg(feature = "attribution")]
pub use builder_code::BuilderCodeConfig;
pub use caller::{BearerHash, CallerConfig};
#[cfg(feature = "cards")]
pub use card::{CardConfig, CardPlanConfig};
pub use error::ConfigError;
pub(crate) use error::Misplaced;
pub use ledger::{LedgerConfig, LedgerPlace};
pub use limits::LimitsConfig;
pub use network::{AssetConfig, NetworkConfig};
pub use nvm::{DomainConfig, NvmConfig, PlanConfig};
pub use origin::BrowserOrigin;
#[cfg(feature = "otlp")]
pub use otlp::OtlpConfig;
pub use secret::SecretSource;
#[cfg(feature = "tls")]
pub use tls::TlsConfig;
pub use webhook::WebhookConfig;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::callers::Caller;

/// The range of [`NetworkConfig::log_query_blocks`].
pub(crate) const LOG_QUERY_RANGE: &str = "1 to 100000";

/// The whole configuration of a facilitator.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The address to listen on. Default: `127.0.0.1:4020`.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// The place of the ledger: the path of a SQLite file, or the URL of a PostgreSQL database.
    pub ledger: LedgerConfig,
    /// The most connections to a PostgreSQL database, 1 to 1,000. Default: 8.
    #[serde(default = "default_connections")]
    pub ledger_connections: usize,
    /// The path of the file that repeats the ledger's mark, by which an older copy of it is recognised. Default: beside a
    /// SQLite file, its name with `.mark`; none for a database.
    #[serde(default)]
    pub ledger_mark: Option<PathBuf>,
    /// The time that `/settle` waits for the chain before it answers `settlement_pending`, 1 to 300 s; up to twice as
    /// long while no node has a transaction of the payment. Default: 30.
    #[serde(default = "default_wait")]
    pub settle_wait_seconds: u64,
    /// The length of a lane's lease, 5 to 300 s. Default: 15.
    #[serde(default = "default_lease")]
    pub lease_seconds: u64,
    /// The longest validity of an authorization of `exact`, 60 to 31,536,000 s: the payment is tracked until it
    /// expires. Default: 3,600.
    #[serde(default = "default_longest")]
    pub longest_authorization_seconds: u64,
    /// The store of session keys that payments name by their hash. Without it payments must carry their keys.
    #[serde(default)]
    pub session_keys: Option<SessionKeysConfig>,
    /// Whether what was settled is listed in a catalog, in the place of the ledger, for everyone to search. Default: false.
    #[cfg(feature = "discovery")]
    #[serde(default)]
    pub discovery: bool,
    /// The codes at the end of the calls that settle payments. Default: none.
    #[cfg(feature = "attribution")]
    #[serde(default)]
    pub builder_code: Option<BuilderCodeConfig>,
    /// The callers with their tokens. If there are none, every client that reaches the port may call, and all count as
    /// one caller.
    #[serde(default, rename = "caller")]
    pub callers: Vec<CallerConfig>,
    /// The time for which answered payments are kept longer than the settlement needs them, 0 to 315,360,000 s, for exports.
    /// Default: 0.
    #[serde(default)]
    pub keep_seconds: u64,
    /// The path of a file; while it exists, no new payments are taken. Default: none.
    #[serde(default)]
    pub pause_file: Option<PathBuf>,
    /// The limits of requests and connections. Without this section requests have no rate, and connections the default
    /// limits.
    #[serde(default)]
    pub limits: Option<LimitsConfig>,
    /// The origins whose pages may call from a browser, for example `https://shop.example`. Default: none.
    #[serde(default)]
    pub cors: Vec<BrowserOrigin>,
    /// The certificate of the callers' port for TLS. Default: none, plain HTTP.
    #[cfg(feature = "tls")]
    #[serde(default)]
    pub tls: Option<TlsConfig>,
    /// The targets that are notified of payments' ends. Default: none.
    #[serde(default, rename = "webhook")]
    pub webhooks: Vec<WebhookConfig>,
    /// The operator's port. Default: none.
    #[serde(default)]
    pub admin: Option<AdminConfig>,
    /// The collector that gets a span of each payment. Default: none.
    #[cfg(feature = "otlp")]
    #[serde(default)]
    pub otlp: Option<OtlpConfig>,
    /// The plans that are paid with delegated cards. Default: none.
    #[cfg(feature = "cards")]
    #[serde(default)]
    pub card: Option<CardConfig>,
    /// The networks that are served. Beside `[card]` there may be none.
    #[serde(default, rename = "network")]
    pub networks: Vec<NetworkConfig>,
}

/// The store of session keys, in the ledger's file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionKeysConfig {
    /// The key that seals them: 32 bytes in hex. It opens every session key in the file.
    pub seal: SecretSource,
}

const fn default_connections() -> usize {
    8
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
fn within(field: &'static str, value: u64, low: u64, high: u64, expected: &'static str) -> Result<(), ConfigError> {
    if (low..=high).contains(&value) { Ok(()) } else { Err(ConfigError::Range { field, expected }) }
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 4020))
}

impl Config {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// The file is unreadable, or has an unknown key or a value outside its range.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Unreadable { path: path.display().to_string(), detail: error.to_string() })?;
        Self::parse(&text)
    }

    /// Parses and checks the text of a configuration.
    ///
    /// # Errors
    /// The text has an unknown key or a value outside its range.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        // The crate's own display would quote the line, which may hold a secret by mistake.
        let config: Self = toml::from_str(text).map_err(|error| {
            let offset = error.span().map(|span| span.start);
            let key = offset.and_then(|offset| place::key_at(text, offset));
            let message = error.message();
            let message = key.map_or_else(|| message.to_owned(), |key| format!("{key}: {message}"));
            place::at(text, offset, ConfigError::Malformed(message))
        })?;
        config.check().map_err(|Misplaced { entry, error }| place::of_field(text, entry, error))?;
        Ok(config)
    }

    fn check(&self) -> Result<(), Misplaced> {
        self.ledger.check()?;
        #[cfg(feature = "attribution")]
        self.builder_code.as_ref().map_or(Ok(()), |codes| codes.codes().map(drop))?;
        if !(1..=1_000).contains(&self.ledger_connections) {
            return Err(ConfigError::Range { field: "ledger_connections", expected: "1 to 1000" }.into());
        }
        within("settle_wait_seconds", self.settle_wait_seconds, 1, 300, "1 to 300")?;
        within("lease_seconds", self.lease_seconds, 5, 300, "5 to 300")?;
        let longest = self.longest_authorization_seconds;
        within("longest_authorization_seconds", longest, 60, 31_536_000, "60 to 31536000")?;
        within("keep_seconds", self.keep_seconds, 0, 315_360_000, "0 to 315360000")?;
        caller::check(&self.callers)?;
        let names = self.callers.iter().map(|caller| caller.name.as_str()).collect();
        webhook::check(&self.webhooks, &names)?;
        self.admin.as_ref().map_or(Ok(()), AdminConfig::check)?;
        self.limits.as_ref().map_or(Ok(()), LimitsConfig::check)?;
        #[cfg(feature = "otlp")]
        self.otlp.as_ref().map_or(Ok(()), |otlp| otlp.target().map(drop))?;
        if !self.listen.ip().is_loopback() && (self.callers.is_empty() || self.limits.is_none()) {
            let expected = "a loopback address, or at least one [[caller]] and the section [limits]";
            return Err(ConfigError::Range { field: "listen", expected }.into());
        }
        #[cfg(feature = "cards")]
        if let Some(card) = &self.card {
            card.check()?;
            // A token of a card is a bearer's: who may settle it must be known.
            if self.callers.is_empty() {
                return Err(ConfigError::Range { field: "caller", expected: "at least one beside [card]" }.into());
            }
        }
        if self.networks.is_empty() && !self.has_cards() {
            return Err(ConfigError::Range { field: "network", expected: "at least one" }.into());
        }
        let mut networks = self.networks.iter().enumerate();
        networks.try_for_each(|(entry, network)| network.check().map_err(|error| Misplaced { entry, error }))
    }

    /// Returns the callers with the hashes of their tokens.
    ///
    /// # Errors
    /// A token is missing or empty.
    pub fn named_callers(&self) -> Result<Vec<Caller>, ConfigError> {
        let rate = self.limits.as_ref().map(LimitsConfig::caller_rate);
        let caller = |config: &CallerConfig| {
            let caller = Caller::new(&config.name, config.token_hash()?);
            Ok(rate.into_iter().fold(caller, Caller::with_rate))
        };
        self.callers.iter().map(caller).collect()
    }

    /// Returns the names of the callers that get a success again although they name no request.
    pub(crate) fn replaying(&self) -> Vec<String> {
        let replaying = self.callers.iter().filter(|caller| caller.replay_success);
        replaying.map(|caller| caller.name.clone()).collect()
    }

    /// Returns whether plans are paid by card, which needs no network.
    const fn has_cards(&self) -> bool {
        #[cfg(feature = "cards")]
        return self.card.is_some();
        #[cfg(not(feature = "cards"))]
        return false;
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
        assert!(config.networks[0].factories.is_empty() && config.networks[0].further_rpc.is_empty());
        let network = &config.networks[0];
        assert_eq!((network.poll_milliseconds, network.rest_poll_milliseconds), (100, 2_000));
        assert_eq!((network.log_query_blocks, network.transactions_in_flight), (1_000, 64));
        assert_eq!(network.log_query_blocks, 1_000);
        assert_eq!((network.max_gas, network.surcharge_margin_percent), (16_777_216, 50));
        assert_eq!(network.max_fee_percent, 1_000);
        assert_eq!(config.longest_authorization_seconds, 3_600);
    }

    #[test]
    fn numbers_have_a_range() {
        let with = |key: &str, value: u64| Config::parse(&format!("{GOOD}\n{key} = {value}"));
        let cases = [
            ("poll_milliseconds", "network.poll_milliseconds", 20, 60_000, "20 to 60000"),
            ("rest_poll_milliseconds", "network.rest_poll_milliseconds", 20, 60_000, "20 to 60000"),
            ("log_query_blocks", "network.log_query_blocks", 1, 100_000, "1 to 100000"),
            ("transactions_in_flight", "network.transactions_in_flight", 1, 10_000, "1 to 10000"),
            ("sync_send_milliseconds", "network.sync_send_milliseconds", 0, 4_000, "0 to 4000"),
            ("max_fee_percent", "network.max_fee_percent", 200, 100_000, "200 to 100000"),
            ("max_gas", "network.max_gas", 150_000, 1_000_000_000, "150000 to 1000000000"),
            ("surcharge_margin_percent", "network.surcharge_margin_percent", 0, 1_000, "0 to 1000"),
        ];
        for (key, field, least, most, expected) in cases {
            assert!(with(key, least).is_ok() && with(key, most).is_ok(), "{key}");
            for outside in least.checked_sub(1).into_iter().chain([most + 1]) {
                let refused = with(key, outside).unwrap_err();
                assert_eq!(*refused.cause(), ConfigError::Range { field, expected });
                // `key = value` is the last line of the text.
                let line = GOOD.lines().count() + 1;
                let column = key.len() + 4;
                assert!(
                    matches!(refused, ConfigError::At { line: l, column: c, .. } if (l, c) == (line, column)),
                    "{refused}"
                );
            }
        }
        assert_eq!(with("log_query_blocks", 5_000).unwrap().networks[0].log_query_blocks, 5_000);
    }

    #[test]
    fn batching_is_off_until_it_is_asked_for() {
        assert!(Config::parse(GOOD).unwrap().networks[0].batching.is_none());
        let with = |line: &str| Config::parse(&format!("{GOOD}\n[network.batching]\n{line}"));
        let default = with("").unwrap().networks[0].batching.clone().unwrap();
        assert_eq!((default.most_payments, default.block_percent), (100, 50));
        assert_eq!((default.gas_per_payment, default.gather_milliseconds), (129_000, 50));
        let cases = [
            ("most_payments", "network.batching.most_payments", 2_u64, 250, "2 to 250"),
            ("block_percent", "network.batching.block_percent", 1, 100, "1 to 100"),
            ("gas_per_payment", "network.batching.gas_per_payment", 40_000, 1_000_000, "40000 to 1000000"),
            ("gather_milliseconds", "network.batching.gather_milliseconds", 0, 10_000, "0 to 10000"),
        ];
        for (key, field, least, most, expected) in cases {
            assert!(with(&format!("{key} = {least}")).is_ok() && with(&format!("{key} = {most}")).is_ok(), "{key}");
            for outside in least.checked_sub(1).into_iter().chain([most + 1]) {
                let refused = with(&format!("{key} = {outside}")).unwrap_err();
                assert_eq!(*refused.cause(), ConfigError::Range { field, expected });
            }
        }
        assert!(with("most = 3").unwrap_err().to_string().contains("most"));
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
            (format!("ledger_connections = 0\n{GOOD}"), "ledger_connections"),
            (format!("ledger_connections = 1001\n{GOOD}"), "ledger_connections"),
            (GOOD.replace("\"x402.sqlite\"", "7"), "postgres://USER@HOST/DATABASE"),
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
    fn an_error_has_its_line_and_column() {
        for (text, place) in [
            (GOOD.replace("finality = 2", "finalty = 2"), "line 6, column 9: unknown field `finalty`"),
            (GOOD.replace("finality = 2", "finality = \"two\""), "line 6, column 20: network.finality: invalid type"),
            (GOOD.replace("ledger = \"x402.sqlite\"", "ledger = \"\""), "line 2, column 18: ledger: expected a path"),
            (format!("{GOOD}\nmax_gas = 1"), "line 10, column 11: network.max_gas"),
            (GOOD.replace("eip155:84532", "base"), "line 4, column 14: network.id: "),
            (GOOD.replace("finality = 2", "finality"), "line 6, column 17: "),
            ("ledger = \"x\"".to_owned(), "network: expected at least one"),
        ] {
            let error = Config::parse(&text).unwrap_err().to_string();
            assert!(error.starts_with(place), "{place}: {error}");
        }
        // The entry that is wrong is named, and not the first one of its kind.
        let second = GOOD.split_once("[[network]]").unwrap().1;
        let text = format!("{GOOD}[[network]]{}", second.replace("finality = 2", "finality = 2\nmax_gas = 1"));
        let error = Config::parse(&text).unwrap_err().to_string();
        assert!(error.starts_with("line 13, column 11: network.max_gas"), "{error}\n{text}");
    }

    #[test]
    fn a_public_address_needs_callers_and_limits() {
        let caller = "[[caller]]\nname = \"shop\"\ntoken = { env = \"A\" }\n";
        let with = |listen: &str, rest: &str| Config::parse(&format!("listen = \"{listen}\"\n{GOOD}{rest}"));
        for listen in ["127.0.0.1:4020", "[::1]:4020"] {
            assert!(with(listen, "").is_ok(), "{listen}");
        }
        for listen in ["0.0.0.0:4020", "[::]:4020", "192.0.2.1:4020"] {
            for rest in ["", caller, "[limits]\n"] {
                let error = with(listen, rest).unwrap_err().to_string();
                assert!(
                    error.starts_with("line 1, column 10: listen: expected a loopback address"),
                    "{listen}: {error}"
                );
            }
            assert!(with(listen, &format!("{caller}[limits]\n")).is_ok(), "{listen}");
        }
    }

    #[test]
    fn limits_have_ranges_and_origins_one_spelling() {
        let with = |text: &str| Config::parse(&format!("{text}\n{GOOD}").replace("[[network]]", "[[network]]"));
        for key in ["caller_requests_per_second", "caller_burst", "address_requests_per_second", "address_burst"] {
            let limits = |value: u64| Config::parse(&format!("{GOOD}[limits]\n{key} = {value}"));
            assert!(limits(1).is_ok() && limits(1_000_000).is_ok());
            assert!(limits(0).is_err() && limits(1_000_001).is_err());
        }
        let good = with("cors = [\"https://shop.example\", \"http://localhost:3000\"]").unwrap();
        assert_eq!(good.cors[0].as_str(), "https://shop.example");
        for wrong in [
            "*",
            "shop.example",
            "https://shop.example/",
            "https://Shop.example",
            "https://a b",
            "null",
            "ftp://x",
            "https://",
        ] {
            let error = with(&format!("cors = [\"{wrong}\"]")).unwrap_err().to_string();
            assert!(error.contains("cors: expected"), "{wrong}: {error}");
        }
    }

    #[test]
    fn what_was_written_in_place_of_a_secret_is_not_repeated() {
        let key = "0x7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6";
        for wrong in [format!("[\"{key}\"]"), format!("[{{ key = \"{key}\" }}]"), format!("[{{ env = [\"{key}\"] }}]")]
        {
            let text = GOOD.replace("[{ file = \"/run/secrets/key\" }]", &wrong);
            let error = Config::parse(&text).unwrap_err();
            assert!(error.to_string().contains("line 8") && error.to_string().contains("env"), "{error}");
            assert!(!format!("{error} {error:?}").contains("7c852118"), "{error}");
        }
    }

    #[test]
    fn further_endpoints_are_secrets_too() {
        let with = |value: &str| Config::parse(&format!("{GOOD}\nfurther_rpc = {value}"));
        let two = with("[{ env = \"SECOND\" }, { file = \"/run/secrets/third\" }]").unwrap();
        assert_eq!(two.networks[0].further_rpc.len(), 2);
        let refused = with("[\"https://node.example/KEY\"]").unwrap_err().to_string();
        assert!(refused.contains("further_rpc"), "{refused}");
    }

    #[test]
    fn an_absent_secret_says_where_it_should_be() {
        let error = SecretSource::Env("X402_NOT_SET_ANYWHERE".into()).read("network.rpc").unwrap_err();
        assert_eq!(error.to_string(), "network.rpc: environment variable X402_NOT_SET_ANYWHERE is not there or empty");
    }
}
