#![doc = include_str!("../README.md")]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)
)]

mod accounts;
mod block;
mod builder;
mod chain;
mod clock;
pub mod contracts;
mod endpoint;
mod execute;
mod faults;
mod genesis;
mod node;
mod plans;
mod pool;
mod rpc;
mod socket;
mod state;
mod test_tokens;
mod token;
mod transport;
mod world;

/// The third-party contracts in this crate, each with source, licence and hash: a page for people.
pub const LICENCES: &str = include_str!("../contracts/third-party/README.md");

pub use crate::accounts::{ACCOUNTS, DevAccount, MNEMONIC, key, signer, signer_of};
pub use crate::builder::{ChainBuildError, DevChainBuilder, MiningMode};
pub use crate::chain::{BadCode, DevChain, ReorgTooDeep};
pub use crate::endpoint::DevEndpoint;
pub use crate::faults::{CallCounts, Disturbance, Failure, NodeFault, When};
pub use crate::node::DevNode;
pub use crate::plans::{CreditsUnknown, DevPlan, PLANS, PlanRefused, Plans};
pub use crate::test_tokens::TestToken;
pub use crate::token::{TOKEN, TOKENS_EACH, Token, Transfer, USDC};
pub use crate::transport::DevTransport;
pub use crate::world::Orphans;
