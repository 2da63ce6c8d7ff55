#![doc = include_str!("../README.md")]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)
)]

mod builder;
mod contract;
mod entry_point;
mod execution;
mod fields;
pub mod flz;
mod hash;
mod nonce;
pub mod nvm;
mod packed;
mod probe;
pub mod scope;
pub mod session;
mod user_operation;
mod v06;
mod validation_data;

pub use builder::{BuildError, Builder, Gas, NeedsCall, NeedsGas, NeedsNonce, NeedsPayer, Signable};
pub use contract::{EntryPointError, EntryPointEvent, error_name};
pub use entry_point::{EntryPoint, EntryPointVersion, UnknownVersion};
pub use execution::{Call, ExecutionError};
pub use fields::{FieldError, Problem};
pub use hash::HashError;
pub use nonce::{KernelMode, KernelValidation, NonceKey};
pub use packed::{PackError, PackedUserOperation};
pub use probe::{CallAnswer, NotAccount, is_account, probe_calldata};
pub use user_operation::{Eip7702Authorization, Init, Paymaster, ReadError, UserOperation};
pub use v06::UserOperationV06;
pub use validation_data::{Authorizer, BlockTime, MAX_UINT48, ValidationData};
