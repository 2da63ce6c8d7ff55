//! Faults that keep a seller from selling and are not the payer's: they are logged, and handed to a hook.

use core::fmt;
use std::sync::Arc;

use x402_types::Fault;

/// The operation in which the fault occurred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IncidentStep {
    /// The set-up of the route: its header may be too long for proxies.
    Start,
    /// The request for the facilitator's kinds failed, or an offer is not among them.
    Supported,
    /// The computation of a request's price.
    Price,
    /// The access to the grant store.
    Grants,
    /// An extension reads the payment: nothing moved.
    Extension,
    /// A hook of the application failed or panicked.
    Hook,
    /// `/verify`: nothing moved.
    Verify,
    /// `/settle`: it is unknown whether money moved.
    Settle,
}

impl fmt::Display for IncidentStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Start => "start",
            Self::Supported => "supported",
            Self::Price => "price",
            Self::Grants => "grants",
            Self::Extension => "extension",
            Self::Hook => "hook",
            Self::Verify => "verify",
            Self::Settle => "settle",
        })
    }
}

/// A fault that a payer received as 500 or 503, or that the next payer will receive.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Incident<'a> {
    /// The URL of the resource, without a query; empty for what concerns no resource.
    pub route: &'a str,
    /// The operation in which the fault occurred.
    pub step: IncidentStep,
    /// The fault. [`Fault::is_lasting`] is true for one that only a change of configuration ends.
    pub fault: &'a Fault,
}

/// Receives the incidents of a seller.
pub trait OnIncident: Send + Sync {
    /// Receives one incident. It is called while a payer waits, so it must not block.
    fn incident(&self, incident: &Incident<'_>);
}

impl<F: Fn(&Incident<'_>) + Send + Sync> OnIncident for F {
    fn incident(&self, incident: &Incident<'_>) {
        self(incident);
    }
}

/// Logs an incident, with the feature `tracing`, and passes it to the hook.
pub(super) fn report(hook: Option<&Arc<dyn OnIncident>>, incident: &Incident<'_>) {
    #[cfg(feature = "tracing")]
    let Incident { route, step, fault } = *incident;
    #[cfg(feature = "tracing")]
    tracing::warn!(route, step = %step, lasting = fault.is_lasting(), "{fault}");
    if let Some(hook) = hook {
        hook.incident(incident);
    }
}
