//! The seller's half: [x402 over HTTP](https://github.com/coinbase/x402/blob/main/specs/transports-v2/http.md) as a
//! tower layer.
//!
//! The gate is a layer on the matched route, not a matcher of its own: what the router serves is what is paid for,
//! however the path was spelled. `HEAD` is paid like `GET`; `OPTIONS` is not paid.

mod answer;
#[cfg(feature = "challenge")]
pub mod challenge;
pub mod cors;
mod flow;
mod grants;
mod layer;
mod paid;
mod price;
mod seller;
mod verdict;

pub use cors::{Cors, CorsLayer};
pub use grants::{Claimed, GrantState, Grants, MemoryGrants, Standing, Ticket};
pub use layer::{RequirePayment, RequirePaymentFuture, RequirePaymentLayer};
pub use paid::{Paid, Used};
pub use price::{Price, PriceFuture, price_by};
pub use seller::{Seller, SellerError};
