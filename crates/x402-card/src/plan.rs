//! The plans that are sold for cards: what one purchase costs and buys. The seller's account is the plan's, whatever the
//! buyer's delegation names.

use std::collections::BTreeMap;

use x402_types::nvm::PlanId;
use x402_types::nvm::card::{CardCode, Processor};
use x402_types::{AtomicAmount, Rejection};

use crate::{BasisPoints, Cents, Currency};

/// A plan that is paid by card.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CardPlan {
    /// The id of the plan.
    pub id: PlanId,
    /// The processor of its charges.
    pub processor: Processor,
    /// The currency of its price.
    pub currency: Currency,
    /// The price of one purchase, 50 to 99,999,999 cents.
    pub price: Cents,
    /// The credits of one purchase; 0 for a plan that is paid as it is used, whose charge is the payment.
    pub credits: u64,
    /// The least credits that a request costs.
    pub minimum: u64,
    /// The most credits that a request costs.
    pub maximum: u64,
    /// The seller that is paid; `None` for the facilitator's own account.
    pub merchant: Option<Merchant>,
}

/// The seller of a plan at the processor.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Merchant {
    /// The account that receives the money.
    pub account: String,
    /// The facilitator's share.
    pub fee: BasisPoints,
}

impl Merchant {
    /// Creates a seller with this account, of whose price the facilitator keeps a share.
    #[must_use]
    pub fn new(account: impl Into<String>, fee: BasisPoints) -> Self {
        Self { account: account.into(), fee }
    }
}

/// The reason why a plan cannot be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CardPlanError {
    /// The price is outside of what a card is charged.
    #[error("plan {0}: price: expected 50 to 99999999 cents")]
    Price(PlanId),
    /// The bounds of a request contradict each other.
    #[error("plan {0}: expected 1 <= minimum <= maximum <= 2^53-1 credits")]
    Range(PlanId),
    /// The credits of a purchase are more than the books count.
    #[error("plan {0}: expected at most 2^53-1 credits of one purchase")]
    Credits(PlanId),
    /// The processor is not served.
    #[error("plan {0}: expected the processor stripe")]
    Processor(PlanId),
    /// Two plans have the same id.
    #[error("plan {0}: expected one plan with this id, found two")]
    Twice(PlanId),
}

impl CardPlan {
    /// Creates a plan of Stripe's that sells credits, of which a request costs 1 up to the credits of one purchase, to the
    /// facilitator's own account.
    #[must_use]
    pub const fn new(id: PlanId, currency: Currency, price: Cents, credits: u64) -> Self {
        let maximum = if credits == 0 { 1 } else { credits };
        Self { id, processor: Processor::Stripe, currency, price, credits, minimum: 1, maximum, merchant: None }
    }

    /// Sets the bounds of a request's cost, in credits.
    #[must_use]
    pub const fn with_bounds(mut self, minimum: u64, maximum: u64) -> Self {
        self.minimum = minimum;
        self.maximum = maximum;
        self
    }

    /// Sets the seller.
    #[must_use]
    pub fn with_merchant(mut self, merchant: Merchant) -> Self {
        self.merchant = Some(merchant);
        self
    }

    /// Returns whether each request is charged: the plan has no credits.
    #[must_use]
    pub const fn is_pay_as_you_go(&self) -> bool {
        self.credits == 0
    }

    /// Returns the credits that a request needs: those requested, within the plan's bounds.
    #[must_use]
    pub fn need(&self, asked: AtomicAmount) -> u64 {
        let asked = u64::try_from(asked.value()).unwrap_or(u64::MAX);
        asked.clamp(self.minimum, self.maximum)
    }

    /// Returns the purchases that cover missing credits, in one charge, and their price. A plan without credits is bought
    /// once.
    ///
    /// # Errors
    /// `PAYMENT_FAILED`: a card cannot be charged so much at once.
    pub fn purchase(&self, missing: u64) -> Result<(u64, Cents), Rejection> {
        let purchases = if self.is_pay_as_you_go() { 1 } else { missing.div_ceil(self.credits).max(1) };
        let price = self.price.times(purchases).filter(|price| (Cents::LEAST..=Cents::MOST).contains(price));
        let credits = purchases.checked_mul(self.credits).filter(|credits| *credits <= crate::money::MAX_SAFE);
        match (price, credits) {
            (Some(price), Some(_)) => Ok((purchases, price)),
            _ => Err(CardCode::PaymentFailed.because("the price is outside of what a card is charged at once")),
        }
    }

