#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)
)]

#[cfg(any(feature = "server", feature = "client"))]
mod body;
#[cfg(feature = "checkout")]
pub mod checkout;
#[cfg(feature = "client")]
pub mod client;
#[cfg(any(feature = "client", feature = "checkout"))]
mod clock;
#[cfg(feature = "checkout")]
pub mod dialects;
#[cfg(feature = "checkout")]
mod digest;
#[cfg(feature = "reqwest")]
pub mod discovery;
#[cfg(feature = "reqwest")]
pub mod nevermined;
#[cfg(feature = "reqwest")]
pub mod remote;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "reqwest")]
pub mod service;
#[cfg(all(feature = "challenge", feature = "reqwest"))]
pub mod ticket;

#[cfg(any(feature = "server", feature = "client"))]
pub use body::Body;
