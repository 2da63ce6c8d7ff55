//! The settlement machine with a clock and tasks: `x402-facilitator-core` leaves both to the process that runs it.

mod claims;
mod health;
mod hooked;
mod in_process;
mod pause;
mod progress;
mod quarantine;
mod records;
mod running;
mod settle;
mod shares;
mod verify;
mod waiters;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::watch;
use x402_facilitator_core::{LaneId, Ledger, Outcome, Pace, Payment, Settlement};
use x402_store::answered::ReadAnswered;
use x402_store::health::CheckWriter;
use x402_types::extension::Extensions;
use x402_types::hooks::Hooks;
use x402_types::{Assets, ChainId, Extension, Fault, Members, PaymentKey, UnixSeconds};

use self::claims::Claims;
pub use self::health::{Health, LowSigner, Readiness, ShortSigner, Shortage};
pub use self::pause::Paused;
pub use self::quarantine::MarkFile;
use self::records::Records;
pub use self::running::Running;
use self::shares::Shares;
use self::waiters::Waiters;
use crate::budgets::{BudgetState, Corrections, NetworkBudgets};
use crate::clock::now;
use crate::dialect::{Body, Dialect};
use crate::dialects;
use crate::metrics::Metrics;
use crate::metrics::gas::GasReader;
use crate::webhooks::Webhooks;

/// A facilitator in this process. It verifies and claims payments, and settles them in tasks of its own, so that a
/// caller's disconnection changes nothing.
pub struct Engine {
    settlement: Settlement,
    ledger: Arc<dyn Ledger>,
    signers: Members,
    assets: RwLock<Arc<Assets>>,
    extensions: Extensions,
    hooks: Hooks,
    /// The settled payments that the extensions record.
    records: Records,
    /// The callers that may get a success again although they name no request.
    replaying: RwLock<BTreeSet<String>>,
    /// The dialects; the first one that recognises a body reads it.
    dialects: Vec<Arc<dyn Dialect>>,
    patience: Patience,
    /// The networks on which a payment waits for others that share its transaction.
    gathering: BTreeMap<ChainId, Gathering>,
    claims: Claims,
    shares: Shares,
    blocks: watch::Sender<()>,
    nonces: watch::Sender<()>,
    waiters: Waiters,
    /// The lanes with unfinished payments, each with the number of times that it took some on.
    unfinished: watch::Sender<BTreeMap<LaneId, u64>>,
    /// The database that holds the ledger, if there is one.
    database: Option<Arc<dyn CheckWriter>>,
    seen: Mutex<Seen>,
    /// The balances of the signers as last polled, by lane.
    balances: Vec<(LaneId, ReadBalance)>,
    metrics: Metrics,
    switch: pause::Switch,
    /// The mark of the ledger, if it has one.
    mark: Option<quarantine::WatchedMark>,
    /// The payments that have their answer, if they can be listed.
    answered: Option<Arc<dyn ReadAnswered>>,
    /// The seconds for which answered payments are kept longer than the machine needs them.
    keep: u64,
    /// The reader of settled payments' costs, until its task begins.
    gas: Mutex<Option<GasReader>>,
    budgets: Option<Arc<NetworkBudgets>>,
    /// The corrections of the budgets, until their task begins.
    corrections: Mutex<Option<Corrections>>,
    /// The targets that are notified of payments' ends.
    webhooks: Option<Arc<Webhooks>>,
    /// The balances in wei below which a signer is low, by network.
    low_balances: BTreeMap<ChainId, u128>,
}

/// Returns a balance in wei as last polled, without a call; `None` if it is unknown.
pub(crate) type ReadBalance = Box<dyn Fn() -> Option<u128> + Send + Sync>;

/// The time limits of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// The duration of a lane's lease in seconds. Default: 15.
    pub lease_seconds: u64,
    /// The longest time that `/settle` waits for the chain, and half the longest time that it waits while no node has a
    /// transaction of the payment. Default: 30 s.
    pub wait: Duration,
}

