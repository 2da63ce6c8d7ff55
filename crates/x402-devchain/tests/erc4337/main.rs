//! The contracts of ERC-4337 at work, and this workspace's Rust beside them: hashes, session keys, Safe, probes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)]

mod entry_points;
mod fixture;
mod hashes;
mod paymaster;
mod policies;
mod probes;
mod safe;
mod session_keys;
mod vectors;
