//! Bodies of the fuzz targets in `fuzz/`: properties that hold for all input bytes. This module is not part of the API.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a property that does not hold has to be heard")]

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use x402_types::v2::{SettleResponse, SupportedResponse, VerifyResponse};
use x402_types::{PaymentPayload, PaymentRequired, PaymentRequirements, RawJson, VerifyRequest};

use crate::header::{PAYMENT_RESPONSE, PAYMENT_SIGNATURE, PaymentHeader};
use crate::json::{self, Node};
use crate::{DecodeError, DecodeErrorKind, Limits, base64 as ours, body, challenge, header, nvm};

/// Limits for encoded messages, which are slightly longer and deeper than the decoded input: absent members get their
/// defaults, and a payment is put into a body.
const WIDE: Limits = Limits { header: 1 << 20, body: 1 << 20, depth: 64, accepts: 64 };

/// The requirements of version 1, for payments that name none.
const V1: &str =
    r#"{"scheme":"exact","network":"base","maxAmountRequired":"1","asset":"0x","payTo":"0x","maxTimeoutSeconds":1}"#;

/// Checks the header of a payment, given as its value or as the JSON in it. Encoded again it is the same payment, and a
/// facilitator decodes it from the body of `/verify`, which contains the payer's text unchanged.
pub fn decode_payment_signature(data: &[u8]) {
    let Some(payment) = either(data, |headers| header::payment(headers, &Limits::DEFAULT).ok().flatten()) else {
        return;
    };
    let (name, value) = header::encode_payment(payment.payload()).unwrap();
    assert_eq!(name, PaymentHeader::of(payment.payload().version()).name());
    let again = header::decode_payment(PaymentHeader::XPayment, value.as_bytes(), &WIDE).unwrap();
    assert_eq!(again.payload(), payment.payload());

    let asked = match payment.payload() {
        PaymentPayload::V1(_) => serde_json::from_str(V1).map(PaymentRequirements::V1).unwrap(),
        PaymentPayload::V2(payment) => PaymentRequirements::V2(payment.accepted.clone()),
    };
    let body = payment.verify_body(&asked).unwrap();
    assert!(body.windows(payment.json().len()).any(|text| text == payment.json().as_bytes()));
    let request = body::verify_request(&body, &WIDE).unwrap();
    assert_eq!(&request.payment_payload, payment.payload());
    assert_eq!(request.payment_requirements, asked);
}

/// Checks the terms of a 402 from a header, raw or base64, and from a body: the document is the same.
pub fn decode_payment_required(data: &[u8]) {
    let body = body::payment_required(data, &Limits::DEFAULT);
    if let Ok(required) = &body {
        let value = header::encode_text(data).unwrap();
        assert_eq!(header::decode_payment_required(value.as_bytes(), &WIDE).as_ref(), Ok(required));
    }
    let Ok(required) = header::decode_payment_required(data, &Limits::DEFAULT).or(body) else { return };
    let value = header::encode(&required).unwrap();
    assert_eq!(header::decode_payment_required(value.as_bytes(), &WIDE).as_ref(), Ok(&required));
    let written = body::write(&required).unwrap();
    assert_eq!(body::payment_required(&written, &WIDE).as_ref(), Ok(&required));
    assert_eq!(serde_json::from_slice::<PaymentRequired>(&written).unwrap(), required);
}

/// Checks the responses of facilitators to `/verify`, `/settle` and `/supported`, and the header of a settlement.
pub fn decode_facilitator_answer(data: &[u8]) {
    again::<VerifyResponse>(data);
    again::<SupportedResponse>(data);
    again::<SettleResponse>(data);
    let read = either_in(&PAYMENT_RESPONSE, data, |headers| header::settle_response(headers, &Limits::DEFAULT).ok());
    if let Some(Some(response)) = read {
        let value = header::encode(&response).unwrap();
        assert_eq!(header::decode::<SettleResponse>(value.as_bytes(), &WIDE), Ok(response));
    }
}

