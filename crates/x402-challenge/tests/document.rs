//! The JSON and headers of `402kit-x402v1.md`, both directions, and what is refused of them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)]

use serde_json::{Value, json};
use x402_codec::challenge as codec;
use x402_types::challenge::{Challenge, Payment, PaymentResponse};

const CHALLENGE: &str = include_str!("document/challenge.json");
const PAYMENT: &str = include_str!("document/payment.json");
const RESPONSE: &str = include_str!("document/response.json");

/// Without the white space outside of strings. A `serde_json::Value` would sort the members.
fn compact(text: &str) -> String {
    let mut inside = false;
    text.chars()
        .filter(|c| {
            inside ^= *c == '"';
            inside || !c.is_whitespace()
        })
        .collect()
}

#[test]
fn the_challenge_both_ways() {
    let challenge: Challenge = codec::challenge(CHALLENGE.as_bytes()).unwrap();
    assert_eq!(challenge.max_amount_required.to_string(), "1000");
    assert_eq!(challenge.bind.body_sha256, None);
    // `meta` is written as it came, white space and all.
    assert_eq!(compact(&serde_json::to_string(&challenge).unwrap()), compact(CHALLENGE));
    assert_eq!(challenge.meta.unwrap().text("description").as_deref(), Some("One-off access"));
}

#[test]
fn the_payment_both_ways() {
    let header = include_str!("document/payment.header");
    let payment: Payment = codec::payment(header.as_bytes()).unwrap();
    assert_eq!(payment, codec::payment_json(PAYMENT.as_bytes()).unwrap());
    assert_eq!(serde_json::to_string(&payment).unwrap(), compact(PAYMENT));
    let written = codec::encode_payment(&payment).unwrap();
    assert_eq!(written.to_str().unwrap(), header);
    assert!(written.is_sensitive());
}

#[test]
fn the_response_both_ways() {
    let header = include_str!("document/response.header");
    let response: PaymentResponse = codec::response(header.as_bytes()).unwrap();
    assert_eq!(serde_json::to_string(&response).unwrap(), compact(RESPONSE));
    assert_eq!(codec::encode_response(&response).unwrap().to_str().unwrap(), header);
}

#[test]
fn both_alphabets_are_read_with_padding_or_without() {
    // Members whose base64 has `+` and `/` in the standard alphabet.
    let text = PAYMENT.replace("random-128bit", "~~~???>>>~~~???>>>");
    let standard = x402_codec::base64::encode(text.as_bytes());
    assert!(standard.contains('+') && standard.contains('/'), "{standard}");
    let url_safe = standard.replace('+', "-").replace('/', "_");
    for value in [&standard, &url_safe] {
        assert!(codec::payment(value.as_bytes()).is_ok());
        assert!(codec::payment(value.trim_end_matches('=').as_bytes()).is_ok());
    }
    assert_eq!(codec::payment(standard.replacen('+', "-", 1).as_bytes()).unwrap_err().code(), "invalid_base64");
}

#[test]
fn the_documents_own_mistakes_are_refused_by_name() {
    let error = codec::challenge(include_bytes!("document/challenge.original.json")).unwrap_err();
    assert_eq!((error.code(), error.at().to_string().as_str()), ("invalid_field", "$.payTo"));
    let error = codec::payment_json(include_bytes!("document/payment.original.json")).unwrap_err();
    assert_eq!((error.code(), error.at().to_string().as_str()), ("invalid_field", "$.asset"));
    let error = codec::payment_json(include_bytes!("document/payment.elided-asset.json")).unwrap_err();
    assert_eq!((error.code(), error.at().to_string().as_str()), ("invalid_field", "$.asset"));
    let whole = include_str!("document/payment.original.json")
        .replace("0x036CbD...", "0x036CbD53842c5426634e7929541eC2318f3dCF7e");
    assert_eq!(codec::payment_json(whole.as_bytes()).unwrap_err().code(), "invalid_json");
}

#[test]
fn a_header_has_4096_bytes_at_most() {
    let mut payment = codec::payment_json(PAYMENT.as_bytes()).unwrap();
    let mut fits = None;
    for length in 2700..2850 {
        payment.proof.ticket = Some("t".repeat(length).into());
        let text = serde_json::to_vec(&payment).unwrap();
        let value = x402_codec::base64::encode(&text);
        let value = value.trim_end_matches('=').as_bytes();
        assert_eq!(codec::encode_payment(&payment).is_ok(), value.len() <= 4096);
        match codec::payment(value) {
            Ok(_) => fits = Some(value.len()),
            Err(error) => {
                assert!(value.len() > 4096);
                assert_eq!(error.code(), "too_large");
            }
        }
    }
    assert_eq!(fits, Some(4096));
}

#[test]
fn cr_and_lf_are_refused() {
    let header = include_str!("document/payment.header");
    for bad in [
        format!("{header}\r\n"),
        format!("{header}\n"),
        header.replacen('e', "e\r", 1),
        header.replacen('J', "J\nJ", 1),
    ] {
        assert_eq!(codec::payment(bad.as_bytes()).unwrap_err().code(), "invalid_base64");
    }
}

