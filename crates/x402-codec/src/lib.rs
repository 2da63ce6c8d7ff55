#![doc = include_str!("../README.md")]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)
)]

pub mod base64;
pub mod body;
#[cfg(feature = "challenge")]
pub mod challenge;
mod error;
#[cfg(feature = "fuzz")]
#[doc(hidden)]
pub mod fuzz;
pub mod header;
pub mod json;
mod limits;
pub mod nvm;

pub use error::{DecodeError, DecodeErrorKind, EncodeError, ErrorPlace};
pub use limits::Limits;
