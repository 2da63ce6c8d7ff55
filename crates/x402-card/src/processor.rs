//! Section "The processor: Stripe", calls: form encoding, idempotency keys, and what an answer means.

use core::fmt;
use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use x402_types::nvm::card::CardCode;
use x402_types::{Fault, UnixSeconds};

/// The name of the processor in faults.
const SERVICE: &str = "the card processor";

/// The transport of calls to the processor: HTTP with the secret key, which no call contains.
#[async_trait]
pub trait CallProcessor: Send + Sync {
    /// Makes a call and returns the answer, whatever its status.
    ///
    /// # Errors
    /// There is no answer, or none yet: whether the call had an effect is unknown.
    async fn call(&self, call: &ProcessorCall) -> Result<ProcessorAnswer, Fault>;
}

/// The method of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallMethod {
    /// The method of a look-up.
    #[serde(rename = "GET")]
    Get,
    /// The method of an action, under an idempotency key.
    #[serde(rename = "POST")]
    Post,
}

/// A call of the processor's API, as it is stored before it is made. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ProcessorCall {
    /// The HTTP method.
    pub method: CallMethod,
    /// The path, `/v1/payment_intents`.
    pub path: String,
    /// The parameters, in their order: the body of an action, the query of a look-up.
    pub form: Vec<(String, String)>,
    /// The idempotency key of an action.
    pub key: Option<String>,
}

impl ProcessorCall {
    /// Creates a look-up.
    #[must_use]
    pub fn get(path: impl Into<String>, query: &[(&str, &str)]) -> Self {
        Self { method: CallMethod::Get, path: path.into(), form: owned(query), key: None }
    }

    /// Creates an action under an idempotency key.
    #[must_use]
    pub fn post(path: impl Into<String>, form: &[(&str, &str)], key: impl Into<String>) -> Self {
        Self { method: CallMethod::Post, path: path.into(), form: owned(form), key: Some(key.into()) }
    }

    /// Returns the parameters as `application/x-www-form-urlencoded`; brackets in names stay as they are.
    #[must_use]
    pub fn encoded(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.form {
            if !text.is_empty() {
                text.push('&');
            }
            encode(&mut text, name, b"[]");
            text.push('=');
            encode(&mut text, value, b"");
        }
        text
    }
}

fn owned(form: &[(&str, &str)]) -> Vec<(String, String)> {
    form.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn encode(to: &mut String, text: &str, plain: &[u8]) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || plain.contains(&byte) {
            to.push(char::from(byte));
        } else {
            to.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// The processor's answer.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcessorAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The body's bytes.
    pub body: Vec<u8>,
    /// The processor's own time: the header `Date`.
    pub date: Option<UnixSeconds>,
}

impl ProcessorAnswer {
    /// Creates an answer.
    #[must_use]
    pub const fn new(status: u16, body: Vec<u8>, date: Option<UnixSeconds>) -> Self {
        Self { status, body, date }
    }

    /// Reads the answer of a call: the object, or the final refusal. Everything else leaves the effect unknown.
    pub(crate) fn read<T: for<'de> Deserialize<'de>>(&self) -> Result<Result<T, ApiError>, Fault> {
        #[derive(Deserialize)]
        struct Envelope {
            error: ApiError,
        }
        let fault = |detail: &dyn fmt::Display| Fault::no_verdict(SERVICE, self.status, detail);
        match self.status {
            200..=299 => {
                serde_json::from_slice(&self.body).map(Ok).map_err(|_| fault(&"an answer that cannot be read"))
            }
            400 | 402 | 404 => {
                let envelope: Envelope =
                    serde_json::from_slice(&self.body).map_err(|_| fault(&"a refusal that cannot be read"))?;
                if envelope.error.kind == "idempotency_error" {
                    return Err(Fault::broken("an idempotency key was used for two different calls"));
                }
                Ok(Err(envelope.error))
            }
            _ => Err(fault(&"no result")),
        }
    }
}

impl fmt::Debug for ProcessorAnswer {
    /// Omits the body, which may hold a client secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessorAnswer").field("status", &self.status).finish_non_exhaustive()
    }
}

/// A refusal of the processor. Its message is not read: nothing of it is kept or shown.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct ApiError {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) code: Option<String>,
    #[serde(default)]
    pub(crate) decline_code: Option<String>,
    #[serde(default)]
    pub(crate) param: Option<String>,
}

