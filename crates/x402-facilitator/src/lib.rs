#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic))]

mod backoff;
pub mod challenges;
pub mod clock;
pub mod config;
pub mod credits;
pub mod dev;
pub mod engine;
pub mod grants;
pub mod heads;
mod lane;
pub mod ledger;
pub mod mechanisms;
mod nvm;
pub mod requests;
pub mod routes;
pub mod server;
pub mod session_keys;
pub mod sqlite;
