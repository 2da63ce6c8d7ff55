//! Simulation by [state override](https://geth.ethereum.org/docs/interacting-with-geth/rpc/objects#state-override-set),
//! for nodes without `eth_simulateV1`.
//!
//! `eth_call` of `handleOps` shows the refusals of validation and hides the revert data of execution, because there are
//! no logs. Therefore a second call is made to the EntryPoint with its code replaced: the new code treats an operation as the
//! EntryPoint does (deploy, validate, execute) and returns the outcome of each execution. That code is branch-free
//! ([`BatchRead`]) and generated for these operations; no deployed contract is needed.
//!
//! The first call validates all operations before any is executed, including those of a later bundle. Paymasters are
//! called only in the first call.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::{SolCall, sol};
use alloy_transport::TransportError;
use x402_evm::chain::{BatchRead, node_fault};
use x402_types::Fault;

use super::v1::{Call, Override, delegations};
use super::{Simulated, SimulatedOperation, SimulationRefusal};
use crate::contract::{execute_user_op, validate_user_op};
use crate::rpc::RpcEntryPoint;
use crate::user_operation::EIP7702_MARKER;
use crate::{Bundle, PackedUserOperation, Revert};

sol! {
    function createSender(bytes initCode) external returns (address sender);
    function initEip7702Sender(address sender, bytes initCallData) external;
}

/// The number of words of revert data that are kept.
const REVERT_WORDS: u16 = 16;
/// The maximum size of the generated code, whose positions are encoded in two bytes.
const MAX_PROGRAM: usize = 60_000;

pub(super) async fn simulate(chain: &RpcEntryPoint, bundles: &[Bundle]) -> Result<Vec<Simulated>, Fault> {
    let mut refused: BTreeMap<usize, SimulationRefusal> = BTreeMap::new();
    // A refused bundle leaves no effect: the later ones are simulated again without it.
    let live = loop {
        let live: Vec<(usize, &Bundle)> =
            bundles.iter().enumerate().filter(|(at, _)| !refused.contains_key(at)).collect();
        match validate(chain, &live).await? {
            None => break live,
            Some((at, why)) => refused.insert(at, why),
        };
    };
    let executed = execute(chain, &live).await?;
    let mut executed = executed.into_iter();
    let answer = |at| match refused.remove(&at) {
        Some(why) => Some(Simulated::Refused(why)),
        None => executed.next().map(|operations| Simulated::Executed { operations, gas_used: None }),
    };
    let answers: Option<Vec<Simulated>> = (0..bundles.len()).map(answer).collect();
    answers.ok_or_else(|| Fault::broken("a bundle without an answer"))
}

/// Validates all operations with the real EntryPoint. Returns the bundle that it refuses, if any.
async fn validate(
    chain: &RpcEntryPoint,
    live: &[(usize, &Bundle)],
) -> Result<Option<(usize, SimulationRefusal)>, Fault> {
    let Some((_, first)) = live.first() else { return Ok(None) };
    let ops: Vec<PackedUserOperation> = live.iter().flat_map(|(_, bundle)| bundle.operations()).cloned().collect();
    let input = PackedUserOperation::handle_ops(&ops, first.payer());
    let call = Call { input, ..Call::new(first) };
    let answer: Result<Bytes, TransportError> = chain.request("eth_call", (call, "latest", delegations_of(live))).await;
    let why = match answer {
        Ok(_) => return Ok(None),
        Err(error) => SimulationRefusal::new(reverted(&error).ok_or_else(|| node_fault(error))?),
    };
    if let [(at, _)] = live {
        return Ok(Some((*at, why)));
    }
    let mut index = why.index().ok_or_else(|| Fault::unreachable("the node", &why))?;
    for (at, bundle) in live {
        if index < bundle.operations().len() {
            return Ok(Some((*at, why.at(index))));
        }
        index = index.saturating_sub(bundle.operations().len());
    }
    Err(Fault::unreachable("the node", "handleOps names an operation that it was not given"))
}

fn delegations_of(live: &[(usize, &Bundle)]) -> BTreeMap<Address, Override> {
    let bundles: Vec<Bundle> = live.iter().map(|(_, bundle)| (*bundle).clone()).collect();
    delegations(&bundles)
}

