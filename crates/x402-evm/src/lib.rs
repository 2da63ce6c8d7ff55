#![doc = include_str!("../README.md")]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)
)]

#[cfg(feature = "facilitator")]
pub mod batching;
pub mod chain;
#[cfg(feature = "challenge")]
pub mod challenge;
pub mod eip3009;
#[cfg(any(feature = "libsecp256k1", feature = "verify"))]
pub mod eip6492;
pub mod eip712;
pub mod exact;
#[cfg(feature = "fuzz")]
#[doc(hidden)]
pub mod fuzz;
pub mod key;
#[cfg(feature = "facilitator")]
mod payers;
mod payload;
pub mod permit2;
#[cfg(feature = "facilitator")]
pub mod rail;
pub mod signature;
pub mod token;
#[cfg(feature = "facilitator")]
mod token_error;
#[cfg(all(feature = "facilitator", feature = "rpc"))]
pub mod token_trial;
#[cfg(any(feature = "approvals", feature = "facilitator"))]
mod transaction;
#[cfg(feature = "facilitator")]
pub mod unreliable;
#[cfg(any(feature = "libsecp256k1", feature = "verify"))]
pub mod wallet;
