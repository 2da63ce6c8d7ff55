//! The parts of `client_kept.rs`: what an answer proves, and what a journal keeps.

mod answers;
mod journal;
