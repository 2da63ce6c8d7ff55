//! Budgets: what payments may move and cost on a day, counted in the place of the ledger, so that neither a restart nor another
//! process forgets or doubles it.
//!
//! A payment is counted with the amount of its terms and with the most that its transactions cost at the present price, before
//! its row is written. When it has its end, both become what they were: a failed payment has moved nothing.

mod corrections;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use x402_facilitator_core::{Admit, Parcel, Verified};
use x402_store::budgets::{BudgetCharge, BudgetLine, Budgets, Measure};
use x402_types::{AtomicAmount, ChainId, ErrorReason, Fault, Refusal, Rejection, UnixSeconds};

pub(crate) use self::corrections::{Correction, CorrectionQueue, Corrections, corrections};
use crate::config::{BudgetConfig, BudgetScope};

/// The most lines of one rule that are shown: those with the least left.
const SHOWN: usize = 10;
/// The seconds of a day.
const DAY: u64 = 86_400;

/// Returns the most wei that these parcels cost at the present price; `None` if it is unknown.
pub(crate) type Quote = Box<dyn Fn(&[Parcel]) -> Option<u128> + Send + Sync>;

/// The budgets of a facilitator.
pub(crate) struct NetworkBudgets {
    store: Arc<dyn Budgets>,
    networks: BTreeMap<ChainId, (Vec<Rule>, Quote)>,
}

impl std::fmt::Debug for NetworkBudgets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NetworkBudgets").field("store", &self.store).finish_non_exhaustive()
    }
}

/// A budget of a network.
#[derive(Debug, Clone)]
struct Rule {
    per: BudgetScope,
    /// The token in lower case, as terms may write it in either.
    asset: Option<String>,
    most: AtomicAmount,
    /// The name in the store.
    name: String,
}

/// A line of a budget as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct BudgetState {
    pub(crate) network: String,
    /// The token, or `gas`.
    pub(crate) asset: String,
    pub(crate) per: &'static str,
    /// The payer or the caller, empty for the whole network.
    pub(crate) of: String,
    pub(crate) most: String,
    pub(crate) left: String,
}

impl NetworkBudgets {
    pub(crate) const fn new(store: Arc<dyn Budgets>) -> Self {
        Self { store, networks: BTreeMap::new() }
    }

    /// Adds the budgets of a network, with a quote of the cost of its transactions.
    pub(crate) fn add(&mut self, network: ChainId, budgets: &[BudgetConfig], quote: Quote) {
        let rule = |config: &BudgetConfig| {
            let asset = config.asset.as_ref().map(|asset| asset.as_str().to_ascii_lowercase());
            let name = format!("{network} {} {}", asset.as_deref().unwrap_or("gas"), config.per.as_str());
            Rule { per: config.per, asset, most: config.most, name }
        };
        self.networks.insert(network, (budgets.iter().map(rule).collect(), quote));
    }

    /// Returns the lines that a payment is counted under, and refuses one that is too great by itself.
    fn charge(&self, verified: &Verified, now: UnixSeconds) -> Result<Option<BudgetCharge>, Refusal> {
        let (claim, verdict) = (verified.claim(), verified.verdict());
        let Some((rules, quote)) = self.networks.get(&claim.terms.network) else { return Ok(None) };
        let mut lines = Vec::new();
        for rule in rules {
            let (measure, amount) = match &rule.asset {
                Some(asset) if claim.terms.asset.eq_ignore_ascii_case(asset) => (Measure::Money, claim.terms.amount),
                Some(_) => continue,
                None => {
                    let wei = quote(&verdict.parcels).ok_or_else(|| {
                        Fault::unreachable("the network", "the price of gas is not known yet, and a budget needs it")
                    })?;
                    (Measure::Gas, AtomicAmount::from(x402_types::U256::from(wei)))
                }
            };
            let of = match rule.per {
                BudgetScope::Payment if amount > rule.most => {
                    return Err(refused(rule, rule.most, verdict.payer.as_str()));
                }
                BudgetScope::Payment => continue,
                BudgetScope::Payer => verdict.payer.to_ascii_lowercase(),
                BudgetScope::Caller => claim.identity.caller.clone(),
                BudgetScope::Network => String::new(),
            };
            lines.push(BudgetLine { rule: rule.name.clone(), of, measure, amount, most: rule.most });
        }
        let day = now.0 / DAY;
        Ok((!lines.is_empty()).then(|| BudgetCharge { payment: verified.key().clone(), day, lines }))
    }

