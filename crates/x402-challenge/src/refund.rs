//! "Refunds": paying a settled payment back, once.

use async_trait::async_trait;
use x402_types::challenge::Network;
use x402_types::{AtomicAmount, EvmAddress, Fault, UnixSeconds};

use crate::proof::ProofError;
use crate::refused::Refused;
use crate::store::ProofKey;

/// What is to be paid back of a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refund {
    /// What the payment's proof proved: `Granted::proof`.
    pub proof: ProofKey,
    /// Where.
    pub network: Network,
    /// The token.
    pub asset: EvmAddress,
    /// To whom.
    pub to: EvmAddress,
    /// How much, in atomic units: at most what was paid.
    pub amount: AtomicAmount,
    /// When it was decided. The same refund, asked for again, has the same time: what is signed for it is the same then.
    pub asked_at: UnixSeconds,
}

/// What a store knows of a refund.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefundStanding {
    /// No payment with this proof was granted, or it was less, or it was metered.
    Unpaid,
    /// Another refund of the same payment stands already.
    Other,
    /// It is written down and not known to have been made.
    Begun,
    /// It was made.
    Done {
        /// What the adapter answered: a transaction.
        receipt: Box<str>,
    },
}

/// Pays back.
#[async_trait]
pub trait RefundPayment: Send + Sync {
    /// Pays so much back, and answers a receipt. Asked again for the same proof it pays nothing more, whatever became of
    /// the first call.
    ///
    /// # Errors
    /// `Refused`, where nothing moved and nothing will; a fault, where that is not known.
    async fn refund(&self, refund: &Refund) -> Result<Box<str>, ProofError>;
}

/// Why nothing was paid back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefundError {
    /// No payment with this proof was granted, or it was less, or it was metered.
    #[error("no payment of so much was granted for this proof")]
    Unpaid,
    /// Another refund of the same payment stands already.
    #[error("another refund of this payment stands already")]
    Other,
    /// The adapter refused; nothing moved.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Whether it was made is not known. The same refund may be asked for again.
    #[error(transparent)]
    Fault(#[from] Fault),
}
