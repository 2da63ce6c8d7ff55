//! The linter against data made by hand from `x402-config-rules.md`, the issue and what x402lint does.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)]

mod answers;
mod bad_input;
mod cases;
mod corpus;
mod pages;
mod properties;
mod response;
mod tables;
mod wire;
mod x402lint;
