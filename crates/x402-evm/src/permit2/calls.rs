//! The calls of the proxies, of Permit2 and of a token's allowance: `scheme_exact_evm.md` §2 "Phase 4: Settlement",
//! `scheme_upto_evm.md` "Phase 4".

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::SolCall;
use x402_types::AtomicAmount;

use super::message::{Permit, Witness};
use super::sponsored::SponsoredPermit;

mod abi {
    alloy_sol_types::sol! {
        struct TokenPermissions { address token; uint256 amount; }
        struct PermitTransferFrom { TokenPermissions permitted; uint256 nonce; uint256 deadline; }
        struct EIP2612Permit { uint256 value; uint256 deadline; bytes32 r; bytes32 s; uint8 v; }

        interface ExactProxy {
            struct Witness { address to; uint256 validAfter; }
            function settle(PermitTransferFrom permit, address owner, Witness witness, bytes signature) external;
            function settleWithPermit(EIP2612Permit permit2612, PermitTransferFrom permit, address owner, Witness witness, bytes signature) external;
        }

        interface UptoProxy {
            struct Witness { address to; address facilitator; uint256 validAfter; }
            function settle(PermitTransferFrom permit, uint256 amount, address owner, Witness witness, bytes signature) external;
            function settleWithPermit(EIP2612Permit permit2612, PermitTransferFrom permit, uint256 amount, address owner, Witness witness, bytes signature) external;
        }

        interface Permit2 {
            function nonceBitmap(address owner, uint256 word) external view returns (uint256);
        }

        interface Erc20 {
            function allowance(address owner, address spender) external view returns (uint256);
            function approve(address spender, uint256 value) external returns (bool);
            function transferFrom(address from, address to, uint256 value) external returns (bool);
            function nonces(address owner) external view returns (uint256);
        }
    }
}

/// A permit of [EIP-2612](https://eips.ethereum.org/EIPS/eip-2612) for Permit2, which a proxy hands to the token before
/// it settles. Its owner is the payer, and its spender Permit2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Eip2612Permit {
    /// The allowance that it sets.
    pub value: U256,
    /// The last second in which a block may use it.
    pub deadline: U256,
    /// `r` of the signature.
    pub r: B256,
    /// `s` of the signature.
    pub s: B256,
    /// `v` of the signature.
    pub v: u8,
}

impl From<&SponsoredPermit> for Eip2612Permit {
    fn from(SponsoredPermit { allowance, signature }: &SponsoredPermit) -> Self {
        let [rs @ .., v] = signature;
        let (r, s) = rs.split_at(32);
        let (r, s) = (B256::from_slice(r), B256::from_slice(s));
        Self { value: allowance.value, deadline: allowance.deadline, r, s, v: *v }
    }
}

/// The call of a proxy that settles a payment: the call that is simulated, sent, and recognised on the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettleCall {
    /// The permit. Its spender is the proxy that is called.
    pub authorization: Permit,
    /// The amount to settle: the permitted one for `exact`, at most that for `upto`.
    pub amount: AtomicAmount,
    /// The payer's signature of the permit.
    pub signature: Bytes,
    /// The permit that gives Permit2 its allowance before.
    pub permit2612: Option<Eip2612Permit>,
}

impl SettleCall {
    /// Encodes the call of the proxy that enforces the witness.
    #[must_use]
    pub fn call(&self) -> Bytes {
        let Permit { from: owner, token, amount: permitted, nonce, deadline, witness, .. } = self.authorization;
        let permitted = abi::TokenPermissions { token, amount: permitted.value() };
        let permit = abi::PermitTransferFrom { permitted, nonce, deadline };
        let (amount, signature) = (self.amount.value(), self.signature.clone());
        let permit2612 = self.permit2612.map(abi::EIP2612Permit::from);
        let Witness { to, facilitator, valid_after } = witness;
        match (facilitator, permit2612) {
            (None, None) => {
                let witness = abi::ExactProxy::Witness { to, validAfter: valid_after };
                abi::ExactProxy::settleCall { permit, owner, witness, signature }.abi_encode()
            }
            (None, Some(permit2612)) => {
                let witness = abi::ExactProxy::Witness { to, validAfter: valid_after };
                abi::ExactProxy::settleWithPermitCall { permit2612, permit, owner, witness, signature }.abi_encode()
            }
            (Some(facilitator), None) => {
                let witness = abi::UptoProxy::Witness { to, facilitator, validAfter: valid_after };
                abi::UptoProxy::settleCall { permit, amount, owner, witness, signature }.abi_encode()
            }
            (Some(facilitator), Some(permit2612)) => {
                let witness = abi::UptoProxy::Witness { to, facilitator, validAfter: valid_after };
                abi::UptoProxy::settleWithPermitCall { permit2612, permit, amount, owner, witness, signature }
                    .abi_encode()
            }
        }
        .into()
    }

