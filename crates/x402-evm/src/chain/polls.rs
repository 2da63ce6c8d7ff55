//! The polls of a chain's head, fees, account nonces and balances: one batch for all readers.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, U64, U256};
use tokio::time::Instant;
use x402_types::Fault;

use super::fee_history::{self, FeeHistory};
use super::node_error::node_fault;
use super::rpc::Block;
use super::surcharge::Sample;
use super::{AccountNonces, Head, RpcChain};

/// The time for which [`RpcChain::poll_accounts`] uses a tip and balances.
const HOLDS: Duration = Duration::from_secs(15);

/// The results of the polls.
#[derive(Debug, Default)]
pub(super) struct Polled {
    pub(super) head: Option<(Head, Instant)>,
    /// The hash of the newest block.
    hash: B256,
    pub(super) accounts: BTreeMap<Address, Option<AccountNonces>>,
    /// The balances of the accounts that pay for gas, in wei.
    pub(super) balances: BTreeMap<Address, Option<U256>>,
    /// The newest block known at the time when a poll last estimated the surcharge.
    estimated_at: u64,
    /// The newest block known at the time when the nonces were requested.
    asked_at: B256,
    /// Whether the last history of fees had no tip, so that the node's suggestion is requested.
    without_history: bool,
    /// The time when tip and balances were last requested.
    asked_funds: Option<Instant>,
}

impl Polled {
    /// Returns whether the nonces may be those of an older or replaced block.
    fn is_behind(&self) -> bool {
        self.head.is_none() || self.asked_at != self.hash || self.accounts.values().any(Option::is_none)
    }
}

/// The parts of a poll.
#[derive(Debug, Clone, Copy)]
struct Parts {
    head: bool,
    nonces: bool,
    /// The tip, and the balances.
    funds: bool,
}

impl Parts {
    const HEAD: Self = Self { head: true, nonces: false, funds: false };
    const ALL: Self = Self { head: true, nonces: true, funds: true };
}

impl RpcChain {
    /// Polls the head: one call. The first poll after one that found a new block also requests, in the same batch, the
    /// fees, the nonces of all accounts that were ever requested, and the balances of those that pay for gas; the first
    /// of all also the gas of an empty transaction.
    /// # Errors
    /// The node failed.
    pub async fn poll(&self) -> Result<Head, Fault> {
        let _one = self.polling.lock().await;
        let behind = self.polled().is_behind();
        self.poll_parts(if behind { Parts::ALL } else { Parts::HEAD }).await
    }

    /// Polls the head alone: one call.
    /// # Errors
    /// The node failed.
    pub async fn poll_head(&self) -> Result<Head, Fault> {
        let _one = self.polling.lock().await;
        self.poll_parts(Parts::HEAD).await
    }

    /// Requests the nonces of all accounts that were ever requested, in one batch: one call an account, two where blocks
    /// are final only below others. If they are older than 15 s, or `funds` is set, the tip and the balances of the accounts
    /// that pay for gas are among them. With `head` the head is polled again, too: where blocks follow each other quickly,
    /// the nonces could otherwise be those of a later one.
    /// # Errors
    /// The node failed.
    pub async fn poll_accounts(&self, head: bool, funds: bool) -> Result<Head, Fault> {
        let _one = self.polling.lock().await;
        let parts = {
            let polled = self.polled();
            let is_old = polled.asked_funds.is_none_or(|at| at.elapsed() >= HOLDS);
            Parts { head: head || polled.head.is_none(), nonces: true, funds: funds || is_old }
        };
        self.poll_parts(parts).await
    }

    /// Returns whether a requested nonce is unknown, or balances are older than 15 s.
    #[must_use]
    pub fn is_account_poll_due(&self) -> bool {
        let polled = self.polled();
        let is_old = || polled.asked_funds.is_none_or(|at| at.elapsed() >= HOLDS);
        polled.accounts.values().any(Option::is_none) || (!polled.balances.is_empty() && is_old())
    }

    /// Returns whether something was sent since the nonces were last requested.
    #[must_use]
    pub fn has_sent(&self) -> bool {
        self.sent.load(Ordering::Relaxed)
    }

