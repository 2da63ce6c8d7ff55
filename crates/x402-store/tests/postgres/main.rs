//! The stores on PostgreSQL. Rules that every store keeps are tested with those of the other engines.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

#[path = "../support/proxy.rs"]
mod proxy;
#[path = "../support/mod.rs"]
mod support;

mod faults;
mod fencing;
mod ledger;
mod opening;
mod tls;
