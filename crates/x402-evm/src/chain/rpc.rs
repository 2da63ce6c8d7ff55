//! The chain on an alloy `RpcClient`. One poll for all readers, one `eth_call` a program, one `eth_getLogs` for all
//! authorizations that are watched.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use alloy_json_rpc::{RpcRecv, RpcSend};
use alloy_primitives::{Address, B256, Bytes, U64, U256, b256, hex};
use alloy_rpc_client::RpcClient;
use alloy_transport::TransportError;
use async_trait::async_trait;
use futures_util::lock::Mutex as AsyncMutex;
use serde::{Deserialize, Serialize};
use x402_types::{ChainId, Fault, UnixSeconds};

use super::node_error::{NodeError, node_fault};
use super::sightings::{Log, Sightings, found, paid, searching};
use super::{
    AccountNonces, Answers, At, Fate, Funds, Head, Moved, Program, ReadChain, ReadFunds, ReadNonces, SEARCH_CALLS,
    SendTransaction, Sighting, WatchAuthorizations, Watched,
};

/// A chain behind an alloy RPC client.
///
/// Reads of the head are answered from the last poll while that is fresh, so that whoever polls regularly
/// ([`RpcChain::poll`]) keeps every other call from waiting for one.
#[derive(Debug)]
pub struct RpcChain {
    pub(super) client: RpcClient,
    /// The node takes no block by its hash.
    pub(super) by_number: AtomicBool,
    network: ChainId,
    /// A block is final when so many are on top of it.
    depth: u64,
    fresh: Duration,
    polled: Mutex<Polled>,
    /// Held while polling: whoever waits for it finds the answer of the one before.
    polling: AsyncMutex<()>,
    sightings: Mutex<Sightings>,
    /// Held while asking for logs.
    asking: AsyncMutex<()>,
}

#[derive(Debug, Default)]
struct Polled {
    head: Option<(Head, Instant)>,
    /// The hash of that block.
    hash: B256,
    accounts: BTreeMap<Address, Option<AccountNonces>>,
    /// What the accounts that pay for gas have, wei.
    balances: BTreeMap<Address, Option<U256>>,
    /// The newest block that was known when fees and nonces were asked for.
    asked_at: B256,
}

impl Polled {
    /// Whether fees and nonces may be those of an older block, or of one that was replaced.
    fn is_behind(&self) -> bool {
        self.head.is_none() || self.asked_at != self.hash || self.accounts.values().any(Option::is_none)
    }
}

impl RpcChain {
    /// The chain of that network behind a client. `depth`: how many blocks make the one below them final; 0 where
    /// the head is trusted.
    #[must_use]
    pub fn new(client: RpcClient, network: ChainId, depth: u64) -> Self {
        Self {
            client,
            by_number: AtomicBool::new(false),
            network,
            depth,
            fresh: Duration::from_secs(1),
            polled: Mutex::default(),
            polling: AsyncMutex::new(()),
            sightings: Mutex::default(),
            asking: AsyncMutex::new(()),
        }
    }

    /// For how long a poll answers; 1 s unless told.
    #[must_use]
    pub const fn fresh_for(mut self, time: Duration) -> Self {
        self.fresh = time;
        self
    }

    /// How many blocks one query for logs covers at most; [`LOG_QUERY_BLOCKS`](super::LOG_QUERY_BLOCKS) unless told.
    #[must_use]
    pub fn log_query_blocks(self, blocks: NonZeroU64) -> Self {
        Self { sightings: Mutex::new(Sightings::spanning(blocks)), ..self }
    }

    /// Asks the node for its chain id, which must be the network's.
    ///
    /// # Errors
    /// The node, or another chain.
    pub async fn check_network(&self) -> Result<(), Fault> {
        let id: U64 = self.request("eth_chainId", ()).await?;
        if crate::token::chain_id(self.network) == Some(id.to()) {
            Ok(())
        } else {
            Err(Fault::unreachable("the node", format_args!("it serves eip155:{id}, not {}", self.network)))
        }
    }

