//! Payments, signed before anything is measured: `exact` with EIP-3009 (specs/schemes/exact/scheme_exact_evm.md).

use std::time::{SystemTime, UNIX_EPOCH};

use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;
use alloy_sol_types::{SolStruct, eip712_domain, sol};
use bytes::Bytes;

use crate::anvil::{CHAIN_ID, NETWORK, TOKEN};
use crate::fault::Fallible;

sol! {
    struct TransferWithAuthorization {
        address from;
        address to;
        uint256 value;
        uint256 validAfter;
        uint256 validBefore;
        bytes32 nonce;
    }
}

const PAYERS: usize = 16;
const FIRST_VALUE: u64 = 10_000;

/// A signed payment as the body of `/verify` and `/settle`. Its value is its own within the batch, so that a `Transfer`
/// names it.
#[derive(Clone)]
pub struct Payment {
    pub from: Address,
    pub value: u64,
    pub nonce: B256,
    pub body: Bytes,
}

/// Payments to one recipient, who receives from no other batch.
pub struct Batch {
    pub recipient: Address,
    pub payments: Vec<Payment>,
}

/// A test key by its name. Whoever reads this file has it.
pub fn key(name: &str) -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&keccak256(format!("x402 benches/service {name}"))).expect("a hash is a key")
}

/// The accounts that pay.
pub fn payers() -> Vec<PrivateKeySigner> {
    (0..PAYERS).map(|index| key(&format!("payer {index}"))).collect()
}

impl Batch {
    /// Signs `count` payments. `name` is used once in a run.
    pub fn sign(name: &str, count: usize) -> Fallible<Self> {
        let recipient = key(&format!("recipient of {name}")).address();
        let payers = payers();
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let sign = |index: usize| {
            let value = FIRST_VALUE + index as u64;
            let nonce = keccak256(format!("{name} {index} {now}"));
            payment(&payers[index % PAYERS], recipient, value, nonce, now + 3_000)
        };
        Ok(Self { recipient, payments: (0..count).map(sign).collect::<Fallible<_>>()? })
    }
}

fn payment(payer: &PrivateKeySigner, to: Address, value: u64, nonce: B256, until: u64) -> Fallible<Payment> {
    let from = payer.address();
    let domain = eip712_domain! { name: "USDC", version: "2", chain_id: CHAIN_ID, verifying_contract: TOKEN, };
    let authorization = TransferWithAuthorization {
        from,
        to,
        value: U256::from(value),
        validAfter: U256::ZERO,
        validBefore: U256::from(until),
        nonce,
    };
    let signature = payer.sign_hash_sync(&authorization.eip712_signing_hash(&domain))?;
    let accepted = format!(
        r#"{{"scheme":"exact","network":"{NETWORK}","amount":"{value}","asset":"{TOKEN}","payTo":"{to}","maxTimeoutSeconds":3000,"extra":{{"name":"USDC","version":"2"}}}}"#
    );
    let payload = format!(
        r#"{{"signature":"{signature}","authorization":{{"from":"{from}","to":"{to}","value":"{value}","validAfter":"0","validBefore":"{until}","nonce":"{nonce}"}}}}"#
    );
    let resource = r#"{"url":"https://api.example.com/premium-data","description":"Access to premium data of the market, hourly","mimeType":"application/json"}"#;
    let body = format!(
        r#"{{"x402Version":2,"paymentPayload":{{"x402Version":2,"payload":{payload},"resource":{resource},"accepted":{accepted}}},"paymentRequirements":{accepted}}}"#
    );
    Ok(Payment { from, value, nonce, body: body.into() })
}
