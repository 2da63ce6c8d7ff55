//! Payments by [Permit2](https://docs.uniswap.org/contracts/permit2/reference/signature-transfer), Uniswap's contract for
//! allowances: `scheme_exact_evm.md` §2 and
//! [`scheme_upto_evm.md`](https://github.com/coinbase/x402/blob/main/specs/schemes/upto/scheme_upto_evm.md).
//!
//! A payer approves Permit2 once for a token, and then signs a permit for each payment. Only a proxy of x402 can use the
//! permit, and the witness that is signed with it binds the proxy to the recipient: no facilitator can divert the money.

#[cfg(feature = "approvals")]
mod allowance;
mod approval;
#[cfg(feature = "approvals")]
mod approval_transactions;
#[cfg(feature = "approvals")]
mod approver;
#[cfg(feature = "facilitator")]
mod approving;
#[cfg(any(feature = "approvals", feature = "libsecp256k1", feature = "verify"))]
mod calls;
#[cfg(feature = "facilitator")]
mod check;
#[cfg(any(feature = "libsecp256k1", feature = "verify"))]
mod errors;
mod info;
#[cfg(feature = "facilitator")]
mod mechanism;
mod message;
mod offer;
mod payer;
mod payload;
#[cfg(feature = "facilitator")]
mod probe;
#[cfg(feature = "facilitator")]
mod proof;
#[cfg(feature = "facilitator")]
pub mod signed_approval;
pub mod sponsored;

#[cfg(feature = "approvals")]
pub use allowance::AllowancePermits;
pub use approval::ApproveToken;
#[cfg(feature = "approvals")]
pub use approval_transactions::ApprovalTransactions;
#[cfg(feature = "approvals")]
pub use approver::Approver;
#[cfg(all(feature = "facilitator", feature = "rpc"))]
pub(crate) use calls::transfer_from_call;
#[cfg(any(feature = "approvals", feature = "libsecp256k1", feature = "verify"))]
pub use calls::{Eip2612Permit, SettleCall, allowance_call, approve_call, nonce_bitmap_call};
#[cfg(feature = "facilitator")]
pub use check::PermitScheme;
#[cfg(any(feature = "libsecp256k1", feature = "verify"))]
pub use errors::ContractError;
#[cfg(feature = "facilitator")]
pub use mechanism::PermitMechanism;
pub use message::{EXACT_WITNESS_TYPE, PERMIT_TYPE, Permit, UPTO_WITNESS_TYPE, Witness, domain};
pub use offer::ByPermit2;
pub use payer::Payer;
pub use payload::{PermitPayload, UncheckedPermit};
#[cfg(feature = "facilitator")]
pub(crate) use probe::word_and_mask;

use alloy_primitives::{Address, address};

/// Permit2, at this address on every network that has it.
pub const PERMIT2: Address = address!("000000000022D473030F116dDEE9F6B43aC78BA3");
/// `x402ExactPermit2Proxy`, which uses permits of the scheme `exact`.
pub const EXACT_PROXY: Address = address!("402085c248EeA27D92E8b30b2C58ed07f9E20001");
/// `x402UptoPermit2Proxy`, which uses permits of the scheme `upto`. It is the address of the document and the SDKs; the
/// deployment script beside the contract names another one.
pub const UPTO_PROXY: Address = address!("4020A4f3b7b90ccA423B9fabCc0CE57C6C240002");
