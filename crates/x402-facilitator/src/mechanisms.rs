//! The only place that names mechanisms, rails, RPC and ledger together. A new scheme is one line here.

mod nvm;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::Address;
use alloy_rpc_client::RpcClient;
use alloy_transport_http::Http;
use x402_erc4337::nvm::{NoSessionKeys, ReadSessionKeys};
use x402_evm::chain::{ReadChain, RpcChain, repeating};
use x402_evm::exact::{ExactMechanism, Policy};
use x402_evm::key::Key;
use x402_evm::rail::{EoaRail, Fees};
use x402_evm::token::Tokens;
use x402_evm::wallet::Signers;
use x402_facilitator_core::{LaneId, Ledger, OwnerId, Rail, Settlement};
use x402_store::requests::Requests;
use x402_store::sqlite::{Database, SealKey, SqliteLedger, SqliteRequests, SqliteSessionKeys};
use x402_types::{Asset, Assets, ChainId, Fault, Members};

use self::nvm::Place;
use crate::config::{Config, ConfigError, LOG_QUERY_RANGE, NetworkConfig, NvmConfig};
use crate::credits::HttpCredits;
use crate::engine::{Engine, addresses};
use crate::heads::{HeadPoller, HeadPollers, Polling};
use crate::routes::KeptKeys;
use crate::session_keys::{ByHash, Registrar, SessionKeys};

pub use nvm::Nvm;

/// Why a facilitator cannot start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A node, the ledger, or the parts do not fit together.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// What serves one EVM network.
pub struct Evm {
    /// The node.
    pub client: RpcClient,
    /// The network.
    pub network: ChainId,
    /// Blocks behind the head at which a block is final.
    pub finality: u64,
    /// How often the head is asked for.
    pub polling: Polling,
    /// How many blocks one query for logs covers at most.
    pub log_query_blocks: NonZeroU64,
    /// What a transaction may cost.
    pub fees: Fees,
    /// The accounts that send.
    pub signers: Vec<Key>,
    /// The tokens that are served.
    pub assets: Assets,
    /// The factories that may deploy a payer's smart account.
    pub factories: Vec<Address>,
}

impl std::fmt::Debug for Evm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Evm").field("network", &self.network).field("finality", &self.finality).finish_non_exhaustive()
    }
}

/// Puts a facilitator together.
#[derive(Default)]
pub struct Builder {
    settlement: Option<Settlement>,
    ledger: Option<Arc<dyn Ledger>>,
    keys: Option<Arc<dyn ReadSessionKeys>>,
    signers: BTreeMap<ChainId, Vec<String>>,
    places: BTreeMap<ChainId, Place>,
    registrars: Vec<Registrar>,
    pollers: Vec<HeadPoller>,
    assets: Vec<Asset>,
    replaying: BTreeSet<String>,
    longest: Option<u64>,
    database: Option<Database>,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("settlement", &self.settlement).finish_non_exhaustive()
    }
}

impl Builder {
    /// Begins with a ledger.
    #[must_use]
    pub fn new(owner: OwnerId, ledger: Arc<dyn Ledger>) -> Self {
        let settlement = Settlement::new(owner, Arc::clone(&ledger));
        Self { settlement: Some(settlement), ledger: Some(ledger), ..Self::default() }
    }

    /// With the session keys that payments may name by their hash; none unless told.
    #[must_use]
    pub fn session_keys(mut self, keys: Arc<dyn ReadSessionKeys>) -> Self {
        self.keys = Some(keys);
        self
    }

    /// Takes authorizations that last so many seconds at most, on the networks that are added from here on; an hour
    /// unless told.
    #[must_use]
    pub fn longest_authorization(mut self, seconds: u64) -> Self {
        self.longest = Some(seconds);
        self
    }

