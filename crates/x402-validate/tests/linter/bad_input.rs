//! "Empty, binary, 10 MiB, 10,000 nested arrays, duplicate keys, invalid UTF-8, BOM, lone surrogates, numbers beyond f64".

use serde_json::{Value, json};
use x402_validate::{Code, Options, lint};

/// The message names the byte.
fn byte(bytes: &[u8]) -> usize {
    let report = lint(bytes, &Options::default());
    assert_eq!(report.errors.len(), 1);
    let issue = &report.errors[0];
    assert_eq!((issue.code, issue.field.as_str()), (Code::InvalidJson, "$"));
    assert_eq!(report.normalized, None);
    issue.message.rsplit_once("at byte ").unwrap().1.parse().unwrap()
}

#[test]
fn each_is_invalid_json_with_its_byte() {
    for (bytes, offset) in [
        (&b""[..], 0),
        (b"\x00\x01", 0),
        (b"{\"a\":1,}", 7),
        (b"{\"a\":1,\"a\":2}", 7),
        (b"{\"b\":{\"a\":1,\"\\u0061\":2}}", 12),
        (b"{\"a\":\"\xff\"}", 6),
        (b"\xef\xbb\xbf{}", 0),
        (b"{\"a\":\"x\\ud800\"}", 7),
        (b"{\"a\":\"\\udc00\"}", 6),
        (b"{\"a\":1e999}", 5),
        (b"{}  {}", 4),
        (b"{\"a\":\"\n\"}", 6),
    ] {
        assert_eq!(byte(bytes), offset, "{:?}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn size_and_depth_end_before_memory_does() {
    assert_eq!(byte(&vec![b' '; 10 * 1024 * 1024]), 1024 * 1024);
    assert_eq!(byte(&vec![b'['; 10_000]), 64);
    assert_eq!(byte(format!("{}{}", "[".repeat(10_000), "]".repeat(10_000)).as_bytes()), 64);
    let million_digits = format!("{{\"x402Version\":{}}}", "9".repeat(1_000_000));
    assert_eq!(byte(million_digits.as_bytes()), 15);
}

#[test]
fn a_value_may_be_deeper_than_any_text() {
    let deep = (0..5_000).fold(Value::Null, |inner, _| Value::Array(vec![inner]));
    let report = lint(&deep, &Options::default());
    assert!(report.has(Code::InvalidJson));
    // Dropping it recurses as well.
    std::mem::forget(deep);
}

#[test]
fn a_long_name_does_not_multiply() {
    let document = json!({ "endpoints": { "n".repeat(300_000): { "accepts": vec![0; 10_000] } } });
    let report = lint(&document, &Options::default());
    assert_eq!(report.errors.len(), 10_002);
    let written: usize = report.issues().map(|issue| issue.field.len() + issue.message.len()).sum();
    assert!(written < 10_003 * 400, "{written}");
    assert!(report.errors.iter().all(|issue| issue.field.len() < 200));
}

#[test]
fn messages_do_not_repeat_long_or_hostile_text() {
    let document = json!({
        "x402Version": 2,
        "resource": { "url": format!("\u{1b}[2J\u{202e}{}", "x".repeat(10_000)) },
        "accepts": [{ "scheme": "exact", "network": "y".repeat(100_000), "amount": "\r\n0", "asset": "z", "payTo": "z" }]
    });
    for issue in lint(&document, &Options::default()).issues() {
        assert!(issue.message.len() < 500, "{issue:?}");
        assert!(!issue.message.contains(['\u{1b}', '\u{202e}', '\r', '\n']), "{issue:?}");
        assert!(issue.fix.as_deref().unwrap_or_default().len() < 500);
    }
}

#[test]
fn schemas_are_compiled_in_bounded_time() {
    let bazaar = |schema: Value| {
        json!({ "x402Version": 2, "resource": { "url": "https://a.example/" }, "accepts": [], "extensions": { "bazaar": {
            "info": { "input": { "type": "http", "method": "GET" }, "output": {} }, "schema": schema
        } } })
    };
    // Each definition names the one before it twice: 2^60 if references were copied.
    let definitions: serde_json::Map<_, _> = (1..60)
        .map(|i| {
            let before = json!({ "$ref": format!("#/$defs/d{}", i - 1) });
            (format!("d{i}"), json!({ "allOf": [before, before] }))
        })
        .chain([("d0".to_owned(), json!({ "type": "string" }))])
        .collect();
    let report =
        lint(&bazaar(json!({ "$ref": "#/$defs/d59", "type": "object", "$defs": definitions })), &Options::default());
    assert!(!report.has(Code::InvalidBazaarSchema), "{report:?}");
    let _ = lint(&bazaar(json!({ "type": "string", "pattern": "((a{1000}){1000}){1000}" })), &Options::default());
    let large = json!({ "type": "object", "description": "x".repeat(70_000) });
    assert!(lint(&bazaar(large), &Options::default()).has(Code::InvalidBazaarSchema));
}
