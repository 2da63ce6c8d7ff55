//! The rules of x402-codec's JSON beyond the grammar: duplicate keys, depth, size, paths, types.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation, missing_docs)]

use std::borrow::Cow;
use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::value::RawValue;
use x402_codec::json::{self, Value};
use x402_codec::{DecodeError, ErrorPlace, Limits};

fn read<T: DeserializeOwned>(text: &str) -> Result<T, DecodeError> {
    json::from_slice(text.as_bytes(), &Limits::DEFAULT)
}

/// The error of every face; they must not differ.
fn refused(text: &str) -> DecodeError {
    let tree = json::parse(text.as_bytes(), &Limits::DEFAULT).unwrap_err();
    assert_eq!(read::<serde_json::Value>(text).unwrap_err(), tree);
    assert_eq!(read::<IgnoredAny>(text).unwrap_err(), tree);
    assert_eq!(read::<Box<RawValue>>(text).unwrap_err(), tree);
    tree
}

fn at(error: &DecodeError) -> (&str, String, Option<usize>) {
    (error.code(), error.at().to_string(), error.offset())
}

#[test]
fn syntax_errors_carry_the_byte() {
    for (text, byte, expected) in [
        ("", 0, "a JSON value"),
        ("  ", 2, "a JSON value"),
        ("nul", 0, "a JSON value"),
        ("[1,]", 3, "a JSON value"),
        ("[1 2]", 3, "`,` or `]`"),
        (r#"{"a":1,}"#, 7, "a key in quotes"),
        (r#"{"a" 1}"#, 5, "`:`"),
        (r#"{"a":}"#, 5, "a JSON value"),
        (r#"{"a":1 "b":2}"#, 7, "`,` or `}`"),
        ("{a:1}", 1, "a key in quotes"),
        ("[\"\t\"]", 2, "control characters in a string to be escaped"),
        (r#"["\x"]"#, 3, "an escape: one of `\"\\/bfnrtu`"),
        (r#"["\u12G4"]"#, 6, "four hex digits"),
        (r#"["a\ud800"]"#, 3, "a pair of surrogates"),
        (r#"["\ud800\u0041"]"#, 2, "a pair of surrogates"),
        (r#"["\udc00"]"#, 2, "a pair of surrogates"),
        (r#"["abc"#, 5, "the end of a string"),
        ("[01]", 2, "`,` or `]`"),
        ("[-]", 2, "a digit"),
        ("[1.]", 3, "a digit"),
        ("[1e+]", 4, "a digit"),
        ("[+1]", 1, "a JSON value"),
        ("[.5]", 1, "a JSON value"),
        ("[NaN]", 1, "a JSON value"),
        ("[1e400]", 1, "a number in the range of a double"),
        ("\u{feff}{}", 0, "no byte order mark"),
    ] {
        let error = refused(text);
        assert_eq!(at(&error), ("invalid_json", format!("byte {byte}"), Some(byte)), "{text}");
        assert_eq!(error.expected(), expected, "{text}");
    }
    assert_eq!(refused("[1e400]").to_string(), "byte 1: invalid JSON; expected a number in the range of a double");
}

#[test]
fn nothing_follows_the_document() {
    for (text, byte) in [("{} {}", 3), ("{},", 2), ("1 2", 2), ("null\0", 4), ("\"\"\"\"", 2), ("[]]", 2), ("{}//", 2)]
    {
        assert_eq!(at(&refused(text)), ("trailing_data", format!("byte {byte}"), Some(byte)), "{text}");
    }
    for text in ["{} \t\r\n", " 1 ", "\n[\n]\n"] {
        json::parse(text.as_bytes(), &Limits::DEFAULT).unwrap();
    }
}

#[test]
fn a_key_stands_once_at_every_depth() {
    for (text, path, byte) in [
        (r#"{"a":1,"a":1}"#, "$.a", 7),
        (r#"{"a":1,"\u0061":2}"#, "$.a", 7),
        (r#"{"\u0061":1,"a":2}"#, "$.a", 12),
        (r#"{"x":{"b":[0,{"c":1,"d":2,"c":3}]}}"#, "$.x.b[1].c", 26),
        (r#"[[{"":0,"":0}]]"#, r#"$[0][0][""]"#, 8),
        (r#"{"a b":{"\n":1,"\u000a":1}}"#, r#"$["a b"]["\n"]"#, 15),
        (r#"{"é":{"k":1,"k":1}}"#, r#"$["\u{e9}"].k"#, 13),
    ] {
        let error = refused(text);
        assert_eq!(at(&error), ("duplicate_key", path.to_owned(), Some(byte)), "{text}");
        assert!(matches!(error.at(), ErrorPlace::Path(p) if **p == *path));
    }
    // The same key in two objects, or as a key and as a value, is no duplicate. Case counts.
    for text in [r#"{"a":{"a":{"a":"a"}},"b":{"a":1}}"#, r#"[{"a":1},{"a":1}]"#, r#"{"a":1,"A":2}"#] {
        read::<serde_json::Value>(text).unwrap();
        json::parse(text.as_bytes(), &Limits::DEFAULT).unwrap();
    }
}

/// Beyond 16 keys an object's keys are found by hash: the first, the 16th, the 17th and the last are all found.
#[test]
fn a_key_stands_once_in_wide_objects() {
    let keys: Vec<String> = (0..200).map(|i| format!("\"k{i}\":{i}")).collect();
    let wide = keys.join(",");
    read::<IgnoredAny>(&format!("{{{wide}}}")).unwrap();
    for i in [0, 14, 15, 16, 17, 100, 199] {
        let text = format!("{{{wide},\"k{i}\":0}}");
        assert_eq!(at(&refused(&text)), ("duplicate_key", format!("$.k{i}"), Some(wide.len() + 2)));
        let escaped = format!("{{{wide},\"\\u006b{i}\":0}}");
        assert_eq!(refused(&escaped).code(), "duplicate_key");
    }
}

/// Long keys of the sender do not fill our logs, and cannot forge lines in them.
#[test]
fn paths_are_short_and_printable() {
    let long = "x".repeat(5000);
    let error = refused(&format!(r#"{{"{long}":1,"{long}":1}}"#));
    assert_eq!(error.at().to_string(), format!("$.{}…", "x".repeat(64)));
    let error = refused(r#"{"a\r\nb\u0000":1,"a\r\nb\u0000":1}"#);
    assert_eq!(error.at().to_string(), r#"$["a\r\nb\u{0}"]"#);
}

#[test]
fn depth_32_is_read_and_33_is_not() {
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let nested = |n: usize| format!("{}1{}", open.repeat(n), close.repeat(n));
        read::<serde_json::Value>(&nested(32)).unwrap();
        json::parse(nested(32).as_bytes(), &Limits::DEFAULT).unwrap();
        let error = refused(&nested(33));
        let byte = 32 * open.len();
        assert_eq!(at(&error), ("too_deep", format!("byte {byte}"), Some(byte)));
        assert_eq!(error.expected(), "at most 32 levels");
        let deeper = Limits { depth: 33, ..Limits::DEFAULT };
        json::parse(nested(33).as_bytes(), &deeper).unwrap();
        // Closed ones do not count.
        let row = format!("[{}]", vec![nested(31); 40].join(","));
        json::parse(row.as_bytes(), &Limits::DEFAULT).unwrap();
        read::<IgnoredAny>(&row).unwrap();
    }
    // As deep as a limit can be set, on a test thread's 2 MiB of stack.
    let deepest = Limits { depth: u8::MAX, ..Limits::DEFAULT };
    let text = "[".repeat(255) + &"]".repeat(255);
    json::parse(text.as_bytes(), &deepest).unwrap();
    json::from_slice::<IgnoredAny>(text.as_bytes(), &deepest).unwrap();
    json::from_slice::<serde_json::Value>(text.as_bytes(), &deepest).unwrap();
    let text = "[".repeat(256) + &"]".repeat(256);
    assert_eq!(json::parse(text.as_bytes(), &deepest).unwrap_err().code(), "too_deep");
    let flat = Limits { depth: 0, ..Limits::DEFAULT };
    json::parse(b"1", &flat).unwrap();
    assert_eq!(json::parse(b"[]", &flat).unwrap_err().code(), "too_deep");
}

#[test]
fn a_document_may_have_exactly_its_limit() {
    let limits = Limits { body: 64, ..Limits::DEFAULT };
    let just = format!("\"{}\"", "a".repeat(62));
    json::parse(just.as_bytes(), &limits).unwrap();
    json::from_slice::<String>(just.as_bytes(), &limits).unwrap();
    let over = format!("\"{}\"", "a".repeat(63));
    for error in [
        json::parse(over.as_bytes(), &limits).unwrap_err(),
        json::from_slice::<String>(over.as_bytes(), &limits).unwrap_err(),
    ] {
        assert_eq!(at(&error), ("too_large", "byte 64".to_owned(), Some(64)));
        assert_eq!(error.expected(), "at most 64 bytes");
    }
    // The default, 64 KiB, one under and one over.
    let body = |n: usize| format!("\"{}\"", "a".repeat(n - 2)).into_bytes();
    json::parse(&body(64 * 1024), &Limits::DEFAULT).unwrap();
    assert_eq!(json::parse(&body(64 * 1024 + 1), &Limits::DEFAULT).unwrap_err().code(), "too_large");
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Order<'a> {
    id: u64,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(default)]
    lines: Vec<Line>,
    note: Option<String>,
    state: State,
    #[serde(borrow, default)]
    raw: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Line {
    small: u8,
    signed: i8,
    ok: bool,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum State {
    Open,
    Shut,
    Moved(u8),
}

#[derive(Debug, Deserialize, PartialEq)]
struct Fixed([u8; 2]);

#[test]
fn typed_values() {
    let text = r#" {"id":18446744073709551615,"name":"plain","unknown":{"x":[1]},
        "lines":[{"small":255,"signed":-128,"ok":true}],"note":null,"state":"open"} "#;
    let order: Order<'_> = json::from_slice(text.as_bytes(), &Limits::DEFAULT).unwrap();
    assert_eq!(order.id, u64::MAX);
    assert!(matches!(order.name, Cow::Borrowed("plain")));
    assert_eq!(order.lines, [Line { small: 255, signed: -128, ok: true }]);
    assert_eq!((order.note, order.state), (None, State::Open));

    let text = r#"{"id":0,"name":"a\/b","note":"n","state":{"moved":7},"raw": { "k" : [1, "\u00e9"] } }"#;
    let order: Order<'_> = json::from_slice(text.as_bytes(), &Limits::DEFAULT).unwrap();
    assert_eq!(order.name, "a/b");
    assert_eq!((order.note.as_deref(), order.state), (Some("n"), State::Moved(7)));
    assert_eq!(order.raw.unwrap().get(), r#"{ "k" : [1, "\u00e9"] }"#);

    assert_eq!(read::<Fixed>("[1,2]").unwrap(), Fixed([1, 2]));
    assert_eq!(read::<Option<u8>>("null").unwrap(), None);
    assert_eq!(read::<BTreeMap<String, i64>>(r#"{"b":-1,"a":2}"#).unwrap().len(), 2);
    assert_eq!(read::<(u8, String)>(r#"[1,"x"]"#).unwrap(), (1, "x".to_owned()));
    assert_eq!(read::<f64>("-0").unwrap().to_bits(), (-0.0f64).to_bits());
    read::<()>("null").unwrap();
}

#[test]
fn typed_errors_name_the_member() {
    let order = |members: &str| {
        let text = format!(r#"{{"id":1,"name":"n","state":"open",{members}}}"#);
        json::from_slice::<Order<'_>>(text.as_bytes(), &Limits::DEFAULT).unwrap_err()
    };
    for (members, code, path, expected) in [
        (r#""lines":[{"small":1,"signed":1,"ok":1}]"#, "invalid_field", "$.lines[0].ok", "a boolean, found an integer"),
        (r#""lines":[{"small":256,"signed":1,"ok":true}]"#, "invalid_field", "$.lines[0].small", "u8"),
        (r#""lines":[{"small":1.0,"signed":1,"ok":true}]"#, "invalid_field", "$.lines[0].small", "an integer"),
        (r#""lines":[{"small":1e2,"signed":1,"ok":true}]"#, "invalid_field", "$.lines[0].small", "an integer"),
        (
            r#""lines":[{"small":18446744073709551616,"signed":1,"ok":true}]"#,
            "invalid_field",
            "$.lines[0].small",
            "an integer of 64 bits",
        ),
        (r#""lines":[{"small":-0,"signed":1,"ok":true}]"#, "invalid_field", "$.lines[0].small", "an integer"),
        (r#""lines":[{"small":"1","signed":1,"ok":true}]"#, "invalid_field", "$.lines[0].small", "u8, found a string"),
        (r#""lines":[{"signed":1,"ok":true}]"#, "missing_field", "$.lines[0].small", "the member to be there"),
        (r#""lines":[[1,1,true]]"#, "invalid_field", "$.lines[0]", "struct Line, found an array"),
        (r#""lines":{}"#, "invalid_field", "$.lines", "a sequence, found an object"),
        (r#""lines":null"#, "invalid_field", "$.lines", "a sequence, found null"),
        (r#""note":7"#, "invalid_field", "$.note", "a string, found an integer"),
        (r#""note":["a"]"#, "invalid_field", "$.note", "a string, found an array"),
    ] {
        let error = order(members);
        assert_eq!((error.code(), error.at().to_string().as_str()), (code, path), "{members}");
        assert_eq!(error.expected(), expected, "{members}");
        assert!(error.offset().is_some(), "{members}");
    }
    let error = read::<State>(r#""ajar""#).unwrap_err();
    assert_eq!(error.to_string(), "$: invalid field; expected one of `open`, `shut`, `moved`");
    assert_eq!(read::<Fixed>("[1]").unwrap_err().code(), "invalid_field");
    assert_eq!(read::<Fixed>("[1,2,3]").unwrap_err().expected(), "an array of 2 elements");
    assert_eq!(read::<State>(r#"{"moved":1,"x":2}"#).unwrap_err().code(), "invalid_field");
}

/// An error says what type was found, never what it held.
#[test]
fn errors_do_not_repeat_values() {
    #[derive(Debug, Deserialize)]
    struct Key {
        #[allow(dead_code, reason = "only its type counts")]
        secret: u64,
    }
    let error = read::<Key>(r#"{"secret":"0xac0974bec39a17e36ba4a6b4d238ff944bacb478"}"#).unwrap_err();
    assert_eq!(error.to_string(), "$.secret: invalid field; expected u64, found a string");
    assert!(!format!("{error:?}").contains("ac0974"));
}

#[test]
fn the_tree_knows_where_its_parts_stand() {
    let text = r#"{ "a" : [ 1.50, "x\ny" ], "é": {"k":null} , "t":true}"#;
    let root = json::parse(text.as_bytes(), &Limits::DEFAULT).unwrap();
    let part = |span: &std::ops::Range<usize>| &text[span.clone()];
    assert_eq!(part(&root.span), text);
    let a = root.member("a").unwrap();
    assert_eq!(part(&a.key_span), "\"a\"");
    assert_eq!(part(&a.value.span), r#"[ 1.50, "x\ny" ]"#);
    let elements = a.value.as_array().unwrap();
    assert_eq!((elements[0].as_number(), part(&elements[0].span)), (Some("1.50"), "1.50"));
    assert_eq!((elements[1].as_str(), part(&elements[1].span)), (Some("x\ny"), r#""x\ny""#));
    let e = root.member("é").unwrap();
    assert_eq!(part(&e.key_span), "\"é\"");
    assert!(e.value.get("k").unwrap().is_null());
    assert_eq!(root.get("t").unwrap().as_bool(), Some(true));
    assert_eq!(root.as_object().unwrap().len(), 3);
    assert!(matches!(root.get("a").unwrap().value, Value::Array(_)));
    assert_eq!(root.get("nope"), None);
}

/// The scanner's worst documents, as large as the linter reads, in one go: they must not take quadratic time.
#[test]
fn a_mebibyte_of_anything_is_linear() {
    let limits = Limits { body: 1 << 20, depth: 128, ..Limits::DEFAULT };
    let size = (1 << 20) - 64;
    let keys: String = (0..size / 12).map(|i| format!("\"{i:x}\":0,")).collect();
    let same_length: String = (0..size / 12).map(|i| format!("\"{i:06x}\":0,")).collect();
    for text in [
        format!("[{}0]", "0,".repeat(size / 2)),
        format!("\"{}\"", "\\u0041".repeat(size / 6)),
        format!("{{{}\"z\":0}}", keys),
        format!("{{{}\"z\":0}}", same_length),
        format!("[{}0]", "{\"a\":{\"b\":{}}},".repeat(size / 15)),
        format!("[{}0]", format!("{}0{},", "[".repeat(100), "]".repeat(100)).repeat(size / 202)),
        format!("{}1", " ".repeat(size)),
        "9".repeat(300) + &"0".repeat(8),
    ] {
        json::parse(text.as_bytes(), &limits).unwrap();
        json::from_slice::<IgnoredAny>(text.as_bytes(), &limits).unwrap();
    }
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(6, 64, 20, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Into::into),
            prop::collection::btree_map(any::<String>(), inner, 0..20)
                .prop_map(|m| serde_json::Value::Object(m.into_iter().collect())),
        ]
    })
}

fn same(node: &json::Node<'_>, value: &serde_json::Value) -> bool {
    match (&node.value, value) {
        (Value::Null, serde_json::Value::Null) => true,
        (Value::Bool(a), serde_json::Value::Bool(b)) => a == b,
        (Value::Number(a), serde_json::Value::Number(b)) => match (b.as_u64(), b.as_i64()) {
            (Some(b), _) => a.parse() == Ok(b),
            (_, Some(b)) => a.parse() == Ok(b),
            _ => a.parse::<f64>().ok() == b.as_f64(),
        },
        (Value::String(a), serde_json::Value::String(b)) => a == b,
        (Value::Array(a), serde_json::Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), serde_json::Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|m| b.get(&*m.key).is_some_and(|b| same(&m.value, b)))
        }
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    /// Whatever `serde_json` writes is read back as what it was, compact or pretty, on both faces.
    #[test]
    fn valid_documents_are_read_as_what_they_are(value in any_json()) {
        for text in [serde_json::to_string(&value).unwrap(), serde_json::to_string_pretty(&value).unwrap()] {
            let limits = Limits { body: 1 << 20, ..Limits::DEFAULT };
            prop_assert_eq!(&json::from_slice::<serde_json::Value>(text.as_bytes(), &limits).unwrap(), &value);
            prop_assert!(same(&json::parse(text.as_bytes(), &limits).unwrap(), &value));
            let raw = json::from_slice::<Box<RawValue>>(text.as_bytes(), &limits).unwrap();
            prop_assert_eq!(raw.get(), text);
        }
    }

    /// Text that looks like JSON: never accepted where `serde_json` refuses it, and no face differs.
    #[test]
    fn never_accepts_more_than_serde_json(text in "[\\[\\]{}:,\"\\\\ud8c0eE.+0-9tf-nrul\\s\u{1}é]{0,40}") {
        let tree = json::parse(text.as_bytes(), &Limits::DEFAULT).map(drop);
        prop_assert_eq!(&read::<IgnoredAny>(&text).map(drop), &tree);
        prop_assert_eq!(&read::<serde_json::Value>(&text).map(drop), &tree);
        if tree.is_ok() {
            prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
        }
    }
}
