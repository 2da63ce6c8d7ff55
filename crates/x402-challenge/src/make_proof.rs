//! The client's role: "Client resolves payment". A kind of proof that can be made.

use async_trait::async_trait;
use x402_types::challenge::{Challenge, Networks, Payment, Proof, ProofKind};
use x402_types::{
    Assets, ErrorReason, MakePayment, Members, Occasion, Refusal, Rejection, SchemeName, Terms, UnixSeconds, Version,
};

use crate::canonical::exact_nonce;

/// A payment with its proof.
#[derive(Debug, Clone, PartialEq)]
pub struct MadeProof {
    /// What goes into `X-PAYMENT`.
    pub payment: Payment,
    /// When the proof stops being valid.
    pub valid_until: UnixSeconds,
}

/// Makes proofs of one type.
#[async_trait]
pub trait MakeProof: Send + Sync {
    /// The type.
    fn kind(&self) -> ProofKind;

    /// Whether this challenge can be paid so: scheme, network, asset. Asks nobody.
    fn can_pay(&self, challenge: &Challenge) -> bool;

    /// The payment, which answers the challenge in all but its proof, with its proof.
    ///
    /// # Errors
    /// `Rejection` for a challenge that cannot be paid, `Fault` for a signer or a service that fails.
    async fn make_proof(
        &self,
        challenge: &Challenge,
        payment: Payment,
        occasion: &Occasion<'_>,
    ) -> Result<MadeProof, Refusal>;
}

/// What a challenge asks, as version 2 says it: the network in CAIP-2, and the token's EIP-712 domain in `extra` where
/// the token is known. `None` for a network that is not known.
#[must_use]
pub fn terms(challenge: &Challenge, networks: &Networks, assets: &Assets) -> Option<Terms> {
    let network = networks.caip2(&challenge.network)?;
    let asset = challenge.asset.as_str();
    let mut extra = Members::new();
    if let Some(known) = assets.find(network, asset) {
        extra.insert_text("name", &known.name);
        extra.insert_text("version", &known.version);
    }
    Some(Terms {
        version: Version::V2,
        scheme: challenge.scheme.clone(),
        network,
        amount: challenge.max_amount_required,
        asset: asset.to_owned(),
        pay_to: challenge.pay_to.as_str().to_owned(),
        max_timeout_seconds: challenge.max_timeout_seconds,
        extra,
    })
}

/// Proofs of type `exact`: what a scheme that pays `exact` signs for version 2 is the proof's payload, under the nonce of
/// [`exact_nonce`].
#[derive(Clone)]
pub struct ExactProof<M> {
    scheme: M,
    networks: Networks,
    assets: Assets,
}

impl<M: MakePayment> ExactProof<M> {
    /// Pays by this scheme, on the networks and in the tokens of the default tables.
    #[must_use]
    pub fn new(scheme: M) -> Self {
        Self { scheme, networks: Networks::default(), assets: Assets::default() }
    }

    /// Knows these networks.
    #[must_use]
    pub fn with_networks(mut self, networks: Networks) -> Self {
        self.networks = networks;
        self
    }

    /// Knows these tokens.
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
        occasion: &Occasion<'_>,
    ) -> Result<MadeProof, Refusal> {
        let unpayable = || Rejection::new(ErrorReason::INVALID_PAYMENT_REQUIREMENTS);
        let terms = self.terms(challenge).ok_or_else(unpayable)?;
        // Bound to this payment: an authorization that is seen elsewhere pays nothing else.
        let occasion = Occasion { entropy: exact_nonce(&payment), ..*occasion };
        let made = self.scheme.make_payment(&terms, &occasion).await?;
        let proof = Proof { payload: Some(made.payload), ..Proof::new(ProofKind::Exact) };
        Ok(MadeProof { payment: Payment { proof, ..payment }, valid_until: made.valid_until })
    }
}
