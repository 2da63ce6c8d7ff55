//! The section `[card]`: plans that are paid with delegated cards, by `nvm:card-delegation`.

use serde::Deserialize;
use x402_card::{BasisPoints, CardPlan, CardPlans, Cents, Currency, LANES, LONGEST_LIFE, Merchant};
use x402_types::nvm::PlanId;

use super::{ConfigError, SecretSource};

/// The configuration of `nvm:card-delegation`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CardConfig {
    /// The facilitator's own URL, which its tokens name as their issuer.
    pub issuer: String,
    /// The secret key of the account at the processor, `sk_test_` or `sk_live_`.
    pub secret_key: SecretSource,
    /// The key that signs tokens, of the curve P-256: 32 bytes in hex.
    pub signing_key: SecretSource,
    /// The name of the signing key. Default: `k1`. Another key needs another name.
    #[serde(default = "first_key")]
    pub key_id: String,
    /// The public keys of former signers, each a JWK, until the last token that they signed has expired. Default: none.
    #[serde(default)]
    pub former_keys: Vec<String>,
    /// A name for the account at the processor, which keeps its charges apart from another's in stored rows. It must not
    /// change. Default: `main`.
    #[serde(default = "main_account")]
    pub account: String,
    /// The address of the processor. Default: `https://api.stripe.com`.
    #[serde(default = "stripe")]
    pub processor: String,
    /// The longest life of a delegation and its tokens, 60 to 31,536,000 s. Default: 2,592,000, 30 days.
    #[serde(default = "longest")]
    pub longest_delegation_seconds: u64,
    /// The number of lanes, 1 to 64. Default: 8.
    #[serde(default = "lanes")]
    pub lanes: usize,
    /// The plans that are served.
    #[serde(rename = "plan")]
    pub plans: Vec<CardPlanConfig>,
}

/// One plan that is paid by card.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CardPlanConfig {
    /// The plan's identifier, in decimal.
    pub id: PlanId,
    /// The currency of the price, `usd` or `eur`.
    pub currency: String,
    /// The price of one purchase in cents, 50 to 99,999,999.
    #[serde(default)]
    pub price_cents: Option<u64>,
    /// The same with six decimals, as Nevermined's plans have it: 1,000,000 is one dollar. It must be whole cents.
    #[serde(default)]
    pub price_six_decimals: Option<u64>,
    /// The credits of one purchase. Default: 0, as for pay-as-you-go plans, whose charge is the payment.
    #[serde(default)]
    pub credits: u64,
    /// The fewest credits that a request costs. Default: 1.
    #[serde(default = "one")]
    pub minimum: u64,
    /// The most credits that a request costs. Default: the credits of one purchase.
    #[serde(default)]
    pub maximum: Option<u64>,
    /// The account of the seller at the processor. Default: the facilitator's own account receives the money.
    #[serde(default)]
    pub merchant: Option<String>,
    /// The facilitator's share of the seller's price, in hundredths of a percent. Default: 0.
    #[serde(default)]
    pub fee_basis_points: u16,
}

fn first_key() -> String {
    "k1".to_owned()
}
fn main_account() -> String {
    "main".to_owned()
}
fn stripe() -> String {
    "https://api.stripe.com".to_owned()
}
const fn longest() -> u64 {
    LONGEST_LIFE
}
const fn lanes() -> usize {
    LANES
}
const fn one() -> u64 {
    1
}

impl CardConfig {
    /// Checks the ranges.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let range = |field, expected| Err(ConfigError::Range { field, expected });
        if !(60..=31_536_000).contains(&self.longest_delegation_seconds) {
            return range("card.longest_delegation_seconds", "60 to 31536000");
        }
        if !(1..=64).contains(&self.lanes) {
            return range("card.lanes", "1 to 64");
        }
        if self.issuer.is_empty() || self.account.is_empty() {
            return range("card.issuer, card.account", "a text");
        }
        self.plans().map(drop)
    }

    /// Checks the plans and collects them.
    ///
    /// # Errors
    /// There is no plan, or one cannot be served.
    pub fn plans(&self) -> Result<CardPlans, ConfigError> {
        if self.plans.is_empty() {
            return Err(ConfigError::Range { field: "card.plan", expected: "at least one" });
        }
        let plans = self.plans.iter().map(CardPlanConfig::plan).collect::<Result<Vec<_>, _>>()?;
        CardPlans::new(plans).map_err(|error| ConfigError::Malformed(format!("card: {error}")))
    }
}

