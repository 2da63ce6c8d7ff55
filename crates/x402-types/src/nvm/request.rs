//! Steps 6 and 22: the requests of a server to a facilitator.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::nvm::PaymentRequired;
use crate::wire::wire;
use crate::{AtomicAmount, Malformed, Members, RawJson};

/// The payment in a request to a facilitator.
#[derive(Debug, Clone, PartialEq)]
pub enum AccessToken {
    /// `paymentPayload` or `x402AccessToken` as base64 of the payment's JSON, as the payer sent it.
    Base64(String),
    /// `paymentPayload` as JSON.
    Json(RawJson),
}

wire! {
    /// The body as JSON has it.
    struct Wire {
        payment_required: PaymentRequired => "paymentRequired" required;
        payment_payload: Option<RawJson> => "paymentPayload" optional;
        access_token: Option<String> => "x402AccessToken" optional;
        max_amount: Option<AtomicAmount> => "maxAmount" optional;
        agent_request_id: Option<String> => "agentRequestId" optional;
    }
}

/// The body of `POST /verify` and `POST /settle` of this extension.
#[derive(Debug, Clone, PartialEq)]
pub struct FacilitatorRequest {
    /// The 402 document that the server sent.
    pub payment_required: PaymentRequired,
    /// The payment: `paymentPayload` (the document), or `x402AccessToken` (the SDKs).
    pub token: AccessToken,
    /// The credits: for `/verify` the most that the request may cost, for `/settle` what it did cost. A decimal of at
    /// least 1.
    pub max_amount: Option<AtomicAmount>,
    /// The identifier that `/verify` gave to this request.
    pub agent_request_id: Option<String>,
    /// Unknown members (`batch`, `marginPercent`), as they were received.
    pub rest: Members,
}

impl FacilitatorRequest {
    /// Recognises a body of this extension by its shape: it has `paymentRequired`, where x402 has
    /// `paymentRequirements`.
    #[must_use]
    pub fn is_one(body: &RawJson) -> bool {
        body.read::<Members>().is_ok_and(|members| members.get("paymentRequired").is_some())
    }
}

impl Serialize for FacilitatorRequest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("paymentRequired", &self.payment_required)?;
        match &self.token {
            AccessToken::Base64(text) => map.serialize_entry("paymentPayload", text)?,
            AccessToken::Json(raw) => map.serialize_entry("paymentPayload", raw)?,
        }
        if let Some(amount) = &self.max_amount {
            map.serialize_entry("maxAmount", amount)?;
        }
        if let Some(id) = &self.agent_request_id {
            map.serialize_entry("agentRequestId", id)?;
        }
        for (key, value) in self.rest.iter() {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for FacilitatorRequest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let wire = Wire::deserialize(deserializer)?;
        let token = match (wire.payment_payload, wire.access_token) {
            (Some(_), Some(_)) => {
                return Err(Error::custom(Malformed::new("`paymentPayload` or `x402AccessToken`, not both")));
            }
            (None, None) => return Err(Error::missing_field("paymentPayload")),
            (None, Some(text)) => AccessToken::Base64(text),
            (Some(raw), None) => match raw.read::<String>() {
                Ok(text) => AccessToken::Base64(text),
                Err(_) if raw.as_str().starts_with('{') => AccessToken::Json(raw),
                Err(_) => {
                    return Err(Error::custom(Malformed::new("`paymentPayload`: base64 text or a JSON object")));
                }
            },
        };
        Ok(Self {
            payment_required: wire.payment_required,
            token,
            max_amount: wire.max_amount,
            agent_request_id: wire.agent_request_id,
            rest: wire.rest,
        })
    }
}
