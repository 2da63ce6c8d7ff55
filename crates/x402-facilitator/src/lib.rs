#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic))]

mod backoff;
pub mod clock;
pub mod config;
pub mod credits;
#[cfg(feature = "dev")]
pub mod dev;
pub mod engine;
pub mod heads;
mod lane;
pub mod mechanisms;
mod nvm;
pub mod routes;
pub mod server;
pub mod session_keys;
