//! Proofs as adapters: one for each type that a server accepts.

use core::fmt;
use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use x402_types::challenge::{Code, Payment, ProofKind};
use x402_types::{AtomicAmount, Fault, SchemeName, UnixSeconds};

use crate::meter::Metered;
use crate::mock::MockProof;
use crate::refused::ChallengeRefusal;
use crate::store::{Issued, PaymentDigest, ProofKey};

/// The facts that a proof establishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// The amount paid. It must be the amount that the payment states.
    pub amount: AtomicAmount,
    /// The fact that can be used only once, if the type of proof has one. It includes the type:
    /// `onchain:eip155:8453:0x…`.
    pub key: Option<ProofKey>,
}

/// A payment whose proof is to be verified. Everything else about the payment was checked.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'e> {
    /// The challenge to be paid, and the time at which it was issued.
    pub issued: &'e Issued,
    /// The payment that contains the proof.
    pub payment: &'e Payment,
    /// The identity of the payment, under which a settlement is requested.
    pub digest: PaymentDigest,
    /// Whether the payment was begun before and its result is unknown, so that its money may have moved. Then a proof
    /// that settles is settled again, which is idempotent, and every check that a completed payment would fail is
    /// skipped before that.
    pub again: bool,
}

impl Evidence<'_> {
    /// Returns whether the sum is metered: then nothing is settled before the handler has run.
    #[must_use]
    pub fn is_metered(&self) -> bool {
        self.issued.challenge.scheme == SchemeName::UPTO
    }
}

/// The reason why a proof establishes nothing yet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The proof was refused, and it is certain that nothing moved and nothing will: another payment may be made.
    #[error(transparent)]
    Refused(#[from] ChallengeRefusal),
    /// A fault of this server, before this attempt could move anything.
    #[error(transparent)]
    Unmoved(Fault),
    /// Money may have moved. The payer may retry the same payment, and no other.
    #[error(transparent)]
    Unknown(Fault),
}

/// Verifies proofs of one type.
#[async_trait]
pub trait VerifyProof: Send + Sync {
    /// Returns the type of the proofs.
    fn kind(&self) -> ProofKind;

    /// Verifies the payment's proof for this challenge. The method may be called repeatedly for the same payment, also
    /// concurrently; a settlement below it must happen only once. The payment's statements must be checked before
    /// anything is moved.
    ///
    /// A URL in the proof is chosen by the client and must never be called.
    ///
    /// # Errors
    /// `verification_failed` or a more specific code if the proof is refused; a fault if the result is unknown.
    async fn verify(&self, evidence: &Evidence<'_>, now: UnixSeconds) -> Result<Proven, ProofError>;

    /// Settles the used amount of a metered payment, above zero and at most the maximum. Repeated for the same meter,
    /// it settles nothing more. It is never called for proofs that move a fixed sum.
    ///
    /// # Errors
    /// `Refused`, if nothing moved and nothing will; a fault, if the result is unknown.
    async fn settle(&self, meter: &Metered, now: UnixSeconds) -> Result<(), ProofError> {
        let _ = (meter, now);
        Err(ChallengeRefusal::new(Code::Mismatch, "proof.type: cannot carry the scheme `upto`").into())
    }
}

/// The types of proof that a server accepts. Only listed types are accepted: an empty set grants nothing.
#[derive(Clone, Default)]
pub struct Proofs(BTreeMap<ProofKind, Arc<dyn VerifyProof>>);

/// The error for a mock adapter that was passed as a real one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a mock proof is switched on by `with_mock_for_development` only")]
pub struct UnnamedMock;

impl Proofs {
    /// Accepts proofs of one more type.
    ///
    /// # Errors
    /// The type is `mock`.
    pub fn with(mut self, adapter: Arc<dyn VerifyProof>) -> Result<Self, UnnamedMock> {
        if adapter.kind() == ProofKind::Mock {
            return Err(UnnamedMock);
        }
        self.0.insert(adapter.kind(), adapter);
        Ok(self)
    }

    /// Accepts mock proofs: every client is granted access without paying.
    #[must_use]
    pub fn with_mock_for_development(mut self) -> Self {
        self.0.insert(ProofKind::Mock, Arc::new(MockProof));
        self
    }

    /// Returns the adapter of a type, if it is enabled.
    #[must_use]
    pub fn adapter(&self, kind: ProofKind) -> Option<&Arc<dyn VerifyProof>> {
        self.0.get(&kind)
    }
}

impl fmt::Debug for Proofs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
