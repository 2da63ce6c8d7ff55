//! Proofs of the `x402.v1` dialect on EVM chains: `exact`, an EIP-3009 authorization that a facilitator settles, and
//! `onchain`, a transfer that the client has made.

mod exact;
mod onchain;
mod refund;
mod settle;
mod terms;

pub use exact::VerifyExact;
pub use onchain::VerifyOnchain;
pub use refund::ExactRefund;
