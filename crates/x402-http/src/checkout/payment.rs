//! A payment as a transport hands it over, and when its money moves.

use core::fmt;
use std::sync::Arc;

use x402_types::Offer;
use x402_types::v2::ResourceInfo;

/// A payment as a transport hands it over.
#[derive(Clone)]
pub struct PaymentIn<'t> {
    /// The payment's JSON text as the payer sent it.
    pub raw: String,
    /// The text that carried it, where that is not the padded standard base64 of `raw`.
    pub token: Option<Box<str>>,
    /// The resource that it is to buy.
    pub resource: Arc<ResourceInfo>,
    /// How the resource is asked for: an HTTP method, or what another transport has in its place. The same payment for
    /// the same resource and method is the same request.
    pub method: &'t str,
    /// The payer's own name for the request, where the transport carries one: `Idempotency-Key` in HTTP.
    pub name: Option<&'t str>,
}

impl<'t> PaymentIn<'t> {
    /// A payment that came as JSON, without a name.
    #[must_use]
    pub const fn new(raw: String, resource: Arc<ResourceInfo>, method: &'t str) -> Self {
        Self { raw, token: None, resource, method, name: None }
    }
}

impl fmt::Debug for PaymentIn<'_> {
    /// Leaves the payment out: whoever reads a log could present it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PaymentIn")
            .field("resource", &self.resource.url)
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

/// When money moves: x402 v2 §6.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Verify, work, settle.
    Authorization,
    /// Settle, work.
    Upfront,
}

impl Flow {
    /// "A non-`authorization` flow MUST appear as `accepts[].extra.paymentFlow`"; `None` for one that is not served.
    #[must_use]
    pub fn of(offer: &Offer) -> Option<Self> {
        let Some(flow) = offer.terms.extra.get("paymentFlow") else { return Some(Self::Authorization) };
        match flow.as_str() {
            r#""authorization""# => Some(Self::Authorization),
            r#""upfront""# if offer.key.settles_upfront() => Some(Self::Upfront),
            _ => None,
        }
    }
}