    /// Serves an EVM network.
    ///
    /// # Errors
    /// The network is served already or is none of `eip155`.
    pub fn evm(mut self, evm: Evm) -> Result<Self, Fault> {
        // What the node refuses for a moment is asked again before a caller hears of it.
        let evm = Evm { client: repeating(&evm.client), ..evm };
        let chain = RpcChain::new(evm.client.clone(), evm.network, evm.finality);
        let chain = chain.fresh_for(evm.polling.fresh()).log_query_blocks(evm.log_query_blocks);
        let chain = Arc::new(chain);
        let mut settlement = self.settlement.take().ok_or_else(|| Fault::broken("a builder is used once"))?;
        let mut lanes: Vec<LaneId> = Vec::new();
        let tokens = Tokens::new(&evm.assets).on(evm.network);
        let sender = evm.signers.first().map(Key::address).unwrap_or_default();
        let trials = tokens.iter().map(|token| (token.clone(), sender)).collect();
        for signer in evm.signers {
            let rail = EoaRail::new(Arc::clone(&chain), signer)?.with_fees(evm.fees);
            self.signers.entry(evm.network).or_default().push(rail.address().to_string());
            lanes.extend(rail.lanes());
            settlement = settlement.with_rail(Arc::new(rail))?;
        }
        let accounts = evm.factories.into_iter().fold(Signers::any(), Signers::with_factory);
        let mut policy = Policy::default().signers(accounts);
        policy.longest = self.longest.unwrap_or(policy.longest);
        let mut exact = ExactMechanism::new(Arc::clone(&chain), tokens, lanes.clone()).with_policy(policy);
        if let Some(ledger) = &self.ledger {
            exact = exact.with_ledger(Arc::clone(ledger));
        }
        self.settlement = Some(settlement.with_mechanism(Arc::new(exact))?);
        let log_query_blocks = evm.log_query_blocks;
        let place = Place { chain: Arc::clone(&chain), client: evm.client, log_query_blocks, lanes };
        self.places.insert(evm.network, place);
        self.pollers.push(HeadPoller { chain, polling: evm.polling, bundlers: Vec::new(), trials });
        self.assets.extend(evm.assets.iter().filter(|asset| asset.network == evm.network).cloned());
        Ok(self)
    }

    /// Serves plans on a network that is served already.
    ///
    /// # Errors
    /// The network is not served yet, or serves plans already.
    pub fn nvm(mut self, nvm: Nvm) -> Result<Self, Fault> {
        let network = nvm.network;
        let place = self.places.get(&network);
        let place = place.ok_or_else(|| Fault::broken(format_args!("{network} has no account that pays the gas")))?;
        let used = || Fault::broken("a builder is used once");
        let settlement = self.settlement.take().ok_or_else(used)?;
        let ledger = Arc::clone(self.ledger.as_ref().ok_or_else(used)?);
        let keys = self.keys.clone().unwrap_or_else(|| Arc::new(NoSessionKeys));
        self.registrars.extend(Registrar::new(Arc::clone(&place.chain) as _, nvm.session_signer.address()));
        let mechanism = nvm.mechanism(place, ledger, keys)?;
        let bundlers = place.lanes.iter().filter_map(|lane| lane.account().parse::<Address>().ok());
        if let Some(poller) = self.pollers.iter_mut().find(|poller| poller.chain.network() == network) {
            poller.bundlers.extend(bundlers);
        }
        self.settlement = Some(settlement.with_mechanism(Arc::new(mechanism))?);
        Ok(self)
    }

    /// With callers that are told a success again although they name no request, see [`Engine::with_replaying`].
    #[must_use]
    pub fn replaying(mut self, callers: impl IntoIterator<Item = String>) -> Self {
        self.replaying.extend(callers);
        self
    }

    /// With the file that holds the ledger, see [`Engine::with_database`].
    #[must_use]
    pub fn database(mut self, database: Database) -> Self {
        self.database = Some(database);
        self
    }

    /// Who checks session keys that are to be registered: one for each network that serves plans.
    #[must_use]
    pub fn registrars(&self) -> &[Registrar] {
        &self.registrars
    }

