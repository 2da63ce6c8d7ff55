//! The chain on an alloy `RpcClient`: one poll for all readers, one `eth_call` per batch read, one `eth_getLogs` for all
//! watched authorizations.

use core::future::poll_fn;
use core::task::Poll;
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alloy_json_rpc::{RpcRecv, RpcSend};
use alloy_primitives::{Address, B256, Bytes, U64, b256};
use alloy_rpc_client::RpcClient;
use alloy_transport::TransportError;
use async_trait::async_trait;
use futures_util::lock::Mutex as AsyncMutex;
use serde::{Deserialize, Serialize};
use x402_types::{ChainId, Fault, UnixSeconds};

use super::fate::{Log, found, moved_by};
use super::gas_share::SharedGases;
use super::node_error::{NodeError, node_fault};
use super::polls::Polled;
use super::sends::Sends;
use super::shared_reads::SharedReads;
use super::sightings::{Filter, Sightings};
use super::surcharge::Surcharge;
use super::{
    Account, AccountNonces, Answers, At, BatchRead, Fate, Funds, Head, Moved, ReadAccount, ReadChain, ReadFunds,
    ReadNonces, Returned, SEARCH_CALLS, SendTransaction, Sighting, WatchEvents, Watched,
};

/// The gas limit of a read of one bit: Permit2's `nonceBitmap` needs 2,500.
const BIT_GAS: u32 = 50_000;

/// A chain behind an alloy RPC client.
///
/// Reads of the head are answered from the last poll while that is fresh, so that regular polling ([`RpcChain::poll`])
/// keeps every other call from waiting for one.
#[derive(Debug)]
pub struct RpcChain {
    pub(super) client: RpcClient,
    /// The clients of all endpoints, which are compared if there are several.
    pub(super) endpoints: Vec<RpcClient>,
    /// Whether the node does not support blocks given by their hash.
    pub(super) by_number: AtomicBool,
    network: ChainId,
    /// The number of blocks on top of a block that make it final.
    pub(super) depth: u64,
    pub(super) fresh: Duration,
    pub(super) polled: Mutex<Polled>,
    /// The lock held while polling: a waiting caller uses the result of the previous one.
    pub(super) polling: AsyncMutex<()>,
    sightings: Mutex<Sightings>,
    /// The lock held during a log query.
    asking: AsyncMutex<()>,
    surcharge: Mutex<Surcharge>,
    /// Whether something was sent since the nonces were last requested.
    pub(super) sent: AtomicBool,
    pub(super) shared_gas: AsyncMutex<SharedGases>,
    reads: SharedReads,
    sends: Sends,
}

impl RpcChain {
    /// Creates a reader of this network behind a client. `depth` is the number of blocks that make the one below them
    /// final; 0 trusts the head.
    #[must_use]
    pub fn new(client: RpcClient, network: ChainId, depth: u64) -> Self {
        Self {
            client,
            endpoints: Vec::new(),
            by_number: AtomicBool::new(false),
            network,
            depth,
            fresh: Duration::from_secs(1),
            polled: Mutex::default(),
            polling: AsyncMutex::new(()),
            sightings: Mutex::default(),
            asking: AsyncMutex::new(()),
            surcharge: Mutex::default(),
            sent: AtomicBool::new(false),
            shared_gas: AsyncMutex::default(),
            reads: SharedReads::default(),
            sends: Sends::default(),
        }
    }

    /// Sets the time for which a poll is fresh; the default is 1 s.
    #[must_use]
    pub const fn with_freshness(mut self, time: Duration) -> Self {
        self.fresh = time;
        self
    }

    /// Sets the time for which a read of the newest block waits for others that can share its call. By default none waits,
    /// and those share a call that come while two others are under way.
    #[must_use]
    pub fn with_gathering(self, pause: Duration) -> Self {
        Self { reads: SharedReads::waiting(pause), ..self }
    }

    /// Sets the time for which the node should wait for the block of a transaction that is sent
    /// ([EIP-7966](https://eips.ethereum.org/EIPS/eip-7966)); 0, the default, sends every transaction the usual way. Of
    /// several that are sent at once only the last waits. A node without the method gets all of them the usual way.
    #[must_use]
    pub fn with_sync_sending(self, wait: Duration) -> Self {
        Self { sends: Sends::waiting(wait), ..self }
    }

