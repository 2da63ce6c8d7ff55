//! The `x402.v1` challenge dialect, `specs/402kit-x402v1.md`, from the 402 to the receipt.
//!
//! The client makes at most three requests: the one that is answered with 402, the one that pays, and one more. The
//! third sends the same payment again while its result is unknown; or it pays once more, after a refusal whose code
//! proves that the first payment was not processed.

mod entitlements;
mod open;
mod outcome;
mod pay;
mod take_up;
mod wallet;

pub use open::{OpenChallenge, OpenEntitlement};
pub use outcome::ChallengeReceipt;
pub(super) use pay::{pay, pay_again};
pub(super) use take_up::{TakenUp, end_served, take_up};
pub(super) use wallet::Wallet;
