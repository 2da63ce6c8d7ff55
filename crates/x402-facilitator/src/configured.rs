//! The assembly of a facilitator from its configuration.

#[cfg(feature = "cards")]
mod card;

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::Address;
use x402_evm::rail::Fees;
#[cfg(feature = "attribution")]
use x402_extensions::builder_code::FacilitatorCodes;
use x402_store::requests::Requests;
use x402_types::{Asset, Assets, ChainId, Fault};

use crate::config::{Config, ConfigError, LOG_QUERY_RANGE, NetworkConfig, NvmConfig};
use crate::credits::HttpCredits;
#[cfg(feature = "cards")]
use crate::dialects::CardDesk;
#[cfg(feature = "discovery")]
use crate::discovery::CatalogIndex;
use crate::engine::{Engine, Patience};
use crate::heads::{HeadNews, HeadPollers, Polling};
use crate::mechanisms::{Builder, Evm, NetworkAssets, Nvm};
use crate::process::{Node, node, owner};
use crate::session_keys::{ByHash, KeptKeys};
use crate::stores::Stores;
use crate::webhooks::Webhooks;

/// The reason why a facilitator cannot start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration is unusable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A node or the ledger failed, or the parts do not fit together.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The database of the ledger cannot be used.
    #[cfg(feature = "postgres")]
    #[error("ledger: {0}")]
    Ledger(#[from] x402_store::postgres::PostgresOpenError),
}

/// A facilitator that was assembled from a configuration.
#[derive(Debug)]
pub struct Configured {
    /// The engine, not yet started.
    pub engine: Arc<Engine>,
    /// The tasks that poll the heads of the chains.
    pub heads: HeadPollers,
    /// The tokens of the networks, for [`Reload::with_assets`](crate::reload::Reload::with_assets).
    pub assets: ServedAssets,
    /// The store of requests, which `/verify` fills and `/settle` reads.
    pub requests: Arc<dyn Requests>,
    /// The store of the session keys that payments name by their hash, if one is configured.
    pub session_keys: Option<KeptKeys>,
    /// The catalog of what was settled, if one is configured: [`routes`](crate::discovery::routes) answers from it.
    #[cfg(feature = "discovery")]
    pub catalog: Option<Arc<dyn x402_store::catalog::Catalog>>,
    /// The desk of cards and delegations, if plans are paid by card.
    #[cfg(feature = "cards")]
    pub cards: Option<CardDesk>,
}

/// The tokens of each network that is served, which a reload may replace.
#[derive(Debug, Default)]
pub struct ServedAssets(pub(crate) Vec<NetworkAssets>);

/// Builds the facilitator that a configuration describes. It is not started yet.
///
/// # Errors
/// The configuration cannot be used, or a file or node it names.
pub async fn configured(config: &Config) -> Result<Configured, StartError> {
    let stores = Stores::open(config).await?;
    let Stores {
        ledger,
        requests,
        session_keys: kept,
        database,
        answered,
        budgets,
        ended,
        unfinished,
        marks,
        mark_file,
        ..
    } = stores;
    let patience =
        Patience { lease_seconds: config.lease_seconds, wait: Duration::from_secs(config.settle_wait_seconds) };
    let replaying = config.replaying();
    let mut builder = Builder::new(owner(), ledger)
        .with_engine(move |engine| engine.with_patience(patience).with_database(database).with_replaying(replaying));
    if config.admin.is_some() {
        builder = builder.with_gas_metric();
    }
    let (keep, pause_file) = (config.keep_seconds, config.pause_file.clone());
    builder = builder.with_engine(move |engine| {
        let engine = engine.with_answered(answered).with_kept(keep).with_mark(marks, mark_file);
        pause_file.into_iter().fold(engine, Engine::with_pause_file)
    });
    #[cfg(feature = "discovery")]
    if let Some(catalog) = stores.catalog.clone() {
        builder = builder.with_engine(|engine| engine.with_extension(Arc::new(CatalogIndex::new(catalog))));
    }
    if let Some(kept) = &kept {
        builder = builder.with_session_keys(Arc::new(ByHash(Arc::clone(kept))));
    }
    // Without a target nothing is noted: no task would take it.
    ended.set_noting(!config.webhooks.is_empty()).await?;
    if !config.webhooks.is_empty() {
        let webhooks = Webhooks::new(ended, &config.webhooks)?;
        builder = builder.with_engine(move |engine| engine.with_webhooks(webhooks));
    }
    builder = builder.with_budget_store(budgets);
    builder = builder.with_longest_authorization(config.longest_authorization_seconds);
    #[cfg(feature = "attribution")]
    if let Some(codes) = &config.builder_code {
        let [wallet, service] = codes.codes()?;
        let codes = wallet.into_iter().fold(FacilitatorCodes::new(), FacilitatorCodes::with_wallet);
        let codes = Arc::new(service.into_iter().fold(codes, FacilitatorCodes::with_service));
        let extension = Arc::clone(&codes);
        builder = builder.with_engine(|engine| engine.with_extension(extension));
        builder = builder.with_call_suffix(move |claim| codes.suffix(claim));
    }
    for each in &config.networks {
        let served = NAMESPACES.iter().find(|served| served.name == each.id.namespace());
        let served = served.ok_or(ConfigError::Range { field: "network.id", expected: SERVED_NAMESPACES })?;
        builder = (served.add)(builder, each)?;
    }
    #[cfg(feature = "cards")]
    let cards = match &config.card {
        Some(card) => {
            let expected = "a file, beside [card]: several processes cannot share the counters of delegations yet";
            let store = stores.cards.ok_or(ConfigError::Range { field: "ledger", expected })?;
            let (with_cards, desk) = builder.with_cards(card::payments(card, store)?)?;
            builder = with_cards;
            Some(desk)
        }
        None => None,
    };
    let session_keys = kept.map(|store| KeptKeys { store, registrars: builder.registrars().to_vec() });
    let assets = ServedAssets(builder.take_assets());
    let (engine, heads) = builder.build()?;
    for lane in unfinished {
        if !engine.settlement().lanes().any(|served| *served == lane) {
            tracing::warn!(%lane, "payments are not finished, and the configuration has no signer for them");
        }
    }
    Ok(Configured {
        engine,
        heads,
        assets,
        requests,
        session_keys,
        #[cfg(feature = "discovery")]
        catalog: stores.catalog,
        #[cfg(feature = "cards")]
        cards,
    })
}

