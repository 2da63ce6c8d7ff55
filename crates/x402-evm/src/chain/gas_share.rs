//! The gas of a transaction, divided among the authorizations that were used in it: docs/adr/0022-batching.md.

use std::collections::VecDeque;

use alloy_primitives::{Address, B256, U64};
use async_trait::async_trait;
use serde::Deserialize;
use x402_types::Fault;

use super::{ReadGas, RpcChain, WatchedEvent};

/// The number of transactions whose uses are kept: the payments of one block need the same transaction.
const KEPT: usize = 32;

/// A transaction's gas, and the authorizations that were used in it, in their order.
#[derive(Debug, Clone)]
pub(super) struct SharedGas {
    transaction: B256,
    gas_used: u64,
    uses: Vec<WatchedEvent>,
}

/// The transactions that were read last.
pub(super) type SharedGases = VecDeque<SharedGas>;

/// The relevant members of a receipt.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Receipt {
    transaction_hash: B256,
    gas_used: U64,
    logs: Vec<Log>,
}

#[derive(Debug, Clone, Deserialize)]
struct Log {
    address: Address,
    topics: Vec<B256>,
}

impl Receipt {
    /// Selects the uses: the events with this signature, of whatever token and payer.
    fn shared(self, signature: B256) -> SharedGas {
        let uses = self.logs.iter().filter_map(|log| {
            let topics = <[B256; 3]>::try_from(log.topics.as_slice()).ok()?;
            topics.starts_with(&[signature]).then_some(WatchedEvent { contract: log.address, topics })
        });
        SharedGas { transaction: self.transaction_hash, gas_used: self.gas_used.to(), uses: uses.collect() }
    }
}

impl SharedGas {
    fn share(&self, used: &WatchedEvent) -> Option<u64> {
        let place = self.uses.iter().position(|one| one == used)?;
        share(self.gas_used, self.uses.len(), place)
    }
}

/// Divides gas among so many uses: each has the quotient, and the first ones one unit of the remainder each.
fn share(gas: u64, uses: usize, place: usize) -> Option<u64> {
    let (uses, place) = (u64::try_from(uses).ok()?, u64::try_from(place).ok()?);
    let (quotient, remainder) = (gas.checked_div(uses)?, gas.checked_rem(uses)?);
    Some(quotient.saturating_add(u64::from(place < remainder)))
}

#[async_trait]
impl ReadGas for RpcChain {
    async fn gas_share(&self, transaction: B256, used: WatchedEvent) -> Result<Option<u64>, Fault> {
        // The first caller reads while the others wait: they need the same transaction.
        let mut kept = self.shared_gas.lock().await;
        if let Some(known) = kept.iter().find(|known| known.transaction == transaction)
            && let Some(share) = known.share(&used)
        {
            return Ok(Some(share));
        }
        let receipt: Option<Receipt> = self.request("eth_getTransactionReceipt", (transaction,)).await?;
        let Some(receipt) = receipt.filter(|receipt| receipt.transaction_hash == transaction) else { return Ok(None) };
        let read = receipt.shared(used.topics[0]);
        let share = read.share(&used);
        kept.retain(|known| known.transaction != transaction);
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back(read);
        Ok(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_to_the_gas_used() {
        assert_eq!(share(10, 3, 0), Some(4));
        assert_eq!((share(10, 3, 1), share(10, 3, 2)), (Some(3), Some(3)));
        assert_eq!(share(61_234, 1, 0), Some(61_234));
        assert_eq!(share(10, 0, 0), None);
        for (gas, uses) in [(0, 1), (1, 2), (99, 100), (4_000_001, 100), (u64::MAX, 7)] {
            let shares: u64 = (0..uses).map(|place| share(gas, uses, place).unwrap()).sum();
            assert_eq!(shares, gas, "{uses} uses");
        }
    }

    #[test]
    fn only_uses_share() {
        let event = |contract: u8, topics: [u8; 3]| WatchedEvent {
            contract: Address::repeat_byte(contract),
            topics: topics.map(B256::repeat_byte),
        };
        let log = |event: WatchedEvent| Log { address: event.contract, topics: event.topics.to_vec() };
        let (one, two, transfer) = (event(1, [9, 2, 3]), event(2, [9, 4, 5]), event(1, [8, 2, 3]));
        let short = Log { topics: vec![B256::repeat_byte(9)], ..log(one) };
        let receipt = Receipt {
            transaction_hash: B256::ZERO,
            gas_used: U64::from(101),
            logs: vec![log(one), log(transfer), short, log(two)],
        };
        let shared = receipt.shared(B256::repeat_byte(9));
        assert_eq!((shared.share(&one), shared.share(&two), shared.share(&transfer)), (Some(51), Some(50), None));
    }
}
