//! A payment's next state, which one call found out and nothing has stored yet.
//!
//! A worker collects drafts: what one block shows of many payments is one commit, and a step that finds a slot at once is
//! stored together with its slot.

use x402_types::{Fault, PaymentKey, UnixSeconds};

#[cfg(doc)]
use crate::Settlement;
use crate::{Payment, StepState};

/// A payment's next state that is not stored yet. [`Settlement::draft`] makes it; [`Settlement::store`] or
/// [`Settlement::carry_drafts`] stores it. Dropping it loses nothing but the call that made it.
#[derive(Debug, Clone, PartialEq)]
pub struct PaymentDraft {
    pub(crate) before: Payment,
    pub(crate) after: Payment,
}

impl PaymentDraft {
    /// Returns the payment's key.
    #[must_use]
    pub const fn key(&self) -> &PaymentKey {
        &self.after.key
    }

    /// Returns whether a step waits for a slot: [`Settlement::carry_drafts`] stores it together with its slot.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.after.steps.last().is_some_and(|step| step.state == StepState::Ready) && !self.is_unchanged()
    }

    /// Returns whether nothing but the time of the next attention differs, which need not be stored: a restart looks at
    /// every unanswered payment at once.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        let Self { before, after } = self;
        before.waits == after.waits && before.answer == after.answer && before.steps == after.steps
    }

    /// Returns the payment's state once the draft is stored.
    #[must_use]
    pub fn stage(&self) -> Stage {
        stage(&self.after)
    }
}

/// The next work of a payment, as far as its worker knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Nothing: the payment has its answer.
    Answered,
    /// The payment's next call, at this time or at the next block if that comes first.
    Open(UnixSeconds),
    /// Another writer was first. Nothing was stored; the next draft begins with the current row.
    Overtaken,
}

pub(crate) fn stage(payment: &Payment) -> Stage {
    if payment.answer.is_some() { Stage::Answered } else { Stage::Open(payment.due) }
}

/// The result of storing each draft, by payment.
pub type StoredDrafts = Vec<(PaymentKey, Result<Stage, Fault>)>;
