//! The money book: what cards were charged, what sellers received, what was paid back.

/// A charge of a card.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Debit {
    /// The intent's id.
    pub intent: String,
    /// The customer's id.
    pub customer: String,
    /// The amount in cents.
    pub amount: u64,
    /// The currency's code.
    pub currency: String,
    /// The seller's account, and the platform's fee of it.
    pub seller: Option<(String, u64)>,
    /// The sum that was paid back.
    pub refunded: u64,
}

/// The money book.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct MoneyBook {
    /// Every charge, the oldest first.
    pub debits: Vec<Debit>,
}

impl MoneyBook {
    /// Returns the sum that cards paid and did not get back.
    #[must_use]
    pub fn charged(&self) -> u64 {
        self.debits.iter().map(|debit| debit.amount.saturating_sub(debit.refunded)).sum()
    }

    /// Returns the sum that was paid back.
    #[must_use]
    pub fn refunded(&self) -> u64 {
        self.debits.iter().map(|debit| debit.refunded).sum()
    }

    /// Returns what a seller received, without the platform's fee and what was paid back.
    #[must_use]
    pub fn received(&self, account: &str) -> u64 {
        let of = |debit: &&Debit| debit.refunded == 0 && debit.seller.as_ref().is_some_and(|(of, _)| of == account);
        let share = |debit: &Debit| debit.amount.saturating_sub(debit.seller.as_ref().map_or(0, |(_, fee)| *fee));
        self.debits.iter().filter(of).map(share).sum()
    }
}
