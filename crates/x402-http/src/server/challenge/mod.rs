//! The `x402.v1` challenge dialect, `specs/402kit-x402v1.md`, on the same layer: alone, or together with version 2.
//!
//! Beside version 2, `PAYMENT-REQUIRED` has the offers and the body has the challenge. The order of a request:
//! entitlement, payment, handler. `x402_challenge::Gate` checks the payment; this module decides what the payment is
//! bound to:
//! - **Host.** A challenge is bound to the host of the configured public origin: in lower case, without the ports 80
//!   and 443, without the dot that ends an absolute name. The request's own host is the authority of its target
//!   (HTTP/2, absolute form), otherwise `Host`, and must be that one: a request for another host is `invalid_binding`.
//!   A proxy in front has to forward `Host`.
//! - **Path** as sent, after the prefix of [`with_prefix`](super::RequirePaymentLayer::with_prefix). `HEAD` is bound as `GET`.
//! - **Body.** It is bound if [`bind_body`](super::RequirePaymentLayer::bind_body) reads it.
//!
//! A payment buys one run of the handler: money may have moved before it runs. Its receipt, and the entitlement if
//! the route grants one, are on a failed answer too.

mod answer;
mod ask;
mod body;
mod payment_dialect;
mod route;
mod visit;

pub use crate::clock::{Clock, SystemClock};
pub use ask::{Access, Ask, Challenges, Entitle};
pub use body::{BindBody, BindBodyFuture, BindBodyLayer};
