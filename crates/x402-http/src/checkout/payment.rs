//! The payment that a transport passes in, and the time at which its money moves.

use core::fmt;
use std::sync::Arc;

use x402_types::Offer;
use x402_types::v2::ResourceInfo;

/// A payment that a transport passes in.
#[derive(Clone)]
pub struct PaymentIn<'t> {
    /// The payment's JSON text as the payer sent it.
    pub raw: String,
    /// The text that carried it, if it is not the padded standard base64 of `raw`.
    pub token: Option<Box<str>>,
    /// The resource to buy.
    pub resource: Arc<ResourceInfo>,
    /// The method of the request: an HTTP method, or its equivalent in another transport. The same payment for
    /// the same resource and method is the same request.
    pub method: &'t str,
    /// The payer's own name for the request, if the transport carries one: `Idempotency-Key` in HTTP.
    pub name: Option<&'t str>,
}

impl<'t> PaymentIn<'t> {
    /// Returns a payment that came as JSON, without a name.
    #[must_use]
    pub const fn new(raw: String, resource: Arc<ResourceInfo>, method: &'t str) -> Self {
        Self { raw, token: None, resource, method, name: None }
    }
}

impl fmt::Debug for PaymentIn<'_> {
    /// Omits the payment: any reader of a log could present it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PaymentIn")
            .field("resource", &self.resource.url)
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

/// The order of settlement and work: x402 v2 §6.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// The payment is verified, the work is done, the payment is settled.
    Authorization,
    /// The payment is settled, the work is done.
    Upfront,
}

impl Flow {
    /// Returns the flow of an offer: "A non-`authorization` flow MUST appear as `accepts[].extra.paymentFlow`"; `None`
    /// for one that is not supported.
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
