//! `eth_call` and `eth_estimateGas`: simulated transactions on the state of any block.

use std::convert::Infallible;

use alloy_consensus::Header;
use alloy_primitives::{Address, B256, Bytes, TxKind, U64, U256};
use alloy_rpc_types_eth::state::{AccountOverride, StateOverride};
use alloy_rpc_types_eth::{BlockOverrides, TransactionInput, TransactionRequest};
use revm::bytecode::Bytecode;
use revm::context::either::Either;
use revm::context::result::{EVMError, ExecutionResult};
use revm::context::{BlockEnv, TxEnv};
use revm::primitives::eip7825;
use revm::{Database, DatabaseCommit};
use serde_json::Value;

use super::answer;
use super::error::RpcError;
use super::params::{At, Params};
use crate::execute::{Overlay, Rules, run};
use crate::world::World;

/// A view of accounts, in a block or in the pending one.
pub(crate) struct Seen<'a>(std::cell::RefCell<Overlay<'a>>);

impl Seen<'_> {
    pub(crate) fn account(&self, address: Address) -> revm::state::AccountInfo {
        let Ok(info) = self.0.borrow_mut().basic(address);
        info.unwrap_or_default()
    }

    pub(crate) fn code(&self, address: Address) -> Bytes {
        let hash = self.account(address).code_hash;
        let Ok(code) = self.0.borrow_mut().code_by_hash(hash);
        code.original_bytes()
    }

    pub(crate) fn slot(&self, address: Address, slot: U256) -> U256 {
        let Ok(value) = self.0.borrow_mut().storage(address, slot);
        value
    }
}

pub(crate) fn with_state<T>(world: &World, at: At, read: impl FnOnce(&Seen<'_>) -> T) -> T {
    read(&Seen(std::cell::RefCell::new(Ground::new(world, at).overlay)))
}

/// A block and the state after it.
pub(crate) struct Ground<'a> {
    pub(crate) overlay: Overlay<'a>,
    pub(crate) header: Header,
    pub(crate) hash: B256,
}

impl<'a> Ground<'a> {
    pub(crate) fn new(world: &'a World, at: At) -> Self {
        match at {
            At::Number(number) => {
                let block = world.block(number).unwrap_or_else(|| world.head());
                let overlay = Overlay::new(world.history.at(number));
                Self { overlay, header: block.header.clone(), hash: block.hash }
            }
            At::Pending => {
                let draft = world.draft(world.next_timestamp(), true);
                let (header, hash) = (draft.block().header.clone(), draft.block().hash);
                let mut overlay = Overlay::new(world.latest());
                for changes in draft.changes {
                    overlay.commit(changes);
                }
                Self { overlay, header, hash }
            }
        }
    }
}

pub(crate) fn call(world: &World, params: &Params<'_>) -> Result<Value, RpcError> {
    let mut prepared = Prepared::new(world, params)?;
    match prepared.run(None)? {
        ExecutionResult::Success { output, .. } => answer(output.into_data()),
        ExecutionResult::Revert { output, .. } => Err(RpcError::reverted(&output)),
        ExecutionResult::Halt { reason, .. } => Err(RpcError::halted(&reason)),
    }
}

/// Estimates the least gas limit with which the transaction succeeds, to within one part in 64.
pub(crate) fn estimate_gas(world: &World, params: &Params<'_>) -> Result<Value, RpcError> {
    let mut prepared = Prepared::new(world, params)?;
    let mut enough = prepared.tx.gas_limit.min(eip7825::TX_GAS_LIMIT_CAP);
    let mut short = match prepared.run(Some(enough))? {
        ExecutionResult::Success { gas, .. } => {
            // The used gas suffices, unless gas was refunded or a call needs a reserve of a 64th or a stipend.
            let spent = gas.total_gas_spent().max(gas.floor_gas());
            for likely in [gas.tx_gas_used(), spent.saturating_add(2_300).saturating_mul(64).div_ceil(63)] {
                if likely < enough && prepared.succeeds(likely)? {
                    enough = likely;
                    break;
                }
            }
            gas.tx_gas_used().saturating_sub(1)
        }
        ExecutionResult::Revert { output, .. } => return Err(RpcError::reverted(&output)),
        ExecutionResult::Halt { reason, .. } => return Err(RpcError::halted(&reason)),
    };
    while enough.saturating_sub(short) > enough.div_euclid(64).max(1) {
        let middle = short.midpoint(enough);
        if prepared.succeeds(middle)? { enough = middle } else { short = middle }
    }
    answer(U64::from(enough))
}