impl Patience {
    /// Creates limits with this longest time for `/settle`.
    #[must_use]
    pub const fn waiting(wait: Duration) -> Self {
        Self { lease_seconds: 15, wait }
    }

    /// Returns the longest time that a request waits whose payment has this outcome so far.
    fn wait_with(&self, outcome: &Outcome) -> Duration {
        match outcome {
            Outcome::Pending { transaction: None, .. } => self.wait.saturating_mul(2),
            _ => self.wait,
        }
    }
}

/// The time for which payments of a lane wait for each other. By default none does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Gathering {
    /// The longest time that a payment waits for others.
    pub(crate) pause: Duration,
    /// The number of payments that wait for no more.
    pub(crate) most: usize,
}

impl Default for Patience {
    fn default() -> Self {
        Self::waiting(Duration::from_secs(30))
    }
}

/// The last known state of the networks and their signers.
#[derive(Default)]
struct Seen {
    /// The time of the newest block of each network.
    heads: BTreeMap<ChainId, UnixSeconds>,
    /// The lanes that could not pay for a transaction, and whether others carried all kinds in their place.
    short: BTreeMap<LaneId, Shortage>,
    /// The lanes below their network's low-water mark.
    low: BTreeSet<LaneId>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("settlement", &self.settlement).finish_non_exhaustive()
    }
}

impl Engine {
    /// Makes an engine over a machine and the ledger that the machine uses.
    #[must_use]
    pub fn new(settlement: Settlement, ledger: Arc<dyn Ledger>) -> Self {
        Self {
            claims: Claims::of(settlement.lanes()),
            shares: Shares::of(settlement.lanes().count()),
            settlement,
            ledger,
            signers: Members::new(),
            assets: RwLock::new(Arc::new(Assets::none())),
            extensions: Extensions::new(),
            hooks: Hooks::default(),
            replaying: RwLock::default(),
            records: Records::default(),
            dialects: dialects::all(),
            patience: Patience::default(),
            gathering: BTreeMap::new(),
            blocks: watch::Sender::new(()),
            nonces: watch::Sender::new(()),
            waiters: Waiters::default(),
            unfinished: watch::Sender::default(),
            database: None,
            seen: Mutex::default(),
            balances: Vec::new(),
            metrics: Metrics::default(),
            switch: pause::Switch::default(),
            mark: None,
            answered: None,
            keep: 0,
            gas: Mutex::default(),
            budgets: None,
            corrections: Mutex::default(),
            webhooks: None,
            low_balances: BTreeMap::new(),
        }
    }

    pub(crate) fn with_balances(mut self, balances: Vec<(LaneId, ReadBalance)>) -> Self {
        self.balances = balances;
        self
    }

    /// Sets the reader of answered payments.
    #[must_use]
    pub fn with_answered(mut self, answered: Arc<dyn ReadAnswered>) -> Self {
        self.answered = Some(answered);
        self
    }

    /// Keeps answered payments so many seconds longer than the machine needs them.
    #[must_use]
    pub const fn with_kept(mut self, seconds: u64) -> Self {
        self.keep = seconds;
        self
    }

    /// Returns answered payments, see [`ReadAnswered::answered`]; none if the ledger cannot list them.
    ///
    /// # Errors
    /// The ledger failed.
    pub async fn answered(&self, after: &[u8], limit: usize) -> Result<Vec<Payment>, Fault> {
        match &self.answered {
            Some(answered) => answered.answered(after, limit).await,
            None => Ok(Vec::new()),
        }
    }

    pub(crate) fn with_budgets(mut self, budgets: Arc<NetworkBudgets>, corrections: Corrections) -> Self {
        self.budgets = Some(budgets);
        self.corrections = Mutex::new(Some(corrections));
        self
    }

