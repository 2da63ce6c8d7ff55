//! Sample rows for the rules.

use std::sync::Arc;

use x402_types::challenge::{Challenge, ChallengeId, Nonce, ResourceName};
use x402_types::{AtomicAmount, Malformed, TimeoutSeconds, UnixSeconds};

use super::Broken;
use crate::{
    Bind, BoundRequest, ChallengeHold, ChallengeOffer, ChallengeRefusal, Charge, ClaimOutcome, Confirmation,
    Entitlement, Issued, PaymentAttempt, PaymentDigest, ProofKey, Store, TokenHash, issue,
};

impl From<Malformed> for Broken {
    fn from(error: Malformed) -> Self {
        Self(error.to_string().into())
    }
}

impl From<ChallengeRefusal> for Broken {
    fn from(error: ChallengeRefusal) -> Self {
        Self(error.to_string().into())
    }
}

/// The time at which every sample was issued; it expires 60 s later and is kept for another 120 s.
pub(super) const NOW: UnixSeconds = UnixSeconds(1_760_875_200);

fn challenge(n: u8) -> Result<Challenge, Broken> {
    let offer = ChallengeOffer {
        network: "evm:base:sepolia".parse()?,
        asset: "0x036CbD53842c5426634e7929541eC2318f3dCF7e".parse()?,
        pay_to: "0x90F79bf6EB2c4f870365E785982E1f101E93b906".parse()?,
        amount: AtomicAmount::from(1000),
        charge: Charge::Exact,
        timeout: TimeoutSeconds::try_from(60)?,
        resource: "urn:res:abc123".parse()?,
        meta: None,
        bind: Bind::default(),
    };
    let request = BoundRequest { method: "GET", host: "h", path: "/a", query: None, body_sha256: None };
    Ok(issue(&offer, &request, [n; 16])?)
}

pub(super) fn issued(n: u8) -> Result<Issued, Broken> {
    let challenge = challenge(n)?;
    Ok(Issued { challenge, issued_at: NOW, expires_at: NOW.plus(60), keep_until: NOW.plus(180) })
}

pub(super) fn id(n: u8) -> ChallengeId {
    ChallengeId::from_random([n; 16])
}

pub(super) fn nonce(n: u8) -> Nonce {
    Nonce::from_random([n; 16])
}

pub(super) fn resource() -> Result<ResourceName, Broken> {
    Ok("urn:res:abc123".parse()?)
}

pub(super) fn entitlement(n: u8, left: Option<u32>) -> Result<Entitlement, Broken> {
    Ok(Entitlement { token: TokenHash([n; 32]), resource: resource()?, expires_at: NOW.plus(3600), left })
}

/// Returns the `n`th payment of a challenge: its nonce and its digest are derived from `n`. Its hold lasts 30 s from
/// `now`, and it can be resumed for 1,000 s.
pub(super) fn attempt(challenge: u8, n: u8, now: UnixSeconds) -> PaymentAttempt {
    PaymentAttempt {
        id: id(challenge),
        nonce: nonce(n),
        digest: PaymentDigest([n; 32]),
        until: now.plus(30),
        resume_until: now.plus(1000),
    }
}

/// Returns a confirmation with this proof, and nothing else.
pub(super) fn by(key: &ProofKey) -> Confirmation {
    Confirmation { proof: Some(key.clone()), ..Confirmation::default() }
}

/// Claims a payment that must succeed, and returns its hold.
pub(super) async fn held(
    store: &Arc<dyn Store>,
    challenge: u8,
    n: u8,
    now: UnixSeconds,
) -> Result<ChallengeHold, Broken> {
    match store.claim(&attempt(challenge, n, now), now).await? {
        ClaimOutcome::Held(hold) => Ok(hold),
        other => Err(Broken(format!("a claim of what is free: {other:?}").into())),
    }
}

/// Claims a payment that must be resumed, and returns its hold.
pub(super) async fn resumed(
    store: &Arc<dyn Store>,
    challenge: u8,
    n: u8,
    now: UnixSeconds,
) -> Result<ChallengeHold, Broken> {
    match store.claim(&attempt(challenge, n, now), now).await? {
        ClaimOutcome::Resumed(hold) => Ok(hold),
        other => Err(Broken(format!("a claim of what was begun: {other:?}").into())),
    }
}
