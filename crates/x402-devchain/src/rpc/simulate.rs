//! [`eth_simulateV1`](https://ethereum.github.io/execution-apis/ethsimulatev1-notes): calls in blocks of their own,
//! each on the state that the previous one left. All effects are discarded.

use alloy_consensus::transaction::Recovered;
use alloy_consensus::{Header, SignableTransaction, Transaction, TxEnvelope};
use alloy_primitives::{B256, Bytes, Signature, TxKind, U256};
use alloy_rpc_types_eth::simulate::{
    MAX_SIMULATE_BLOCKS, SimBlock, SimCallResult, SimulateError, SimulatePayload, SimulatedBlock,
};
use alloy_rpc_types_eth::{BlockOverrides, TransactionRequest};
use revm::context::result::ExecutionResult;
use revm::{Database, DatabaseCommit};
use serde_json::Value;

use super::answer;
use super::call::{Ground, consistent, override_account, override_block};
use super::error::RpcError;
use super::params::Params;
use crate::block::{Block, Ran, next_header, seal};
use crate::execute::{Rules, run, tx_env};
use crate::world::{World, base_fee_after};

/// The seconds between two blocks without explicit times: geth's constant, whatever the network.
const BLOCK_SECONDS: u64 = 12;

/// Simulates blocks. The parameters are the blocks with their calls, and the block on which the first is built.
pub(crate) fn simulate(world: &World, params: &Params<'_>) -> Result<Value, RpcError> {
    let payload: SimulatePayload = params.required(0)?;
    if payload.block_state_calls.is_empty() {
        return Err(RpcError::params("empty input"));
    }
    if payload.trace_transfers {
        return Err(RpcError::params("traceTransfers is not supported"));
    }
    let ground = Ground::new(world, params.state(1, world)?);
    let blocks = in_order(&ground.header, payload.block_state_calls)?;
    let mut simulation = Simulation { ground, rules: world.rules, validation: payload.validation };
    let mut answers = Vec::with_capacity(blocks.len());
    for block in blocks {
        let (block, calls) = simulation.block(block)?;
        answers.push(SimulatedBlock { inner: block.to_rpc(payload.return_full_transactions), calls });
    }
    answer(answers)
}

/// Completes every block with its number and time. "If the block number is increased more than `1` compared to the
/// previous block, new empty blocks are generated in between."
fn in_order(base: &Header, blocks: Vec<SimBlock>) -> Result<Vec<SimBlock>, RpcError> {
    let (mut number, mut time) = (base.number, base.timestamp);
    let mut ordered = Vec::with_capacity(blocks.len());
    for block in blocks {
        let overrides = block.block_overrides.unwrap_or_default();
        let wanted = overrides.number.unwrap_or_else(|| U256::from(number.saturating_add(1)));
        if wanted <= U256::from(number) {
            return Err(RpcError::new(-38020, format!("block numbers must be in order: {wanted} <= {number}")));
        }
        if wanted > U256::from(base.number.saturating_add(MAX_SIMULATE_BLOCKS)) {
            return Err(RpcError::new(-38026, "too many blocks"));
        }
        while wanted > U256::from(number.saturating_add(1)) {
            (number, time) = (number.saturating_add(1), time.saturating_add(BLOCK_SECONDS));
            ordered.push(placed(SimBlock::default(), BlockOverrides::default(), time));
        }
        number = number.saturating_add(1);
        let next = overrides.time.unwrap_or_else(|| time.saturating_add(BLOCK_SECONDS));
        if next <= time {
            return Err(RpcError::new(-38021, format!("block timestamps must be in order: {next} <= {time}")));
        }
        time = next;
        ordered.push(placed(SimBlock { block_overrides: None, ..block }, overrides, time));
    }
    Ok(ordered)
}

fn placed(block: SimBlock, overrides: BlockOverrides, time: u64) -> SimBlock {
    SimBlock { block_overrides: Some(BlockOverrides { time: Some(time), ..overrides }), ..block }
}

/// The state after the blocks simulated so far.
struct Simulation<'a> {
    ground: Ground<'a>,
    rules: Rules,
    validation: bool,
}

