//! Recorded messages, and every way in which this crate reads each.

mod edit;

pub(crate) use edit::set;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use x402_types::{PaymentPayload, PaymentRequired, SettleRequest, VerifyRequest, v1, v2};

pub(crate) struct Vector {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) json: Value,
}

pub(crate) fn recorded() -> Vec<Vector> {
    let messages = x402_testkit::messages().unwrap();
    messages
        .into_iter()
        .map(|(name, text)| {
            let mut vector: Value = serde_json::from_str(&text).unwrap();
            Vector { name, kind: vector["type"].as_str().unwrap().to_owned(), json: vector["json"].take() }
        })
        .collect()
}

pub(crate) type Rewrite = fn(&str) -> Result<Value, serde_json::Error>;

/// Reads a message and writes it again.
fn rewrite<T: DeserializeOwned + Serialize>(text: &str) -> Result<Value, serde_json::Error> {
    serde_json::from_str::<T>(text).map(|message| serde_json::to_value(message).unwrap())
}

/// The types that read a message of a kind: its own, and the one of either version.
pub(crate) fn readers(kind: &str) -> Vec<(&'static str, Rewrite)> {
    macro_rules! readers {
        ($($type:ty),*) => { vec![$( (stringify!($type), rewrite::<$type> as Rewrite) ),*] };
    }
    match kind {
        "v2::PaymentRequired" => readers!(v2::PaymentRequired, PaymentRequired),
        "v2::ResourceInfo" => readers!(v2::ResourceInfo),
        "v2::PaymentRequirements" => readers!(v2::PaymentRequirements),
        "v2::PaymentPayload" => readers!(v2::PaymentPayload, PaymentPayload),
        "v2::VerifyResponse" => readers!(v2::VerifyResponse),
        "v2::SettleResponse" => readers!(v2::SettleResponse),
        "v2::SupportedKind" => readers!(v2::SupportedKind),
        "v2::SupportedResponse" => readers!(v2::SupportedResponse),
        "v2::DiscoveredResource" => readers!(v2::DiscoveredResource),
        "v2::Pagination" => readers!(v2::Pagination),
        "v2::DiscoveryList" => readers!(v2::DiscoveryList),
        "v1::PaymentRequired" => readers!(v1::PaymentRequired, PaymentRequired),
        "v1::PaymentRequirements" => readers!(v1::PaymentRequirements),
        "v1::PaymentPayload" => readers!(v1::PaymentPayload, PaymentPayload),
        "VerifyRequest" => readers!(VerifyRequest),
        "SettleRequest" => readers!(SettleRequest),
        other => panic!("no type {other}"),
    }
}
