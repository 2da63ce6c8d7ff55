//! A document in an HTTP response: header or body, base64 or raw JSON.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use x402_validate::{Code, DocumentFormat, ExtractError, Options, Registry, Source, extract, lint_response};

/// `ÿþ` and `€` make `+`, `/` or their url-safe twins appear.
const DOCUMENT: &str = r#"{"x402Version":2,"error":"ÿþ?>~ kostet 0,01 €","resource":{"url":"https://api.example.com/"},"accepts":[{"scheme":"exact","network":"eip155:84532","amount":"10000","asset":"0x036CbD53842c5426634e7929541eC2318f3dCF7e","payTo":"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed","maxTimeoutSeconds":60}]}"#;
const V1: &[u8] = br#"{"x402Version":1,"accepts":[]}"#;

#[test]
fn the_header_is_read_in_every_encoding_and_case() {
    for value in [
        STANDARD.encode(DOCUMENT),
        STANDARD_NO_PAD.encode(DOCUMENT),
        URL_SAFE.encode(DOCUMENT),
        URL_SAFE_NO_PAD.encode(DOCUMENT),
        DOCUMENT.to_owned(),
        format!(" {}\t", STANDARD.encode(DOCUMENT)),
    ] {
        for name in ["PAYMENT-REQUIRED", "payment-required", "Payment-Required"] {
            let found = extract([("content-type", &b"text/html"[..]), (name, value.as_bytes())], V1).unwrap();
            assert_eq!(found.source, Source::Header);
            assert_eq!(&*found.json, DOCUMENT.as_bytes(), "UTF-8 is read right");
            assert_eq!(found.header, Some(value.len()));
        }
    }
}

#[test]
fn the_body_counts_without_a_header() {
    let found = extract([("x-payment", &b"abc"[..])], V1).unwrap();
    assert_eq!((found.source, &*found.json, found.header), (Source::Body, V1, None));
    let encoded = STANDARD.encode(DOCUMENT);
    let found = extract([], encoded.as_bytes()).unwrap();
    assert_eq!((found.source, &*found.json), (Source::Body, DOCUMENT.as_bytes()));
    assert_eq!(extract([], b" \n"), Err(ExtractError::NotFound));
}

#[test]
fn a_header_that_cannot_be_read_does_not_give_way_to_the_body() {
    let want = Err(ExtractError::NotBase64 { place: Source::Header, offset: 4 });
    assert_eq!(extract([("payment-required", &b"eyJ4*A=="[..])], V1), want);
    let checked = lint_response([("payment-required", &b"eyJ4*A=="[..])], V1, &Options::default());
    assert_eq!(checked.source, Some(Source::Header));
    assert_eq!(checked.report.errors[0].code, Code::InvalidJson);
    assert!(checked.report.errors[0].message.ends_with("at byte 4"), "{:?}", checked.report.errors[0].message);
    let nothing = lint_response([], b"", &Options::default());
    assert_eq!((nothing.source, nothing.report.has(Code::InvalidJson)), (None, true));
    let html = lint_response([], b"<html></html>", &Options::default());
    assert_eq!((html.source, html.report.has(Code::InvalidJson)), (Some(Source::Body), true));
}

#[test]
fn a_response_is_summarised_for_people() {
    let header = STANDARD.encode(DOCUMENT);
    let checked = lint_response([("Payment-Required", header.as_bytes())], b"{}", &Options::default());
    assert!(checked.report.valid, "{:?}", checked.report.errors);
    assert_eq!(checked.report.version, DocumentFormat::V2);
    let json = serde_json::to_value(&checked).unwrap();
    assert_eq!(json["source"], "header");
    assert_eq!(
        json["summary"],
        serde_json::json!([{
            "index": 0, "scheme": "exact", "network": "eip155:84532", "networkName": "Base Sepolia", "networkType": "eip155",
            "payTo": "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "amount": "10000",
            "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e", "assetSymbol": "USDC", "assetDecimals": 6, "humanAmount": "0.01 USDC"
        }])
    );
    let members: Vec<&String> = json.as_object().unwrap().keys().collect();
    assert_eq!(members, ["errors", "normalized", "source", "summary", "valid", "version", "warnings"]);
}

#[test]
fn a_long_header_is_measured_as_it_was_sent() {
    let document = DOCUMENT.replace("kostet", &"x".repeat(6500));
    let options = Options::default().with_registry(Registry::all());
    let header = STANDARD.encode(&document);
    assert!(lint_response([("payment-required", header.as_bytes())], b"", &options).report.has(Code::HeaderTooLarge));
    let short = STANDARD.encode(DOCUMENT);
    assert!(!lint_response([("payment-required", short.as_bytes())], b"", &options).report.has(Code::HeaderTooLarge));
}
