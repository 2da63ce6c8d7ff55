//! `mock`: a proof without money, for development.

use async_trait::async_trait;
use x402_types::challenge::{Challenge, Code, Payment, Proof, ProofKind};
use x402_types::{Refusal, SigningContext, UnixSeconds};

use crate::canonical::{body_sha256, canonical_payment};
use crate::make_proof::{MadeProof, MakeProof};
use crate::meter::Metered;
use crate::proof::{Evidence, ProofError, Proven, VerifyProof};
use crate::refused::ChallengeRefusal;

/// Accepts every well-formed payment: the proof's signature is the SHA-256 of the canonical payment, which anyone can
/// compute.
#[derive(Debug, Clone, Copy)]
pub struct MockProof;

impl MockProof {
    /// Adds a mock proof to the client's payment.
    #[must_use]
    pub fn sign(mut payment: Payment) -> Payment {
        payment.proof = Proof { signature: Some(Self::signature(&payment)), ..Proof::new(ProofKind::Mock) };
        payment
    }

    fn signature(payment: &Payment) -> Box<str> {
        body_sha256(canonical_payment(payment).as_bytes()).to_string().into()
    }
}

#[async_trait]
impl VerifyProof for MockProof {
    fn kind(&self) -> ProofKind {
        ProofKind::Mock
    }

    async fn verify(&self, evidence: &Evidence<'_>, _: UnixSeconds) -> Result<Proven, ProofError> {
        let payment = evidence.payment;
        if payment.proof.signature.as_deref() == Some(&*Self::signature(payment)) {
            return Ok(Proven { amount: payment.paid_amount, key: None });
        }
        Err(ChallengeRefusal::new(Code::VerificationFailed, "proof.signature: not that of this payment").into())
    }

    async fn settle(&self, _: &Metered, _: UnixSeconds) -> Result<(), ProofError> {
        Ok(())
    }
}

#[async_trait]
impl MakeProof for MockProof {
    fn kind(&self) -> ProofKind {
        ProofKind::Mock
    }

    fn can_pay(&self, _: &Challenge) -> bool {
        true
    }

    async fn make_proof(
        &self,
        challenge: &Challenge,
        payment: Payment,
        context: &SigningContext<'_>,
    ) -> Result<MadeProof, Refusal> {
        let valid_until = context.now.plus(challenge.max_timeout_seconds.get());
        Ok(MadeProof { payment: Self::sign(payment), valid_until })
    }
}
