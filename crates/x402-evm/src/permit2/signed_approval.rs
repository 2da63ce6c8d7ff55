//! `erc20ApprovalGasSponsoring`: the payer signs a transaction that approves Permit2, and the facilitator sends it before it
//! settles:
//! [`erc20_gas_sponsoring.md`](https://github.com/coinbase/x402/blob/main/specs/extensions/erc20_gas_sponsoring.md).

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use serde::Deserialize;
use x402_types::{AtomicAmount, ErrorReason, EvmAddress, Members, Rejection};

use super::PERMIT2;
use super::info::{completed, is_version};
use super::message::Permit;
use super::sponsored::ERC20_APPROVAL_GAS_SPONSORING;
use crate::payload;
use crate::signature::recover;
use crate::transaction::{SignedTransaction, Transaction};

/// The selector of `approve(address,uint256)`.
const APPROVE: [u8; 4] = [0x09, 0x5e, 0xa7, 0xb3];
/// The gas of a transaction without its call, and of 68 bytes of calldata none of which is zero.
pub(super) const INTRINSIC_GAS: u64 = 21_000 + 68 * 16;

/// A signed transaction of the payer that approves Permit2 for the asset, decoded and compared with the payment.
///
/// It is a transaction of type 2 on the chain of the payment, without value and access list, whose call is
/// `approve(Permit2, amount)` of the asset with at least the permitted amount, signed by the payer. The chain knows the rest:
/// whether its nonce is the account's next, its fees are enough, and the payer can pay for it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SignedApproval {
    /// The payer, who signed.
    pub from: Address,
    /// The number of the payer's transactions before this one.
    pub nonce: u64,
    /// The maximum price of a unit of gas in wei, tip included.
    pub max_fee_per_gas: u128,
    /// The tip for a unit of gas, in wei.
    pub max_priority_fee_per_gas: u128,
    /// The gas limit of the transaction.
    pub gas_limit: u64,
    /// The allowance that it sets, in atomic units.
    pub amount: U256,
    /// The bytes that are sent.
    pub bytes: Bytes,
}

/// The members of `info` that the payer adds.
#[derive(Deserialize)]
#[serde(expecting = "a JSON object")]
struct Wire {
    from: EvmAddress,
    asset: EvmAddress,
    spender: EvmAddress,
    #[serde(rename = "amount")]
    _amount: AtomicAmount,
    #[serde(rename = "signedTransaction", deserialize_with = "payload::transaction")]
    transaction: Bytes,
    version: String,
}

/// The names of these members.
const MEMBERS: [&str; 6] = ["from", "asset", "spender", "amount", "signedTransaction", "version"];

impl SignedApproval {
    /// Reads the extension of a payment on a chain, and compares each of its members and all of the transaction with the
    /// payment. `None` means that the payer added nothing, or less than all of it.
    /// # Errors
    /// `invalid_erc20_approval_extension_format`, or the code of the part that is not the payment's.
    pub fn read(extensions: &Members, permit: &Permit, chain_id: u64) -> Result<Option<Self>, Rejection> {
        let refuse = |reason, why: String| Err(Rejection::new(reason).because(why));
        let path = |member: &str| format!("extensions.{ERC20_APPROVAL_GAS_SPONSORING}.info.{member}");
        let malformed = ErrorReason::INVALID_ERC20_APPROVAL_EXTENSION_FORMAT;
        let Some(info) = completed(extensions, ERC20_APPROVAL_GAS_SPONSORING, &MEMBERS) else { return Ok(None) };
        let Ok(Wire { from, asset, spender, transaction, version, .. }) = info.read::<Wire>() else {
            let expected = "addresses, strings of decimal digits, and a transaction of at most 512 bytes in hex";
            return refuse(malformed, format!("extensions.{ERC20_APPROVAL_GAS_SPONSORING}.info: expected {expected}"));
        };
        if !is_version(&version) {
            return refuse(malformed, format!("{}: expected numbers with points between them", path("version")));
        }
        let address = |text: EvmAddress| Address::try_from(text).ok();
        if address(from) != Some(permit.from) {
            return refuse(ErrorReason::ERC20_APPROVAL_FROM_MISMATCH, format!("{}: expected the payer", path("from")));
        }
        if address(asset) != Some(permit.token) {
            return refuse(
                ErrorReason::ERC20_APPROVAL_ASSET_MISMATCH,
                format!("{}: expected the asset", path("asset")),
            );
        }
        if address(spender) != Some(PERMIT2) {
            let why = format!("{}: expected {PERMIT2}", path("spender"));
            return refuse(ErrorReason::ERC20_APPROVAL_SPENDER_NOT_PERMIT2, why);
        }
        // The transaction decides on the amount: a client that always writes the maximum approves less, as the SDKs' may.
        Self::decode(transaction, permit, chain_id).map(Some)
    }

