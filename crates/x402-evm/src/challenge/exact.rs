//! `exact`: the proof is the payload of x402 v2's scheme of that name, `{signature, authorization}` by EIP-3009. It is
//! verified and settled by a facilitator, in this process or over HTTP.

use core::fmt;
use std::sync::Arc;

use alloy_primitives::{Address, B256};
use async_trait::async_trait;
use x402_challenge::{Evidence, ProofError, ProofKey, Proven, VerifyProof, answer, body_sha256, canonical_payment};
use x402_facilitator_core::Facilitator;
use x402_types::challenge::{Challenge, Networks, Payment, Proof, ProofKind};
use x402_types::{EvmAddress, Fault, MakePayment, Occasion, Refusal, UnixSeconds};

use super::settle::{presented, refused, settle, verify};
use super::terms::{Known, Sum, words};
use crate::eip3009::Payload;
use crate::token::Tokens;

/// The nonce that an authorization must have: SHA-256 of the canonical payment. So it pays this challenge by this
/// payment and nothing else, whoever sees it; only the payer can sign another.
#[must_use]
pub fn authorization_nonce(payment: &Payment) -> [u8; 32] {
    body_sha256(canonical_payment(payment).as_bytes()).0
}

/// Takes `exact` proofs, and has them settled.
#[derive(Clone)]
pub struct ExactProof {
    facilitator: Arc<dyn Facilitator>,
    known: Known,
}

impl ExactProof {
    /// Has this facilitator verify and settle. Networks and tokens are the default ones.
    #[must_use]
    pub fn new(facilitator: Arc<dyn Facilitator>) -> Self {
        Self { facilitator, known: Known::default() }
    }

    /// With other networks and tokens.
    #[must_use]
    pub fn knowing(mut self, networks: Networks, tokens: Tokens) -> Self {
        self.known = Known { networks, tokens };
        self
    }
}

impl fmt::Debug for ExactProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExactProof").field("known", &self.known).finish_non_exhaustive()
    }
}

#[async_trait]
impl VerifyProof for ExactProof {
    fn kind(&self) -> ProofKind {
        ProofKind::Exact
    }

    async fn verify(&self, evidence: &Evidence<'_>, _: UnixSeconds) -> Result<Proven, ProofError> {
        let (challenge, payment) = (&evidence.issued.challenge, evidence.payment);
        let terms = self.known.terms(Sum { amount: payment.paid_amount, ..sum(challenge) });
        let terms = terms.map_err(ProofError::Unmoved)?;
        let payload = payment.proof.payload.clone().ok_or_else(|| refused("proof.payload: missing"))?;
        let authorization =
            Payload::read(&payload).map_err(|rejection| refused(format!("proof.{}", words(&rejection))))?.authorization;
        // Everything that is signed is compared here, before a facilitator hears of it.
        if authorization.to != challenge.pay_to.unchecked() {
            return Err(refused("proof.payload.authorization.to: not the challenge's payTo"));
        }
        if authorization.value != payment.paid_amount {
            return Err(refused("proof.payload.authorization.value: not paidAmount"));
        }
        if authorization.nonce != B256::from(authorization_nonce(payment)) {
            return Err(refused("proof.payload.authorization.nonce: not that of this payment"));
        }
        if payment.payer.is_some_and(|payer| payer.unchecked() != authorization.from) {
            return Err(refused("payer: not who signed"));
        }
        let key = authorization.key(terms.network, challenge.asset.unchecked());
        let presented = presented(terms, payload, challenge.resource.as_str(), evidence.digest.to_string())
            .map_err(ProofError::Unmoved)?;
        if !evidence.again {
            verify(&*self.facilitator, &presented).await?;
        }
        settle(&*self.facilitator, &presented, evidence.again).await?;
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

/// Client: the payment of a challenge by an `exact` proof, its dialect nonce 16 random bytes. The payer must know the
/// token; what it may pay is to be decided before.
///
/// # Errors
/// The payer cannot pay this, or its signer fails; a network or token that is not known.
pub async fn pay(
    payer: &dyn MakePayment,
    networks: &Networks,
    tokens: &Tokens,
    challenge: &Challenge,
    nonce: [u8; 16],
    now: UnixSeconds,
) -> Result<Payment, Refusal> {
    let known = Known { networks: networks.clone(), tokens: tokens.clone() };
    let address = |text: EvmAddress| Address::try_from(text).map_err(|why| Fault::broken(format_args!("payTo: {why}")));
    address(challenge.pay_to)?;
    let terms = known.terms(sum(challenge))?;
    let mut payment = answer(challenge, Proof::new(ProofKind::Exact), nonce, now);
    let url = format!("https://{}{}", challenge.bind.host, challenge.bind.path);
    let method = challenge.bind.method.to_string();
    let occasion = Occasion { now, entropy: authorization_nonce(&payment), url: &url, method: &method };
    payment.proof.payload = Some(payer.make_payment(&terms, &occasion).await?.payload);
    Ok(payment)
}
