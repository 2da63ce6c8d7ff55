//! The budgets of a network: `[[network.budget]]`.

use std::collections::BTreeSet;

use serde::Deserialize;
use x402_types::{AtomicAmount, EvmAddress};

use super::ConfigError;

/// The most that payments of a network may move or cost.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetConfig {
    /// The scope of the budget.
    pub per: BudgetScope,
    /// The token whose amounts are counted. Without it the wei that transactions cost are.
    #[serde(default)]
    pub asset: Option<EvmAddress>,
    /// The most in atomic units of the token, or wei: of one payment, or of a day by UTC. A string of decimal digits.
    pub most: AtomicAmount,
}

/// The payments that share a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BudgetScope {
    /// Each payment has it.
    Payment,
    /// The payments of one payer on one day have it.
    Payer,
    /// The payments of one caller on one day have it.
    Caller,
    /// All payments of the network on one day have it.
    Network,
}

impl BudgetScope {
    /// Returns the name in the configuration, in metrics and on the operator's page.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Payment => "payment",
            Self::Payer => "payer",
            Self::Caller => "caller",
            Self::Network => "network",
        }
    }
}

pub(super) fn check(budgets: &[BudgetConfig]) -> Result<(), ConfigError> {
    let mut known = BTreeSet::new();
    for BudgetConfig { per, asset, .. } in budgets {
        if !known.insert((per, asset.as_ref().map(|asset| asset.as_str().to_ascii_lowercase()))) {
            let expected = "each asset once for each scope";
            return Err(ConfigError::Range { field: "network.budget", expected });
        }
    }
    Ok(())
}
