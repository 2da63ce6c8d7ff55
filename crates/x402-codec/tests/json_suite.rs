//! [JSONTestSuite](https://github.com/nst/JSONTestSuite) on both faces, beside `serde_json`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation, missing_docs)]

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use x402_codec::{DecodeError, Limits, json};

#[derive(Deserialize)]
struct Case {
    name: String,
    #[serde(default)]
    input: String,
    unit: Option<String>,
    #[serde(default)]
    times: usize,
    #[serde(default)]
    end: String,
}

const WIDE: Limits = Limits { body: 1 << 20, ..Limits::DEFAULT };

fn suite() -> Vec<(String, Vec<u8>)> {
    let text = include_str!("../../x402-testkit/vectors/json/jsontestsuite.json");
    let cases: Vec<Case> = serde_json::from_str(text).unwrap();
    cases
        .into_iter()
        .map(|case| {
            let input = case.unit.map_or(case.input, |unit| unit.repeat(case.times) + &case.end);
            (case.name, input.into_bytes())
        })
        .collect()
}

/// What all faces say; that they agree is part of the claim.
fn verdict(bytes: &[u8], limits: &Limits) -> Result<(), DecodeError> {
    let tree = json::parse(bytes, limits).map(drop);
    let value = json::from_slice::<serde_json::Value>(bytes, limits).map(drop);
    let ignored = json::from_slice::<IgnoredAny>(bytes, limits).map(drop);
    let raw = json::from_slice::<Box<RawValue>>(bytes, limits).map(drop);
    assert_eq!(tree, ignored);
    assert_eq!(tree, raw);
    assert_eq!(tree, value);
    if tree.is_ok() {
        assert!(serde_json::from_slice::<serde_json::Value>(bytes).is_ok(), "accepts more than serde_json");
    }
    tree
}

/// The free cases that are accepted: integers beyond 64 bits and a number that underflows to zero.
const FREE: [&str; 5] = [
    "i_number_double_huge_neg_exp",
    "i_number_real_underflow",
    "i_number_too_big_neg_int",
    "i_number_too_big_pos_int",
    "i_number_very_big_negative_int",
];

/// The only good documents that are refused: RFC 8259 lets a key stand twice, x402 does not.
const TWICE: [&str; 2] = ["y_object_duplicated_key", "y_object_duplicated_key_and_value"];

#[test]
fn jsontestsuite() {
    let suite = suite();
    assert_eq!(suite.len(), 293);
    for (name, bytes) in suite {
        let verdict = verdict(&bytes, &WIDE);
        let good = name.starts_with("y_") && !TWICE.contains(&name.as_str()) || FREE.contains(&name.as_str());
        assert_eq!(verdict.is_ok(), good, "{name}: {verdict:?}");
        if TWICE.contains(&name.as_str()) {
            assert_eq!(verdict.unwrap_err().code(), "duplicate_key");
        }
    }
}

/// The classes of the files that are not UTF-8, with the byte at which each goes wrong.
#[test]
fn bytes_that_are_not_utf8() {
    let cases: [(&str, &[u8], usize); 25] = [
        ("UTF-16LE with BOM", b"\xFF\xFE[\0\"\0\xE9\0\"\0]\0", 0),
        ("invalid sequence", b"[\"\xE6\x97\xA5\xD1\x88\xFA\"]", 7),
        ("surrogate U+D800", b"[\"\xED\xA0\x80\"]", 2),
        ("0xFF", b"[\"\xFF\"]", 2),
        ("Latin-1", b"[\"\xE9\"]", 2),
        ("lone continuation", b"[\"\x81\"]", 2),
        ("beyond U+10FFFF", b"[\"\xF4\xBF\xBF\xBF\"]", 2),
        ("overlong, 2 bytes", b"[\"\xC0\xAF\"]", 2),
        ("overlong, 6 bytes", b"[\"\xFC\x83\xBF\xBF\xBF\xBF\"]", 2),
        ("overlong null, 6 bytes", b"[\"\xFC\x80\x80\x80\x80\x80\"]", 2),
        ("truncated", b"[\"\xE0\xFF\"]", 2),
        ("UTF-16BE", b"\0[\0\"\0\xE9\0\"\0]", 5),
        ("UTF-16LE", b"[\0\"\0\xE9\0\"\0]\0", 4),
        ("bare in an array", b"[a\xE5]", 2),
        ("alone in an array", b"[\xFF]", 1),
        ("in an integer", b"[0\xE5]", 2),
        ("in a big integer", b"[123\xE5]", 4),
        ("in an exponent", b"[1e1\xE5]", 4),
        ("after e", b"[1e\xE5]", 3),
        ("in a key", b"{\"\xB9\":\"0\",}", 2),
        ("in an escape", b"[\"\\u\xE5\"]", 4),
        ("after a backslash", b"[\"\\\xE5\"]", 3),
        ("incomplete BOM", b"\xEF\xBB{}", 0),
        ("alone", b"\xE5", 0),
        ("behind the document", b"{}\xE9", 2),
    ];
    for (name, bytes, at) in cases {
        let error = verdict(bytes, &WIDE).unwrap_err();
        assert_eq!((error.code(), error.offset()), ("invalid_utf8", Some(at)), "{name}");
    }
}

/// Cut anywhere, a document is no document; and nothing panics.
#[test]
fn every_prefix_is_refused() {
    let text = r#" {"a":[1,-2.5e3,true,null,{"b\u00e9":"\ud83d\ude00x"}],"é":"😀","":{}} "#;
    let end = text.trim_end().len();
    verdict(text.as_bytes(), &WIDE).unwrap();
    for cut in 0..end {
        verdict(&text.as_bytes()[..cut], &WIDE).unwrap_err();
    }
}

/// Every single byte changed to every other: whatever is accepted, `serde_json` accepts too, and the faces agree.
#[test]
fn every_byte_changed() {
    let text = br#"{"a":[1,-2.5e3,{"b\u00e9":"\ud83d\ude00x"}],"k":"/"}"#;
    let mut bytes = text.to_vec();
    for at in 0..bytes.len() {
        for byte in 0..=255 {
            bytes[at] = byte;
            let _ = verdict(&bytes, &WIDE);
        }
        bytes[at] = text[at];
    }
}
