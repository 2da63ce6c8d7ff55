//! A payment of a challenge, in the form in which a journal keeps it.

use core::fmt;

use serde::{Deserialize, Serialize};
use x402_types::UnixSeconds;
use x402_types::challenge::{Carrier, ChallengeId, PaymentResponse, ResourceName};

/// The part of an [`OpenPayment`](super::super::OpenPayment) that only payments of challenges have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OpenChallenge {
    /// The challenge that the payment answers.
    pub id: ChallengeId,
    /// The server's receipt, if the challenge was paid and the request was not served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<PaymentResponse>,
    /// The entitlement that came with that receipt. It is presented instead of the payment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entitlement: Option<OpenEntitlement>,
}

impl OpenChallenge {
    pub(in super::super) const fn new(id: ChallengeId) -> Self {
        Self { id, receipt: None, entitlement: None }
    }
}

/// An entitlement that a payment bought. Anyone who has its `token` can use it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OpenEntitlement {
    /// The resource that was bought.
    pub resource: ResourceName,
    /// The form in which the token is presented.
    pub carrier: Carrier,
    /// The value of `Authorization`, or the cookie: a secret as long as the entitlement is valid.
    pub token: String,
    /// The first second in which the entitlement is over.
    pub until: UnixSeconds,
}

impl OpenEntitlement {
    pub(super) const fn new(resource: ResourceName, carrier: Carrier, token: String, until: UnixSeconds) -> Self {
        Self { resource, carrier, token, until }
    }
}

impl fmt::Debug for OpenEntitlement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenEntitlement")
            .field("resource", &self.resource)
            .field("carrier", &self.carrier)
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}
