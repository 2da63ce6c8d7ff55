//! Messages of [x402 v2](https://github.com/coinbase/x402/blob/main/specs/x402-specification-v2.md) §5, §7, §8 and of
//! [v1](https://github.com/coinbase/x402/blob/main/specs/x402-specification-v1.md) §5 as the published SDKs write them:
//! `crates/x402-testkit/vectors/messages`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)]

mod common;

use common::{readers, recorded, set};
use serde_json::{Value, json};
use x402_types::{
    AmountRule, Claim, Entry, PaymentPayload, PaymentRequired, PaymentRequirements, RawJson, Terms, VerifyRequest,
    Version, v1, v2,
};

/// Where what we write differs from what was recorded: a member added, or with `None` left out. We write no `null`, and
/// we write what a message should not lack.
const DIFFERENCES: &[(&str, &str, Option<&str>)] = &[
    ("py-payment-required-nulls", "/error", None),
    ("py-payment-required-nulls", "/resource", None),
    ("py-payment-required-nulls", "/extensions", None),
    ("py-supported-response", "/kinds/0/extra", None),
    ("py-verify-response-nulls", "/invalidReason", None),
    ("py-verify-response-nulls", "/invalidMessage", None),
    ("py-verify-response-nulls", "/extensions", None),
    ("py-verify-response-nulls", "/extra", None),
    ("py-v1-payment-required", "/error", Some("\"\"")),
    ("py-v1-payment-required", "/accepts/0/description", Some("\"\"")),
    ("py-v1-payment-required", "/accepts/0/mimeType", Some("\"\"")),
    ("py-v1-payment-required", "/accepts/0/extra", Some("{}")),
    ("py-v1-supported-response", "/extensions", Some("[]")),
    ("py-v1-supported-response", "/signers", Some("{}")),
    ("v1-supported-response", "/extensions", Some("[]")),
    ("v1-supported-response", "/signers", Some("{}")),
];

/// Every object in a message that keeps unknown members.
const OBJECTS: &[&str] = &[
    "",
    "/resource",
    "/accepts/0",
    "/accepts/1",
    "/accepted",
    "/kinds/0",
    "/items/0",
    "/items/0/accepts/0",
    "/pagination",
    "/paymentPayload",
    "/paymentPayload/resource",
    "/paymentPayload/accepted",
    "/paymentRequirements",
];

fn message(name: &str) -> Value {
    recorded().into_iter().find(|vector| vector.name == name).unwrap_or_else(|| panic!("no vector {name}")).json
}

fn read<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_str(&value.to_string()).unwrap()
}

#[test]
fn every_recorded_message_is_written_as_it_was_read() {
    for vector in recorded() {
        let mut expected = vector.json.clone();
        for (_, pointer, written) in DIFFERENCES.iter().filter(|(name, ..)| *name == vector.name) {
            let before = expected.clone();
            set(&mut expected, pointer, written.map(|text| serde_json::from_str(text).unwrap()));
            assert_ne!(before, expected, "{}: {pointer} is no difference", vector.name);
        }
        for (reader, rewrite) in readers(&vector.kind) {
            assert_eq!(rewrite(&vector.json.to_string()).unwrap(), expected, "{} as {reader}", vector.name);
        }
    }
}

#[test]
fn unknown_members_survive_in_every_object() {
    let unknown = json!({"deep": [1, null, "ü", {"x": 1.5}]});
    for vector in recorded() {
        for (reader, rewrite) in readers(&vector.kind) {
            let plain = rewrite(&vector.json.to_string()).unwrap();
            for pointer in OBJECTS {
                // A request to a facilitator ends there; what it carries is forwarded, the envelope is not.
                let envelope = pointer.is_empty() && vector.kind.ends_with("Request");
                // An entry that stays opaque is tested below.
                if envelope || !plain.pointer(pointer).is_some_and(Value::is_object) {
                    continue;
                }
                let (mut with, mut expected) = (vector.json.clone(), plain.clone());
                for document in [&mut with, &mut expected] {
                    set(document, &format!("{pointer}/x-unknown"), Some(unknown.clone()));
                }
                assert_eq!(rewrite(&with.to_string()).unwrap(), expected, "{} as {reader}: {pointer}", vector.name);
            }
        }
    }
}

