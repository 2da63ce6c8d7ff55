//! The catalog of what was settled: [x402 v2
//! §8](https://github.com/x402-foundation/x402/blob/main/specs/x402-specification-v2.md).
//!
//! [`CatalogIndex`] lists what the engine settled, [`routes`] answers from the list. A payment never waits for either.

mod index;
mod routes;

pub use self::index::CatalogIndex;
pub use self::routes::routes;
