//! `POST /verify` and `/settle`, [x402 v2 §7.1](https://github.com/coinbase/x402/blob/main/specs/x402-specification-v2.md):
//! requirements that repeat the payer's echo are compared with it and not read again, which nobody may notice.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use x402_codec::{Limits, body};
use x402_types::{PaymentPayload, PaymentRequirements, VerifyRequest};

const OFFER: &str = r#"{"scheme":"exact","network":"eip155:84532","amount":"10000","asset":"0x036CbD53842c5426634e7929541eC2318f3dCF7e","payTo":"0x90F79bf6EB2c4f870365E785982E1f101E93b906","maxTimeoutSeconds":300,"extra":{"name":"USDC","version":"2"},"unknown":[1]}"#;

fn payment(accepted: &str, more: &str) -> String {
    format!(r#"{{"x402Version":2,"payload":{{"accepted":{{}}}},"accepted":{accepted}{more}}}"#)
}

fn read(text: &str) -> VerifyRequest {
    body::verify_request(text.as_bytes(), &Limits::DEFAULT).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The amounts that the payer accepted and that are demanded.
fn amounts(text: &str) -> (String, String) {
    let request = read(text);
    // `serde_json` reads each part alone, with no other beside it.
    assert_eq!(serde_json::from_str::<VerifyRequest>(text).unwrap(), request);
    match (request.payment_payload, request.payment_requirements) {
        (PaymentPayload::V2(payment), PaymentRequirements::V2(terms)) => {
            (payment.accepted.amount.to_string(), terms.amount.to_string())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn requirements_are_the_servers_own_wherever_they_stand() {
    let dear = OFFER.replace("10000", "20000");
    let same = ("10000".to_owned(), "10000".to_owned());
    let differ = ("10000".to_owned(), "20000".to_owned());
    let cheap = payment(OFFER, "");
    for (text, expected) in [
        (format!(r#"{{"paymentPayload":{cheap},"paymentRequirements":{OFFER}}}"#), &same),
        (format!(r#"{{"paymentPayload":{cheap}, "paymentRequirements" : {OFFER} ,"x402Version":2}}"#), &same),
        (format!(r#"{{"paymentRequirements":{OFFER},"paymentPayload":{cheap}}}"#), &same),
        (format!(r#"{{"paymentPayload":{cheap},"paymentRequirements":{dear}}}"#), &differ),
        (format!(r#"{{"paymentRequirements":{dear},"paymentPayload":{cheap}}}"#), &differ),
        // Written otherwise.
        (format!(r#"{{"paymentPayload":{cheap},"paymentRequirements":{}}}"#, OFFER.replace(',', ", ")), &same),
        (
            format!(r#"{{"paymentPayload":{cheap},"paymentRequirements":{}}}"#, OFFER.replace("10000", "1000\\u0030")),
            &same,
        ),
        // Other objects that hold an `accepted`.
        (format!(r#"{{"paymentPayload":{cheap},"x":{{"accepted":{dear}}},"paymentRequirements":{dear}}}"#), &differ),
        (format!(r#"{{"x":{{"accepted":{dear}}},"paymentPayload":{cheap},"paymentRequirements":{dear}}}"#), &differ),
        (
            format!(
                r#"{{"paymentPayload":{},"paymentRequirements":{dear}}}"#,
                payment(OFFER, &format!(r#","extensions":{{"accepted":{dear}}}"#))
            ),
            &differ,
        ),
        (
            format!(
                r#"{{"paymentPayload":{},"paymentRequirements":{dear}}}"#,
                payment(OFFER, &format!(r#","x":{dear},"\u0061ccepte\u0064_":{dear}"#))
            ),
            &differ,
        ),
        (
            format!(
                r#"{{"paymentPayload":{},"paymentRequirements":{dear}}}"#,
                payment(OFFER, &format!(r#","resource":{{"url":"https://a.example/","accepted":{dear}}}"#))
            ),
            &differ,
        ),
    ] {
        assert_eq!(&amounts(&text), expected, "{text}");
    }
}

#[test]
fn what_is_compared_is_still_read_to_its_end() {
    let cheap = payment(OFFER, "");
    let refused = |text: &str| {
        let error = body::verify_request(text.as_bytes(), &Limits::DEFAULT).unwrap_err();
        (error.code(), error.at().to_string())
    };
    let body = format!(r#"{{"paymentPayload":{cheap},"paymentRequirements":{OFFER}}}"#);
    let end = body.len() - 1;
    for (text, expected) in [
        (format!("{}x}}", &body[..end]), ("invalid_json", format!("byte {end}"))),
        (body[..end].to_owned(), ("invalid_json", format!("byte {end}"))),
        (format!("{body}{body}"), ("trailing_data", format!("byte {}", body.len()))),
        (
            format!(r#"{},"paymentRequirements":{OFFER}}}"#, &body[..end]),
            ("duplicate_key", "$.paymentRequirements".to_owned()),
        ),
        (
            format!(r#"{{"paymentPayload":{cheap},"paymentRequirements":null}}"#),
            ("invalid_field", "$.paymentRequirements".to_owned()),
        ),
        (format!(r#"{{"paymentPayload":{cheap}}}"#), ("missing_field", "$.paymentRequirements".to_owned())),
        (format!(r#"{{"paymentRequirements":{OFFER}}}"#), ("missing_field", "$.paymentPayload".to_owned())),
        (
            format!(r#"{{"x":{{"accepted":{OFFER}}},"paymentRequirements":{OFFER}}}"#),
            ("missing_field", "$.paymentPayload".to_owned()),
        ),
    ] {
        assert_eq!(refused(&text), expected, "{text}");
    }
}
