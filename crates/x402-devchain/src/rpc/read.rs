//! Reads blocks, transactions, receipts, logs and accounts.

use alloy_consensus::Transaction;
use alloy_eips::BlockNumberOrTag;
use alloy_primitives::{Address, B256, U64, U256};
use alloy_rpc_types_eth as rpc;
use serde_json::Value;

use super::error::RpcError;
use super::params::{At, Params, numbered};
use super::{answer, call::with_state};
use crate::world::World;

pub(crate) fn block_by_number(world: &World, params: &Params<'_>) -> Result<Value, RpcError> {
    let full = params.optional::<bool>(1)?.unwrap_or(false);
    match numbered(params.required::<BlockNumberOrTag>(0)?, world) {
        Some(At::Number(number)) => answer(world.block(number).map(|block| block.to_rpc(full))),
        Some(At::Pending) => answer(world.draft(world.next_timestamp(), true).block().to_rpc(full)),
        None => Ok(Value::Null),
    }
}

pub(crate) fn block_by_hash(world: &World, params: &Params<'_>) -> Result<Value, RpcError> {
    let full = params.optional::<bool>(1)?.unwrap_or(false);
    let number = world.number_of(params.required::<B256>(0)?);
    answer(number.and_then(|number| world.block(number)).map(|block| block.to_rpc(full)))
}

pub(crate) fn block_receipts(world: &World, params: &Params<'_>) -> Result<Value, RpcError> {
    match params.block(0, world)? {
        At::Number(number) => answer(
            world.block(number).map(|block| block.transactions.iter().map(|mined| &mined.receipt).collect::<Vec<_>>()),
        ),
        At::Pending => Ok(Value::Null),
    }
}

pub(crate) fn balance(world: &World, params: &Params<'_>) -> Result<Value, RpcError> {
    let address: Address = params.required(0)?;
    answer(with_state(world, params.state(1, world)?, |state| state.account(address).balance))
}

pub(crate) fn code(world: &World, params: &Params<'_>) -> Result<Value, RpcError> {
    let address: Address = params.required(0)?;
    answer(with_state(world, params.state(1, world)?, |state| state.code(address)))
}

pub(crate) fn storage(world: &World, params: &Params<'_>) -> Result<Value, RpcError> {
    let (address, slot): (Address, U256) = (params.required(0)?, params.required(1)?);
    answer(B256::from(with_state(world, params.state(2, world)?, |state| state.slot(address, slot))))
}

pub(crate) fn transaction_count(world: &World, params: &Params<'_>) -> Result<Value, RpcError> {
    let address: Address = params.required(0)?;
    answer(U64::from(match params.state(1, world)? {
        At::Number(number) => world.history.at(number).account(address).nonce,
        At::Pending => world.pending_nonce(address),
    }))
}

pub(crate) fn transaction(world: &World, params: &Params<'_>) -> Result<Value, RpcError> {
    let hash: B256 = params.required(0)?;
    if let Some((block, mined)) = world.mined(hash) {
        return answer(block.transaction(mined));
    }
    answer(world.pool.find(hash).map(|pooled| rpc::Transaction {
        effective_gas_price: Some(pooled.tx.max_fee_per_gas()),
        inner: pooled.tx.clone(),
        block_hash: None,
        block_number: None,
        transaction_index: None,
        block_timestamp: None,
    }))
}

pub(crate) fn receipt(world: &World, params: &Params<'_>) -> Result<Value, RpcError> {
    answer(world.mined(params.required(0)?).map(|(_, mined)| &mined.receipt))
}

pub(crate) fn logs(world: &World, params: &Params<'_>) -> Result<Value, RpcError> {
    let filter: rpc::Filter = params.required(0)?;
    let (from, to) = match filter.block_option {
        rpc::FilterBlockOption::AtBlockHash(hash) => {
            let number = world.number_of(hash).ok_or_else(|| RpcError::refused("unknown block"))?;
            (number, number)
        }
        rpc::FilterBlockOption::Range { from_block, to_block } => {
            let bound = |tag: Option<BlockNumberOrTag>| match tag.map(|tag| (tag, numbered(tag, world))) {
                None | Some((_, Some(At::Pending))) => world.head_number(),
                Some((_, Some(At::Number(number)))) => number,
                Some((BlockNumberOrTag::Number(number), None)) => number,
                Some((_, None)) => world.head_number(),
            };
            let (from, to) = (bound(from_block), bound(to_block));
            if from > to {
                return Err(RpcError::params("invalid block range params"));
            }
            if let Some(limit) = &world.view.log_span
                && to.saturating_sub(from) >= limit.most
            {
                return Err(RpcError::new(limit.code, limit.message.clone()));
            }
            (from, to.min(world.head_number().saturating_sub(world.view.log_lag)))
        }
    };
    let logs: Vec<&rpc::Log> = (from..=to)
        .filter_map(|number| world.block(number))
        .filter(|block| filter.matches_bloom(block.header.logs_bloom))
        .flat_map(|block| block.logs())
        .filter(|log| filter.matches_address(log.address()) && filter.matches_topics(log.topics()))
        .collect();
    if let Some(limit) = &world.view.log_count
        && logs.len() > limit.most
    {
        return Err(RpcError::new(limit.code, limit.message.clone()));
    }
    answer(logs)
}