/// Executes the steps of the EntryPoint from its address.
async fn execute(chain: &RpcEntryPoint, live: &[(usize, &Bundle)]) -> Result<Vec<Vec<SimulatedOperation>>, Fault> {
    let Some((_, first)) = live.first() else { return Ok(Vec::new()) };
    let mut reads = BatchRead::new();
    // The calls in the batch that must succeed, and those that are the executions.
    let (mut must, mut ends) = (Vec::new(), Vec::new());
    let mut calls = 0usize;
    for (_, bundle) in live {
        let creator = sender_creator(bundle.entry_point().address);
        for (op, hash) in bundle.operations().iter().zip(bundle.hashes()) {
            let gas = gas(op.account_gas_limits.get(..16));
            for (to, data) in deploy(creator, op).into_iter().chain([(op.sender, validate_user_op(op, *hash))]) {
                reads = reads.call(to, data, gas, 1);
                must.push(calls);
                calls = calls.saturating_add(1);
            }
        }
        for (op, hash) in bundle.operations().iter().zip(bundle.hashes()) {
            let gas = gas(op.account_gas_limits.get(16..));
            reads = reads.call(op.sender, execute_user_op(op, *hash), gas, REVERT_WORDS);
            ends.push(calls);
            calls = calls.saturating_add(1);
        }
    }
    let code = reads.code();
    if code.len() > MAX_PROGRAM {
        return Err(Fault::unreachable("the node", "without eth_simulateV1, so long a bundle cannot be simulated"));
    }
    let entry_point = first.entry_point().address;
    let call = Call { input: Bytes::new(), ..Call::new(first) };
    let mut overrides = delegations_of(live);
    overrides.insert(entry_point, Override { code });
    let returned: Bytes = chain.request("eth_call", (call, "latest", overrides)).await.map_err(node_fault)?;
    let answers = reads.answers(&returned);
    let answers = answers.ok_or_else(|| Fault::unreachable("the node", "the override was not applied"))?;
    if must.iter().any(|at| !answers.calls.get(*at).is_some_and(|answer| answer.success)) {
        return Err(Fault::unreachable("the node", "a validation that handleOps passes fails by itself"));
    }
    let mut ends = ends.into_iter().filter_map(|at| answers.calls.get(at));
    let mut trial = |hash: &B256| {
        let end = ends.next()?;
        let revert = (!end.success && !end.data.is_empty()).then(|| Revert::new(end.data.clone()));
        Some(SimulatedOperation { hash: *hash, success: end.success, revert, logs: None })
    };
    let trials: Option<Vec<Vec<SimulatedOperation>>> =
        live.iter().map(|(_, bundle)| bundle.hashes().iter().map(&mut trial).collect()).collect();
    trials.ok_or_else(|| Fault::broken("an operation without an answer"))
}

/// Returns the caller of the factories: the first contract that the EntryPoint's constructor created.
fn sender_creator(entry_point: Address) -> Address {
    entry_point.create(1)
}

fn deploy(creator: Address, op: &PackedUserOperation) -> Option<(Address, Bytes)> {
    let (factory, data) = op.init_code.split_first_chunk::<20>()?;
    if Address::from(factory) != EIP7702_MARKER {
        return Some((creator, createSenderCall { initCode: op.init_code.clone() }.abi_encode().into()));
    }
    let call = initEip7702SenderCall { sender: op.sender, initCallData: Bytes::copy_from_slice(data) };
    (!data.is_empty()).then(|| (creator, call.abi_encode().into()))
}

fn gas(half: Option<&[u8]>) -> u32 {
    U256::from_be_slice(half.unwrap_or_default()).saturating_to()
}

/// Extracts the revert data from a node's error; some nodes report a revert without data.
fn reverted(error: &TransportError) -> Option<Bytes> {
    let refusal = error.as_error_resp()?;
    let says = refusal.code == 3 || refusal.message.to_ascii_lowercase().contains("revert");
    says.then(|| refusal.as_revert_data().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EntryPointVersion;
    use alloy_primitives::address;

    /// Checks the address against that of the canonical deployments, as bundlers know it.
    #[test]
    fn the_sender_creator_is_the_entry_point_s_first_contract() {
        for (version, creator) in [
            (EntryPointVersion::V07, address!("EFC2c1444eBCC4Db75e7613d20C6a62fF67A167C")),
            (EntryPointVersion::V08, address!("449ED7C3e6Fee6a97311d4b55475DF59C44AdD33")),
        ] {
            assert_eq!(sender_creator(version.address()), creator);
        }
    }
}
