#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic))]

mod address;
mod amount;
pub mod assets;
mod authorization_kind;
mod chain_id;
#[cfg(feature = "challenge")]
pub mod challenge;
mod claim;
mod dollars;
mod entry;
pub mod extension;
pub mod form;
mod forms;
#[cfg(feature = "fuzz")]
#[doc(hidden)]
pub mod fuzz;
pub mod hooks;
mod keccak;
mod make_payment;
mod malformed;
mod message;
mod network_name;
pub mod networks;
pub mod nvm;
mod parsed;
mod payment_key;
mod raw;
mod reason;
mod reason_v1;
mod refusal;
mod scalar;
mod scheme;
mod terms;
mod time;
pub mod v1;
pub mod v2;
mod wire;

pub use address::EvmAddress;
pub use amount::{AmountRule, AtomicAmount};
pub use assets::{Asset, Assets, TransferMethod};
pub use authorization_kind::AuthorizationKind;
pub use chain_id::{ChainId, NotEvm};
pub use claim::{Claim, Identity, Offer, PaymentKeyFn};
pub use dollars::Dollars;
pub use entry::Entry;
pub use extension::Extension;
pub(crate) use keccak::keccak256;
pub use make_payment::{MadePayment, MakePayment, SigningContext, payment_entropy};
pub use malformed::Malformed;
pub use message::{PaymentPayload, PaymentRequired, PaymentRequirements, SettleRequest, VerifyRequest};
pub use network_name::NetworkName;
pub use payment_key::PaymentKey;
pub use raw::{Members, RawJson};
pub use reason::{ALIASES, ErrorReason, Origin, Reason};
pub use refusal::{Fault, FaultKind, NotTaken, Refusal, Rejection};
pub use scalar::{Blank, TimeoutSeconds, Version};
pub use scheme::SchemeName;
pub use terms::Terms;
pub use time::UnixSeconds;

/// The 256-bit integer type of amounts and identifiers. It is also alloy's.
pub use ruint::aliases::U256;
