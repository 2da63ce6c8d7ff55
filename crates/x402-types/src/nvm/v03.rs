//! §3.2 PaymentPayload (Client Response), version 0.3.

use crate::nvm::Requirements;
use crate::v2::ResourceInfo;
use crate::wire::wire;
use crate::{Members, RawJson, Version};

wire! {
    /// §3.3 PaymentPayload Fields.
    pub struct PaymentPayload {
        /// "MUST be `2`."
        x402_version: Version => "x402Version" version_2;
        /// "Echoed from PaymentRequired."
        resource: Option<ResourceInfo> => "resource" optional;
        /// "Selected scheme from `accepts[]`."
        accepted: Requirements => "accepted" required;
        /// "Scheme-specific authorization data": [`Payload`](crate::nvm::Payload), as it was received.
        payload: RawJson => "payload" object;
        /// "Empty object `{}`." It may be absent when read, and is always written.
        extensions: Members => "extensions" or Members::new();
    }
}

impl PaymentPayload {
    /// Creates a payment for an entry.
    #[must_use]
    pub const fn new(resource: Option<ResourceInfo>, accepted: Requirements, payload: RawJson) -> Self {
        Self {
            x402_version: Version::V2,
            resource,
            accepted,
            payload,
            extensions: Members::new(),
            rest: Members::new(),
        }
    }
}
