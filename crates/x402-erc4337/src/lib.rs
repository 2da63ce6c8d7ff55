#![doc = include_str!("../README.md")]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)
)]

mod abi;
mod builder;
mod bundle;
pub mod bundler;
mod contract;
mod entry_point;
mod execution;
mod fields;
pub mod flz;
#[cfg(feature = "fuzz")]
#[doc(hidden)]
pub mod fuzz;
mod hash;
mod lookup;
mod nonce;
#[cfg(any(feature = "key", feature = "libsecp256k1"))]
pub mod nvm;
mod outcome;
mod packed;
pub mod paymaster;
mod probe;
mod revert;
#[cfg(feature = "rpc")]
mod rpc;
#[cfg(any(feature = "key", feature = "libsecp256k1"))]
pub mod scope;
#[cfg(feature = "self-bundler")]
mod self_bundler;
mod send;
#[cfg(any(feature = "key", feature = "libsecp256k1"))]
pub mod session;
mod simulate;
mod user_operation;
mod v06;
mod validation_data;

pub use builder::{Gas, NeedsCall, NeedsGas, NeedsNonce, NeedsPayer, OperationBuildError, OperationBuilder, Signable};
pub use bundle::{Bundle, BundleError, MAX_CALL_DATA, MAX_TRANSACTION_GAS};
pub use contract::{EntryPointError, EntryPointEvent, error_name};
pub use entry_point::{EntryPoint, EntryPointVersion, UnknownVersion};
pub use execution::{Call, ExecutionError};
pub use fields::{FieldError, Problem};
pub use hash::HashError;
pub use lookup::{FindNonces, FindUserOps, Landed};
pub use nonce::{KernelMode, KernelValidation, NonceKey};
pub use outcome::Executed;
pub use packed::{PackError, PackedUserOperation};
pub use probe::{CallAnswer, NotAccount, is_account, probe_calldata};
pub use revert::Revert;
#[cfg(feature = "rpc")]
pub use rpc::RpcEntryPoint;
#[cfg(feature = "self-bundler")]
pub use self_bundler::SelfBundler;
pub use send::{SendError, SendUserOp, Sent};
pub use simulate::{SimulateUserOps, Simulated, SimulatedOperation, SimulationRefusal};
pub use user_operation::{Eip7702Authorization, Init, Paymaster, ReadError, UserOperation};
pub use v06::UserOperationV06;
pub use validation_data::{Authorizer, BlockTime, MAX_UINT48, ValidationData};