    fn over(&self, verified: &Verified, name: &str, left: AtomicAmount) -> Refusal {
        let rules = self.networks.get(&verified.claim().terms.network).map(|(rules, _)| rules.as_slice());
        match rules.unwrap_or_default().iter().find(|rule| rule.name == name) {
            Some(rule) => refused(rule, left, &verified.verdict().payer),
            None => Rejection::new(ErrorReason::BUDGET_EXCEEDED).into(),
        }
    }

    /// Returns the lines of this day, of each rule those with the least left.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn states(&self, now: UnixSeconds) -> Result<Vec<BudgetState>, Fault> {
        let mut states = Vec::new();
        for (network, (rules, _)) in &self.networks {
            for rule in rules {
                let mut lines = match rule.per {
                    BudgetScope::Payment => Vec::new(),
                    _ => self.store.greatest(now.0 / DAY, &rule.name, SHOWN).await?,
                };
                if lines.is_empty() && rule.per == BudgetScope::Network {
                    lines.push((String::new(), AtomicAmount::ZERO));
                }
                let state = |(of, used): (String, AtomicAmount)| BudgetState {
                    network: network.to_string(),
                    asset: rule.asset.clone().unwrap_or_else(|| "gas".to_owned()),
                    per: rule.per.as_str(),
                    of,
                    most: rule.most.to_string(),
                    left: AtomicAmount::from(rule.most.value().saturating_sub(used.value())).to_string(),
                };
                states.extend(lines.into_iter().map(state));
            }
        }
        Ok(states)
    }

    /// Replaces what a payment is counted with by what it was.
    ///
    /// # Errors
    /// The store failed.
    async fn correct(&self, correction: &Correction) -> Result<(), Fault> {
        self.store.correct(&correction.payment, correction.measure, correction.amount).await
    }
}

/// Makes the refusal. Its message names the rule and what it has left, so that a payer can pay less.
fn refused(rule: &Rule, left: AtomicAmount, payer: &str) -> Refusal {
    let unit = if rule.asset.is_some() { "atomic units" } else { "wei for gas" };
    let period = if rule.per == BudgetScope::Payment { "" } else { " today" };
    let message = format!("the budget of each {} has room for {left} {unit}{period}", rule.per.as_str());
    Rejection::new(ErrorReason::BUDGET_EXCEEDED).because(message).of(payer).into()
}

#[async_trait]
impl Admit for NetworkBudgets {
    async fn would_admit(&self, verified: &Verified, now: UnixSeconds) -> Result<(), Refusal> {
        let Some(charge) = self.charge(verified, now)? else { return Ok(()) };
        for line in &charge.lines {
            let used = self.store.used(charge.day, &line.rule, &line.of).await?;
            let left = line.most.value().saturating_sub(used.value());
            if line.amount.value() > left {
                return Err(self.over(verified, &line.rule, AtomicAmount::from(left)));
            }
        }
        Ok(())
    }

    async fn admit(&self, verified: &Verified, now: UnixSeconds) -> Result<(), Refusal> {
        let Some(charge) = self.charge(verified, now)? else { return Ok(()) };
        match self.store.count(charge).await? {
            Ok(()) => Ok(()),
            Err(over) => Err(self.over(verified, &over.rule, over.left)),
        }
    }
}
