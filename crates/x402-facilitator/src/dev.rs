//! A facilitator without configuration: its chain runs in this process, its ledger is in memory, and its keys are
//! public.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::U256;
use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use x402_devchain::{DevChain, DevNode, DevPlan, PLANS, TOKEN, key};
use x402_erc4337::nvm::{NvmPolicy, Plan, PlanCalls, Plans};
use x402_facilitator_core::{Ledger, MemoryLedger};
use x402_types::{ChainId, Fault};

use crate::clock::now;
use crate::engine::{Engine, Patience};
use crate::mechanisms::{Builder, Evm, Nvm};
use crate::process::owner;
use crate::routes::Routes;
use crate::server::Serving;
use crate::session_keys::{ByHash, KeptKeys, MemorySessionKeys, SessionKeys};

/// The devchain's account that signs the operations of session keys. It is funded like every account of the devchain
/// but needs no funds.
pub const SESSION_SIGNER: usize = 9;

/// The greatest age of the last block when a request is served, with [`DevFacilitator::keeping_time`].
pub const OLDEST_BLOCK: Duration = Duration::from_secs(2);

/// Converts a plan of the devchain's contract to the form that facilitators and payers use.
#[must_use]
pub fn served(id: U256, plan: DevPlan) -> Plan {
    Plan {
        id: id.into(),
        credits: PLANS,
        calls: if plan.pay_as_you_go {
            PlanCalls::pay_as_you_go(PLANS, TOKEN, PLANS)
        } else {
            PlanCalls::fixed(PLANS, PLANS, TOKEN, PLANS)
        },
        price: U256::from(plan.price),
        credits_per_order: U256::from(plan.credits),
        minimum: U256::from(plan.minimum),
        maximum: U256::from(plan.maximum),
    }
}

/// A facilitator on a devchain.
#[derive(Debug)]
pub struct DevFacilitator {
    serving: Serving,
    engine: Arc<Engine>,
    node: DevNode,
    url: String,
}

impl DevFacilitator {
    /// Starts a chain and a facilitator. `dress` may wrap the routes.
    ///
    /// # Errors
    /// The chain cannot be built, or an address cannot be listened on.
    pub async fn start(listen: SocketAddr, dress: impl FnOnce(Router) -> Router) -> Result<Self, Fault> {
        Self::keeping_time(DevChain::new().map_err(Fault::broken)?, listen, dress).await
    }

    /// Starts a facilitator on this chain. A block is mined whenever a request arrives and the last block is
    /// [`OLDEST_BLOCK`] old: payments are judged by the chain's time, which does not advance between blocks.
    ///
    /// # Errors
    /// An address cannot be listened on.
    pub async fn keeping_time(
        chain: DevChain,
        listen: SocketAddr,
        dress: impl FnOnce(Router) -> Router,
    ) -> Result<Self, Fault> {
        let clock = chain.clone();
        let layer = from_fn(move |request: Request, next: Next| {
            clock.mine_if_older(OLDEST_BLOCK.as_secs());
            next.run(request)
        });
        Self::on(chain, listen, Duration::from_secs(30), |routes| dress(routes.layer(layer))).await
    }

    /// Starts a facilitator on this chain whose `/settle` answers after `wait` at the latest.
    ///
    /// # Errors
    /// An address cannot be listened on.
    pub async fn on(
        chain: DevChain,
        listen: SocketAddr,
        wait: Duration,
        dress: impl FnOnce(Router) -> Router,
    ) -> Result<Self, Fault> {
        Self::selling(chain, &[], listen, wait, dress).await
    }

    /// Starts a facilitator on this chain that also serves these plans of its plans' contract. Session keys must be
    /// issued to [`SESSION_SIGNER`].
    ///
    /// # Errors
    /// An address cannot be listened on, or a plan cannot be served.
    pub async fn selling(
        chain: DevChain,
        plans: &[(U256, DevPlan)],
        listen: SocketAddr,
        wait: Duration,
        dress: impl FnOnce(Router) -> Router,
    ) -> Result<Self, Fault> {
        let network = ChainId::eip155(chain.chain_id());
        let node = chain.serve("127.0.0.1:0").await.map_err(|error| Fault::unreachable("the devchain", error))?;
        let ledger: Arc<dyn Ledger> = Arc::new(MemoryLedger::new(now));
        let evm = Evm::new(chain.client(), network, 0, key(0).into_iter().collect());
        let store: Arc<dyn SessionKeys> = Arc::new(MemorySessionKeys::default());
        let mut builder = Builder::new(owner(), ledger)
            .with_engine(move |engine| engine.with_patience(Patience::waiting(wait)))
            .with_evm(evm)?;
        if !plans.is_empty() {
            let session_signer = key(SESSION_SIGNER).ok_or_else(|| Fault::broken("no such account"))?;
            let plans = Plans::new(plans.iter().map(|(id, plan)| served(*id, *plan))).map_err(Fault::broken)?;
            let policy = NvmPolicy::default().with_kernel_factories();
            builder = builder.with_session_keys(Arc::new(ByHash(Arc::clone(&store))));
            builder = builder.with_nvm(Nvm { network, session_signer, plans, credits: None, policy })?;
        }
        let session_keys = KeptKeys { store, registrars: builder.registrars().to_vec() };
        let (engine, heads) = builder.build()?;
        let routes = dress(Routes::new(Arc::clone(&engine)).with_session_keys(session_keys).into_router());
        let serving = Serving::start(listen, &engine, heads, routes).await?;
        let url = format!("http://{}", serving.address());
        Ok(Self { serving, engine, node, url })
    }

    /// Returns the facilitator's URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the URL of its chain's JSON-RPC interface.
    #[must_use]
    pub fn rpc(&self) -> &str {
        &self.node.url
    }

    /// Returns the devchain of this facilitator.
    #[must_use]
    pub const fn chain(&self) -> &DevChain {
        &self.node.chain
    }

    /// Returns the engine, for use without HTTP.
    #[must_use]
    pub const fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Waits until one of its tasks ends, which is always a fault.
    pub async fn broken(&mut self) {
        self.serving.broken().await;
    }

    /// Finishes the running settlements and ends.
    pub async fn stop(self) {
        self.serving.stop().await;
    }
}