    /// The engine, not yet started, and the tasks that tell it of new blocks.
    ///
    /// # Errors
    /// The parts do not fit together.
    pub fn build(
        mut self,
        ledger: Arc<dyn Ledger>,
        patience: (u64, Duration),
    ) -> Result<(Arc<Engine>, HeadPollers), Fault> {
        let settlement = self.settlement.take().ok_or_else(|| Fault::broken("a builder is used once"))?;
        let mut signers = Members::new();
        for (network, list) in &self.signers {
            signers.insert(network.as_str(), addresses(list)?);
        }
        let mut assets = Assets::none();
        self.assets.into_iter().for_each(|asset| assets.add(asset));
        let engine = Engine::new(settlement, ledger).with_signers(signers).with_assets(assets);
        let engine = engine.with_patience(patience.0, patience.1).with_replaying(self.replaying);
        let engine = self.database.into_iter().fold(engine, Engine::with_database);
        Ok((Arc::new(engine), HeadPollers(self.pollers)))
    }
}

/// A client for a node's URL. Answers take 5 s at most.
fn node(url: &str) -> Result<RpcClient, ConfigError> {
    let range = ConfigError::Range { field: "network.rpc", expected: "an http or https URL" };
    let url = reqwest::Url::parse(url).map_err(|_| range.clone())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(range);
    }
    let client = http_client(Duration::from_secs(5))?;
    Ok(RpcClient::new(Http::with_client(client, url), false))
}

/// A client that waits so long for an answer and follows it nowhere.
pub(crate) fn http_client(timeout: Duration) -> Result<reqwest::Client, ConfigError> {
    // Fails where another part of the process was first: then that one is used.
    drop(rustls::crypto::ring::default_provider().install_default());
    let builder = reqwest::Client::builder().timeout(timeout).redirect(reqwest::redirect::Policy::none());
    builder.build().map_err(|error| ConfigError::Malformed(error.to_string()))
}

fn network(config: &NetworkConfig) -> Result<Evm, ConfigError> {
    let range = |field, expected| ConfigError::Range { field, expected };
    let mut signers = Vec::new();
    for source in &config.signers {
        // What a parser says of a bad key is not repeated: it may quote it.
        let key = source.read("network.signers")?;
        signers.push(key.parse().map_err(|_| range("network.signers", "32 bytes in hex"))?);
    }
    let mut assets = Assets::none();
    if config.default_assets {
        Assets::default().iter().filter(|asset| asset.network == config.id).for_each(|asset| assets.add(asset.clone()));
    }
    for asset in &config.assets {
        let address = Address::try_from(asset.address)
            .map_err(|_| range("network.asset.address", "one case, or the right EIP-55 checksum"))?;
        assets.add(Asset::new(config.id, address, &asset.symbol, &asset.name, &asset.version, asset.decimals));
    }
    let factory = |text| {
        Address::try_from(text).map_err(|_| range("network.factories", "one case, or the right EIP-55 checksum"))
    };
    let factories = config.factories.iter().map(|text| factory(*text)).collect::<Result<_, _>>()?;
    Ok(Evm {
        client: node(&config.rpc.read("network.rpc")?)?,
        network: config.id,
        finality: config.finality,
        polling: Polling {
            busy: Duration::from_millis(config.poll_milliseconds),
            rest: Duration::from_millis(config.rest_poll_milliseconds),
        },
        log_query_blocks: NonZeroU64::new(config.log_query_blocks)
            .ok_or_else(|| range("network.log_query_blocks", LOG_QUERY_RANGE))?,
        fees: Fees::default().cap(u128::from(config.max_fee_per_gas)),
        signers,
        assets,
        factories,
    })
}

fn plans(network: ChainId, config: &NvmConfig) -> Result<Nvm, ConfigError> {
    let field = "network.nvm.session_signer";
    let key = config.session_signer.read(field)?;
    let session_signer = key.parse().map_err(|_| ConfigError::Range { field, expected: "32 bytes in hex" })?;
    let credits = config.credits.as_deref().map(HttpCredits::new).transpose()?;
    Ok(Nvm { network, session_signer, plans: config.plans()?, credits, policy: config.policy() })
}

/// A name for this start of this process.
#[must_use]
pub fn owner() -> OwnerId {
    use std::hash::{BuildHasher, Hasher};
    // `RandomState` is seeded by the operating system; the pid is for people who read the ledger.
    let random = std::hash::RandomState::new().build_hasher().finish();
    format!("{}-{random:016x}", std::process::id()).into()
}

