//! [validationData](https://eips.ethereum.org/EIPS/eip-4337#account-contract-interface): "authorizer, validUntil and
//! validAfter" in one word, and when each version of the EntryPoint accepts an operation with it.

use alloy_primitives::{Address, U256};

use crate::EntryPointVersion;

/// The largest time or flagged block that fits: 2^48-1.
pub const MAX_UINT48: u64 = (1 << 48) - 1;
/// The flag bit of EntryPoint 0.9: if both bounds have it (and are greater than it), they are block numbers.
const BLOCK_RANGE_FLAG: u64 = 1 << 47;

/// The result of an account's or a paymaster's validation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValidationData {
    /// The verdict on the signature.
    pub authorizer: Authorizer,
    /// The start of validity, 48 bits.
    pub valid_after: u64,
    /// The end of validity, 48 bits; never 0, since "zero for forever" is converted to 2^48-1.
    pub valid_until: u64,
}

/// The verdict on the signature: the low 160 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authorizer {
    /// 0: the signature is valid.
    Valid,
    /// 1: the signature is invalid, `SIG_VALIDATION_FAILED`.
    Failed,
    /// Any other value is the address of an aggregator.
    Aggregator(Address),
}

/// The position of a block, with which validity is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockTime {
    /// The time of the block in seconds.
    pub timestamp: u64,
    /// The number of the block.
    pub number: u64,
}

impl ValidationData {
    /// A positive verdict without bounds.
    pub const VALID: Self = Self { authorizer: Authorizer::Valid, valid_after: 0, valid_until: MAX_UINT48 };

    /// Unpacks the word.
    #[must_use]
    pub fn unpack(word: U256) -> Self {
        let low48 = |word: U256| (word & U256::from(MAX_UINT48)).saturating_to::<u64>();
        let valid_until = match low48(word >> 160) {
            0 => MAX_UINT48,
            until => until,
        };
        let authorizer = match Address::from_word(word.into()) {
            Address::ZERO => Authorizer::Valid,
            address if address == FAILED => Authorizer::Failed,
            address => Authorizer::Aggregator(address),
        };
        Self { authorizer, valid_after: low48(word >> 208), valid_until }
    }

    /// Packs the word. Bounds above 2^48-1 are cut to it; forever is written as 2^48-1, as Kernel does.
    #[must_use]
    pub fn pack(&self) -> U256 {
        let authorizer = match self.authorizer {
            Authorizer::Valid => Address::ZERO,
            Authorizer::Failed => FAILED,
            Authorizer::Aggregator(address) => address,
        };
        U256::from_be_bytes(authorizer.into_word().0)
            | U256::from(self.valid_until.min(MAX_UINT48)) << 160
            | U256::from(self.valid_after.min(MAX_UINT48)) << 208
    }

    /// Combines the results of account and paymaster: "the account's authorizer, else the paymaster's", the later start
    /// and the earlier end.
    #[must_use]
    pub fn intersect(&self, paymaster: &Self) -> Self {
        Self {
            authorizer: match self.authorizer {
                Authorizer::Valid => paymaster.authorizer,
                own => own,
            },
            valid_after: self.valid_after.max(paymaster.valid_after),
            valid_until: self.valid_until.min(paymaster.valid_until),
        }
    }

    /// Returns whether 0.9 interprets the bounds as block numbers: both are above the flag.
    #[must_use]
    pub const fn is_block_range(&self) -> bool {
        self.valid_after > BLOCK_RANGE_FLAG && self.valid_until > BLOCK_RANGE_FLAG
    }

