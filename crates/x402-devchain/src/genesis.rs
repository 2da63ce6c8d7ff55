//! What stands in block 0: the contracts of a table, the accounts with their ETH and tokens.

use alloy_primitives::{Address, Bytes, U256};
use revm::bytecode::Bytecode;
use revm::state::AccountInfo;
use serde::Deserialize;

use crate::accounts::ACCOUNTS;
use crate::builder::BuildError;
use crate::state::History;
use crate::token::{SUPPLY_SLOT, TOKEN, TOKENS_EACH, balance_slot};

/// A contract whose runtime code genesis puts at an address; it runs no constructor, so the code has no immutables.
struct Contract {
    address: Address,
    artifact: &'static str,
}

const CONTRACTS: [Contract; 1] =
    [Contract { address: TOKEN, artifact: include_str!("../contracts/artifacts/DevUsdc.json") }];

/// 10,000 ETH in wei.
const WEI_EACH: u128 = 10_000 * 1_000_000_000_000_000_000;

#[derive(Deserialize)]
struct Artifact {
    #[serde(rename = "deployedBytecode")]
    deployed_bytecode: Bytes,
}

/// The state of block 0.
pub(crate) fn state() -> Result<History, BuildError> {
    let mut history = History::default();
    for Contract { address, artifact } in CONTRACTS {
        let damaged = |reason| BuildError::Artifact { address, reason };
        let artifact: Artifact = serde_json::from_str(artifact).map_err(|error| damaged(error.to_string()))?;
        let code = Bytecode::new_raw_checked(artifact.deployed_bytecode).map_err(|error| damaged(error.to_string()))?;
        history.write_account(0, address, AccountInfo::default().with_code(code).with_nonce(1));
    }
    let mut supply = U256::ZERO;
    for account in ACCOUNTS {
        history.write_account(0, account.address, AccountInfo::from_balance(U256::from(WEI_EACH)));
        history.write_slot(0, TOKEN, balance_slot(account.address), U256::from(TOKENS_EACH));
        supply = supply.saturating_add(U256::from(TOKENS_EACH));
    }
    history.write_slot(0, TOKEN, SUPPLY_SLOT, supply);
    Ok(history)
}
