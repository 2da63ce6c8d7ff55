//! `x402 sell`, as a process before servers in several languages, with a facilitator on a chain in this process.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod bad_upstreams;
mod dry_run;
mod killed;
mod languages;
mod once;
mod paths;
mod precedence;
mod stage;
mod upstream;
