//! The scheme `nvm:erc4337`: [x402 Smart Accounts Extension](https://docs.nevermined.app/docs/specs/x402-smart-accounts),
//! payments out of a plan's credits by the session keys of a smart account.

#[cfg(feature = "facilitator")]
mod account;
#[cfg(feature = "facilitator")]
mod check;
pub mod credits;
#[cfg(feature = "facilitator")]
mod events;
#[cfg(feature = "facilitator")]
mod keys;
#[cfg(feature = "facilitator")]
mod mechanism;
#[cfg(feature = "facilitator")]
mod observe;
#[cfg(feature = "facilitator")]
mod operation;
pub mod payer;
pub mod plan;
#[cfg(feature = "facilitator")]
mod policy;
#[cfg(feature = "facilitator")]
mod read;
mod resource;
#[cfg(feature = "facilitator")]
mod settle;
pub mod statement;

pub use credits::{ChainCredits, ReadCredits};
#[cfg(feature = "facilitator")]
pub use keys::{NoSessionKeys, ReadSessionKeys};
#[cfg(feature = "facilitator")]
pub use mechanism::{NvmMechanism, NvmParts, ORDER, Operations, REDEEM};
pub use payer::{DelegationLimits, Payer, RegisterKeys};
pub use plan::{Arg, CallTemplate, Fill, Plan, PlanCalls, PlanError, Plans};
#[cfg(feature = "facilitator")]
pub use policy::NvmPolicy;
pub use resource::{is_resource, same_resource};
pub use statement::{NamedKey, Statement, StatementBinding, StatementDomain};
