//! Batching: many calls in one transaction, by `aggregate3` of
//! [Multicall3](https://github.com/mds1/multicall3), which reports the failure of a call and goes on with the next.

use alloy_primitives::{Address, Bytes, address};
use alloy_sol_types::SolCall;

use crate::chain::{Call, CallHead, Sharing};
use crate::exact::TRANSFER_GAS;

/// The contract that makes the calls of a batch: Multicall3, at this address on every network that has it.
pub const MULTICALL3: Address = address!("cA11bde05977b3631167028862bE2a173976CA11");

/// The limits of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Batching {
    /// The maximum number of payments in a transaction.
    pub most: usize,
    /// The maximum gas limit of a batch, as a percentage of the block's.
    pub block_share: u64,
    /// The gas that is reserved for each payment, beside that of Multicall3.
    pub gas_each: u64,
}

/// The most payments that a batch may hold by any configuration: nodes refuse transactions above 128 KiB, and one payment
/// takes up to 500 bytes.
pub const MOST_IN_BATCH: usize = 250;
/// The gas of a transaction without calldata, which a call's own limit contains.
const TRANSACTION_GAS: u64 = 21_000;
/// The maximum gas of the bytes behind a call's arguments: some 600 bytes, more than codes of builders can have.
const SUFFIX_GAS: u64 = 20_000;
/// The gas of a batch without members: 21,000, and the frame of `aggregate3`.
const FRAME_GAS: u64 = 50_000;
/// The gas of a member that a transaction of its own would not take: the words that name and frame its calldata (160 bytes,
/// at most 16 gas each), the call, and the memory of its result.
const MEMBER_GAS: u64 = 8_000;

mod abi {
    alloy_sol_types::sol! {
        struct Call3 { address target; bool allowFailure; bytes callData; }
        struct Result { bool success; bytes returnData; }
        function aggregate3(Call3[] calldata calls) external payable returns (Result[] memory returnData);
    }
}

impl Default for Batching {
    /// Returns at most 100 payments, half of a block, and 129,000 gas each, within which every payment has passed in its
    /// simulation.
    fn default() -> Self {
        Self { most: 100, block_share: 50, gas_each: 129_000 }
    }
}

impl Batching {
    /// Sets the maximum number of payments in a transaction, at most [`MOST_IN_BATCH`].
    #[must_use]
    pub fn with_most(mut self, payments: usize) -> Self {
        self.most = payments.clamp(1, MOST_IN_BATCH);
        self
    }

    /// Sets the maximum gas limit of a batch, as a percentage of the block's.
    #[must_use]
    pub fn with_block_share(mut self, percent: u64) -> Self {
        self.block_share = percent.clamp(1, 100);
        self
    }

    /// Sets the gas that is reserved for each payment. A call whose own limit is lower reserves no more than that.
    #[must_use]
    pub const fn with_gas_each(mut self, gas: u64) -> Self {
        self.gas_each = gas;
        self
    }

    /// Returns the gas that a call needs when another contract makes it. The gas of a call above [`TRANSFER_GAS`] is
    /// for bytes behind its arguments, which the gas of each payment does not contain; there is a maximum.
    fn inner(&self, gas: u64) -> u64 {
        let suffix = gas.saturating_sub(TRANSFER_GAS).min(SUFFIX_GAS);
        gas.saturating_sub(TRANSACTION_GAS).min(self.gas_each.saturating_add(suffix))
    }

    /// Returns the gas limit of a batch of calls with these limits, without the chain's surcharge. A contract passes on at
    /// most 63 of 64 parts of its gas ([EIP-150](https://eips.ethereum.org/EIPS/eip-150)), so that a 63rd of the largest
    /// call is added: it may be the last.
    pub(crate) fn gas(&self, calls: impl Iterator<Item = u64>) -> u64 {
        let (mut sum, mut largest) = (FRAME_GAS, 0_u64);
        for gas in calls {
            let inner = self.inner(gas);
            sum = sum.saturating_add(inner).saturating_add(MEMBER_GAS);
            largest = largest.max(inner);
        }
        sum.saturating_add(largest.div_ceil(63))
    }

    /// Returns the maximum gas limit of a batch in a block with this limit; 0 if the limit of the block is not known.
    pub(crate) const fn most_gas(&self, block: u64) -> u64 {
        // The division comes first: a block's limit may be any number.
        block.div_euclid(100).saturating_mul(self.block_share)
    }
}

/// Returns whether the call `next` may share a transaction with the calls `aboard`, whatever the gas.
pub(crate) fn may_share(aboard: &[CallHead], next: &CallHead) -> bool {
    match next.sharing {
        Sharing::Alone => false,
        Sharing::Shared => aboard.iter().all(|call| call.sharing != Sharing::Alone),
        Sharing::OncePerPayer(_) => aboard
            .iter()
            .all(|call| call.sharing != Sharing::Alone && (call.to != next.to || call.sharing != next.sharing)),
    }
}

