//! The tokens of a network, which may be replaced while payments are open.
//!
//! A token that is taken away gets no new payments, and those that are open are finished: their mechanism knows every token that was
//! served since the start. The EIP-712 domain and the decimal
//! places of a token never change while a process serves it.

use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use x402_evm::chain::RpcChain;
use x402_evm::token_trial::Trial;
use x402_facilitator_core::{EntryDefaults, LaneId, Mechanism, NextStep, Observation, Payment, Step, TxId, Verdict};
use x402_types::v2::SupportedKind;
use x402_types::{
    AmountRule, Asset, Assets, ChainId, Claim, ErrorReason, Fault, PaymentKey, Refusal, Rejection, UnixSeconds,
};

use super::TokenTrial;

/// Makes the trials of tokens.
pub(super) type MakeTrials = Box<dyn Fn(&Assets) -> Vec<TokenTrial> + Send + Sync>;
/// Makes a mechanism that serves these tokens.
type Make = Box<dyn Fn(&Assets) -> Arc<dyn Mechanism> + Send + Sync>;

/// A mechanism with the tokens that it serves at present.
pub(super) struct Replaceable {
    make: Make,
    now: RwLock<Now>,
}

#[derive(Clone)]
struct Now {
    /// The mechanism of every token that was served since the start.
    inner: Arc<dyn Mechanism>,
    /// The tokens of new payments.
    served: Arc<Assets>,
}

impl Replaceable {
    pub(super) fn new(assets: &Assets, make: Make) -> Self {
        let now = Now { inner: make(assets), served: Arc::new(assets.clone()) };
        Self { make, now: RwLock::new(now) }
    }

    fn now(&self) -> Now {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, served: &Arc<Assets>, known: &Assets) {
        let now = Now { inner: (self.make)(known), served: Arc::clone(served) };
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = now;
    }
}

#[async_trait]
impl Mechanism for Replaceable {
    fn kinds(&self) -> Vec<SupportedKind> {
        self.now().inner.kinds()
    }

    fn method(&self) -> Option<&'static str> {
        self.now().inner.method()
    }

    fn is_own(&self, claim: &Claim) -> bool {
        self.now().inner.is_own(claim)
    }

    fn amount_rule(&self) -> AmountRule {
        self.now().inner.amount_rule()
    }

    fn entry_defaults(&self, network: ChainId, asset: Option<&str>) -> Option<EntryDefaults> {
        let Now { inner, served } = self.now();
        let is_asked = |it: &&Asset| match asset {
            Some(address) => address.eq_ignore_ascii_case(&it.address),
            None => it.dollar,
        };
        let mut asked = served.iter().filter(|it| it.network == network).filter(is_asked);
        asked.find_map(|it| inner.entry_defaults(network, Some(&it.address)))
    }

    fn lanes(&self) -> Vec<LaneId> {
        self.now().inner.lanes()
    }

    fn has_nonce_on_chain(&self) -> bool {
        self.now().inner.has_nonce_on_chain()
    }

    fn key(&self, claim: &Claim) -> Result<PaymentKey, Rejection> {
        self.now().inner.key(claim)
    }

    fn payer(&self, key: &PaymentKey) -> Option<String> {
        self.now().inner.payer(key)
    }

    async fn verify(&self, claim: &Claim, now: UnixSeconds) -> Result<Verdict, Refusal> {
        let Now { inner, served } = self.now();
        let verdict = inner.verify(claim, now).await?;
        if served.find(claim.terms.network, &claim.terms.asset).is_none() {
            let why = Rejection::new(ErrorReason::INVALID_PAYMENT_REQUIREMENTS).because("asset: not configured here");
            return Err(why.of(verdict.payer.as_str()).into());
        }
        Ok(verdict)
    }

    fn max_parcels(&self) -> usize {
        self.now().inner.max_parcels()
    }

    async fn plan(&self, payment: &Payment, now: UnixSeconds) -> Result<NextStep, Fault> {
        self.now().inner.plan(payment, now).await
    }

    async fn observe(&self, step: &Step, sent: &[TxId]) -> Result<Observation, Fault> {
        self.now().inner.observe(step, sent).await
    }
}

/// The reason why the tokens of a network stay as they are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AssetsKept {
    /// A token would become another one.
    #[error(
        "network.asset: {address} on {network}: expected the symbol, name, version and decimals that it was served with; others take effect at the next start"
    )]
    Changed {
        /// The network of the token.
        network: ChainId,
        /// The address of its contract.
        address: String,
    },
    /// A new token cannot be served.
    #[error("network.asset: the token {address} on {network} cannot be served: {why}")]
    Unfit {
        /// The network of the token.
        network: ChainId,
        /// The address of its contract.
        address: String,
        /// The result of its trial.
        why: String,
    },
    /// A new token could not be tried, because the node does not answer.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// The tokens of one network while it is served.
pub(crate) struct NetworkAssets {
    pub(super) network: ChainId,
    pub(super) chain: Arc<RpcChain>,
    /// The mechanisms that serve them.
    pub(super) mechanisms: Vec<Arc<Replaceable>>,
    /// Makes the trials of tokens.
    pub(super) trials: MakeTrials,
    /// Every token that was served since the start.
    pub(super) known: Assets,
}

impl std::fmt::Debug for NetworkAssets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NetworkAssets").field("network", &self.network).finish_non_exhaustive()
    }
}

impl NetworkAssets {
    pub(crate) const fn network(&self) -> ChainId {
        self.network
    }

    /// Checks whether these tokens can be served from now on: none is another one than it was, and new ones pass their trial.
    pub(crate) async fn check(&self, assets: &Assets) -> Result<(), AssetsKept> {
        let (network, mut new) = (self.network, Assets::none());
        for asset in assets.iter() {
            match self.known.find(network, &asset.address) {
                Some(known) if !is_same(known, asset) => {
                    return Err(AssetsKept::Changed { network, address: asset.address.to_string() });
                }
                Some(_) => {}
                None => new.add(asset.clone()),
            }
        }
        for trial in (self.trials)(&new) {
            let address = trial.address().to_string();
            match trial.run(&self.chain).await? {
                Trial::Unfit(why) => return Err(AssetsKept::Unfit { network, address, why }),
                Trial::WithoutLogs | Trial::Untried(_) => {
                    tracing::info!(%network, address, "the new token could not be tried in full; it is served all the same");
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Serves these tokens from now on.
    pub(crate) fn replace(&mut self, assets: &Assets) {
        for asset in assets
            .iter()
            .filter(|asset| self.known.find(self.network, &asset.address).is_none())
            .cloned()
            .collect::<Vec<_>>()
        {
            self.known.add(asset);
        }
        let served = Arc::new(assets.clone());
        self.mechanisms.iter().for_each(|mechanism| mechanism.replace(&served, &self.known));
    }
}

/// Compares what payers sign and amounts mean; an address may be written in either case.
fn is_same(known: &Asset, asset: &Asset) -> bool {
    let fields = |it: &Asset| (it.symbol.clone(), it.name.clone(), it.version.clone(), it.decimals, it.transfer);
    fields(known) == fields(asset)
}
