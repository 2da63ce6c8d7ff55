//! `eip2612GasSponsoring`: the payer signs the allowance of Permit2 by [EIP-2612](https://eips.ethereum.org/EIPS/eip-2612), and
//! the proxy hands it to the token before it settles:
//! [`eip2612_gas_sponsoring.md`](https://github.com/coinbase/x402/blob/main/specs/extensions/eip2612_gas_sponsoring.md).
//! And what a seller declares of `erc20ApprovalGasSponsoring`.

use alloy_primitives::{Address, B256, Bytes, U256, b256};
use serde::Deserialize;
use x402_types::extension::{Extension, Required};
use x402_types::{AtomicAmount, ErrorReason, EvmAddress, Members, RawJson, Rejection};

use super::PERMIT2;
use super::info::{completed, is_version};
use super::message::Permit;
use crate::eip712::{DomainSeparator, Words};
use crate::payload;

/// The key of the extension in `extensions`.
pub const EIP2612_GAS_SPONSORING: &str = "eip2612GasSponsoring";

/// The key of `erc20ApprovalGasSponsoring` in `extensions`.
pub const ERC20_APPROVAL_GAS_SPONSORING: &str = "erc20ApprovalGasSponsoring";

/// The hash `keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)")`.
const PERMIT_TYPE: B256 = b256!("0x6e71edae12b1b97f4d1f60370fef10105fa2faae0126114a169c64845d6126c9");

/// The message of EIP-2612 that a payer signs under the token's domain: an allowance of Permit2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PermittedAllowance {
    /// The payer, who owns the tokens.
    pub owner: Address,
    /// The allowance in atomic units: exactly the permitted amount.
    pub value: U256,
    /// The number of the owner's permits before this one, which the token counts.
    pub nonce: U256,
    /// The last second in which a block may use the permit.
    pub deadline: U256,
}

impl PermittedAllowance {
    /// Computes the EIP-712 digest that the payer signs.
    #[must_use]
    pub fn digest(&self, domain: DomainSeparator) -> B256 {
        let words = Words::<6>::new()
            .word(0, PERMIT_TYPE)
            .address(1, self.owner)
            .address(2, PERMIT2)
            .number(3, self.value)
            .number(4, self.nonce)
            .number(5, self.deadline);
        domain.digest(words.hash())
    }
}

/// A signed permit of EIP-2612 for Permit2, as the extension carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SponsoredPermit {
    /// The message that was signed.
    pub allowance: PermittedAllowance,
    /// The 65 bytes of the signature.
    pub signature: [u8; 65],
}

/// The members of `info` that the payer adds.
#[derive(Deserialize)]
#[serde(expecting = "a JSON object")]
struct Wire {
    from: EvmAddress,
    asset: EvmAddress,
    spender: EvmAddress,
    amount: AtomicAmount,
    nonce: AtomicAmount,
    deadline: AtomicAmount,
    #[serde(deserialize_with = "payload::signature")]
    signature: Bytes,
    version: String,
}

/// The names of these members.
const MEMBERS: [&str; 8] = ["from", "asset", "spender", "amount", "nonce", "deadline", "signature", "version"];

impl SponsoredPermit {
    /// Reads the extension of a payment, and compares each of its members with the payment's own permit. `None` means that
    /// the payer added nothing, or less than all of it: the declaration is echoed where the allowance suffices.
    /// # Errors
    /// `invalid_eip2612_extension_format` or the code of the member that is not the payment's.
    pub fn read(extensions: &Members, permit: &Permit) -> Result<Option<Self>, Rejection> {
        let refuse = |reason, why: String| Err(Rejection::new(reason).because(why));
        let path = |member: &str| format!("extensions.{EIP2612_GAS_SPONSORING}.info.{member}");
        let malformed = ErrorReason::INVALID_EIP2612_EXTENSION_FORMAT;
        let Some(info) = completed(extensions, EIP2612_GAS_SPONSORING, &MEMBERS) else { return Ok(None) };
        let Ok(Wire { from, asset, spender, amount, nonce, deadline, signature, version }) = info.read::<Wire>() else {
            let expected = "addresses, strings of decimal digits, and a signature of 65 bytes in hex";
            return refuse(malformed, format!("extensions.{EIP2612_GAS_SPONSORING}.info: expected {expected}"));
        };
        if !is_version(&version) {
            return refuse(malformed, format!("{}: expected numbers with points between them", path("version")));
        }
        let Ok(signature) = <[u8; 65]>::try_from(&signature[..]) else {
            return refuse(malformed, format!("{}: expected 65 bytes", path("signature")));
        };
        let address = |text: EvmAddress| Address::try_from(text).ok();
        if address(from) != Some(permit.from) {
            return refuse(ErrorReason::EIP2612_FROM_MISMATCH, format!("{}: expected the payer", path("from")));
        }
        if address(asset) != Some(permit.token) {
            return refuse(ErrorReason::EIP2612_ASSET_MISMATCH, format!("{}: expected the asset", path("asset")));
        }
        if address(spender) != Some(PERMIT2) {
            return refuse(
                ErrorReason::EIP2612_SPENDER_NOT_PERMIT2,
                format!("{}: expected {PERMIT2}", path("spender")),
            );
        }
        // The proxy reverts if the two differ.
        if amount != permit.amount {
            let why = format!("{}: expected the permitted amount, {}", path("amount"), permit.amount);
            return refuse(ErrorReason::PERMIT2_2612_AMOUNT_MISMATCH, why);
        }
        let (value, nonce, deadline) = (amount.value(), nonce.value(), deadline.value());
        Ok(Some(Self { allowance: PermittedAllowance { owner: permit.from, value, nonce, deadline }, signature }))
    }
}

