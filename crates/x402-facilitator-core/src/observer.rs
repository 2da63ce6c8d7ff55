//! What a process may hear of the machine's work: for metrics, logs and an operator's page.

use x402_types::{Claim, Fault, Rejection, UnixSeconds};

use crate::{Attempt, Payment, Slot, Step};

/// Hears what the machine does. It is called between two steps of the machine, after what it hears was stored or
/// answered, and what it does changes nothing: it must not block, and it must not panic.
pub trait Observer: Send + Sync {
    /// Something happened at that time of the machine's caller.
    fn notice(&self, happening: &Happening<'_>, now: UnixSeconds);
}

/// Hears nothing: what a machine has until it is told otherwise.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct NoObserver;

impl Observer for NoObserver {
    fn notice(&self, _: &Happening<'_>, _: UnixSeconds) {}
}

/// What happened. The life of a payment is told in the order of the variants; what fails and is tried again is told as
/// [`Happening::Faulted`] in between.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Happening<'a> {
    /// A payment was refused and no row was written: by verification, or because its row says so already.
    Refused {
        /// What was offered.
        claim: &'a Claim,
        /// Why it was refused.
        rejection: &'a Rejection,
    },
    /// A payment's row was written: from now on it is brought to its end.
    Claimed {
        /// The row.
        payment: &'a Payment,
    },
    /// A step waits for a slot: a new one, or one that did not land once more.
    Planned {
        /// The row.
        payment: &'a Payment,
        /// The step.
        step: &'a Step,
    },
    /// Signed bytes are stored with their nonce, and not sent yet.
    Stored {
        /// The slot.
        slot: &'a Slot,
        /// The bytes.
        attempt: &'a Attempt,
    },
    /// The far side took them. The same bytes may be sent again.
    Sent {
        /// The slot as it was before it was sent.
        slot: &'a Slot,
        /// The bytes.
        attempt: &'a Attempt,
    },
    /// A final block shows that the step happened, or that it never can.
    Landed {
        /// The row.
        payment: &'a Payment,
        /// The step, which is decided.
        step: &'a Step,
    },
    /// A payment has its answer.
    Answered {
        /// The row.
        payment: &'a Payment,
    },
    /// Something could not be done, and will be tried again: which kind of fault it is says [`Fault::kind`].
    Faulted {
        /// What the machine was at.
        during: Doing,
        /// The fault.
        fault: &'a Fault,
    },
}

/// What the machine was at when a fault came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Doing {
    /// The check of a claim for [`verify`](crate::Settlement::verify).
    Verify,
    /// The check and the claim of a payment for [`settle`](crate::Settlement::settle).
    Settle,
    /// One thing for one payment: [`advance`](crate::Settlement::advance).
    Advance,
    /// A round of a lane: [`carry`](crate::Settlement::carry).
    Carry,
}

impl Doing {
    /// Its name, for labels: it does not change.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Settle => "settle",
            Self::Advance => "advance",
            Self::Carry => "carry",
        }
    }
}

impl Happening<'_> {
    /// Its name, for labels: it does not change.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "refused",
            Self::Claimed { .. } => "claimed",
            Self::Planned { .. } => "planned",
            Self::Stored { .. } => "stored",
            Self::Sent { .. } => "sent",
            Self::Landed { .. } => "landed",
            Self::Answered { .. } => "answered",
            Self::Faulted { .. } => "faulted",
        }
    }

    /// How many seconds ago the payment was claimed, or the slot's nonce taken. `None` where there is neither, or where
    /// an older release wrote the row and did not store it.
    #[must_use]
    pub const fn age(&self, now: UnixSeconds) -> Option<u64> {
        let since = match self {
            Self::Claimed { payment }
            | Self::Planned { payment, .. }
            | Self::Landed { payment, .. }
            | Self::Answered { payment } => payment.claimed,
            Self::Stored { slot, .. } | Self::Sent { slot, .. } => slot.opened,
            Self::Refused { .. } | Self::Faulted { .. } => return None,
        };
        if since.0 == 0 { None } else { Some(now.0.saturating_sub(since.0)) }
    }
}