/// A call that can be executed repeatedly.
struct Prepared<'a> {
    overlay: Overlay<'a>,
    rules: Rules,
    block: BlockEnv,
    tx: TxEnv,
}

impl<'a> Prepared<'a> {
    /// Parses the parameters: transaction, block, state overrides, block overrides.
    fn new(world: &'a World, params: &Params<'_>) -> Result<Self, RpcError> {
        let request: TransactionRequest = params.required(0)?;
        // A call on a block runs inside that block, as in geth.
        let Ground { mut overlay, header, .. } = Ground::new(world, params.state(1, world)?);
        let mut block = world.rules.block_env(&header);
        block.timestamp = world.view.call_time.map_or(block.timestamp, U256::from);
        for (address, account) in params.optional::<StateOverride>(2)?.unwrap_or_default() {
            override_account(&mut overlay, address, account)?;
        }
        override_block(&mut overlay, &mut block, params.optional::<BlockOverrides>(3)?.unwrap_or_default());
        let mut tx = tx_env(request, world.rules.chain_id, &mut block)?;
        tx.gas_limit = world.view.call_gas.map_or(tx.gas_limit, |most| tx.gas_limit.min(most));
        Ok(Self { overlay, rules: world.rules, block, tx })
    }

    fn run(&mut self, gas_limit: Option<u64>) -> Result<ExecutionResult, RpcError> {
        let mut tx = self.tx.clone();
        tx.gas_limit = gas_limit.unwrap_or(tx.gas_limit);
        let sender = tx.caller;
        self.execute(tx).map_err(|error| RpcError::invalid(error, sender))
    }

    fn execute(&mut self, tx: TxEnv) -> Result<ExecutionResult, EVMError<Infallible>> {
        run(&mut self.overlay, self.rules.call(), self.block.clone(), tx).map(|outcome| outcome.result)
    }

    fn succeeds(&mut self, gas_limit: u64) -> Result<bool, RpcError> {
        let mut tx = self.tx.clone();
        tx.gas_limit = gas_limit;
        let sender = tx.caller;
        match self.execute(tx) {
            Ok(result) => Ok(result.is_success()),
            // A limit below the intrinsic gas is too low like any other.
            Err(EVMError::Transaction(
                revm::context::result::InvalidTransaction::CallGasCostMoreThanGasLimit { .. }
                | revm::context::result::InvalidTransaction::GasFloorMoreThanGasLimit { .. },
            )) => Ok(false),
            Err(error) => Err(RpcError::invalid(error, sender)),
        }
    }
}