/// The declaration of the extension: a seller's, that permits of EIP-2612 may be sent along, and a facilitator's, that it
/// hands them to the proxy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Eip2612GasSponsoring;

impl Extension for Eip2612GasSponsoring {
    fn name(&self) -> &str {
        EIP2612_GAS_SPONSORING
    }

    /// Declares the extension where one of the offers is paid by Permit2 in a token whose domain the offer names.
    fn declare(&self, required: &Required<'_>) -> Option<RawJson> {
        let sponsored = required.offers.iter().any(|offer| {
            let extra = &offer.terms.extra;
            extra.text("assetTransferMethod").as_deref() == Some("permit2")
                && extra.get("name").is_some()
                && extra.get("version").is_some()
        });
        if sponsored { RawJson::parse(DECLARATION.to_owned()).ok() } else { None }
    }
}

/// The declaration as the document and the SDKs have it.
const DECLARATION: &str = r#"{"info":{"description":"The facilitator accepts EIP-2612 gasless Permit to `Permit2` canonical contract.","version":"1"},"schema":{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","properties":{"from":{"type":"string","pattern":"^0x[a-fA-F0-9]{40}$","description":"The address of the sender."},"asset":{"type":"string","pattern":"^0x[a-fA-F0-9]{40}$","description":"The address of the ERC-20 token contract."},"spender":{"type":"string","pattern":"^0x[a-fA-F0-9]{40}$","description":"The address of the spender (Canonical Permit2)."},"amount":{"type":"string","pattern":"^[0-9]+$","description":"The amount to approve (uint256). Typically MaxUint."},"nonce":{"type":"string","pattern":"^[0-9]+$","description":"The current nonce of the sender."},"deadline":{"type":"string","pattern":"^[0-9]+$","description":"The timestamp at which the signature expires."},"signature":{"type":"string","pattern":"^0x[a-fA-F0-9]+$","description":"The 65-byte concatenated signature (r, s, v) as a hex string."},"version":{"type":"string","pattern":"^[0-9]+(\\.[0-9]+)*$","description":"Schema version identifier."}},"required":["from","asset","spender","amount","nonce","deadline","signature","version"]}}"#;

/// The declaration of the extension: a seller's, that signed approvals may be sent along, and a facilitator's, that it sends
/// them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Erc20ApprovalGasSponsoring;

impl Extension for Erc20ApprovalGasSponsoring {
    fn name(&self) -> &str {
        ERC20_APPROVAL_GAS_SPONSORING
    }

    /// Declares the extension where one of the offers is paid by Permit2.
    fn declare(&self, required: &Required<'_>) -> Option<RawJson> {
        let permit2 = |extra: &Members| extra.text("assetTransferMethod").as_deref() == Some("permit2");
        let sponsored = required.offers.iter().any(|offer| permit2(&offer.terms.extra));
        if sponsored { RawJson::parse(APPROVAL_DECLARATION.to_owned()).ok() } else { None }
    }
}

/// The declaration as the document and the SDKs have it.
const APPROVAL_DECLARATION: &str = r#"{"info":{"description":"The facilitator broadcasts a pre-signed ERC-20 approve() transaction to grant Permit2 allowance.","version":"1"},"schema":{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","properties":{"from":{"type":"string","pattern":"^0x[a-fA-F0-9]{40}$","description":"The address of the sender (token owner)."},"asset":{"type":"string","pattern":"^0x[a-fA-F0-9]{40}$","description":"The address of the ERC-20 token contract."},"spender":{"type":"string","pattern":"^0x[a-fA-F0-9]{40}$","description":"The address of the spender (Canonical Permit2)."},"amount":{"type":"string","pattern":"^[0-9]+$","description":"The amount approved (uint256). Always MaxUint256."},"signedTransaction":{"type":"string","pattern":"^0x[a-fA-F0-9]+$","description":"The RLP-encoded signed EIP-1559 transaction as a hex string."},"version":{"type":"string","pattern":"^[0-9]+(\\.[0-9]+)*$","description":"Schema version identifier."}},"required":["from","asset","spender","amount","signedTransaction","version"]}}"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_is_the_hash_of_its_text() {
        let text = "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)";
        assert_eq!(PERMIT_TYPE, alloy_primitives::keccak256(text));
    }
}
