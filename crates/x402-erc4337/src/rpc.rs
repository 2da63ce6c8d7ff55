//! An EntryPoint behind an alloy `RpcClient`.

use core::num::NonZeroU64;
use core::ops::RangeInclusive;
use std::sync::{Arc, Mutex};

use alloy_json_rpc::{RpcRecv, RpcSend};
use alloy_primitives::{Address, B256, Bytes, Log, LogData, U64, U256};
use alloy_rpc_client::RpcClient;
use alloy_transport::TransportError;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use x402_evm::chain::{LOG_QUERY_BLOCKS, LogSpan, node_fault};
use x402_types::Fault;

use crate::contract::get_nonce;
use crate::simulate::{self, SimulateUserOps, Simulated};
use crate::{Bundle, EntryPoint, NonceKey};

/// An EntryPoint behind an alloy RPC client, for simulating bundles and looking up operations.
#[derive(Debug, Clone)]
pub struct RpcEntryPoint {
    client: RpcClient,
    entry_point: EntryPoint,
    /// The block range of log queries, shared by all clones.
    log_span: Arc<Mutex<LogSpan>>,
}

impl RpcEntryPoint {
    /// Creates a client of this EntryPoint, with an RPC client of its chain.
    #[must_use]
    pub fn new(client: RpcClient, entry_point: EntryPoint) -> Self {
        let log_span = Arc::new(Mutex::new(LogSpan::new(LOG_QUERY_BLOCKS)));
        Self { client, entry_point, log_span }
    }

    /// Sets the maximum number of blocks of one log query; the default is [`LOG_QUERY_BLOCKS`]. The range shrinks if
    /// the node refuses it.
    #[must_use]
    pub fn with_log_query_blocks(mut self, blocks: NonZeroU64) -> Self {
        self.log_span = Arc::new(Mutex::new(LogSpan::new(blocks)));
        self
    }

    /// Returns the EntryPoint.
    #[must_use]
    pub const fn entry_point(&self) -> &EntryPoint {
        &self.entry_point
    }

    /// Reads the next sequence number of an account's nonce key, in the newest block: `getNonce`.
    /// # Errors
    /// The node failed.
    pub async fn next_sequence(&self, sender: Address, key: NonceKey) -> Result<u64, Fault> {
        let call = GetNonce { to: self.entry_point.address, input: get_nonce(sender, key) };
        let nonce: U256 = self.request("eth_call", (call, "latest")).await.map_err(node_fault)?;
        match NonceKey::split(nonce) {
            (same, sequence) if same == key => Ok(sequence),
            _ => Err(Fault::unreachable("the node", "getNonce answered for another key")),
        }
    }

    pub(crate) fn log_span(&self) -> std::sync::MutexGuard<'_, LogSpan> {
        self.log_span.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Queries the logs of a block range with any of these topics; returns `None` if the node refused the range and a
    /// smaller one must be tried.
    pub(crate) async fn logs(
        &self,
        filter: impl RpcSend,
        blocks: &RangeInclusive<u64>,
        values: usize,
    ) -> Result<Option<Vec<RpcLog>>, Fault> {
        let blocks = blocks.end().saturating_sub(*blocks.start()).saturating_add(1);
        match self.request("eth_getLogs", (filter,)).await {
            Ok(logs) => {
                self.log_span().answered(blocks);
                Ok(Some(logs))
            }
            Err(error) => self.log_span().refused(blocks, values, error).map(|()| None),
        }
    }

    pub(crate) const fn client(&self) -> &RpcClient {
        &self.client
    }

    pub(crate) async fn request<P: RpcSend, R: RpcRecv>(
        &self,
        method: &'static str,
        params: P,
    ) -> Result<R, TransportError> {
        self.client.request::<P, R>(method, params).await
    }
}

#[async_trait]
impl SimulateUserOps for RpcEntryPoint {
    async fn simulate_user_ops(&self, bundles: &[Bundle]) -> Result<Vec<Simulated>, Fault> {
        simulate::by_rpc(self, bundles).await
    }
}

#[derive(Debug, Clone, Serialize)]
struct GetNonce {
    to: Address,
    input: Bytes,
}

/// The relevant members of a log. Logs of a simulation have no position in the chain.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RpcLog {
    pub(crate) address: Address,
    topics: Vec<B256>,
    data: Bytes,
    #[serde(default)]
    pub(crate) block_number: Option<U64>,
    #[serde(default)]
    pub(crate) transaction_hash: Option<B256>,
    #[serde(default)]
    pub(crate) log_index: Option<U64>,
    #[serde(default)]
    pub(crate) removed: bool,
}

impl RpcLog {
    pub(crate) fn topics(&self) -> &[B256] {
        &self.topics
    }

    pub(crate) fn to_log(&self) -> Log {
        let data = LogData::new_unchecked(self.topics.clone(), self.data.clone());
        Log { address: self.address, data }
    }
}
