#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic))]

#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "server")]
pub mod server;

/// The member of a request's `_meta` that carries the payment.
pub const PAYMENT: &str = "x402/payment";
/// The member of a result's `_meta` that carries the receipt.
pub const PAYMENT_RESPONSE: &str = "x402/payment-response";
