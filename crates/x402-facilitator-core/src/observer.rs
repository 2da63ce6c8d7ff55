//! The observer of the settlement machine: the source of metrics, logs and an operator's page.

use x402_types::{Claim, Fault, Rejection, UnixSeconds};

use crate::{Attempt, Payment, Slot, Step};

/// A receiver of the machine's events. It is called between two steps of the machine, after the event was stored or
/// answered, and it changes nothing: it must not block and must not panic.
pub trait Observer: Send + Sync {
    /// Receives one event, with the time that the machine's caller passed in.
    fn notice(&self, happening: &Happening<'_>, now: UnixSeconds);
}

/// An observer without effect, the machine's default.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct NoObserver;

impl Observer for NoObserver {
    fn notice(&self, _: &Happening<'_>, _: UnixSeconds) {}
}

/// An event of the machine. A payment passes through the variants in their order; a step that failed and will be tried
/// again appears as [`Happening::Faulted`] in between.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Happening<'a> {
    /// A payment was refused, by verification or by its existing row, and no row was written.
    Refused {
        /// The refused claim.
        claim: &'a Claim,
        /// The reason of the refusal.
        rejection: &'a Rejection,
    },
    /// A payment's row was written: from now on it is brought to its end.
    Claimed {
        /// The row of the payment.
        payment: &'a Payment,
    },
    /// A step waits for a slot: a new step, or one that failed to land.
    Planned {
        /// The row of the payment.
        payment: &'a Payment,
        /// The step that waits.
        step: &'a Step,
    },
    /// Signed bytes are stored with their nonce, and not sent yet.
    Stored {
        /// The slot of the bytes.
        slot: &'a Slot,
        /// The signed bytes.
        attempt: &'a Attempt,
    },
    /// The far side accepted the bytes. The same bytes may be sent again.
    Sent {
        /// The slot as it was before it was sent.
        slot: &'a Slot,
        /// The signed bytes.
        attempt: &'a Attempt,
    },
    /// A final block shows that the step happened, or that it never can.
    Landed {
        /// The row of the payment.
        payment: &'a Payment,
        /// The step, which is decided.
        step: &'a Step,
    },
    /// A payment has its answer.
    Answered {
        /// The row of the payment.
        payment: &'a Payment,
    },
    /// A step of the machine failed and will be tried again. [`Fault::kind`] is the kind of the fault.
    Faulted {
        /// The machine's activity.
        during: Doing,
        /// The fault that occurred.
        fault: &'a Fault,
    },
}

/// The machine's activity when a fault occurred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Doing {
    /// The check of a claim for [`verify`](crate::Settlement::verify).
    Verify,
    /// The check and the claim of a payment for [`settle`](crate::Settlement::settle).
    Settle,
    /// One call for one payment: [`advance`](crate::Settlement::advance).
    Advance,
    /// A round of a lane: [`carry`](crate::Settlement::carry).
    Carry,
}

impl Doing {
    /// Returns the activity's name for labels, which never changes.
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
    /// Returns the event's name for labels, which never changes.
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

    /// Returns the number of seconds since the payment was claimed or the slot's nonce was taken. `None` means that the
    /// event has neither, or that an older release wrote the row without that time.
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