/// Checks that a request does not contradict itself, and moves its data to `input`.
pub(crate) fn consistent(mut request: TransactionRequest, chain_id: u64) -> Result<TransactionRequest, RpcError> {
    if let Some(have) = request.chain_id
        && have != chain_id
    {
        return Err(RpcError::refused(format!("chainId does not match node's (have={have}, want={chain_id})")));
    }
    if request.gas_price.is_some() && (request.max_fee_per_gas.is_some() || request.max_priority_fee_per_gas.is_some())
    {
        return Err(RpcError::params("both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified"));
    }
    if request.has_eip4844_blob_data() {
        return Err(RpcError::params("blob transactions are not supported"));
    }
    let data = match (request.input.input, request.input.data) {
        (Some(input), Some(data)) if input != data => {
            return Err(RpcError::params(r#"both "data" and "input" are set and not equal"#));
        }
        (input, data) => input.or(data),
    };
    request.input = TransactionInput { input: data, data: None };
    Ok(request)
}

fn tx_env(request: TransactionRequest, chain_id: u64, block: &mut BlockEnv) -> Result<TxEnv, RpcError> {
    let request = consistent(request, chain_id)?;
    let max_fee = request.gas_price.or(request.max_fee_per_gas);
    if max_fee.is_none_or(|fee| fee == 0) {
        // A call that offers no fee runs in a block without a base fee, as in geth.
        block.basefee = 0;
    }
    let authorization_list: Vec<_> =
        request.authorization_list.unwrap_or_default().into_iter().map(Either::Left).collect();
    let access_list = request.access_list.unwrap_or_default();
    let gas_priority_fee = request.max_fee_per_gas.map(|_| request.max_priority_fee_per_gas.unwrap_or_default());
    let tx_type = match () {
        () if !authorization_list.is_empty() => 4,
        () if gas_priority_fee.is_some() => 2,
        () if !access_list.0.is_empty() => 1,
        () => 0,
    };
    Ok(TxEnv {
        tx_type,
        caller: request.from.unwrap_or_default(),
        gas_limit: request.gas.unwrap_or(block.gas_limit).min(block.gas_limit),
        gas_price: max_fee.unwrap_or_default(),
        kind: request.to.unwrap_or(TxKind::Create),
        value: request.value.unwrap_or_default(),
        data: request.input.input.unwrap_or_default(),
        nonce: request.nonce.unwrap_or_default(),
        chain_id: Some(chain_id),
        access_list,
        gas_priority_fee,
        blob_hashes: Vec::new(),
        max_fee_per_blob_gas: 0,
        authorization_list,
    })
}

pub(crate) fn override_account(
    overlay: &mut Overlay<'_>,
    address: Address,
    account: AccountOverride,
) -> Result<(), RpcError> {
    let AccountOverride { balance, nonce, code, state, state_diff, move_precompile_to } = account;
    if move_precompile_to.is_some() {
        return Err(RpcError::params("movePrecompileToAddress is not supported"));
    }
    let Ok(info) = overlay.basic(address);
    let mut info = info.unwrap_or_default();
    info.balance = balance.unwrap_or(info.balance);
    info.nonce = nonce.unwrap_or(info.nonce);
    if let Some(code) = code {
        let code = Bytecode::new_raw_checked(code).map_err(|error| RpcError::params(error.to_string()))?;
        info.code_hash = code.hash_slow();
        info.code = Some(code);
    }
    overlay.insert_account_info(address, info);
    let word = |(slot, value): (B256, B256)| (U256::from_be_bytes(slot.0), U256::from_be_bytes(value.0));
    match (state, state_diff) {
        (Some(_), Some(_)) => {
            return Err(RpcError::params(format!("account {address} has both 'state' and 'stateDiff'")));
        }
        (Some(state), None) => {
            let Ok(()) = overlay.replace_account_storage(address, state.into_iter().map(word).collect());
        }
        (None, diff) => {
            for (slot, value) in diff.into_iter().flatten().map(word) {
                let Ok(()) = overlay.insert_account_storage(address, slot, value);
            }
        }
    }
    Ok(())
}

pub(crate) fn override_block(overlay: &mut Overlay<'_>, block: &mut BlockEnv, overrides: BlockOverrides) {
    block.number = overrides.number.unwrap_or(block.number);
    block.timestamp = overrides.time.map_or(block.timestamp, U256::from);
    block.gas_limit = overrides.gas_limit.unwrap_or(block.gas_limit);
    block.beneficiary = overrides.coinbase.unwrap_or(block.beneficiary);
    block.prevrandao = overrides.random.or(block.prevrandao);
    if let Some(fee) = overrides.base_fee {
        block.basefee = u64::try_from(fee).unwrap_or(u64::MAX);
    }
    if let (Some(fee), Some(blobs)) = (overrides.blob_base_fee, &mut block.blob_excess_gas_and_price) {
        blobs.blob_gasprice = u128::try_from(fee).unwrap_or(u128::MAX);
    }
    let hashes = overrides.block_hash.into_iter().flatten();
    overlay.cache.block_hashes.extend(hashes.map(|(number, hash)| (U256::from(number), hash)));
}