impl CardPlanConfig {
    fn plan(&self) -> Result<CardPlan, ConfigError> {
        let bad = |why: &str| ConfigError::Malformed(format!("card: plan {}: {why}", self.id));
        let price = match (self.price_cents, self.price_six_decimals) {
            (Some(cents), None) => Cents::try_from(cents),
            (None, Some(units)) => Cents::of_six_decimals(units),
            _ => return Err(bad("expected price_cents or price_six_decimals")),
        };
        let price = price.map_err(|why| bad(why.expected()))?;
        let currency: Currency = self.currency.parse().map_err(|_| bad("currency: expected usd or eur"))?;
        let plan = CardPlan::new(self.id, currency, price, self.credits);
        let maximum = self.maximum.unwrap_or(plan.maximum);
        let plan = plan.with_bounds(self.minimum, maximum);
        let fee = BasisPoints::try_from(self.fee_basis_points).map_err(|why| bad(why.expected()))?;
        Ok(self.merchant.iter().fold(plan, |plan, account| plan.with_merchant(Merchant::new(account, fee))))
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, ConfigError};

    const GOOD: &str = r#"
        ledger = "x402.sqlite"
        [[caller]]
        name = "shop"
        token = { env = "TOKEN" }
        [card]
        issuer = "https://facilitator.example"
        secret_key = { env = "STRIPE" }
        signing_key = { file = "/run/secrets/p256" }
        [[card.plan]]
        id = "1001"
        currency = "usd"
        price_cents = 700
        credits = 10
    "#;

    #[test]
    fn a_facilitator_of_cards_needs_no_chain_and_callers() {
        let config = Config::parse(GOOD).unwrap();
        let card = config.card.unwrap();
        assert_eq!((card.lanes, card.longest_delegation_seconds, card.key_id.as_str()), (8, 2_592_000, "k1"));
        assert_eq!(card.plans().unwrap().iter().count(), 1);
        let alone = GOOD.replace("[[caller]]\n        name = \"shop\"\n        token = { env = \"TOKEN\" }\n", "");
        let refused = ConfigError::Range { field: "caller", expected: "at least one beside [card]" };
        assert_eq!(Config::parse(&alone).unwrap_err(), refused);
    }

    #[test]
    fn what_is_wrong_with_a_plan_is_named() {
        for (text, named) in [
            (GOOD.replace("price_cents = 700", "price_six_decimals = 7000001"), "10000"),
            (GOOD.replace("price_cents = 700", "price_cents = 49"), "price"),
            (GOOD.replace("price_cents = 700", ""), "price_cents"),
            (GOOD.replace("\"usd\"", "\"jpy\""), "usd"),
            (GOOD.replace("\"usd\"", "\"USD\""), "usd"),
            (GOOD.replace("\"1001\"", "\"plan_abc\""), "256-bit"),
            (GOOD.replace("credits = 10", "credits = 10\nmaximum = 0"), "minimum"),
            (GOOD.replace("credits = 10", "credits = 10\nfee_basis_points = 10001"), "10000"),
            (GOOD.replace("[card]", "[card]\nlanes = 0"), "card.lanes"),
            (GOOD.replace("[card]", "[card]\nlongest_delegation_seconds = 59"), "card.longest"),
        ] {
            let error = Config::parse(&text).unwrap_err().to_string();
            assert!(error.contains(named), "{named}: {error}");
        }
        let whole = GOOD.replace("price_cents = 700", "price_six_decimals = 7000000");
        let plans = Config::parse(&whole).unwrap().card.unwrap().plans().unwrap();
        assert_eq!(plans.iter().next().unwrap().price.value(), 700);
    }
}
