//! The seller's half: [x402 over HTTP](https://github.com/coinbase/x402/blob/main/specs/transports-v2/http.md) as a
//! tower layer.
//!
//! The gate is a layer on the matched route, not a matcher of its own: what the router serves is what is paid for,
//! however the path was spelled. `HEAD` requires payment like `GET`, and one with a payment is
//! verified and not settled, since nothing but headers is given; `OPTIONS` is not paid.

mod answer;
#[cfg(feature = "challenge")]
pub mod challenge;
pub mod cors;
mod dialect;
mod flow;
mod kept;
mod layer;
mod overrides;
#[cfg_attr(not(feature = "challenge"), allow(dead_code, reason = "the only one of these dialects has a feature"))]
mod own;
mod price;
mod seller;

pub use cors::{Cors, CorsLayer};
pub use dialect::{HttpDialect, write_receipt};
pub use kept::KeepAnswers;
pub use layer::{RequirePayment, RequirePaymentFuture, RequirePaymentLayer};
pub use price::{Pricing, price_by};
pub use seller::Seller;

pub use crate::checkout::{
    Claimed, GrantLock, GrantState, Grants, Incident, IncidentStep, MemoryGrants, OnIncident, Paid, SellerError,
    Standing, Used,
};