    fn check(&self) -> Result<(), CardPlanError> {
        let safe = crate::money::MAX_SAFE;
        if self.processor != Processor::Stripe {
            Err(CardPlanError::Processor(self.id))
        } else if !(Cents::LEAST..=Cents::MOST).contains(&self.price) {
            Err(CardPlanError::Price(self.id))
        } else if self.credits > safe {
            Err(CardPlanError::Credits(self.id))
        } else if self.minimum == 0 || self.minimum > self.maximum || self.maximum > safe {
            Err(CardPlanError::Range(self.id))
        } else {
            Ok(())
        }
    }
}

/// The plans that a facilitator serves.
#[derive(Debug, Clone, Default)]
pub struct CardPlans(BTreeMap<PlanId, CardPlan>);

impl CardPlans {
    /// Creates the list.
    ///
    /// # Errors
    /// A plan cannot be served, or two have one id.
    pub fn new(plans: impl IntoIterator<Item = CardPlan>) -> Result<Self, CardPlanError> {
        let mut found = BTreeMap::new();
        for plan in plans {
            plan.check()?;
            let id = plan.id;
            if found.insert(id, plan).is_some() {
                return Err(CardPlanError::Twice(id));
            }
        }
        Ok(Self(found))
    }

    /// Finds a plan.
    #[must_use]
    pub fn find(&self, id: PlanId) -> Option<&CardPlan> {
        self.0.get(&id)
    }

    /// Iterates over the plans, by id.
    pub fn iter(&self) -> impl Iterator<Item = &CardPlan> {
        self.0.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(price: u64, credits: u64) -> CardPlan {
        CardPlan::new("1001".parse().unwrap(), Currency::Usd, Cents::try_from(price).unwrap(), credits)
    }

    #[test]
    fn whole_purchases_cover_what_is_missing_in_one_charge() {
        let cents = |cents| Cents::try_from(cents).unwrap();
        let plan = plan(700, 10);
        assert_eq!(plan.purchase(1).unwrap(), (1, cents(700)));
        assert_eq!(plan.purchase(10).unwrap(), (1, cents(700)));
        assert_eq!(plan.purchase(21).unwrap(), (3, cents(2_100)));
        assert_eq!(
            plan.purchase(1_428_571),
            Err(CardCode::PaymentFailed.because("the price is outside of what a card is charged at once"))
        );
        assert!(plan.purchase(u64::MAX).is_err());
        assert_eq!(self::plan(50, 0).purchase(0).unwrap(), (1, cents(50)));
    }

    #[test]
    fn a_request_needs_what_is_asked_within_the_plans_bounds() {
        let plan = plan(700, 10).with_bounds(2, 5);
        let need = |asked: &str| plan.need(asked.parse().unwrap());
        assert_eq!(
            [need("1"), need("2"), need("4"), need("6"), need("340282366920938463463374607431768211456")],
            [2, 2, 4, 5, 5]
        );
    }

    #[test]
    fn a_plan_that_cannot_be_charged_is_refused_at_the_start() {
        let id = "1001".parse().unwrap();
        let refused = |plan| CardPlans::new([plan]).unwrap_err();
        assert_eq!(refused(plan(49, 10)), CardPlanError::Price(id));
        assert_eq!(refused(plan(100_000_000, 10)), CardPlanError::Price(id));
        assert_eq!(refused(plan(700, 10).with_bounds(0, 5)), CardPlanError::Range(id));
        assert_eq!(refused(plan(700, 10).with_bounds(6, 5)), CardPlanError::Range(id));
        assert_eq!(refused(plan(700, crate::money::MAX_SAFE + 1)), CardPlanError::Credits(id));
        let braintree = CardPlan { processor: Processor::Braintree, ..plan(700, 10) };
        assert_eq!(refused(braintree), CardPlanError::Processor(id));
        assert_eq!(CardPlans::new([plan(50, 1), plan(60, 1)]).unwrap_err(), CardPlanError::Twice(id));
    }
}