    /// Polls the head: one call. The first poll after one that found a new block asks, in the same batch, for fees, for
    /// the nonces of all accounts that were ever asked for, and for the balances of those that pay for gas.
    ///
    /// # Errors
    /// The node.
    pub async fn poll(&self) -> Result<Head, Fault> {
        let _one = self.polling.lock().await;
        let behind = self.polled().is_behind();
        self.poll_now(behind).await
    }

    /// `all`: with fees and nonces.
    async fn poll_now(&self, all: bool) -> Result<Head, Fault> {
        let (before, hash, accounts, payers) = {
            let polled = self.polled();
            let accounts: Vec<Address> = polled.accounts.keys().filter(|_| all).copied().collect();
            let payers: Vec<Address> = polled.balances.keys().filter(|_| all).copied().collect();
            (polled.head.map(|(head, _)| head), polled.hash, accounts, payers)
        };
        // A nonce at the final block of the poll before is final still, and can be asked for in the same batch.
        // `latest` is that block where the head is trusted.
        let at = |block: Option<u64>| block.map_or_else(|| "latest".to_owned(), |number| format!("0x{number:x}"));
        let last_final = before.map(|head| head.finalized);
        let mut batch = self.client.new_batch();
        let block =
            batch.add_call::<_, Option<Block>>("eth_getBlockByNumber", &("latest", false)).map_err(node_fault)?;
        let tip = match all {
            true => Some(batch.add_call::<_, U64>("eth_maxPriorityFeePerGas", &()).map_err(node_fault)?),
            false => None,
        };
        let mut nonces = Vec::with_capacity(accounts.len());
        for account in accounts {
            let head = batch.add_call::<_, U64>("eth_getTransactionCount", &(account, "latest")).map_err(node_fault)?;
            let finalized = match (self.depth, last_final) {
                (0, _) => None,
                (_, None) => None,
                (_, number) => Some(
                    batch.add_call::<_, U64>("eth_getTransactionCount", &(account, at(number))).map_err(node_fault)?,
                ),
            };
            nonces.push((account, head, finalized));
        }
        let mut balances = Vec::with_capacity(payers.len());
        for payer in payers {
            let balance = batch.add_call::<_, U256>("eth_getBalance", &(payer, "latest")).map_err(node_fault)?;
            balances.push((payer, balance));
        }
        batch.send().await.map_err(node_fault)?;
        let block =
            block.await.map_err(node_fault)?.ok_or_else(|| Fault::unreachable("the node", "no latest block"))?;
        let number: u64 = block.number.to();
        let tip = match tip {
            // Not every node knows the method; the rail has a least tip of its own.
            Some(tip) => tip.await.map(|tip| u128::from(tip.to::<u64>())).unwrap_or_default(),
            None => before.map(|head| head.tip).unwrap_or_default(),
        };
        let head = Head {
            number,
            timestamp: block.timestamp.to(),
            base_fee: u128::from(block.base_fee_per_gas.map(|fee| fee.to::<u64>()).unwrap_or_default()),
            tip,
            finalized: number.saturating_sub(self.depth),
        };
        let mut found = Vec::with_capacity(nonces.len());
        for (account, at_head, at_final) in nonces {
            let at_head = at_head.await.map_err(node_fault)?.to();
            let known = self.polled().accounts.get(&account).copied().flatten();
            let known = known.map_or(0, |nonces| nonces.finalized);
            let finalized = match at_final {
                // A node that was away for longer than it keeps states has no longer that of the final block that we
                // know. What was final is final still, and the head must move on, or it asks for that block for ever.
                Some(waiter) => waiter.await.map_or(known, |nonce| nonce.to::<u64>().max(known)),
                None if self.depth == 0 => at_head,
                None => known,
            };
            found.push((account, AccountNonces { head: at_head, finalized }));
        }
        let mut known = Vec::with_capacity(balances.len());
        for (payer, balance) in balances {
            // A node that does not say leaves it unknown, and an unknown balance refuses nothing.
            known.push((payer, balance.await.ok()));
        }
        let mut polled = self.polled();
        polled.balances.extend(known);
        polled.head = Some((head, Instant::now()));
        polled.hash = block.hash;
        if all {
            polled.asked_at = hash;
        }
        for (account, nonces) in found {
            polled.accounts.insert(account, Some(nonces));
        }
        Ok(head)
    }

