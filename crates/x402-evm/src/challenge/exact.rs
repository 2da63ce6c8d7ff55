//! `exact`: the proof is the payload of x402 v2's scheme of that name, `{signature, authorization}` by EIP-3009. A
//! facilitator verifies and settles it, in this process or over HTTP.

use core::fmt;
use std::sync::Arc;

use alloy_primitives::B256;
use async_trait::async_trait;
use x402_challenge::{Evidence, ProofError, ProofKey, Proven, VerifyProof, exact_nonce};
use x402_facilitator_core::Facilitator;
use x402_types::UnixSeconds;
use x402_types::challenge::{Challenge, Networks, ProofKind};

use super::settle::{payment_request, refused, settle, verify};
use super::terms::{Known, Sum};
use crate::eip3009::Payload;
use crate::token::Tokens;

/// Verifies `exact` proofs, and has a facilitator settle them.
#[derive(Clone)]
pub struct VerifyExact {
    facilitator: Arc<dyn Facilitator>,
    known: Known,
}

impl VerifyExact {
    /// Creates a verifier that uses this facilitator, with the default networks and tokens.
    #[must_use]
    pub fn new(facilitator: Arc<dyn Facilitator>) -> Self {
        Self { facilitator, known: Known::default() }
    }

    /// Sets other networks and tokens.
    #[must_use]
    pub fn with_known(mut self, networks: Networks, tokens: Tokens) -> Self {
        self.known = Known { networks, tokens };
        self
    }
}

impl fmt::Debug for VerifyExact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyExact").field("known", &self.known).finish_non_exhaustive()
    }
}

#[async_trait]
impl VerifyProof for VerifyExact {
    fn kind(&self) -> ProofKind {
        ProofKind::Exact
    }

    async fn verify(&self, evidence: &Evidence<'_>, _: UnixSeconds) -> Result<Proven, ProofError> {
        let (challenge, payment) = (&evidence.issued.challenge, evidence.payment);
        let terms = self.known.terms(Sum { amount: payment.paid_amount, ..sum(challenge) });
        let terms = terms.map_err(ProofError::Unmoved)?;
        let payload = payment.proof.payload.clone().ok_or_else(|| refused("proof.payload: missing"))?;
        let authorization =
            Payload::read(&payload).map_err(|rejection| refused(format!("proof.{}", rejection.words())))?.authorization;
        // All signed values are compared here, before a facilitator is called.
        if authorization.to != challenge.pay_to.unchecked() {
            return Err(refused("proof.payload.authorization.to: not the challenge's payTo"));
        }
        if authorization.value != payment.paid_amount {
            return Err(refused("proof.payload.authorization.value: not paidAmount"));
        }
        if authorization.nonce != B256::from(exact_nonce(payment)) {
            return Err(refused("proof.payload.authorization.nonce: not that of this payment"));
        }
        if payment.payer.is_some_and(|payer| payer.unchecked() != authorization.from) {
            return Err(refused("payer: not who signed"));
        }
        let key = authorization.key(terms.network, challenge.asset.unchecked());
        let request = payment_request(terms, payload, challenge.resource.as_str(), evidence.digest.to_string())
            .map_err(ProofError::Unmoved)?;
        if !evidence.again {
            verify(&*self.facilitator, &request).await?;
        }
        settle(&*self.facilitator, &request, evidence.again).await?;
        Ok(Proven { amount: authorization.value, key: Some(ProofKey(format!("exact:{key}").into())) })
    }
}

const fn sum(challenge: &Challenge) -> Sum<'_> {
    Sum {
        network: &challenge.network,
        asset: challenge.asset,
        pay_to: challenge.pay_to,
        amount: challenge.max_amount_required,
        timeout: challenge.max_timeout_seconds,
    }
}
