//! The parts that the routes of one seller share: the public origin, and the checkout.

use core::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, Uri};
use x402_codec::{Limits, header};
use x402_facilitator_core::Facilitator;
use x402_types::hooks::Hooks;
use x402_types::{Assets, Extension, Offer};

use super::dialect::HttpDialect;
use super::kept::{KeepAnswers, KeptAnswers};
use super::layer::RequirePaymentLayer;
use super::{Grants, OnIncident, Pricing, SellerError};
use crate::checkout::{Checkout, Clock};

/// The default maximum length of `PAYMENT-REQUIRED`.
const LONGEST_HEADER: usize = 7 * 1024;

/// A seller. Its routes share one [`Checkout`], so that a payment buys one response of one route.
#[derive(Clone)]
pub struct Seller {
    pub(super) origin: Box<str>,
    pub(super) checkout: Checkout<dyn HttpDialect>,
    /// The payment headers that only one dialect has.
    own_headers: Arc<[HeaderName]>,
    pub(super) retry_after: u32,
    pub(super) header_limit: usize,
    pub(super) kept: Arc<KeptAnswers>,
    /// Where responses are kept beside that, beyond this process.
    pub(super) answers: Option<Arc<dyn KeepAnswers>>,
    pub(super) assets: Arc<Assets>,
}

impl Seller {
    /// Creates a seller whose routes are reached at a public origin, for example `https://api.example.com`.
    ///
    /// The origin goes into `resource.url`; the `Host` of a request is never trusted.
    /// # Errors
    /// [`SellerError::Origin`].
    pub fn new(origin: &str, facilitator: Arc<dyn Facilitator>) -> Result<Self, SellerError> {
        Ok(Self {
            origin: canonical_origin(origin).ok_or(SellerError::Origin)?,
            checkout: Checkout::of(facilitator, crate::dialects::built_in!()),
            own_headers: Arc::default(),
            retry_after: 2,
            header_limit: LONGEST_HEADER,
            kept: Arc::default(),
            answers: None,
            assets: Arc::default(),
        })
    }

    /// Adds a facilitator behind the others: [`Checkout::with_facilitator`].
    ///
    /// # Errors
    /// [`SellerError::FacilitatorName`].
    pub fn with_facilitator(mut self, name: &str, facilitator: Arc<dyn Facilitator>) -> Result<Self, SellerError> {
        self.checkout = self.checkout.with_facilitator(name, facilitator)?;
        Ok(self)
    }

    /// Requests the kinds of the facilitators, so that an offer which none serves is refused by [`Seller::charge`], at
    /// start. Without it the first paid request of each route does so, and an offer that is not served is an
    /// [`Incident`](super::Incident) of [`IncidentStep::Supported`](super::IncidentStep::Supported).
    ///
    /// # Errors
    /// [`SellerError::Supported`].
    pub async fn checked(mut self) -> Result<Self, SellerError> {
        self.checkout = self.checkout.checked().await?;
        Ok(self)
    }

    /// Reads payments of this dialect too. It is tried before those that were added earlier.
    #[must_use]
    pub fn with_dialect(mut self, dialect: Arc<dyn HttpDialect>) -> Self {
        self.own_headers = self.own_headers.iter().chain(dialect.headers()).cloned().collect();
        self.checkout = self.checkout.with_dialect(dialect);
        self
    }

    /// Registers an extension: the routes of the seller declare it, and it reads their payments and receipts.
    #[must_use]
    pub fn with_extension(mut self, extension: impl Extension + 'static) -> Self {
        self.checkout = self.checkout.with_extension(Arc::new(extension));
        self
    }

    /// Stores the responses of named requests, so that a request gets its response again after a restart and from another
    /// process, for an hour. By default they are in memory.
    #[must_use]
    pub fn with_kept_answers(mut self, answers: Arc<dyn KeepAnswers>) -> Self {
        self.answers = Some(answers);
        self
    }

    /// Passes every [`Incident`](super::Incident) to this hook, in addition to the log.
    #[must_use]
    pub fn with_incident_hook(mut self, hook: impl OnIncident + 'static) -> Self {
        self.checkout = self.checkout.with_incident_hook(hook);
        self
    }

    /// Sets the hooks: functions that are called around verification and settlement.
    #[must_use]
    pub fn with_hooks(mut self, hooks: Hooks) -> Self {
        self.checkout = self.checkout.with_hooks(hooks);
        self
    }

    /// Sets the source of the time and the randomness that extensions get.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.checkout = self.checkout.with_clock(clock);
        self
    }

    /// Sets the longest `PAYMENT-REQUIRED` header that a route may have: 7,168 bytes by default, which pass Node's
    /// fetch and common proxies with a matching configuration. nginx passes a response head of 4 KiB unless
    /// `proxy_buffer_size` is set, so a route whose header has 3,500 bytes or more is an [`Incident`](super::Incident)
    /// of [`IncidentStep::Start`](super::IncidentStep::Start).
    #[must_use]
    pub const fn with_header_limit(mut self, bytes: usize) -> Self {
        self.header_limit = bytes;
        self
    }

    /// Sets the store of the grants; the default is in memory.
    #[must_use]
    pub fn with_grants(mut self, grants: Arc<dyn Grants>) -> Self {
        self.checkout = self.checkout.with_grants(grants);
        self
    }

    /// Sets the assets in which a handler's `Settlement-Overrides` may name dollars, instead of the default table.
    #[must_use]
    pub fn with_assets(mut self, assets: Assets) -> Self {
        self.assets = Arc::new(assets);
        self
    }

    /// Sets the limits for parsing payment headers.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.checkout = self.checkout.with_limits(limits);
        self
    }

    /// Sets the seconds of `Retry-After` while an outcome is unknown: 2 by default, about a block.
    #[must_use]
    pub const fn with_retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = seconds;
        self
    }

    /// Returns a layer for a route of a fixed price. Several offers are several ways to pay, the preferred one first.
    ///
    /// # Errors
    /// There is no offer or too many, a flow is not supported, or the header is too long.
    pub fn charge(&self, offers: impl IntoIterator<Item = Offer>) -> Result<RequirePaymentLayer, SellerError> {
        let offers: Vec<_> = offers.into_iter().collect();
        self.checkout.check(&offers)?;
        RequirePaymentLayer::fixed(self.clone(), offers)
    }

    /// Returns a layer for a route whose price depends on the request.
    #[must_use]
    pub fn charge_by(&self, price: impl Pricing + 'static) -> RequirePaymentLayer {
        RequirePaymentLayer::by(self.clone(), Arc::new(price))
    }

    /// Returns whether a request has a header that an extension reads.
    pub(super) fn finds_extension(&self, headers: &HeaderMap) -> bool {
        self.checkout.reads(|name| headers.contains_key(name))
    }

    /// Returns whether a request has a header that carries a payment, or one that may take its place.
    pub(super) fn finds_payment(&self, headers: &HeaderMap) -> bool {
        self.finds_extension(headers)
            || headers.contains_key(&header::PAYMENT_SIGNATURE)
            || headers.contains_key(&header::X_PAYMENT)
            || self.own_headers.iter().any(|name| headers.contains_key(name))
    }
}

impl fmt::Debug for Seller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seller").field("origin", &self.origin).field("checkout", &self.checkout).finish_non_exhaustive()
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
