//! What a resource server talks to: the machine in its own process, or a facilitator over HTTP.

use std::sync::Arc;

use async_trait::async_trait;
use x402_types::v2::{ResourceInfo, SettleResponse, SupportedResponse, VerifyResponse};
use x402_types::{Claim, Fault};

/// A member of `/supported` at a facilitator over HTTP: `true` where it [keeps requests](Facilitator::keeps_requests).
pub const KEEPS_REQUESTS: &str = "keepsRequests";

/// What a resource server asks a facilitator about: one payment, for one request.
#[derive(Clone)]
pub struct PaymentRequest {
    /// The payment's JSON text as the payer sent it, forwarded byte for byte.
    pub raw: String,
    /// The header's text as the payer sent it, where it is no padded standard base64 of `raw`.
    pub token: Option<Box<str>>,
    /// The payment as it was read, beside the server's own entry. Its identity is the request's.
    pub claim: Claim,
    /// The resource that the server serves for the payment.
    pub resource: Arc<ResourceInfo>,
    /// What the facilitator called this request when it verified it (`agentRequestId`); goes back with settlement.
    pub verified_as: Option<String>,
    /// How the payment's dialect asks a facilitator over HTTP; `None` for x402's own requests.
    pub form: Option<Arc<dyn AskFacilitator>>,
}

/// Writes what a facilitator over HTTP is asked about a payment, for a dialect that does not ask as x402 §7 does.
pub trait AskFacilitator: Send + Sync {
    /// The JSON body of `/verify` and `/settle`.
    ///
    /// # Errors
    /// The request cannot be written in the dialect.
    fn request_body(&self, request: &PaymentRequest) -> Result<Vec<u8>, Fault>;

    /// The answer of `/settle` with the members that x402 has for what the dialect says otherwise.
    ///
    /// # Errors
    /// The answer is none of the dialect: the outcome is unknown.
    fn settle_response(&self, response: SettleResponse) -> Result<SettleResponse, Fault> {
        Ok(response)
    }
}

impl core::fmt::Debug for PaymentRequest {
    /// Leaves the payment out: whoever reads a log could present it.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PaymentRequest")
            .field("terms", &self.claim.terms)
            .field("resource", &self.resource.url)
            .field("identity", &self.claim.identity)
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
    async fn verify(&self, request: &PaymentRequest) -> Result<VerifyResponse, Fault>;

    /// Has the payment made. May be repeated with the same identity.
    ///
    /// # Errors
    /// The outcome is unknown. Never a failed payment: that is an answer.
    async fn settle(&self, request: &PaymentRequest) -> Result<SettleResponse, Fault>;

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
