//! What the suites share: signing for the token, calling it, reading what an RPC error says.
#![allow(dead_code, reason = "each suite uses its part")]

use alloy_consensus::{SignableTransaction, Signed, TxEip1559, TxEnvelope};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, Bytes, Signature, U256};
use alloy_provider::Provider;
use alloy_rpc_types_eth::{TransactionReceipt, TransactionRequest};
use alloy_signer::SignerSync;
use alloy_sol_types::{Eip712Domain, SolCall, SolStruct, eip712_domain, sol};
use alloy_transport::TransportError;
use serde_json::{Value, json};
use x402_devchain::{ACCOUNTS, DevChain, MiningMode, TOKEN, signer};

sol! {
    #[derive(Debug)]
    struct TransferWithAuthorization { address from; address to; uint256 value; uint256 validAfter; uint256 validBefore; bytes32 nonce; }
    #[derive(Debug)]
    struct ReceiveWithAuthorization { address from; address to; uint256 value; uint256 validAfter; uint256 validBefore; bytes32 nonce; }
    #[derive(Debug)]
    struct CancelAuthorization { address authorizer; bytes32 nonce; }
    #[derive(Debug)]
    struct Permit { address owner; address spender; uint256 value; uint256 nonce; uint256 deadline; }
}

/// Inside the window of the vector: 1740672089 to 1740672154.
pub(crate) const NOW: u64 = 1_740_672_100;

pub(crate) fn domain() -> Eip712Domain {
    eip712_domain! { name: "USDC", version: "2", chain_id: 84532, verifying_contract: TOKEN, }
}

pub(crate) fn sign(account: usize, message: &impl SolStruct) -> Signature {
    signer(account).unwrap().sign_hash_sync(&message.eip712_signing_hash(&domain())).unwrap()
}

pub(crate) fn address(account: usize) -> Address {
    ACCOUNTS[account].address
}

/// A chain whose clock stands at [`NOW`].
pub(crate) fn chain() -> DevChain {
    DevChain::builder().time(NOW).build().unwrap()
}

/// The same, with blocks by hand.
pub(crate) fn by_hand() -> DevChain {
    DevChain::builder().time(NOW).block_time(MiningMode::Manual).build().unwrap()
}

/// What a node says to a transaction that it does not accept.
pub(crate) async fn refusal(chain: &DevChain, bytes: Bytes) -> String {
    error_text(&rpc(chain, "eth_sendRawTransaction", json!([bytes])).await.unwrap_err())
}

pub(crate) fn request(call: &impl SolCall) -> TransactionRequest {
    TransactionRequest::default().to(TOKEN).input(Bytes::from(call.abi_encode()).into())
}

/// `eth_call`, with the text of the error where there is one.
pub(crate) async fn call<C: SolCall>(chain: &DevChain, from: Address, call: C) -> Result<C::Return, String> {
    match chain.provider().call(request(&call).from(from)).await {
        Ok(data) => Ok(C::abi_decode_returns(&data).unwrap()),
        Err(error) => Err(error_text(&error)),
    }
}

pub(crate) async fn send(chain: &DevChain, account: usize, call: impl SolCall) -> TransactionReceipt {
    let wallet = chain.wallet(signer(account).unwrap());
    let pending = wallet.send_transaction(request(&call).gas_limit(200_000)).await.unwrap();
    chain.provider().get_transaction_receipt(*pending.tx_hash()).await.unwrap().unwrap()
}

pub(crate) fn error_text(error: &TransportError) -> String {
    error.as_error_resp().map_or_else(|| format!("no RPC error: {error}"), |payload| payload.message.to_string())
}

pub(crate) async fn rpc(chain: &DevChain, method: &'static str, params: Value) -> Result<Value, TransportError> {
    chain.client().request::<Value, Value>(method, params).await
}

/// The bytes of a transaction that `account` signs.
pub(crate) fn signed<T>(account: usize, tx: T) -> Bytes
where
    T: SignableTransaction<Signature>,
    TxEnvelope: From<Signed<T>>,
{
    let signature = signer(account).unwrap().sign_hash_sync(&tx.signature_hash()).unwrap();
    TxEnvelope::from(tx.into_signed(signature)).encoded_2718().into()
}

/// A transfer of 1 wei to account 9.
pub(crate) fn wei(nonce: u64, max_fee: u128, tip: u128) -> TxEip1559 {
    TxEip1559 {
        chain_id: 84532,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: max_fee,
        max_priority_fee_per_gas: tip,
        to: address(9).into(),
        value: U256::ONE,
        ..Default::default()
    }
}

/// The bytes of [`wei`] signed.
pub(crate) fn raw(account: usize, nonce: u64, max_fee: u128, tip: u128) -> Bytes {
    signed(account, wei(nonce, max_fee, tip))
}

pub(crate) const GWEI: u128 = 1_000_000_000;

/// [`raw`] at 3 gwei, sent.
pub(crate) async fn send_raw(chain: &DevChain, account: usize, nonce: u64) -> B256 {
    let hash = rpc(chain, "eth_sendRawTransaction", json!([raw(account, nonce, 3 * GWEI, GWEI)])).await.unwrap();
    serde_json::from_value(hash).unwrap()
}

/// The number of the block that a transaction is in.
pub(crate) async fn mined_in(chain: &DevChain, hash: B256) -> Option<u64> {
    chain.provider().get_transaction_receipt(hash).await.unwrap().map(|receipt| receipt.block_number.unwrap())
}
