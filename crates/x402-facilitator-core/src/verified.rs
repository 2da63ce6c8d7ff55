//! `Verified` is proof that a claim passed verification; only `Settlement` can create one, so settling without
//! verifying does not compile.

use x402_types::{Claim, PaymentKey};

use crate::Verdict;

/// A claim that passed verification. Only [`crate::Settlement::verify`] creates one, and claiming a payment requires
/// one.
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

    /// Returns the claim.
    #[must_use]
    pub const fn claim(&self) -> &Claim {
        &self.claim
    }

    /// Returns the identity of the authorization.
    #[must_use]
    pub const fn key(&self) -> &PaymentKey {
        &self.key
    }

    /// Returns the mechanism's verdict.
    #[must_use]
    pub const fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    pub(crate) fn into_parts(self) -> (Claim, PaymentKey, Verdict) {
        (self.claim, self.key, self.verdict)
    }
}
