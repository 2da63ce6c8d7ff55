//! The content of block 0: the contracts of a table, the accounts with their ETH and tokens.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use alloy_consensus::Header;
use alloy_primitives::{Address, Bytes, U256};
use revm::bytecode::Bytecode;
use revm::context::TxEnv;
use revm::context::result::{ExecutionResult, Output};
use revm::state::{AccountInfo, EvmState};
use serde::Deserialize;

use crate::accounts::{ACCOUNTS, DevAccount};
use crate::builder::ChainBuildError;
use crate::contracts::{CONTRACTS, Code, Contract, Made, creation};
use crate::execute::{Overlay, Rules, run};
use crate::state::{History, StateAt};
use crate::token::{SUPPLY_SLOT, TOKEN, TOKENS_EACH, balance_slot};
use crate::world::BLOCK_GAS_LIMIT;

/// 10,000 ETH in wei.
const WEI_EACH: u128 = 10_000 * 1_000_000_000_000_000_000;

#[derive(Deserialize)]
struct Artifact {
    bytecode: Bytes,
}

/// The contracts, by chain id. Their constructors take some milliseconds, which is too slow to repeat in a process with
/// many chains.
static MADE: Mutex<BTreeMap<u64, History>> = Mutex::new(BTreeMap::new());

/// Builds the state of block 0. The chain id is in the immutables of contracts that sign by EIP-712.
pub(crate) fn state(chain_id: u64) -> Result<History, ChainBuildError> {
    let mut history = contracts(chain_id)?;
    let mut supply = U256::ZERO;
    for account in ACCOUNTS {
        history.write_account(0, account.address, AccountInfo::from_balance(U256::from(WEI_EACH)));
        history.write_slot(0, TOKEN, balance_slot(account.address), U256::from(TOKENS_EACH));
        supply = supply.saturating_add(U256::from(TOKENS_EACH));
    }
    history.write_slot(0, TOKEN, SUPPLY_SLOT, supply);
    Ok(history)
}

fn contracts(chain_id: u64) -> Result<History, ChainBuildError> {
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(history) = made.get(&chain_id) {
        return Ok(history.clone());
    }
    let mut history = History::default();
    for contract in CONTRACTS {
        make(&mut history, chain_id, contract)
            .map_err(|reason| ChainBuildError::Artifact { address: contract.address, reason })?;
    }
    made.insert(chain_id, history.clone());
    Ok(history)
}

fn make(history: &mut History, chain_id: u64, contract: &Contract) -> Result<(), String> {
    let address = contract.address;
    let code: Cow<'_, [u8]> = match contract.code {
        Code::Bytes(code) => code.into(),
        Code::Artifact(artifact) => {
            let artifact: Artifact = serde_json::from_str(artifact).map_err(|error| error.to_string())?;
            artifact.bytecode.to_vec().into()
        }
    };
    match contract.made {
        Made::Placed => {
            let code = Bytecode::new_raw_checked(code.into_owned().into()).map_err(|error| error.to_string())?;
            history.write_account(0, address, AccountInfo::default().with_code(code).with_nonce(1));
        }
        Made::At(arguments) => {
            let changes = construct(history.at(0), chain_id, address, creation(&code, arguments))?;
            history.apply(0, changes);
        }
        Made::Create2 { deployer, salt, arguments } => {
            let input = [salt.as_slice(), &creation(&code, arguments)].concat();
            let mut overlay = Overlay::new(history.at(0));
            let (made, changes) = call(&mut overlay, chain_id, 0, deployer, input.into())?;
            if *made != *address.as_slice() {
                return Err(format!("CREATE2 makes it at {made}"));
            }
            history.apply(0, changes);
        }
    }
    Ok(())
}

/// Runs a constructor at `address`, and returns its changes, among them the contract itself. Existing storage is kept.
pub(crate) fn construct(
    state: StateAt<'_>,
    chain_id: u64,
    address: Address,
    creation: Bytes,
) -> Result<EvmState, String> {
    // Executed as the account's code, creation code returns the runtime code, including immutables.
    let code = Bytecode::new_raw_checked(creation).map_err(|error| error.to_string())?;
    let mut overlay = Overlay::new(state);
    let balance = state.account(address).balance;
    overlay.insert_account_info(address, AccountInfo::from_balance(balance).with_code(code).with_nonce(1));
    let (runtime, mut changes) = call(&mut overlay, chain_id, 0, address, Bytes::new())?;
    let runtime = Bytecode::new_raw_checked(runtime).map_err(|error| error.to_string())?;
    if let Some(account) = changes.get_mut(&address) {
        account.info.set_code(runtime);
    }
    Ok(changes)
}

/// Executes a call from account 0 that costs it neither fee nor nonce.
pub(crate) fn call(
    overlay: &mut Overlay<'_>,
    chain_id: u64,
    timestamp: u64,
    to: Address,
    data: Bytes,
) -> Result<(Bytes, EvmState), String> {
    let [DevAccount { address: caller, .. }, ..] = ACCOUNTS;
    let tx = TxEnv {
        caller,
        kind: to.into(),
        data,
        gas_limit: BLOCK_GAS_LIMIT,
        gas_price: 0,
        chain_id: Some(chain_id),
        ..TxEnv::default()
    };
    let rules = Rules { chain_id, code_size_limit: usize::MAX, number_ahead: 0, surcharge: (0, 0) };
    let block = rules.block_env(&Header { gas_limit: BLOCK_GAS_LIMIT, timestamp, ..Header::default() });
    let outcome = run(overlay, rules.call(), block, tx).map_err(|error| error.to_string())?;
    match outcome.result {
        ExecutionResult::Success { output: Output::Call(output), .. } => {
            let mut changes = outcome.state;
            changes.remove(&caller);
            Ok((output, changes))
        }
        other => Err(format!("it fails: {other:?}")),
    }
}
