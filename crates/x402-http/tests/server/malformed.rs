//! Malformed payment headers.

use http::{HeaderValue, StatusCode};
use x402_codec::header as names;

use crate::common::{call, decoded, get, header, offer, payment_json, terms, v1_payment_json};
use crate::stage::shop;

#[tokio::test]
async fn malformed_headers_are_402_with_the_reason() {
    use base64_of as b64;
    let good = payment_json(&terms(), 1);
    let edited = |edit: &dyn Fn(&mut serde_json::Value)| {
        let mut json = good.clone();
        edit(&mut json);
        b64(&json.to_string())
    };
    let cases: Vec<(&str, Vec<String>, &str)> = vec![
        ("not base64", vec!["%%%".into()], "invalid_payload"),
        ("base64 of nothing", vec!["e30=".into()], "invalid_payload"),
        ("not json", vec![b64("hello")], "invalid_payload"),
        ("an array", vec![b64("[]")], "invalid_payload"),
        ("something behind", vec![b64(&format!("{good} {good}"))], "invalid_payload"),
        ("twice", vec![b64(&good.to_string()), b64(&good.to_string())], "invalid_payload"),
        ("joined", vec![format!("{0},{0}", b64(&good.to_string()))], "invalid_payload"),
        ("too long", vec!["A".repeat(16 * 1024 + 4)], "invalid_payload"),
        ("a key twice", vec![b64(&good.to_string().replacen('{', r#"{"x402Version":2,"#, 1))], "invalid_payload"),
        (
            "version absent",
            vec![edited(&|json| {
                json.as_object_mut().unwrap().remove("x402Version");
            })],
            "invalid_payload",
        ),
        ("version 3", vec![edited(&|json| json["x402Version"] = 3.into())], "invalid_payload"),
        ("version as text", vec![edited(&|json| json["x402Version"] = "2".into())], "invalid_payload"),
        (
            "accepted absent",
            vec![edited(&|json| {
                json.as_object_mut().unwrap().remove("accepted");
            })],
            "invalid_payload",
        ),
        ("accepted null", vec![edited(&|json| json["accepted"] = serde_json::Value::Null)], "invalid_payload"),
        ("amount a number", vec![edited(&|json| json["accepted"]["amount"] = 10_000.into())], "invalid_payload"),
        ("amount spelt", vec![edited(&|json| json["accepted"]["amount"] = "010000".into())], "invalid_payload"),
        (
            "payload absent",
            vec![edited(&|json| {
                json.as_object_mut().unwrap().remove("payload");
            })],
            "invalid_payload",
        ),
        ("payload a string", vec![edited(&|json| json["payload"] = "x".into())], "invalid_payload"),
        ("payload empty", vec![edited(&|json| json["payload"] = serde_json::json!({}))], "invalid_payload"),
        (
            "nonce absent",
            vec![edited(&|json| json["payload"]["authorization"]["nonce"] = serde_json::Value::Null)],
            "invalid_payload",
        ),
        ("v1 where v2 is served", vec![b64(&v1_payment_json(1).to_string())], "invalid_x402_version"),
    ];
    for (what, values, code) in cases {
        let shop = shop();
        let service = shop.sells(vec![offer(terms())]);
        let headers: Vec<_> = values.iter().map(|value| (&names::PAYMENT_SIGNATURE, value.parse().unwrap())).collect();
        let headers: Vec<_> = headers.iter().map(|(name, value): &(_, HeaderValue)| (&**name, value.clone())).collect();
        let (status, headers, _) = call(&service, get("/weather", &headers)).await;
        assert_eq!(status, StatusCode::PAYMENT_REQUIRED, "{what}");
        assert_eq!(decoded(&headers, &names::PAYMENT_REQUIRED)["error"], code, "{what}");
        assert_eq!(headers["cache-control"], "no-store");
        assert_eq!(shop.script.log(), "", "{what}: nobody was asked");
    }
    // Two payments at once.
    let shop = shop();
    let service = shop.sells(vec![offer(terms())]);
    let (value, other) = (header(&good), header(&payment_json(&terms(), 2)));
    let (status, headers, _) =
        call(&service, get("/weather", &[(&names::PAYMENT_SIGNATURE, value), (&names::X_PAYMENT, other)])).await;
    assert_eq!(status, StatusCode::PAYMENT_REQUIRED);
    assert_eq!(decoded(&headers, &names::PAYMENT_REQUIRED)["error"], "invalid_payload");
    // An empty header counts as absent.
    let (_, headers, _) =
        call(&service, get("/weather", &[(&names::PAYMENT_SIGNATURE, HeaderValue::from_static(""))])).await;
    assert_eq!(decoded(&headers, &names::PAYMENT_REQUIRED)["error"], "Payment required");
}

fn base64_of(text: &str) -> String {
    names::encode_text(text.as_bytes()).unwrap().to_str().unwrap().to_owned()
}