/// Checks the body of `POST /verify` and `POST /settle`: encoded again it is the same request, and it equals the result
/// of the general types, which neither try version 2 first nor compare the entry with its echo.
pub fn decode_verify_request(data: &[u8]) {
    let Ok(request) = body::verify_request(data, &Limits::DEFAULT) else { return };
    if let Ok(slow) = json::from_slice::<VerifyRequest>(data, &Limits::DEFAULT) {
        assert_eq!(slow, request);
    }
    let written = body::write(&request).unwrap();
    let read = body::verify_request(&written, &WIDE).unwrap();
    assert_eq!(read.payment_payload, request.payment_payload);
    assert_eq!(read.payment_requirements, request.payment_requirements);
    let version = Some(request.payment_payload.version());
    assert_eq!(read.x402_version, version);
    assert!(request.x402_version.is_none() || request.x402_version == version);
}

/// Checks payments and requests of the Smart Accounts Extension. Any other input is decoded as x402.
pub fn decode_nvm(data: &[u8]) {
    if let Ok(request) = nvm::request(data, &Limits::DEFAULT) {
        assert!(nvm::is_request(data, &Limits::DEFAULT));
        let written = body::write(&request.body).unwrap();
        assert_eq!(nvm::request(&written, &WIDE).as_ref(), Ok(&request));
    }
    let Some((theirs, read)) = either(data, |headers| {
        let theirs = header::payment(headers, &Limits::DEFAULT).ok().flatten();
        nvm::payment(headers, &Limits::DEFAULT).ok().flatten().map(|read| (theirs, read))
    }) else {
        return;
    };
    match &read {
        nvm::EitherPayment::Nvm(payment, _) => {
            let raw = RawJson::of(payment).unwrap();
            assert_eq!(x402_types::nvm::PaymentPayload::from_raw(&raw).as_ref(), Ok(payment));
            let signed = x402_types::nvm::Payload::from_raw(payment.payload()).unwrap();
            let written: Value = payment.payload().read().unwrap();
            let signature = written.get("signature").and_then(Value::as_str).unwrap();
            let digits: String = signed.signature().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(format!("0x{digits}"), signature.to_ascii_lowercase(), "it has one spelling");
        }
        nvm::EitherPayment::X402(payment) => {
            assert_eq!(Some(payment.payload()), theirs.as_ref().map(header::DecodedPayment::payload));
        }
    }
}

/// Checks the documents of the `x402.v1` dialect. An encoded document fits into the dialect's header, or is refused for
/// its length.
pub fn decode_challenge(data: &[u8]) {
    if let Ok(read) = challenge::challenge(data) {
        assert_eq!(challenge::challenge(&body::write(&read).unwrap()), Ok(read));
    }
    if let Ok(read) = challenge::refusal(data) {
        assert_eq!(challenge::refusal(&body::write(&read).unwrap()), Ok(read));
    }
    let value = header::encode_text(data).unwrap();
    if let Ok(read) = challenge::payment(value.as_bytes()).or_else(|_| challenge::payment(data)) {
        assert_eq!(challenge::payment_json(&body::write(&read).unwrap()).as_ref(), Ok(&read));
        if let Ok(written) = challenge::encode_payment(&read) {
            assert!(written.len() <= challenge::HEADER);
            assert_eq!(challenge::payment(written.as_bytes()), Ok(read));
        }
    }
    if let Ok(read) = challenge::response(value.as_bytes()).or_else(|_| challenge::response(data))
        && let Ok(written) = challenge::encode_response(&read)
    {
        assert_eq!(challenge::response(written.as_bytes()), Ok(read));
    }
}

