//! What the routes of one seller share: the public origin, the facilitator, the grants.

use core::fmt;
use std::sync::Arc;

use http::Uri;
use x402_codec::Limits;
use x402_facilitator_core::Facilitator;
use x402_types::extension::Extensions;
use x402_types::{ChainId, Extension, Fault, Offer, SchemeName, Terms};

use super::incident::{self, Incident, OnIncident, Step};
use super::kept::KeptAnswers;
use super::layer::RequirePaymentLayer;
use super::served::{NotServed, Served};
use super::{Grants, MemoryGrants, Price};

/// Of `PAYMENT-REQUIRED`, by default.
const LONGEST_HEADER: usize = 7 * 1024;

/// A seller. Its routes share one grant store, so that a payment buys one answer of one route.
#[derive(Clone)]
pub struct Seller {
    pub(super) origin: Box<str>,
    pub(super) facilitator: Arc<dyn Facilitator>,
    pub(super) grants: Arc<dyn Grants>,
    pub(super) limits: Limits,
    pub(super) v1: bool,
    pub(super) retry_after: u32,
    pub(super) header_limit: usize,
    pub(super) served: Served,
    pub(super) extensions: Extensions,
    pub(super) kept: Arc<KeptAnswers>,
    on_incident: Option<Arc<dyn OnIncident>>,
}

/// A configuration that cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SellerError {
    /// The public origin is not `http(s)://host[:port]`.
    #[error("the public origin must be http://host or https://host with an optional port, and nothing else")]
    Origin,
    /// Nothing is offered.
    #[error("at least one way to pay must be offered")]
    NoOffer,
    /// More entries than a client reads.
    #[error("at most {limit} ways to pay can be offered")]
    TooManyOffers {
        /// How many are allowed.
        limit: usize,
    },
    /// `extra.paymentFlow` names a flow that is not served here.
    #[error("the payment flow of entry {entry} is neither `authorization` nor `upfront`")]
    Flow {
        /// Which entry, from 0.
        entry: usize,
    },
    /// The `PAYMENT-REQUIRED` header would be longer than [`Seller::header_limit`].
    #[error("the PAYMENT-REQUIRED header would have {size} bytes, more than the limit of {limit} (docs/proxies.md)")]
    HeaderTooLarge {
        /// How long it would be.
        size: usize,
        /// How long it may be.
        limit: usize,
    },
    /// Two entries that a payment of version 1 cannot tell apart, since it names nothing but scheme and network.
    #[error(
        "entries {first} and {second} have one scheme and network, and a version 1 payment names nothing else: \
         offer one of them, or no version 1"
    )]
    AlikeInV1 {
        /// Which entry, from 0.
        first: usize,
        /// Which other entry.
        second: usize,
    },
    /// The facilitator does not serve an entry.
    #[error("the facilitator does not serve entry {entry} in version {version}: {scheme} on {network}")]
    NotServed {
        /// Which entry, from 0.
        entry: usize,
        /// In which version of the protocol.
        version: u8,
        /// The entry's scheme.
        scheme: SchemeName,
        /// The entry's network.
        network: ChainId,
    },
    /// The facilitator does not say what it serves.
    #[error("what the facilitator serves cannot be read")]
    Supported(#[source] Fault),
    /// A challenge binds the request's body, and nothing reads it.
    #[error("a bound body has to be read before the challenge: `bind_body` does both")]
    BodyNotRead,
    /// The resource is so long that `X-PAYMENT-RESPONSE` could not name it.
    #[error("the resource is too long for X-PAYMENT-RESPONSE")]
    ResourceTooLong,
}

/// When money moves: x402 v2 §6.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// Verify, handler, settle.
    Authorization,
    /// Settle, handler.
    Upfront,
}

impl Flow {
    /// "A non-`authorization` flow MUST appear as `accepts[].extra.paymentFlow`"; an unsupported one is `None`.
    pub(super) fn of(terms: &Terms) -> Option<Self> {
        // A plan's credits are redeemed when the work is done.
        let by_plan = terms.scheme == SchemeName::NVM_ERC4337;
        let Some(flow) = terms.extra.get("paymentFlow") else { return Some(Self::Authorization) };
        match flow.as_str() {
            r#""authorization""# => Some(Self::Authorization),
            r#""upfront""# if !by_plan => Some(Self::Upfront),
            _ => None,
        }
    }
}

impl Seller {
    /// A seller whose routes are reached at a public origin, for example `https://api.example.com`.
    ///
    /// The origin goes into `resource.url`; the `Host` of a request is never trusted.
    ///
    /// # Errors
    /// [`SellerError::Origin`].
    pub fn new(origin: &str, facilitator: Arc<dyn Facilitator>) -> Result<Self, SellerError> {
        Ok(Self {
            origin: canonical_origin(origin).ok_or(SellerError::Origin)?,
            facilitator,
            grants: Arc::new(MemoryGrants::default()),
            limits: Limits::DEFAULT,
            v1: false,
            retry_after: 2,
            header_limit: LONGEST_HEADER,
            served: Served::default(),
            extensions: Extensions::new(),
            kept: Arc::default(),
            on_incident: None,
        })
    }

    /// Asks the facilitator what it serves, so that an offer which it does not serve is refused by
    /// [`Seller::charge`], at start. Without it the first paid request of each route asks, and what is not served is an
    /// [`Incident`] of [`Step::Supported`].
    ///
    /// # Errors
    /// [`SellerError::Supported`].
    pub async fn checked(mut self) -> Result<Self, SellerError> {
        self.served = Served::refusing();
        self.served.read(&*self.facilitator).await.map_err(SellerError::Supported)?;
        Ok(self)
    }

