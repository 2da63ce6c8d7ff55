//! Section "PaymentPayload": the token and the unsigned envelope around it.

use core::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{CardCode, CardRequirements};
use crate::v2::ResourceInfo;
use crate::wire::wire;
use crate::{Claim, EvmAddress, Identity, Malformed, Members, RawJson, Rejection, Terms, Version};

/// The longest token, in bytes.
const LONGEST_TOKEN: usize = 4096;

wire! {
    /// The payment of `PAYMENT-SIGNATURE`; its base64 is the access token of `/x402/permissions`.
    pub struct CardPayment {
        /// The protocol version, 2.
        x402_version: Version => "x402Version" version_2;
        /// The resource, as the payer names it.
        resource: Option<ResourceInfo> => "resource" optional;
        /// The chosen entry.
        accepted: CardRequirements => "accepted" required;
        /// The token, [`CardPayload`], as it was received.
        payload: RawJson => "payload" object;
        /// An empty object, which a payment may leave out.
        extensions: Members => "extensions" or Members::new();
    }
}

impl CardPayment {
    /// Creates a payment for an entry.
    #[must_use]
    pub const fn new(resource: Option<ResourceInfo>, accepted: CardRequirements, payload: RawJson) -> Self {
        Self {
            x402_version: Version::V2,
            resource,
            accepted,
            payload,
            extensions: Members::new(),
            rest: Members::new(),
        }
    }

    /// Parses a payment that names this scheme ([`is_payment`](super::is_payment)), and its payload.
    ///
    /// # Errors
    /// `INVALID_PAYLOAD`, which names the member.
    pub fn from_raw(raw: &RawJson) -> Result<Self, Rejection> {
        let unreadable =
            |error: serde_json::Error| CardCode::InvalidPayload.because(format!("paymentPayload: {error}"));
        let payment: Self = raw.read().map_err(unreadable)?;
        if let Err(why) = payment.accepted.to_terms(crate::AtomicAmount::ZERO) {
            return Err(CardCode::InvalidPayload.because(format!("accepted: {why}")));
        }
        CardPayload::from_raw(&payment.payload)?;
        Ok(payment)
    }

    /// Returns whether the payment was made for this entry.
    #[must_use]
    pub fn is_for(&self, terms: &Terms) -> bool {
        CardRequirements::try_from(terms).is_ok_and(|asked| asked.is_accepted_by(&self.accepted))
    }

    /// Combines the payment with the terms that it must fulfil. Nothing of the unsigned envelope is taken over.
    #[must_use]
    pub fn into_claim(self, terms: Terms) -> Claim {
        Claim {
            terms,
            payload: self.payload,
            resource: self.resource,
            extensions: Members::new(),
            identity: Identity::default(),
        }
    }
}

wire! {
    /// The payload as JSON has it.
    struct Wire {
        token: String => "token" required;
        authorization: Option<CardAuthorization> => "authorization" optional;
    }
}

/// The scheme's payload. The token is a bearer's, so `Debug` omits it.
#[derive(Clone, PartialEq)]
pub struct CardPayload {
    /// The JWT of the delegation. Only it is signed.
    pub token: String,
    /// The subscriber and its burn key, for credits that a contract counts.
    pub authorization: Option<CardAuthorization>,
    /// Unknown members, as they were received.
    pub rest: Members,
}

impl CardPayload {
    /// Creates the payload of a token.
    #[must_use]
    pub fn new(token: impl Into<String>) -> Self {
        Self { token: token.into(), authorization: None, rest: Members::new() }
    }

    /// Parses the payload.
    ///
    /// # Errors
    /// `INVALID_PAYLOAD`: no token, a token of more than 4096 bytes, or a malformed authorization.
    pub fn from_raw(payload: &RawJson) -> Result<Self, Rejection> {
        let payload: Wire =
            payload.read().map_err(|error| CardCode::InvalidPayload.because(format!("payload: {error}")))?;
        if payload.token.is_empty() || payload.token.len() > LONGEST_TOKEN {
            return Err(CardCode::InvalidPayload.because("payload.token: expected a JWT of at most 4096 bytes"));
        }
        Ok(Self { token: payload.token, authorization: payload.authorization, rest: payload.rest })
    }
}

impl Serialize for CardPayload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { token, authorization, rest } = self.clone();
        Wire { token, authorization, rest }.serialize(serializer)
    }
}

impl fmt::Debug for CardPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CardPayload").field("authorization", &self.authorization).finish_non_exhaustive()
    }
}

wire! {
    /// A key of the authorization as JSON has it.
    struct KeyWire {
        id: String => "id" required;
        data: String => "data" required;
    }
}

wire! {
    /// The authorization as JSON has it.
    struct AuthorizationWire {
        from: EvmAddress => "from" required;
        session_keys: Vec<KeyWire> => "sessionKeys" required;
    }
}

/// The subscriber's address and the hash of its burn key. Neither is signed: they are compared with the record.
#[derive(Debug, Clone, PartialEq)]
pub struct CardAuthorization {
    /// The subscriber's address.
    pub from: EvmAddress,
    /// The Keccak-256 of the serialized burn key, which the facilitator keeps.
    pub redeem: [u8; 32],
    wire: AuthorizationWire,
}

impl TryFrom<AuthorizationWire> for CardAuthorization {
    type Error = Malformed;

    fn try_from(wire: AuthorizationWire) -> Result<Self, Malformed> {
        let mut redeem = None;
        for key in &wire.session_keys {
            let hash = crate::nvm::word(&key.data).ok_or(Malformed::new("`data`: `0x` and 64 hex digits"))?;
            if matches!(key.id.as_str(), "redeem" | "burn") && redeem.replace(hash).is_some() {
                return Err(Malformed::new("exactly one key `redeem` or `burn`"));
            }
        }
        let redeem = redeem.ok_or(Malformed::new("exactly one key `redeem` or `burn`"))?;
        Ok(Self { from: wire.from, redeem, wire })
    }
}

impl Serialize for CardAuthorization {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.wire.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for CardAuthorization {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::try_from(AuthorizationWire::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}
