//! Whose fault it is: the payer's (`Rejection`), or ours (`Fault`).

use crate::{ErrorReason, Malformed, Members};

/// The payer's fault. Goes on the wire.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("{reason}{}{}", if message.is_some() { ": " } else { "" }, message.as_deref().unwrap_or_default())]
pub struct Rejection {
    /// The machine code.
    pub reason: ErrorReason,
    /// What was wrong, for people; names the field.
    pub message: Option<Box<str>>,
    /// Who would have paid, where it is known.
    pub payer: Option<Box<str>>,
    /// What the code adds, for schemes whose errors have `details`.
    pub details: Members,
}

impl Rejection {
    /// A refusal with a code alone.
    #[must_use]
    pub const fn new(reason: ErrorReason) -> Self {
        Self { reason, message: None, payer: None, details: Members::new() }
    }

    /// With words for people.
    #[must_use]
    pub fn because(mut self, message: impl Into<Box<str>>) -> Self {
        self.message = Some(message.into());
        self
    }

    /// With the payer.
    #[must_use]
    pub fn of(mut self, payer: impl Into<Box<str>>) -> Self {
        self.payer = Some(payer.into());
        self
    }

    /// With another detail.
    #[must_use]
    pub fn detail(mut self, key: &str, value: &str) -> Self {
        self.details.insert_text(key, value);
        self
    }

    /// A field that does not have the form it must have: `invalid_payload`.
    #[must_use]
    pub fn field(path: &str, why: Malformed) -> Self {
        Self::new(ErrorReason::INVALID_PAYLOAD).because(format!("{path}: {why}"))
    }
}

/// Ours: a node, a store. Logged; the wire shows a general code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A node or another service did not answer, or said something that cannot be used.
    #[error("{service} is unreachable or unusable: {detail}")]
    Unreachable {
        /// What was asked.
        service: &'static str,
        /// What it said.
        detail: Box<str>,
    },
    /// A node answered that it does not take a transaction, and named the reason. It has not got the transaction.
    #[error("{service} does not take the transaction, {why}: {detail}")]
    NotTaken {
        /// What refused it.
        service: &'static str,
        /// The kind of the reason.
        why: NotTaken,
        /// What it said.
        detail: Box<str>,
    },
    /// A service answered over HTTP, and its answer decides nothing: a schema or credentials that it refuses, a redirect,
    /// a proxy's page.
    #[error("{service} answered HTTP {status} without a verdict: {detail}")]
    NoVerdict {
        /// The service.
        service: &'static str,
        /// The status of its answer.
        status: u16,
        /// What could not be read, and how the answer's body begins.
        detail: Box<str>,
    },
    /// The ledger or another store failed.
    #[error("the store failed: {detail}")]
    Store {
        /// What it said.
        detail: Box<str>,
    },
    /// Something that must not happen: a row that cannot be read, a mechanism that breaks a rule.
    #[error("a rule was broken: {detail}")]
    Broken {
        /// Which.
        detail: Box<str>,
    },
}

/// The kind of a fault: for labels of metrics, so its names do not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// A node or another service does not answer, or says what cannot be used.
    Unreachable,
    /// A node does not take a transaction, and says why.
    NotTaken,
    /// A service's answer decides nothing, and the next may.
    NoVerdict,
    /// A service will not do until somebody changes a configuration.
    Misconfigured,
    /// A store failed.
    Store,
    /// Something that must not happen.
    BrokenRule,
}

impl FaultKind {
    /// Its name.
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

/// Why a node does not take a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotTaken {
    /// The sending account holds too little of the network's own coin. It lasts until somebody sends it some.
    #[error("the account cannot pay the gas")]
    NoGasFunds,
    /// It offers less than the network, the node or a replacement asks for now. A later or a higher offer is taken.
    #[error("its fee is too low")]
    FeeTooLow,
    /// Its nonce lies ahead of the account's: the node does not see the transactions before it.
    #[error("its nonce is ahead of the account's")]
    NonceTooHigh,
}

impl Fault {
    /// Its kind.
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

    /// The node or service that it is of; `None` for our own.
    #[must_use]
    pub const fn service(&self) -> Option<&'static str> {
        match self {
            Self::Unreachable { service, .. } | Self::NotTaken { service, .. } | Self::NoVerdict { service, .. } => {
                Some(service)
            }
            Self::Store { .. } | Self::Broken { .. } => None,
        }
    }

    /// The same of another service, for a client that is built on another's.
    #[must_use]
    pub fn of_service(self, name: &'static str) -> Self {
        match self {
            Self::Unreachable { detail, .. } => Self::Unreachable { service: name, detail },
            Self::NotTaken { why, detail, .. } => Self::NotTaken { service: name, why, detail },
            fault => fault,
        }
    }

    /// A service that cannot be used.
    #[must_use]
    pub fn unreachable(service: &'static str, detail: impl core::fmt::Display) -> Self {
        Self::Unreachable { service, detail: detail.to_string().into() }
    }

    /// A service whose answer decides nothing.
    #[must_use]
    pub fn no_verdict(service: &'static str, status: u16, detail: impl core::fmt::Display) -> Self {
        Self::NoVerdict { service, status, detail: detail.to_string().into() }
    }

    /// Whether the same request would meet the same fault until somebody changes a configuration: a redirect, or a 4xx
    /// other than 408, 425 and 429.
    #[must_use]
    pub const fn is_lasting(&self) -> bool {
        matches!(self, Self::NoVerdict { status: 300..=499, .. })
            && !matches!(self, Self::NoVerdict { status: 408 | 425 | 429, .. })
    }

    /// A store that failed.
    #[must_use]
    pub fn store(detail: impl core::fmt::Display) -> Self {
        Self::Store { detail: detail.to_string().into() }
    }

    /// A broken rule.
    #[must_use]
    pub fn broken(detail: impl core::fmt::Display) -> Self {
        Self::Broken { detail: detail.to_string().into() }
    }
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The payer's fault.
    #[error(transparent)]
    Rejection(#[from] Rejection),
    /// Ours.
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