    /// What was polled, if it is fresh and `read` finds in it what it wants; else after one more poll.
    async fn polled_or<T>(&self, read: impl Fn(&Polled) -> Option<T>) -> Result<T, Fault> {
        let fresh = || {
            let polled = self.polled();
            let (_, when) = polled.head?;
            (when.elapsed() < self.fresh).then(|| read(&polled)).flatten()
        };
        if let Some(found) = fresh() {
            return Ok(found);
        }
        let _one = self.polling.lock().await;
        if let Some(found) = fresh() {
            return Ok(found);
        }
        self.poll_now(true).await?;
        let found = read(&self.polled());
        found.ok_or_else(|| Fault::unreachable("the node", "a poll without an answer"))
    }

    fn polled(&self) -> std::sync::MutexGuard<'_, Polled> {
        self.polled.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
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
    base_fee_per_gas: Option<U64>,
}

/// A block by its hash ([EIP-1898](https://eips.ethereum.org/EIPS/eip-1898)): a node that does not have it, or has it
/// on another branch, refuses. The opcode `NUMBER` proves no block: on Arbitrum and Orbit it is another chain's.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Pinned {
    pub(super) block_hash: B256,
    pub(super) require_canonical: bool,
}

/// `eth_call` without `to`: the data are init code.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Deployless {
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Address>,
    data: Bytes,
    gas: U64,
}

impl Deployless {
    pub(super) fn of(program: &Program) -> Self {
        Self { from: program.sender(), data: program.code(), gas: U64::from(program.gas()) }
    }
}

#[async_trait]
impl ReadChain for RpcChain {
    fn network(&self) -> ChainId {
        self.network
    }

    async fn head(&self) -> Result<Head, Fault> {
        self.polled_or(|polled| polled.head.map(|(head, _)| head)).await
    }

    async fn run(&self, program: &Program, at: At) -> Result<Answers, Fault> {
        match at {
            At::Latest => {
                let returned: Bytes = self.request("eth_call", (Deployless::of(program), "latest")).await?;
                let answers = program.answers(&returned);
                answers.ok_or_else(|| Fault::unreachable("the node", "eth_call answered something else"))
            }
            At::Number(number) => self.run_at(program, number).await,
        }
    }

    async fn run_with_implementation(
        &self,
        program: &Program,
        of: Address,
    ) -> Result<(Answers, Option<Address>), Fault> {
        let call = Deployless::of(program);
        let mut batch = self.client.new_batch();
        let returned = batch.add_call::<_, Bytes>("eth_call", &(call, "latest")).map_err(node_fault)?;
        let slot =
            batch.add_call::<_, B256>("eth_getStorageAt", &(of, IMPLEMENTATION_SLOT, "latest")).map_err(node_fault)?;
        let code = batch.add_call::<_, Bytes>("eth_getCode", &(of, "latest")).map_err(node_fault)?;
        batch.send().await.map_err(node_fault)?;
        let returned = returned.await.map_err(node_fault)?;
        let (slot, code) = (slot.await.map_err(node_fault)?, code.await.map_err(node_fault)?);
        let answers = program.answers(&returned);
        let answers = answers.ok_or_else(|| Fault::unreachable("the node", "eth_call answered something else"))?;
        Ok((answers, implementation(slot, &code)))
    }
}

