//! A facilitator that needs no configuration: its chain is in this process, its ledger in memory, its keys are public.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use x402_devchain::{DevChain, DevNode, signer};
use x402_evm::rail::Fees;
use x402_facilitator_core::{Ledger, MemoryLedger};
use x402_types::{Assets, ChainId, Fault};

use crate::clock::now;
use crate::engine::Engine;
use crate::mechanisms::{Builder, Evm, owner};
use crate::routes::routes;
use crate::server::Serving;

/// A facilitator on a devchain.
#[derive(Debug)]
pub struct DevFacilitator {
    serving: Serving,
    engine: Arc<Engine>,
    node: DevNode,
    url: String,
}

impl DevFacilitator {
    /// Starts chain and facilitator. `dress` may wrap the routes.
    ///
    /// # Errors
    /// The chain cannot be built, or an address cannot be listened on.
    pub async fn start(listen: SocketAddr, dress: impl FnOnce(Router) -> Router) -> Result<Self, Fault> {
        Self::on(DevChain::new().map_err(Fault::broken)?, listen, Duration::from_secs(30), dress).await
    }

    /// Starts a facilitator on this chain, whose `/settle` answers after `wait` at the latest.
    ///
    /// # Errors
    /// An address cannot be listened on.
    pub async fn on(
        chain: DevChain,
        listen: SocketAddr,
        wait: Duration,
        dress: impl FnOnce(Router) -> Router,
    ) -> Result<Self, Fault> {
        let node = chain.serve("127.0.0.1:0").await.map_err(|error| Fault::unreachable("the devchain", error))?;
        let ledger: Arc<dyn Ledger> = Arc::new(MemoryLedger::new(now));
        let evm = Evm {
            provider: chain.provider(),
            network: ChainId::eip155(chain.chain_id()),
            finality: 0,
            poll: Duration::from_millis(50),
            fees: Fees::default(),
            signers: signer(0).into_iter().collect(),
            assets: Assets::default(),
            factories: Vec::new(),
        };
        let (engine, heads) = Builder::new(owner(), Arc::clone(&ledger)).evm(evm)?.build(ledger, (15, wait))?;
        let routes = dress(routes(Arc::clone(&engine), Vec::new()));
        let serving = Serving::start(listen, &engine, heads, routes).await?;
        let url = format!("http://{}", serving.address());
        Ok(Self { serving, engine, node, url })
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where its chain answers JSON-RPC.
    #[must_use]
    pub fn rpc(&self) -> &str {
        &self.node.url
    }

    /// Its chain.
    #[must_use]
    pub const fn chain(&self) -> &DevChain {
        &self.node.chain
    }

    /// The facilitator without HTTP.
    #[must_use]
    pub const fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Waits until something that must go on has ended.
    pub async fn broken(&mut self) {
        self.serving.broken().await;
    }

    /// Finishes what runs and ends.
    pub async fn stop(self) {
        self.serving.stop().await;
    }
}
