//! The schemes that this facilitator serves, each with its rail: a new scheme is one line here.

#[cfg(feature = "cards")]
mod card;
mod needs;
mod nvm;
mod replaceable;
mod suffixed;
mod trials;

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::Address;
use alloy_rpc_client::RpcClient;
use x402_erc4337::nvm::{NoSessionKeys, ReadSessionKeys};
use x402_evm::batching::Batching;
use x402_evm::chain::{LOG_QUERY_BLOCKS, ReadChain, ReadFunds, RpcChain, endpoints, repeating};
use x402_evm::exact::{ExactMechanism, ExactPolicy};
use x402_evm::key::Key;
use x402_evm::permit2::sponsored::{Eip2612GasSponsoring, Erc20ApprovalGasSponsoring};
use x402_evm::permit2::{PermitMechanism, PermitScheme};
use x402_evm::rail::{EoaRail, Fees};
use x402_evm::token::Tokens;
use x402_evm::wallet::Signers;
use x402_facilitator_core::{LaneId, Ledger, Mechanism, OwnerId, Rail, Settlement};
use x402_store::budgets::Budgets;
use x402_types::extension::PaymentIdentifier;
use x402_types::{Asset, Assets, ChainId, Claim, Extension, Fault, Members, RawJson};

pub(crate) use self::needs::gas_of_a_payment;
use self::nvm::Place;
pub(crate) use self::replaceable::NetworkAssets;
use self::replaceable::Replaceable;
use self::suffixed::Suffixed;
pub(crate) use self::trials::TokenTrial;
use crate::budgets::{Corrections, NetworkBudgets, Quote, corrections};
use crate::config::BudgetConfig;
#[cfg(feature = "cards")]
use crate::dialects::CardDesk;
use crate::engine::{Engine, ReadBalance};
use crate::heads::{HeadNews, HeadPoller, HeadPollers, Polling};
use crate::metrics::gas::{GasReader, gas};
use crate::metrics::{CountedLedger, Metrics, Watch, counted};
use crate::session_keys::Registrar;

#[cfg(feature = "cards")]
pub use card::CardPayments;
pub use nvm::Nvm;
pub use replaceable::AssetsKept;
pub use suffixed::CallSuffix;

/// The parts that serve one EVM network.
pub struct Evm {
    /// The clients of the network's endpoints, in the order of preference.
    pub clients: Vec<RpcClient>,
    /// The notices of new heads that a node sends by itself; without them the head is polled.
    pub news: Option<Arc<HeadNews>>,
    /// The network that is served.
    pub network: ChainId,
    /// The number of blocks behind the head at which a block is final.
    pub finality: u64,
    /// The pace at which the head is polled.
    pub polling: Polling,
    /// The most blocks that one query for logs covers.
    pub log_query_blocks: NonZeroU64,
    /// The time for which the node should wait for the block of a transaction; 0 sends transactions the usual way.
    pub sync_sending: Duration,
    /// The limits of a transaction's cost.
    pub fees: Fees,
    /// The accounts that send transactions.
    pub signers: Vec<Key>,
    /// The tokens that are served.
    pub assets: Assets,
    /// The factories that may deploy a payer's smart account.
    pub factories: Vec<Address>,
    /// Whether payments by Permit2 are served, of `exact` and `upto`: the network needs Permit2 and the proxies.
    pub permit2: bool,
}

impl Evm {
    /// Makes the parts of a network with the usual pace, limits of cost and tokens, with Permit2, and without factories.
    ///
    /// `finality` is the number of blocks behind the head at which a block is final.
    #[must_use]
    pub fn new(client: RpcClient, network: ChainId, finality: u64, signers: Vec<Key>) -> Self {
        Self {
            clients: vec![client],
            news: None,
            network,
            finality,
            polling: Polling::default(),
            log_query_blocks: LOG_QUERY_BLOCKS,
            sync_sending: Duration::ZERO,
            fees: Fees::default(),
            signers,
            assets: Assets::default(),
            factories: Vec::new(),
            permit2: true,
        }
    }
}

impl std::fmt::Debug for Evm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Evm").field("network", &self.network).field("finality", &self.finality).finish_non_exhaustive()
    }
}