    /// Waits until a node reports the block of a transaction that was sent synchronously: a poll of the head is worth its
    /// call. The report proves nothing.
    pub async fn reported(&self) {
        self.sends.reported().await;
    }

    /// Sets the maximum block range of one log query; the default is [`LOG_QUERY_BLOCKS`](super::LOG_QUERY_BLOCKS).
    #[must_use]
    pub fn with_log_query_blocks(self, blocks: NonZeroU64) -> Self {
        Self { sightings: Mutex::new(Sightings::spanning(blocks)), ..self }
    }

    /// Checks that the node's chain id is the network's, and so that of every endpoint that answers.
    /// # Errors
    /// The node failed, or serves another chain.
    pub async fn check_network(&self) -> Result<(), Fault> {
        let id: U64 = self.request("eth_chainId", ()).await?;
        if !self.is_network(id) {
            return Err(Fault::unreachable("the node", format_args!("it serves eip155:{id}, not {}", self.network)));
        }
        self.check_endpoints().await
    }

    pub(super) fn is_network(&self, id: U64) -> bool {
        self.network.eip155_chain() == Some(id.to())
    }

    pub(super) fn surcharges(&self) -> std::sync::MutexGuard<'_, Surcharge> {
        self.surcharge.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    #[cfg(feature = "facilitator")]
    pub(crate) fn note_uses_apart(&self, token: Address) {
        self.sightings().note_uses_apart(token);
    }

    fn sightings(&self) -> std::sync::MutexGuard<'_, Sightings> {
        self.sightings.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) async fn request<P: RpcSend, R: RpcRecv>(&self, method: &'static str, params: P) -> Result<R, Fault> {
        self.client.request::<P, R>(method, params).await.map_err(node_fault)
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Block {
    pub(super) hash: B256,
    pub(super) number: U64,
    pub(super) timestamp: U64,
    #[serde(default)]
    pub(super) base_fee_per_gas: Option<U64>,
    #[serde(default)]
    pub(super) gas_limit: Option<U64>,
}

/// A block given by its hash ([EIP-1898](https://eips.ethereum.org/EIPS/eip-1898)): a node without it, or with it on
/// another branch, refuses. The opcode `NUMBER` does not identify a block: on Arbitrum and Orbit it is another chain's.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Pinned {
    pub(super) block_hash: B256,
    pub(super) require_canonical: bool,
}

/// The parameters of `eth_call` without `to`: the data are init code. They contain no gas limit, since no number is right
/// on every chain: some charge for the data of a call as for those of a transaction. Each call of a batch has a limit of
/// its own, and the node's limit bounds the whole.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Deployless {
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Address>,
    data: Bytes,
}

impl Deployless {
    pub(super) const fn new(from: Option<Address>, code: Bytes) -> Self {
        Self { from, data: code }
    }

    pub(super) fn of(reads: &BatchRead) -> Self {
        Self::new(reads.sender(), reads.code())
    }
}

/// The parameters of `eth_call` of code that is put in an account's place.
#[derive(Debug, Clone, Serialize)]
struct InPlace {
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Address>,
    to: Address,
}

/// The state override that puts it there.
#[derive(Debug, Clone, Serialize)]
struct Placed {
    code: Bytes,
}

#[async_trait]
impl ReadChain for RpcChain {
    fn network(&self) -> ChainId {
        self.network
    }

    async fn head(&self) -> Result<Head, Fault> {
        self.polled_or(|polled| polled.head.map(|(head, _)| head)).await
    }

    async fn run(&self, reads: &BatchRead, at: At) -> Result<Answers, Fault> {
        match at {
            At::Latest => {
                let Some(caller) = reads.caller() else { return self.reads.run(&self.client, reads).await };
                let placed = BTreeMap::from([(caller, Placed { code: reads.code() })]);
                let call = InPlace { from: reads.sender(), to: caller };
                let returned: Bytes = self.request("eth_call", (call, "latest", placed)).await?;
                let answers = reads.answers(&returned);
                answers.ok_or_else(|| Fault::unreachable("the node", "eth_call answered something else"))
            }
            At::Number(number) => self.run_at(reads, number).await,
        }
    }

