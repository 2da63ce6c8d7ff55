#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic))]

#[cfg(feature = "facilitator")]
mod account;
#[cfg(feature = "facilitator")]
mod check;
mod claims;
#[cfg(feature = "conformance")]
pub mod conformance;
mod delegation;
#[cfg(feature = "double")]
pub mod double;
mod jws;
mod key;
#[cfg(feature = "facilitator")]
mod mechanism;
#[cfg(feature = "facilitator")]
mod memory;
mod money;
#[cfg(feature = "facilitator")]
mod observe;
#[cfg(feature = "facilitator")]
mod order;
mod payer;
mod plan;
#[cfg(feature = "facilitator")]
pub mod processor;
#[cfg(feature = "facilitator")]
mod rail;
#[cfg(feature = "facilitator")]
mod settle;
#[cfg(feature = "facilitator")]
pub mod stores;
#[cfg(feature = "facilitator")]
mod trail;

#[cfg(feature = "facilitator")]
pub use account::CardAccount;
pub use claims::{DelegationId, LONGEST_LIFE, TokenBinding, TokenClaims};
pub use delegation::{Delegation, DelegationStatus, NewDelegation, NotCounted};
pub use jws::{TokenKeys, TokenSigner};
pub use key::offer;
#[cfg(feature = "facilitator")]
pub use mechanism::{CardMechanism, CardParts};
#[cfg(feature = "facilitator")]
pub use memory::MemoryCards;
pub use money::{BasisPoints, Cents, Currency};
pub use payer::{CardPayer, PlanLimit};
pub use plan::{CardPlan, CardPlanError, CardPlans, Merchant};
#[cfg(feature = "facilitator")]
pub use rail::{CardRail, LANES, Now, lanes};
#[cfg(feature = "facilitator")]
pub use trail::{CardTrail, trail};
