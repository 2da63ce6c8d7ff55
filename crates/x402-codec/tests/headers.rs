//! Headers: base64 in every spelling, names, limits, and what a server and a client make of them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation, missing_docs)]

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use x402_codec::header::{self, PaymentHeader};
use x402_codec::{DecodeError, Limits, base64, body};
use x402_types::v2::SettleResponse;
use x402_types::{Entry, ErrorReason, PaymentPayload, PaymentRequired, PaymentRequirements, Rejection, Version};

const LIMITS: &Limits = &Limits::DEFAULT;

fn said(error: &DecodeError) -> (&str, String) {
    (error.code(), error.at().to_string())
}

/// RFC 4648 §10, and the same bytes in every spelling that is read.
#[test]
fn base64_that_is_read() {
    let cases: &[(&str, &[u8])] = &[
        ("", b""),
        ("Zg==", b"f"),
        ("Zg", b"f"),
        ("Zm8=", b"fo"),
        ("Zm8", b"fo"),
        ("Zm9v", b"foo"),
        ("Zm9vYg==", b"foob"),
        ("Zm9vYg", b"foob"),
        ("Zm9vYmE=", b"fooba"),
        ("Zm9vYmE", b"fooba"),
        ("Zm9vYmFy", b"foobar"),
        ("AA==", &[0]),
        ("AAAA", &[0, 0, 0]),
        ("////", &[255, 255, 255]),
        ("____", &[255, 255, 255]),
        ("++++", &[0xFB, 0xEF, 0xBE]),
        ("----", &[0xFB, 0xEF, 0xBE]),
        ("+/+/", &[0xFB, 0xFF, 0xBF]),
        ("-_-_", &[0xFB, 0xFF, 0xBF]),
        ("/w==", &[255]),
        ("_w==", &[255]),
        ("/w", &[255]),
        ("_w", &[255]),
        ("//8=", &[255, 255]),
        ("__8=", &[255, 255]),
        ("__8", &[255, 255]),
        ("-A", &[0xF8]),
        ("+A==", &[0xF8]),
        ("AAECAwQFBgcICQoLDA0ODw==", &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]),
    ];
    for (text, bytes) in cases {
        assert_eq!(base64::decode(text.as_bytes(), 64).as_deref(), Ok(*bytes), "{text}");
    }
}

#[test]
fn base64_that_is_refused_with_its_byte() {
    let one = "base64: one alphabet, whole padding or none";
    let both = "one base64 alphabet, not both";
    let more = "another base64 character";
    let whole = "whole padding or none";
    let bits = "zero bits behind the last byte";
    let white = "base64 without white space";
    let behind = "nothing behind the padding";
    let cases: &[(&[u8], usize, &str)] = &[
        // RFC 4648 §3.5: bits behind the last byte.
        (b"Zh==", 1, bits),
        (b"Zh", 1, bits),
        (b"Zm9=", 2, bits),
        (b"Zm9", 2, bits),
        (b"QUJDRB==", 5, bits),
        (b"_x", 1, bits),
        (b"/x==", 1, bits),
        // Padding: whole, at the end, no more.
        (b"=", 0, whole),
        (b"==", 0, whole),
        (b"====", 0, whole),
        (b"Zg=", 3, whole),
        (b"Zg===", 4, whole),
        (b"Zm8==", 4, whole),
        (b"Zm9v=", 4, whole),
        (b"Zm9v==", 4, whole),
        (b"Zm9v====", 4, whole),
        (b"Zg==Zg==", 4, behind),
        (b"Z=g=", 2, behind),
        (b"Zg=g", 3, behind),
        (b"=Zg=", 1, behind),
        (b"Zm9v=Zm9v", 5, behind),
        (b"Zg==\n", 4, behind),
        // One character holds no byte.
        (b"Z", 1, more),
        (b"Z=", 1, more),
        (b"Z==", 1, more),
        (b"Z===", 1, more),
        (b"Zm9vY", 5, more),
        (b"Zm9vY===", 5, more),
        // Never both alphabets.
        (b"+-AA", 1, both),
        (b"-+AA", 1, both),
        (b"/_AA", 1, both),
        (b"_/AA", 1, both),
        (b"AAAA+AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA-", 47, both),
        // White space and everything else.
        (b" Zm9v", 0, white),
        (b"Zm9v ", 4, white),
        (b"Zm 9v", 2, white),
        (b"Zm9v\r\nYmFy", 4, white),
        (b"Zm9v\tYmFy", 4, white),
        (b"Zm9vYmFyZm9vYmFyZm9vYmFyZm9vYmFyZm9v\nYmFy", 36, white),
        (b"Zm9*", 3, one),
        (b"!m9v", 0, one),
        (b"Zm9v\0", 4, one),
        (b"Zm\x7Fv", 2, one),
        (b"Zm9v\x80", 4, one),
        (b"\xFF\xFF\xFF\xFF", 0, one),
        (b"Zm9v,Zm9v", 4, one),
        (b"Zm9v;q=1", 4, one),
        (b"Zm9v%3D", 4, one),
        (b"\"Zm9v\"", 0, one),
        (b"Zm9v.Zm9v", 4, one),
        (b"0x5a6d:", 6, one),
        ("Zm9v\u{ad}".as_bytes(), 4, one),
        ("Ζm9v".as_bytes(), 0, one),
        (b"{\"a\":1}", 0, one),
    ];
    for (text, at, expected) in cases {
        let error = base64::decode(text, 64).unwrap_err();
        let shown = String::from_utf8_lossy(text);
        assert_eq!((error.code(), error.offset()), ("invalid_base64", Some(*at)), "{shown}");
        assert_eq!(error.expected(), *expected, "{shown}");
    }
}

