//! "Challenge Format (402 Body)": making a challenge, and the payment that answers one.

use x402_types::challenge::{
    Challenge, ChallengeId, Code, DialectVersion, IsoTime, Network, Nonce, Payment, Proof, ResourceName,
};
use x402_types::{AtomicAmount, EvmAddress, Members, SchemeName, TimeoutSeconds, UnixSeconds};

use crate::canonical::{Bind, Request, binding};
use crate::refused::Refused;

/// What a route asks.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// Where it is paid.
    pub network: Network,
    /// The token.
    pub asset: EvmAddress,
    /// Who is paid.
    pub pay_to: EvmAddress,
    /// How much, in atomic units; where it is metered, at most.
    pub amount: AtomicAmount,
    /// Whether that sum is paid, or what is used of it.
    pub charge: Charge,
    /// How long a challenge can be paid.
    pub timeout: TimeoutSeconds,
    /// What is paid for.
    pub resource: ResourceName,
    /// For people.
    pub meta: Option<Members>,
    /// What is bound beside method, host and path.
    pub bind: Bind,
}

/// What of an offer's amount is paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Charge {
    /// All of it: the scheme `exact`.
    #[default]
    Exact,
    /// What is used of it: the scheme `upto`. Proofs of the types `facilitator` and `mock` carry it.
    UpTo,
}

/// A challenge for one request, its id a UUIDv4 of 16 random bytes.
///
/// # Errors
/// `invalid_binding`, if the request cannot be bound.
pub fn issue(offer: &Offer, request: &Request<'_>, id: [u8; 16]) -> Result<Challenge, Refused> {
    let bind = binding(request, offer.bind)
        .map_err(|(part, why)| Refused::new(Code::InvalidBinding, format!("{part}: {why}")))?;
    Ok(Challenge {
        version: DialectVersion::x402_v1(),
        scheme: match offer.charge {
            Charge::Exact => SchemeName::EXACT,
            Charge::UpTo => SchemeName::UPTO,
        },
        network: offer.network.clone(),
        asset: offer.asset,
        pay_to: offer.pay_to,
        max_amount_required: offer.amount,
        max_timeout_seconds: offer.timeout,
        challenge_id: ChallengeId::from_random(id),
        bind,
        resource: offer.resource.clone(),
        meta: offer.meta.clone(),
        rest: Members::new(),
    })
}

/// Client: the payment of what a challenge asks, its nonce 16 random bytes.
#[must_use]
pub fn answer(challenge: &Challenge, proof: Proof, nonce: [u8; 16], now: UnixSeconds) -> Payment {
    Payment {
        version: DialectVersion::x402_v1(),
        scheme: challenge.scheme.clone(),
        challenge_id: challenge.challenge_id.clone(),
        network: challenge.network.clone(),
        asset: challenge.asset,
        paid_amount: challenge.max_amount_required,
        payer: None,
        issued_at: IsoTime::from(now),
        nonce: Nonce::from_random(nonce),
        proof,
        rest: Members::new(),
    }
}
