//! The `payload` of a payment by Permit2: `scheme_exact_evm.md` §2 "`PAYMENT-SIGNATURE` Header Payload".

use alloy_primitives::{Address, Bytes, U256, hex};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use x402_codec::{Limits, json};
use x402_types::{AtomicAmount, ChainId, EvmAddress, Malformed, PaymentKey, RawJson, Rejection};

use super::message::{self, Permit, Witness};
use crate::payload;

/// The payload as it was written: every member is well-formed, but none has been verified.
///
/// The EIP-55 checksums of its addresses are verified where an address is used: [`UncheckedPermit::checked`] creates
/// the [`PermitPayload`] that is verified and settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UncheckedPermit {
    /// The payer's address.
    pub from: EvmAddress,
    /// The token's address.
    pub token: EvmAddress,
    /// The permitted amount in atomic units.
    pub amount: AtomicAmount,
    /// The address of the contract that may use the permit.
    pub spender: EvmAddress,
    /// The nonce that the payer chose.
    pub nonce: U256,
    /// The last second in which a block may use the permit.
    pub deadline: U256,
    /// The recipient's address.
    pub to: EvmAddress,
    /// The address of the only account that may settle the payment; `None` if the member is absent.
    pub facilitator: Option<EvmAddress>,
    /// The first second in which a block may use the permit.
    pub valid_after: U256,
    /// The signature, as it was received.
    pub signature: Bytes,
}

/// The members of `payload` that are read.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", expecting = "a JSON object")]
struct Wire<S> {
    signature: S,
    permit2_authorization: WirePermit,
}

/// The members of `payload.permit2Authorization`, each of them a string or an object.
#[derive(Deserialize, Serialize)]
#[serde(expecting = "a JSON object")]
struct WirePermit {
    from: EvmAddress,
    permitted: WirePermitted,
    spender: EvmAddress,
    nonce: AtomicAmount,
    deadline: AtomicAmount,
    witness: WireWitness,
}

#[derive(Deserialize, Serialize)]
#[serde(expecting = "a JSON object")]
struct WirePermitted {
    token: EvmAddress,
    amount: AtomicAmount,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", expecting = "a JSON object")]
struct WireWitness {
    to: EvmAddress,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    facilitator: Option<EvmAddress>,
    valid_after: AtomicAmount,
}

/// The signature's digits, whose length is checked before anything is allocated.
#[derive(Deserialize)]
struct Signature(#[serde(deserialize_with = "payload::signature")] Bytes);

/// Reads a member that may be absent, but not `null`.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<EvmAddress>, D::Error> {
    EvmAddress::deserialize(deserializer).map(Some)
}

impl UncheckedPermit {
    /// Parses the payload: numbers are strings of decimal digits. Unknown members are ignored.
    /// # Errors
    /// `invalid_payload` with the path of the member that is missing or malformed.
    pub fn read(payload: &RawJson) -> Result<Self, Rejection> {
        if !payload.as_str().starts_with('{') {
            return Err(Rejection::field("payload", Malformed::new("a JSON object")));
        }
        let text = payload.as_str().as_bytes();
        let Wire { signature: Signature(signature), permit2_authorization: permit } =
            json::from_slice(text, &Limits::DEFAULT).map_err(|why| {
                // A duplicate member is reported before a malformed one.
                payload::refused(&json::from_slice::<IgnoredAny>(text, &Limits::DEFAULT).err().unwrap_or(why))
            })?;
        let WirePermit { from, permitted, spender, nonce, deadline, witness } = permit;
        Ok(Self {
            from,
            token: permitted.token,
            amount: permitted.amount,
            spender,
            nonce: nonce.value(),
            deadline: deadline.value(),
            to: witness.to,
            facilitator: witness.facilitator,
            valid_after: witness.valid_after.value(),
            signature,
        })
    }

    /// Converts to the payload with verified addresses.
    /// # Errors
    /// `invalid_payload` with the path of an address that is neither in one case nor has its EIP-55 checksum.
    pub fn checked(self) -> Result<PermitPayload, Rejection> {
        let address = |member: &str, text: EvmAddress| {
            let path = || format!("payload.permit2Authorization.{member}");
            Address::try_from(text).map_err(|why| Rejection::field(&path(), why))
        };
        let facilitator = self.facilitator.map(|text| address("witness.facilitator", text)).transpose()?;
        Ok(PermitPayload {
            authorization: Permit {
                from: address("from", self.from)?,
                token: address("permitted.token", self.token)?,
                amount: self.amount,
                spender: address("spender", self.spender)?,
                nonce: self.nonce,
                deadline: self.deadline,
                witness: Witness { to: address("witness.to", self.to)?, facilitator, valid_after: self.valid_after },
            },
            signature: self.signature,
        })
    }

    /// Derives the authorization's identity, as [`Permit::key`] does. It identifies the payer by value: no money
    /// depends on it, and a second spelling of an authorization has the same key.
    #[must_use]
    pub fn key(&self, network: ChainId) -> PaymentKey {
        message::key(network, self.from.unchecked(), self.nonce)
    }
}

/// A permit and its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PermitPayload {
    /// The permit that was signed.
    pub authorization: Permit,
    /// The signature, as it was received; for an externally owned account 65 bytes.
    pub signature: Bytes,
}

impl PermitPayload {
    /// Parses the payload and verifies the form of its addresses.
    /// # Errors
    /// `invalid_payload` with the path of the member that is missing or malformed.
    pub fn read(payload: &RawJson) -> Result<Self, Rejection> {
        UncheckedPermit::read(payload)?.checked()
    }

    /// Converts to the payload on the wire.
    #[must_use]
    pub fn to_json(&self) -> RawJson {
        let Permit { from, token, amount, spender, nonce, deadline, witness } = self.authorization;
        RawJson::of(&Wire {
            signature: hex::encode_prefixed(&self.signature),
            permit2_authorization: WirePermit {
                from: from.into(),
                permitted: WirePermitted { token: token.into(), amount },
                spender: spender.into(),
                nonce: nonce.into(),
                deadline: deadline.into(),
                witness: WireWitness {
                    to: witness.to.into(),
                    facilitator: witness.facilitator.map(EvmAddress::from),
                    valid_after: witness.valid_after.into(),
                },
            },
        })
        .unwrap_or_else(|_| RawJson::null())
    }
}