/// What is written is read; what is read and written again differs only in alphabet and padding.
#[test]
fn base64_round_trips_at_every_length() {
    let bytes: Vec<u8> = (0..=255u8).cycle().map(|b| b.wrapping_mul(167)).take(300).collect();
    for n in 0..bytes.len() {
        let text = base64::encode(&bytes[..n]);
        assert_eq!(text.len() % 4, 0);
        assert_eq!(base64::decode(text.as_bytes(), 400).unwrap(), &bytes[..n]);
        assert_eq!(base64::decode(text.trim_end_matches('=').as_bytes(), 400).unwrap(), &bytes[..n]);
        let url = text.replace('+', "-").replace('/', "_");
        assert_eq!(base64::decode(url.as_bytes(), 400).unwrap(), &bytes[..n]);
    }
}

/// Every value of every last character: exactly those with zero bits behind the byte are read.
#[test]
fn base64_last_characters() {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (value, last) in ALPHABET.iter().enumerate() {
        for (prefix, padding, zero) in [("A", "==", 16), ("AA", "=", 4)] {
            for end in ["", padding] {
                let text = format!("{prefix}{}{end}", *last as char);
                assert_eq!(base64::decode(text.as_bytes(), 8).is_ok(), value % zero == 0, "{text}");
            }
        }
    }
}

#[derive(Deserialize)]
struct Recorded {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    kind: String,
    header: String,
    message: String,
    value: String,
}

fn recorded() -> Vec<Case> {
    let text = include_str!("../../x402-testkit/vectors/headers/typescript.json");
    serde_json::from_str::<Recorded>(text).unwrap().cases
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    map
}

