#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)
)]

#[cfg(any(feature = "server", feature = "client"))]
mod body;
#[cfg(feature = "client")]
pub mod client;
#[cfg(any(feature = "client", all(feature = "server", feature = "challenge")))]
mod clock;
#[cfg(feature = "reqwest")]
pub mod nevermined;
#[cfg(feature = "reqwest")]
pub mod remote;
#[cfg(feature = "server")]
pub mod server;
#[cfg(all(feature = "challenge", feature = "reqwest"))]
pub mod ticket;

#[cfg(any(feature = "server", feature = "client"))]
pub use body::Body;
