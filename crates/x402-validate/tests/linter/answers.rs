//! Whole answers: `vectors/cases/answers`, and what else real servers send around a document.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use x402_validate::{CheckedResponse, Code, HttpAnswer, Options, Severity, Source, lint_answer};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../x402-testkit/vectors/cases/answers");

/// The file, whether it is valid, the part with the document, and every issue of the answer: code, field, words.
type Row = (&'static str, bool, Option<Source>, &'static [(Code, &'static str, &'static str)]);

const HEADER: Option<Source> = Some(Source::Header);
const REQUIRED: &str = "headers.PAYMENT-REQUIRED";
const CACHE: (Code, &str, &str) = (Code::MissingCacheControl, "headers.Cache-Control", "caches may keep the terms");

/// The README of the cases says what each should give.
const ROWS: &[Row] = &[
    (
        "a01-header-raw-json",
        true,
        HEADER,
        &[(Code::HeaderEncoding, REQUIRED, "published clients read base64 only"), CACHE],
    ),
    (
        "a02-header-and-body-disagree",
        true,
        HEADER,
        &[
            (Code::HeaderAndBodyDisagree, "body", "the header asks for \"10000\" atomic units, the body for \"20000\""),
            CACHE,
        ],
    ),
    ("a03-header-only-body-empty-object", true, HEADER, &[CACHE]),
    ("a04-bare-402-html", false, None, &[(Code::NoTerms, REQUIRED, "no PAYMENT-REQUIRED header, and a body of HTML")]),
    (
        "a06-mpp-beside-x402",
        true,
        HEADER,
        &[CACHE, (Code::OtherProtocol, "headers.WWW-Authenticate", "by MPP, which clients of x402 pass over")],
    ),
    (
        "a07-status-200-with-terms",
        true,
        HEADER,
        &[(Code::UnexpectedStatus, "status", "status 200: the content is free"), CACHE],
    ),
    ("a11-v2-in-body-only", true, Some(Source::Body), &[(Code::BodyOnly, REQUIRED, "in the body alone"), CACHE]),
    ("a12-header-latin1", false, HEADER, &[(Code::HeaderEncoding, REQUIRED, "Latin-1, not UTF-8")]),
    ("a13-two-headers", true, HEADER, &[(Code::RepeatedHeader, REQUIRED, "is there 2 times"), CACHE]),
];

/// The codes that only an answer has.
const AROUND: [Code; 11] = [
    Code::NoTerms,
    Code::HeaderAndBodyDisagree,
    Code::RepeatedHeader,
    Code::MisnamedHeader,
    Code::HeaderEncoding,
    Code::BodyOnly,
    Code::UnexpectedStatus,
    Code::MissingCacheControl,
    Code::InsecureUrl,
    Code::PrivateResource,
    Code::OtherProtocol,
];

type Headers = Vec<(String, Vec<u8>)>;

/// The status, the headers and the body of a recorded answer.
fn recorded(name: &str) -> (u16, Headers, Vec<u8>) {
    let answer: Value = serde_json::from_slice(&std::fs::read(format!("{FOLDER}/{name}.json")).unwrap()).unwrap();
    let mut headers = Vec::new();
    for (name, value) in answer["headers"].as_object().unwrap() {
        for value in value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]) {
            headers.push((name.clone(), value.as_str().unwrap().as_bytes().to_vec()));
        }
    }
    let body = match &answer["body"] {
        Value::String(text) => text.clone().into_bytes(),
        other => other.to_string().into_bytes(),
    };
    (u16::try_from(answer["status"].as_u64().unwrap()).unwrap(), headers, body)
}

