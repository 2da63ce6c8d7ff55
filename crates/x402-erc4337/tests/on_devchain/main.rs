//! Operations on a chain: simulated, sent, looked up, sponsored, taken back.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod delegated;
mod paymaster;
mod send;
mod simulate;
mod stage;
mod state;
