//! Kernel permissions: every value of the vectors that the ZeroDev SDK made and the chain executed.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)]

#[path = "../common/mod.rs"]
mod common;

mod approvals;
mod cases;
mod changes;
mod refusals;
mod scope;
mod vectors;
