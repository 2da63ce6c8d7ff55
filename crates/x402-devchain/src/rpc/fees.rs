//! Fee suggestions for transactions.

use alloy_consensus::Transaction;
use alloy_eips::BlockNumberOrTag;
use alloy_primitives::{U64, U128};
use alloy_rpc_types_eth::FeeHistory;
use serde_json::Value;

use super::answer;
use super::error::RpcError;
use super::params::{At, Params, numbered};
use crate::block::Block;
use crate::world::{LEAST_BASE_FEE, World};

/// The tip that the node suggests, in wei.
const TIP: u64 = LEAST_BASE_FEE;

/// geth's limit for `eth_feeHistory`.
const MOST_BLOCKS: u64 = 1024;

pub(crate) fn gas_price(world: &World) -> Result<Value, RpcError> {
    answer(U64::from(world.upcoming_base_fee().saturating_add(TIP)))
}

pub(crate) fn tip() -> Result<Value, RpcError> {
    answer(U128::from(TIP))
}

pub(crate) fn history(world: &World, params: &Params<'_>) -> Result<Value, RpcError> {
    let wanted = params.required_number(0)?.min(MOST_BLOCKS);
    let newest = match numbered(params.required::<BlockNumberOrTag>(1)?, world) {
        Some(At::Number(number)) => number,
        Some(At::Pending) => world.head_number(),
        None => return Err(RpcError::refused("request beyond head block")),
    };
    let percentiles: Option<Vec<f64>> = params.optional(2)?;
    if percentiles.iter().flatten().any(|percentile| !(0.0..=100.0).contains(percentile)) {
        return Err(RpcError::refused("invalid reward percentile"));
    }
    let oldest = newest.saturating_add(1).saturating_sub(wanted);
    let blocks: Vec<_> = (oldest..=newest).filter_map(|number| world.block(number)).collect();
    let next =
        world.block(newest.saturating_add(1)).map_or_else(|| world.upcoming_base_fee(), |block| block.base_fee());
    answer(FeeHistory {
        base_fee_per_gas: blocks.iter().map(|block| block.base_fee()).chain([next]).map(u128::from).collect(),
        gas_used_ratio: blocks.iter().map(|block| ratio(block.header.gas_used, block.header.gas_limit)).collect(),
        base_fee_per_blob_gas: vec![1; blocks.len().saturating_add(1)],
        blob_gas_used_ratio: vec![0.0; blocks.len()],
        oldest_block: oldest,
        reward: percentiles.map(|percentiles| blocks.iter().map(|block| rewards(block, &percentiles)).collect()),
    })
}

/// Returns the tips that were paid, by percentile of gas used.
fn rewards(block: &Block, percentiles: &[f64]) -> Vec<u128> {
    let mut paid: Vec<(u128, u64)> = block
        .transactions
        .iter()
        .map(|mined| (mined.tx.effective_tip_per_gas(block.base_fee()).unwrap_or_default(), mined.receipt.gas_used))
        .collect();
    paid.sort_unstable();
    let reward = |percentile: &f64| {
        let mut below = 0_u64;
        let reached = paid.iter().find(|(_, gas)| {
            below = below.saturating_add(*gas);
            ratio(below, block.header.gas_used) * 100.0 >= *percentile
        });
        reached.or_else(|| paid.last()).map(|(tip, _)| *tip).unwrap_or_default()
    };
    percentiles.iter().map(reward).collect()
}

#[expect(clippy::cast_precision_loss, reason = "gas of a block is far below 2^53")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