impl Simulation<'_> {
    fn block(&mut self, asked: SimBlock) -> Result<(Block, Vec<SimCallResult>), RpcError> {
        let overrides = asked.block_overrides.unwrap_or_default();
        // "When validation mode is false, the baseFeePerGas is set to zero."
        let base_fee = if self.validation { base_fee_after(&self.ground.header) } else { 0 };
        let time = overrides.time.unwrap_or_default();
        let mut header = Header {
            extra_data: Bytes::new(),
            parent_beacon_block_root: Some(overrides.beacon_root.unwrap_or_default()),
            ..next_header(&self.ground.header, self.ground.hash, time, base_fee, 0)
        };
        let mut env = self.rules.block_env(&header);
        env.prevrandao = Some(B256::ZERO);
        override_block(&mut self.ground.overlay, &mut env, overrides);
        header.gas_limit = env.gas_limit;
        header.beneficiary = env.beneficiary;
        header.base_fee_per_gas = Some(env.basefee);
        header.mix_hash = env.prevrandao.unwrap_or_default();
        for (address, account) in asked.state_overrides.unwrap_or_default() {
            override_account(&mut self.ground.overlay, address, account)?;
        }

        let mut gas_used = 0_u64;
        let (mut ran, mut calls) = (Vec::with_capacity(asked.calls.len()), Vec::with_capacity(asked.calls.len()));
        for request in asked.calls {
            let tx = self.transaction(request, env.gas_limit.saturating_sub(gas_used))?;
            let needed = gas_used.saturating_add(tx.gas_limit());
            if needed > env.gas_limit {
                let text = format!("block gas limit reached: {needed} > {}", env.gas_limit);
                return Err(RpcError::new(-38015, text));
            }
            let mut rules = self.rules.simulation();
            if !self.validation {
                rules.disable_nonce_check = true;
                // An explicit fee must meet an override of the base fee; without a fee the call is free.
                rules.disable_base_fee = tx.max_fee_per_gas() == 0;
            }
            let outcome = run(&mut self.ground.overlay, rules, env.clone(), tx_env(&tx))
                .map_err(|error| RpcError::not_simulated(error, tx.signer()))?;
            self.ground.overlay.commit(outcome.state);
            gas_used = gas_used.saturating_add(outcome.result.tx_gas_used());
            calls.push(call_result(&outcome.result));
            ran.push(Ran { tx, result: outcome.result });
        }

        let block = seal(header, ran);
        for (call, mined) in calls.iter_mut().zip(&block.transactions) {
            call.logs = mined.receipt.inner.logs().to_vec();
        }
        self.ground.overlay.cache.block_hashes.insert(U256::from(block.header.number), block.hash);
        self.ground.header = block.header.clone();
        self.ground.hash = block.hash;
        Ok((block, calls))
    }

    /// Converts a call with the defaults of the notes to a transaction with an empty signature.
    fn transaction(&mut self, request: TransactionRequest, gas_left: u64) -> Result<Recovered<TxEnvelope>, RpcError> {
        let mut request = consistent(request, self.rules.chain_id)?;
        let from = request.from.unwrap_or_default();
        let Ok(account) = self.ground.overlay.basic(from);
        request.chain_id = Some(self.rules.chain_id);
        request.nonce = request.nonce.or_else(|| Some(account.unwrap_or_default().nonce));
        request.gas = request.gas.or(Some(gas_left));
        request.to = request.to.or(Some(TxKind::Create));
        if request.authorization_list.is_some()
            && let Some(price) = request.gas_price.take()
        {
            // The type that carries authorizations has no single price.
            (request.max_fee_per_gas, request.max_priority_fee_per_gas) = (Some(price), Some(price));
        }
        if request.gas_price.is_none() {
            request.max_fee_per_gas = request.max_fee_per_gas.or(Some(0));
            request.max_priority_fee_per_gas = request.max_priority_fee_per_gas.or(Some(0));
        }
        let tx = request.build_consensus_tx().map_err(|error| RpcError::params(error.error))?;
        let unsigned = Signature::new(U256::ZERO, U256::ZERO, false);
        Ok(Recovered::new_unchecked(tx.into_signed(unsigned).into(), from))
    }
}

/// Returns the result of a call without its logs, which lack the hash of their block until it is sealed.
fn call_result(result: &ExecutionResult) -> SimCallResult {
    let error = match result {
        ExecutionResult::Success { .. } => None,
        ExecutionResult::Revert { output, .. } => Some(SimulateError {
            code: SimulateError::EXECUTION_REVERTED_CODE,
            message: RpcError::reverted(output).message(),
            data: Some(output.clone()),
        }),
        ExecutionResult::Halt { reason, .. } => Some(SimulateError {
            code: SimulateError::VM_EXECUTION_ERROR_CODE,
            message: RpcError::halted(reason).message(),
            data: None,
        }),
    };
    let gas = result.gas();
    SimCallResult {
        // The output of a revert is the error's data.
        return_data: if result.is_success() { result.output().cloned().unwrap_or_default() } else { Bytes::new() },
        logs: Vec::new(),
        gas_used: gas.tx_gas_used(),
        max_used_gas: Some(gas.total_gas_spent().max(gas.floor_gas())),
        status: result.is_success(),
        error,
    }
}
