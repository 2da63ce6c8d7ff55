//! The seller's half of a payment without a transport: match, verify, claim, settle, grant.
//!
//! A transport passes in a [`PaymentIn`] and the offers for the resource. It runs the work between [`Received::admit`]
//! and [`Admitted::finish`], and writes the result in its own way: a receipt, or the reason why there is none
//! ([`Declined`]). This module uses no header, status or body of HTTP; [`server`](crate::server) is the transport for
//! tower.
//!
//! The key is claimed before the work is done, `pending` is recorded before settlement is requested, and `granted`
//! before the answer leaves. A request that is dropped in between leaves a claim that no request holds: an open claim
//! is free again, and a pending one waits for the same request.

mod admitted;
mod begun;
mod declined;
mod dialect;
mod error;
mod facilitators;
mod grants;
mod hooked;
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
use x402_types::extension::{Admission, Extensions, Moment, Unpaid};
use x402_types::hooks::Hooks;
use x402_types::{Extension, Fault, Offer, Refusal, UnixSeconds};

pub use crate::clock::{Clock, SystemClock};
pub use admitted::Admitted;
pub use declined::Declined;
pub use dialect::{Dialect, RawPayment, ReadPayment, fitting};
pub use error::SellerError;
use facilitators::Facilitators;
pub use grants::{Claimed, GrantLock, GrantState, Grants, MemoryGrants, Standing};
pub use incident::{Incident, IncidentStep, OnIncident};
pub use paid::{Paid, Used};
pub use payment::{Flow, PaymentIn};
pub use received::Received;
use served::NotServed;

/// Takes payments for a seller, whatever the transport: it has the facilitator, the grants, and the dialects.
///
/// All resources of a seller share one, so that a payment buys one response of one resource. `D` is what the transport
/// requires of a dialect in addition to [`Dialect`]: nothing by default, `dyn HttpDialect` for the layer.
pub struct Checkout<D: ?Sized = dyn Dialect> {
    facilitators: Facilitators,
    grants: Arc<dyn Grants>,
    limits: Limits,
    dialects: Arc<[Arc<D>]>,
    extensions: Extensions,
    clock: Arc<dyn Clock>,
    on_incident: Option<Arc<dyn OnIncident>>,
    hooks: Arc<Hooks>,
}

impl Checkout {
    /// Creates a checkout for x402 version 2 and the built-in schemes, with this facilitator and grants in memory.
    #[must_use]
    pub fn new(facilitator: Arc<dyn Facilitator>) -> Self {
        Self::of(facilitator, crate::dialects::built_in!())
    }
}

impl<D: Dialect + ?Sized> Checkout<D> {
    /// Creates a checkout for these dialects, with this facilitator and grants in memory.
    #[must_use]
    pub fn of(facilitator: Arc<dyn Facilitator>, dialects: impl IntoIterator<Item = Arc<D>>) -> Self {
        Self {
            facilitators: Facilitators::one(facilitator),
            grants: Arc::new(MemoryGrants::default()),
            limits: Limits::DEFAULT,
            dialects: dialects.into_iter().collect(),
            extensions: Extensions::new(),
            clock: Arc::new(SystemClock),
            on_incident: None,
            hooks: Arc::default(),
        }
    }

    /// Adds a facilitator behind the others: a payment goes to the first that lists its scheme, network and version in
    /// `/supported`, and whose listed members (the account that settles) agree with the offer. One that does not answer is
    /// passed over, and tried again after growing pauses of at most a minute. If the verification ends in a fault, the
    /// next one verifies; a payment whose settlement one of them may have begun is never sent to another.
    ///
    /// The grants of the payments that this one settles contain the name, so it must stay the same as long as such
    /// payments are open; the first facilitator has none, and stays the first.
    ///
    /// # Errors
    /// [`SellerError::FacilitatorName`].
    pub fn with_facilitator(mut self, name: &str, facilitator: Arc<dyn Facilitator>) -> Result<Self, SellerError> {
        if self.facilitators.add(name, facilitator) { Ok(self) } else { Err(SellerError::FacilitatorName) }
    }

    /// Takes payments of this dialect too. It is tried before those that were added earlier.
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

    /// Sets the source of the time and the randomness that extensions get.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Returns the seconds for which a 402 document may be sent again; `None` if it never changes.
    #[must_use]
    pub fn lasts(&self) -> Option<u64> {
        self.extensions.lasts()
    }

    /// Returns whether a request has a header that an extension reads, so that [`Checkout::admit_unpaid`] may admit it.
    #[must_use]
    pub fn reads(&self, has: impl Fn(&str) -> bool) -> bool {
        self.extensions.reads(has)
    }

