//! The decision whether a valid payment is taken on.

use async_trait::async_trait;
use x402_types::{Refusal, UnixSeconds};

use crate::Verified;

/// Decides whether a verified payment is taken on, for example by a budget. A payment that has a row is not decided again:
/// what was taken on is brought to its end.
#[async_trait]
pub trait Admit: Send + Sync {
    /// Returns whether the payment would be taken on, and changes nothing: the last check of a verification.
    /// # Errors
    /// It would not be, or that could not be determined.
    async fn would_admit(&self, verified: &Verified, now: UnixSeconds) -> Result<(), Refusal>;

    /// Takes the payment on, before its row is written. It may be called again for the same payment, and then changes
    /// nothing further.
    /// # Errors
    /// It is not taken on, or that could not be determined: no row is written.
    async fn admit(&self, verified: &Verified, now: UnixSeconds) -> Result<(), Refusal>;
}