/// Compares the strict parser with `serde_json`. All its entry points agree; it refuses everything that `serde_json`
/// refuses, and beyond that only duplicate keys, documents nested too deeply, and numbers at the end of a double's
/// range.
pub fn diff_json(data: &[u8]) {
    let limits = Limits::DEFAULT;
    let tree = json::parse(data, &limits);
    let value = json::from_slice::<Value>(data, &limits);
    let why = tree.as_ref().err();
    assert_eq!(why, value.as_ref().err());
    assert_eq!(why, json::from_slice::<IgnoredAny>(data, &limits).as_ref().err());
    assert_eq!(why, json::from_slice::<Box<RawValue>>(data, &limits).as_ref().err());

    typed::<Vec<u64>>(data, why);
    typed::<BTreeMap<String, i64>>(data, why);
    typed::<Vec<Option<String>>>(data, why);
    typed::<Vec<(bool, u8)>>(data, why);

    let plain = serde_json::from_slice::<Plain>(data);
    match (&tree, value, plain) {
        (Ok(tree), Ok(value), Ok(plain)) => {
            assert!(!plain.twice && plain.depth <= usize::from(limits.depth));
            assert!(same(&value, &plain.value), "{value} and {}", plain.value);
            stands(tree, &value, data);
        }
        (Err(why), _, Ok(plain)) => match why.kind() {
            DecodeErrorKind::DuplicateKey => assert!(plain.twice),
            DecodeErrorKind::TooDeep => assert!(plain.depth > usize::from(limits.depth)),
            DecodeErrorKind::TooLarge => assert!(data.len() > limits.body),
            _ => assert!(at_the_end(&plain.value), "{why} is refused here alone"),
        },
        (Ok(_), Ok(value), Err(why)) => assert!(at_the_end(&value), "{why}: it is read here alone"),
        _ => {}
    }
}

/// Compares base64 with the crate `base64`: a value is accepted if exactly one form of that crate accepts it,
/// canonically.
pub fn diff_base64(data: &[u8]) {
    let forms = [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD];
    let theirs: Vec<Vec<u8>> = forms.iter().filter_map(|form| form.decode(data).ok()).collect();
    match ours::decode(data, data.len()) {
        Ok(bytes) => {
            assert!(!theirs.is_empty(), "it is read here alone");
            assert!(theirs.iter().all(|read| *read == bytes));
        }
        Err(why) => {
            assert!(theirs.is_empty(), "{why} is refused here alone");
            assert!(why.offset().is_some_and(|at| at <= data.len()), "{why}");
        }
    }
    let text = ours::encode(data);
    assert_eq!(text, STANDARD.encode(data));
    assert_eq!(ours::decode(text.as_bytes(), text.len()).as_deref(), Ok(data));
    let shorter = text.len().checked_sub(1).map(|limit| ours::decode(text.as_bytes(), limit).unwrap_err().kind());
    assert!(shorter.is_none_or(|kind| kind == DecodeErrorKind::TooLarge));
}

/// Checks that a type is parsed as by `serde_json`, unless the document is refused whatever the type.
fn typed<T: DeserializeOwned + PartialEq + std::fmt::Debug>(data: &[u8], why: Option<&DecodeError>) {
    let ours = json::from_slice::<T>(data, &Limits::DEFAULT);
    assert!(why.is_none() || ours.is_err(), "{ours:?}");
    if why.is_none() {
        assert_eq!(ours.ok(), serde_json::from_slice::<T>(data).ok());
    }
}

/// Parses a message from a body, and again as it is written, with the strict parser and with `serde_json`.
fn again<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(data: &[u8]) {
    let Ok(message) = json::from_slice::<T>(data, &Limits::DEFAULT) else { return };
    let written = body::write(&message).unwrap();
    assert_eq!(json::from_slice::<T>(&written, &WIDE).as_ref(), Ok(&message));
    assert_eq!(serde_json::from_slice::<T>(&written).unwrap(), message);
}

/// Decodes a payment's header, with the bytes as its value or, failing that, as the JSON in it.
fn either<T>(data: &[u8], read: impl Fn(&HeaderMap) -> Option<T>) -> Option<T> {
    either_in(&PAYMENT_SIGNATURE, data, read)
}

fn either_in<T>(name: &HeaderName, data: &[u8], read: impl Fn(&HeaderMap) -> Option<T>) -> Option<T> {
    let values = [HeaderValue::from_bytes(data).ok(), header::encode_text(data).ok()];
    values.into_iter().flatten().find_map(|value| read(&HeaderMap::from_iter([(name.clone(), value)])))
}