#[test]
fn members_of_the_other_version_survive_as_unknown_ones() {
    let cases = [
        ("v1-payment-required", json!({"resource": {"url": "https://a.example/"}, "extensions": {"e": {"info": 1}}})),
        ("v1-payment-payload", json!({"resource": {"url": "https://a.example/"}, "extensions": {"e": {"info": 1}}})),
        ("v2-payment-payload", json!({"scheme": "exact", "network": "base-sepolia"})),
    ];
    for (name, added) in cases {
        let mut document = message(name);
        document.as_object_mut().unwrap().extend(added.as_object().unwrap().clone());
        for (reader, rewrite) in readers(&recorded().into_iter().find(|vector| vector.name == name).unwrap().kind) {
            assert_eq!(rewrite(&document.to_string()).unwrap(), document, "{name} as {reader}");
        }
    }

    let mut request = message("v2-verify-request");
    for (key, value) in [("resource", "https://a.example/"), ("description", "d"), ("maxAmountRequired", "10000")] {
        set(&mut request, &format!("/paymentRequirements/{key}"), Some(json!(value)));
    }
    assert_eq!(serde_json::to_value(read::<VerifyRequest>(&request)).unwrap(), request);
}

#[test]
fn an_entry_that_cannot_be_read_survives_and_is_never_chosen() {
    let good = message("v2-payment-requirements");
    let changed = |pointer: &str, value: Value| {
        let mut entry = good.clone();
        set(&mut entry, pointer, Some(value));
        entry
    };
    let opaque = [
        changed("/network", json!("base")),
        changed("/network", json!("eip155:0x1")),
        changed("/amount", json!(10000)),
        changed("/amount", json!("010000")),
        changed("/scheme", json!("")),
        changed("/maxTimeoutSeconds", json!(0)),
        changed("/extra", json!([])),
        json!({"scheme": "cash", "where": "at the counter"}),
        json!("exact"),
        json!(null),
        json!([good]),
    ];
    let mut document = message("v2-payment-required");
    for entry in &opaque {
        document["accepts"].as_array_mut().unwrap().push(entry.clone());
    }
    let required: PaymentRequired = read(&document);
    assert_eq!(required.terms().len(), 1);
    assert_eq!(serde_json::to_value(&required).unwrap(), document);
    let PaymentRequired::V2(required) = required else { panic!("not version 2") };
    assert_eq!(required.accepts.iter().filter(|entry| entry.known().is_none()).count(), opaque.len());

    let mut supported = message("v2-supported-response");
    for kind in [json!({"x402Version": 3, "scheme": "exact", "network": "eip155:1"}), json!({"scheme": "x"}), json!(7)]
    {
        supported["kinds"].as_array_mut().unwrap().push(kind);
    }
    let read_back: v2::SupportedResponse = read(&supported);
    assert_eq!(read_back.kinds.iter().filter_map(Entry::known).count(), 2);
    assert_eq!(serde_json::to_value(&read_back).unwrap(), supported);

    // The SDKs' types have a text where §8 has a number.
    for (name, is_text) in [("py-discovery-list", true), ("v2-discovery-list", false)] {
        let listing: v2::DiscoveryList = read(&message(name));
        let read = listing.items[0].known().unwrap().last_updated.as_ref().unwrap().read::<Value>().unwrap();
        assert_eq!(read.is_string(), is_text, "{name}");
    }
    let listing: v2::DiscoveryList = read(&message("v2-discovery-list"));
    assert_eq!(listing.items[0].known().unwrap().accepts.iter().filter_map(Entry::known).count(), 2);
}

