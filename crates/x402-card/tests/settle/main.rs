//! Section "Settle", against the double: what it recorded is the judge.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
#![allow(unreachable_pub, missing_docs, missing_debug_implementations, reason = "a test has no public surface")]

mod crash;
mod ends;
mod mishaps;
mod shop;
mod steps;
