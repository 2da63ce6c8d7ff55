//! The `x402.v1` challenge dialect, `specs/402kit-x402v1.md`, on the same layer: alone, or beside version 2.
//!
//! Beside version 2 the offers stand in `PAYMENT-REQUIRED` and the challenge in the body. The order of a request:
//! entitlement, payment, handler. What the check says is `x402_challenge::Gate`'s; what it is about is decided here:
//! - **Host.** A challenge is bound to the host of the configured public origin: in lower case, without the ports 80
//!   and 443, without the dot that ends an absolute name. The request's own host is the authority of its target
//!   (HTTP/2, absolute form), else `Host`, and must be that one: what came for another host is `invalid_binding`.
//!   A proxy in front has to pass `Host` on.
//! - **Path** as sent, behind the prefix of [`nested`](super::RequirePaymentLayer::nested). `HEAD` is bound as `GET`.
//! - **Body.** Bound where [`bind_body`](super::RequirePaymentLayer::bind_body) reads it.
//!
//! A payment buys one run of the handler: money may have moved before it runs. Its receipt, and the entitlement if
//! the route grants one, stand on a failed answer too.

mod answer;
mod ask;
mod body;
mod counter;
mod flow;
mod spoken;

pub use crate::clock::{Clock, SystemClock};
pub use ask::{Access, Ask, Challenges, Entitle};
pub use body::{BindBody, BindBodyFuture, BindBodyLayer};
pub(super) use counter::Counter;
pub(super) use flow::run;