    /// Decodes the transaction, and compares all of it with the payment.
    fn decode(bytes: Bytes, permit: &Permit, chain_id: u64) -> Result<Self, Rejection> {
        let refuse = |reason, what: &str| {
            let member = format!("extensions.{ERC20_APPROVAL_GAS_SPONSORING}.info.signedTransaction");
            Err(Rejection::new(reason).because(format!("{member}: expected {what}")))
        };
        let Ok(SignedTransaction { transaction, value, signature }) = SignedTransaction::decode(&bytes) else {
            let what = "a signed transaction of type 2 without an access list, and nothing after it";
            return refuse(ErrorReason::ERC20_APPROVAL_TX_PARSE_FAILED, what);
        };
        let Transaction { chain_id: chain, nonce, max_fee_per_gas, gas_limit, to, ref input, .. } = transaction;
        let max_priority_fee_per_gas = transaction.max_priority_fee_per_gas;
        if chain != chain_id {
            return refuse(ErrorReason::ERC20_APPROVAL_WRONG_CHAIN, &format!("chain {chain_id}"));
        }
        if to != permit.token {
            return refuse(ErrorReason::ERC20_APPROVAL_TX_WRONG_TARGET, "a call of the asset");
        }
        let Some(arguments) = input.strip_prefix(&APPROVE) else {
            return refuse(ErrorReason::ERC20_APPROVAL_TX_WRONG_SELECTOR, "a call of `approve(address,uint256)`");
        };
        let Some((spender, amount)) = arguments.split_first_chunk::<32>() else {
            return refuse(ErrorReason::ERC20_APPROVAL_TX_INVALID_CALLDATA, "two arguments");
        };
        if B256::from(*spender) != PERMIT2.into_word() {
            return refuse(ErrorReason::ERC20_APPROVAL_TX_WRONG_SPENDER, "an approval of Permit2");
        }
        let Ok(amount) = <[u8; 32]>::try_from(amount) else {
            return refuse(ErrorReason::ERC20_APPROVAL_TX_INVALID_CALLDATA, "two arguments, and nothing after them");
        };
        let amount = U256::from_be_bytes(amount);
        if amount < permit.amount.value() {
            let what = format!("an approval of {} at least", permit.amount);
            return refuse(ErrorReason::ERC20_APPROVAL_TX_INVALID_CALLDATA, &what);
        }
        if !value.is_zero() {
            return refuse(ErrorReason::ERC20_APPROVAL_TX_INVALID_CALLDATA, "no value");
        }
        if gas_limit <= INTRINSIC_GAS || max_priority_fee_per_gas > max_fee_per_gas {
            let what = "gas for the call, and a tip that is no more than the maximum fee";
            return refuse(ErrorReason::ERC20_APPROVAL_UNDERPRICED, what);
        }
        match signature.and_then(|signature| recover(transaction.signing_hash(), &signature)) {
            Ok(signer) if signer == permit.from => {}
            Ok(_) => return refuse(ErrorReason::ERC20_APPROVAL_TX_SIGNER_MISMATCH, "the payer's signature"),
            Err(_) => return refuse(ErrorReason::ERC20_APPROVAL_TX_INVALID_SIGNATURE, "a valid signature"),
        }
        let from = permit.from;
        Ok(Self { from, nonce, max_fee_per_gas, max_priority_fee_per_gas, gas_limit, amount, bytes })
    }

    /// Returns the hash of the transaction, by which the chain knows it.
    #[must_use]
    pub fn hash(&self) -> B256 {
        keccak256(&self.bytes)
    }

    /// Returns the most that the transaction can cost the payer, in wei: nodes refuse one of an account that has less.
    #[must_use]
    pub fn most_cost(&self) -> U256 {
        U256::from(self.max_fee_per_gas).saturating_mul(U256::from(self.gas_limit))
    }
}
