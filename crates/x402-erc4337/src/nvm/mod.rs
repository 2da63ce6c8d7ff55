//! The scheme `nvm:erc4337`: [x402 Smart Accounts Extension](https://docs.nevermined.app/docs/specs/x402-smart-accounts),
//! payments out of a plan's credits by the session keys of a smart account.

pub mod statement;

pub use statement::{Binding, NamedKey, Statement, StatementDomain};
