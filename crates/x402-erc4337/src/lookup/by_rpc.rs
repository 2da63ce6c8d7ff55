//! Look-up of operations by JSON-RPC: the EntryPoint's events, then the receipts of their transactions.

use core::ops::RangeInclusive;
use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{Address, B256, Log, U64, U256};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use x402_evm::chain::node_fault;
use x402_types::Fault;

use super::{FindNonces, FindUserOps, Landed};
use crate::contract::USER_OPERATION_EVENT;
use crate::rpc::{RpcEntryPoint, RpcLog};
use crate::{EntryPointEvent, Executed};

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Filter<'a> {
    from_block: U64,
    to_block: U64,
    address: Address,
    topics: (B256, &'a [B256]),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Receipt {
    transaction_hash: B256,
    block_number: U64,
    logs: Vec<RpcLog>,
}

#[async_trait]
impl FindUserOps for RpcEntryPoint {
    async fn find_user_ops(&self, hashes: &[B256], blocks: RangeInclusive<u64>) -> Result<Vec<Option<Landed>>, Fault> {
        let mut found: BTreeMap<B256, Landed> = BTreeMap::new();
        let (mut from, to) = (*blocks.start(), *blocks.end());
        let mut missing: Vec<B256> = hashes.to_vec();
        while from <= to && !missing.is_empty() {
            let (until, many) = {
                let span = self.log_span();
                (span.until(from, to), span.values())
            };
            let mut next = until.checked_add(1);
            for some in missing.chunks(many) {
                let Some(carriers) = self.carriers(some, from..=until).await? else {
                    // The query is repeated from this block, over a smaller range.
                    next = Some(from);
                    break;
                };
                for (hash, landed) in self.landed(&carriers, some, from..=until).await? {
                    found.insert(hash, landed);
                }
            }
            missing.retain(|hash| !found.contains_key(hash));
            let Some(next) = next else { break };
            from = next;
        }
        Ok(hashes.iter().map(|hash| found.get(hash).cloned()).collect())
    }
}

/// The filter for one account's events: any hash, this sender.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct OfSender {
    from_block: U64,
    to_block: U64,
    address: Address,
    topics: (B256, Option<B256>, B256),
}

#[async_trait]
impl FindNonces for RpcEntryPoint {
    async fn find_nonce(
        &self,
        sender: Address,
        nonce: U256,
        blocks: RangeInclusive<u64>,
    ) -> Result<Option<B256>, Fault> {
        let (mut from, to) = (*blocks.start(), *blocks.end());
        while from <= to {
            let until = self.log_span().until(from, to);
            let filter = OfSender {
                from_block: U64::from(from),
                to_block: U64::from(until),
                address: self.entry_point().address,
                topics: (USER_OPERATION_EVENT, None, sender.into_word()),
            };
            let Some(logs) = self.logs(filter, &(from..=until), 1).await? else { continue };
            let own = logs.iter().filter(|log| !log.removed && log.address == self.entry_point().address);
            let user = own.filter_map(|log| {
                let log = log.to_log();
                match EntryPointEvent::decode(log.data.topics(), &log.data.data) {
                    Some(EntryPointEvent::UserOperation { hash, sender: of, nonce: used, .. }) => {
                        (of == sender && used == nonce).then_some(hash)
                    }
                    _ => None,
                }
            });
            if let Some(hash) = user.last() {
                return Ok(Some(hash));
            }
            let Some(next) = until.checked_add(1) else { break };
            from = next;
        }
        Ok(None)
    }
}

impl RpcEntryPoint {
    /// Finds the transactions that executed some of these operations; returns `None` if the query must be repeated over
    /// a smaller range.
    async fn carriers(&self, hashes: &[B256], blocks: RangeInclusive<u64>) -> Result<Option<BTreeSet<B256>>, Fault> {
        let filter = Filter {
            from_block: U64::from(*blocks.start()),
            to_block: U64::from(*blocks.end()),
            address: self.entry_point().address,
            topics: (USER_OPERATION_EVENT, hashes),
        };
        let Some(logs) = self.logs(filter, &blocks, hashes.len()).await? else { return Ok(None) };
        let carrier = |log: &RpcLog| {
            let asked = log.address == self.entry_point().address
                && log.topics().first() == Some(&USER_OPERATION_EVENT)
                && log.topics().get(1).is_some_and(|hash| hashes.contains(hash))
                && log.block_number.is_some_and(|number| blocks.contains(&number.to()));
            log.transaction_hash.filter(|_| asked).ok_or_else(|| other("eth_getLogs"))
        };
        logs.iter().filter(|log| !log.removed).map(carrier).collect::<Result<_, _>>().map(Some)
    }

    /// Returns the outcomes of those of `hashes` that these transactions carried.
    async fn landed(
        &self,
        carriers: &BTreeSet<B256>,
        hashes: &[B256],
        blocks: RangeInclusive<u64>,
    ) -> Result<Vec<(B256, Landed)>, Fault> {
        if carriers.is_empty() {
            return Ok(Vec::new());
        }
        let mut batch = self.client().new_batch();
        let mut waiters = Vec::with_capacity(carriers.len());
        for transaction in carriers {
            let waiter = batch.add_call::<_, Option<Receipt>>("eth_getTransactionReceipt", &(*transaction,));
            waiters.push((*transaction, waiter.map_err(node_fault)?));
        }
        batch.send().await.map_err(node_fault)?;
        let mut all = Vec::new();
        for (transaction, waiter) in waiters {
            // A block was replaced between the two requests, so the result is unknown for now.
            let receipt = waiter.await.map_err(node_fault)?;
            let receipt =
                receipt.filter(|r| r.transaction_hash == transaction && blocks.contains(&r.block_number.to()));
            let mut receipt = receipt.ok_or_else(|| other("eth_getTransactionReceipt"))?;
            receipt.logs.sort_by_key(|log| log.log_index);
            let logs: Vec<Log> = receipt.logs.iter().map(RpcLog::to_log).collect();
            let block = receipt.block_number.to();
            for executed in Executed::read(self.entry_point().address, &logs) {
                if hashes.contains(&executed.hash) {
                    all.push((executed.hash, Landed { transaction, block, executed }));
                }
            }
        }
        Ok(all)
    }
}

fn other(method: &'static str) -> Fault {
    Fault::unreachable("the node", format_args!("{method} answered something else"))
}