    async fn run_with_implementation(
        &self,
        reads: &BatchRead,
        of: Address,
    ) -> Result<(Answers, Option<Address>), Fault> {
        let call = Deployless::of(reads);
        let mut batch = self.client.new_batch();
        let returned = batch.add_call::<_, Bytes>("eth_call", &(call, "latest")).map_err(node_fault)?;
        let slot =
            batch.add_call::<_, B256>("eth_getStorageAt", &(of, IMPLEMENTATION_SLOT, "latest")).map_err(node_fault)?;
        let code = batch.add_call::<_, Bytes>("eth_getCode", &(of, "latest")).map_err(node_fault)?;
        batch.send().await.map_err(node_fault)?;
        let returned = returned.await.map_err(node_fault)?;
        let (slot, code) = (slot.await.map_err(node_fault)?, code.await.map_err(node_fault)?);
        let answers = reads.answers(&returned);
        let answers = answers.ok_or_else(|| Fault::unreachable("the node", "eth_call answered something else"))?;
        Ok((answers, implementation(slot, &code)))
    }
}

/// `keccak256("eip1967.proxy.implementation") - 1`.
const IMPLEMENTATION_SLOT: B256 = b256!("360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc");

/// Returns the target of a proxy's slot or of a delegation's code.
fn implementation(slot: B256, code: &[u8]) -> Option<Address> {
    let word = match code.strip_prefix(&[0xef, 0x01, 0x00]) {
        Some(delegate) => return Address::try_from(delegate).ok(),
        None => slot,
    };
    // A value above the range of addresses is not a proxy's slot.
    word.starts_with(&[0; 12]).then(|| Address::from_word(word)).filter(|address| !address.is_zero())
}

#[async_trait]
impl ReadNonces for RpcChain {
    async fn account_nonces(&self, account: Address) -> Result<AccountNonces, Fault> {
        self.polled().accounts.entry(account).or_default();
        self.polled_or(|polled| polled.accounts.get(&account).copied().flatten()).await
    }
}

#[async_trait]
impl ReadAccount for RpcChain {
    async fn account(&self, account: Address) -> Result<Account, Fault> {
        let at = (account, "latest");
        let (nonce, balance) = futures_util::future::try_join(
            self.request::<_, U64>("eth_getTransactionCount", at),
            self.request("eth_getBalance", at),
        )
        .await?;
        Ok(Account { nonce: nonce.to(), balance })
    }
}

impl ReadFunds for RpcChain {
    fn watch_funds(&self, account: Address) {
        self.polled().balances.entry(account).or_default();
    }

    fn funds(&self, account: Address) -> Option<Funds> {
        let polled = self.polled();
        let balance = polled.balances.get(&account).copied().flatten()?;
        polled.head.map(|(head, _)| Funds { balance, head })
    }
}

#[async_trait]
impl SendTransaction for RpcChain {
    async fn send_transaction(&self, bytes: &[u8]) -> Result<(), Fault> {
        self.sent.store(true, Ordering::Relaxed);
        let sent = self.sends.send(&self.client, bytes.to_vec().into()).await;
        sent.map_err(|(kind, fault)| {
            if kind == NodeError::GasLimitTooLow {
                // The chain may have a surcharge that it did not have before: the next signature estimates it.
                *self.surcharges() = Surcharge::Unknown;
            }
            fault
        })
    }
}

#[async_trait]
impl WatchEvents for RpcChain {
    fn watch(&self, watched: Watched) {
        match self.polled().head {
            Some((head, _)) => self.sightings().plan(watched, head.finalized),
            None => self.sightings().watch(watched, watched.since),
        }
    }

    fn look_again(&self, watched: Watched) {
        self.sightings().look_again(watched);
    }

    fn tells_uses_apart(&self, token: Address) -> bool {
        self.sightings().tells_uses_apart(token)
    }

    async fn sighting(&self, watched: Watched) -> Result<Sighting, Fault> {
        let block = self.head().await?.finalized;
        self.sightings().watch(watched, block);
        self.clear_up(&watched).await?;
        if let Some(sighting) = self.sightings().answer(&watched, block) {
            return Ok(sighting);
        }
        // Other payments that are due now join the query.
        let_others_run().await;
        let _one = self.asking.lock().await;
        self.read_bits(&watched, block).await?;
        loop {
            // The previous holder of the lock included this authorization in its query.
            let query = {
                let mut sightings = self.sightings();
                if let Some(sighting) = sightings.answer(&watched, block) {
                    return Ok(sighting);
                }
                sightings.query(block, &watched)
            };
            let logs: Result<_, TransportError> = self.client.request("eth_getLogs", (query.filter(),)).await;
            let logs = match logs {
                Ok(logs) => logs,
                Err(error) => {
                    self.sightings().refused(&query, error)?;
                    continue;
                }
            };
            self.sightings().apply(&query, logs)?;
            self.clear_up(&watched).await?;
        }
    }

