//! "upto scheme (metering)": a challenge with a maximum, of which the handler charges the used part.
//!
//! The payment is verified, not settled, before the handler runs. Usage is durable before it counts as used; afterwards
//! the sum is settled, once, and never more than the maximum. No usage costs nothing.

use core::fmt;
use std::sync::Arc;

use x402_types::challenge::{ChallengeId, Payment};
use x402_types::{AtomicAmount, Fault, UnixSeconds};

use crate::proof::ProofError;
use crate::refused::ChallengeRefusal;
use crate::store::{Issued, Store};

/// A meter as a store keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct Metered {
    /// The challenge that was paid: its `maxAmountRequired` is the maximum.
    pub issued: Issued,
    /// The payment that was verified for the challenge.
    pub payment: Payment,
    /// The amount used so far, in atomic units.
    pub used: AtomicAmount,
    /// The state of the meter.
    pub state: MeterState,
    /// The time of the last change.
    pub touched_at: UnixSeconds,
}

/// The state of a meter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MeterState {
    /// The handler is recording usage.
    Open,
    /// Recording has ended; the result of the settlement is not known.
    Closed,
    /// The used amount is paid, or nothing was used.
    Settled,
    /// The used amount is not paid and never will be: the settlement was refused, or the request was not served.
    Refused,
}

impl MeterState {
    /// Every state of a meter.
    pub const ALL: &'static [Self] = &[Self::Open, Self::Closed, Self::Settled, Self::Refused];

    /// Returns the name that a store uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Settled => "settled",
            Self::Refused => "refused",
        }
    }

    /// Returns whether the meter needs no further work.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Settled | Self::Refused)
    }
}

/// The result of adding to a meter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// The usage was recorded; the value is the total.
    Used(AtomicAmount),
    /// The usage would exceed the maximum. Nothing was changed.
    Full {
        /// The unused part of the maximum.
        left: AtomicAmount,
    },
    /// The meter was closed before.
    Closed,
    /// The meter does not exist.
    Unknown,
}

impl Metered {
    /// Adds usage. The caller must hold the row exclusively.
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

/// The reason why nothing was recorded or settled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MeterError {
    /// The usage would exceed the maximum.
    #[error("expected at most {left}, the unused part of the maximum; found more")]
    Full {
        /// The unused part of the maximum, in atomic units.
        left: AtomicAmount,
    },
    /// The meter was closed before.
    #[error("the meter is closed")]
    Closed,
    /// The meter does not exist.
    #[error("there is no such meter")]
    Unknown,
    /// The settlement was refused: the used amount is not paid.
    #[error("the settlement was refused")]
    Refused(Option<ChallengeRefusal>),
    /// A fault of this server or a facilitator; the result is unknown. The settlement may be repeated.
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

    /// Returns the challenge whose payment is metered.
    #[must_use]
    pub const fn id(&self) -> &ChallengeId {
        &self.id
    }

    /// Records usage, and returns the total. The record is durable when this method returns: the handler must deliver
    /// the metered service only then.
    ///
    /// # Errors
    /// `Full`, `Closed` and `Unknown`, which record nothing; a fault, after which the usage may be recorded.
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