/// What each field of a payment must refuse beside absence, null and another type.
fn bad_payment(field: &str) -> Vec<Value> {
    let long = "x".repeat(3000);
    let mut bad =
        vec![json!(null), json!(7), json!(true), json!([]), json!(""), json!("a\r\nb"), json!("a\nb"), json!(long)];
    match field {
        "paidAmount" => {
            bad.extend([json!("01"), json!("+1"), json!("1e3"), json!("1.0"), json!("0x10"), json!(" 1"), json!("-1")])
        }
        "issuedAt" => bad.extend([
            json!("2025-10-19T12:00:00"),
            json!("2025-10-19"),
            json!("0000-01-01T00:00:00Z"),
            json!("1969-12-31T23:59:59Z"),
            json!("99999-01-01T00:00:00Z"),
        ]),
        "network" => bad.extend([json!("eip155:84532"), json!("base"), json!("evm::sepolia")]),
        "asset" => bad.extend([json!("0x036CbD..."), json!("0x036CbD53842c5426634e7929541eC2318f3dCF7")]),
        "challengeId" | "nonce" => bad.push(json!("x".repeat(129))),
        "proof" => bad.push(json!({})),
        _ => {}
    }
    bad
}

#[test]
fn every_field_of_a_payment() {
    let good: Value = serde_json::from_str(PAYMENT).unwrap();
    let fields: Vec<String> = good.as_object().unwrap().keys().cloned().collect();
    assert_eq!(fields.len(), 9);
    for field in &fields {
        let mut absent = good.clone();
        absent.as_object_mut().unwrap().remove(field);
        let error = codec::payment_json(absent.to_string().as_bytes()).unwrap_err();
        assert_eq!((error.code(), error.at().to_string()), ("missing_field", format!("$.{field}")));
        for value in bad_payment(field) {
            let mut bad = good.clone();
            bad[field] = value;
            let error = codec::payment_json(bad.to_string().as_bytes()).unwrap_err();
            assert!(error.at().to_string().starts_with(&format!("$.{field}")), "{field}: {error}");
        }
    }
    let mut unknown = good;
    unknown["extra"] = json!({"a": 1});
    let payment = codec::payment_json(unknown.to_string().as_bytes()).unwrap();
    assert_eq!(serde_json::to_value(&payment).unwrap(), unknown);
}

#[test]
fn every_field_of_a_challenge() {
    let good: Value = serde_json::from_str(CHALLENGE).unwrap();
    let fields: Vec<String> = good.as_object().unwrap().keys().cloned().collect();
    assert_eq!(fields.len(), 11);
    for field in fields.iter().filter(|field| *field != "meta") {
        let mut absent = good.clone();
        absent.as_object_mut().unwrap().remove(field);
        let error = codec::challenge(absent.to_string().as_bytes()).unwrap_err();
        assert_eq!((error.code(), error.at().to_string()), ("missing_field", format!("$.{field}")));
        for value in [
            json!(null),
            json!(-1),
            json!(1.5),
            json!(true),
            json!([]),
            json!(""),
            json!("a\r\nb"),
            json!("x".repeat(3000)),
        ] {
            let mut bad = good.clone();
            bad[field] = value;
            let error = codec::challenge(bad.to_string().as_bytes()).unwrap_err();
            assert_eq!(error.at().to_string(), format!("$.{field}"));
        }
    }
    for part in ["host", "method", "path"] {
        for value in [json!(null), json!(1), json!(""), json!("a\r\nb"), json!("/x".repeat(2000))] {
            let mut bad = good.clone();
            bad["bind"][part] = value;
            let error = codec::challenge(bad.to_string().as_bytes()).unwrap_err();
            assert_eq!(error.at().to_string(), format!("$.bind.{part}"));
        }
    }
    for value in [json!(1), json!(""), json!("zz"), json!("a".repeat(63))] {
        let mut bad = good.clone();
        bad["bind"]["bodySha256"] = value;
        assert_eq!(codec::challenge(bad.to_string().as_bytes()).unwrap_err().at().to_string(), "$.bind.bodySha256");
    }
    let mut other = good;
    other["version"] = json!("x402.v2");
    assert_eq!(codec::challenge(other.to_string().as_bytes()).unwrap_err().at().to_string(), "$.version");
}

#[test]
fn every_proof_has_its_members() {
    let hash = format!("0x{}", "ab".repeat(32));
    let preimage = "ab".repeat(32);
    let good = [
        (json!({"type": "facilitator", "ticket": "t", "verifyUrl": "http://127.0.0.1/"}), "ticket"),
        (json!({"type": "onchain", "txHash": hash, "blockNumber": 7}), "txHash"),
        (json!({"type": "exact", "payload": {"signature": "0x"}}), "payload"),
        (json!({"type": "lightning", "invoice": "lnbc1", "preimage": preimage}), "preimage"),
        (json!({"type": "lightning", "invoice": "lnbc1", "preimage": preimage}), "invoice"),
        (json!({"type": "mock", "signature": "s"}), "signature"),
    ];
    let read = |proof: &Value| {
        let mut payment: Value = serde_json::from_str(PAYMENT).unwrap();
        payment["proof"] = proof.clone();
        codec::payment_json(payment.to_string().as_bytes())
    };
    for (proof, member) in good {
        let payment = read(&proof).unwrap();
        assert_eq!(serde_json::to_value(&payment.proof).unwrap(), proof);
        let mut absent = proof.clone();
        absent.as_object_mut().unwrap().remove(member);
        let mut cases = vec![absent];
        for value in [json!(null), json!(7), json!(""), json!("a\r\nb"), json!([])] {
            let mut bad = proof.clone();
            bad[member] = value;
            cases.push(bad);
        }
        for bad in cases {
            let error = read(&bad).unwrap_err();
            assert_eq!(error.at().to_string(), format!("$.proof.{member}"), "{bad}");
        }
    }
    for kind in ["", "Mock", "facilitator ", "card", "x402"] {
        let error = read(&json!({"type": kind})).unwrap_err();
        assert_eq!(error.at().to_string(), "$.proof.type");
    }
}
