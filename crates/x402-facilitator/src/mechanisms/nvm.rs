//! The assembly of `nvm:erc4337` on a network whose accounts already pay for gas.

use std::num::NonZeroU64;
use std::sync::Arc;

use alloy_primitives::{Address, U256};
use alloy_rpc_client::RpcClient;
use async_trait::async_trait;
use x402_erc4337::nvm::{ChainCredits, NvmMechanism, NvmParts, NvmPolicy, Plans, ReadCredits, ReadSessionKeys};
use x402_erc4337::{EntryPoint, EntryPointVersion, RpcEntryPoint};
use x402_evm::chain::RpcChain;
use x402_evm::key::Key;
use x402_facilitator_core::{LaneId, Ledger};
use x402_types::nvm::PlanId;
use x402_types::{ChainId, Fault};

use crate::credits::HttpCredits;

/// The parts that serve `nvm:erc4337` on a network.
#[derive(Debug)]
pub struct Nvm {
    /// The network, which must also be served by [`Evm`](super::Evm), whose accounts pay for gas.
    pub network: ChainId,
    /// The key that signs operations.
    pub session_signer: Key,
    /// The plans that are served.
    pub plans: Plans,
    /// The service that counts the credits of all plans; `None` leaves it to each plan's contract.
    pub credits: Option<HttpCredits>,
    /// The mechanism's policy.
    pub policy: NvmPolicy,
}

/// The parts that a served network already has.
pub(super) struct Place {
    pub(super) chain: Arc<RpcChain>,
    pub(super) client: RpcClient,
    pub(super) log_query_blocks: NonZeroU64,
    pub(super) lanes: Vec<LaneId>,
    /// The maximum gas limit of a transaction.
    pub(super) gas_cap: u64,
}

impl Place {
    /// Makes the EntryPoint at which operations are looked up.
    pub(super) fn operations(&self, chain_id: u64) -> RpcEntryPoint {
        let entry_point = EntryPoint::canonical(EntryPointVersion::V07, chain_id);
        RpcEntryPoint::new(self.client.clone(), entry_point).with_log_query_blocks(self.log_query_blocks)
    }
}

impl Nvm {
    pub(super) fn mechanism(
        self,
        place: &Place,
        ledger: Arc<dyn Ledger>,
        keys: Arc<dyn ReadSessionKeys>,
    ) -> Result<NvmMechanism, Fault> {
        let chain_id = self.network.evm_chain().map_err(Fault::broken)?;
        let credits: Arc<dyn ReadCredits> = match self.credits {
            Some(books) => Arc::new(books),
            None => Arc::new(Counted { chain: Arc::clone(&place.chain), plans: self.plans.clone() }),
        };
        NvmMechanism::new(NvmParts {
            chain: Arc::clone(&place.chain) as _,
            operations: Arc::new(place.operations(chain_id)),
            credits,
            keys,
            ledger,
            plans: self.plans,
            session_signer: Arc::new(self.session_signer),
            lanes: place.lanes.clone(),
            policy: self.policy,
        })
    }
}

/// A reader of the credits that each plan's contract counts.
#[derive(Debug)]
struct Counted {
    chain: Arc<RpcChain>,
    plans: Plans,
}

#[async_trait]
impl ReadCredits for Counted {
    async fn credits(&self, plan: PlanId, holder: Address) -> Result<U256, Fault> {
        let contract = self.plans.find(plan).map(|plan| plan.credits);
        let contract = contract.ok_or_else(|| Fault::broken(format_args!("plan {plan} is not served")))?;
        ChainCredits::new(Arc::clone(&self.chain) as _, contract).credits(plan, holder).await
    }
}