    async fn poll_parts(&self, parts: Parts) -> Result<Head, Fault> {
        if parts.nonces {
            self.sent.store(false, Ordering::Relaxed);
        }
        let (before, hash, accounts, payers, estimated_at) = {
            let polled = self.polled();
            let accounts: Vec<Address> = polled.accounts.keys().filter(|_| parts.nonces).copied().collect();
            let payers: Vec<Address> = polled.balances.keys().filter(|_| parts.funds).copied().collect();
            (polled.head.map(|(head, _)| head), polled.hash, accounts, payers, polled.estimated_at)
        };
        // A nonce at the previous poll's final block is still final, and can be requested in the same batch. If the
        // head is trusted, that block is `latest`.
        let at = |block: Option<u64>| block.map_or_else(|| "latest".to_owned(), |number| format!("0x{number:x}"));
        let last_final = before.map(|head| head.finalized);
        let mut batch = self.client.new_batch();
        let block = match parts.head {
            true => Some(
                batch.add_call::<_, Option<Block>>("eth_getBlockByNumber", &("latest", false)).map_err(node_fault)?,
            ),
            false => None,
        };
        // At first both are requested, and then the suggestion only as long as no block was paid a tip.
        let suggests = before.is_none() || self.polled().without_history;
        let history = match parts.funds {
            true => {
                Some(batch.add_call::<_, FeeHistory>("eth_feeHistory", &fee_history::question()).map_err(node_fault)?)
            }
            false => None,
        };
        let suggested = match parts.funds && suggests {
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
        let newest = before.map_or(0, |head| head.number);
        let estimates = parts.nonces && self.surcharges().is_due(newest.saturating_sub(estimated_at));
        let empty = match estimates {
            true => {
                let sample = Sample::of(Bytes::new());
                Some(batch.add_call::<_, U64>("eth_estimateGas", &(sample,)).map_err(node_fault)?)
            }
            false => None,
        };
        let is_empty =
            block.is_none() && history.is_none() && nonces.is_empty() && balances.is_empty() && empty.is_none();
        if !is_empty {
            batch.send().await.map_err(node_fault)?;
        }
        let block = match block {
            Some(block) => {
                let block = block.await.map_err(node_fault)?;
                Some(block.ok_or_else(|| Fault::unreachable("the node", "no latest block"))?)
            }
            None => None,
        };
        let last_tip = before.map(|head| head.tip).unwrap_or_default();
        let tip = match history {
            // Some nodes lack these methods; the rail has a minimum tip of its own.
            Some(history) => {
                let paid = history.await.ok().and_then(|history| history.tip());
                let suggested = match suggested {
                    Some(suggested) => suggested.await.map(|tip| u128::from(tip.to::<u64>())).unwrap_or_default(),
                    None => last_tip,
                };
                self.polled().without_history = paid.is_none();
                paid.unwrap_or(suggested)
            }
            None => last_tip,
        };
        let head = match (&block, before) {
            (Some(block), _) => self.head_of(block, tip),
            (None, Some(before)) => Head { tip, ..before },
            (None, None) => return Err(Fault::unreachable("the node", "no latest block")),
        };
        if let Some(block) = &block
            && before.is_none_or(|before| before.finalized != head.finalized || hash != block.hash)
        {
            self.check_agreement(head, block.hash).await?;
        }
        let mut found = Vec::with_capacity(nonces.len());
        for (account, at_head, at_final) in nonces {
            let at_head = at_head.await.map_err(node_fault)?.to();
            let known = self.polled().accounts.get(&account).copied().flatten();
            let known = known.map_or(0, |nonces| nonces.finalized);
            let finalized = match at_final {
                // A node that was unavailable for longer than its state window no longer has the state of the known
                // final block. That block is still final, and the head must advance, or that block would be requested
                // for ever.
                Some(waiter) => waiter.await.map_or(known, |nonce| nonce.to::<u64>().max(known)),
                None if self.depth == 0 => at_head,
                None => known,
            };
            found.push((account, AccountNonces { head: at_head, finalized }));
        }
        let mut known = Vec::with_capacity(balances.len());
        for (payer, balance) in balances {
            // If a node does not report a balance it is unknown, and an unknown balance refuses nothing.
            known.push((payer, balance.await.ok()));
        }
        if let Some(empty) = empty {
            let estimate = empty.await;
            let mut known = self.surcharges();
            *known = known.after(estimate);
        }
        let now = Instant::now();
        let mut polled = self.polled();
        if estimates {
            polled.estimated_at = newest;
        }
        polled.balances.extend(known);
        polled.asked_funds = if parts.funds { Some(now) } else { polled.asked_funds };
        // A poll without the head leaves its age, which is the time since the node's last answer with one.
        let answered_at = polled.head.filter(|_| block.is_none()).map_or(now, |(_, answered_at)| answered_at);
        polled.head = Some((head, answered_at));
        polled.hash = block.map_or(polled.hash, |block| block.hash);
        if parts.nonces {
            polled.asked_at = hash;
        }
        for (account, nonces) in found {
            polled.accounts.insert(account, Some(nonces));
        }
        Ok(head)
    }

    fn head_of(&self, block: &Block, tip: u128) -> Head {
        let number: u64 = block.number.to();
        Head {
            number,
            timestamp: block.timestamp.to(),
            base_fee: u128::from(block.base_fee_per_gas.map(|fee| fee.to::<u64>()).unwrap_or_default()),
            tip,
            gas_limit: block.gas_limit.map(|gas| gas.to::<u64>()).unwrap_or_default(),
            finalized: number.saturating_sub(self.depth),
        }
    }

    /// Returns a value from the last poll, if the poll is fresh and `read` finds the value; otherwise polls once more.
    pub(super) async fn polled_or<T>(&self, read: impl Fn(&Polled) -> Option<T>) -> Result<T, Fault> {
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
        self.poll_parts(Parts::ALL).await?;
        let found = read(&self.polled());
        found.ok_or_else(|| Fault::unreachable("the node", "a poll without an answer"))
    }

    pub(super) fn polled(&self) -> MutexGuard<'_, Polled> {
        self.polled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
