//! What the client reads of an offer, and what it says of one that it does not pay.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod buyer;
mod common;

use buyer::*;
use bytes::Bytes;
use common::{TRANSACTION, terms};
use http::{HeaderValue, Response};
use http_body_util::Full;
use serde_json::{Value, json};
use x402_codec::header as names;
use x402_http::client::{ClientError, NotPayable, PayError, SpendLimits};
use x402_types::extension::PaymentIdentifier;
use x402_types::{PaymentRequired, TimeoutSeconds};

fn asks_json(json: &Value) -> Response<Full<Bytes>> {
    with(status(402), &names::PAYMENT_REQUIRED, common::header(json))
}

fn in_body(json: &Value) -> Response<Full<Bytes>> {
    let mut first = status(402);
    *first.body_mut() = Full::from(serde_json::to_vec(json).unwrap());
    first
}

#[tokio::test]
async fn what_decides_no_money_does_not_sink_an_offer() {
    let wrong = [
        ("resource", json!("https://api.example.com/weather")),
        ("resource", json!({"url": URL, "description": 7})),
        ("resource", json!({"description": "no url"})),
        ("extensions", json!(["bazaar"])),
        ("extensions", json!("bazaar")),
        ("error", json!({"code": 402})),
        ("description", json!([1])),
    ];
    for (member, value) in wrong {
        let mut json = document(&[terms()]);
        json[member] = value.clone();
        let wire = Wire::default().says([asks_json(&json), paid()]);
        ask(&purse(), &wire).await.unwrap_or_else(|error| panic!("{member} {value}: {error:?}"));
        assert_eq!(payment_of(&wire, 1)["accepted"], json["accepts"][0]);
        // Whoever forwards the document forwards it as it came.
        let read: PaymentRequired = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), json);
    }
    // What decides it does.
    for (member, value) in [("x402Version", json!("2")), ("accepts", json!({}))] {
        let mut json = document(&[terms()]);
        json[member] = value;
        let error = ask(&purse(), &Wire::default().says([asks_json(&json)])).await.unwrap_err();
        assert!(
            matches!(&error, ClientError::Pay(PayError::Terms(why)) if why.to_string().contains(member)),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn the_same_holds_in_version_1() {
    let v1 = PaymentRequired::V2(serde_json::from_value(document(&[terms()])).unwrap()).to_v1();
    let v1 = serde_json::to_value(&v1).unwrap();
    let entry = [
        ("description", json!(7)),
        ("mimeType", json!({})),
        ("resource", json!(["a"])),
        ("resource", json!({"url": 7})),
    ];
    for (member, value) in entry {
        let mut json = v1.clone();
        json["accepts"][0][member] = value;
        let receipt = json!({"success": true, "transaction": TRANSACTION, "network": "base-sepolia"});
        let last = with(status(200), &names::X_PAYMENT_RESPONSE, common::header(&receipt));
        let wire = Wire::default().says([in_body(&json), last]);
        ask(&purse(), &wire).await.unwrap_or_else(|error| panic!("{member}: {error:?}"));
    }
    let mut json = v1;
    json["error"] = json!({"code": 402});
    let wire = Wire::default().says([in_body(&json), paid()]);
    ask(&purse(), &wire).await.unwrap();
    let read: PaymentRequired = serde_json::from_value(json).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap().matches("\"error\"").count(), 1);
}

#[tokio::test]
async fn an_entry_that_cannot_be_read_names_its_member() {
    let mut json = document(&[terms(), terms(), terms()]);
    json["accepts"][0]["amount"] = 10_000.into();
    json["accepts"][1]["network"] = "base".into();
    json["accepts"][2].as_object_mut().unwrap().remove("payTo");
    let error = ask(&purse(), &Wire::default().says([asks_json(&json)])).await.unwrap_err();
    let ClientError::Pay(error) = error else { panic!("{error:?}") };
    let text = error.to_string();
    for (at, member) in [(0, "amount"), (1, "network"), (2, "payTo")] {
        let part = text.split("accepts[").nth(at + 1).unwrap();
        assert!(part.starts_with(&format!("{at}]: it cannot be read: ")) && part.contains(member), "{text}");
    }
}

#[tokio::test]
async fn an_authorization_lasts_no_longer_than_the_clients_limit() {
    let asks_for = |seconds: u64| terms().with_max_timeout_seconds(TimeoutSeconds::try_from(seconds).unwrap());
    let purse = purse();
    let error = ask(&purse, &Wire::default().says([asks(&[asks_for(3_601)])])).await.unwrap_err();
    let ClientError::Pay(PayError::NothingPayable(reasons)) = error else { panic!("{error:?}") };
    assert_eq!(reasons, [NotPayable::TooLong { seconds: 3_601, limit: 3_600 }]);
    assert_eq!((purse.signed(), purse.used().as_str()), (0, "0"));
    ask(&purse, &Wire::default().says([asks(&[asks_for(3_601), asks_for(3_600)]), paid()])).await.unwrap();
    let mut purse = buyer::purse();
    purse.payer = purse.payer.with_spending(SpendLimits::default().with_longest_authorization(60));
    assert!(ask(&purse, &Wire::default().says([asks(&[asks_for(61)])])).await.is_err());
    ask(&purse, &Wire::default().says([asks(&[asks_for(60)]), paid()])).await.unwrap();
}

#[tokio::test]
async fn a_payment_names_scheme_and_network_at_the_top_too() {
    let wire = Wire::default().says([asks(&[terms()]), paid()]);
    ask(&purse(), &wire).await.unwrap();
    let sent = payment_of(&wire, 1);
    assert_eq!((&sent["scheme"], &sent["network"]), (&json!("exact"), &json!("eip155:84532")));
    let members: Vec<_> = sent.as_object().unwrap().keys().cloned().collect();
    assert_eq!(members.len(), 6, "{members:?}");
}

fn identified(required: bool) -> Value {
    let mut json = document(&[terms()]);
    json["extensions"] = json!({"payment-identifier": {"info": {"required": required}, "schema": {"type": "object"}}});
    json
}

#[tokio::test]
async fn a_required_payment_identifier_is_given_or_refused_before_signing() {
    let purse = purse();
    let error = ask(&purse, &Wire::default().says([asks_json(&identified(true))])).await.unwrap_err();
    assert_eq!(error, ClientError::Pay(PayError::ExtensionRequired { name: "payment-identifier".into() }));
    assert_eq!((purse.signed(), purse.used().as_str()), (0, "0"));
    // Where it is not required the declaration is echoed.
    let wire = Wire::default().says([asks_json(&identified(false)), paid()]);
    ask(&purse, &wire).await.unwrap();
    assert_eq!(payment_of(&wire, 1)["extensions"], identified(false)["extensions"]);

    let mut purse = buyer::purse();
    purse.payer = purse.payer.with_extension(PaymentIdentifier::optional());
    let wire = Wire::default().says([asks_json(&identified(true)), pending(), paid()]);
    ask(&purse, &wire).await.unwrap();
    let extension = payment_of(&wire, 1)["extensions"]["payment-identifier"].clone();
    let id = extension["info"]["id"].as_str().unwrap();
    assert!(
        (16..=128).contains(&id.len()) && id.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)),
        "{id}"
    );
    assert_eq!((&extension["info"]["required"], &extension["schema"]), (&json!(true), &json!({"type": "object"})));
    assert_eq!(payment_of(&wire, 2), payment_of(&wire, 1), "the id is that of the payment, however often it is shown");
    // Without the declaration nothing is added.
    let wire = Wire::default().says([asks(&[terms()]), paid()]);
    ask(&purse, &wire).await.unwrap();
    assert!(payment_of(&wire, 1).get("extensions").is_none());
}

#[tokio::test]
async fn two_headers_are_none() {
    let mut first = asks(&[terms()]);
    first.headers_mut().append(&names::PAYMENT_REQUIRED, HeaderValue::from_static("e30="));
    assert!(ask(&purse(), &Wire::default().says([first])).await.is_err());
}
