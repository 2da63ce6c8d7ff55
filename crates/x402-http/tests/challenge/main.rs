//! The `x402.v1` challenge dialect over HTTP, `specs/402kit-x402v1.md`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)]

#[path = "../buyer/book.rs"]
mod book;
#[path = "../common/mod.rs"]
mod common;

mod bodies;
mod client;
mod conformance;
mod counted;
mod golden;
mod kept;
mod layer;
mod purse;
mod shop;
mod wire;
