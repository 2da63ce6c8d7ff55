//! The price of a route that is paid by challenge, the entitlement that it grants, and the parts that all such routes
//! of a server share.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use std::borrow::Cow;
use std::sync::Arc;

use http::Uri;
use http::request::Parts;
use x402_challenge::{Allowance, Bind, ChallengeOffer, EntitlementGrant, EntitlementToken, Gate, Granted};
use x402_codec::challenge as codec;
use x402_types::challenge::{Carrier, ChallengeId, HostName, PaymentResponse};
use x402_types::{Members, UnixSeconds};

use super::super::seller::canonical_origin;
use super::super::{RequirePaymentLayer, SellerError};
use super::route::ChallengeRoute;
use super::{Clock, SystemClock};

/// The reason why a request was admitted. It is in the request's extensions.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Access {
    /// The request was paid for.
    Paid(Box<Granted>),
    /// The request came with an entitlement that an earlier payment granted.
    Entitled {
        /// The number of uses that are left, where uses are counted.
        left: Option<u32>,
    },
}

/// The parts that the routes paid by challenge share: the public host, the gate with its store, the clock.
#[derive(Clone)]
pub struct Challenges(Arc<Shared>);

struct Shared {
    gate: Gate,
    host: HostName,
    clock: Arc<dyn Clock>,
    /// The time at which the store last forgot what is over, in Unix seconds.
    forgot: AtomicU64,
}

/// The seconds after which the store forgets what is over.
const FORGET_EVERY: u64 = 60;

impl Challenges {
    /// Creates the challenges of a server with this public origin, for example `https://api.example.com`.
    /// # Errors
    /// [`SellerError::Origin`].
    pub fn new(origin: &str, gate: Gate) -> Result<Self, SellerError> {
        Self::with_clock(origin, gate, Arc::new(SystemClock))
    }

    /// Creates the same by another clock.
    ///
    /// # Errors
    /// [`SellerError::Origin`].
    pub fn with_clock(origin: &str, gate: Gate, clock: Arc<dyn Clock>) -> Result<Self, SellerError> {
        let origin = canonical_origin(origin).ok_or(SellerError::Origin)?;
        let uri: Uri = origin.parse().map_err(|_| SellerError::Origin)?;
        let authority = uri.authority().ok_or(SellerError::Origin)?;
        let host = x402_challenge::host(authority.as_str()).map_err(|_| SellerError::Origin)?;
        Ok(Self(Arc::new(Shared { gate, host, clock, forgot: AtomicU64::new(0) })))
    }

    /// Returns a layer for a route that is paid by challenge alone.
    ///
    /// # Errors
    /// [`SellerError::ResourceTooLong`]; [`SellerError::BodyNotRead`] if the offer binds the body, which only
    /// [`bind_body`](RequirePaymentLayer::bind_body) can enable.
    pub fn charge(&self, ask: Ask) -> Result<RequirePaymentLayer, SellerError> {
        ask.check()?;
        Ok(RequirePaymentLayer::own(Arc::new(ChallengeRoute::new(self.clone(), ask, None))))
    }

    /// Returns a layer for a route that is paid by challenge, or by what another layer offers: `PAYMENT-REQUIRED` has
    /// version 2, and the body has the challenge. If that layer has a challenge already, this one takes its place.
    ///
    /// # Errors
    /// The errors of [`Self::charge`].
    pub fn charge_beside(&self, offers: RequirePaymentLayer, ask: Ask) -> Result<RequirePaymentLayer, SellerError> {
        ask.check()?;
        Ok(RequirePaymentLayer::own(Arc::new(ChallengeRoute::new(self.clone(), ask, offers.into_offers()))))
    }

    /// Returns the gate.
    #[must_use]
    pub fn gate(&self) -> &Gate {
        &self.0.gate
    }

    pub(super) fn host(&self) -> &HostName {
        &self.0.host
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        self.0.clock.as_ref()
    }

    /// Returns 16 fresh random bytes, or `None` if there is no source.
    pub(super) fn random(&self) -> Option<[u8; 16]> {
        self.0.clock.entropy()?.first_chunk().copied()
    }

    /// Removes what is over from the store, once a minute. The first request does it, and is not affected by a failure.
    pub(super) async fn forget(&self, now: UnixSeconds) {
        let last = self.0.forgot.load(Ordering::Relaxed);
        let due = now.0 >= last.saturating_add(FORGET_EVERY);
        if due && self.0.forgot.compare_exchange(last, now.0, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            drop(self.0.gate.store().forget(now).await);
        }
    }
}

