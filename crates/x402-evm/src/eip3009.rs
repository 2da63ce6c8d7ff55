//! [EIP-3009](https://eips.ethereum.org/EIPS/eip-3009): transfer with authorization, and its payload in x402
//! (`scheme_exact_evm.md` §1).

use alloy_primitives::{Address, B256, Bytes, U256, b256, hex};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use x402_codec::{Limits, json};
use x402_types::{
    AtomicAmount, AuthorizationKind, ChainId, EvmAddress, Malformed, PaymentKey, RawJson, Rejection, UnixSeconds,
};

use crate::eip712::{DomainSeparator, Words};
use crate::payload;

#[cfg(any(feature = "libsecp256k1", feature = "verify"))]
mod calls;
#[cfg(any(feature = "libsecp256k1", feature = "verify"))]
pub use calls::{balance_call, domain_call, name_call, read_domain, state_call, version_call};

/// The hash `keccak256("TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256
/// validBefore,bytes32 nonce)")`.
pub const TRANSFER_TYPE: B256 = b256!("0x7c7c6cdb67a18743f49ec6fa9b35f50d52ed05cbed4cc592e13b44501c1a2267");

/// The topic of `AuthorizationUsed(address indexed authorizer, bytes32 indexed nonce)`.
pub const AUTHORIZATION_USED: B256 = b256!("0x98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5");
/// The topic of `AuthorizationCanceled(address indexed authorizer, bytes32 indexed nonce)`.
pub const AUTHORIZATION_CANCELED: B256 = b256!("0x1cdd46ff242716cdaa72d159d339a485b3438398348d68f09d7c8c0a59353d81");

/// The message that a payer signs, `TransferWithAuthorization`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Authorization {
    /// The payer's address.
    pub from: Address,
    /// The recipient's address.
    pub to: Address,
    /// The amount in atomic units.
    pub value: AtomicAmount,
    /// The time after which a block must be.
    pub valid_after: UnixSeconds,
    /// The time before which a block must be.
    pub valid_before: UnixSeconds,
    /// A nonce of 32 bytes that the payer chooses; each can be used once.
    pub nonce: B256,
}

impl Authorization {
    /// Computes the EIP-712 digest that the payer signs.
    #[must_use]
    pub fn digest(&self, domain: DomainSeparator) -> B256 {
        let words = Words::<7>::new()
            .word(0, TRANSFER_TYPE)
            .address(1, self.from)
            .address(2, self.to)
            .number(3, self.value.value())
            .number(4, U256::from(self.valid_after.0))
            .number(5, U256::from(self.valid_before.0))
            .word(6, self.nonce);
        domain.digest(words.hash())
    }

    /// Derives the authorization's identity: the token burns (payer, nonce), whatever else was signed.
    #[must_use]
    pub fn key(&self, network: ChainId, token: Address) -> PaymentKey {
        key(network, token, self.from, self.nonce)
    }
}

fn key(network: ChainId, token: Address, payer: Address, nonce: B256) -> PaymentKey {
    PaymentKey::new(AuthorizationKind::Eip3009, network, token.as_slice(), payer.as_slice(), nonce.as_slice())
}

/// The `payload` of an `exact` payment by EIP-3009, as it was written: every member is well-formed, but none has been
/// verified.
///
/// The EIP-55 checksums of its two addresses are verified where an address is used: [`UncheckedPayload::checked`]
/// creates the [`Payload`] that is verified and settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UncheckedPayload {
    /// The payer's address.
    pub from: EvmAddress,
    /// The recipient's address.
    pub to: EvmAddress,
    /// The amount in atomic units.
    pub value: AtomicAmount,
    /// The time after which a block must be.
    pub valid_after: UnixSeconds,
    /// The time before which a block must be.
    pub valid_before: UnixSeconds,
    /// A nonce of 32 bytes that the payer chooses.
    pub nonce: B256,
    /// The signature, as it was received.
    pub signature: Bytes,
}

/// The members of `payload` that are read.
#[derive(Deserialize)]
#[serde(expecting = "a JSON object")]
struct Wire {
    #[serde(deserialize_with = "payload::signature")]
    signature: Bytes,
    authorization: WireAuthorization,
}

