//! The message that a payer signs, `PermitWitnessTransferFrom`, with the witness of
//! [`scheme_exact_evm.md`](https://github.com/coinbase/x402/blob/main/specs/schemes/exact/scheme_exact_evm.md) §2 or of
//! [`scheme_upto_evm.md`](https://github.com/coinbase/x402/blob/main/specs/schemes/upto/scheme_upto_evm.md).

use alloy_primitives::{Address, B256, U256, b256};
use x402_types::{AtomicAmount, AuthorizationKind, ChainId, PaymentKey};

use super::{EXACT_PROXY, PERMIT2, UPTO_PROXY};
use crate::eip712::{DomainSeparator, Words};

/// The hash `keccak256("Witness(address to,uint256 validAfter)")`.
pub const EXACT_WITNESS_TYPE: B256 = b256!("0xd97b3239a7f32295517bd14cb074edfdd188dfe5eb42f802bb26d4fd1eb12c37");
/// The hash `keccak256("Witness(address to,address facilitator,uint256 validAfter)")`.
pub const UPTO_WITNESS_TYPE: B256 = b256!("0xd4171c445a74218b01d4fd8af34ff1106580ea1e36ff837e64484bfaa2253b75");
/// The hash `keccak256("TokenPermissions(address token,uint256 amount)")`.
const TOKEN_PERMISSIONS_TYPE: B256 = b256!("0x618358ac3db8dc274f0cd8829da7e234bd48cd73c4a740aede1adec9846d06a1");
/// The hashes of `PermitWitnessTransferFrom`, whose text contains the witness: that of `exact`, and that of `upto`.
pub const PERMIT_TYPE: [B256; 2] = [
    b256!("0xebc156cd23678a74c94df13d772ef5478420637f0c94bd10d509e1dc98f521c7"),
    b256!("0x51dff6974ad4388c499e7fcfe838d2bd767162553a144098ce20ea661d70c2ee"),
];

/// A permit for one payment: what the payer signs, with the payer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Permit {
    /// The payer, whose allowance for Permit2 is used.
    pub from: Address,
    /// `permitted.token`: the token of the payment.
    pub token: Address,
    /// `permitted.amount`: the amount in atomic units, for `upto` the maximum.
    pub amount: AtomicAmount,
    /// The contract that may use the permit: one of the two proxies.
    pub spender: Address,
    /// A nonce that the payer chooses; Permit2 keeps a bit for each, and sets it when the permit is used.
    pub nonce: U256,
    /// The last second in which a block may use the permit.
    pub deadline: U256,
    /// The part of the message that the proxy enforces.
    pub witness: Witness,
}

/// The conditions that the proxy enforces, beyond those of Permit2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Witness {
    /// The recipient of the payment.
    pub to: Address,
    /// The only account that may settle it, which the scheme `upto` names; `None` for `exact`.
    pub facilitator: Option<Address>,
    /// The first second in which a block may use the permit.
    pub valid_after: U256,
}

impl Witness {
    /// Computes the hash of the struct.
    #[must_use]
    pub fn hash(&self) -> B256 {
        match self.facilitator {
            None => {
                Words::<3>::new().word(0, EXACT_WITNESS_TYPE).address(1, self.to).number(2, self.valid_after).hash()
            }
            Some(facilitator) => Words::<4>::new()
                .word(0, UPTO_WITNESS_TYPE)
                .address(1, self.to)
                .address(2, facilitator)
                .number(3, self.valid_after)
                .hash(),
        }
    }

    /// Returns the proxy that enforces a witness of this form.
    #[must_use]
    pub const fn proxy(&self) -> Address {
        match self.facilitator {
            None => EXACT_PROXY,
            Some(_) => UPTO_PROXY,
        }
    }
}

impl Permit {
    /// Computes the hash of the struct.
    #[must_use]
    pub fn struct_hash(&self) -> B256 {
        let [exact, upto] = PERMIT_TYPE;
        let permitted =
            Words::<3>::new().word(0, TOKEN_PERMISSIONS_TYPE).address(1, self.token).number(2, self.amount.value());
        Words::<6>::new()
            .word(0, if self.witness.facilitator.is_some() { upto } else { exact })
            .word(1, permitted.hash())
            .address(2, self.spender)
            .number(3, self.nonce)
            .number(4, self.deadline)
            .word(5, self.witness.hash())
            .hash()
    }

    /// Computes the EIP-712 digest that the payer signs, in the [`domain`] of Permit2.
    #[must_use]
    pub fn digest(&self, domain: DomainSeparator) -> B256 {
        domain.digest(self.struct_hash())
    }

    /// Derives the authorization's identity: Permit2 burns (payer, nonce), whatever else was signed, for any scheme, and
    /// in whichever spelling of the signature.
    #[must_use]
    pub fn key(&self, network: ChainId) -> PaymentKey {
        key(network, self.from, self.nonce)
    }
}

pub(super) fn key(network: ChainId, payer: Address, nonce: U256) -> PaymentKey {
    let nonce = nonce.to_be_bytes::<32>();
    PaymentKey::new(AuthorizationKind::Permit2, network, PERMIT2.as_slice(), payer.as_slice(), &nonce)
}

/// Computes the domain separator of Permit2 on a chain. Its domain has no version.
#[must_use]
pub fn domain(chain_id: u64) -> DomainSeparator {
    DomainSeparator::without_version("Permit2", chain_id, PERMIT2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::keccak256;

    #[test]
    fn constants_are_the_hashes_of_their_texts() {
        let permissions = "TokenPermissions(address token,uint256 amount)";
        let witnesses =
            ["Witness(address to,uint256 validAfter)", "Witness(address to,address facilitator,uint256 validAfter)"];
        assert_eq!(TOKEN_PERMISSIONS_TYPE, keccak256(permissions));
        assert_eq!([EXACT_WITNESS_TYPE, UPTO_WITNESS_TYPE], witnesses.map(keccak256));
        let permit = "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,Witness witness)";
        assert_eq!(PERMIT_TYPE, witnesses.map(|witness| keccak256(format!("{permit}{permissions}{witness}"))));
    }
}