    /// Decodes the call of a proxy, by either function. Bytes after the arguments, such as a suffix that attributes the
    /// transaction, are ignored as the proxy ignores them.
    #[must_use]
    pub fn of_call(data: &[u8]) -> Option<Self> {
        let selector = *data.first_chunk::<4>()?;
        match selector {
            abi::ExactProxy::settleCall::SELECTOR => {
                let call = abi::ExactProxy::settleCall::abi_decode(data).ok()?;
                Some(Self::exact(call.permit, call.owner, &call.witness, call.signature, None))
            }
            abi::ExactProxy::settleWithPermitCall::SELECTOR => {
                let call = abi::ExactProxy::settleWithPermitCall::abi_decode(data).ok()?;
                Some(Self::exact(call.permit, call.owner, &call.witness, call.signature, Some(call.permit2612)))
            }
            abi::UptoProxy::settleCall::SELECTOR => {
                let call = abi::UptoProxy::settleCall::abi_decode(data).ok()?;
                Some(Self::upto(call.permit, call.amount, call.owner, &call.witness, call.signature, None))
            }
            abi::UptoProxy::settleWithPermitCall::SELECTOR => {
                let call = abi::UptoProxy::settleWithPermitCall::abi_decode(data).ok()?;
                let permit2612 = Some(call.permit2612);
                Some(Self::upto(call.permit, call.amount, call.owner, &call.witness, call.signature, permit2612))
            }
            _ => None,
        }
    }

    fn exact(
        permit: abi::PermitTransferFrom,
        owner: Address,
        witness: &abi::ExactProxy::Witness,
        signature: Bytes,
        permit2612: Option<abi::EIP2612Permit>,
    ) -> Self {
        let witness = Witness { to: witness.to, facilitator: None, valid_after: witness.validAfter };
        let amount = permit.permitted.amount;
        Self::of(&permit, amount, owner, witness, signature, permit2612)
    }

    fn upto(
        permit: abi::PermitTransferFrom,
        amount: U256,
        owner: Address,
        witness: &abi::UptoProxy::Witness,
        signature: Bytes,
        permit2612: Option<abi::EIP2612Permit>,
    ) -> Self {
        let (to, facilitator) = (witness.to, Some(witness.facilitator));
        let witness = Witness { to, facilitator, valid_after: witness.validAfter };
        Self::of(&permit, amount, owner, witness, signature, permit2612)
    }

    fn of(
        permit: &abi::PermitTransferFrom,
        amount: U256,
        owner: Address,
        witness: Witness,
        signature: Bytes,
        permit2612: Option<abi::EIP2612Permit>,
    ) -> Self {
        let abi::PermitTransferFrom { permitted, nonce, deadline } = permit;
        let authorization = Permit {
            from: owner,
            token: permitted.token,
            amount: permitted.amount.into(),
            spender: witness.proxy(),
            nonce: *nonce,
            deadline: *deadline,
            witness,
        };
        Self { authorization, amount: amount.into(), signature, permit2612: permit2612.map(Eip2612Permit::from) }
    }
}

impl From<Eip2612Permit> for abi::EIP2612Permit {
    fn from(permit: Eip2612Permit) -> Self {
        let Eip2612Permit { value, deadline, r, s, v } = permit;
        Self { value, deadline, r, s, v }
    }
}

impl From<abi::EIP2612Permit> for Eip2612Permit {
    fn from(permit: abi::EIP2612Permit) -> Self {
        let abi::EIP2612Permit { value, deadline, r, s, v } = permit;
        Self { value, deadline, r, s, v }
    }
}

/// The selector of [`nonce_bitmap_call`].
#[cfg(feature = "facilitator")]
pub(super) const NONCE_BITMAP: [u8; 4] = abi::Permit2::nonceBitmapCall::SELECTOR;

/// Encodes `nonceBitmap(owner, word)` of Permit2: 256 nonces share a word, a bit each.
#[must_use]
pub fn nonce_bitmap_call(owner: Address, word: U256) -> Bytes {
    abi::Permit2::nonceBitmapCall { owner, word }.abi_encode().into()
}

/// Encodes ERC-20's `allowance(owner, spender)`.
#[must_use]
pub fn allowance_call(owner: Address, spender: Address) -> Bytes {
    abi::Erc20::allowanceCall { owner, spender }.abi_encode().into()
}

/// Encodes ERC-20's `transferFrom(from, to, value)`, which is what Permit2 calls.
#[cfg(feature = "facilitator")]
pub(crate) fn transfer_from_call(from: Address, to: Address, value: U256) -> Bytes {
    abi::Erc20::transferFromCall { from, to, value }.abi_encode().into()
}

/// Encodes ERC-20's `approve(spender, value)`.
#[must_use]
pub fn approve_call(spender: Address, value: U256) -> Bytes {
    abi::Erc20::approveCall { spender, value }.abi_encode().into()
}

/// Encodes EIP-2612's `nonces(owner)`: the number of the owner's permits that were used.
#[cfg(feature = "approvals")]
pub(super) fn permits_call(owner: Address) -> Bytes {
    abi::Erc20::noncesCall { owner }.abi_encode().into()
}
