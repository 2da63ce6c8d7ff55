//! What keeps a seller from selling and is not the payer's fault: logged, and handed to whoever wants to know.

use core::fmt;
use std::sync::Arc;

use x402_types::Fault;

/// What was being done when the fault was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Step {
    /// The route was set up: a header that proxies may not pass.
    Start,
    /// The facilitator was asked for what it serves, or does not serve what is offered.
    Supported,
    /// The price of a request was computed.
    Price,
    /// The grant store was read or written.
    Grants,
    /// An extension reads the payment: nothing moved.
    Extension,
    /// `/verify`: nothing moved.
    Verify,
    /// `/settle`: whether money moved is not known.
    Settle,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Start => "start",
            Self::Supported => "supported",
            Self::Price => "price",
            Self::Grants => "grants",
            Self::Extension => "extension",
            Self::Verify => "verify",
            Self::Settle => "settle",
        })
    }
}

/// A fault that a payer met as 500 or 503, or one that the next payer will meet.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Incident<'a> {
    /// The URL of the resource, without a query.
    pub route: &'a str,
    /// What was being done.
    pub step: Step,
    /// The fault. [`Fault::is_lasting`] tells one that a configuration must end.
    pub fault: &'a Fault,
}

/// Receives the incidents of a seller.
pub trait OnIncident: Send + Sync {
    /// One incident. It is called while a payer waits, so it must not block.
    fn incident(&self, incident: &Incident<'_>);
}

impl<F: Fn(&Incident<'_>) + Send + Sync> OnIncident for F {
    fn incident(&self, incident: &Incident<'_>) {
        self(incident);
    }
}

/// Logs an incident, with the feature `tracing`, and hands it on.
pub(super) fn report(hook: Option<&Arc<dyn OnIncident>>, incident: &Incident<'_>) {
    #[cfg(feature = "tracing")]
    let Incident { route, step, fault } = *incident;
    #[cfg(feature = "tracing")]
    tracing::warn!(route, step = %step, lasting = fault.is_lasting(), "{fault}");
    if let Some(hook) = hook {
        hook.incident(incident);
    }
}
