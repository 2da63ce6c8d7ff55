//! The chain, as a process reaches it: the real reader, each of whose calls may be lost on the way there or back.

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes, keccak256};
use async_trait::async_trait;
use x402_evm::chain::{
    Account, AccountNonces, Answers, At, BatchRead, EstimateSurcharge, Fate, Funds, Head, MinedCall, ReadAccount,
    ReadCalls, ReadChain, ReadFunds, ReadNonces, RpcChain, SendTransaction, Sighting, WatchEvents, Watched,
};
use x402_types::{ChainId, Fault, UnixSeconds};

use crate::world::Hop;

pub struct Hops {
    pub chain: Arc<RpcChain>,
    pub hop: Hop,
}

/// A call with a way there and a way back.
macro_rules! over {
    ($hops:expr, $call:expr) => {{
        $hops.hop.there().await?;
        let answer = $call.await;
        $hops.hop.back().await?;
        answer
    }};
}

#[async_trait]
impl ReadChain for Hops {
    fn network(&self) -> ChainId {
        self.chain.network()
    }

    async fn head(&self) -> Result<Head, Fault> {
        over!(self, self.chain.head())
    }

    async fn run(&self, reads: &BatchRead, at: At) -> Result<Answers, Fault> {
        over!(self, self.chain.run(reads, at))
    }

    async fn run_with_implementation(
        &self,
        reads: &BatchRead,
        of: Address,
    ) -> Result<(Answers, Option<Address>), Fault> {
        over!(self, self.chain.run_with_implementation(reads, of))
    }
}

#[async_trait]
impl ReadNonces for Hops {
    async fn account_nonces(&self, account: Address) -> Result<AccountNonces, Fault> {
        over!(self, self.chain.account_nonces(account))
    }
}

#[async_trait]
impl ReadAccount for Hops {
    async fn account(&self, account: Address) -> Result<Account, Fault> {
        over!(self, self.chain.account(account))
    }
}

impl ReadFunds for Hops {
    fn watch_funds(&self, account: Address) {
        self.chain.watch_funds(account);
    }

    fn funds(&self, account: Address) -> Option<Funds> {
        self.chain.funds(account)
    }
}

#[async_trait]
impl EstimateSurcharge for Hops {
    async fn surcharge(&self, data: &Bytes) -> Result<u64, Fault> {
        self.chain.surcharge(data).await
    }

    fn last_surcharge(&self) -> u64 {
        self.chain.last_surcharge()
    }
}

#[async_trait]
impl SendTransaction for Hops {
    async fn send_transaction(&self, bytes: &[u8]) -> Result<(), Fault> {
        self.hop.there().await?;
        self.hop.world.with(|inner| inner.sent.push(keccak256(bytes)));
        let answer = self.chain.send_transaction(bytes).await;
        self.hop.back().await?;
        answer
    }
}

#[async_trait]
impl WatchEvents for Hops {
    fn watch(&self, watched: Watched) {
        self.chain.watch(watched);
    }

    async fn sighting(&self, watched: Watched) -> Result<Sighting, Fault> {
        over!(self, self.chain.sighting(watched))
    }

    fn look_again(&self, watched: Watched) {
        self.chain.look_again(watched);
    }

    fn tells_uses_apart(&self, token: Address) -> bool {
        self.chain.tells_uses_apart(token)
    }

    async fn search(&self, watched: Watched, after: UnixSeconds) -> Result<Fate, Fault> {
        over!(self, self.chain.search(watched, after))
    }
}

#[async_trait]
impl ReadCalls for Hops {
    async fn mined_call(&self, transaction: B256) -> Result<Option<MinedCall>, Fault> {
        over!(self, self.chain.mined_call(transaction))
    }
}
