//! The scheme `nvm:erc4337`: [x402 Smart Accounts Extension](https://docs.nevermined.app/docs/specs/x402-smart-accounts),
//! payments out of a plan's credits by the session keys of a smart account.

pub mod credits;
pub mod plan;
pub mod statement;

pub use credits::{ChainCredits, ReadCredits};
pub use plan::{Arg, CallTemplate, Fill, Plan, PlanCalls, PlanError, Plans};
pub use statement::{Binding, NamedKey, Statement, StatementDomain};
