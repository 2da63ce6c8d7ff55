//! A check leaves a value.

use x402_types::{Claim, PaymentKey};

use crate::Verdict;

/// A claim that was checked. Only [`crate::Settlement::verify`] makes one, and claiming a payment takes one:
/// forgetting to verify does not compile.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    claim: Claim,
    key: PaymentKey,
    verdict: Verdict,
}

impl Verified {
    pub(crate) const fn new(claim: Claim, key: PaymentKey, verdict: Verdict) -> Self {
        Self { claim, key, verdict }
    }

    /// What was checked.
    #[must_use]
    pub const fn claim(&self) -> &Claim {
        &self.claim
    }

    /// The identity of its authorization.
    #[must_use]
    pub const fn key(&self) -> &PaymentKey {
        &self.key
    }

    /// What the mechanism said of it.
    #[must_use]
    pub const fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    pub(crate) fn into_parts(self) -> (Claim, PaymentKey, Verdict) {
        (self.claim, self.key, self.verdict)
    }
}
