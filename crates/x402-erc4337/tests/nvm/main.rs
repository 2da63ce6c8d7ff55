//! `nvm:erc4337` on an EVM: the flow of smart accounts v0.3 §4 with each of its branches, and what is refused.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)]

mod ends;
mod flow;
mod pairs;
mod payer;
mod refusals;
mod stage;
