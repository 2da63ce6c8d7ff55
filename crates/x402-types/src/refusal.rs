//! The party at fault: the payer (`Rejection`), or this side (`Fault`).

use crate::{ErrorReason, Malformed, Members};

/// A fault of the payer. It is sent on the wire.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("{reason}{}{}", if message.is_some() { ": " } else { "" }, message.as_deref().unwrap_or_default())]
pub struct Rejection {
    /// The machine-readable code.
    pub reason: ErrorReason,
    /// The description of the fault, for people; it names the field.
    pub message: Option<Box<str>>,
    /// The payer, if it is known.
    pub payer: Option<Box<str>>,
    /// Further data of the code, for schemes whose errors have `details`.
    pub details: Members,
    /// The HTTP status of a code that an extension defines. A code without a status is answered with 402.
    pub status: Option<u16>,
}

impl Rejection {
    /// Creates a rejection with only a code.
    #[must_use]
    pub const fn new(reason: ErrorReason) -> Self {
        Self { reason, message: None, payer: None, details: Members::new(), status: None }
    }

    /// Adds a description for people.
    #[must_use]
    pub fn because(mut self, message: impl Into<Box<str>>) -> Self {
        self.message = Some(message.into());
        self
    }

    /// Adds the payer.
    #[must_use]
    pub fn of(mut self, payer: impl Into<Box<str>>) -> Self {
        self.payer = Some(payer.into());
        self
    }

    /// Adds one detail.
    #[must_use]
    pub fn detail(mut self, key: &str, value: &str) -> Self {
        self.details.insert_text(key, value);
        self
    }

    /// Adds the HTTP status of the resource server's answer, for a code that no table contains.
    #[must_use]
    pub const fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// Returns the reason for people: the message, or the text of the code without one.
    #[must_use]
    pub fn words(&self) -> &str {
        let of_code = || self.reason.row().map_or_else(|| self.reason.as_str(), |row| row.text);
        self.message.as_deref().unwrap_or_else(of_code)
    }

    /// Creates the rejection `invalid_payload` for a malformed field.
    #[must_use]
    pub fn field(path: &str, why: Malformed) -> Self {
        Self::new(ErrorReason::INVALID_PAYLOAD).because(format!("{path}: {why}"))
    }
}

/// A fault on this side: a node, a store. It is logged; the wire carries only a general code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A node or another service did not answer, or its answer cannot be used.
    #[error("{service} is unreachable or unusable: {detail}")]
    Unreachable {
        /// The name of the service.
        service: &'static str,
        /// The service's own message.
        detail: Box<str>,
    },
    /// A node refused a transaction and gave a reason that is understood. The transaction has not entered the node's
    /// pool.
    #[error("{service} does not take the transaction, {why}: {detail}")]
    NotTaken {
        /// The service that refused the transaction.
        service: &'static str,
        /// The kind of the reason.
        why: NotTaken,
        /// The service's own message.
        detail: Box<str>,
    },
    /// A service answered over HTTP, and the answer decides nothing: it refuses a schema or credentials, redirects, or
    /// is a proxy's page.
    #[error("{service} answered HTTP {status} without a verdict: {detail}")]
    NoVerdict {
        /// The name of the service.
        service: &'static str,
        /// The status of the response.
        status: u16,
        /// The part that could not be parsed, and the beginning of the response's body.
        detail: Box<str>,
    },
    /// The ledger or another store failed.
    #[error("the store failed: {detail}")]
    Store {
        /// The store's own message.
        detail: Box<str>,
    },
    /// An invariant was violated: a row cannot be parsed, a mechanism breaks a rule.
    #[error("a rule was broken: {detail}")]
    Broken {
        /// The invariant that was violated.
        detail: Box<str>,
    },
}

/// The kind of a fault. Metrics are labelled with its names, which therefore do not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// A node or another service did not answer, or its answer is unusable.
    Unreachable,
    /// A node refused a transaction and gave the reason.
    NotTaken,
    /// A service's answer decides nothing; a later one may.
    NoVerdict,
    /// A service refuses until a configuration is changed.
    Misconfigured,
    /// A store failed.
    Store,
    /// Something that must not happen.
    BrokenRule,
}

impl FaultKind {
    /// Returns its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::NotTaken => "not_taken",
            Self::NoVerdict => "no_verdict",
            Self::Misconfigured => "misconfigured",
            Self::Store => "store",
            Self::BrokenRule => "broken_rule",
        }
    }
}

impl core::fmt::Display for FaultKind {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.as_str())
    }
}