    /// Passes a request without a payment to the extensions, one of which may admit it.
    ///
    /// # Errors
    /// An extension refuses the request, which can still be paid, or it could not be decided.
    pub async fn admit_unpaid(&self, request: &Unpaid<'_>) -> Result<Option<Admission>, Refusal> {
        self.extensions.on_request(request).await
    }

    /// Returns the current time.
    #[must_use]
    pub fn now(&self) -> UnixSeconds {
        self.clock.now()
    }

    /// Returns the time and the randomness of one call of the extensions.
    fn moment(&self) -> Moment {
        // Without extensions nothing needs either.
        if self.extensions.is_empty() {
            return Moment::at(UnixSeconds(0));
        }
        Moment { now: self.clock.now(), entropy: self.clock.entropy() }
    }

    /// Requests the kinds of the facilitators, so that [`Checkout::check`] refuses an offer that none of them serves. Of
    /// several, one that does not answer is an [`Incident`], and no offer is refused until it does.
    ///
    /// # Errors
    /// [`SellerError::Supported`]: none of them answers.
    pub async fn checked(mut self) -> Result<Self, SellerError> {
        self.facilitators.refuse();
        for fault in self.facilitators.read_all().await {
            if !self.facilitators.any_read() {
                return Err(SellerError::Supported(fault));
            }
            self.report("", IncidentStep::Supported, &fault);
        }
        Ok(self)
    }

    /// Passes every [`Incident`] to this hook, in addition to the log.
    #[must_use]
    pub fn with_incident_hook(mut self, hook: impl OnIncident + 'static) -> Self {
        self.on_incident = Some(Arc::new(hook));
        self
    }

    /// Sets the store of the grants.
    #[must_use]
    pub fn with_grants(mut self, grants: Arc<dyn Grants>) -> Self {
        self.grants = grants;
        self
    }

    /// Sets the limits for parsing payments.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Returns the limits of what is read.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Returns the dialects in which payments are taken. The last one is tried first.
    #[must_use]
    pub fn dialects(&self) -> &[Arc<D>] {
        &self.dialects
    }

    /// Checks that one resource can have these offers together, and that the facilitator serves them, as far as its
    /// kinds were read.
    ///
    /// # Errors
    /// No offer or too many, a flow that is not served, entries that a dialect does not distinguish, an entry that the
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
        if self.facilitators.refuses
            && let Some(error) = self.not_served(offers)
        {
            return Err(error);
        }
        Ok(())
    }

    /// Checks once for each `looked` whether the facilitator serves these offers. An offer that it does not serve is an
    /// [`Incident`] of [`IncidentStep::Supported`]. The check is skipped if [`Checkout::checked`] did it at start.
    pub async fn look_at_served(&self, looked: &OnceLock<()>, offers: &[Offer], url: &str) {
        // The kinds of several facilitators are read when one of them is chosen.
        if self.facilitators.refuses || self.facilitators.are_several() || looked.set(()).is_err() {
            return;
        }
        for fault in self.facilitators.read_all().await {
            self.report(url, IncidentStep::Supported, &fault);
        }
        if let Some(error) = self.not_served(offers) {
            self.report(url, IncidentStep::Supported, &Fault::broken(error));
        }
    }

    /// Returns the first entry that no facilitator serves, as far as all their kinds were read.
    fn not_served(&self, offers: &[Offer]) -> Option<SellerError> {
        let NotServed { entry, version } = self.facilitators.missing(offers, &self.dialects)?;
        let terms = &offers.get(entry)?.terms;
        let version = version.number();
        Some(SellerError::NotServed { entry, version, scheme: terms.scheme.clone(), network: terms.network })
    }

    /// Logs a fault of a resource, and passes it to the hook.
    pub fn report(&self, url: &str, step: IncidentStep, fault: &Fault) {
        incident::report(self.on_incident.as_ref(), &Incident { route: url, step, fault });
    }
}

impl<D: ?Sized> Clone for Checkout<D> {
    fn clone(&self) -> Self {
        Self {
            facilitators: self.facilitators.clone(),
            grants: Arc::clone(&self.grants),
            limits: self.limits,
            dialects: Arc::clone(&self.dialects),
            extensions: self.extensions.clone(),
            clock: Arc::clone(&self.clock),
            on_incident: self.on_incident.clone(),
            hooks: Arc::clone(&self.hooks),
        }
    }
}

impl<D: Dialect + ?Sized> fmt::Debug for Checkout<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.dialects.iter().map(|dialect| dialect.name()).collect();
        f.debug_struct("Checkout").field("grants", &self.grants).field("dialects", &names).finish_non_exhaustive()
    }
}
