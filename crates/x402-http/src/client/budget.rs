//! The client's budget over time. Money is reserved before anything is signed, so that parallel requests cannot
//! overdraw it.

use core::fmt;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use x402_types::{AtomicAmount, ChainId, Dollars, Fault};

/// A payment that is about to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Spend {
    /// The host of the request, with the port if it is not the default.
    pub host: String,
    /// The network of the payment.
    pub network: ChainId,
    /// The asset as the terms write it; EVM addresses in lower case.
    pub asset: String,
    /// The amount in atomic units.
    pub amount: AtomicAmount,
    /// The asset's decimals, if the asset is known and represents dollars.
    pub dollar_decimals: Option<u8>,
    /// The UTC day, counted from 1970-01-01.
    pub day: u64,
}

impl Spend {
    /// Creates a payment of 1970-01-01 in an asset that is not known to represent dollars, as a [`Budget`] is given it: to
    /// test one.
    #[must_use]
    pub fn new(host: &str, network: ChainId, asset: &str, amount: AtomicAmount) -> Self {
        let (host, asset) = (host.to_ascii_lowercase(), canonical_asset(network, asset));
        Self { host, network, asset, amount, dollar_decimals: None, day: 0 }
    }

    /// Sets the decimals of an asset that represents dollars.
    #[must_use]
    pub const fn with_dollar_decimals(mut self, decimals: u8) -> Self {
        self.dollar_decimals = Some(decimals);
        self
    }

    /// Sets the UTC day, counted from 1970-01-01.
    #[must_use]
    pub const fn with_day(mut self, day: u64) -> Self {
        self.day = day;
        self
    }
}

/// The error for a payment that exceeds the rest of the budget.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the day's budget of {budget} for this host and asset leaves {left}, {asked} was asked")]
pub struct OverBudget {
    /// The budget, in atomic units.
    pub budget: AtomicAmount,
    /// The rest of the budget.
    pub left: AtomicAmount,
    /// The amount of the payment.
    pub asked: AtomicAmount,
}

/// The reason why no sum is reserved.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ReserveError {
    /// The sum exceeds the rest of the budget.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
    /// The books cannot be read or written.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// The end of a reservation. If the outcome stays unknown, the reservation never ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// The payment was made.
    Paid,
    /// The payment was made, and took no more than this of the reserved sum, by the server's receipt. Only a scheme that
    /// settles at most what was authorized ends so, and a server that lies about it may have settled all.
    PaidPart(AtomicAmount),
    /// The server reports that the payment was not made and cannot be made.
    Refused,
    /// Nothing was signed or sent.
    NeverSent,
}

/// Accounts for each day's payments by host and asset. Several clients may share one budget.
#[async_trait]
pub trait Budget: Send + Sync + fmt::Debug {
    /// Reserves a sum and returns the reservation's number.
    ///
    /// # Errors
    /// [`ReserveError::OverBudget`] contains the rest; [`ReserveError::Fault`]: the books cannot be read or written. In
    /// both cases nothing is paid.
    async fn reserve(&self, spend: &Spend) -> Result<u64, ReserveError>;

    /// Ends a reservation. It is also called from `Drop`, so it must not block.
    fn close(&self, reservation: u64, how: Closed);
}

/// A budget in memory. Without a limit it only counts.
#[derive(Debug, Default)]
pub struct MemoryBudget {
    per_day: Option<Dollars>,
    listed: Vec<(String, ChainId, String, AtomicAmount)>,
    books: Mutex<Books>,
}

/// The number of refusals by one host that release money in a day. A refusal is only the server's claim, and the server
/// has the signed authorization: a server that refuses all day and settles all the same must exhaust the budget.
const BELIEVED_REFUSALS: u32 = 3;

type Account = (String, ChainId, String);

#[derive(Debug, Default)]
struct Books {
    day: u64,
    used: HashMap<Account, Used>,
    open: HashMap<u64, (Account, AtomicAmount)>,
    reservations: u64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Used {
    sum: AtomicAmount,
    refusals: u32,
}

impl MemoryBudget {
    /// Limits the daily sum for each host and asset, in known assets that represent dollars.
    #[must_use]
    pub const fn with_daily(mut self, sum: Dollars) -> Self {
        self.per_day = Some(sum);
        self
    }

    /// Limits the daily sum for this host and asset, in atomic units.
    #[must_use]
    pub fn with_daily_for(mut self, host: &str, network: ChainId, asset: &str, sum: AtomicAmount) -> Self {
        self.listed.push((host.to_ascii_lowercase(), network, canonical_asset(network, asset), sum));
        self
    }

    /// Returns the sum that is spent or reserved today for a host and an asset.
    #[must_use]
    pub fn used(&self, host: &str, network: ChainId, asset: &str) -> AtomicAmount {
        let account = (host.to_ascii_lowercase(), network, canonical_asset(network, asset));
        self.books().used.get(&account).map_or(AtomicAmount::ZERO, |used| used.sum)
    }

