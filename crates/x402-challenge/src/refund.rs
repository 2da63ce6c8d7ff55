//! "Refunds": paying a settled payment back, once.

use async_trait::async_trait;
use x402_types::challenge::Network;
use x402_types::{AtomicAmount, EvmAddress, Fault, UnixSeconds};

use crate::proof::ProofError;
use crate::refused::ChallengeRefusal;
use crate::store::ProofKey;

/// A request to refund a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refund {
    /// The fact that the payment's proof established: `Granted::proof`.
    pub proof: ProofKey,
    /// The network of the refund.
    pub network: Network,
    /// The contract of the token.
    pub asset: EvmAddress,
    /// The address that receives the refund.
    pub to: EvmAddress,
    /// The amount in atomic units: at most what was paid.
    pub amount: AtomicAmount,
    /// The time of the decision. A repeated refund keeps the time of the first request, so that the same message is
    /// signed.
    pub asked_at: UnixSeconds,
}

/// The state of a refund in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefundStanding {
    /// No payment with this proof was granted, or it was smaller, or it was metered.
    Unpaid,
    /// Another refund of the same payment exists.
    Other,
    /// The refund is stored, and its result is unknown.
    Begun,
    /// The refund was made.
    Done {
        /// The adapter's receipt: a transaction.
        receipt: Box<str>,
    },
}

/// Pays settled payments back.
#[async_trait]
pub trait RefundPayment: Send + Sync {
    /// Pays the amount back, and returns a receipt. Repeated for the same proof it pays nothing more, whatever the
    /// result of the first call.
    ///
    /// # Errors
    /// `Refused`, if nothing moved and nothing will; a fault, if the result is unknown.
    async fn refund(&self, refund: &Refund) -> Result<Box<str>, ProofError>;
}

/// The reason why nothing was paid back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefundError {
    /// No payment with this proof was granted, or it was smaller, or it was metered.
    #[error("expected a granted payment of at least this amount for this proof; found none")]
    Unpaid,
    /// Another refund of the same payment exists.
    #[error("expected no other refund of this payment; found one")]
    Other,
    /// The adapter refused; nothing moved.
    #[error(transparent)]
    Refused(#[from] ChallengeRefusal),
    /// The result is unknown. The same refund may be repeated.
    #[error(transparent)]
    Fault(#[from] Fault),
}
