//! What a resource server talks to: the machine in its own process, or a facilitator over HTTP.

use std::sync::Arc;

use async_trait::async_trait;
use x402_types::v2::{ResourceInfo, SettleResponse, SupportedResponse, VerifyResponse};
use x402_types::{Fault, Identity, PaymentPayload, Terms};

/// A member of `/supported` at a facilitator over HTTP: `true` where it [keeps requests](Facilitator::keeps_requests).
pub const KEEPS_REQUESTS: &str = "keepsRequests";

/// A payment as a resource server presents it.
#[derive(Clone, PartialEq)]
pub struct Presented {
    /// The payment's JSON text as the payer sent it, forwarded byte for byte.
    pub raw: String,
    /// The header's text as the payer sent it, where it is no padded standard base64 of `raw`.
    pub token: Option<Box<str>>,
    /// The same, read.
    pub payment: Box<PaymentPayload>,
    /// What it must fulfil: the server's own entry, never the payer's echo of it.
    pub terms: Terms,
    /// What is served for it.
    pub resource: Arc<ResourceInfo>,
    /// Whose request it is.
    pub identity: Identity,
    /// What the facilitator called this request when it verified it (`agentRequestId`); goes back with settlement.
    pub verified_as: Option<String>,
}

impl core::fmt::Debug for Presented {
    /// Without the payment: whoever reads a log could present it.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Presented")
            .field("terms", &self.terms)
            .field("resource", &self.resource.url)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

/// Verifies and settles payments for a resource server.
#[async_trait]
pub trait Facilitator: Send + Sync {
    /// Is the payment good? Moves nothing.
    ///
    /// # Errors
    /// Ours or the facilitator's fault; nothing happened.
    async fn verify(&self, presented: &Presented) -> Result<VerifyResponse, Fault>;

    /// Has the payment made. May be repeated with the same identity.
    ///
    /// # Errors
    /// The outcome is unknown. Never a failed payment: that is an answer.
    async fn settle(&self, presented: &Presented) -> Result<SettleResponse, Fault>;

    /// What is served.
    ///
    /// # Errors
    /// Ours or the facilitator's fault.
    async fn supported(&self) -> Result<SupportedResponse, Fault>;

    /// Whether a request that comes again with the same identity is answered by what became of it: kept before anything
    /// is sent, found again after a restart. Where it is not, no refusal of the second asking says that the first moved
    /// nothing, but for [few](x402_types::ErrorReason::is_final_for_begun). Over HTTP it says so by [`KEEPS_REQUESTS`].
    fn keeps_requests(&self) -> bool {
        false
    }
}
