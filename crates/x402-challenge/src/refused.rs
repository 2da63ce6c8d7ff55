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
    /// Ours, or a facilitator's: whether it is paid is not known, and nothing was consumed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl CheckError {
    /// The HTTP status it is answered with.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Refused(refused) => refused.code.status(),
            Self::Fault(Fault::Broken { .. }) => 500,
            Self::Fault(_) => 503,
        }
    }
}