fn lint(
    headers: &[(String, Vec<u8>)],
    body: &[u8],
    with: impl Fn(HttpAnswer<'_>) -> CheckedResponse,
) -> CheckedResponse {
    let headers: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
    with(HttpAnswer::new(&headers, body))
}

fn around(checked: &CheckedResponse) -> Vec<(Code, String, String)> {
    let issues = checked.report.issues().filter(|issue| AROUND.contains(&issue.code));
    issues.map(|issue| (issue.code, issue.field.clone(), issue.message.to_string())).collect()
}

#[test]
fn each_case_says_what_is_wrong_around_the_document() {
    for (name, valid, source, issues) in ROWS {
        let (status, headers, body) = recorded(name);
        let checked = lint(&headers, &body, |answer| lint_answer(&answer.with_status(status), &Options::default()));
        let found = around(&checked);
        assert_eq!((checked.report.valid, checked.source), (*valid, *source), "{name}: {:?}", checked.report);
        assert_eq!(found.len(), issues.len(), "{name}: {found:?}");
        for (code, field, words) in *issues {
            let has = |(c, f, message): &&(Code, String, String)| c == code && f == field && message.contains(words);
            assert!(found.iter().any(|issue| has(&issue)), "{name}: {code} in {found:?}");
        }
        let strict = lint(&headers, &body, |answer| {
            lint_answer(&answer.with_status(status), &Options::default().with_warnings_as_errors())
        });
        assert!(!strict.report.valid && strict.report.warnings.is_empty(), "{name}");
    }
}

#[test]
fn a_bare_402_is_not_called_no_json_and_bytes_of_latin_1_are_named() {
    let (status, headers, body) = recorded("a04-bare-402-html");
    let checked = lint(&headers, &body, |answer| lint_answer(&answer.with_status(status), &Options::default()));
    assert!(!checked.report.has(Code::InvalidJson), "{:?}", checked.report);
    let (_, headers, body) = recorded("a12-header-latin1");
    let checked = lint(&headers, &body, |answer| lint_answer(&answer, &Options::default()));
    let invalid = checked.report.errors.iter().find(|issue| issue.code == Code::InvalidJson).unwrap();
    assert!(invalid.message.ends_with("at byte 96"), "{}", invalid.message);
}

#[test]
fn every_case_is_in_the_table() {
    let files = std::fs::read_dir(FOLDER).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let files: BTreeSet<String> = files.filter_map(|name| name.strip_suffix(".json").map(str::to_owned)).collect();
    assert_eq!(ROWS.iter().map(|(name, ..)| (*name).to_owned()).collect::<BTreeSet<_>>(), files);
}

fn document(url: &str) -> String {
    json!({
        "x402Version": 2, "resource": { "url": url },
        "accepts": [{
            "scheme": "exact", "network": "eip155:8453", "amount": "10000",
            "asset": "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913", "payTo": "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
            "maxTimeoutSeconds": 60, "extra": { "name": "USD Coin", "version": "2" }
        }]
    })
    .to_string()
}

/// An answer with nothing wrong around it, but for one header more and another body.
fn answered(headers: &[(&str, &str)], body: &str, status: u16, url: Option<&str>) -> CheckedResponse {
    let headers: Vec<(&str, &[u8])> =
        [("cache-control", "no-store")].iter().chain(headers).map(|(name, value)| (*name, value.as_bytes())).collect();
    let answer = HttpAnswer::new(&headers, body.as_bytes()).with_status(status);
    lint_answer(&url.map_or(answer, |url| answer.with_url(url)), &Options::default())
}

fn codes(checked: &CheckedResponse) -> Vec<(Code, bool)> {
    let issues = checked.report.issues().filter(|issue| AROUND.contains(&issue.code));
    issues.map(|issue| (issue.code, issue.severity == Severity::Error)).collect()
}

#[test]
fn a_right_answer_has_no_issue_around_it() {
    let header = STANDARD.encode(document("https://api.example.com/a"));
    let mine = "https://api.example.com/a";
    for body in ["", "{}", &document(mine), "<p>Pay</p>"] {
        let checked = answered(&[("Payment-Required", &header)], body, 402, Some(mine));
        assert_eq!(codes(&checked), [], "{body}");
        assert!(checked.report.valid);
    }
    assert_eq!(codes(&answered(&[("payment-required", &header)], "{}", 412, None)), [], "an allowance is missing");
}

#[test]
fn encodings_that_no_client_reads_are_errors_and_the_document_is_linted_all_the_same() {
    let json = document("https://api.example.com/a");
    let once = STANDARD.encode(&json);
    for (value, error) in [
        (json.clone(), false),
        (URL_SAFE_NO_PAD.encode(json.replace("/a\"", "/?>>\"")), false),
        (STANDARD.encode(&once), true),
        (once.replace('=', "%3D").replace('e', "%65"), true),
        (STANDARD.encode(serde_json::to_string(&json).unwrap()), true),
    ] {
        let checked = answered(&[("payment-required", &value)], "", 402, None);
        assert_eq!(codes(&checked), [(Code::HeaderEncoding, error)], "{value}");
        assert_eq!(checked.summary[0].human_amount.as_deref(), Some("0.01 USDC"), "{value}");
    }
}

#[test]
fn terms_under_another_name_are_found_and_named() {
    let header = STANDARD.encode(document("https://api.example.com/a"));
    for name in ["X-PAYMENT-REQUIRED", "x-402", "payment"] {
        let checked = answered(&[(name, &header)], "Payment required", 402, None);
        assert_eq!(codes(&checked), [(Code::NoTerms, true), (Code::MisnamedHeader, false)], "{name}");
        let field = format!("headers.{name}");
        assert!(checked.report.issues().any(|issue| issue.field == field), "{:?}", checked.report);
        assert_eq!(checked.summary.len(), 1);
    }
    // A cookie of base64 JSON that is something else is none.
    let cookie = STANDARD.encode(r#"{"a":1}"#);
    assert_eq!(codes(&answered(&[("set-cookie", &cookie)], "", 402, None)), [(Code::NoTerms, true)]);
}

#[test]
fn answers_without_terms_say_what_is_there_instead() {
    let message = |headers: &[(&str, &str)], body: &str, status| {
        let checked = answered(headers, body, status, None);
        assert_eq!(codes(&checked), [(Code::NoTerms, true)], "{body}");
        assert!(checked.report.errors.len() == 1 && checked.report.warnings.is_empty() && checked.source.is_none());
        checked.report.errors[0].message.to_string()
    };
    assert!(message(&[], "", 402).ends_with("an empty body"));
    assert!(message(&[], "<html>", 402).ends_with("a body of HTML"));
    assert!(message(&[], r#"{"error":"pay"}"#, 402).ends_with("no document of x402"));
    assert!(message(&[], "", 404).ends_with("its status is 404"));
    assert!(message(&[("location", "/login")], "", 302).ends_with("redirects are not followed"));
    let mpp = [("www-authenticate", "Payment id=\"1\", method=\"tempo\"")];
    assert_eq!(message(&mpp, "", 402), "the answer asks for a payment by MPP, and not by x402");
    let lightning = [("WWW-Authenticate", "L402 macaroon=\"a\", invoice=\"b\"")];
    assert_eq!(message(&lightning, "{}", 402), "the answer asks for a payment by L402, and not by x402");
    // A document that breaks off is one.
    let broken = answered(&[], r#"{"x402Version":2,"#, 402, None);
    assert!(broken.report.has(Code::InvalidJson) && codes(&broken).is_empty());
}

#[test]
fn header_and_body_may_be_of_two_versions_and_must_ask_for_the_same() {
    let header = STANDARD.encode(document("https://api.example.com/a"));
    let old = |amount: &str, network: &str, pay_to: &str| {
        json!({ "x402Version": 1, "accepts": [{
            "scheme": "exact", "network": network, "maxAmountRequired": amount, "payTo": pay_to,
            "asset": "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913", "maxTimeoutSeconds": 60,
        }] })
        .to_string()
    };
    let me = "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed";
    for (body, same) in [
        (old("10000", "base", me), true),
        (old("20000", "base", me), false),
        (old("10000", "base", "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"), false),
        (old("10000", "base-sepolia", me), false),
    ] {
        let found = codes(&answered(&[("payment-required", &header)], &body, 402, None));
        assert_eq!(found.is_empty(), same, "{body}");
        assert!(found.iter().all(|(code, error)| *code == Code::HeaderAndBodyDisagree && !error));
    }
}

#[test]
fn urls_that_others_read_or_cannot_reach() {
    for (url, requested, want) in [
        ("http://api.example.com/a", None, &[Code::InsecureUrl][..]),
        ("http://api.example.com/a", Some("http://api.example.com/a"), &[Code::InsecureUrl, Code::InsecureUrl]),
        ("http://127.0.0.1:3000/a", None, &[Code::PrivateResource]),
        ("https://localhost/a", None, &[Code::PrivateResource]),
        ("https://api.localhost/a", Some("https://api.example.com/a"), &[Code::PrivateResource]),
        ("http://192.168.0.7/a", None, &[Code::PrivateResource]),
        ("http://169.254.169.254/a", None, &[Code::PrivateResource]),
        ("http://[::1]/a", None, &[Code::PrivateResource]),
        ("http://[fd00::1]/a", None, &[Code::PrivateResource]),
        ("http://[::ffff:10.0.0.1]/a", None, &[Code::PrivateResource]),
        ("http://printer.local/a", None, &[Code::PrivateResource]),
        // A server of one's own machine names itself so.
        ("http://127.0.0.1:3000/a", Some("http://127.0.0.1:3000/a"), &[]),
        ("https://8.8.8.8/a", None, &[]),
        ("https://api.example.com/a", Some("https://api.example.com/a"), &[]),
        ("mcp://tool/weather", None, &[]),
    ] {
        let header = STANDARD.encode(document(url));
        let found = codes(&answered(&[("payment-required", &header)], "", 402, requested));
        let found: Vec<Code> = found.into_iter().map(|(code, _)| code).collect();
        assert_eq!(found, want, "{url} {requested:?}");
    }
}

#[test]
fn each_issue_around_a_document_is_of_a_code_with_a_page() {
    for code in AROUND {
        let page = code.page();
        assert!(page.contains(&format!("### `{code}`")) && code.is_of_answers(), "{page}");
    }
    let others = Code::TABLE.iter().filter(|row| row.code.is_of_answers()).count();
    assert_eq!(others, AROUND.len());
}
