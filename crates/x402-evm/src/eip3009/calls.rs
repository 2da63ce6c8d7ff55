//! The calls of a token with EIP-3009.

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::SolCall;
use x402_types::UnixSeconds;

use super::Authorization;
use crate::signature::Signature;

mod abi {
    alloy_sol_types::sol! {
        interface Eip3009 {
            function transferWithAuthorization(address from, address to, uint256 value, uint256 validAfter, uint256 validBefore, bytes32 nonce, uint8 v, bytes32 r, bytes32 s) external;
            function transferWithAuthorization(address from, address to, uint256 value, uint256 validAfter, uint256 validBefore, bytes32 nonce, bytes signature) external;
            function authorizationState(address authorizer, bytes32 nonce) external view returns (bool);
            function balanceOf(address account) external view returns (uint256);
            function name() external view returns (string);
            function version() external view returns (string);
            function eip712Domain() external view returns (bytes1 fields, string name, string version, uint256 chainId, address verifyingContract, bytes32 salt, uint256[] extensions);
        }
    }
}

impl Authorization {
    /// Encodes the call that makes the transfer, in the overload with `v, r, s`.
    #[must_use]
    pub fn transfer_call(&self, signature: &Signature) -> Bytes {
        abi::Eip3009::transferWithAuthorization_0Call {
            from: self.from,
            to: self.to,
            value: self.value.value(),
            validAfter: U256::from(self.valid_after.0),
            validBefore: U256::from(self.valid_before.0),
            nonce: self.nonce,
            v: signature.v(),
            r: signature.r(),
            s: signature.s(),
        }
        .abi_encode()
        .into()
    }

    /// Encodes the call that makes the transfer, in the overload with `bytes signature`.
    #[must_use]
    pub fn transfer_call_with_bytes(&self, signature: Bytes) -> Bytes {
        abi::Eip3009::transferWithAuthorization_1Call {
            from: self.from,
            to: self.to,
            value: self.value.value(),
            validAfter: U256::from(self.valid_after.0),
            validBefore: U256::from(self.valid_before.0),
            nonce: self.nonce,
            signature,
        }
        .abi_encode()
        .into()
    }

    /// Decodes the message from a call of either overload of `transferWithAuthorization`.
    #[must_use]
    pub fn of_transfer_call(data: &[u8]) -> Option<Self> {
        type Parts = (Address, Address, U256, U256, U256, B256);
        let (from, to, value, after, before, nonce): Parts =
            if let Ok(call) = abi::Eip3009::transferWithAuthorization_0Call::abi_decode(data) {
                (call.from, call.to, call.value, call.validAfter, call.validBefore, call.nonce)
            } else {
                let call = abi::Eip3009::transferWithAuthorization_1Call::abi_decode(data).ok()?;
                (call.from, call.to, call.value, call.validAfter, call.validBefore, call.nonce)
            };
        Some(Self {
            from,
            to,
            value: value.into(),
            valid_after: UnixSeconds(u64::try_from(after).ok()?),
            valid_before: UnixSeconds(u64::try_from(before).ok()?),
            nonce,
        })
    }
}

/// Encodes `authorizationState(authorizer, nonce)`: true once it was used or cancelled.
#[must_use]
pub fn state_call(authorizer: Address, nonce: B256) -> Bytes {
    abi::Eip3009::authorizationStateCall { authorizer, nonce }.abi_encode().into()
}

/// Encodes ERC-20's `balanceOf(account)`.
#[must_use]
pub fn balance_call(account: Address) -> Bytes {
    abi::Eip3009::balanceOfCall { account }.abi_encode().into()
}

/// Encodes `name()`, which FiatToken and the OpenZeppelin tokens use in their EIP-712 domain.
#[must_use]
pub fn name_call() -> Bytes {
    abi::Eip3009::nameCall {}.abi_encode().into()
}

/// Encodes `version()` of the EIP-712 domain.
#[must_use]
pub fn version_call() -> Bytes {
    abi::Eip3009::versionCall {}.abi_encode().into()
}

/// Encodes [EIP-5267](https://eips.ethereum.org/EIPS/eip-5267)'s `eip712Domain()`.
#[must_use]
pub fn domain_call() -> Bytes {
    abi::Eip3009::eip712DomainCall {}.abi_encode().into()
}

/// Decodes `name` and `version` from the result of [`domain_call`], if the domain has exactly these two, the chain and
/// the contract, and the latter are the token's.
#[must_use]
pub fn read_domain(answer: &[u8], chain_id: u64, token: Address) -> Option<(String, String)> {
    let domain = abi::Eip3009::eip712DomainCall::abi_decode_returns(answer).ok()?;
    let own = domain.chainId == U256::from(chain_id) && domain.verifyingContract == token;
    (domain.fields.0 == [0x0f] && own).then_some((domain.name, domain.version))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::hex;

    /// An answer as viem 2.57.20 encodes it: a token's domain of four members, and a word that is no part of it where the
    /// salt would be.
    const WITH_A_WORD: &str = concat!(
        "0f00000000000000000000000000000000000000000000000000000000000000",
        "00000000000000000000000000000000000000000000000000000000000000e0",
        "0000000000000000000000000000000000000000000000000000000000000120",
        "0000000000000000000000000000000000000000000000000000000000014a34",
        "000000000000000000000000036cbd53842c5426634e7929541ec2318f3dcf7e",
        "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a",
        "0000000000000000000000000000000000000000000000000000000000000160",
        "0000000000000000000000000000000000000000000000000000000000000009",
        "4f7a20446f6c6c61720000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000001",
        "3100000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000000",
    );

    /// EIP-5267: `fields` tells which members a domain has. viem 2.57.20's own reader takes the salt in any case, and its
    /// hash is then another one (0x2349…).
    #[test]
    fn a_salt_that_fields_does_not_name_is_no_part_of_the_domain() {
        let token = alloy_primitives::address!("036CbD53842c5426634e7929541eC2318f3dCF7e");
        let mut answer = hex::decode(WITH_A_WORD).unwrap();
        let (name, version) = read_domain(&answer, 84_532, token).unwrap();
        let domain = crate::eip712::DomainSeparator::new(&name, &version, 84_532, token);
        let of_viem_without_salt = hex!("cbb0ed3186f4ac01c46cddc37c556b414bd36a079202b56edc65d95689beabc7");
        assert_eq!(domain.value(), B256::from(of_viem_without_salt));
        // Where `fields` names the salt, or leaves a member out, the domain is none that this client signs over.
        for fields in [0x1f, 0x0e, 0x07, 0x2f] {
            answer[0] = fields;
            assert_eq!(read_domain(&answer, 84_532, token), None, "{fields:#x}");
        }
    }

    // The selectors of FiatTokenV2_2, from its verified sources on Etherscan.
    #[test]
    fn selectors_are_those_of_fiat_token() {
        assert_eq!(abi::Eip3009::transferWithAuthorization_0Call::SELECTOR, hex!("e3ee160e"));
        assert_eq!(abi::Eip3009::transferWithAuthorization_1Call::SELECTOR, hex!("cf092995"));
        assert_eq!(abi::Eip3009::authorizationStateCall::SELECTOR, hex!("e94a0102"));
        assert_eq!(abi::Eip3009::balanceOfCall::SELECTOR, hex!("70a08231"));
        assert_eq!(abi::Eip3009::nameCall::SELECTOR, hex!("06fdde03"));
        assert_eq!(abi::Eip3009::versionCall::SELECTOR, hex!("54fd4d50"));
    }
}
