//! "upto scheme (metering)": a challenge with a maximum, of which the handler takes what it used.
//!
//! The payment is verified, not settled, before the handler runs. What is used is durable before it is counted as
//! used; afterwards that sum is settled, once, and never more than the maximum. Nothing used is free.

use core::fmt;
use std::sync::Arc;

use x402_types::challenge::{ChallengeId, Payment};
use x402_types::{AtomicAmount, Fault, UnixSeconds};

use crate::proof::ProofError;
use crate::refused::Refused;
use crate::store::{Issued, Store};

/// A meter as a store keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct Metered {
    /// The challenge that was paid: its `maxAmountRequired` is the maximum.
    pub issued: Issued,
    /// The payment that was verified for it.
    pub payment: Payment,
    /// What was used so far, in atomic units.
    pub used: AtomicAmount,
    /// Where it stands.
    pub state: MeterState,
    /// When it was last changed.
    pub touched_at: UnixSeconds,
}

/// Where a meter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MeterState {
    /// The handler counts.
    Open,
    /// Counted; the settlement is not known to have ended.
    Closed,
    /// What was used is paid, or nothing was.
    Settled,
    /// The settlement was refused: what was used is not paid.
    Refused,
}

impl MeterState {
    /// Every state.
    pub const ALL: &'static [Self] = &[Self::Open, Self::Closed, Self::Settled, Self::Refused];

    /// Its name in a store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Settled => "settled",
            Self::Refused => "refused",
        }
    }

    /// Whether there is nothing left to do.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Settled | Self::Refused)
    }
}

/// What adding to a meter came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It is counted: so much was used in all.
    Used(AtomicAmount),
    /// It would be more than the maximum, of which so much is left. Nothing was changed.
    Full {
        /// What is left.
        left: AtomicAmount,
    },
    /// The meter was closed before.
    Closed,
    /// There is no such meter.
    Unknown,
}

impl Metered {
    /// Adds to it, for a store that holds the row alone.
    pub fn add(&mut self, amount: AtomicAmount, now: UnixSeconds) -> Added {
        if self.state != MeterState::Open {
            return Added::Closed;
        }
        let (used, max) = (self.used.value(), self.issued.challenge.max_amount_required.value());
        match used.checked_add(amount.value()) {
            Some(total) if total <= max => {
                self.used = total.into();
                self.touched_at = now;
                Added::Used(self.used)
            }
            _ => Added::Full { left: max.saturating_sub(used).into() },
        }
    }
}

/// Why nothing was counted or settled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MeterError {
    /// It would be more than the maximum.
    #[error("more than the maximum, of which {left} is left")]
    Full {
        /// What is left, in atomic units.
        left: AtomicAmount,
    },
    /// The meter was closed before.
    #[error("the meter is closed")]
    Closed,
    /// There is no such meter.
    #[error("there is no such meter")]
    Unknown,
    /// The settlement was refused: what was used is not paid.
    #[error("the settlement was refused")]
    Refused(Option<Refused>),
    /// Ours, or a facilitator's: whether it happened is not known. Settling may be tried again.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl From<ProofError> for MeterError {
    fn from(error: ProofError) -> Self {
        match error {
            ProofError::Refused(refused) => Self::Refused(Some(refused)),
            ProofError::Unmoved(fault) | ProofError::Unknown(fault) => Self::Fault(fault),
        }
    }
}

/// The meter of one payment, for the handler that serves it.
#[derive(Clone)]
pub struct Meter {
    store: Arc<dyn Store>,
    id: ChallengeId,
}

impl Meter {
    pub(crate) fn new(store: Arc<dyn Store>, id: ChallengeId) -> Self {
        Self { store, id }
    }

    /// The challenge whose payment it meters.
    #[must_use]
    pub const fn id(&self) -> &ChallengeId {
        &self.id
    }

    /// Counts so much as used, and answers how much that is in all. Durable before it answers: give what was used for
    /// only then.
    ///
    /// # Errors
    /// `Full`, `Closed` and `Unknown`, which count nothing; a fault, after which it may be counted.
    pub async fn add(&self, amount: AtomicAmount, now: UnixSeconds) -> Result<AtomicAmount, MeterError> {
        match self.store.add_use(&self.id, amount, now).await? {
            Added::Used(total) => Ok(total),
            Added::Full { left } => Err(MeterError::Full { left }),
            Added::Closed => Err(MeterError::Closed),
            Added::Unknown => Err(MeterError::Unknown),
        }
    }
}

impl PartialEq for Meter {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Meter").field(&self.id).finish()
    }
}
