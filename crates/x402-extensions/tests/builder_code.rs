//! The extension `builder-code` against values recorded from the published TypeScript SDK, among them transactions that it
//! settled on a chain: `x402-testkit/vectors/extensions.md`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use serde_json::{Value, json};
use x402_extensions::builder_code::{BuilderCode, BuilderCodes};
use x402_types::Members;

fn vectors() -> Value {
    serde_json::from_str(&x402_testkit::vector("extensions.json").unwrap()).unwrap()
}

fn bytes(text: &Value) -> Vec<u8> {
    let digits = text.as_str().unwrap().trim_start_matches("0x");
    (0..digits.len() / 2).map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap()).collect()
}

fn code(text: &Value) -> Option<BuilderCode> {
    text.as_str().map(|text| text.parse().unwrap())
}

/// The codes of a recorded object `{a?, w?, s?}`.
fn codes(data: &Value) -> BuilderCodes {
    let mut codes = BuilderCodes::default();
    (codes.app, codes.wallet) = (code(&data["a"]), code(&data["w"]));
    codes.services = data["s"].as_array().unwrap_or(&Vec::new()).iter().map(|text| code(text).unwrap()).collect();
    codes
}

#[test]
fn suffixes_are_the_sdk_s_byte_for_byte() {
    let all = vectors();
    for case in all["builder-code.encode"].as_array().unwrap() {
        let codes = codes(&case["data"]);
        assert_eq!(codes.to_suffix(), bytes(&case["suffix"]), "{}", case["index"]);
        let calldata = [&[0x12, 0x34][..], &codes.to_suffix()].concat();
        assert_eq!(BuilderCodes::of_calldata(&calldata), Some(codes));
    }
}

#[test]
fn a_facilitator_writes_the_suffix_that_the_sdk_s_writes() {
    for case in vectors()["builder-code.facilitatorSuffix"].as_array().unwrap() {
        let extensions: Members = serde_json::from_value(match &case["extensions"] {
            Value::Null => json!({}),
            echoed => echoed.clone(),
        })
        .unwrap();
        let (wallet, service) = (code(&case["config"]["builderCode"]), code(&case["config"]["serviceCode"]));
        let codes = BuilderCodes::echoed(&extensions).with_facilitator(wallet.as_ref(), service.as_ref());
        match case["dataSuffix"].as_str() {
            Some(_) => assert_eq!(codes.to_suffix(), bytes(&case["dataSuffix"]), "{}", case["id"]),
            None => assert!(codes.is_empty(), "{}", case["id"]),
        }
    }
}

#[test]
fn transactions_that_were_settled_are_read() {
    let all = vectors();
    let mut seen = 0;
    for case in all["builder-code.settleTransactions"].as_array().unwrap() {
        let read = BuilderCodes::of_calldata(&bytes(&case["transaction"]["input"]));
        let expected = case["suffixParsed"].is_object().then(|| codes(&case["suffixParsed"]));
        assert_eq!(read, expected, "{}", case["id"]);
        seen += usize::from(read.is_some());
    }
    assert_eq!(seen, 2);
    for case in all["builder-code.parse"].as_array().unwrap() {
        assert_eq!(BuilderCodes::of_calldata(&bytes(&case["calldata"])), None, "{}", case["id"]);
    }
}

#[test]
fn codes_have_the_sdk_s_limits() {
    for case in vectors()["builder-code.limits"].as_array().unwrap() {
        let Some(text) = case["input"].as_str() else { continue };
        assert_eq!(text.parse::<BuilderCode>().is_ok(), case["result"] == "ok", "{text}");
    }
    for bad in ["", "A", "a-b", "a b", "é", "a\n"] {
        assert!(bad.parse::<BuilderCode>().is_err(), "{bad:?}");
    }
}

#[test]
fn a_suffix_that_is_cut_or_written_otherwise_is_none() {
    let mut whole = BuilderCodes::default();
    whole.app = Some("bc_myapp".parse().unwrap());
    whole.services = vec!["svc_one".parse().unwrap(), "a_code_of_24_characters_".parse().unwrap()];
    let suffix = whole.to_suffix();
    assert_eq!(BuilderCodes::of_calldata(&suffix), Some(whole));
    for at in 1..suffix.len() {
        let cut = &suffix[at..];
        assert_eq!(BuilderCodes::of_calldata(cut), None, "{at}");
        assert_eq!(BuilderCodes::of_calldata(&suffix[..at]), None, "{at}");
    }
    for at in 0..suffix.len() {
        for bit in 0..8 {
            let mut changed = suffix.clone();
            changed[at] ^= 1 << bit;
            if let Some(codes) = BuilderCodes::of_calldata(&changed) {
                assert!(changed.ends_with(&codes.to_suffix()), "{at} {bit}");
            }
        }
    }
    let with_map = |map: &[u8]| {
        let length = u16::try_from(map.len()).unwrap().to_be_bytes();
        [map, &length, &[2], &[0x80, 0x21].repeat(8)].concat()
    };
    // Another order of keys, a key twice, an unknown key, a long form of a short length, a code that is none, too many.
    for map in [
        b"\xa2\x61w\x61x\x61a\x61y".to_vec(),
        b"\xa2\x61a\x61x\x61a\x61y".to_vec(),
        b"\xa1\x61z\x61x".to_vec(),
        b"\xa1\x61a\x78\x01x".to_vec(),
        b"\xa1\x61a\x61X".to_vec(),
        b"\xb8\x01\x61a\x61x".to_vec(),
        b"\xa1\x61s\x80".to_vec(),
        b"\xbf\x61a\x61x\xff".to_vec(),
        [b"\xa1\x61s\x8c".to_vec(), b"\x61x".repeat(12)].concat(),
        b"\xa1\x61a\x61x\x00".to_vec(),
        Vec::new(),
    ] {
        assert_eq!(BuilderCodes::of_calldata(&with_map(&map)), None, "{map:?}");
    }
}
