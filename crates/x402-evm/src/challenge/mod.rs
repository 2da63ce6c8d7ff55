//! Proofs of the `x402.v1` dialect on EVM chains: `exact`, an EIP-3009 authorization that a facilitator settles, and
//! `onchain`, a transfer that the client has made.

mod exact;
mod onchain;
mod refund;
mod settle;
mod terms;

pub use exact::{ExactProof, authorization_nonce, pay};
pub use onchain::OnchainProof;
pub use refund::ExactRefund;
