//! "Error Codes": what the client is told.

use x402_types::Fault;
use x402_types::challenge::{Challenge, Code, RefusalBody};

/// A payment that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refused {
    /// The machine code.
    pub code: Code,
    /// What was wrong, for people; names the field.
    pub message: Box<str>,
}

impl Refused {
    /// A refusal.
    #[must_use]
    pub fn new(code: Code, message: impl Into<Box<str>>) -> Self {
        Self { code, message: message.into() }
    }

    /// Its body. A fresh challenge stands in it with 402 only: with 400 and 409 a new payment is not what is asked for.
    #[must_use]
    pub fn body(&self, fresh: Option<&Challenge>) -> RefusalBody {
        let bare = RefusalBody { error: self.code, message: self.message.clone(), rest: x402_types::Members::new() };
        match fresh {
            Some(challenge) if self.code.status() == 402 => bare.clone().with_challenge(challenge).unwrap_or(bare),
            _ => bare,
        }
    }
}

/// Why a payment was not granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// The payer's fault.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// This very payment is being verified. The same payment may be sent again; another would pay twice.
    #[error("the payment is being verified; send it again in {retry_after} s")]
    Pending {
        /// When to ask again at the latest, in seconds.
        retry_after: u64,
    },
    /// Ours, or a facilitator's: whether it is paid is not known. The same payment may be sent again.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl CheckError {
    /// The HTTP status it is answered with. What is not known is never 402: the client would pay again.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Refused(refused) => refused.code.status(),
            Self::Fault(Fault::Broken { .. }) => 500,
            Self::Pending { .. } | Self::Fault(_) => 503,
        }
    }

    /// `Retry-After`, in seconds: with every 503.
    #[must_use]
    pub const fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Pending { retry_after } => Some(*retry_after),
            Self::Fault(Fault::Broken { .. }) | Self::Refused(_) => None,
            Self::Fault(_) => Some(1),
        }
    }
}
