//! The seller's half of a payment without a transport: match, verify, claim, settle, grant.
//!
//! A transport hands over a [`PaymentIn`], and what is offered for the resource. It runs the work between
//! [`Received::admit`] and [`Admitted::finish`], and writes what comes back in its own way: a receipt, or why there is
//! none ([`Declined`]). Nothing here knows a header, a status or a body of HTTP; [`server`](crate::server) is the
//! transport for tower.
//!
//! The order of what is written down: the key is claimed before the work is done, `pending` before settlement is asked
//! for, `granted` before the answer leaves. A request that is dropped in between leaves a claim that nobody holds: an
//! open one is free again, a pending one waits for the same request.

mod admitted;
mod declined;
mod dialect;
mod error;
mod grants;
mod incident;
mod named;
mod paid;
mod payment;
mod received;
mod required;
mod served;
mod verdict;

use core::fmt;
use std::sync::{Arc, OnceLock};

use x402_codec::Limits;
use x402_facilitator_core::Facilitator;
use x402_types::extension::Extensions;
use x402_types::{Extension, Fault, Offer};

pub use admitted::Admitted;
pub use declined::Declined;
pub use dialect::{Dialect, RawPayment, ReadPayment, fitting};
pub use error::SellerError;
pub use grants::{Claimed, GrantLock, GrantState, Grants, MemoryGrants, Standing};
pub use incident::{Incident, OnIncident, Step};
pub use paid::{Paid, Used};
pub use payment::{Flow, PaymentIn};
pub use received::Received;
use served::{NotServed, Served};

/// Takes payments for a seller, whatever the transport: it knows the facilitator, the grants, and the dialects that are
/// read.
///
/// All resources of a seller share one, so that a payment buys one answer of one resource. `D` is what the transport
/// wants of a dialect beside [`Dialect`]: nothing by default, `dyn HttpDialect` for the layer.
pub struct Checkout<D: ?Sized = dyn Dialect> {
    facilitator: Arc<dyn Facilitator>,
    grants: Arc<dyn Grants>,
    limits: Limits,
    dialects: Arc<[Arc<D>]>,
    served: Served,
    extensions: Extensions,
    on_incident: Option<Arc<dyn OnIncident>>,
}

impl Checkout {
    /// Takes payments of x402 version 2 and of the schemes that are built in, with this facilitator. The grants are
    /// kept in memory.
    #[must_use]
    pub fn new(facilitator: Arc<dyn Facilitator>) -> Self {
        Self::of(facilitator, crate::dialects::built_in!())
    }
}

impl<D: Dialect + ?Sized> Checkout<D> {
    /// Takes payments of these dialects, with this facilitator. The grants are kept in memory.
    #[must_use]
    pub fn of(facilitator: Arc<dyn Facilitator>, dialects: impl IntoIterator<Item = Arc<D>>) -> Self {
        Self {
            facilitator,
            grants: Arc::new(MemoryGrants::default()),
            limits: Limits::DEFAULT,
            dialects: dialects.into_iter().collect(),
            served: Served::default(),
            extensions: Extensions::new(),
            on_incident: None,
        }
    }

    /// Takes payments of this dialect too. It is asked before those that were there.
    #[must_use]
    pub fn with_dialect(mut self, dialect: Arc<D>) -> Self {
        self.dialects = self.dialects.iter().cloned().chain([dialect]).collect();
        self
    }

    /// Registers an extension, which is declared in every 402 document, and reads payments and receipts.
    #[must_use]
    pub fn with_extension(mut self, extension: Arc<dyn Extension>) -> Self {
        self.extensions.register(extension);
        self
    }

    /// Asks the facilitator what it serves, so that [`Checkout::check`] refuses an offer that it does not serve.
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
    pub fn with_on_incident(mut self, hook: impl OnIncident + 'static) -> Self {
        self.on_incident = Some(Arc::new(hook));
        self
    }

    /// Keeps the grants in this store.
    #[must_use]
    pub fn with_grants(mut self, grants: Arc<dyn Grants>) -> Self {
        self.grants = grants;
        self
    }

    /// Reads payments within these limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The limits of what is read.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The dialects in which payments are taken, the last one asked first.
    #[must_use]
    pub fn dialects(&self) -> &[Arc<D>] {
        &self.dialects
    }

    /// Checks that these offers can stand side by side for one resource, and that the facilitator serves them, as far
    /// as it was asked.
    ///
    /// # Errors
    /// No offer or too many, a flow that is not served, entries that a dialect cannot tell apart, an entry that the
    /// facilitator does not serve.
    pub fn check(&self, offers: &[Offer]) -> Result<(), SellerError> {
        if offers.is_empty() {
            return Err(SellerError::NoOffer);
        }
        if offers.len() > self.limits.accepts {
            return Err(SellerError::TooManyOffers { limit: self.limits.accepts });
        }
        if let Some(entry) = offers.iter().position(|offer| Flow::of(offer).is_none()) {
            return Err(SellerError::Flow { entry });
        }
        self.dialects.iter().try_for_each(|dialect| dialect.check(offers))?;
        if self.served.refuses
            && let Some(error) = self.not_served(offers)
        {
            return Err(error);
        }
        Ok(())
    }

    /// Asks the facilitator, once for each `looked`, whether it serves these offers. What it does not serve is an
    /// [`Incident`] of [`Step::Supported`]. Nothing is asked where [`Checkout::checked`] asked at start.
    pub async fn look_at_served(&self, looked: &OnceLock<()>, offers: &[Offer], url: &str) {
        if self.served.refuses || looked.set(()).is_err() {
            return;
        }
        match self.served.read(&*self.facilitator).await {
            Ok(()) => {
                if let Some(error) = self.not_served(offers) {
                    self.report(url, Step::Supported, &Fault::broken(error));
                }
            }
            Err(fault) => self.report(url, Step::Supported, &fault),
        }
    }

    /// The first entry that the facilitator does not serve, as far as that was asked.
    fn not_served(&self, offers: &[Offer]) -> Option<SellerError> {
        let NotServed { entry, version } = self.served.missing(offers, &self.dialects)?;
        let terms = &offers.get(entry)?.terms;
        let version = version.number();
        Some(SellerError::NotServed { entry, version, scheme: terms.scheme.clone(), network: terms.network })
    }

    /// Logs a fault that was met for a resource, and hands it to the hook.
    pub fn report(&self, url: &str, step: Step, fault: &Fault) {
        incident::report(self.on_incident.as_ref(), &Incident { route: url, step, fault });
    }
}

impl<D: ?Sized> Clone for Checkout<D> {
    fn clone(&self) -> Self {
        Self {
            facilitator: Arc::clone(&self.facilitator),
            grants: Arc::clone(&self.grants),
            limits: self.limits,
            dialects: Arc::clone(&self.dialects),
            served: self.served.clone(),
            extensions: self.extensions.clone(),
            on_incident: self.on_incident.clone(),
        }
    }
}

impl<D: Dialect + ?Sized> fmt::Debug for Checkout<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.dialects.iter().map(|dialect| dialect.name()).collect();
        f.debug_struct("Checkout").field("grants", &self.grants).field("dialects", &names).finish_non_exhaustive()
    }
}
