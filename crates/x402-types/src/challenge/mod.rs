//! The `x402.v1` challenge dialect, `specs/402kit-x402v1.md`: its messages, and the scalars in them.
//!
//! A server answers 402 with a [`Challenge`] in the body; the client sends a [`Payment`] in `X-PAYMENT`; the server
//! answers with a [`PaymentResponse`] in `X-PAYMENT-RESPONSE`, or with a [`RefusalBody`].

mod code;
mod message;
mod network;
mod proof;
mod text;
mod time;

pub use code::Code;
pub use message::{Binding, Carrier, Challenge, EntitlementNotice, Payment, PaymentResponse, RefusalBody};
pub use network::{NETWORKS, Network, NetworkTaken, Networks};
pub use proof::{Proof, ProofKind};
pub use text::{BodySha256, ChallengeId, DialectVersion, HostName, HttpMethod, Nonce, ResourceName, UrlPath};
pub use time::IsoTime;
