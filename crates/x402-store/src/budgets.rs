//! The counts of payments under a facilitator's budgets, in the place of its ledger.
//!
//! A payment is counted once for each line, before its row is written, and corrected when its cost is known. A line is of one
//! day: what belongs to an older day is deleted.

use async_trait::async_trait;
use x402_types::{AtomicAmount, Fault, PaymentKey};

/// The measure of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// Atomic units of a token.
    Money,
    /// Wei that transactions cost.
    Gas,
}

impl Measure {
    /// Returns the measure's name, as it is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Money => "money",
            Self::Gas => "gas",
        }
    }
}

/// One line that a payment is counted under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetLine {
    /// The name of the rule.
    pub rule: String,
    /// The owner of the line: a payer, a caller, or empty if the rule has one line.
    pub of: String,
    /// The measure of the amounts.
    pub measure: Measure,
    /// The payment's part.
    pub amount: AtomicAmount,
    /// The most that all payments of the line may have in a day.
    pub most: AtomicAmount,
}

/// A payment, and the lines that it is counted under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetCharge {
    /// The key of the payment.
    pub payment: PaymentKey,
    /// The day, in days since 1970 by UTC.
    pub day: u64,
    /// The lines, each rule at most once.
    pub lines: Vec<BudgetLine>,
}

/// A line that has no room for a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoRoom {
    /// The name of the rule.
    pub rule: String,
    /// The amount that is left.
    pub left: AtomicAmount,
}

/// Counts payments durably. Several processes may share one store.
#[async_trait]
pub trait Budgets: Send + Sync + std::fmt::Debug {
    /// Counts a payment under all of its lines, or under none and names the line without room. A payment that was counted
    /// before is not counted again.
    /// # Errors
    /// The store failed; the payment may be counted.
    async fn count(&self, charge: BudgetCharge) -> Result<Result<(), NoRoom>, Fault>;

    /// Replaces the amount that a payment is counted with, under its lines of this measure. A payment that is not counted
    /// stays so.
    /// # Errors
    /// The store failed; the amount may be replaced.
    async fn correct(&self, payment: &PaymentKey, measure: Measure, amount: AtomicAmount) -> Result<(), Fault>;

    /// Returns what a day's line has.
    /// # Errors
    /// The store failed.
    async fn used(&self, day: u64, rule: &str, of: &str) -> Result<AtomicAmount, Fault>;

    /// Returns the day's lines of a rule with their amounts, greatest first, at most `limit`.
    /// # Errors
    /// The store failed.
    async fn greatest(&self, day: u64, rule: &str, limit: usize) -> Result<Vec<(String, AtomicAmount)>, Fault>;
}

/// The days before a new charge's that are kept.
pub(crate) const KEPT_DAYS: u64 = 1;
/// The number of old rows that one new charge deletes.
pub(crate) const FORGET: i64 = 100;

/// The reason why nothing was counted.
pub(crate) enum NotCounted {
    Over(NoRoom),
    Fault(Fault),
}

impl From<Fault> for NotCounted {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Separates the two reasons.
pub(crate) fn counted(result: Result<(), NotCounted>) -> Result<Result<(), NoRoom>, Fault> {
    match result {
        Ok(()) => Ok(Ok(())),
        Err(NotCounted::Over(over)) => Ok(Err(over)),
        Err(NotCounted::Fault(fault)) => Err(fault),
    }
}