impl ApiError {
    /// Returns the reason of the payment's failure.
    pub(crate) fn reason(&self) -> CardCode {
        const DECLINED: [&str; 3] = ["card_declined", "expired_card", "incorrect_cvc"];
        let code = self.code.as_deref().unwrap_or_default();
        if self.kind == "card_error" && DECLINED.contains(&code) && !self.wants_authentication() {
            CardCode::CardDeclined
        } else if self.kind == "invalid_request_error"
            && self.param.as_deref().is_some_and(|param| param.starts_with("transfer_data"))
        {
            CardCode::MerchantAccountInvalid
        } else {
            CardCode::PaymentFailed
        }
    }

    /// Returns whether the bank wants its customer to confirm (3-D Secure).
    pub(crate) fn wants_authentication(&self) -> bool {
        [&self.code, &self.decline_code].iter().any(|code| code.as_deref() == Some("authentication_required"))
    }

    /// Returns the code for the payer: the bank's reason, if there is one.
    pub(crate) fn decline(&self) -> Option<&str> {
        self.decline_code.as_deref().or(self.code.as_deref())
    }
}

/// The state of an intent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum IntentStatus {
    RequiresPaymentMethod,
    RequiresConfirmation,
    RequiresAction,
    RequiresCapture,
    Processing,
    Canceled,
    Succeeded,
}

/// The members of a PaymentIntent that are read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Intent {
    pub(crate) id: String,
    pub(crate) status: IntentStatus,
    pub(crate) amount: u64,
    #[serde(default)]
    pub(crate) amount_received: u64,
    pub(crate) currency: String,
    pub(crate) customer: Option<String>,
    pub(crate) payment_method: Option<String>,
    pub(crate) livemode: bool,
    pub(crate) created: u64,
    #[serde(default)]
    pub(crate) metadata: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) last_payment_error: Option<ApiError>,
}

/// The members of a refund that are read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Refund {
    pub(crate) id: String,
    pub(crate) status: String,
    pub(crate) amount: u64,
    #[serde(default)]
    pub(crate) metadata: BTreeMap<String, String>,
}

/// A page of objects, the newest first.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Page<T> {
    pub(crate) data: Vec<T>,
    pub(crate) has_more: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_encoded_as_the_official_client_does() {
        let call = ProcessorCall::post("/v1/x", &[("metadata[x402_payment]", "a b&c=d/é"), ("types[0]", "card")], "k");
        assert_eq!(call.encoded(), "metadata[x402_payment]=a%20b%26c%3Dd%2F%C3%A9&types[0]=card");
    }

    #[test]
    fn only_a_final_refusal_is_a_refusal() {
        let read = |status, body: &str| ProcessorAnswer::new(status, body.as_bytes().to_vec(), None).read::<Refund>();
        let error = |kind: &str| format!(r#"{{"error":{{"type":"{kind}","code":"c"}}}}"#);
        for status in [400, 402, 404] {
            assert!(matches!(read(status, &error("invalid_request_error")), Ok(Err(_))), "{status}");
            assert!(read(status, "<html>").is_err());
        }
        for status in [100, 300, 401, 403, 408, 409, 429, 500, 502, 503, 504] {
            assert!(read(status, &error("api_error")).is_err(), "{status}");
        }
        assert!(read(400, &error("idempotency_error")).is_err());
        assert!(read(200, r#"{"id":"re_1","status":"succ"#).is_err());
    }

    #[test]
    fn a_refusal_has_one_reason() {
        let error = |kind: &str, code: &str, decline: Option<&str>, param: Option<&str>| ApiError {
            kind: kind.to_owned(),
            code: Some(code.to_owned()),
            decline_code: decline.map(str::to_owned),
            param: param.map(str::to_owned),
        };
        for (error, reason) in [
            (error("card_error", "card_declined", Some("lost_card"), None), CardCode::CardDeclined),
            (error("card_error", "expired_card", None, None), CardCode::CardDeclined),
            (error("card_error", "incorrect_cvc", None, None), CardCode::CardDeclined),
            (
                error("card_error", "authentication_required", Some("authentication_required"), None),
                CardCode::PaymentFailed,
            ),
            (error("card_error", "card_declined", Some("authentication_required"), None), CardCode::PaymentFailed),
            (error("card_error", "processing_error", None, None), CardCode::PaymentFailed),
            (
                error("invalid_request_error", "resource_missing", None, Some("transfer_data[destination]")),
                CardCode::MerchantAccountInvalid,
            ),
            (error("invalid_request_error", "amount_too_small", None, Some("amount")), CardCode::PaymentFailed),
        ] {
            assert_eq!(error.reason(), reason, "{error:?}");
        }
    }
}
