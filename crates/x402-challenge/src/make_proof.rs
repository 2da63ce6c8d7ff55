//! The client's role: "Client resolves payment". A scheme or wallet that makes proofs of one type.

use async_trait::async_trait;
use x402_types::challenge::{Challenge, Networks, Payment, Proof, ProofKind};
use x402_types::{
    Assets, ErrorReason, MakePayment, Members, Refusal, Rejection, SchemeName, SigningContext, Terms, UnixSeconds,
};

use crate::canonical::exact_nonce;

/// A payment with its proof.
#[derive(Debug, Clone, PartialEq)]
pub struct MadeProof {
    /// The payment to send in `X-PAYMENT`.
    pub payment: Payment,
    /// The time at which the proof expires.
    pub valid_until: UnixSeconds,
}

/// Makes proofs of one type.
#[async_trait]
pub trait MakeProof: Send + Sync {
    /// Returns the type of the proofs.
    fn kind(&self) -> ProofKind;

    /// Returns whether this challenge can be paid with such a proof: scheme, network, asset. The method does no I/O.
    fn can_pay(&self, challenge: &Challenge) -> bool;

    /// Adds a proof to a payment, which already answers the challenge in every other member.
    ///
    /// # Errors
    /// `Rejection` for a challenge that cannot be paid, `Fault` for a signer or a service that fails.
    async fn make_proof(
        &self,
        challenge: &Challenge,
        payment: Payment,
        context: &SigningContext<'_>,
    ) -> Result<MadeProof, Refusal>;
}

/// Converts a challenge to terms of version 2: the network in CAIP-2, and the EIP-712 domain in `extra` if the token is
/// known. Returns `None` for an unknown network.
#[must_use]
pub fn terms(challenge: &Challenge, networks: &Networks, assets: &Assets) -> Option<Terms> {
    let network = networks.caip2(&challenge.network)?;
    let asset = challenge.asset.as_str();
    let mut extra = Members::new();
    if let Some(known) = assets.find(network, asset) {
        extra.insert_text("name", &known.name);
        extra.insert_text("version", &known.version);
    }
    Some(
        Terms::new(
            challenge.scheme.clone(),
            network,
            challenge.max_amount_required,
            asset.to_owned(),
            challenge.pay_to.as_str().to_owned(),
        )
        .with_max_timeout_seconds(challenge.max_timeout_seconds)
        .with_extra(extra),
    )
}

/// Makes proofs of type `exact`: the proof's payload is the one that the scheme `exact` signs for version 2, under the
/// nonce of [`exact_nonce`].
#[derive(Clone)]
pub struct ExactProof<M> {
    scheme: M,
    networks: Networks,
    assets: Assets,
}

impl<M: MakePayment> ExactProof<M> {
    /// Creates proofs with this scheme, on the networks and in the tokens of the default tables.
    #[must_use]
    pub fn new(scheme: M) -> Self {
        Self { scheme, networks: Networks::default(), assets: Assets::default() }
    }

    /// Sets the known networks.
    #[must_use]
    pub fn with_networks(mut self, networks: Networks) -> Self {
        self.networks = networks;
        self
    }

    /// Sets the known tokens.
    #[must_use]
    pub fn with_assets(mut self, assets: Assets) -> Self {
        self.assets = assets;
        self
    }

    fn terms(&self, challenge: &Challenge) -> Option<Terms> {
        if challenge.scheme != SchemeName::EXACT {
            return None;
        }
        terms(challenge, &self.networks, &self.assets).filter(|terms| self.scheme.can_pay(terms))
    }
}

impl<M> core::fmt::Debug for ExactProof<M> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ExactProof").field("networks", &self.networks).finish_non_exhaustive()
    }
}

#[async_trait]
impl<M: MakePayment> MakeProof for ExactProof<M> {
    fn kind(&self) -> ProofKind {
        ProofKind::Exact
    }

    fn can_pay(&self, challenge: &Challenge) -> bool {
        self.terms(challenge).is_some()
    }

    async fn make_proof(
        &self,
        challenge: &Challenge,
        payment: Payment,
        context: &SigningContext<'_>,
    ) -> Result<MadeProof, Refusal> {
        let unpayable = || Rejection::new(ErrorReason::INVALID_PAYMENT_REQUIREMENTS);
        let terms = self.terms(challenge).ok_or_else(unpayable)?;
        // The nonce binds the authorization to this payment, so that it pays nothing else, whoever learns it.
        let context = SigningContext { entropy: exact_nonce(&payment), ..*context };
        let made = self.scheme.make_payment(&terms, &context).await?;
        let proof = Proof { payload: Some(made.payload), ..Proof::new(ProofKind::Exact) };
        Ok(MadeProof { payment: Payment { proof, ..payment }, valid_until: made.valid_until })
    }
}
