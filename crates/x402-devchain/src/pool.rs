//! Pending transactions: executable ones and those after a nonce gap.
//!
//! Blocks take them in the order of arrival, not by tip, so that a test can predict the content of blocks.

use std::collections::{BTreeMap, HashMap};

use alloy_consensus::transaction::Recovered;
use alloy_consensus::{Transaction, TxEnvelope};
use alloy_primitives::{Address, B256};

#[derive(Clone, Debug)]
pub(crate) struct Pooled {
    pub(crate) tx: Recovered<TxEnvelope>,
    /// The first block that may include the transaction.
    pub(crate) not_before: u64,
    arrival: u64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Pool {
    senders: HashMap<Address, BTreeMap<u64, Pooled>>,
    hashes: HashMap<B256, (Address, u64)>,
    arrivals: u64,
}

/// The error for a transaction whose sender and nonce are in the pool already, at fees that are not a tenth lower.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Underpriced;

impl Pool {
    pub(crate) fn insert(&mut self, tx: Recovered<TxEnvelope>, not_before: u64) -> Result<(), Underpriced> {
        let (sender, nonce, hash) = (tx.signer(), tx.nonce(), *tx.tx_hash());
        let queue = self.senders.entry(sender).or_default();
        if let Some(old) = queue.get(&nonce) {
            if !beats(tx.max_fee_per_gas(), old.tx.max_fee_per_gas()) || !beats(tip(&tx), tip(&old.tx)) {
                return Err(Underpriced);
            }
            self.hashes.remove(old.tx.tx_hash());
        }
        self.arrivals = self.arrivals.saturating_add(1);
        queue.insert(nonce, Pooled { tx, not_before, arrival: self.arrivals });
        self.hashes.insert(hash, (sender, nonce));
        Ok(())
    }

    pub(crate) fn remove(&mut self, hash: B256) -> Option<Pooled> {
        let (sender, nonce) = self.hashes.remove(&hash)?;
        let queue = self.senders.get_mut(&sender)?;
        let pooled = queue.remove(&nonce);
        if queue.is_empty() {
            self.senders.remove(&sender);
        }
        pooled
    }

    /// Forgets the transactions of `sender` below its current `nonce`, which can no longer be executed.
    pub(crate) fn settle(&mut self, sender: Address, nonce: u64) {
        let Some(queue) = self.senders.get_mut(&sender) else { return };
        let rest = queue.split_off(&nonce);
        for pooled in std::mem::replace(queue, rest).into_values() {
            self.hashes.remove(pooled.tx.tx_hash());
        }
        if queue.is_empty() {
            self.senders.remove(&sender);
        }
    }

    /// Returns all pending transactions, in the order of arrival.
    pub(crate) fn into_arrivals(self) -> Vec<Pooled> {
        let mut pooled: Vec<Pooled> = self.senders.into_values().flat_map(BTreeMap::into_values).collect();
        pooled.sort_by_key(|pooled| pooled.arrival);
        pooled
    }

    pub(crate) fn find(&self, hash: B256) -> Option<&Pooled> {
        let (sender, nonce) = self.hashes.get(&hash)?;
        self.senders.get(sender)?.get(nonce)
    }

    pub(crate) fn senders(&self) -> impl Iterator<Item = Address> + '_ {
        self.senders.keys().copied()
    }

    /// Returns the first nonce, from `nonce` on, that has no transaction.
    pub(crate) fn next_nonce(&self, sender: Address, nonce: u64) -> u64 {
        let mut next = nonce;
        if let Some(queue) = self.senders.get(&sender) {
            while queue.contains_key(&next) {
                next = next.saturating_add(1);
            }
        }
        next
    }

    /// Returns the earliest arrival among the transactions that are next for their sender, according to `nonce_of`.
    pub(crate) fn first_ready(
        &self,
        nonce_of: impl Fn(Address) -> u64,
        admits: impl Fn(&Pooled) -> bool,
    ) -> Option<&Pooled> {
        self.senders
            .iter()
            .filter_map(|(sender, queue)| queue.get(&nonce_of(*sender)))
            .filter(|pooled| admits(pooled))
            .min_by_key(|pooled| pooled.arrival)
    }
}

fn tip(tx: &Recovered<TxEnvelope>) -> u128 {
    tx.max_priority_fee_per_gas().unwrap_or_else(|| tx.max_fee_per_gas())
}

/// Returns whether a fee meets geth's price bump: at least 10 % more.
fn beats(new: u128, old: u128) -> bool {
    new > old && new.saturating_mul(100) >= old.saturating_mul(110)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replacement_pays_a_tenth_more() {
        assert!(beats(110, 100));
        assert!(!beats(109, 100));
        assert!(!beats(0, 0));
        assert!(beats(1, 0));
    }
}
