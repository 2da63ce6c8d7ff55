//! Proofs as adapters: one for each type that a server takes.

use core::fmt;
use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use x402_types::challenge::{Code, Payment, ProofKind};
use x402_types::{AtomicAmount, Fault, SchemeName, UnixSeconds};

use crate::meter::Metered;
use crate::mock::MockProof;
use crate::refused::Refused;
use crate::store::{Issued, PaymentDigest, ProofKey};

/// What a proof proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// What was paid. It must be what the payment says.
    pub amount: AtomicAmount,
    /// What can be proven once only, where the kind of proof has such a thing. It names its own kind: `onchain:eip155:8453:0x…`.
    pub key: Option<ProofKey>,
}

/// A payment whose proof is to be verified. Everything else about it was checked.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'e> {
    /// The challenge that it pays, and when it was issued.
    pub issued: &'e Issued,
    /// The payment.
    pub payment: &'e Payment,
    /// Which payment it is: the identity under which a settlement is asked for.
    pub digest: PaymentDigest,
    /// Whether it was begun before without an end that is known: what it moves may have moved. Then a proof that
    /// settles is settled again, which is idempotent, and nothing is asked first that a moved payment would fail.
    pub again: bool,
}

impl Evidence<'_> {
    /// Whether the sum is metered: then nothing is settled before the handler has run.
    #[must_use]
    pub fn is_metered(&self) -> bool {
        self.issued.challenge.scheme == SchemeName::UPTO
    }
}

/// Why a proof proves nothing now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Refused, and it is certain that nothing moved and nothing will: another payment may be made.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Ours, before this attempt could move anything.
    #[error(transparent)]
    Unmoved(Fault),
    /// Money may have moved. The payer may try the same payment again, and no other.
    #[error(transparent)]
    Unknown(Fault),
}

/// Verifies proofs of one type.
#[async_trait]
pub trait VerifyProof: Send + Sync {
    /// The type.
    fn kind(&self) -> ProofKind;

    /// What the payment's proof proves of this challenge. May be asked again for the same payment, by then or at once;
    /// a settlement beneath it happens once all the same. What a payment says is compared before anything is moved.
    ///
    /// A URL in the proof is the client's word: it is never called.
    ///
    /// # Errors
    /// `verification_failed` or the code that fits, where the proof is refused; a fault where that is not known.
    async fn verify(&self, evidence: &Evidence<'_>, now: UnixSeconds) -> Result<Proven, ProofError>;

    /// Settles what was used of a metered payment, above zero and at most the maximum. Asked again for the same meter it
    /// settles nothing more. Proofs that move a fixed sum are never asked.
    ///
    /// # Errors
    /// `Refused`, where nothing moved and nothing will; a fault, where that is not known.
    async fn settle(&self, meter: &Metered, now: UnixSeconds) -> Result<(), ProofError> {
        let _ = (meter, now);
        Err(Refused::new(Code::Mismatch, "proof.type: cannot carry the scheme `upto`").into())
    }
}

/// The types that a server takes. None but those named: an empty set grants nothing.
#[derive(Clone, Default)]
pub struct Proofs(BTreeMap<ProofKind, Arc<dyn VerifyProof>>);

/// A mock handed over as if it were a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a mock proof is switched on by `with_mock_for_development` only")]
pub struct UnnamedMock;

impl Proofs {
    /// Takes proofs of one more type.
    ///
    /// # Errors
    /// If the type is `mock`.
    pub fn with(mut self, adapter: Arc<dyn VerifyProof>) -> Result<Self, UnnamedMock> {
        if adapter.kind() == ProofKind::Mock {
            return Err(UnnamedMock);
        }
        self.0.insert(adapter.kind(), adapter);
        Ok(self)
    }

    /// Takes mock proofs: whoever asks is granted access without paying.
    #[must_use]
    pub fn with_mock_for_development(mut self) -> Self {
        self.0.insert(ProofKind::Mock, Arc::new(MockProof));
        self
    }

    /// The adapter of a type, if it is switched on.
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
