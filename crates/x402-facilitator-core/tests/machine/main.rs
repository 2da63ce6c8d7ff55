//! What callers are told, and what workers do with what is stored.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)]
#![allow(unreachable_pub, missing_docs, missing_debug_implementations, reason = "a test has no public surface")]

mod answered;
mod callers;
mod gas;
mod lost;
mod observer;
mod quarantine;
mod seams;
mod toy;
mod workers;
