#![doc = include_str!("../README.md")]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)
)]

pub mod canonical;
#[cfg(feature = "fuzz")]
#[doc(hidden)]
pub mod fuzz;
#[cfg(feature = "offer-receipt")]
pub mod keys;
#[cfg(feature = "offer-receipt")]
pub mod offer_receipt;
