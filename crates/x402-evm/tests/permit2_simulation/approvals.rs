//! Approvals of Permit2 that payers sign for others to send, good ones and those that come to nothing.

use alloy_consensus::transaction::RlpEcdsaEncodableTx;
use alloy_consensus::{SignableTransaction, TxEip1559};
use alloy_primitives::{Address, Bytes, TxKind, U256, hex};
use alloy_signer::SignerSync;
use serde_json::json;
use x402_devchain::signer;
use x402_evm::permit2::sponsored::ERC20_APPROVAL_GAS_SPONSORING;
use x402_evm::permit2::{PERMIT2, approve_call};
use x402_types::{Claim, Members, RawJson};

use crate::payments::CHAIN;
use crate::world::World;

/// What is wrong with an approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    None,
    Nonce,
    Price,
    Funds,
    Gas,
    Spender,
    Target,
    Chain,
}

impl Flaw {
    pub const ALL: [Self; 7] =
        [Self::Nonce, Self::Price, Self::Funds, Self::Gas, Self::Spender, Self::Target, Self::Chain];
}

/// A payer's signed approval.
#[derive(Debug, Clone)]
pub struct Approval {
    pub payer: Address,
    pub token: Address,
    pub needed: U256,
    pub transaction: TxEip1559,
}

/// Signs a payer's first transaction: an approval of the amount, with a flaw.
pub fn sign(world: &World, payer: usize, token: Address, needed: u64, flaw: Flaw) -> Bytes {
    let by = signer(payer).unwrap();
    let spender = if flaw == Flaw::Spender { Address::repeat_byte(0x66) } else { PERMIT2 };
    let transaction = TxEip1559 {
        chain_id: if flaw == Flaw::Chain { 1 } else { CHAIN },
        nonce: u64::from(flaw == Flaw::Nonce),
        max_priority_fee_per_gas: if flaw == Flaw::Price { 1 } else { 1_000_000 },
        max_fee_per_gas: match flaw {
            Flaw::Price => 1,
            Flaw::Funds => u128::MAX / 1_000_000,
            _ => 900_000_000_000,
        },
        gas_limit: if flaw == Flaw::Gas { 30_000 } else { 70_000 },
        to: TxKind::Call(if flaw == Flaw::Target { Address::repeat_byte(0x67) } else { token }),
        value: U256::ZERO,
        access_list: Default::default(),
        input: approve_call(spender, U256::from(needed)),
    };
    let mut bytes = Vec::new();
    transaction.eip2718_encode(&by.sign_hash_sync(&transaction.signature_hash()).unwrap(), &mut bytes);
    let bytes = Bytes::from(bytes);
    let approval = Approval { payer: by.address(), token, needed: U256::from(needed), transaction };
    world.with(|inner| inner.approvals.insert(bytes.clone(), approval));
    bytes
}

/// The claim with the approval beside it, as the extension carries it.
pub fn beside(claim: Claim, payer: Address, token: Address, amount: u64, signed: &Bytes) -> Claim {
    let info = json!({
        "version": "1", "from": payer.to_string(), "asset": token.to_string(), "spender": PERMIT2.to_string(),
        "amount": amount.to_string(), "signedTransaction": hex::encode_prefixed(signed),
    });
    let mut extensions = Members::new();
    extensions.insert(ERC20_APPROVAL_GAS_SPONSORING, RawJson::of(&json!({ "info": info })).unwrap());
    claim.with_extensions(extensions)
}

/// The signed bytes that a claim brings.
pub fn of_claim(claim: &Claim) -> Option<Bytes> {
    let entry: serde_json::Value = claim.extensions.get(ERC20_APPROVAL_GAS_SPONSORING)?.read().ok()?;
    entry["info"]["signedTransaction"].as_str()?.parse().ok()
}
