//! `eth_sendRawTransaction`: the checks before a node accepts a transaction, and the faults afterwards.

use alloy_consensus::transaction::{Recovered, SignerRecoverable};
use alloy_consensus::{SignableTransaction, Transaction, TxEip1559, TxEnvelope, Typed2718};
use alloy_eips::eip2718::Decodable2718;
use alloy_primitives::{Address, B256, Bytes, TxKind, U64, U256};
use alloy_signer::SignerSync;
use revm::DatabaseRef;
use serde_json::{Value, json};

use super::answer;
use super::error::RpcError;
use super::params::Params;
use crate::accounts::signer_of;
use crate::chain::Core;
use crate::execute::tx_env;
use crate::faults::Disturbance;
use crate::world::{BLOCK_GAS_LIMIT, World};

pub(crate) fn send(core: &mut Core, params: &Params<'_>) -> Result<B256, RpcError> {
    let bytes: Bytes = params.required(0)?;
    if bytes.is_empty() {
        return Err(RpcError::refused("typed transaction too short"));
    }
    let mut rest: &[u8] = &bytes;
    let envelope = TxEnvelope::decode_2718(&mut rest).map_err(|error| RpcError::refused(format!("rlp: {error}")))?;
    if !rest.is_empty() {
        return Err(RpcError::refused("rlp: input contains more than one value"));
    }
    let hash = *envelope.tx_hash();
    if core.world.pool.find(hash).is_some() {
        return Err(RpcError::refused("already known"));
    }
    let signer = envelope.recover_signer().map_err(|_| RpcError::refused("invalid sender"))?;
    let tx = Recovered::new_unchecked(envelope, signer);
    check(&core.world, &tx)?;

    let next = core.world.head_number().saturating_add(1);
    let (tx, not_before) = match core.faults.next_disturbance() {
        Some(Disturbance::Drop) => return Ok(hash),
        Some(Disturbance::Delay(blocks)) => (tx, next.saturating_add(blocks)),
        Some(Disturbance::Replace) => (rival(&tx, core.world.rules.chain_id)?, next),
        None => (tx, next),
    };
    core.world.pool.insert(tx, not_before).map_err(|_| RpcError::refused("replacement transaction underpriced"))?;
    if core.automine && core.world.has_ready() {
        core.world.mine();
    }
    Ok(hash)
}

/// Handles `eth_sendRawTransactionSync(bytes, milliseconds)` of [EIP-7966](https://eips.ethereum.org/EIPS/eip-7966). A chain
/// that does not make a block for the transaction lets the time pass at once.
pub(crate) fn send_sync(core: &mut Core, params: &Params<'_>) -> Result<Value, RpcError> {
    let hash = send(core, params)?;
    if core.world.view.false_reports {
        let block = U64::from(core.world.head_number());
        let another = alloy_primitives::keccak256(hash);
        return Ok(json!({ "transactionHash": another, "blockNumber": block, "status": "0x1" }));
    }
    let Some((_, mined)) = core.world.mined(hash) else {
        return Err(RpcError::new(4, "The transaction was added to the mempool but wasn't processed in time"));
    };
    answer(&mined.receipt)
}

/// Performs geth's checks before it adds a transaction to its pool, in geth's order.
fn check(world: &World, tx: &Recovered<TxEnvelope>) -> Result<(), RpcError> {
    if tx.is_eip4844() {
        return Err(RpcError::refused("transaction type not supported"));
    }
    if let Some(have) = tx.chain_id()
        && have != world.rules.chain_id
    {
        return Err(RpcError::refused(format!(
            "invalid chain id for signer: have {have} want {}",
            world.rules.chain_id
        )));
    }
    if tx.gas_limit() > BLOCK_GAS_LIMIT {
        return Err(RpcError::refused("exceeds block gas limit"));
    }
    let (max_fee, tip) = (tx.max_fee_per_gas(), tx.max_priority_fee_per_gas().unwrap_or_default());
    if tip > max_fee {
        return Err(RpcError::refused(format!(
            "max priority fee per gas higher than max fee per gas: maxPriorityFeePerGas: {tip}, maxFeePerGas: {max_fee}"
        )));
    }
    let rules = world.rules.block();
    let gas = rules.gas_params.initial_tx_gas_for_tx(tx_env(tx), None);
    if tx.gas_limit() < gas.initial_regular_gas {
        let (have, want) = (tx.gas_limit(), gas.initial_regular_gas);
        return Err(RpcError::refused(format!("intrinsic gas too low: gas {have}, minimum needed {want}")));
    }
    if tx.gas_limit() < gas.floor_gas {
        let (have, want) = (tx.gas_limit(), gas.floor_gas);
        return Err(RpcError::refused(format!(
            "insufficient gas for floor data gas cost: gas {have}, minimum needed {want}"
        )));
    }
    if tx.gas_limit() > revm::primitives::eip7825::TX_GAS_LIMIT_CAP {
        let (cap, have) = (revm::primitives::eip7825::TX_GAS_LIMIT_CAP, tx.gas_limit());
        return Err(RpcError::refused(format!("transaction gas limit too high (cap: {cap}, tx: {have})")));
    }
    if tx.authorization_list().is_some_and(<[_]>::is_empty) {
        return Err(RpcError::refused("set code tx must have at least one authorization tuple"));
    }
    check_account(world, tx)
}

fn check_account(world: &World, tx: &Recovered<TxEnvelope>) -> Result<(), RpcError> {
    let state = world.latest();
    let account = state.account(tx.signer());
    let Ok(code) = state.code_by_hash_ref(account.code_hash);
    if !code.is_empty() && !code.is_eip7702() {
        return Err(RpcError::refused(format!(
            "sender not an eoa: address {}, codehash: {}",
            tx.signer(),
            account.code_hash
        )));
    }
    if tx.nonce() < account.nonce {
        return Err(RpcError::refused(format!("nonce too low: next nonce {}, tx nonce {}", account.nonce, tx.nonce())));
    }
    let fee = U256::from(tx.gas_limit()).saturating_mul(U256::from(tx.max_fee_per_gas()));
    let cost = fee.saturating_add(tx.value());
    if account.balance < cost {
        return Err(RpcError::refused(format!(
            "insufficient funds for gas * price + value: balance {}, tx cost {cost}, overshot {}",
            account.balance,
            cost.saturating_sub(account.balance)
        )));
    }
    Ok(())
}

/// Creates an empty transaction of the same sender and nonce, at twice the fees.
fn rival(tx: &Recovered<TxEnvelope>, chain_id: u64) -> Result<Recovered<TxEnvelope>, RpcError> {
    let failed = |reason: String| RpcError::internal(format!("cannot replace the transaction: {reason}"));
    let signer = signer_of(tx.signer()).ok_or_else(|| failed(format!("no key of {}", tx.signer())))?;
    let rival = TxEip1559 {
        chain_id,
        nonce: tx.nonce(),
        gas_limit: 21_000,
        max_fee_per_gas: tx.max_fee_per_gas().saturating_mul(2),
        max_priority_fee_per_gas: tx
            .max_priority_fee_per_gas()
            .unwrap_or_else(|| tx.max_fee_per_gas())
            .saturating_mul(2),
        to: TxKind::Call(Address::ZERO),
        value: U256::ZERO,
        ..TxEip1559::default()
    };
    let signature = signer.sign_hash_sync(&rival.signature_hash()).map_err(|error| failed(error.to_string()))?;
    Ok(Recovered::new_unchecked(TxEnvelope::Eip1559(rival.into_signed(signature)), tx.signer()))
}
