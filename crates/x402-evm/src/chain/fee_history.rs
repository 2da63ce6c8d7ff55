//! The tips that recent blocks were paid:
//! [`eth_feeHistory`](https://ethereum.github.io/execution-apis/docs/reference/eth_feehistory).

use alloy_primitives::{U64, U128};
use serde::Deserialize;

/// The number of blocks whose tips are read.
const BLOCKS: u64 = 10;
/// The percentile of a block's gas whose tip counts: half of the gas paid less.
const PERCENTILE: u8 = 50;

/// The parameters of the call: the number of blocks, the newest of them, and the percentiles.
pub(super) type Question = (U64, &'static str, [u8; 1]);

/// Returns the parameters for the newest blocks.
pub(super) fn question() -> Question {
    (U64::from(BLOCKS), "latest", [PERCENTILE])
}

/// The relevant members of the answer.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct FeeHistory {
    /// The tips by block and percentile, in wei.
    #[serde(default)]
    reward: Option<Vec<Vec<U128>>>,
}

impl FeeHistory {
    /// Returns the median of the tips that recent blocks were paid, in wei. A block without transactions, or with those of
    /// its own producer alone, reports 0 and does not count; `None` if there is no other.
    pub(super) fn tip(&self) -> Option<u128> {
        let blocks = usize::try_from(BLOCKS).unwrap_or(usize::MAX);
        let first = |tips: &Vec<U128>| tips.first().map(|tip| tip.to::<u128>());
        let mut tips: Vec<u128> =
            self.reward.iter().flatten().take(blocks).filter_map(first).filter(|tip| *tip > 0).collect();
        tips.sort_unstable();
        tips.get(tips.len() / 2).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tip(answer: &str) -> Option<u128> {
        serde_json::from_str::<FeeHistory>(answer).unwrap().tip()
    }

    /// The form of the answer is that of the example in the execution APIs' repository,
    /// `tests/eth_feeHistory/fee-history.io`.
    #[test]
    fn the_tip_is_the_median_of_the_blocks_that_were_paid_one() {
        let example = r#"{"oldestBlock":"0x2b","reward":[["0x1"]],"baseFeePerGas":["0x2b9d6d4","0x263fee6"],
            "gasUsedRatio":[0.0210084],"baseFeePerBlobGas":["0x1","0x1"],"blobGasUsedRatio":[0]}"#;
        assert_eq!(tip(example), Some(1));
        assert_eq!(tip(r#"{"reward":[["0x5"],["0x0"],["0x3"],["0x0"],["0x9"]]}"#), Some(5));
        assert_eq!(tip(r#"{"reward":[["0x5"],["0x9"]]}"#), Some(9));
    }

    #[test]
    fn empty_blocks_and_absent_tips_are_no_tip() {
        for answer in [r#"{"reward":[["0x0"],["0x0"]]}"#, r#"{"reward":[[],[]]}"#, r#"{"reward":null}"#, "{}"] {
            assert_eq!(tip(answer), None, "{answer}");
        }
    }
}