/// `keccak256("eip1967.proxy.implementation") - 1`.
const IMPLEMENTATION_SLOT: B256 = b256!("360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc");

/// What a proxy's slot or a delegation's code says.
fn implementation(slot: B256, code: &[u8]) -> Option<Address> {
    let word = match code.strip_prefix(&[0xef, 0x01, 0x00]) {
        Some(delegate) => return Address::try_from(delegate).ok(),
        None => slot,
    };
    // Anything above an address is no proxy's slot.
    word.starts_with(&[0; 12]).then(|| Address::from_word(word)).filter(|address| !address.is_zero())
}

#[async_trait]
impl ReadNonces for RpcChain {
    async fn account_nonces(&self, account: Address) -> Result<AccountNonces, Fault> {
        self.polled().accounts.entry(account).or_default();
        self.polled_or(|polled| polled.accounts.get(&account).copied().flatten()).await
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
        let sent: Result<B256, TransportError> =
            self.client.request("eth_sendRawTransaction", (hex::encode_prefixed(bytes),)).await;
        match sent {
            Ok(_) => Ok(()),
            Err(error) => match NodeError::of(&error) {
                NodeError::AlreadyKnown | NodeError::NonceUsed => Ok(()),
                kind => Err(kind.of_sending(error)),
            },
        }
    }
}

#[async_trait]
impl WatchAuthorizations for RpcChain {
    fn watch(&self, watched: Watched) {
        let asked = self.polled().head.map_or(watched.since, |(head, _)| head.finalized);
        self.sightings().watch(watched, asked);
    }

    fn look_again(&self, watched: Watched) {
        self.sightings().look_again(watched);
    }

    async fn sighting(&self, watched: Watched) -> Result<Sighting, Fault> {
        let block = self.head().await?.finalized;
        self.sightings().watch(watched, block);
        self.clear_up(&watched).await?;
        if let Some(sighting) = self.sightings().answer(&watched, block) {
            return Ok(sighting);
        }
        let _one = self.asking.lock().await;
        loop {
            // Whoever held the lock before has asked for this one, too.
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
        // Polled anew: the use may stand in a block that the last poll did not see.
        let mut to = self.poll().await?.number;
        let mut span = self.sightings().span();
        for _ in 0..SEARCH_CALLS {
            let from = to.saturating_sub(span.saturating_sub(1)).max(watched.since.min(to));
            let mut batch = self.client.new_batch();
            let filter = searching(&watched, from, to);
            let logs = batch.add_call::<_, Vec<Log>>("eth_getLogs", &(filter,)).map_err(node_fault)?;
            let first = batch.add_call::<_, Option<Block>>("eth_getBlockByNumber", &(U64::from(from), false));
            let first = first.map_err(node_fault)?;
            batch.send().await.map_err(node_fault)?;
            let logs = match logs.await {
                Ok(logs) => logs,
                // The watched ones go on with the span that they have: this query may ask for what a node no longer has.
                Err(error) if span > 1 && NodeError::of(&error) != NodeError::MayPass => {
                    span = span.div_ceil(2);
                    continue;
                }
                Err(error) => return Err(node_fault(error)),
            };
            match found(&watched, logs) {
                Some(Fate::Used { transaction, moved: Moved::Unclear }) => {
                    let receipt: Option<Logs> = self.request("eth_getTransactionReceipt", (transaction,)).await?;
                    let paid = receipt.is_some_and(|Logs { logs }| paid(&watched, transaction, &logs));
                    let moved = if paid { Moved::Paid } else { Moved::Unclear };
                    return Ok(Fate::Used { transaction, moved });
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
        Ok(Fate::Unseen)
    }
}

impl RpcChain {
    /// Where a use is seen and its transfer does not stand right behind it, all logs of the transaction decide. A node
    /// without the receipt leaves it unclear.
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

/// A receipt, as far as it matters.
#[derive(Debug, Clone, Deserialize)]
struct Logs {
    logs: Vec<Log>,
}