    fn limit(&self, spend: &Spend) -> Option<AtomicAmount> {
        let listed = self.listed.iter().find(|(host, network, asset, _)| {
            *host == spend.host && *network == spend.network && *asset == spend.asset
        });
        listed.map(|(_, _, _, sum)| *sum).or_else(|| {
            // A sum that no amount of the token can express lets nothing be paid in it.
            Some(self.per_day?.to_atomic(spend.dollar_decimals?).unwrap_or(AtomicAmount::ZERO))
        })
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Maps every spelling of an asset to one account.
pub(super) fn canonical_asset(network: ChainId, asset: &str) -> String {
    if network.namespace() == "eip155" { asset.to_ascii_lowercase() } else { asset.to_owned() }
}

#[async_trait]
impl Budget for MemoryBudget {
    async fn reserve(&self, spend: &Spend) -> Result<u64, ReserveError> {
        let limit = self.limit(spend);
        let mut books = self.books();
        // A clock that is set back does not begin a new day.
        if spend.day > books.day {
            // Reservations of earlier days are dropped; closing one later does not change today's account.
            books.day = spend.day;
            books.used.clear();
            books.open.clear();
        }
        let account = (spend.host.clone(), spend.network, spend.asset.clone());
        let used = books.used.entry(account.clone()).or_default();
        let sum = used.sum.value().checked_add(spend.amount.value());
        let sum = sum.map(AtomicAmount::from).filter(|sum| limit.is_none_or(|limit| *sum <= limit));
        let Some(sum) = sum else {
            let budget = limit.unwrap_or_default();
            let left = budget.value().saturating_sub(used.sum.value()).into();
            return Err(OverBudget { budget, left, asked: spend.amount }.into());
        };
        used.sum = sum;
        books.reservations += 1;
        let reservation = books.reservations;
        books.open.insert(reservation, (account, spend.amount));
        Ok(reservation)
    }

    fn close(&self, reservation: u64, how: Closed) {
        let mut books = self.books();
        let Some((account, amount)) = books.open.remove(&reservation) else { return };
        let Some(used) = books.used.get_mut(&account) else { return };
        let given_back = match how {
            Closed::Paid => AtomicAmount::ZERO,
            Closed::PaidPart(part) => amount.value().saturating_sub(part.value()).into(),
            Closed::NeverSent => amount,
            Closed::Refused => {
                used.refusals = used.refusals.saturating_add(1);
                if used.refusals <= BELIEVED_REFUSALS { amount } else { AtomicAmount::ZERO }
            }
        };
        used.sum = used.sum.value().saturating_sub(given_back.value()).into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spend(amount: u64, day: u64) -> Spend {
        let network = "eip155:84532".parse().unwrap();
        let spend = Spend::new("shop.example", network, "0x036CbD53842c5426634e7929541eC2318f3dCF7e", amount.into());
        spend.with_dollar_decimals(6).with_day(day)
    }

    fn used(budget: &MemoryBudget) -> String {
        budget.used("Shop.example", spend(0, 0).network, "0x036CbD53842c5426634e7929541eC2318f3dCF7e").to_string()
    }

    async fn reserve(budget: &MemoryBudget, amount: u64, day: u64) -> Result<u64, ReserveError> {
        budget.reserve(&spend(amount, day)).await
    }

    #[tokio::test]
    async fn what_is_reserved_is_gone_until_it_is_given_back() {
        let budget = MemoryBudget::default().with_daily("0.10".parse().unwrap());
        let first = reserve(&budget, 60_000, 1).await.unwrap();
        let over = reserve(&budget, 60_000, 1).await.unwrap_err();
        assert_eq!(over, OverBudget { budget: 100_000.into(), left: 40_000.into(), asked: 60_000.into() }.into());
        budget.close(first, Closed::NeverSent);
        budget.close(first, Closed::NeverSent);
        assert_eq!(used(&budget), "0");
        let second = reserve(&budget, 60_000, 1).await.unwrap();
        budget.close(second, Closed::Paid);
        assert_eq!(used(&budget), "60000");
        assert!(reserve(&budget, 40_001, 1).await.is_err());
        assert!(reserve(&budget, 40_000, 1).await.is_ok());
        assert!(reserve(&budget, 100_000, 2).await.is_ok(), "a new day");
    }

    #[tokio::test]
    async fn a_server_that_always_refuses_meets_the_end_of_the_budget() {
        let budget = MemoryBudget::default().with_daily("0.10".parse().unwrap());
        let mut paid = 0;
        while let Ok(reservation) = reserve(&budget, 50_000, 1).await {
            budget.close(reservation, Closed::Refused);
            paid += 1;
        }
        assert_eq!(paid, 3 + 2);
    }

    #[tokio::test]
    async fn an_amount_of_2_256_minus_1_does_not_overflow() {
        let budget = MemoryBudget::default();
        let mut huge = spend(1, 1);
        huge.amount = "115792089237316195423570985008687907853269984665640564039457584007913129639935".parse().unwrap();
        budget.reserve(&huge).await.unwrap();
        assert!(reserve(&budget, 1, 1).await.is_err());
    }
}
