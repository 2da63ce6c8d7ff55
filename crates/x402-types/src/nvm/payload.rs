//! §3.3 Payload Fields and Authorization Fields.

use core::fmt;

use const_hex as hex;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::nvm::session_key::{SessionKey, word};
use crate::nvm::{Code, Operation};
use crate::wire::wire;
use crate::{EvmAddress, Malformed, Members, RawJson, Rejection};

/// The version of the signed statement: the set of fields that the payer signed. It is detected, never taken from the
/// request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatementVersion {
    /// The payer signed `from`, provider, keys and plan: a bearer token, valid for many requests.
    V2,
    /// The payer also signed agent, resource, method and a nonce: valid for one request.
    V3,
}

/// The values that a v3 statement binds in addition to the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestProof {
    /// A nonce of 32 bytes that the first settlement spends.
    pub nonce: [u8; 32],
    /// The resource as it was written: it enters the hash without normalisation.
    pub resource_url: String,
}

wire! {
    /// The authorization as JSON has it.
    struct Wire {
        from: Option<EvmAddress> => "from" optional;
        session_keys_provider: Option<String> => "sessionKeysProvider" optional;
        provider: Option<String> => "provider" optional;
        session_keys: Vec<SessionKey> => "sessionKeys" required;
        nonce: Option<RawJson> => "nonce" optional;
        resource_url: Option<String> => "resourceUrl" optional;
        agent_id: Option<String> => "agentId" optional;
        http_verb: Option<String> => "httpVerb" optional;
    }
}

/// §3.3 Authorization Fields: the account, and the session keys that it grants.
#[derive(Clone, PartialEq)]
pub struct Authorization {
    wire: Wire,
    proof: Option<RequestProof>,
}

impl Authorization {
    /// Creates an authorization of version 2 of the statement.
    ///
    /// # Errors
    /// There are no keys, or the keys contradict each other.
    pub fn new(from: impl Into<EvmAddress>, provider: &str, keys: Vec<SessionKey>) -> Result<Self, Malformed> {
        Self::try_from(Wire {
            from: Some(from.into()),
            session_keys_provider: Some(provider.to_owned()),
            provider: None,
            session_keys: keys,
            nonce: None,
            resource_url: None,
            agent_id: None,
            http_verb: None,
            rest: Members::new(),
        })
    }

    /// Binds the authorization to one request: version 3 of the statement.
    #[must_use]
    pub fn with_proof(mut self, proof: RequestProof) -> Self {
        self.wire.nonce = RawJson::of(&hex::encode_prefixed(proof.nonce)).ok();
        self.wire.resource_url = Some(proof.resource_url.clone());
        self.proof = Some(proof);
        self
    }

    /// Returns the "Client's smart account address". It is `None` only in version 0.2, where the account is the one
    /// that all `data` approvals agree on.
    #[must_use]
    pub const fn from(&self) -> Option<EvmAddress> {
        self.wire.from
    }

    /// Returns the "Session key provider identifier" as it was written: it enters the hash without normalisation.
    #[must_use]
    pub fn provider(&self) -> &str {
        self.wire.session_keys_provider.as_deref().or(self.wire.provider.as_deref()).unwrap_or_default()
    }

    /// Returns every key in wire order: all of them are signed.
    #[must_use]
    pub fn session_keys(&self) -> &[SessionKey] {
        &self.wire.session_keys
    }

    /// Finds the key of an operation.
    #[must_use]
    pub fn key(&self, operation: Operation) -> Option<&SessionKey> {
        self.wire.session_keys.iter().find(|key| key.operation() == Some(operation))
    }

    /// Returns the version of the statement, which determines the signed fields.
    #[must_use]
    pub const fn version(&self) -> StatementVersion {
        if self.proof.is_some() { StatementVersion::V3 } else { StatementVersion::V2 }
    }

    /// Returns the values that version 3 of the statement binds in addition to the keys.
    #[must_use]
    pub const fn proof(&self) -> Option<&RequestProof> {
        self.proof.as_ref()
    }

    /// Returns the copy of `agentId`. A copy that differs from `accepted` invalidates the signature.
    #[must_use]
    pub fn agent_id(&self) -> Option<&str> {
        self.wire.agent_id.as_deref()
    }