    async fn search(&self, watched: Watched, after: UnixSeconds) -> Result<Fate, Fault> {
        // The head is polled again: the use may be in a block that the last poll did not see.
        let mut to = self.poll().await?.number;
        let mut span = self.sightings().span();
        let mut set: Vec<B256> = Vec::new();
        for _ in 0..SEARCH_CALLS {
            let from = to.saturating_sub(span.saturating_sub(1)).max(watched.since.min(to));
            let mut batch = self.client.new_batch();
            let filter = Filter::of_uses(&watched, from, to);
            let logs = batch.add_call::<_, Vec<Log>>("eth_getLogs", &(filter,)).map_err(node_fault)?;
            let first = batch.add_call::<_, Option<Block>>("eth_getBlockByNumber", &(U64::from(from), false));
            let first = first.map_err(node_fault)?;
            batch.send().await.map_err(node_fault)?;
            let logs = match logs.await {
                Ok(logs) => logs,
                // The watched authorizations keep their own span: this query may request logs that a node no longer
                // has.
                Err(error) if span > 1 && NodeError::of(&error) != NodeError::MayPass => {
                    span = span.div_ceil(2);
                    continue;
                }
                Err(error) => return Err(node_fault(error)),
            };
            match found(&watched, logs) {
                Some(Fate::Used { transaction, .. }) => {
                    let receipt: Option<Logs> = self.request("eth_getTransactionReceipt", (transaction,)).await?;
                    let moved = receipt.map_or(Moved::Unclear, |it| moved_by(&watched, transaction, &it.logs));
                    return Ok(Fate::Used { transaction, moved });
                }
                // The use cannot be assigned to one of the transfers by its logs, so all of them are returned.
                Some(Fate::Set { mut candidates }) => {
                    candidates.append(&mut set);
                    set = candidates;
                }
                Some(fate) => return Ok(fate),
                None => {}
            }
            let first = first.await.map_err(node_fault)?;
            if from <= watched.since || first.is_none_or(|block| block.timestamp.to::<u64>() <= after.0) {
                break;
            }
            to = from.saturating_sub(1);
        }
        Ok(if set.is_empty() { Fate::Unseen } else { Fate::Set { candidates: set } })
    }
}

impl RpcChain {
    /// Reads whether the bits are set that the use of watched authorizations sets, this one's among them, if no event
    /// shows its use.
    async fn read_bits(&self, watched: &Watched, block: u64) -> Result<(), Fault> {
        let bits = self.sightings().unread(block, watched);
        if bits.is_empty() {
            return Ok(());
        }
        let reads = bits.iter().fold(BatchRead::new(), |reads, bit| reads.call(bit.contract, bit.call(), BIT_GAS, 1));
        let answers = self.run(&reads, At::Number(block)).await?;
        let words: Vec<_> = answers.calls.iter().map(Returned::word).collect();
        self.sightings().apply_bits(&bits, &words, block);
        match words.first() {
            Some(Some(_)) => Ok(()),
            _ => Err(Fault::unreachable("the node", "the state of an authorization cannot be read")),
        }
    }

    /// Reads all logs of the transaction if a use was seen whose transfer does not directly follow it. Without the
    /// receipt the result stays unclear.
    async fn clear_up(&self, watched: &Watched) -> Result<(), Fault> {
        let unclear = self.sightings().unclear(watched);
        if let Some(transaction) = unclear {
            let receipt: Option<Logs> = self.request("eth_getTransactionReceipt", (transaction,)).await?;
            if let Some(Logs { logs }) = receipt {
                self.sightings().apply_receipt(watched, transaction, &logs);
            }
        }
        Ok(())
    }
}

/// Lets the other futures of the task run once: those that are ready register what they watch.
async fn let_others_run() {
    let mut ran = false;
    poll_fn(|context| {
        if core::mem::replace(&mut ran, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The relevant members of a receipt.
#[derive(Debug, Clone, Deserialize)]
struct Logs {
    logs: Vec<Log>,
}
