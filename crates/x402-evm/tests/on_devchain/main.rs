//! Mechanism and rail on an EVM: what is verified, what is proven, and how many requests it takes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation, missing_docs)]

mod approve;
mod batching;
mod eip3009_cases;
mod endpoints;
mod node;
mod permit;
mod permit_accounts;
mod permit_bad;
mod permit_cases;
mod permit_proof;
mod permit_upto;
mod permit_verify;
mod pull;
mod rail;
mod settle;
mod smart;
mod stage;
mod surcharge;
mod together;
mod trial;
mod verify;
mod wallet;