fn value(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

/// What the TypeScript SDK encodes is read from the header it names, kept as it was sent, and written again as the
/// same JSON value.
#[test]
fn typescript_headers() {
    let cases = recorded();
    assert_eq!(cases.len(), 6);
    for case in cases {
        let map = headers(&[(&case.header, &case.value)]);
        let again = match case.kind.as_str() {
            "payment" => {
                let payment = header::payment(&map, LIMITS).unwrap().unwrap();
                assert_eq!(payment.json(), case.message);
                assert_eq!(payment.header().as_str(), case.header);
                let (name, again) = header::encode_payment(payment.payload()).unwrap();
                assert_eq!(name, payment.header().name());
                again
            }
            "required" => {
                let required = header::payment_required(&map, b"not read", LIMITS).unwrap().unwrap();
                header::encode(&required).unwrap()
            }
            _ => {
                let response = header::settle_response(&map, LIMITS).unwrap().unwrap();
                let (name, again) = header::encode_settle_response(Version::V2, &response).unwrap();
                assert_eq!(name, header::PAYMENT_RESPONSE);
                again
            }
        };
        assert!(again.is_sensitive());
        let again = base64::decode(again.as_bytes(), LIMITS.header).unwrap();
        let mut want = value(&case.message);
        if case.kind == "required" {
            want.as_object_mut().unwrap().remove("extensions");
        }
        assert_eq!(value(core::str::from_utf8(&again).unwrap()), want);
        assert_eq!(header::encode_text(case.message.as_bytes()).unwrap(), case.value);
    }
}

fn payment_value() -> String {
    recorded().remove(0).value
}

#[test]
fn a_server_reads_one_payment_or_refuses() {
    let good = payment_value();
    let v1 = recorded().remove(1).value;
    let joined = format!("{good}, {good}");
    let tight = format!("{good},{v1}");
    let spaced = format!("{good} , {v1}");
    for (pairs, found) in [
        (&[][..], None),
        (&[("payment-signature", "")], None),
        (&[("x-payment", ""), ("payment-signature", "")], None),
        (&[("PAYMENT-SIGNATURE", &good)], Some(PaymentHeader::PaymentSignature)),
        (&[("Payment-Signature", &good)], Some(PaymentHeader::PaymentSignature)),
        (&[("X-PAYMENT", &v1)], Some(PaymentHeader::XPayment)),
        // Where it stands does not change what it is.
        (&[("x-payment", &good)], Some(PaymentHeader::XPayment)),
        (&[("payment-signature", &v1)], Some(PaymentHeader::PaymentSignature)),
        // An empty header counts as absent.
        (&[("payment-signature", &good), ("x-payment", "")], Some(PaymentHeader::PaymentSignature)),
        (&[("payment-signature", ""), ("x-payment", &v1)], Some(PaymentHeader::XPayment)),
        (&[("payment-signature", ""), ("payment-signature", &good)], Some(PaymentHeader::PaymentSignature)),
        // One payment in both headers, as a client sends that does not know the server's version.
        (&[("payment-signature", &good), ("x-payment", &good)], Some(PaymentHeader::PaymentSignature)),
    ] {
        let payment = header::payment(&headers(pairs), LIMITS).unwrap();
        assert_eq!(payment.map(|p| p.header()), found);
    }
    for (pairs, at) in [
        (&[("payment-signature", &*good), ("payment-signature", &good)][..], "header PAYMENT-SIGNATURE"),
        (&[("payment-signature", &good), ("PAYMENT-SIGNATURE", "x")], "header PAYMENT-SIGNATURE"),
        (&[("x-payment", &v1), ("x-payment", &v1)], "header X-PAYMENT"),
        (&[("payment-signature", &good), ("x-payment", &v1)], "header X-PAYMENT"),
        (&[("payment-signature", &good), ("x-payment", "garbage")], "header X-PAYMENT"),
        (&[("payment-signature", &joined)], "header PAYMENT-SIGNATURE"),
        (&[("payment-signature", &tight)], "header PAYMENT-SIGNATURE"),
        (&[("payment-signature", &spaced)], "header PAYMENT-SIGNATURE"),
        (&[("x-payment", &joined)], "header X-PAYMENT"),
        (&[("x-payment", ",")], "header X-PAYMENT"),
    ] {
        let error = header::payment(&headers(pairs), LIMITS).unwrap_err();
        assert_eq!(said(&error), ("ambiguous_header", at.to_owned()));
        assert_eq!(Rejection::from(error).reason, ErrorReason::INVALID_PAYLOAD);
    }
}

#[test]
fn header_values_have_a_limit() {
    let base = r#"{"x402Version":1,"scheme":"exact","network":"base","payload":{},"pad":""#;
    let padded = |json: usize| base64::encode(format!("{base}{}\"}}", "a".repeat(json - base.len() - 2)).as_bytes());
    let just = padded(12 * 1024);
    assert_eq!(just.len(), 16 * 1024);
    header::payment(&headers(&[("x-payment", &just)]), LIMITS).unwrap().unwrap();
    let over = padded(12 * 1024 + 1);
    let error = header::payment(&headers(&[("x-payment", &over)]), LIMITS).unwrap_err();
    assert_eq!(said(&error), ("too_large", "byte 16384".to_owned()));
    let small = Limits { header: over.len(), ..Limits::DEFAULT };
    header::payment(&headers(&[("x-payment", &over)]), &small).unwrap().unwrap();
    for name in ["payment-required", "payment-response", "x-payment-response"] {
        let long = "A".repeat(16 * 1024 + 1);
        let map = headers(&[(name, &long)]);
        let error = match name {
            "payment-required" => header::payment_required(&map, b"", LIMITS).unwrap_err(),
            _ => header::settle_response(&map, LIMITS).unwrap_err(),
        };
        assert_eq!(error.code(), "too_large");
    }
    let raw = format!("{{\"pad\":\"{}\"}}", "a".repeat(16 * 1024));
    let error = header::payment_required(&headers(&[("payment-required", &raw)]), b"", LIMITS).unwrap_err();
    assert_eq!(error.code(), "too_large");
}

fn required(accepts: &str) -> String {
    format!(r#"{{"x402Version":2,"resource":{{"url":"https://a.example/"}},"accepts":[{accepts}]}}"#)
}

const ENTRY: &str = r#"{"scheme":"exact","network":"eip155:84532","amount":"1","asset":"0x036CbD53842c5426634e7929541eC2318f3dCF7e","payTo":"0x209693Bc6afc0C5328bA36FaF03C514EF312287C","maxTimeoutSeconds":60}"#;

/// base64 padded or not, either alphabet, raw JSON: the same terms.
#[test]
fn payment_required_in_every_form() {
    let json = required(ENTRY).replace("a.example/", "a.example/?q=>>>???~~~");
    let want: PaymentRequired = serde_json::from_str(&json).unwrap();
    let padded = base64::encode(json.as_bytes());
    assert!(padded.contains(['+', '/']));
    let url = padded.replace('+', "-").replace('/', "_");
    for form in [&*padded, padded.trim_end_matches('='), &url, url.trim_end_matches('='), &json, &format!("  {json} ")]
    {
        let map = headers(&[("payment-required", form)]);
        assert_eq!(header::payment_required(&map, b"", LIMITS).unwrap().as_ref(), Some(&want), "{form}");
    }
    // Raw JSON with letters beyond ASCII, as bytes.
    let map = {
        let mut map = HeaderMap::new();
        let text = json.replace("a.example", "é.example");
        map.insert(&header::PAYMENT_REQUIRED, HeaderValue::from_bytes(text.as_bytes()).unwrap());
        map
    };
    header::payment_required(&map, b"", LIMITS).unwrap().unwrap();
    // Only there: a payment header holds base64.
    let raw = recorded().remove(0).message;
    let error = header::payment(&headers(&[("x-payment", &raw)]), LIMITS).unwrap_err();
    assert_eq!(said(&error), ("invalid_base64", "byte 0".to_owned()));
}

/// "For a client the header decides; the body is read only where there is no `PAYMENT-REQUIRED`."
#[test]
fn a_client_reads_the_header_first() {
    let in_header = base64::encode(required(ENTRY).as_bytes());
    let body = r#"{"x402Version":1,"error":"pay","accepts":[]}"#;
    let map = headers(&[("payment-required", &in_header)]);
    assert!(matches!(header::payment_required(&map, body.as_bytes(), LIMITS), Ok(Some(PaymentRequired::V2(_)))));
    let bad = headers(&[("payment-required", "e30")]);
    let error = header::payment_required(&bad, body.as_bytes(), LIMITS).unwrap_err();
    assert_eq!(said(&error), ("missing_field", "$.x402Version".to_owned()));
    let twice = headers(&[("payment-required", &in_header), ("payment-required", &in_header)]);
    assert_eq!(header::payment_required(&twice, b"", LIMITS).unwrap_err().code(), "ambiguous_header");
    for empty in [headers(&[]), headers(&[("payment-required", "")])] {
        assert!(matches!(header::payment_required(&empty, body.as_bytes(), LIMITS), Ok(Some(PaymentRequired::V1(_)))));
        assert_eq!(header::payment_required(&empty, b"", LIMITS), Ok(None));
        let error = header::payment_required(&empty, b"<html>", LIMITS).unwrap_err();
        assert_eq!(said(&error), ("invalid_json", "byte 0".to_owned()));
    }
}

#[test]
fn settle_responses_are_found_in_either_header() {
    let settled = recorded().remove(4).value;
    let failed = recorded().remove(5).value;
    let read = |pairs: &[(&str, &str)]| header::settle_response(&headers(pairs), LIMITS);
    let found: SettleResponse = read(&[("payment-response", &settled)]).unwrap().unwrap();
    assert!(found.success);
    assert_eq!(read(&[("x-payment-response", &settled)]).unwrap().unwrap(), found);
    assert_eq!(read(&[("x-payment-response", &failed), ("payment-response", &settled)]).unwrap().unwrap(), found);
    assert_eq!(read(&[("x-payment-response", &settled), ("payment-response", "")]).unwrap().unwrap(), found);
    assert_eq!(read(&[]), Ok(None));
    let error = read(&[("payment-response", &settled), ("payment-response", &failed)]).unwrap_err();
    assert_eq!(said(&error), ("ambiguous_header", "header PAYMENT-RESPONSE".to_owned()));
    let (name, value) = header::encode_settle_response(Version::V1, &found).unwrap();
    assert_eq!((name.as_str(), value.is_sensitive()), ("x-payment-response", true));
}

#[test]
fn accepts_has_a_limit() {
    let list = |n: usize| required(&vec![ENTRY; n].join(","));
    body::payment_required(list(32).as_bytes(), LIMITS).unwrap();
    let error = body::payment_required(list(33).as_bytes(), LIMITS).unwrap_err();
    assert_eq!(said(&error), ("too_many_accepts", "$.accepts[32]".to_owned()));
    assert_eq!(error.expected(), "at most 32 entries");
    let none = Limits { accepts: 0, ..Limits::DEFAULT };
    body::payment_required(list(0).as_bytes(), &none).unwrap();
    assert_eq!(body::payment_required(list(1).as_bytes(), &none).unwrap_err().code(), "too_many_accepts");
    let twice = format!(r#"{{"x402Version":2,"accepts":[],"x":{{"accepts":[{}1]}}}}"#, "1,".repeat(40));
    body::payment_required(twice.as_bytes(), LIMITS).unwrap();
}

/// Another scheme's entry and a network that is not CAIP-2 stay as they came, and do not sink the document.
#[test]
fn entries_that_cannot_be_read_stay() {
    let odd = r#"{"scheme":"odd","network":"nowhere","price":{"n":1.50}}"#;
    let found = body::payment_required(required(&format!("{odd},{ENTRY}")).as_bytes(), LIMITS).unwrap();
    let PaymentRequired::V2(found) = found else { panic!("not v2") };
    assert!(matches!(&found.accepts[0], Entry::Opaque(raw) if raw.as_str() == odd));
    assert!(found.accepts[1].known().is_some());
    // But what is not JSON sinks it, wherever it stands.
    let error = body::payment_required(required(r#"{"a":1,"a":2}"#).as_bytes(), LIMITS).unwrap_err();
    assert_eq!(said(&error), ("duplicate_key", "$.accepts[0].a".to_owned()));
}

/// A server relays what the payer sent, byte for byte.
#[test]
fn the_payers_bytes_reach_the_facilitator() {
    let sent =
        recorded().remove(0).message.replace(r#""payload":"#, "\"unknown\" : [1.0, \"\\u00e9\"],\n\"payload\":  ");
    let map = headers(&[("payment-signature", &base64::encode(sent.as_bytes()))]);
    let payment = header::payment(&map, LIMITS).unwrap().unwrap();
    let terms: PaymentRequirements = PaymentRequirements::V2(serde_json::from_str(ENTRY).unwrap());
    let body = payment.verify_body(&terms).unwrap();
    let text = core::str::from_utf8(&body).unwrap();
    assert!(text.starts_with(&format!("{{\"x402Version\":2,\"paymentPayload\":{sent},\"paymentRequirements\":")));
    let request = body::verify_request(&body, LIMITS).unwrap();
    assert_eq!(&request.payment_payload, payment.payload());
    assert_eq!(request.payment_requirements, terms);
    assert!(!format!("{payment:?}").contains("0x"), "a payment's Debug shows the payment");
}

fn request(outer: &str, payment: &str, terms: &str) -> Result<x402_types::VerifyRequest, DecodeError> {
    let text = format!(r#"{{{outer}"paymentPayload":{payment},"paymentRequirements":{terms}}}"#);
    body::verify_request(text.as_bytes(), LIMITS)
}

#[test]
fn verify_requests() {
    let v2 = recorded().remove(0).message;
    let v1 = recorded().remove(1).message;
    let v1_terms = ENTRY.replace("amount", "maxAmountRequired").replace("eip155:84532", "base-sepolia");
    request("", &v2, ENTRY).unwrap();
    request(r#""x402Version":2,"#, &v2, ENTRY).unwrap();
    request(r#""x402Version":null,"#, &v2, ENTRY).unwrap();
    request(r#""x402Version":1,"#, &v1, &v1_terms).unwrap();
    let error = request(r#""x402Version":1,"#, &v2, ENTRY).unwrap_err();
    assert_eq!(said(&error), ("version_mismatch", "$.x402Version".to_owned()));
    assert_eq!(error.expected(), "the payment's version, 2");
    assert_eq!(Rejection::from(error).reason, ErrorReason::INVALID_X402_VERSION);
    let error = request(r#""x402Version":"2","#, &v2, ENTRY).unwrap_err();
    assert_eq!(said(&error), ("invalid_field", "$.x402Version".to_owned()));
    assert_eq!(error.expected(), "the integer 1 or 2, found a string");
    let error = request(r#""x402Version":3,"#, &v2, ENTRY).unwrap_err();
    assert_eq!(said(&error), ("invalid_field", "$.x402Version".to_owned()));
    let error = request("", &v2, &ENTRY.replace("\"1\"", "1")).unwrap_err();
    assert_eq!(said(&error), ("invalid_field", "$.paymentRequirements.amount".to_owned()));
}

/// Every member of a v2 payment: absent, null, of another type, empty, in a wrong spelling.
#[test]
fn every_bad_member_of_a_payment_is_named() {
    let good = recorded().remove(0).message;
    let change = |path: &[&str], new: Option<&str>| {
        let mut doc = value(&good);
        let (last, parents) = path.split_last().unwrap();
        let mut at = &mut doc;
        for key in parents {
            at = at.get_mut(key).unwrap();
        }
        let object = at.as_object_mut().unwrap();
        match new {
            Some(new) => object.insert((*last).to_owned(), value(new)),
            None => object.remove(*last),
        };
        let map = headers(&[("payment-signature", &base64::encode(doc.to_string().as_bytes()))]);
        header::payment(&map, LIMITS)
    };
    let required: [&[&str]; 8] = [
        &["x402Version"],
        &["payload"],
        &["accepted", "scheme"],
        &["accepted", "network"],
        &["accepted", "amount"],
        &["accepted", "asset"],
        &["accepted", "payTo"],
        &["resource", "url"],
    ];
    for path in required {
        let dotted = format!("$.{}", path.join("."));
        assert_eq!(said(&change(path, None).unwrap_err()), ("missing_field", dotted.clone()));
        for wrong in ["null", "true", "[]", "1.5"] {
            assert_eq!(said(&change(path, Some(wrong)).unwrap_err()), ("invalid_field", dotted.clone()), "{wrong}");
        }
    }
    assert_eq!(said(&change(&["accepted"], None).unwrap_err()), ("missing_field", "$.accepted".to_owned()));
    for (path, wrong) in [
        (&["x402Version"][..], "2.0"),
        (&["x402Version"], "3"),
        (&["x402Version"], "-2"),
        (&["x402Version"], "\"2\""),
        (&["payload"], "\"{}\""),
        (&["accepted"], "[]"),
        (&["accepted"], "\"exact\""),
        (&["resource"], "\"https://a.example\""),
        (&["extensions"], "[]"),
        (&["extensions"], "\"\""),
        (&["accepted", "extra"], "[]"),
        (&["accepted", "scheme"], "\"\""),
        (&["accepted", "network"], "\"\""),
        (&["accepted", "network"], "\"base\""),
        (&["accepted", "network"], "\"eip155:01\""),
        (&["accepted", "network"], "\"eip155:84532\\n\""),
        (&["accepted", "amount"], "10000"),
        (&["accepted", "amount"], "\"\""),
        (&["accepted", "amount"], "\"-1\""),
        (&["accepted", "amount"], "\"1e4\""),
        (&["accepted", "amount"], "\"0x10\""),
        (&["accepted", "amount"], "\"01\""),
        (&["accepted", "maxTimeoutSeconds"], "\"60\""),
        (&["accepted", "maxTimeoutSeconds"], "0"),
        (&["accepted", "maxTimeoutSeconds"], "-1"),
        (&["accepted", "maxTimeoutSeconds"], "60.0"),
        (&["accepted", "maxTimeoutSeconds"], "9007199254740992"),
        (&["resource", "description"], "1"),
        (&["resource", "mimeType"], "[]"),
        (&["resource", "tags"], "\"a\""),
    ] {
        let dotted = format!("$.{}", path.join("."));
        let error = change(path, Some(wrong)).unwrap_err();
        assert_eq!(said(&error), ("invalid_field", dotted), "{wrong}");
        let want =
            if path == ["x402Version"] { ErrorReason::INVALID_X402_VERSION } else { ErrorReason::INVALID_PAYLOAD };
        assert_eq!(Rejection::from(error).reason, want);
    }
    for (path, lenient) in [
        (&["resource"][..], None),
        (&["resource"], Some("null")),
        (&["extensions"], Some("null")),
        (&["accepted", "extra"], None),
        (&["accepted", "extra"], Some("null")),
        (&["accepted", "maxTimeoutSeconds"], None),
        (&["accepted", "maxTimeoutSeconds"], Some("9007199254740991")),
        (&["accepted", "maxTimeoutSeconds"], Some("1")),
        (&["unknown"], Some("{\"a\":[null]}")),
        (&["accepted", "unknown"], Some("1")),
    ] {
        change(path, lenient).unwrap().unwrap();
    }
}

#[test]
fn v1_payments() {
    let good = recorded().remove(1).message;
    for (from, to, path) in [
        (r#""scheme":"exact","#, "", "$.scheme"),
        (r#""network":"base-sepolia","#, "", "$.network"),
        (r#""x402Version":1,"#, "", "$.x402Version"),
    ] {
        let text = good.replace(from, to);
        assert_ne!(text, good);
        let error = header::decode_payment(PaymentHeader::XPayment, base64::encode(text.as_bytes()).as_bytes(), LIMITS);
        assert_eq!(said(&error.unwrap_err()), ("missing_field", path.to_owned()));
    }
    let map = headers(&[("x-payment", &base64::encode(good.as_bytes()))]);
    let payment = header::payment(&map, LIMITS).unwrap().unwrap();
    assert!(matches!(payment.payload(), PaymentPayload::V1(p) if p.network.as_str() == "base-sepolia"));
}

#[test]
fn cors_names() {
    let names = |list: &[HeaderName]| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    assert_eq!(
        names(&header::request_headers()),
        "payment-signature,x-payment,sign-in-with-x,access-control-expose-headers"
    );
    assert_eq!(
        names(&header::response_headers()),
        "payment-required,payment-response,x-payment-response,x-payment-token"
    );
}