/// The reason for which a node refuses a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotTaken {
    /// The sending account holds too little of the network's native coin. This lasts until the account is funded.
    #[error("the account cannot pay the gas")]
    NoGasFunds,
    /// The transaction offers less than the network, the node or a replacement currently requires. A later or a higher
    /// offer is accepted.
    #[error("its fee is too low")]
    FeeTooLow,
    /// The gas limit is below what the network takes for the transaction before it executes anything. A later
    /// transaction with a higher limit is accepted.
    #[error("its gas limit is too low")]
    GasLimitTooLow,
    /// The nonce is ahead of the account's: the node has not seen the transactions before it.
    #[error("its nonce is ahead of the account's")]
    NonceTooHigh,
}

impl Fault {
    /// Returns the kind of the fault.
    #[must_use]
    pub const fn kind(&self) -> FaultKind {
        match self {
            Self::Unreachable { .. } => FaultKind::Unreachable,
            Self::NotTaken { .. } => FaultKind::NotTaken,
            Self::NoVerdict { .. } if self.is_lasting() => FaultKind::Misconfigured,
            Self::NoVerdict { .. } => FaultKind::NoVerdict,
            Self::Store { .. } => FaultKind::Store,
            Self::Broken { .. } => FaultKind::BrokenRule,
        }
    }

    /// Returns the node or service at fault; `None` for a fault of this process.
    #[must_use]
    pub const fn service(&self) -> Option<&'static str> {
        match self {
            Self::Unreachable { service, .. } | Self::NotTaken { service, .. } | Self::NoVerdict { service, .. } => {
                Some(service)
            }
            Self::Store { .. } | Self::Broken { .. } => None,
        }
    }

    /// Attributes the fault to another service, for a client that is built on another client.
    #[must_use]
    pub fn of_service(self, name: &'static str) -> Self {
        match self {
            Self::Unreachable { detail, .. } => Self::Unreachable { service: name, detail },
            Self::NotTaken { why, detail, .. } => Self::NotTaken { service: name, why, detail },
            fault => fault,
        }
    }

    /// Creates the fault of a service that cannot be used.
    #[must_use]
    pub fn unreachable(service: &'static str, detail: impl core::fmt::Display) -> Self {
        Self::Unreachable { service, detail: detail.to_string().into() }
    }

    /// Creates the fault of a service whose answer decides nothing.
    #[must_use]
    pub fn no_verdict(service: &'static str, status: u16, detail: impl core::fmt::Display) -> Self {
        Self::NoVerdict { service, status, detail: detail.to_string().into() }
    }

    /// Returns whether the same request would meet the same fault until a configuration is changed: a redirect, or a
    /// 4xx other than 408, 425 and 429.
    #[must_use]
    pub const fn is_lasting(&self) -> bool {
        matches!(self, Self::NoVerdict { status: 300..=499, .. })
            && !matches!(self, Self::NoVerdict { status: 408 | 425 | 429, .. })
    }

    /// Creates the fault of a store.
    #[must_use]
    pub fn store(detail: impl core::fmt::Display) -> Self {
        Self::Store { detail: detail.to_string().into() }
    }

    /// Creates the fault of a violated invariant.
    #[must_use]
    pub fn broken(detail: impl core::fmt::Display) -> Self {
        Self::Broken { detail: detail.to_string().into() }
    }
}

/// The reason why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The payer is at fault.
    #[error(transparent)]
    Rejection(#[from] Rejection),
    /// This side is at fault.
    #[error(transparent)]
    Fault(#[from] Fault),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Dashboards and alarms are made of these.
    #[test]
    fn every_fault_has_a_kind_with_a_name_that_stays() {
        let not_taken = Fault::NotTaken { service: "node", why: NotTaken::NoGasFunds, detail: "".into() };
        for (fault, kind, name, service) in [
            (Fault::unreachable("node", "gone"), FaultKind::Unreachable, "unreachable", Some("node")),
            (not_taken, FaultKind::NotTaken, "not_taken", Some("node")),
            (Fault::no_verdict("api", 503, ""), FaultKind::NoVerdict, "no_verdict", Some("api")),
            (Fault::no_verdict("api", 429, ""), FaultKind::NoVerdict, "no_verdict", Some("api")),
            (Fault::no_verdict("api", 401, ""), FaultKind::Misconfigured, "misconfigured", Some("api")),
            (Fault::store("full"), FaultKind::Store, "store", None),
            (Fault::broken("twice"), FaultKind::BrokenRule, "broken_rule", None),
        ] {
            assert_eq!((fault.kind(), fault.kind().as_str(), fault.service()), (kind, name, service), "{fault}");
        }
    }
}
