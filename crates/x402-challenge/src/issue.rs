//! "Challenge Format (402 Body)": creates a challenge, and the payment that answers it.

use x402_types::challenge::{
    Challenge, ChallengeId, Code, DialectVersion, IsoTime, Network, Nonce, Payment, Proof, ResourceName,
};
use x402_types::{AtomicAmount, EvmAddress, Members, SchemeName, TimeoutSeconds, UnixSeconds};

use crate::canonical::{Bind, BoundRequest, binding};
use crate::refused::ChallengeRefusal;

/// The price and conditions of a route.
#[derive(Debug, Clone, PartialEq)]
pub struct ChallengeOffer {
    /// The network on which to pay.
    pub network: Network,
    /// The contract of the token.
    pub asset: EvmAddress,
    /// The recipient's address.
    pub pay_to: EvmAddress,
    /// The price in atomic units; for a metered route the maximum.
    pub amount: AtomicAmount,
    /// Whether the whole amount is paid, or only the used part of it.
    pub charge: Charge,
    /// The number of seconds for which a challenge can be paid.
    pub timeout: TimeoutSeconds,
    /// The resource that is sold.
    pub resource: ResourceName,
    /// Free members for display.
    pub meta: Option<Members>,
    /// The parts of a request that are bound in addition to method, host and path.
    pub bind: Bind,
}

/// The part of an offer's amount that is paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Charge {
    /// The whole amount: the scheme `exact`.
    #[default]
    Exact,
    /// The used part: the scheme `upto`. Proofs of the types `facilitator` and `mock` support it.
    UpTo,
}

/// Creates a challenge for one request. Its id is a UUIDv4 of 16 random bytes.
///
/// # Errors
/// `invalid_binding`, if the request cannot be bound.
pub fn issue(offer: &ChallengeOffer, request: &BoundRequest<'_>, id: [u8; 16]) -> Result<Challenge, ChallengeRefusal> {
    let bind = binding(request, offer.bind)
        .map_err(|(part, why)| ChallengeRefusal::new(Code::InvalidBinding, format!("{part}: {why}")))?;
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

/// Creates the client's payment of a challenge, with a nonce of 16 random bytes.
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