/// A document as `serde_json` parses it, with facts that it ignores.
struct Plain {
    value: Value,
    /// Whether an object has a duplicate key.
    twice: bool,
    depth: usize,
}

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Plain;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("JSON")
            }
            fn visit_unit<E>(self) -> Result<Plain, E> {
                Ok(Value::Null.into())
            }
            fn visit_bool<E>(self, value: bool) -> Result<Plain, E> {
                Ok(Value::from(value).into())
            }
            fn visit_u64<E>(self, value: u64) -> Result<Plain, E> {
                Ok(Value::from(value).into())
            }
            fn visit_i64<E>(self, value: i64) -> Result<Plain, E> {
                Ok(Value::from(value).into())
            }
            fn visit_f64<E>(self, value: f64) -> Result<Plain, E> {
                Ok(Value::from(value).into())
            }
            fn visit_str<E>(self, value: &str) -> Result<Plain, E> {
                Ok(Value::from(value).into())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Plain, A::Error> {
                let mut whole = Plain::from(Value::Null);
                let mut elements = Vec::new();
                while let Some(element) = seq.next_element::<Plain>()? {
                    elements.push(whole.take(element));
                }
                Ok(Plain { value: elements.into(), depth: whole.depth + 1, ..whole })
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Plain, A::Error> {
                let mut whole = Plain::from(Value::Null);
                let mut members = serde_json::Map::new();
                while let Some((key, member)) = map.next_entry::<String, Plain>()? {
                    let value = whole.take(member);
                    whole.twice |= members.insert(key, value).is_some();
                }
                Ok(Plain { value: members.into(), depth: whole.depth + 1, ..whole })
            }
        }
        deserializer.deserialize_any(Any)
    }
}

impl From<Value> for Plain {
    fn from(value: Value) -> Self {
        Self { value, twice: false, depth: 0 }
    }
}

impl Plain {
    fn take(&mut self, part: Self) -> Value {
        self.twice |= part.twice;
        self.depth = self.depth.max(part.depth);
        part.value
    }
}

/// Compares values, except for the last digits of a double, which `serde_json` computes by a shorter method.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        (Value::Number(m), Value::Number(n)) if m.is_f64() && n.is_f64() => {
            let (m, n) = (m.as_f64().unwrap(), n.as_f64().unwrap());
            (m - n).abs() <= m.abs().max(n.abs()) * 1e-14 || m.abs() < f64::MIN_POSITIVE
        }
        _ => a == b,
    }
}

/// Returns whether the value contains a number so close to the end of the range that rounding decides.
fn at_the_end(value: &Value) -> bool {
    match value {
        Value::Number(n) => n.as_f64().is_some_and(|n| n.abs() > 1.797_693_134_862_3e308),
        Value::Array(elements) => elements.iter().any(at_the_end),
        Value::Object(members) => members.values().any(at_the_end),
        _ => false,
    }
}

/// Checks that each part of the tree is at its span.
fn stands(node: &Node<'_>, value: &Value, data: &[u8]) {
    let text = data.get(node.span.clone()).unwrap();
    assert!(same(&serde_json::from_slice(text).unwrap(), value));
    match &node.value {
        json::Value::Null => assert!(value.is_null()),
        json::Value::Bool(truth) => assert_eq!(value.as_bool(), Some(*truth)),
        json::Value::Number(spelt) => assert_eq!(spelt.as_bytes(), text),
        json::Value::String(read) => assert_eq!(value.as_str(), Some(&**read)),
        json::Value::Array(elements) => {
            let values = value.as_array().unwrap();
            assert_eq!(elements.len(), values.len());
            elements.iter().zip(values).for_each(|(node, value)| stands(node, value, data));
        }
        json::Value::Object(members) => {
            let values = value.as_object().unwrap();
            assert_eq!(members.len(), values.len());
            for member in members {
                let key: String = serde_json::from_slice(data.get(member.key_span.clone()).unwrap()).unwrap();
                assert_eq!(key, member.key);
                stands(&member.value, values.get(&key).unwrap(), data);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    x402_testkit::replays!(
        decode_payment_signature,
        decode_payment_required,
        decode_facilitator_answer,
        decode_verify_request,
        decode_nvm,
        decode_challenge,
        diff_json,
        diff_base64,
    );
}
