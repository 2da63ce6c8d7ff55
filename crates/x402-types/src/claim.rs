//! Claims: payments offered for terms, whatever the version of the payment.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::form::form_of;
use crate::v2::ResourceInfo;
use crate::{AmountRule, Entry, Members, PaymentKey, PaymentPayload, RawJson, Rejection, Terms, Version, v1, v2};

/// A payment that claims to fulfil terms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Claim {
    /// The terms to fulfil. They are the server's own entry, never the payer's echo of it. `nvm:erc4337` lets the payer
    /// add members to `extra`, which it signs.
    pub terms: Terms,
    /// The scheme's payload, as the payer sent it.
    pub payload: RawJson,
    /// The resource that the payer names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<ResourceInfo>,
    /// The extensions that the payer echoes.
    #[serde(default, skip_serializing_if = "Members::is_empty")]
    pub extensions: Members,
    /// The caller and the request; set by the route that received the payment.
    pub identity: Identity,
}

/// The caller and the request that a payment belongs to. A retry of the same request has the same identity and gets the
/// same answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Identity {
    /// The authenticated caller; empty if callers are not distinguished.
    pub caller: String,
    /// The name of the request: `Idempotency-Key`, `agentRequestId`, or the hash of the canonical request body.
    pub request: String,
}

impl Identity {
    /// Creates the identity of a caller's request.
    #[must_use]
    pub fn new(caller: impl Into<String>, request: impl Into<String>) -> Self {
        Self { caller: caller.into(), request: request.into() }
    }

    /// Sets the name of the request.
    #[must_use]
    pub fn with_request(mut self, request: impl Into<String>) -> Self {
        self.request = request.into();
        self
    }
}

impl Claim {
    /// Combines a scheme's payload with the entry that it must fulfil, without a resource, extensions or identity.
    #[must_use]
    pub fn of_payload(terms: Terms, payload: RawJson) -> Self {
        Self { terms, payload, resource: None, extensions: Members::new(), identity: Identity::default() }
    }

    /// Sets the terms to fulfil.
    #[must_use]
    pub fn with_terms(mut self, terms: Terms) -> Self {
        self.terms = terms;
        self
    }

    /// Sets the scheme's payload.
    #[must_use]
    pub fn with_payload(mut self, payload: RawJson) -> Self {
        self.payload = payload;
        self
    }

    /// Sets the resource that the payer names.
    #[must_use]
    pub fn with_resource(mut self, resource: ResourceInfo) -> Self {
        self.resource = Some(resource);
        self
    }

    /// Sets the extensions that the payer echoes.
    #[must_use]
    pub fn with_extensions(mut self, extensions: Members) -> Self {
        self.extensions = extensions;
        self
    }

    /// Sets the caller and the request.
    #[must_use]
    pub fn with_identity(mut self, identity: Identity) -> Self {
        self.identity = identity;
        self
    }

    /// Combines a payment with the entry that it must fulfil.
    #[must_use]
    #[inline]
    pub fn new(terms: Terms, payment: PaymentPayload) -> Self {
        let (payload, resource, extensions) = match payment {
            PaymentPayload::V1(payment) => (payment.payload, None, Members::new()),
            PaymentPayload::V2(payment) => (payment.payload, payment.resource, payment.extensions),
        };
        Self { terms, payload, resource, extensions, identity: Identity::default() }
    }

    /// Rebuilds the payment as it is written on the wire: in the form of its scheme, or in that of its terms' version.
    #[must_use]
    pub fn to_payment(&self) -> Entry<PaymentPayload> {
        if let Some(payment) = form_of(&self.terms.scheme).and_then(|form| form.payment(self).ok()) {
            return Entry::Opaque(payment);
        }
        Entry::Known(match self.terms.version {
            Version::V1 => PaymentPayload::V1(v1::PaymentPayload {
                x402_version: Version::V1,
                scheme: self.terms.scheme.clone(),
                network: self.terms.to_v1(&ResourceInfo::of("")).network,
                payload: self.payload.clone(),
                rest: Members::new(),
            }),
            Version::V2 => PaymentPayload::V2(v2::PaymentPayload {
                x402_version: Version::V2,
                resource: self.resource.clone(),
                accepted: self.terms.to_v2(),
                payload: self.payload.clone(),
                extensions: self.extensions.clone(),
                rest: Members::new(),
            }),
        })
    }
}

impl PaymentPayload {
    /// Returns whether the payment was made for this entry: v2 echoes the entry, v1 names only its scheme and network.
    #[must_use]
    pub fn is_for(&self, terms: &Terms) -> bool {
        self.settles(terms, AmountRule::Equal)
    }

    /// Returns whether the payment may settle these terms: it was made for such an entry, and the amount follows the
    /// scheme's rule. The terms of a settlement have the used amount, and `accepted` the authorized one.
    #[must_use]
    pub fn settles(&self, terms: &Terms, rule: AmountRule) -> bool {
        match self {
            Self::V1(payment) => payment.scheme == terms.scheme && payment.network.chain_id() == Some(terms.network),
            // A scheme with a form of its own is paid in that form only.
            Self::V2(payment) => form_of(&terms.scheme).is_none() && terms.matches(&payment.accepted, rule),
        }
    }

    /// Returns whether the payment was made for these terms, and their amount exceeds the authorized one although the
    /// rule allows less. The scheme refuses such a settlement, by a code of its own if it has one.
    #[must_use]
    pub fn is_exceeded_by(&self, terms: &Terms, rule: AmountRule) -> bool {
        match (self, rule) {
            (Self::V2(payment), AmountRule::AtMost) => {
                form_of(&terms.scheme).is_none()
                    && terms.matches_any_amount(&payment.accepted)
                    && !rule.allows(terms.amount, payment.accepted.amount)
            }
            (Self::V1(_), _) | (Self::V2(_), AmountRule::Equal) => false,
        }
    }
}

/// Derives the key of a claim from the claim alone, without I/O.
pub trait PaymentKeyFn: Send + Sync {
    /// Derives the key.
    ///
    /// # Errors
    /// The payload cannot be parsed as the scheme's.
    fn key(&self, claim: &Claim) -> Result<PaymentKey, Rejection>;

    /// Returns whether the settled amount may be below the authorized one: [`AmountRule::Equal`] by default.
    fn amount_rule(&self) -> AmountRule {
        AmountRule::Equal
    }

    /// Returns whether the scheme can settle before the work is done (`paymentFlow: "upfront"`). `false` for a scheme
    /// whose payments are settled for work that was done, as `nvm:erc4337`.
    fn settles_upfront(&self) -> bool {
        true
    }
}

impl<F: Fn(&Claim) -> Result<PaymentKey, Rejection> + Send + Sync> PaymentKeyFn for F {
    fn key(&self, claim: &Claim) -> Result<PaymentKey, Rejection> {
        self(claim)
    }
}

/// An entry that a server offers, with the scheme's function that identifies payments for it.
#[derive(Clone)]
pub struct Offer {
    /// The terms of the offer.
    pub terms: Terms,
    /// The function that derives a claim's payment key, by which a server grants each payment once.
    pub key: std::sync::Arc<dyn PaymentKeyFn>,
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.terms.fmt(f)
    }
}
