//! "Error Codes": the refusals that clients receive.

use x402_types::Fault;
use x402_types::challenge::{Challenge, Code, RefusalBody};

/// A payment that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ChallengeRefusal {
    /// The machine-readable code.
    pub code: Code,
    /// The description of the fault, for people; it names the field.
    pub message: Box<str>,
}

impl ChallengeRefusal {
    /// Creates a refusal.
    #[must_use]
    pub fn new(code: Code, message: impl Into<Box<str>>) -> Self {
        Self { code, message: message.into() }
    }

    /// Builds the response's body. Only a 402 includes a fresh challenge: after 400 and 409 the client must not simply
    /// pay again.
    #[must_use]
    pub fn body(&self, fresh: Option<&Challenge>) -> RefusalBody {
        let bare = RefusalBody { error: self.code, message: self.message.clone(), rest: x402_types::Members::new() };
        match fresh {
            Some(challenge) if self.code.status() == 402 => bare.clone().with_challenge(challenge).unwrap_or(bare),
            _ => bare,
        }
    }
}

/// The reason why a payment was not granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// The payer is at fault.
    #[error(transparent)]
    Refused(#[from] ChallengeRefusal),
    /// The same payment is being verified. It may be sent again; another payment would pay twice.
    #[error("the payment is being verified; send it again in {retry_after} s")]
    Pending {
        /// The longest time to wait before a retry, in seconds.
        retry_after: u64,
    },
    /// A fault of this server or a facilitator; it is unknown whether the challenge is paid. The same payment may be
    /// sent again.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl CheckError {
    /// Returns the HTTP status of the response. An unknown result is never 402, because the client would pay again.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Refused(refused) => refused.code.status(),
            Self::Fault(Fault::Broken { .. }) => 500,
            Self::Pending { .. } | Self::Fault(_) => 503,
        }
    }

    /// Returns the value of `Retry-After` in seconds, for every 503.
    #[must_use]
    pub const fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Pending { retry_after } => Some(*retry_after),
            Self::Fault(Fault::Broken { .. }) | Self::Refused(_) => None,
            Self::Fault(_) => Some(1),
        }
    }
}