#[test]
fn a_challenge_without_resource_can_be_paid() {
    for name in ["py-payment-required-no-resource", "py-payment-required-nulls"] {
        let required: PaymentRequired = read(&message(name));
        assert_eq!(required.resource(), None, "{name}");
        assert_eq!(required.terms().len(), 1, "{name}");
    }
}

#[test]
fn what_peers_write_in_failed_answers_is_read() {
    let answer: v2::SettleResponse =
        read(&json!({"success": false, "errorReason": "x", "transaction": "", "network": "", "amount": ""}));
    assert_eq!(answer.network.chain_id(), None);
    assert_eq!(answer.amount.and_then(x402_types::Blank::value), None);
    let answer: v2::SettleResponse = read(&message("v1-payment-response"));
    assert_eq!(answer.network.chain_id(), Some("eip155:84532".parse().unwrap()));
    let pending: v2::SettleResponse = read(&message("v2-payment-response-pending"));
    assert_eq!(pending.error_reason, Some(x402_types::ErrorReason::SETTLEMENT_PENDING));
    assert_eq!(pending.transaction.len(), 66);
}

/// The v2 document of `@x402/express` 2.27 and the v1 document of `x402-express` 1.2 make the same offer.
#[test]
fn both_versions_of_one_offer_convert_into_each_other() {
    let (old, new) = (message("v1-payment-required"), message("v2-payment-required"));
    let (v1_document, v2_document): (PaymentRequired, PaymentRequired) = (read(&old), read(&new));
    let [v1_terms, v2_terms] = [&v1_document, &v2_document].map(|document| document.terms().remove(0));
    let same = v1_terms.with_version(Version::V2).with_max_timeout_seconds(v2_terms.max_timeout_seconds);
    assert_eq!(same, v2_terms);

    let converted = serde_json::to_value(v1_document.to_v2()).unwrap();
    let mut expected = new.clone();
    set(&mut expected, "/error", Some(old["error"].clone()));
    set(&mut expected, "/resource/url", Some(old["accepts"][0]["resource"].clone()));
    set(&mut expected, "/accepts/0/maxTimeoutSeconds", Some(old["accepts"][0]["maxTimeoutSeconds"].clone()));
    for without in ["/resource/serviceName", "/resource/tags", "/resource/iconUrl"] {
        set(&mut expected, without, None);
    }
    assert_eq!(converted, expected);

    let converted = serde_json::to_value(v2_document.to_v1()).unwrap();
    let mut expected = old.clone();
    set(&mut expected, "/error", Some(new["error"].clone()));
    set(&mut expected, "/accepts/0/resource", Some(new["resource"]["url"].clone()));
    set(&mut expected, "/accepts/0/maxTimeoutSeconds", Some(new["accepts"][0]["maxTimeoutSeconds"].clone()));
    set(&mut expected, "/accepts/0/outputSchema", None);
    assert_eq!(converted, expected);

    let back = PaymentRequired::V1(PaymentRequired::V2(v1_document.to_v2()).to_v1());
    let mut expected = old;
    set(&mut expected, "/accepts/0/outputSchema", None);
    assert_eq!(serde_json::to_value(&back).unwrap(), expected);
}

#[test]
fn a_network_without_a_caip_2_name_stays_opaque_in_version_2() {
    let mut old = message("v1-payment-required");
    set(&mut old, "/accepts/0/network", Some(json!("moonbase")));
    let document: PaymentRequired = read(&old);
    assert_eq!(document.terms(), []);
    let converted = document.to_v2();
    let [Entry::Opaque(entry)] = converted.accepts.as_slice() else { panic!("read") };
    assert!(entry.same(&RawJson::of(&old["accepts"][0]).unwrap()));
}

