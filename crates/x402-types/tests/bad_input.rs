//! For every field of every message: absent, `null`, wrong type, empty, too long, wrong spelling of value and of name.
//! Each is an error that says what was expected there, or is read as absent where the message allows that; nothing panics.
//! Which member it was is said by the path that `x402-codec` adds.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)]

mod common;

use Kind::*;
use Presence::*;
use common::{readers, recorded, set};
use serde_json::{Value, json};

/// What stands in a field, and so which values are wrong there.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Version,
    Only1,
    Only2,
    Timeout,
    Amount,
    BlankAmount,
    Chain,
    Scheme,
    Text,
    Texts,
    Bool,
    Number,
    Object,
    Struct,
    List,
    UrlOrObject,
    Anything,
}

/// What an absent or `null` field means: an error, nothing, or a value that we then write.
#[derive(Debug, Clone, Copy)]
enum Presence {
    Required,
    Optional,
    Writes(&'static str),
}

type Field = (&'static str, Kind, Presence);

/// Each kind of message, one recorded example that holds it (with a pointer to it), and its fields.
const MESSAGES: &[(&str, &str, &str, &[Field])] = &[
    (
        "v2::PaymentRequired",
        "v2-payment-required-extensions",
        "",
        &[
            ("x402Version", Only2, Required),
            ("error", Text, Optional),
            ("resource", Struct, Optional),
            ("accepts", List, Required),
            ("extensions", Object, Optional),
        ],
    ),
    (
        "v2::ResourceInfo",
        "v2-resource-info",
        "",
        &[
            ("url", Text, Required),
            ("description", Text, Optional),
            ("mimeType", Text, Optional),
            ("serviceName", Text, Optional),
            ("tags", Texts, Optional),
            ("iconUrl", Text, Optional),
        ],
    ),
    (
        "v2::PaymentRequirements",
        "v2-payment-requirements",
        "",
        &[
            ("scheme", Scheme, Required),
            ("network", Chain, Required),
            ("amount", Amount, Required),
            ("asset", Text, Required),
            ("payTo", Text, Required),
            ("maxTimeoutSeconds", Timeout, Writes("60")),
            ("extra", Object, Writes("{}")),
        ],
    ),
    (
        "v2::PaymentPayload",
        "v2-payment-payload-extensions",
        "",
        &[
            ("x402Version", Only2, Required),
            ("resource", Struct, Optional),
            ("accepted", Struct, Required),
            ("payload", Object, Required),
            ("extensions", Object, Optional),
        ],
    ),
    (
        "v2::VerifyResponse",
        "v2-verify-response-invalid",
        "",
        &[
            ("isValid", Bool, Required),
            ("invalidReason", Text, Optional),
            ("invalidMessage", Text, Optional),
            ("payer", Text, Optional),
            ("extra", Object, Optional),
            ("extensions", Object, Optional),
        ],
    ),
    (
        "v2::SettleResponse",
        "v2-settle-response-failure",
        "",
        &[
            ("success", Bool, Required),
            ("errorReason", Text, Optional),
            ("errorMessage", Text, Optional),
            ("payer", Text, Optional),
            ("transaction", Text, Writes("\"\"")),
            ("network", Text, Writes("\"\"")),
            ("amount", BlankAmount, Optional),
            ("extra", Object, Optional),
            ("extensions", Object, Optional),
        ],
    ),
    (
        "v2::SupportedKind",
        "v2-supported-response",
        "/kinds/0",
        &[
            ("x402Version", Version, Required),
            ("scheme", Scheme, Required),
            ("network", Text, Required),
            ("extra", Object, Optional),
        ],
    ),
    (
        "v2::SupportedResponse",
        "v2-supported-response",
        "",
        &[("kinds", List, Required), ("extensions", Texts, Writes("[]")), ("signers", Object, Writes("{}"))],
    ),
    (
        "v2::DiscoveredResource",
        "v2-discovery-list",
        "/items/0",
        &[
            ("resource", Text, Required),
            ("type", Text, Required),
            ("x402Version", Version, Required),
            ("accepts", List, Required),
            ("lastUpdated", Anything, Optional),
            ("extensions", Object, Optional),
            ("metadata", Object, Optional),
        ],
    ),
    (
        "v2::Pagination",
        "v2-discovery-list",
        "/pagination",
        &[("limit", Number, Required), ("offset", Number, Writes("0")), ("total", Number, Optional)],
    ),
    (
        "v2::DiscoveryList",
        "v2-discovery-list",
        "",
        &[("x402Version", Version, Required), ("items", List, Required), ("pagination", Struct, Required)],
    ),
    (
        "v1::PaymentRequired",
        "v1-payment-required",
        "",
        &[("x402Version", Only1, Required), ("error", Text, Writes("\"\"")), ("accepts", List, Required)],
    ),
    (
        "v1::PaymentRequirements",
        "v1-payment-requirements",
        "",
        &[
            ("scheme", Scheme, Required),
            ("network", Text, Required),
            ("maxAmountRequired", Amount, Required),
            ("asset", Text, Required),
            ("payTo", Text, Required),
            ("resource", UrlOrObject, Writes("\"\"")),
            ("description", Text, Writes("\"\"")),
            ("mimeType", Text, Writes("\"\"")),
            ("outputSchema", Anything, Optional),
            ("maxTimeoutSeconds", Timeout, Writes("60")),
            ("extra", Object, Writes("{}")),
        ],
    ),
    (
        "v1::PaymentPayload",
        "v1-payment-payload",
        "",
        &[
            ("x402Version", Only1, Required),
            ("scheme", Scheme, Required),
            ("network", Text, Required),
            ("payload", Object, Required),
        ],
    ),
];

const INTEGER_TEXT: &str = "an integer of seconds, 1 to 2^53-1";
const AMOUNT_TEXT: &str = "a decimal string of atomic units";
const CHAIN_TEXT: &str = "a CAIP-2 network such as `eip155:8453`";
const SCHEME_TEXT: &str = "a scheme name: 1 to 64 printable ASCII characters without a space";

/// Values that a field of this kind refuses (`null` apart), and what the error must say.
fn wrong(kind: Kind) -> Vec<(Value, &'static str)> {
    let long = "1".repeat(79);
    let over = "115792089237316195423570985008687907853269984665640564039457584007913129639936";
    let versions =
        [json!("2"), json!(0), json!(3), json!(2.0), json!(-1), json!(true), json!([]), json!({}), json!("")];
    let amounts = [
        json!(10000),
        json!(1.5),
        json!(true),
        json!([]),
        json!({}),
        json!("00"),
        json!("010"),
        json!("+1"),
        json!("-1"),
        json!("1e3"),
        json!("1_000"),
        json!("0x10"),
        json!("1.0"),
        json!(" 1"),
        json!("١"),
        json!(long),
        json!(over),
    ];
    let all =
        |values: &[Value], text: &'static str| values.iter().map(|value| (value.clone(), text)).collect::<Vec<_>>();
    match kind {
        Version => all(&versions, "the integer 1 or 2"),
        Only1 => [all(&versions, "the integer 1"), vec![(json!(2), "the integer 1")]].concat(),
        Only2 => [all(&versions, "the integer"), vec![(json!(1), "the integer 2")]].concat(),
        Timeout => {
            let beyond = json!(1_u64 << 53);
            let values = [json!("60"), json!(0), beyond, json!(60.5), json!(-1), json!(true), json!([]), json!("")];
            all(&values, INTEGER_TEXT)
        }
        Amount => [all(&amounts, AMOUNT_TEXT), vec![(json!(""), AMOUNT_TEXT)]].concat(),
        BlankAmount => amounts
            .into_iter()
            .map(|value| if value.is_string() { (value, AMOUNT_TEXT) } else { (value, "a string") })
            .collect(),
        Chain => {
            let values = [
                json!(84532),
                json!([]),
                json!(""),
                json!("base"),
                json!("eip155"),
                json!("EIP155:1"),
                json!("eip155:1 "),
                json!("ab:1"),
                json!(format!("eip155:{long}")),
            ];
            let mut values = all(&values, CHAIN_TEXT);
            for reference in ["01", "0x1", "18446744073709551616"] {
                values.push((json!(format!("eip155:{reference}")), "a u64 without leading zeros"));
            }
            values
        }
        Scheme => all(&[json!(1), json!({}), json!(""), json!("ex act"), json!("exäct"), json!(long)], SCHEME_TEXT),
        Text => all(&[json!(1), json!(true), json!([]), json!({"url": "x"})], "a string"),
        Texts => [
            all(&[json!("x"), json!({}), json!(1)], "a sequence"),
            all(&[json!([1]), json!([null]), json!(["x", {}])], "a string"),
        ]
        .concat(),
        Bool => all(&[json!("true"), json!(1), json!([]), json!("")], "a boolean"),
        Number => all(&[json!("20"), json!(-1), json!(1.5), json!(true), json!("")], "u64"),
        Object | Struct => all(&[json!("x"), json!(1), json!(true), json!([]), json!("")], "a JSON object"),
        List => all(&[json!("x"), json!(1), json!({}), json!("")], "a sequence"),
        UrlOrObject => {
            let mut values = all(&[json!(1), json!(true), json!([])], "a URL string, or an object with `url`");
            values.push((json!({"description": "d"}), "missing field `url`"));
            values
        }
        Anything => Vec::new(),
    }
}

fn snake(key: &str) -> String {
    let mut out = String::new();
    for c in key.chars() {
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// Calls `case` with each way to read each message, an example, and one of its fields.
fn each_field(case: impl Fn(&str, common::Rewrite, &Value, &Field)) {
    for (kind, name, pointer, fields) in MESSAGES {
        let vector = recorded().into_iter().find(|vector| vector.name == *name).unwrap();
        let example = vector.json.pointer(pointer).unwrap();
        for (reader, rewrite) in readers(kind) {
            rewrite(&example.to_string()).unwrap_or_else(|error| panic!("{reader}: {error}"));
            for field in *fields {
                case(reader, rewrite, example, field);
            }
        }
    }
}

/// What a message without the field is written as.
fn without(example: &Value, rewrite: common::Rewrite, (key, _, presence): &Field) -> Value {
    let mut expected = rewrite(&example.to_string()).unwrap();
    let value = if let Writes(text) = presence { Some(serde_json::from_str(text).unwrap()) } else { None };
    set(&mut expected, &format!("/{key}"), value);
    expected
}

#[test]
fn the_tables_name_every_member_of_every_recorded_message() {
    for (kind, ..) in MESSAGES {
        let fields: Vec<&str> =
            MESSAGES.iter().find(|(k, ..)| k == kind).unwrap().3.iter().map(|field| field.0).collect();
        for vector in recorded().iter().filter(|vector| vector.kind == *kind) {
            for key in vector.json.as_object().unwrap().keys() {
                assert!(fields.contains(&key.as_str()), "{}: {key}", vector.name);
            }
        }
    }
}

#[test]
fn absent() {
    each_field(|reader, rewrite, example, field| {
        let mut document = example.clone();
        set(&mut document, &format!("/{}", field.0), None);
        match (rewrite(&document.to_string()), field.2) {
            (Err(error), Required) => {
                assert!(
                    error.to_string().contains(&format!("missing field `{}`", field.0)),
                    "{reader}.{}: {error}",
                    field.0
                );
            }
            (Ok(written), Optional | Writes(_)) => {
                assert_eq!(written, without(example, rewrite, field), "{reader}.{}", field.0)
            }
            (outcome, presence) => panic!("{reader}.{}: {presence:?}, {outcome:?}", field.0),
        }
    });
}

#[test]
fn null() {
    each_field(|reader, rewrite, example, field| {
        let mut document = example.clone();
        set(&mut document, &format!("/{}", field.0), Some(Value::Null));
        match (rewrite(&document.to_string()), field.2) {
            (Err(error), Required) => {
                // A member that only one version demands is optional until the version is known.
                let text = error.to_string();
                let said = text.contains("null") || text.contains("expected a JSON object");
                assert!(said || text.contains(&format!("missing field `{}`", field.0)), "{reader}.{}: {text}", field.0);
            }
            (Ok(written), Optional | Writes(_)) => {
                assert_eq!(written, without(example, rewrite, field), "{reader}.{}", field.0)
            }
            (outcome, presence) => panic!("{reader}.{}: {presence:?}, {outcome:?}", field.0),
        }
    });
}

#[test]
fn wrong_type_empty_too_long_or_misspelt_value() {
    each_field(|reader, rewrite, example, field| {
        for (value, expected) in wrong(field.1) {
            let mut document = example.clone();
            set(&mut document, &format!("/{}", field.0), Some(value.clone()));
            match rewrite(&document.to_string()) {
                Err(error) => {
                    let text = error.to_string();
                    // The other version of a document that names its version is another message, with other members.
                    let other = matches!(field.1, Only1 | Only2) && !text.contains("the integer");
                    assert!(text.contains(expected) || other, "{reader}.{} = {value}: {text}", field.0);
                }
                // Under the other version's number, entries of this one are unreadable but survive.
                Ok(written) => {
                    // What decides no money does not sink an offer; it survives, but where version 1 writes its own.
                    if reader == "PaymentRequired" && matches!(field.0, "error" | "resource" | "extensions") {
                        let own = document["x402Version"] == 1 && field.0 == "error";
                        let expected = if own { Value::from("") } else { value.clone() };
                        assert_eq!((&written[field.0], &written["accepts"]), (&expected, &document["accepts"]));
                        continue;
                    }
                    let other = reader == "PaymentRequired" && matches!(field.1, Only1 | Only2) && value.is_u64();
                    assert!(
                        other && written["accepts"] == document["accepts"],
                        "{reader}.{} = {value} is read",
                        field.0
                    );
                }
            }
        }
    });
}

#[test]
fn misspelt_name() {
    each_field(|reader, rewrite, example, field| {
        let (first, rest) = field.0.split_at(1);
        for name in [snake(field.0), format!("{}{rest}", first.to_uppercase()), format!("{} ", field.0)] {
            if name == field.0 {
                continue;
            }
            let mut document = example.clone();
            let value = example.get(field.0).cloned().unwrap_or_else(|| json!(1));
            set(&mut document, &format!("/{}", field.0), None);
            set(&mut document, &format!("/{name}"), Some(value.clone()));
            match (rewrite(&document.to_string()), field.2) {
                (Err(error), Required) => {
                    assert!(
                        error.to_string().contains(&format!("missing field `{}`", field.0)),
                        "{reader}.{name}: {error}"
                    );
                }
                (Ok(written), Optional | Writes(_)) => {
                    let mut expected = without(example, rewrite, field);
                    set(&mut expected, &format!("/{name}"), Some(value));
                    assert_eq!(written, expected, "{reader}.{name}");
                }
                (outcome, presence) => panic!("{reader}.{name}: {presence:?}, {outcome:?}"),
            }
        }
    });
}

#[test]
fn the_same_member_twice() {
    each_field(|reader, rewrite, example, field| {
        let Some(value) = example.get(field.0) else { return };
        let text = example.to_string().replacen('{', &format!("{{\"{}\":{value},", field.0), 1);
        let error = rewrite(&text).unwrap_err().to_string();
        assert!(error.contains(&format!("duplicate field `{}`", field.0)), "{reader}.{}: {error}", field.0);
    });
}

/// A request to a facilitator: what lacks is named with its path, since both versions are read at once.
#[test]
fn verify_request() {
    for (name, cases) in [
        (
            "v2-verify-request",
            &[
                ("/paymentPayload", "missing field `paymentPayload`"),
                ("/paymentRequirements", "missing field `paymentRequirements`"),
                ("/paymentPayload/x402Version", "missing field `x402Version`"),
                ("/paymentPayload/accepted", "missing field `paymentPayload.accepted`"),
                ("/paymentPayload/payload", "missing field `payload`"),
                ("/paymentRequirements/scheme", "missing field `scheme`"),
                ("/paymentRequirements/network", "missing field `network`"),
                ("/paymentRequirements/amount", "missing field `paymentRequirements.amount`"),
                ("/paymentRequirements/asset", "missing field `asset`"),
                ("/paymentRequirements/payTo", "missing field `payTo`"),
            ][..],
        ),
        (
            "v1-verify-request",
            &[
                ("/paymentPayload/scheme", "missing field `paymentPayload.scheme`"),
                ("/paymentPayload/network", "missing field `paymentPayload.network`"),
                ("/paymentRequirements/maxAmountRequired", "missing field `paymentRequirements.maxAmountRequired`"),
            ][..],
        ),
    ] {
        let vector = recorded().into_iter().find(|vector| vector.name == name).unwrap();
        let (_, rewrite) = readers("VerifyRequest")[0];
        for (pointer, expected) in cases {
            for value in [None, Some(Value::Null)] {
                let mut document = vector.json.clone();
                set(&mut document, pointer, value.clone());
                let text = rewrite(&document.to_string()).unwrap_err().to_string();
                let null = value.is_some() && (text.contains("null") || text.contains("expected a JSON object"));
                assert!(text.contains(expected) || null, "{name}{pointer}: {text}");
            }
        }
    }
    let vector = recorded().into_iter().find(|vector| vector.name == "v2-verify-request").unwrap();
    let (_, rewrite) = readers("VerifyRequest")[0];
    for (pointer, value, expected) in [
        ("/x402Version", json!("2"), "the integer 1 or 2"),
        ("/x402Version", json!(3), "the integer 1 or 2"),
        ("/paymentPayload", json!("e30="), "a JSON object"),
        ("/paymentPayload/payload", json!([]), "a JSON object"),
        ("/paymentPayload/accepted/amount", json!(10000), AMOUNT_TEXT),
        ("/paymentRequirements", json!([]), "a JSON object"),
        ("/paymentRequirements/amount", json!(10000), AMOUNT_TEXT),
        ("/paymentRequirements/network", json!("base"), "`paymentRequirements.network`"),
        ("/paymentRequirements/maxTimeoutSeconds", json!("300"), INTEGER_TEXT),
    ] {
        let mut document = vector.json.clone();
        set(&mut document, pointer, Some(value.clone()));
        let text = rewrite(&document.to_string()).unwrap_err().to_string();
        assert!(text.contains(expected), "{pointer} = {value}: {text}");
    }
}

#[test]
fn what_is_not_one_json_object_is_refused() {
    for (kind, ..) in MESSAGES {
        for (reader, rewrite) in readers(kind) {
            for text in ["", " ", "null", "true", "2", "\"x\"", "[]", "{", "{}x", "{\"a\"}", "\u{feff}{}", "[[[[[["] {
                assert!(rewrite(text).is_err(), "{reader}: {text:?}");
            }
        }
    }
}