/// The members of `payload.authorization`, each of them a string.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "a JSON object")]
struct WireAuthorization {
    from: EvmAddress,
    to: EvmAddress,
    value: AtomicAmount,
    valid_after: UnixSeconds,
    valid_before: UnixSeconds,
    #[serde(deserialize_with = "payload::word")]
    nonce: B256,
}

impl UncheckedPayload {
    /// Parses the payload: every member is a string. Unknown members are ignored.
    /// # Errors
    /// `invalid_payload` with the path of the member that is missing or malformed.
    pub fn read(payload: &RawJson) -> Result<Self, Rejection> {
        if !payload.as_str().starts_with('{') {
            return Err(Rejection::field("payload", Malformed::new("a JSON object")));
        }
        let text = payload.as_str().as_bytes();
        let Wire { signature, authorization } = json::from_slice(text, &Limits::DEFAULT).map_err(|why| {
            // A duplicate member is reported before a malformed one.
            payload::refused(&json::from_slice::<IgnoredAny>(text, &Limits::DEFAULT).err().unwrap_or(why))
        })?;
        let WireAuthorization { from, to, value, valid_after, valid_before, nonce } = authorization;
        Ok(Self { from, to, value, valid_after, valid_before, nonce, signature })
    }

    /// Converts to the payload with verified addresses.
    /// # Errors
    /// `invalid_payload` with the path of an address that is neither in one case nor has its EIP-55 checksum.
    pub fn checked(self) -> Result<Payload, Rejection> {
        let address = |path: &str, text: EvmAddress| Address::try_from(text).map_err(|why| Rejection::field(path, why));
        Ok(Payload {
            authorization: Authorization {
                from: address("payload.authorization.from", self.from)?,
                to: address("payload.authorization.to", self.to)?,
                value: self.value,
                valid_after: self.valid_after,
                valid_before: self.valid_before,
                nonce: self.nonce,
            },
            signature: self.signature,
        })
    }

    /// Derives the authorization's identity, as [`Authorization::key`] does. It identifies the payer by value: no money
    /// depends on it, and a second spelling of an authorization has the same key.
    #[must_use]
    pub fn key(&self, network: ChainId, token: Address) -> PaymentKey {
        key(network, token, self.from.unchecked(), self.nonce)
    }
}

/// An authorization and its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// The message that was signed.
    pub authorization: Authorization,
    /// The signature, as it was received; for an externally owned account 65 bytes.
    pub signature: Bytes,
}

impl Payload {
    /// Parses the payload and verifies the form of its addresses.
    /// # Errors
    /// `invalid_payload` with the path of the member that is missing or malformed.
    pub fn read(payload: &RawJson) -> Result<Self, Rejection> {
        UncheckedPayload::read(payload)?.checked()
    }

    /// Converts to the payload on the wire.
    #[must_use]
    pub fn to_json(&self) -> RawJson {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Wire {
            signature: String,
            authorization: WireAuthorization,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct WireAuthorization {
            from: EvmAddress,
            to: EvmAddress,
            value: AtomicAmount,
            valid_after: UnixSeconds,
            valid_before: UnixSeconds,
            nonce: String,
        }
        let signed = &self.authorization;
        RawJson::of(&Wire {
            signature: hex::encode_prefixed(&self.signature),
            authorization: WireAuthorization {
                from: signed.from.into(),
                to: signed.to.into(),
                value: signed.value,
                valid_after: signed.valid_after,
                valid_before: signed.valid_before,
                nonce: hex::encode_prefixed(signed.nonce),
            },
        })
        .unwrap_or_else(|_| RawJson::null())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::keccak256;

    #[test]
    fn constants_are_the_hashes_of_their_texts() {
        let signed = "TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)";
        assert_eq!(TRANSFER_TYPE, keccak256(signed));
        assert_eq!(AUTHORIZATION_USED, keccak256("AuthorizationUsed(address,bytes32)"));
        assert_eq!(AUTHORIZATION_CANCELED, keccak256("AuthorizationCanceled(address,bytes32)"));
    }
}
