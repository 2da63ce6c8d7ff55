//! Section "Delegation": the record, its states and its limits.

use x402_types::UnixSeconds;
use x402_types::nvm::PlanId;
use x402_types::nvm::card::{CardCode, Processor};

use crate::{Cents, Currency, DelegationId};

/// A bounded right to charge a card. Its limits never change: a new limit is a new delegation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delegation {
    /// The delegation's id.
    pub id: DelegationId,
    /// The user that made it, `sub` of its tokens.
    pub owner: String,
    /// The only API key for which tokens are issued.
    pub api_key: Option<String>,
    /// The processor of the card.
    pub processor: Processor,
    /// The customer at the processor.
    pub customer: String,
    /// The card's handle at the processor.
    pub payment_method: String,
    /// The only currency.
    pub currency: Currency,
    /// The most that is charged in total.
    pub limit: Cents,
    /// The most charges.
    pub max_charges: Option<u64>,
    /// The only plan.
    pub plan: Option<PlanId>,
    /// The only seller's account.
    pub merchant: Option<String>,
    /// The time of creation.
    pub created_at: UnixSeconds,
    /// The time of its end.
    pub expires_at: UnixSeconds,
    /// The time of its revocation.
    pub revoked_at: Option<UnixSeconds>,
    /// The sum of its charges, with those that are being made now.
    pub spent: Cents,
    /// The number of its charges, with those that are being made now.
    pub charges: u64,
}

/// The parts of a new delegation that have no default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDelegation {
    /// The delegation's id.
    pub id: DelegationId,
    /// The user that makes it.
    pub owner: String,
    /// The customer at the processor.
    pub customer: String,
    /// The card's handle at the processor.
    pub payment_method: String,
    /// The only currency.
    pub currency: Currency,
    /// The most that is charged in total.
    pub limit: Cents,
    /// The time of creation.
    pub created_at: UnixSeconds,
    /// The time of its end.
    pub expires_at: UnixSeconds,
}

/// The state of a delegation at a time. It is computed, never stored; the first that applies counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DelegationStatus {
    /// The owner, an operator or the removal of its card ended it, for good.
    Revoked,
    /// The time is over, for good.
    Expired,
    /// Nothing is left of its limit or its charges.
    Exhausted,
    /// The card may be charged.
    Active,
}

impl DelegationStatus {
    /// Returns the word of the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "Revoked",
            Self::Expired => "Expired",
            Self::Exhausted => "Exhausted",
            Self::Active => "Active",
        }
    }

    /// Returns Nevermined's own code of a delegation that may not be charged.
    #[must_use]
    pub const fn nvm_code(self) -> Option<&'static str> {
        match self {
            Self::Revoked => Some("BCK.X402.0020"),
            Self::Expired => Some("BCK.X402.0021"),
            Self::Exhausted => Some("BCK.X402.0022"),
            Self::Active => None,
        }
    }
}

/// The reason why a charge was not counted. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotCounted {
    /// The delegation is not active.
    Inactive(DelegationStatus),
    /// The sum would be above the limit.
    Limit,
    /// There is no charge left.
    Charges,
}

impl NotCounted {
    /// Returns the code of the refusal.
    #[must_use]
    pub const fn code(self) -> CardCode {
        match self {
            Self::Inactive(_) => CardCode::DelegationInactive,
            Self::Limit => CardCode::InsufficientBalance,
            Self::Charges => CardCode::TransactionLimitReached,
        }
    }
}

impl Delegation {
    /// Creates an active delegation of Stripe's, without further limits.
    #[must_use]
    pub fn new(new: NewDelegation) -> Self {
        let NewDelegation { id, owner, customer, payment_method, currency, limit, created_at, expires_at } = new;
        Self {
            id,
            owner,
            api_key: None,
            processor: Processor::Stripe,
            customer,
            payment_method,
            currency,
            limit,
            max_charges: None,
            plan: None,
            merchant: None,
            created_at,
            expires_at,
            revoked_at: None,
            spent: Cents::ZERO,
            charges: 0,
        }
    }

