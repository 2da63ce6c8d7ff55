//! The rules of the stores, in memory.
#![allow(clippy::unwrap_used)]

use x402_card::{MemoryCards, conformance};

#[tokio::test]
async fn memory_conforms() {
    assert_eq!(conformance::delegations(&MemoryCards::default()).await, Ok(()));
    assert_eq!(conformance::books(&MemoryCards::default()).await, Ok(()));
}
