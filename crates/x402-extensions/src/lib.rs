#![doc = include_str!("../README.md")]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)
)]

#[cfg(feature = "bazaar")]
pub mod bazaar;
#[cfg(feature = "builder-code")]
pub mod builder_code;
pub mod canonical;
#[cfg(feature = "fuzz")]
#[doc(hidden)]
pub mod fuzz;
#[cfg(any(feature = "offer-receipt", feature = "sign-in"))]
pub mod keys;
#[cfg(feature = "offer-receipt")]
pub mod offer_receipt;
#[cfg(feature = "sign-in")]
pub mod sign_in;