/// A facilitator as a configuration describes it.
#[derive(Debug)]
pub struct Configured {
    /// The engine, not yet started.
    pub engine: Arc<Engine>,
    /// The tasks that tell it of new blocks.
    pub heads: HeadPollers,
    /// What `/verify` remembers for `/settle`.
    pub requests: Arc<dyn Requests>,
    /// Session keys that payments name by their hash, where they are kept.
    pub session_keys: Option<KeptKeys>,
}

/// The facilitator that a configuration describes, not yet started.
///
/// # Errors
/// The configuration cannot be used, or a file or node it names.
pub async fn configured(config: &Config) -> Result<Configured, StartError> {
    let database = Database::open_alone(&config.ledger)?;
    let store = SqliteLedger::new(database.clone());
    store.take_over().await?;
    let kept: Option<Arc<dyn SessionKeys>> = match &config.session_keys {
        None => None,
        Some(keys) => {
            let field = "session_keys.seal";
            let range = || ConfigError::Range { field, expected: "32 bytes in hex" };
            let seal = SealKey::from_hex(&keys.seal.read(field)?).map_err(|_| range())?;
            Some(Arc::new(SqliteSessionKeys::new(database.clone(), &seal).map_err(|_| range())?))
        }
    };
    let ledger: Arc<dyn Ledger> = Arc::new(store.clone());
    let mut builder = Builder::new(owner(), Arc::clone(&ledger));
    builder = builder.database(database.clone());
    let replaying = config.callers.iter().filter(|caller| caller.replay_success);
    builder = builder.replaying(replaying.map(|caller| caller.name.clone()));
    if let Some(kept) = &kept {
        builder = builder.session_keys(Arc::new(ByHash(Arc::clone(kept))));
    }
    builder = builder.longest_authorization(config.longest_authorization_seconds);
    for each in &config.networks {
        builder = builder.evm(network(each)?)?;
        if let Some(nvm) = &each.nvm {
            builder = builder.nvm(plans(each.id, nvm)?)?;
        }
    }
    let wait = Duration::from_secs(config.settle_wait_seconds);
    let session_keys = kept.map(|store| KeptKeys { store, registrars: builder.registrars().to_vec() });
    let (engine, heads) = builder.build(ledger, (config.lease_seconds, wait))?;
    for lane in store.open_lanes().await? {
        if !engine.settlement().lanes().any(|served| *served == lane) {
            tracing::warn!(%lane, "payments are not finished, and the configuration has no signer for them");
        }
    }
    let requests = Arc::new(SqliteRequests::new(database));
    Ok(Configured { engine, heads, requests, session_keys })
}

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;
    use x402_devchain::{BlockTime, DevChain};
    use x402_erc4337::FindUserOps as _;
    use x402_facilitator_core::MemoryLedger;

    use super::*;

    /// For payments of `exact` it is `tests/log_query.rs` that says so.
    #[tokio::test]
    async fn operations_are_looked_up_in_as_many_blocks_at_once_as_is_configured() {
        let chain = DevChain::builder().block_time(BlockTime::Manual).build().unwrap();
        chain.mine(5);
        let network = ChainId::eip155(84532);
        let evm = Evm {
            client: chain.client(),
            network,
            finality: 0,
            polling: Polling::default(),
            log_query_blocks: NonZeroU64::new(2).unwrap(),
            fees: Fees::default(),
            signers: Vec::new(),
            assets: Assets::none(),
            factories: Vec::new(),
        };
        let builder = Builder::new(owner(), Arc::new(MemoryLedger::new(crate::clock::now))).evm(evm).unwrap();
        let operations = builder.places[&network].operations(84532);
        assert_eq!(operations.find_user_ops(&[B256::ZERO], 0..=5).await, Ok(vec![None]));
        assert_eq!(chain.calls().of("eth_getLogs"), 3);
    }

    #[tokio::test]
    async fn a_key_in_the_url_of_a_node_stays_out_of_faults() {
        let client = node("http://127.0.0.1:9/v2/VERYSECRETKEY").unwrap();
        let fault = RpcChain::new(client, ChainId::eip155(1), 0).check_network().await.unwrap_err();
        assert!(!fault.to_string().contains("VERYSECRETKEY"), "{fault}");
    }
}
