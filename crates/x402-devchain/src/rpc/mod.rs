//! [JSON-RPC 2.0](https://www.jsonrpc.org/specification) as nodes implement it: one entry for both transports.

mod admin;
mod call;
mod error;
mod fees;
mod params;
mod read;
mod send;
mod simulate;

use alloy_primitives::U64;
use serde::Serialize;
use serde_json::{Value, json};

use self::error::RpcError;
use self::params::Params;
use crate::chain::Core;
use crate::faults::{Failure, When};

/// The result of a round trip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The body of a JSON-RPC response, or of a malformed one.
    Body(String),
    /// An HTTP status instead of a response.
    Status(u16),
    /// A broken connection.
    Lost,
    /// No response at all.
    Never,
}

/// Handles a request or a batch, and counts both.
pub(crate) fn round_trip(core: &mut Core, body: &[u8]) -> Reply {
    round_trip_behind(core, body, None)
}

/// The same, at a node that is so many blocks behind; `None` leaves that to the faults of the chain.
pub(crate) fn round_trip_behind(core: &mut Core, body: &[u8], behind: Option<u64>) -> Reply {
    core.calls.round_trips = core.calls.round_trips.saturating_add(1);
    let request: Value = match serde_json::from_slice(body) {
        Ok(request) => request,
        Err(_) => return Reply::Body(reply(&Value::Null, Err(RpcError::new(-32700, "parse error"))).to_string()),
    };
    let mut broken = None;
    let of_faults = core.faults.behind();
    let behind = behind.unwrap_or(of_faults);
    core.world.view.hidden = usize::try_from(behind).unwrap_or(usize::MAX);
    let answer = match request {
        Value::Array(members) if members.is_empty() => reply(&Value::Null, Err(RpcError::new(-32600, "empty batch"))),
        // Every member takes effect, even if the response as a whole is then lost.
        Value::Array(members) => Value::Array(members.iter().map(|member| one(core, member, &mut broken)).collect()),
        single => one(core, &single, &mut broken),
    };
    core.world.view.hidden = 0;
    match broken {
        None => {
            let mut body = answer.to_string();
            // White space after the value is not part of it.
            body.push_str(&" ".repeat(core.faults.padded.saturating_sub(body.len())));
            Reply::Body(body)
        }
        Some(Broken::Malformed) => Reply::Body(answer.to_string().chars().rev().collect()),
        Some(Broken::Lost) => Reply::Lost,
        Some(Broken::Never) => Reply::Never,
        Some(Broken::Status(status)) => Reply::Status(status),
    }
}

/// A failure that affects a whole batch.
enum Broken {
    Malformed,
    Lost,
    Never,
    Status(u16),
}

fn one(core: &mut Core, request: &Value, broken: &mut Option<Broken>) -> Value {
    let id = request.get("id").cloned().unwrap_or_default();
    let Some(method) = request.get("method").and_then(Value::as_str) else {
        return reply(&id, Err(RpcError::new(-32600, "invalid request")));
    };
    let none = Vec::new();
    let params = match request.get("params") {
        None | Some(Value::Null) => &none,
        Some(Value::Array(params)) => params,
        Some(_) => return reply(&id, Err(RpcError::params("non-array args"))),
    };
    let count = core.calls.by_method.entry(method.to_owned()).or_default();
    *count = count.saturating_add(1);
    match core.faults.next_failure(method) {
        None => reply(&id, dispatch(core, method, &Params(params))),
        Some((when, failure)) => {
            if when == When::After {
                let _ = dispatch(core, method, &Params(params));
            }
            *broken = match failure {
                Failure::Error { code, message } => return reply(&id, Err(RpcError::new(code, message))),
                Failure::Malformed => Some(Broken::Malformed),
                Failure::Lost => Some(Broken::Lost),
                Failure::Never => Some(Broken::Never),
                Failure::Status(status) => Some(Broken::Status(status)),
            };
            reply(&id, Ok(Value::Null))
        }
    }
}

fn reply(id: &Value, answer: Result<Value, RpcError>) -> Value {
    match answer {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err(error) => json!({ "jsonrpc": "2.0", "id": id, "error": error.to_json() }),
    }
}

fn answer(value: impl Serialize) -> Result<Value, RpcError> {
    Ok(serde_json::to_value(value)?)
}

fn dispatch(core: &mut Core, method: &str, params: &Params<'_>) -> Result<Value, RpcError> {
    // Transactions and the methods of development nodes act on the chain itself.
    if !method.starts_with("eth_") || method.starts_with("eth_sendRawTransaction") {
        core.world.view.hidden = 0;
    }
    let world = &core.world;
    match method {
        "web3_clientVersion" => answer(concat!("x402-devchain/", env!("CARGO_PKG_VERSION"))),
        "net_version" => answer(world.rules.chain_id.to_string()),
        "eth_chainId" => answer(U64::from(world.rules.chain_id)),
        "eth_blockNumber" => answer(U64::from(world.head_number())),
        "eth_syncing" => Ok(Value::Bool(false)),
        "eth_accounts" => Ok(json!([])),
        "eth_getBlockByNumber" => read::block_by_number(world, params),
        "eth_getBlockByHash" => read::block_by_hash(world, params),
        "eth_getBlockReceipts" => read::block_receipts(world, params),
        "eth_getBalance" => read::balance(world, params),
        "eth_getCode" => read::code(world, params),
        "eth_getStorageAt" => read::storage(world, params),
        "eth_getTransactionCount" => read::transaction_count(world, params),
        "eth_getTransactionByHash" => read::transaction(world, params),
        "eth_getTransactionReceipt" => read::receipt(world, params),
        "eth_getLogs" => read::logs(world, params),
        "eth_call" => call::call(world, params),
        "eth_estimateGas" => call::estimate_gas(world, params),
        "eth_simulateV1" => simulate::simulate(world, params),
        "eth_gasPrice" => fees::gas_price(world),
        "eth_maxPriorityFeePerGas" => fees::tip(),
        "eth_feeHistory" => fees::history(world, params),
        "eth_sendRawTransaction" => answer(send::send(core, params)?),
        "eth_sendRawTransactionSync" => send::send_sync(core, params),
        "evm_mine" => admin::mine(core, params),
        "anvil_mine" | "hardhat_mine" => admin::mine_many(core, params),
        "evm_setNextBlockTimestamp" => admin::next_timestamp(core, params),
        "evm_increaseTime" => admin::increase_time(core, params),
        "evm_setTime" | "anvil_setTime" => admin::set_time(core, params),
        "evm_setAutomine" | "anvil_setAutoMine" => admin::automine(core, params),
        "evm_snapshot" | "anvil_snapshot" => admin::snapshot(core),
        "evm_revert" | "anvil_revert" => admin::revert(core, params),
        "anvil_setCode" | "hardhat_setCode" => admin::set_code(core, params),
        "anvil_setBalance" | "hardhat_setBalance" => admin::set_balance(core, params),
        "anvil_setNonce" | "hardhat_setNonce" => admin::set_nonce(core, params),
        "anvil_setStorageAt" | "hardhat_setStorageAt" => admin::set_storage(core, params),
        "anvil_setNextBlockBaseFeePerGas" | "hardhat_setNextBlockBaseFeePerGas" => admin::set_base_fee(core, params),
        "anvil_dropTransaction" | "hardhat_dropTransaction" => admin::drop_transaction(core, params),
        "anvil_reorg" => admin::reorg(core, params),
        other => Err(RpcError::method(other)),
    }
}
