#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic))]

mod backoff;
#[cfg(test)]
mod captured;
pub mod clock;
pub mod config;
pub mod configured;
pub mod credits;
#[cfg(feature = "dev")]
pub mod dev;
#[cfg(feature = "dev")]
pub mod dev_cards;
pub mod dialect;
pub mod dialects;
#[cfg(feature = "discovery")]
pub mod discovery;
pub mod engine;
pub mod heads;
mod lane;
pub mod mechanisms;
mod names;
pub mod process;
#[cfg(feature = "cards")]
pub mod processor;
pub mod routes;
pub mod server;
pub mod session_keys;
mod stores;
