//! Every recorded message says what made it, and its header holds the message.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

#[test]
fn every_message_has_its_provenance() {
    let messages = x402_testkit::messages().unwrap();
    assert!(messages.len() >= 40, "{} messages", messages.len());
    for (name, text) in messages {
        let vector: Value = serde_json::from_str(&text).unwrap();
        for key in ["type", "software", "how"] {
            assert!(vector[key].as_str().is_some_and(|text| !text.is_empty()), "{name}: {key}");
        }
        assert!(vector["json"].is_object(), "{name}: json");
        if let Some(header) = vector.get("header") {
            let bytes = STANDARD.decode(header.as_str().unwrap()).unwrap();
            assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), vector["json"], "{name}");
        }
    }
}

#[test]
fn every_message_of_the_protocol_is_recorded() {
    let recorded: Vec<String> = x402_testkit::messages()
        .unwrap()
        .into_iter()
        .map(|(_, text)| serde_json::from_str::<Value>(&text).unwrap()["type"].as_str().unwrap().to_owned())
        .collect();
    for message in [
        "v2::PaymentRequired",
        "v2::ResourceInfo",
        "v2::PaymentRequirements",
        "v2::PaymentPayload",
        "v2::VerifyResponse",
        "v2::SettleResponse",
        "v2::SupportedResponse",
        "v2::DiscoveryList",
        "v1::PaymentRequired",
        "v1::PaymentRequirements",
        "v1::PaymentPayload",
        "VerifyRequest",
        "SettleRequest",
    ] {
        assert!(recorded.iter().any(|recorded| recorded == message), "{message}");
    }
}