    /// Returns the state at a time.
    #[must_use]
    pub fn status(&self, now: UnixSeconds) -> DelegationStatus {
        if self.revoked_at.is_some() {
            DelegationStatus::Revoked
        } else if now >= self.expires_at {
            DelegationStatus::Expired
        } else if self.spent >= self.limit || self.max_charges.is_some_and(|most| self.charges >= most) {
            DelegationStatus::Exhausted
        } else {
            DelegationStatus::Active
        }
    }

    /// Returns whether a payment that was counted may still be charged: only the end and a revocation prevent it, for its
    /// own count may have exhausted the delegation.
    #[must_use]
    pub fn may_charge(&self, now: UnixSeconds) -> bool {
        !matches!(self.status(now), DelegationStatus::Revoked | DelegationStatus::Expired)
    }

    /// Returns what is left of the limit.
    #[must_use]
    pub fn remaining(&self) -> Cents {
        self.limit.minus(self.spent).unwrap_or_default()
    }

    /// Counts a charge.
    ///
    /// # Errors
    /// The delegation does not allow it.
    pub fn count(&mut self, cents: Cents, now: UnixSeconds) -> Result<(), NotCounted> {
        match self.status(now) {
            DelegationStatus::Active => {}
            status => return Err(NotCounted::Inactive(status)),
        }
        let charges = self.charges.checked_add(1).ok_or(NotCounted::Charges)?;
        let spent = self.spent.plus(cents).filter(|spent| *spent <= self.limit).ok_or(NotCounted::Limit)?;
        if self.max_charges.is_some_and(|most| charges > most) {
            return Err(NotCounted::Charges);
        }
        self.spent = spent;
        self.charges = charges;
        Ok(())
    }

    /// Takes a counted charge back: it never happened, or was refunded.
    pub fn take_back(&mut self, cents: Cents) {
        self.spent = self.spent.minus(cents).unwrap_or_default();
        self.charges = self.charges.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cents(cents: u64) -> Cents {
        Cents::try_from(cents).unwrap()
    }

    fn delegation(limit: u64) -> Delegation {
        Delegation::new(NewDelegation {
            id: "d".parse().unwrap(),
            owner: "user-7".to_owned(),
            customer: "cus_1".to_owned(),
            payment_method: "pm_1".to_owned(),
            currency: Currency::Usd,
            limit: cents(limit),
            created_at: UnixSeconds(100),
            expires_at: UnixSeconds(200),
        })
    }

    #[test]
    fn the_state_is_the_first_cause_that_applies() {
        let mut it = delegation(1_000);
        assert_eq!(it.status(UnixSeconds(199)), DelegationStatus::Active);
        assert_eq!(it.status(UnixSeconds(200)), DelegationStatus::Expired);
        it.max_charges = Some(1);
        it.count(cents(1), UnixSeconds(150)).unwrap();
        assert_eq!(it.status(UnixSeconds(199)), DelegationStatus::Exhausted);
        assert_eq!(it.status(UnixSeconds(200)), DelegationStatus::Expired);
        assert!(it.may_charge(UnixSeconds(199)) && !it.may_charge(UnixSeconds(200)));
        it.revoked_at = Some(UnixSeconds(160));
        assert_eq!(it.status(UnixSeconds(200)), DelegationStatus::Revoked);
        assert!(!it.may_charge(UnixSeconds(161)));
    }

    #[test]
    fn a_limit_is_kept_by_one_cent() {
        let now = UnixSeconds(150);
        let mut it = delegation(1_000);
        assert_eq!(it.count(cents(1_001), now), Err(NotCounted::Limit));
        assert_eq!((it.spent, it.charges), (Cents::ZERO, 0));
        it.count(cents(300), now).unwrap();
        assert_eq!(it.count(cents(701), now), Err(NotCounted::Limit));
        it.count(cents(700), now).unwrap();
        assert_eq!((it.spent, it.charges, it.remaining()), (cents(1_000), 2, Cents::ZERO));
        assert_eq!(it.count(cents(1), now), Err(NotCounted::Inactive(DelegationStatus::Exhausted)));
        it.take_back(cents(700));
        assert_eq!((it.status(now), it.spent, it.charges), (DelegationStatus::Active, cents(300), 1));
    }
}
