//! [`eth_simulateV1`](https://github.com/ethereum/execution-apis/blob/main/src/eth/execute.yaml): bundles as calls of
//! one block, each with its logs.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, Log, U64, hex};
use alloy_transport::TransportError;
use serde::{Deserialize, Serialize};
use x402_evm::chain::node_fault;
use x402_types::Fault;

use super::{Simulated, SimulatedOperation, SimulationRefusal};
use crate::rpc::{RpcEntryPoint, RpcLog};
use crate::{Bundle, Executed};

/// Recognises a node's error for an unknown method: JSON-RPC's own code, EIP-1474's, and the messages of nodes that use
/// neither.
pub(super) fn is_unknown_method(error: &TransportError) -> bool {
    let Some(refusal) = error.as_error_resp() else { return false };
    let message = refusal.message.to_ascii_lowercase();
    let says = ["not found", "not supported", "unsupported", "does not exist", "not available", "not allowed"];
    matches!(refusal.code, -32601 | -32004)
        || message.contains("method") && says.iter().any(|words| message.contains(words))
}

/// Simulates the bundles; returns `None` if the node does not support the method.
pub(super) async fn simulate(chain: &RpcEntryPoint, bundles: &[Bundle]) -> Result<Option<Vec<Simulated>>, Fault> {
    let calls = bundles.iter().map(Call::new).collect();
    let block = Block { calls, state_overrides: delegations(bundles) };
    let payload = Payload { block_state_calls: [block], trace_transfers: false, validation: false };
    let answer: Result<Vec<Answer>, TransportError> = chain.request("eth_simulateV1", (payload, "latest")).await;
    let blocks = match answer {
        Ok(blocks) => blocks,
        Err(error) if is_unknown_method(&error) => return Ok(None),
        Err(error) => return Err(node_fault(error)),
    };
    let [block] = blocks.as_slice() else { return Err(other("another number of blocks")) };
    if block.calls.len() != bundles.len() {
        return Err(other("another number of calls"));
    }
    bundles.iter().zip(&block.calls).map(|(bundle, call)| call.judge(bundle)).collect::<Result<_, _>>().map(Some)
}

fn other(what: &'static str) -> Fault {
    Fault::unreachable("the node", format_args!("eth_simulateV1 answered with {what}"))
}

/// Returns the code of the accounts that delegate in the same transaction: `0xef0100 ‖ delegate`.
pub(super) fn delegations(bundles: &[Bundle]) -> BTreeMap<Address, Override> {
    let all = bundles.iter().flat_map(Bundle::authorizations);
    all.map(|(account, auth)| (*account, Override { code: delegation(auth.address) })).collect()
}

fn delegation(to: Address) -> Bytes {
    [&hex!("ef0100")[..], to.as_slice()].concat().into()
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Payload {
    block_state_calls: [Block; 1],
    trace_transfers: bool,
    validation: bool,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Block {
    calls: Vec<Call>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    state_overrides: BTreeMap<Address, Override>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Override {
    pub(super) code: Bytes,
}

/// A call in the form of `eth_call` and `eth_simulateV1`. It contains no gas limit: some chains charge for the calldata
/// of a call, too, so a limit for Ethereum is not one for them. The operations' own limits apply.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Call {
    pub(super) from: Address,
    pub(super) to: Address,
    pub(super) input: Bytes,
}

impl Call {
    pub(super) fn new(bundle: &Bundle) -> Self {
        Self { from: bundle.payer(), to: bundle.entry_point().address, input: bundle.call_data().clone() }
    }
}

#[derive(Debug, Clone, Deserialize)]
struct Answer {
    calls: Vec<CallAnswer>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CallAnswer {
    status: U64,
    #[serde(default)]
    return_data: Bytes,
    #[serde(default)]
    gas_used: Option<U64>,
    #[serde(default)]
    logs: Vec<RpcLog>,
    #[serde(default)]
    error: Option<CallError>,
}

#[derive(Debug, Clone, Deserialize)]
struct CallError {
    #[serde(default)]
    data: Option<Bytes>,
}

impl CallAnswer {
    fn judge(&self, bundle: &Bundle) -> Result<Simulated, Fault> {
        if self.status != U64::from(1) {
            // geth puts the revert data into the error, other nodes into the return data.
            let data = self.error.as_ref().and_then(|error| error.data.as_ref()).filter(|data| !data.is_empty());
            return Ok(Simulated::Refused(SimulationRefusal::new(data.unwrap_or(&self.return_data).clone())));
        }
        let logs: Vec<Log> = self.logs.iter().map(RpcLog::to_log).collect();
        let executed = Executed::read(bundle.entry_point().address, &logs);
        let hashes: Vec<B256> = executed.iter().map(|op| op.hash).collect();
        if hashes != bundle.hashes() {
            return Err(other("the events of other operations"));
        }
        let trial = |op: Executed| SimulatedOperation {
            hash: op.hash,
            success: op.success,
            revert: op.revert,
            logs: Some(op.logs),
        };
        Ok(Simulated::Executed {
            operations: executed.into_iter().map(trial).collect(),
            gas_used: self.gas_used.map(|gas| gas.to()),
        })
    }
}
