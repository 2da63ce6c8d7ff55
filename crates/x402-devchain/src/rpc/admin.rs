//! The methods of test nodes, under anvil's names.

use alloy_primitives::{Address, B256, Bytes, U64, U256};
use serde_json::{Value, json};

use super::answer;
use super::error::RpcError;
use super::params::Params;
use crate::chain::Core;
use crate::world::Orphans;

pub(crate) fn mine(core: &mut Core, params: &Params<'_>) -> Result<Value, RpcError> {
    if let Some(timestamp) = params.number(0)? {
        set_next_timestamp(core, timestamp)?;
    }
    core.world.mine();
    answer("0x0")
}

/// Handles `anvil_mine(blocks, seconds between them)`.
pub(crate) fn mine_many(core: &mut Core, params: &Params<'_>) -> Result<Value, RpcError> {
    let (blocks, seconds) = (params.number(0)?.unwrap_or(1), params.number(1)?.unwrap_or(0));
    for index in 0..blocks {
        if index > 0 {
            core.world.clock.advance(seconds);
        }
        core.world.mine();
    }
    Ok(Value::Null)
}

pub(crate) fn next_timestamp(core: &mut Core, params: &Params<'_>) -> Result<Value, RpcError> {
    set_next_timestamp(core, params.required_number(0)?)?;
    Ok(Value::Null)
}

fn set_next_timestamp(core: &mut Core, timestamp: u64) -> Result<(), RpcError> {
    let parent = core.world.head().header.timestamp;
    if timestamp < parent {
        return Err(RpcError::params(format!(
            "Timestamp error: {timestamp} is lower than previous block's timestamp {parent}"
        )));
    }
    core.world.clock.set_next(timestamp);
    Ok(())
}

pub(crate) fn increase_time(core: &mut Core, params: &Params<'_>) -> Result<Value, RpcError> {
    let seconds = params.required_number(0)?;
    core.world.clock.advance(seconds);
    Ok(json!(seconds))
}

pub(crate) fn set_time(core: &mut Core, params: &Params<'_>) -> Result<Value, RpcError> {
    core.world.clock.fix(params.required_number(0)?);
    Ok(Value::Null)
}

pub(crate) fn set_code(core: &mut Core, params: &Params<'_>) -> Result<Value, RpcError> {
    let (address, code): (Address, Bytes) = (params.required(0)?, params.required(1)?);
    core.set_code(address, code).map_err(|error| RpcError::params(error.to_string()))?;
    Ok(Value::Null)
}

pub(crate) fn set_balance(core: &mut Core, params: &Params<'_>) -> Result<Value, RpcError> {
    let (address, balance): (Address, U256) = (params.required(0)?, params.required(1)?);
    core.edit(address, |info| info.balance = balance);
    Ok(Value::Null)
}

pub(crate) fn set_nonce(core: &mut Core, params: &Params<'_>) -> Result<Value, RpcError> {
    let address: Address = params.required(0)?;
    let nonce = params.required_number(1)?;
    core.edit(address, |info| info.nonce = nonce);
    Ok(Value::Null)
}

pub(crate) fn set_storage(core: &mut Core, params: &Params<'_>) -> Result<Value, RpcError> {
    let (address, slot): (Address, U256) = (params.required(0)?, params.required(1)?);
    core.set_slot(address, slot, params.required::<B256>(2)?.into());
    Ok(Value::Bool(true))
}

pub(crate) fn set_base_fee(core: &mut Core, params: &Params<'_>) -> Result<Value, RpcError> {
    core.world.next_base_fee = Some(params.required_number(0)?);
    Ok(Value::Null)
}

pub(crate) fn drop_transaction(core: &mut Core, params: &Params<'_>) -> Result<Value, RpcError> {
    let hash: B256 = params.required(0)?;
    answer(core.world.pool.remove(hash).map(|_| hash))
}

/// Handles `anvil_reorg(depth)`: the replaced transactions return to the pool and the new blocks include them.
pub(crate) fn reorg(core: &mut Core, params: &Params<'_>) -> Result<Value, RpcError> {
    let depth = params.required_number(0)?;
    if core.world.reorg(depth, Orphans::Remine) {
        return Ok(Value::Null);
    }
    let head = core.world.head_number();
    Err(RpcError::params(format!("Reorg depth is too large: {depth} blocks on a chain of {head}")))
}

pub(crate) fn automine(core: &mut Core, params: &Params<'_>) -> Result<Value, RpcError> {
    core.automine = params.required(0)?;
    Ok(Value::Null)
}

pub(crate) fn snapshot(core: &mut Core) -> Result<Value, RpcError> {
    answer(U64::from(core.snapshot()))
}

pub(crate) fn revert(core: &mut Core, params: &Params<'_>) -> Result<Value, RpcError> {
    let id = params.required_number(0)?;
    Ok(Value::Bool(core.revert(id)))
}
