//! The facilitator as a resource server uses it: the machine in its own process, or a facilitator over HTTP.

use std::sync::Arc;

use async_trait::async_trait;
use x402_types::v2::{ResourceInfo, SettleResponse, SupportedResponse, VerifyResponse};
use x402_types::{Claim, Fault};

/// A member of `/supported` of a facilitator over HTTP: `true` if it [keeps requests](Facilitator::keeps_requests).
pub const KEEPS_REQUESTS: &str = "keepsRequests";

/// One payment for one request, which a resource server presents to a facilitator.
#[derive(Clone)]
pub struct PaymentRequest {
    /// The payment's JSON text as the payer sent it, forwarded byte for byte.
    pub raw: String,
    /// The header's text as the payer sent it, if it is not the padded standard base64 of `raw`.
    pub token: Option<Box<str>>,
    /// The payment as it was read, beside the server's own entry. Its identity is the request's.
    pub claim: Claim,
    /// The resource that the server serves for the payment.
    pub resource: Arc<ResourceInfo>,
    /// The identifier that the facilitator gave to this request at verification (`agentRequestId`); it is sent back
    /// with the settlement.
    pub verified_as: Option<String>,
    /// The form of the dialect's requests to a facilitator over HTTP; `None` for x402's own requests.
    pub form: Option<Arc<dyn AskFacilitator>>,
}

/// Writes the requests to a facilitator over HTTP, for a dialect whose requests differ from those of x402 §7.
pub trait AskFacilitator: Send + Sync {
    /// Writes the JSON body of `/verify` and `/settle`.
    ///
    /// # Errors
    /// The request cannot be written in the dialect.
    fn request_body(&self, request: &PaymentRequest) -> Result<Vec<u8>, Fault>;

    /// Translates the dialect's members in an answer of `/settle` to those of x402.
    ///
    /// # Errors
    /// The answer is not in the dialect: the outcome is unknown.
    fn settle_response(&self, response: SettleResponse) -> Result<SettleResponse, Fault> {
        Ok(response)
    }
}

impl core::fmt::Debug for PaymentRequest {
    /// Leaves the payment out: a reader of the log could present it.
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
    /// Checks whether the payment is valid. Moves nothing.
    /// # Errors
    /// A fault of this side or of the facilitator; nothing happened.
    async fn verify(&self, request: &PaymentRequest) -> Result<VerifyResponse, Fault>;

    /// Settles the payment. The call may be repeated with the same identity.
    /// # Errors
    /// The result is unknown. A failed payment is not an error, but a response.
    async fn settle(&self, request: &PaymentRequest) -> Result<SettleResponse, Fault>;

    /// Returns the kinds of payment that are served.
    /// # Errors
    /// A fault of this side or of the facilitator.
    async fn supported(&self) -> Result<SupportedResponse, Fault>;

    /// Returns whether a repeated request with the same identity gets the result of the first: requests are stored
    /// before anything is sent, and found again after a restart. If not, no refusal of a repetition proves that the
    /// first attempt moved nothing, with [few exceptions](x402_types::ErrorReason::is_final_for_begun). Over HTTP the
    /// facilitator states this by [`KEEPS_REQUESTS`].
    fn keeps_requests(&self) -> bool {
        false
    }
}
