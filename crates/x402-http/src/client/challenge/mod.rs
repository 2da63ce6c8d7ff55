//! The `x402.v1` challenge dialect, `specs/402kit-x402v1.md`, from the 402 to the receipt.
//!
//! At most three requests: the one that is asked for payment, the one that pays, and one more. That one sends the same
//! payment again while its outcome is not known; or pays once more, after a refusal whose code proves that the first
//! payment was not looked at.

mod entitlements;
mod pay;
mod said;
mod wallet;

pub(super) use pay::{pay, pay_again};
pub use said::ChallengeReceipt;
pub(super) use wallet::Wallet;