    /// Returns whether a block is within the bounds. 0.6 and 0.7 accept an operation AT `validAfter`, 0.8 and 0.9 only
    /// after it; `validUntil` itself is still valid in all of them.
    #[must_use]
    pub const fn holds_at(&self, version: EntryPointVersion, block: BlockTime) -> bool {
        match version {
            EntryPointVersion::V06 | EntryPointVersion::V07 => {
                block.timestamp >= self.valid_after && block.timestamp <= self.valid_until
            }
            EntryPointVersion::V09 if self.is_block_range() => {
                let mask = BLOCK_RANGE_FLAG - 1;
                block.number > self.valid_after & mask && block.number <= self.valid_until & mask
            }
            // "if (validationData == 0) return (address(0), false, false)"
            EntryPointVersion::V08 | EntryPointVersion::V09 => {
                let unbounded = matches!(self.authorizer, Authorizer::Valid)
                    && self.valid_after == 0
                    && self.valid_until == MAX_UINT48;
                unbounded || block.timestamp > self.valid_after && block.timestamp <= self.valid_until
            }
        }
    }
}

const FAILED: Address = alloy_primitives::address!("0000000000000000000000000000000000000001");

#[cfg(test)]
mod tests {
    use super::*;

    fn at(timestamp: u64) -> BlockTime {
        BlockTime { timestamp, number: timestamp }
    }

    #[test]
    fn kernel_says_forever_in_full() {
        // The vectors accountProbes: Kernel 0.3.1 answers a wrong signature with an explicit end.
        let word: U256 = "0x000000000000ffffffffffff0000000000000000000000000000000000000001".parse().unwrap();
        let data = ValidationData::unpack(word);
        assert_eq!(data, ValidationData { authorizer: Authorizer::Failed, valid_after: 0, valid_until: MAX_UINT48 });
        assert_eq!(data.pack(), word);
        // Kernel 0.3.3 by EIP-7702: zero for forever.
        assert_eq!(ValidationData::unpack(U256::from(1)), data);
    }

    #[test]
    fn each_version_has_its_edge() {
        let data = ValidationData { authorizer: Authorizer::Valid, valid_after: 100, valid_until: 200 };
        for version in EntryPointVersion::ALL {
            let old = version <= EntryPointVersion::V07;
            assert!(!data.holds_at(version, at(99)));
            assert_eq!(data.holds_at(version, at(100)), old);
            assert!(data.holds_at(version, at(101)) && data.holds_at(version, at(200)));
            assert!(!data.holds_at(version, at(201)));
            assert!(ValidationData::VALID.holds_at(version, at(0)));
        }
    }

    #[test]
    fn block_ranges_count_in_09_only() {
        let flag = BLOCK_RANGE_FLAG;
        let data = ValidationData { authorizer: Authorizer::Valid, valid_after: flag | 10, valid_until: flag | 20 };
        let block = |number| BlockTime { timestamp: 1_700_000_000, number };
        assert!(!data.holds_at(EntryPointVersion::V09, block(10)));
        assert!(data.holds_at(EntryPointVersion::V09, block(11)));
        assert!(data.holds_at(EntryPointVersion::V09, block(20)));
        assert!(!data.holds_at(EntryPointVersion::V09, block(21)));
        assert!(!data.holds_at(EntryPointVersion::V08, block(11)));
        // The contract compares with `>`: the bare flag is a time.
        assert!(!ValidationData { valid_after: flag, ..data }.is_block_range());
        // "zero for forever" is above the flag too.
        let forever = ValidationData::unpack(U256::from(flag | 10) << 208);
        assert!(forever.is_block_range() && forever.holds_at(EntryPointVersion::V09, block(1 << 40)));
    }

    #[test]
    fn both_must_agree() {
        let a = ValidationData { authorizer: Authorizer::Valid, valid_after: 5, valid_until: 50 };
        let b = ValidationData { authorizer: Authorizer::Failed, valid_after: 9, valid_until: MAX_UINT48 };
        let both = a.intersect(&b);
        assert_eq!(both, ValidationData { authorizer: Authorizer::Failed, valid_after: 9, valid_until: 50 });
    }

    proptest::proptest! {
        #[test]
        fn roundtrip_validation_data(authorizer: [u8; 20], after in 0..=MAX_UINT48, until in 1..=MAX_UINT48) {
            let word = U256::from_be_bytes(Address::from(authorizer).into_word().0)
                | U256::from(until) << 160 | U256::from(after) << 208;
            proptest::prop_assert_eq!(ValidationData::unpack(word).pack(), word);
        }
    }
}