    /// Returns the lines of this day's budgets, of each rule those with the least left.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn budgets(&self) -> Result<Vec<BudgetState>, Fault> {
        match &self.budgets {
            Some(budgets) => budgets.states(now()).await,
            None => Ok(Vec::new()),
        }
    }

    pub(crate) fn with_webhooks(mut self, webhooks: Webhooks) -> Self {
        self.webhooks = Some(Arc::new(webhooks));
        self
    }

    /// Returns the number of ends that are not delivered yet; `None` if there are no targets.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn waiting_webhooks(&self) -> Result<Option<u64>, Fault> {
        match &self.webhooks {
            Some(webhooks) => webhooks.waiting().await.map(Some),
            None => Ok(None),
        }
    }

    /// Sets the balance in wei below which a network's signers are named as low, although they still pay.
    #[must_use]
    pub fn with_low_balance(mut self, network: ChainId, wei: u128) -> Self {
        self.low_balances.insert(network, wei);
        self
    }

    pub(crate) fn with_gas(mut self, gas: GasReader) -> Self {
        self.gas = Mutex::new(Some(gas));
        self
    }

    /// Sets the counters that the routes count into.
    pub(crate) fn with_metrics(mut self, metrics: Metrics) -> Self {
        self.metrics = metrics;
        self
    }

    pub(crate) const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Sets the addresses that settle, by network, for `/supported`.
    #[must_use]
    pub fn with_signers(mut self, signers: Members) -> Self {
        self.signers = signers;
        self
    }

    /// Sets the tokens that are served, for dialects that do not name a token's EIP-712 domain.
    #[must_use]
    pub fn with_assets(mut self, assets: Assets) -> Self {
        self.assets = RwLock::new(Arc::new(assets));
        self
    }

    /// Adds an extension, which `/supported` lists, and which reads payments and receipts.
    #[must_use]
    pub fn with_extension(mut self, extension: Arc<dyn Extension>) -> Self {
        self.extensions.register(extension);
        self
    }

    /// Sets the callers that get a success again although they name no request: each of their bodies serves one
    /// request, and they repeat a body only for that request.
    #[must_use]
    pub fn with_replaying(mut self, callers: impl IntoIterator<Item = String>) -> Self {
        self.replaying = RwLock::new(callers.into_iter().collect());
        self
    }

    /// Replaces the callers of [`Engine::with_replaying`] for the requests from here on.
    pub fn replace_replaying(&self, callers: impl IntoIterator<Item = String>) {
        *self.replaying.write().unwrap_or_else(PoisonError::into_inner) = callers.into_iter().collect();
    }

    fn is_replaying(&self, caller: &str) -> bool {
        self.replaying.read().unwrap_or_else(PoisonError::into_inner).contains(caller)
    }

    /// Sets the database that holds the ledger: [`Engine::health`] checks its writer, and if it cannot be used any more,
    /// [`Running::broken`] ends.
    #[must_use]
    pub fn with_database(mut self, database: Arc<dyn CheckWriter>) -> Self {
        self.database = Some(database);
        self
    }

    /// Sets the time limits.
    #[must_use]
    pub const fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// Lets each payment of a network wait so long for others that share its transaction, until there are `most` of them.
    #[must_use]
    pub fn with_gathering(mut self, network: ChainId, pause: Duration, most: usize) -> Self {
        self.gathering.insert(network, Gathering { pause, most });
        self
    }

    pub(crate) fn gathering(&self, lane: &LaneId) -> Gathering {
        lane.network().and_then(|network| self.gathering.get(&network)).copied().unwrap_or_default()
    }

    /// Adds a dialect in front of the others.
    #[must_use]
    pub fn with_dialect(mut self, dialect: Arc<dyn Dialect>) -> Self {
        self.dialects.insert(0, dialect);
        self
    }

    /// Returns the settlement machine.
    #[must_use]
    pub const fn settlement(&self) -> &Settlement {
        &self.settlement
    }

    /// Returns the registered extensions.
    #[must_use]
    pub const fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// Returns the dialects; the first one that recognises a body reads it.
    pub(crate) fn dialects(&self) -> &[Arc<dyn Dialect>] {
        &self.dialects
    }

    /// Returns the first dialect that recognises a body, or else the last one.
    pub(crate) fn dialect_of(&self, body: &Body) -> Option<&Arc<dyn Dialect>> {
        self.dialects.iter().find(|dialect| dialect.recognises(body)).or_else(|| self.dialects.last())
    }

    /// Notes a new block: the payments that wait for the chain are looked up.
    pub fn new_block(&self) {
        self.blocks.send_replace(());
    }

    /// Notes that the account nonces as of the newest block are known: the transactions in flight are looked up.
    pub fn new_nonces(&self) {
        self.nonces.send_replace(());
    }

    pub(crate) const fn shares(&self) -> &Shares {
        &self.shares
    }

    pub(crate) const fn waiters(&self) -> &Waiters {
        &self.waiters
    }

    /// Hands a payment that was claimed here to the worker of its lane.
    pub(crate) fn hand_over(&self, lane: &LaneId, key: PaymentKey) {
        self.claims.add(lane, key);
    }

    /// Takes the payments of a lane that were claimed here since the last call.
    pub(crate) fn take_claims(&self, lane: &LaneId) -> Vec<PaymentKey> {
        self.claims.take(lane)
    }

    /// Waits until a payment of this lane is claimed here.
    pub(crate) async fn claimed(&self, lane: &LaneId) {
        self.claims.some(lane).await;
    }

    pub(crate) fn blocks(&self) -> watch::Receiver<()> {
        self.blocks.subscribe()
    }

    /// Notes whether a lane has unfinished payments, as its worker sees it.
    pub(crate) fn note_unfinished(&self, lane: &LaneId, any: bool) {
        self.unfinished.send_if_modified(|lanes| {
            let changed = lanes.contains_key(lane) != any;
            match (changed, any) {
                (false, _) => {}
                (true, true) => drop(lanes.insert(lane.clone(), 0)),
                (true, false) => drop(lanes.remove(lane)),
            }
            changed
        });
    }

    /// Notes that a lane took on payments: it may send, and the chain may have a block for that at once.
    pub(crate) fn note_taken_on(&self, lane: &LaneId) {
        self.unfinished.send_modify(|lanes| {
            let times = lanes.entry(lane.clone()).or_default();
            *times = times.wrapping_add(1);
        });
    }

    /// Returns the lanes with unfinished payments, each with the number of times that it took some on.
    pub(crate) fn unfinished(&self) -> watch::Receiver<BTreeMap<LaneId, u64>> {
        self.unfinished.subscribe()
    }

    /// Returns whether a signer of the network cannot pay for a transaction, as it was noted last.
    pub(crate) fn is_short(&self, network: ChainId) -> bool {
        self.seen().short.keys().any(|lane| lane.network() == Some(network))
    }

    pub(crate) fn nonces(&self) -> watch::Receiver<()> {
        self.nonces.subscribe()
    }

    pub(crate) fn ledger(&self) -> &dyn Ledger {
        self.ledger.as_ref()
    }

    pub(crate) const fn lease_seconds(&self) -> u64 {
        self.patience.lease_seconds
    }

    pub(crate) fn pace(&self) -> Pace {
        self.settlement.pace()
    }

    pub(crate) fn assets(&self) -> Arc<Assets> {
        Arc::clone(&self.assets.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the tokens of one network.
    pub(crate) fn replace_assets(&self, network: ChainId, assets: &Assets) {
        let mut all = Assets::none();
        self.assets().iter().filter(|asset| asset.network != network).for_each(|asset| all.add(asset.clone()));
        assets.iter().for_each(|asset| all.add(asset.clone()));
        *self.assets.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(all);
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
