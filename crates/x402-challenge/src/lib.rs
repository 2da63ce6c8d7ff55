#![doc = include_str!("../README.md")]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)
)]

mod canonical;
mod check;
#[cfg(feature = "conformance")]
pub mod conformance;
mod entitlement;
#[cfg(feature = "fuzz")]
#[doc(hidden)]
pub mod fuzz;
mod issue;
#[cfg(feature = "lightning")]
pub mod lightning;
mod make_proof;
mod memory;
mod meter;
mod mock;
mod proof;
mod refund;
mod refused;
mod store;

pub use canonical::{
    Bind, BoundRequest, binding, body_sha256, canonical_binding, canonical_payment, exact_nonce, host, payment_digest,
};
pub use check::{Gate, Granted};
pub use entitlement::{Allowance, COOKIE, Entitlement, EntitlementGrant, EntitlementToken, TokenHash};
pub use issue::{ChallengeOffer, Charge, answer, issue};
pub use make_proof::{ExactProof, MadeProof, MakeProof, terms};
pub use memory::MemoryStore;
pub use meter::{Added, Meter, MeterError, MeterState, Metered};
pub use mock::MockProof;
pub use proof::{Evidence, ProofError, Proofs, Proven, UnnamedMock, VerifyProof};
pub use refund::{Refund, RefundError, RefundPayment, RefundStanding};
pub use refused::{ChallengeRefusal, CheckError};
pub use store::{
    ChallengeHold, ChallengeState, ClaimOutcome, Confirmation, Confirmed, Issued, PaymentAttempt, PaymentDigest,
    ProofKey, Spent, Store,
};