impl fmt::Debug for Challenges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Challenges").field("host", &self.0.host).field("gate", &self.0.gate).finish_non_exhaustive()
    }
}

/// The price of a route, and the entitlement that it grants beyond the answer.
#[derive(Clone)]
pub struct Ask {
    offer: OfferOf,
    entitle: Option<Entitle>,
}

#[derive(Clone)]
enum OfferOf {
    Fixed(Box<ChallengeOffer>),
    By(Arc<dyn Fn(&Parts) -> ChallengeOffer + Send + Sync>),
}

impl Ask {
    /// Creates the same price for each request.
    #[must_use]
    pub fn new(offer: ChallengeOffer) -> Self {
        Self { offer: OfferOf::Fixed(Box::new(offer)), entitle: None }
    }

    /// Creates a price by the request: a route with parameters sells a resource for each. The same request must have
    /// the same price when it comes back with its payment.
    #[must_use]
    pub fn by(offer: impl Fn(&Parts) -> ChallengeOffer + Send + Sync + 'static) -> Self {
        Self { offer: OfferOf::By(Arc::new(offer)), entitle: None }
    }

    /// Grants an entitlement with each payment.
    #[must_use]
    pub const fn with_entitlement(mut self, entitle: Entitle) -> Self {
        self.entitle = Some(entitle);
        self
    }

    pub(super) fn offer(&self, request: &Parts, bind_body: bool) -> Cow<'_, ChallengeOffer> {
        let offer = match &self.offer {
            OfferOf::Fixed(offer) => Cow::Borrowed(&**offer),
            OfferOf::By(offer) => Cow::Owned(offer(request)),
        };
        if bind_body && !offer.bind.body {
            let mut offer = offer.into_owned();
            offer.bind = Bind { body: true, ..offer.bind };
            return Cow::Owned(offer);
        }
        offer
    }

    pub(super) fn grant(&self, token: impl FnOnce() -> Option<EntitlementToken>) -> Option<Option<EntitlementGrant>> {
        let Some(Entitle { carrier, allowance, ttl_seconds }) = self.entitle else { return Some(None) };
        token().map(|token| Some(EntitlementGrant { token, carrier, allowance, ttl_seconds }))
    }

    fn check(&self) -> Result<(), SellerError> {
        let OfferOf::Fixed(offer) = &self.offer else { return Ok(()) };
        if offer.bind.body {
            return Err(SellerError::BodyNotRead);
        }
        let response = PaymentResponse {
            ok: true,
            challenge_id: ChallengeId::from_random([0; 16]),
            resource: offer.resource.clone(),
            entitlement: self.entitle.map(Entitle::notice),
            rest: Members::new(),
        };
        codec::encode_response(&response).map(drop).map_err(|_| SellerError::ResourceTooLong)
    }
}

impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Ask");
        match &self.offer {
            OfferOf::Fixed(offer) => shown.field("offer", offer),
            OfferOf::By(_) => shown.field("offer", &"by request"),
        };
        shown.field("entitle", &self.entitle).finish()
    }
}

/// "Resource entitlement": the grant of a payment for later requests of the same resource.
///
/// A use is counted before the handler runs, and returned if the handler answers 304, 4xx or 5xx. `HEAD` counts none. A
/// request whose caller leaves while the handler runs keeps its use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entitle {
    carrier: Carrier,
    allowance: Allowance,
    ttl_seconds: u64,
}

impl Entitle {
    /// Creates a cookie, good for so many seconds and as often as wanted.
    #[must_use]
    pub const fn cookie(ttl_seconds: u64) -> Self {
        Self { carrier: Carrier::Cookie, allowance: Allowance::Unlimited, ttl_seconds }
    }

    /// Creates a bearer token, good for so many seconds and as often as wanted.
    #[must_use]
    pub const fn bearer(ttl_seconds: u64) -> Self {
        Self { carrier: Carrier::Bearer, allowance: Allowance::Unlimited, ttl_seconds }
    }

    /// Limits the number of uses within the time. The request that pays is not counted.
    #[must_use]
    pub const fn with_allowance(mut self, allowance: Allowance) -> Self {
        self.allowance = allowance;
        self
    }

    const fn notice(self) -> x402_types::challenge::EntitlementNotice {
        let Self { carrier, ttl_seconds, .. } = self;
        x402_types::challenge::EntitlementNotice { carrier, ttl_seconds, rest: Members::new() }
    }
}