/// Encodes the call of Multicall3 that makes these calls, each of which may fail.
pub(crate) fn aggregate(calls: &[Call]) -> Bytes {
    let call = |call: &Call| abi::Call3 { target: call.to, allowFailure: true, callData: call.data.clone() };
    abi::aggregate3Call { calls: calls.iter().map(call).collect() }.abi_encode().into()
}

/// Reads the calls that the calldata of a batch makes: each contract with its calldata. `None` for other calldata.
#[must_use]
pub fn calls_of_batch(calldata: &[u8]) -> Option<Vec<(Address, Bytes)>> {
    let batch = abi::aggregate3Call::abi_decode(calldata).ok()?;
    Some(batch.calls.into_iter().map(|call| (call.target, call.callData)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::hex;

    fn head(to: u8, sharing: Sharing) -> CallHead {
        let to = Address::repeat_byte(to);
        let call = Call { to, data: Bytes::new(), gas: 150_000, since: 0, until: None, sharing };
        CallHead::read(&call.to_bytes()).unwrap().0
    }

    /// The selector is that of the verified source on Etherscan.
    #[test]
    fn every_call_may_fail() {
        assert_eq!(abi::aggregate3Call::SELECTOR, hex!("82ad56cb"));
        let call = |to: u8| Call {
            to: Address::repeat_byte(to),
            data: vec![to; 3].into(),
            gas: 1,
            since: 0,
            until: None,
            sharing: Sharing::Shared,
        };
        let data = aggregate(&[call(1), call(2)]);
        let made = [1_u8, 2].map(|to| (Address::repeat_byte(to), Bytes::from(vec![to; 3])));
        assert_eq!(calls_of_batch(&data).unwrap(), made);
        assert_eq!((calls_of_batch(&data[..40]), calls_of_batch(&[])), (None, None));
        let decoded = abi::aggregate3Call::abi_decode(&data).unwrap();
        assert!(decoded.calls.iter().all(|call| call.allowFailure));
        assert_eq!(decoded.calls.iter().map(|call| call.target).collect::<Vec<_>>(), [1, 2].map(Address::repeat_byte));
        assert_eq!(decoded.calls[1].callData, vec![2; 3]);
    }

    #[test]
    fn a_call_of_the_account_itself_shares_nothing() {
        let (own, shared) = (head(1, Sharing::Alone), head(1, Sharing::Shared));
        assert!(!may_share(&[shared], &own) && !may_share(&[own], &shared) && !may_share(&[own], &own));
        assert!(may_share(&[shared, shared], &shared));
    }

    #[test]
    fn a_payer_whose_uses_cannot_be_told_apart_is_aboard_once() {
        let once = |to, payer| head(to, Sharing::OncePerPayer(Address::repeat_byte(payer)));
        assert!(!may_share(&[once(1, 7)], &once(1, 7)), "two uses of one payer in one token");
        assert!(may_share(&[once(1, 7)], &once(1, 8)) && may_share(&[once(1, 7)], &once(2, 7)));
        assert!(
            may_share(&[head(1, Sharing::Shared)], &once(2, 7)) && may_share(&[once(2, 7)], &head(1, Sharing::Shared))
        );
        assert!(!may_share(&[head(1, Sharing::Alone)], &once(2, 7)));
    }

    #[test]
    fn the_gas_is_the_sum_and_a_63rd_of_the_largest() {
        let batching = Batching::default();
        // 150,000 with the transaction's 21,000: 129,000 for the call, and 129,000 / 63 = 2,047.6.
        assert_eq!(batching.gas([150_000; 2].into_iter()), 50_000 + 2 * (129_000 + 8_000) + 2_048);
        assert_eq!(batching.gas([150_000, 71_000].into_iter()), 50_000 + 137_000 + 58_000 + 2_048);
        assert_eq!(batching.with_gas_each(63_000).gas([150_000; 3].into_iter()), 50_000 + 3 * 71_000 + 1_000);
        // Bytes behind the arguments have their own gas, 20,000 at most.
        assert_eq!(batching.gas([150_500].into_iter()), 50_000 + 137_500 + 2_056);
        assert_eq!(batching.gas([u64::MAX; 3].into_iter()), 50_000 + 3 * 157_000 + 2_366);
        // 100 payments are below the 2^24 of EIP-7825.
        assert!(batching.gas([150_000; 100].into_iter()) < 1 << 24);
        assert_eq!((batching.most_gas(60_000_000), batching.most_gas(0)), (30_000_000, 0));
        assert_eq!(batching.with_block_share(100).most_gas(u64::MAX), u64::MAX / 100 * 100);
    }
}