    /// Hands every [`Incident`] to this hook, beside the log.
    #[must_use]
    pub fn on_incident(mut self, hook: impl OnIncident + 'static) -> Self {
        self.on_incident = Some(Arc::new(hook));
        self
    }

    /// The longest `PAYMENT-REQUIRED` header that a route may have: 7,168 bytes by default, which pass Node's fetch and
    /// common proxies that were told to. nginx passes a response head of 4 KiB unless `proxy_buffer_size` says otherwise,
    /// so a route whose header has 3,500 bytes or more is an [`Incident`] of [`Step::Start`].
    #[must_use]
    pub const fn header_limit(mut self, bytes: usize) -> Self {
        self.header_limit = bytes;
        self
    }

    /// Registers an extension: the routes of the seller declare it, and it reads their payments and receipts.
    #[must_use]
    pub fn extension(mut self, extension: impl Extension + 'static) -> Self {
        self.extensions.register(Arc::new(extension));
        self
    }

    /// Keeps the grants in this store; in memory by default.
    #[must_use]
    pub fn grants(mut self, grants: Arc<dyn Grants>) -> Self {
        self.grants = grants;
        self
    }

    /// Reads payment headers within these limits.
    #[must_use]
    pub const fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Serves version 1 too: 402 bodies of version 1 beside the version 2 header, payments in `X-PAYMENT`.
    #[must_use]
    pub const fn with_v1(mut self) -> Self {
        self.v1 = true;
        self
    }

    /// The seconds of `Retry-After` while an outcome is unknown: 2 by default, about a block.
    #[must_use]
    pub const fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = seconds;
        self
    }

    /// A layer for a route of a fixed price. Several offers are several ways to pay, the preferred one first.
    ///
    /// # Errors
    /// No offer or too many, a flow that is not served, a header that is too long.
    pub fn charge(&self, offers: impl IntoIterator<Item = Offer>) -> Result<RequirePaymentLayer, SellerError> {
        let offers: Vec<_> = offers.into_iter().collect();
        self.check(&offers)?;
        RequirePaymentLayer::fixed(self.clone(), offers)
    }

    /// A layer for a route whose price depends on the request.
    #[must_use]
    pub fn charge_by(&self, price: impl Price + 'static) -> RequirePaymentLayer {
        RequirePaymentLayer::by(self.clone(), Arc::new(price))
    }

    pub(super) fn check(&self, offers: &[Offer]) -> Result<(), SellerError> {
        if offers.is_empty() {
            return Err(SellerError::NoOffer);
        }
        if offers.len() > self.limits.accepts {
            return Err(SellerError::TooManyOffers { limit: self.limits.accepts });
        }
        if let Some(entry) = offers.iter().position(|offer| Flow::of(&offer.terms).is_none()) {
            return Err(SellerError::Flow { entry });
        }
        if self.v1
            && let Some((first, second)) = alike_in_v1(offers)
        {
            return Err(SellerError::AlikeInV1 { first, second });
        }
        if self.served.refuses
            && let Some(error) = self.not_served(offers)
        {
            return Err(error);
        }
        Ok(())
    }

    /// The first entry that the facilitator does not serve, as far as that was asked.
    pub(super) fn not_served(&self, offers: &[Offer]) -> Option<SellerError> {
        let NotServed { entry, version } = self.served.missing(offers, self.v1)?;
        let terms = &offers.get(entry)?.terms;
        Some(SellerError::NotServed { entry, version, scheme: terms.scheme.clone(), network: terms.network })
    }

    /// Logs a fault, and hands it to the hook.
    pub(super) fn report(&self, route: &str, step: Step, fault: &Fault) {
        incident::report(self.on_incident.as_ref(), &Incident { route, step, fault });
    }
}

/// Two entries that a payment of version 1 names alike.
fn alike_in_v1(offers: &[Offer]) -> Option<(usize, usize)> {
    let mut known = offers.iter().enumerate().filter(|(_, offer)| offer.terms.is_known_to_v1());
    known.find_map(|(second, offer)| {
        let alike = |other: &Offer| {
            other.terms.is_known_to_v1()
                && other.terms.scheme == offer.terms.scheme
                && other.terms.network == offer.terms.network
        };
        offers.iter().take(second).position(alike).map(|first| (first, second))
    })
}

impl fmt::Debug for Seller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seller").field("origin", &self.origin).field("v1", &self.v1).finish_non_exhaustive()
    }
}

pub(super) fn canonical_origin(origin: &str) -> Option<Box<str>> {
    let uri: Uri = origin.parse().ok()?;
    let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https"))?;
    let authority = uri.authority()?;
    let bare = matches!(uri.path(), "" | "/") && uri.query().is_none() && !authority.as_str().contains('@');
    let well_formed = !authority.host().is_empty() && !authority.as_str().ends_with(':');
    (bare && well_formed).then(|| format!("{scheme}://{}", authority.as_str().to_ascii_lowercase()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        for (origin, canonical) in [
            ("https://api.example.com", Some("https://api.example.com")),
            ("https://API.example.com/", Some("https://api.example.com")),
            ("http://127.0.0.1:4021", Some("http://127.0.0.1:4021")),
            ("http://[::1]:4021", Some("http://[::1]:4021")),
            ("https://api.example.com/v1", None),
            ("https://api.example.com?x", None),
            ("https://user@api.example.com", None),
            ("https://api.example.com:", None),
            ("ftp://api.example.com", None),
            ("api.example.com", None),
            ("/", None),
            ("", None),
        ] {
            assert_eq!(canonical_origin(origin).as_deref(), canonical, "{origin}");
        }
    }
}