/// The longest time for which a verification waits for others: its caller waits as well.
const LONGEST_GATHERING: Duration = Duration::from_millis(250);

/// A use of the engine's setters.
type SetEngine = Box<dyn FnOnce(Engine) -> Engine + Send>;

/// The builder of a facilitator.
pub struct Builder {
    settlement: Settlement,
    ledger: Arc<dyn Ledger>,
    keys: Arc<dyn ReadSessionKeys>,
    signers: BTreeMap<ChainId, Vec<String>>,
    places: BTreeMap<ChainId, Place>,
    registrars: Vec<Registrar>,
    pollers: Vec<HeadPoller>,
    assets: Vec<Asset>,
    replaceable: Vec<NetworkAssets>,
    longest: Option<u64>,
    /// Whether a network serves payments by Permit2.
    permit2: bool,
    engine: Vec<SetEngine>,
    metrics: Metrics,
    gas: GasReader,
    counts_gas: bool,
    balances: Vec<(LaneId, ReadBalance)>,
    batching: BTreeMap<ChainId, (Batching, Duration)>,
    suffix: Option<Arc<CallSuffix>>,
    budgets: BTreeMap<ChainId, Vec<BudgetConfig>>,
    quotes: BTreeMap<ChainId, Quote>,
    budget_store: Option<Arc<dyn Budgets>>,
    corrections: Corrections,
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
        let metrics = Metrics::default();
        let ledger: Arc<dyn Ledger> = Arc::new(CountedLedger::new(ledger, metrics.clone()));
        let (gas_reads, gas) = gas(&metrics);
        let (queue, corrections) = corrections();
        let gas = gas.with_corrections(queue.clone());
        let watch = Arc::new(Watch::new(metrics.clone(), gas_reads, queue));
        Self {
            settlement: Settlement::new(owner, Arc::clone(&ledger)).with_observer(watch),
            ledger,
            keys: Arc::new(NoSessionKeys),
            signers: BTreeMap::new(),
            places: BTreeMap::new(),
            registrars: Vec::new(),
            pollers: Vec::new(),
            assets: Vec::new(),
            replaceable: Vec::new(),
            longest: None,
            permit2: false,
            engine: Vec::new(),
            metrics,
            gas,
            counts_gas: false,
            balances: Vec::new(),
            batching: BTreeMap::new(),
            suffix: None,
            budgets: BTreeMap::new(),
            quotes: BTreeMap::new(),
            budget_store: None,
            corrections,
        }
    }

    /// Sets the store of session keys that payments may name by their hash; by default there is none.
    #[must_use]
    pub fn with_session_keys(mut self, keys: Arc<dyn ReadSessionKeys>) -> Self {
        self.keys = keys;
        self
    }

    /// Reads the receipt of each transaction that settled, for the metric of the gas that was spent: one more call of the
    /// node a transaction, after its payments are answered. By default none is read.
    #[must_use]
    pub const fn with_gas_metric(mut self) -> Self {
        self.counts_gas = true;
        self
    }

    /// Sets the longest validity of authorizations, in seconds, on the networks that are added from here on; an hour by
    /// default.
    #[must_use]
    pub const fn with_longest_authorization(mut self, seconds: u64) -> Self {
        self.longest = Some(seconds);
        self
    }

    /// Lets payments share transactions on a network that is added after this: a payment waits up to `gather` for others,
    /// see [`EoaRail::with_batching`].
    #[must_use]
    pub fn with_batching(mut self, network: ChainId, batching: Batching, gather: Duration) -> Self {
        self.batching.insert(network, (batching, gather));
        self
    }

    /// Sets the store that counts payments, for the budgets of all networks.
    #[must_use]
    pub fn with_budget_store(mut self, store: Arc<dyn Budgets>) -> Self {
        self.budget_store = Some(store);
        self
    }

    /// Sets the most that payments of a network may move or cost. It needs a
    /// [store](Self::with_budget_store).
    #[must_use]
    pub fn with_budgets(mut self, network: ChainId, budgets: &[BudgetConfig]) -> Self {
        if !budgets.is_empty() {
            // The receipts correct what was reserved for gas.
            self.counts_gas |= budgets.iter().any(|budget| budget.asset.is_none());
            self.budgets.insert(network, budgets.to_vec());
        }
        self
    }

    /// Sets the suffix of the calls that settle payments, on the networks and for the plans that are added after this.
    #[must_use]
    pub fn with_call_suffix(mut self, suffix: impl Fn(&Claim) -> Vec<u8> + Send + Sync + 'static) -> Self {
        self.suffix = Some(Arc::new(suffix));
        self
    }

    /// Adds a mechanism whose transactions may have this much gas.
    fn add(mut self, mechanism: Arc<dyn Mechanism>, gas_cap: u64) -> Result<Self, Fault> {
        let mechanism = match &self.suffix {
            Some(suffix) => Arc::new(Suffixed::new(mechanism, Arc::clone(suffix), gas_cap)),
            None => mechanism,
        };
        self.settlement = self.settlement.with_mechanism(mechanism)?;
        Ok(self)
    }

    /// Adds an EVM network.
    ///
    /// # Errors
    /// The network is served already, or is not in the `eip155` namespace.
    pub fn with_evm(mut self, evm: Evm) -> Result<Self, Fault> {
        // A call that the node refuses temporarily is repeated before a caller learns of it.
        let count = |client| counted(client, evm.network, self.metrics.clone());
        let clients: Vec<RpcClient> = evm.clients.iter().map(count).collect();
        let client = match &*clients {
            [client] => repeating(client),
            clients => repeating(&endpoints(clients)),
        };
        self.gas.add(evm.network, client.clone());
        let chain = RpcChain::new(client.clone(), evm.network, evm.finality).with_compared(clients);
        let chain = chain.with_freshness(evm.polling.fresh()).with_log_query_blocks(evm.log_query_blocks);
        let chain = chain.with_sync_sending(evm.sync_sending);
        // Where payments wait for others to share a transaction, their simulations share a call.
        let gather = self.batching.get(&evm.network).map(|(_, gather)| (*gather).min(LONGEST_GATHERING));
        let chain = Arc::new(gather.into_iter().fold(chain, RpcChain::with_gathering));
        let batching = self.batching.get(&evm.network).map(|(batching, _)| *batching);
        let mut lanes: Vec<LaneId> = Vec::new();
        let trials = TokenTrial::all(&evm);
        let (network, permit2) = (evm.network, evm.permit2);
        let sender = evm.signers.first().map(Key::address).unwrap_or_default();
        for signer in evm.signers {
            let (account, funds) = (signer.address(), Arc::clone(&chain));
            let rail = EoaRail::new(Arc::clone(&chain), signer)?.with_fees(evm.fees);
            let rail = batching.into_iter().fold(rail, EoaRail::with_batching);
            self.signers.entry(evm.network).or_default().push(rail.address().to_string());
            let balance = move || funds.funds(account).map(|funds| funds.balance.try_into().unwrap_or(u128::MAX));
            self.balances.push((rail.lane().clone(), Box::new(balance)));
            lanes.extend(rail.lanes());
            let rail = Arc::new(rail);
            let quoting = Arc::clone(&rail);
            self.quotes.entry(evm.network).or_insert_with(|| Box::new(move |parcels| quoting.quote(parcels)));
            self.settlement = self.settlement.with_rail(rail)?;
        }
        let accounts = evm.factories.into_iter().fold(Signers::any(), Signers::with_factory);
        let mut policy = ExactPolicy::default().with_signers(accounts);
        policy.longest = self.longest.unwrap_or(policy.longest);
        // Each is made again where other tokens are served, see `NetworkAssets`.
        let permits = |scheme| {
            let (chain, lanes, policy) = (Arc::clone(&chain), lanes.clone(), policy.clone());
            let ledger = Arc::clone(&self.ledger);
            let make = move |assets: &Assets| {
                let tokens = Tokens::for_permit2(assets);
                let mechanism = PermitMechanism::new(scheme, Arc::clone(&chain), tokens, lanes.clone());
                Arc::new(mechanism.with_policy(policy.clone()).with_ledger(Arc::clone(&ledger))) as Arc<dyn Mechanism>
            };
            Arc::new(Replaceable::new(&evm.assets, Box::new(make)))
        };
        let permits = [PermitScheme::Exact, PermitScheme::Upto].map(permits).into_iter().filter(|_| evm.permit2);
        let permits: Vec<_> = permits.collect();
        let exact = {
            let (chain, lanes, ledger) = (Arc::clone(&chain), lanes.clone(), Arc::clone(&self.ledger));
            let shared = batching.is_some();
            let make = move |assets: &Assets| {
                let tokens = Tokens::new(assets).on(network);
                let exact = ExactMechanism::new(Arc::clone(&chain), tokens, lanes.clone()).with_policy(policy.clone());
                let exact = exact.with_ledger(Arc::clone(&ledger));
                Arc::new(if shared { exact.with_shared_transactions() } else { exact }) as Arc<dyn Mechanism>
            };
            Arc::new(Replaceable::new(&evm.assets, Box::new(make)))
        };
        self.replaceable.push(NetworkAssets {
            network,
            chain: Arc::clone(&chain),
            mechanisms: permits.iter().chain([&exact]).map(Arc::clone).collect(),
            trials: Box::new(move |assets| TokenTrial::of(assets, network, sender, permit2)),
            known: evm.assets.clone(),
        });
        let gas_cap = evm.fees.gas_cap;
        self = self.add(exact, gas_cap)?;
        self.permit2 |= evm.permit2;
        for permit in permits {
            self = self.add(permit, gas_cap)?;
        }
        let log_query_blocks = evm.log_query_blocks;
        let place = Place { chain: Arc::clone(&chain), client, log_query_blocks, lanes, gas_cap };
        self.places.insert(evm.network, place);
        self.pollers.push(HeadPoller {
            chain,
            polling: evm.polling,
            bundlers: Vec::new(),
            trials,
            news: evm.news,
            batching: batching.is_some(),
        });
        self.assets.extend(evm.assets.iter().filter(|asset| asset.network == evm.network).cloned());
        Ok(self)
    }

    /// Sets how many transactions of one account may be in flight on a network, see [`Settlement::with_most_in_flight`].
    #[must_use]
    pub fn with_most_in_flight(mut self, network: ChainId, most: usize) -> Self {
        self.settlement = self.settlement.with_most_in_flight(network, most);
        self
    }

    /// Adds plans on a network that is served already.
    ///
    /// # Errors
    /// The network is not served yet, or serves plans already.
    pub fn with_nvm(mut self, nvm: Nvm) -> Result<Self, Fault> {
        let network = nvm.network;
        let place = self.places.get(&network);
        let place = place.ok_or_else(|| Fault::broken(format_args!("{network} has no account that pays the gas")))?;
        self.registrars.extend(Registrar::new(Arc::clone(&place.chain) as _, nvm.session_signer.address()));
        let mechanism = nvm.mechanism(place, Arc::clone(&self.ledger), Arc::clone(&self.keys))?;
        let bundlers = place.lanes.iter().filter_map(|lane| lane.account().parse::<Address>().ok());
        if let Some(poller) = self.pollers.iter_mut().find(|poller| poller.chain.network() == network) {
            poller.bundlers.extend(bundlers);
        }
        let gas_cap = place.gas_cap;
        self.add(Arc::new(mechanism), gas_cap)
    }

    /// Adds plans that are paid by card, and returns the desk at which cards are enrolled and delegations are made:
    /// [`Routes::with_cards`](crate::routes::Routes::with_cards).
    ///
    /// # Errors
    /// They are added already, or a former key has the signer's name.
    #[cfg(feature = "cards")]
    pub fn with_cards(mut self, cards: CardPayments) -> Result<(Self, CardDesk), Fault> {
        let (mechanism, rail, desk) = cards.assemble(Arc::clone(&self.ledger))?;
        self.settlement = self.settlement.with_rail(Arc::new(rail))?.with_mechanism(Arc::new(mechanism))?;
        Ok((self, desk))
    }

    /// Sets the engine by its own setters: time limits, the database that holds the ledger, dialects.
    #[must_use]
    pub fn with_engine(mut self, set: impl FnOnce(Engine) -> Engine + Send + 'static) -> Self {
        self.engine.push(Box::new(set));
        self
    }

    /// Takes the tokens of the networks, which may be replaced while they are served.
    pub(crate) fn take_assets(&mut self) -> Vec<NetworkAssets> {
        std::mem::take(&mut self.replaceable)
    }

    /// Returns the registrars, which check session keys before they are kept: one for each network that serves plans.
    #[must_use]
    pub fn registrars(&self) -> &[Registrar] {
        &self.registrars
    }

    /// Builds the engine, not yet started, and the tasks that notify it of new blocks.
    ///
    /// # Errors
    /// The parts do not fit together.
    pub fn build(self) -> Result<(Arc<Engine>, HeadPollers), Fault> {
        let mut signers = Members::new();
        for (network, list) in &self.signers {
            signers.insert(network.as_str(), RawJson::of(list).map_err(Fault::broken)?);
        }
        let mut assets = Assets::none();
        self.assets.into_iter().for_each(|asset| assets.add(asset));
        let (mut settlement, mut counting) = (self.settlement, None);
        if !self.budgets.is_empty() {
            let store = self.budget_store.ok_or_else(|| Fault::broken("budgets need a store"))?;
            let (mut quotes, mut budgets) = (self.quotes, NetworkBudgets::new(store));
            for (network, rules) in &self.budgets {
                let quote = quotes.remove(network);
                let quote = quote.ok_or_else(|| Fault::broken(format_args!("{network} has no account")))?;
                budgets.add(*network, rules, quote);
            }
            let budgets = Arc::new(budgets);
            settlement = settlement.with_admission(Arc::clone(&budgets) as _);
            counting = Some((budgets, self.corrections));
        }
        let engine = Engine::new(settlement, self.ledger).with_signers(signers).with_assets(assets);
        let engine = engine.with_extension(Arc::new(PaymentIdentifier::optional()));
        let sponsoring: [Arc<dyn Extension>; 2] =
            [Arc::new(Eip2612GasSponsoring), Arc::new(Erc20ApprovalGasSponsoring)];
        let sponsoring = sponsoring.into_iter().filter(|_| self.permit2);
        let engine = sponsoring.fold(engine, |engine, sponsoring| engine.with_extension(sponsoring));
        let engine = self.batching.into_iter().fold(engine, |engine, (network, (batching, gather))| {
            engine.with_gathering(network, gather, batching.most)
        });
        let engine = engine.with_metrics(self.metrics).with_balances(self.balances);
        let engine = counting.into_iter().fold(engine, |engine, (budgets, queue)| engine.with_budgets(budgets, queue));
        let engine = if self.counts_gas { engine.with_gas(self.gas) } else { engine };
        let engine = self.engine.into_iter().fold(engine, |engine, set| set(engine));
        Ok((Arc::new(engine), HeadPollers(self.pollers)))
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;
    use x402_devchain::{DevChain, MiningMode};
    use x402_erc4337::FindUserOps as _;
    use x402_facilitator_core::MemoryLedger;

    use super::*;
    use crate::process::owner;

    /// `tests/log_query.rs` covers payments of `exact`.
    #[tokio::test]
    async fn operations_are_looked_up_in_as_many_blocks_at_once_as_is_configured() {
        let chain = DevChain::builder().block_time(MiningMode::Manual).build().unwrap();
        chain.mine(5);
        let network = ChainId::eip155(84532);
        let evm = Evm {
            log_query_blocks: NonZeroU64::new(2).unwrap(),
            assets: Assets::none(),
            ..Evm::new(chain.client(), network, 0, Vec::new())
        };
        let builder = Builder::new(owner(), Arc::new(MemoryLedger::new(crate::clock::now))).with_evm(evm).unwrap();
        let operations = builder.places[&network].operations(84532);
        assert_eq!(operations.find_user_ops(&[B256::ZERO], 0..=5).await, Ok(vec![None]));
        assert_eq!(chain.calls().of("eth_getLogs"), 3);
    }
}