/// The networks of one namespace.
pub(crate) struct Namespace {
    /// The namespace's name in CAIP-2.
    pub(crate) name: &'static str,
    /// Adds a network of this namespace with its configuration.
    add: fn(Builder, &NetworkConfig) -> Result<Builder, StartError>,
}

/// The namespaces that are served, one line each. [`NetworkConfig`] contains the parameters of their networks.
pub(crate) const NAMESPACES: &[Namespace] = &[Namespace { name: "eip155", add: eip155 }];
/// The same list for the configuration's error.
pub(crate) const SERVED_NAMESPACES: &str = "an `eip155` network";

fn eip155(builder: Builder, config: &NetworkConfig) -> Result<Builder, StartError> {
    let batching = config.batching.iter();
    let builder = batching.fold(builder, |it, each| it.with_batching(config.id, each.limits(), each.gather()));
    let builder = builder.with_evm(network(config)?)?.with_most_in_flight(config.id, config.transactions_in_flight);
    let builder = builder.with_budgets(config.id, &config.budgets);
    let builder = match config.low_balance {
        Some(mark) => {
            let (network, wei) = (config.id, u128::try_from(mark.value()).unwrap_or(u128::MAX));
            builder.with_engine(move |engine| engine.with_low_balance(network, wei))
        }
        None => builder,
    };
    Ok(match &config.nvm {
        Some(nvm) => builder.with_nvm(plans(config.id, nvm)?)?,
        None => builder,
    })
}

pub(crate) fn network(config: &NetworkConfig) -> Result<Evm, ConfigError> {
    let range = |field, expected| ConfigError::Range { field, expected };
    let mut signers = Vec::new();
    for source in &config.signers {
        // The parser's message may quote a bad key, so it is not repeated.
        let key = source.read("network.signers")?;
        signers.push(key.parse().map_err(|_| range("network.signers", "32 bytes in hex"))?);
    }
    let assets = assets(config)?;
    let factory = |text| {
        Address::try_from(text).map_err(|_| range("network.factories", "one case, or the right EIP-55 checksum"))
    };
    let factories = config.factories.iter().map(|text| factory(*text)).collect::<Result<_, _>>()?;
    let mut nodes = vec![node("network.rpc", &config.rpc.read("network.rpc")?)?];
    for further in &config.further_rpc {
        nodes.push(node("network.further_rpc", &further.read("network.further_rpc")?)?);
    }
    Ok(Evm {
        clients: nodes.iter().map(|node| node.client.clone()).collect(),
        news: news(&nodes, config.id),
        network: config.id,
        finality: config.finality,
        polling: Polling {
            busy: Duration::from_millis(config.poll_milliseconds),
            rest: Duration::from_millis(config.rest_poll_milliseconds),
        },
        log_query_blocks: NonZeroU64::new(config.log_query_blocks)
            .ok_or_else(|| range("network.log_query_blocks", LOG_QUERY_RANGE))?,
        sync_sending: Duration::from_millis(config.sync_send_milliseconds),
        fees: Fees::default()
            .with_cap(u128::from(config.max_fee_per_gas))
            .with_relative_cap(config.max_fee_percent)
            .with_gas_cap(config.max_gas)
            .with_surcharge_margin(config.surcharge_margin_percent),
        signers,
        assets,
        factories,
        permit2: config.permit2,
    })
}

/// Returns the tokens that a network serves by its configuration.
pub(crate) fn assets(config: &NetworkConfig) -> Result<Assets, ConfigError> {
    let mut assets = Assets::none();
    if config.default_assets {
        Assets::default().iter().filter(|asset| asset.network == config.id).for_each(|asset| assets.add(asset.clone()));
    }
    for asset in &config.assets {
        let (field, expected) = ("network.asset.address", "one case, or the right EIP-55 checksum");
        let address = Address::try_from(asset.address).map_err(|_| ConfigError::Range { field, expected })?;
        assets.add(Asset::new(config.id, address, &asset.symbol, &asset.name, &asset.version, asset.decimals));
    }
    Ok(assets)
}

/// Returns the notices of new heads of the first node that sends them, if there is one.
fn news(nodes: &[Node], network: ChainId) -> Option<Arc<HeadNews>> {
    #[cfg(feature = "ws")]
    if let Some(node) = nodes.iter().find_map(|node| node.ws.clone()) {
        return Some(HeadNews::heard_by(|news| Box::pin(node.listen(news, network))));
    }
    let _ = (nodes, network);
    None
}

fn plans(network: ChainId, config: &NvmConfig) -> Result<Nvm, ConfigError> {
    let field = "network.nvm.session_signer";
    let key = config.session_signer.read(field)?;
    let session_signer = key.parse().map_err(|_| ConfigError::Range { field, expected: "32 bytes in hex" })?;
    let credits = config.credits.as_deref().map(HttpCredits::new).transpose()?;
    Ok(Nvm { network, session_signer, plans: config.plans()?, credits, policy: config.policy() })
}