    /// Returns the copy of `httpVerb`. A copy that differs from `accepted` invalidates the signature.
    #[must_use]
    pub fn http_verb(&self) -> Option<&str> {
        self.wire.http_verb.as_deref()
    }
}

/// Returns the nonce: "v3 exactly when `nonce` is a non-blank string". With a number, `null` or a blank string the
/// statement is v2.
fn nonce_text(nonce: Option<&RawJson>) -> Option<String> {
    nonce?.read::<String>().ok().filter(|text| !text.trim().is_empty())
}

impl TryFrom<Wire> for Authorization {
    type Error = Malformed;

    fn try_from(wire: Wire) -> Result<Self, Malformed> {
        wire.from.map(|from| from.checked()).transpose()?;
        if wire.session_keys_provider.is_some() && wire.provider.is_some() {
            return Err(Malformed::new("`sessionKeysProvider` or `provider`, not both"));
        }
        if wire.session_keys_provider.is_none() && wire.provider.is_none() {
            return Err(Malformed::new("`sessionKeysProvider`"));
        }
        if wire.session_keys.is_empty() {
            return Err(Malformed::new("at least one session key"));
        }
        for (at, key) in wire.session_keys.iter().enumerate() {
            let others = wire.session_keys.iter().skip(at.saturating_add(1));
            // `redeem` beside `burn` would be two keys for one operation.
            let same = |other: &SessionKey| {
                other.id() == key.id() || (key.operation().is_some() && other.operation() == key.operation())
            };
            if others.into_iter().any(same) {
                return Err(Malformed::new("each session key `id` once, and `redeem` or `burn` alone"));
            }
        }
        // Version 0.2, which has no `from`, uses only version 2 of the statement.
        let proof = match nonce_text(wire.nonce.as_ref()).filter(|_| wire.from.is_some()) {
            None => None,
            Some(text) => Some(RequestProof {
                nonce: word(&text).ok_or(Malformed::new("`nonce`: `0x` and 64 hex digits"))?,
                resource_url: wire.resource_url.clone().ok_or(Malformed::new("`resourceUrl` beside `nonce`"))?,
            }),
        };
        Ok(Self { wire, proof })
    }
}

impl Serialize for Authorization {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.wire.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Authorization {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::try_from(Wire::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorization")
            .field("from", &self.wire.from)
            .field("provider", &self.provider())
            .field("session_keys", &self.wire.session_keys)
            .field("proof", &self.proof)
            .finish()
    }
}

wire! {
    /// The payload as JSON has it.
    struct PayloadWire {
        signature: String => "signature" required;
        authorization: Authorization => "authorization" required;
    }
}

/// §3.3 Payload Fields: the authorization and the account's signature over it.
#[derive(Debug, Clone, PartialEq)]
pub struct Payload {
    wire: PayloadWire,
    signature: Vec<u8>,
}

impl Payload {
    /// Combines an authorization with its signature.
    #[must_use]
    pub fn new(authorization: Authorization, signature: impl Into<Vec<u8>>) -> Self {
        let signature = signature.into();
        let wire = PayloadWire { signature: hex::encode_prefixed(&signature), authorization, rest: Members::new() };
        Self { wire, signature }
    }

    /// Parses the payload of a [`Claim`](crate::Claim) of this scheme.
    ///
    /// # Errors
    /// `INVALID_PAYLOAD`, with the name of the field.
    pub fn from_raw(raw: &RawJson) -> Result<Self, Rejection> {
        raw.read().map_err(|error| Code::InvalidPayload.because(format!("payload: {error}")))
    }

    /// Returns the bytes of the signature.
    #[must_use]
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// Returns the authorization.
    #[must_use]
    pub const fn authorization(&self) -> &Authorization {
        &self.wire.authorization
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.wire.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = PayloadWire::deserialize(deserializer)?;
        // `hex` would strip a second `0x`, which is malformed: `x` is no hex digit.
        let digits = wire.signature.strip_prefix("0x").filter(|digits| !digits.starts_with("0x"));
        let bytes = digits.and_then(|digits| hex::decode(digits).ok());
        let bytes = bytes.filter(|bytes| !bytes.is_empty());
        let signature = bytes.ok_or_else(|| serde::de::Error::custom(Malformed::new("`signature`: `0x` and hex")))?;
        Ok(Self { wire, signature })
    }
}
