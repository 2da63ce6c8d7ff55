#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic))]

pub mod admin;
mod backoff;
mod budgets;
pub mod callers;
#[cfg(test)]
mod captured;
pub mod check;
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
pub mod edge;
pub mod engine;
pub mod heads;
pub mod init;
mod lane;
pub mod mechanisms;
pub mod metrics;
mod names;
#[cfg(feature = "otlp")]
pub mod otlp;
pub mod process;
#[cfg(feature = "cards")]
pub mod processor;
pub mod reload;
pub mod routes;
pub mod server;
pub mod session_keys;
mod stores;
mod view;
mod webhooks;
#[cfg(feature = "ws")]
mod ws;

pub use stores::release;