#[test]
fn a_recorded_payment_fits_its_challenge_and_is_written_again_from_its_claim() {
    for (challenge, payment) in [
        ("v2-payment-required", "v2-payment-payload"),
        ("v2-payment-required-extensions", "v2-payment-payload-extensions"),
        ("v1-payment-required", "v1-payment-payload"),
        ("v1-payment-required", "v1-payment-payload-2.27"),
    ] {
        let terms = read::<PaymentRequired>(&message(challenge)).terms().remove(0);
        let recorded = message(payment);
        let read_back: PaymentPayload = read(&recorded);
        assert!(read_back.is_for(&terms), "{payment}");
        assert_eq!(
            serde_json::to_value(Claim::new(terms.clone(), read_back).to_payment()).unwrap(),
            recorded,
            "{payment}"
        );

        let mut other = recorded;
        let network = if other["accepted"].is_object() { "/accepted/network" } else { "/network" };
        set(&mut other, network, Some(json!("eip155:1")));
        assert!(!read::<PaymentPayload>(&other).is_for(&terms), "{payment}");
    }
}

/// `upto`: `amount` of `paymentRequirements` is the maximum when it is verified, and what was used when it is settled;
/// `accepted` echoes the maximum.
#[test]
fn less_than_was_accepted_may_be_settled_where_the_scheme_says_so() {
    let mut terms = read::<PaymentRequired>(&message("v2-payment-required")).terms().remove(0);
    let payment: PaymentPayload = read(&message("v2-payment-payload"));
    let authorized = terms.amount;
    for (amount, equal, at_most) in [(authorized, true, true), (1.into(), false, true), (u64::MAX.into(), false, false)]
    {
        terms.amount = amount;
        assert_eq!(payment.settles(&terms, AmountRule::Equal), equal, "{amount}");
        assert_eq!(payment.settles(&terms, AmountRule::AtMost), at_most, "{amount}");
        assert_eq!(payment.is_exceeded_by(&terms, AmountRule::AtMost), !at_most, "{amount}");
        assert!(!payment.is_exceeded_by(&terms, AmountRule::Equal), "{amount}: another entry");
        assert_eq!(payment.is_for(&terms), equal, "what a server offers is echoed as it is");
    }
    let asset = terms.asset.clone();
    terms = terms.with_amount(1.into()).with_pay_to(asset);
    assert!(!payment.settles(&terms, AmountRule::AtMost), "everything else is compared all the same");
    terms.amount = u64::MAX.into();
    assert!(!payment.is_exceeded_by(&terms, AmountRule::AtMost), "everything else is compared all the same");
}

#[test]
fn a_facilitator_tells_the_versions_apart() {
    for (name, version) in [
        ("v1-verify-request", Version::V1),
        ("v1-settle-request", Version::V1),
        ("v2-verify-request", Version::V2),
        ("v2-settle-request", Version::V2),
    ] {
        let mut document = message(name);
        let request: VerifyRequest = read(&document);
        assert_eq!((request.x402_version, request.payment_payload.version()), (Some(version), version), "{name}");
        let terms = Terms::try_from(&request.payment_requirements).unwrap();
        assert_eq!(
            (terms.version, terms.network.as_str(), terms.amount.to_string().as_str()),
            (version, "eip155:84532", "10000")
        );
        assert!(matches!(
            (version, &request.payment_requirements),
            (Version::V1, PaymentRequirements::V1(_)) | (Version::V2, PaymentRequirements::V2(_))
        ));
        set(&mut document, "/x402Version", None);
        assert_eq!(read::<VerifyRequest>(&document).x402_version, None, "{name}");
    }
}

/// v1 writes `resource` as a URL; some servers wrote an object under version 1.
#[test]
fn a_v1_resource_is_read_as_text_or_object() {
    let mut entry = message("v1-payment-requirements");
    let text = entry["resource"].clone();
    set(&mut entry, "/resource", Some(json!({"url": text, "description": "d"})));
    let read_back: v1::PaymentRequirements = read(&entry);
    assert_eq!(serde_json::to_value(&read_back).unwrap()["resource"], text);
}
