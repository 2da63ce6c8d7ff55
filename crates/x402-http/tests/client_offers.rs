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
use x402_http::client::{ClientError, NotPayable, PayError, PayPolicy, Selector, SpendLimits};
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

/// Four entries: two networks and two amounts, all of which the purse can pay.
fn choices() -> Vec<x402_types::Terms> {
    let on = |network: &str, asset: &str, amount: u64| {
        let mut terms = terms().with_amount(amount.into());
        (terms.network, terms.asset) = (network.parse().unwrap(), asset.into());
        terms
    };
    vec![
        on("eip155:84532", "0x036CbD53842c5426634e7929541eC2318f3dCF7e", 10_000),
        on("eip155:8453", "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913", 12_000),
        on("eip155:137", "0x3c499c542cEF5E3811e1192ce70d8cC03d5c3359", 9_000),
        on("eip155:8453", "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913", 40_000),
    ]
}

#[tokio::test]
async fn each_policy_says_what_it_refuses() {
    let mut purse = buyer::purse();
    let seller = terms().pay_to;
    purse.payer = purse
        .payer
        .with_policy(PayPolicy::networks(["eip155:8453".parse().unwrap(), "eip155:137".parse().unwrap()]))
        .with_policy(PayPolicy::at_most(20_000.into()))
        .with_policy(PayPolicy::new("known sellers", move |terms| match terms.pay_to == seller {
            true => Ok(()),
            false => Err("expected the library".into()),
        }));
    let mut offered = choices();
    offered[1].pay_to = common::PAYER.into();
    let dear = offered.remove(2);
    let error = ask(&purse, &Wire::default().says([asks(&offered)])).await.unwrap_err();
    let ClientError::Pay(error) = error else { panic!("{error:?}") };
    let PayError::NothingPayable(reasons) = &error else { panic!("{error:?}") };
    let policy = |policy: &str, why: &str| NotPayable::Policy { policy: policy.into(), why: why.into() };
    assert_eq!(
        *reasons,
        [
            policy("networks", "expected eip155:8453 or eip155:137, found eip155:84532"),
            policy("known sellers", "expected the library"),
            policy("amount", "expected at most 20000, found 40000"),
        ]
    );
    assert!(error.to_string().contains("accepts[1]: the policy known sellers refuses it: expected the library"));
    assert_eq!((purse.signed(), purse.used().as_str()), (0, "0"), "nothing was reserved or signed");
    offered.push(dear.clone());
    let wire = Wire::default().says([asks(&offered), paid()]);
    ask(&purse, &wire).await.unwrap();
    assert_eq!(payment_of(&wire, 1)["accepted"], serde_json::to_value(dear.to_v2()).unwrap());
}

#[tokio::test]
async fn policies_name_schemes_and_assets() {
    for (policy, refused) in [
        (PayPolicy::schemes([x402_types::SchemeName::UPTO]), "expected upto, found exact"),
        (
            PayPolicy::assets([("eip155:84532".parse().unwrap(), common::PAYER)]),
            "expected one of the listed assets, found 0x036CbD53842c5426634e7929541eC2318f3dCF7e",
        ),
    ] {
        let mut purse = buyer::purse();
        purse.payer = purse.payer.with_policy(policy);
        let error = ask(&purse, &Wire::default().says([asks(&choices()[..1])])).await.unwrap_err();
        let ClientError::Pay(error) = error else { panic!("{error:?}") };
        assert!(error.to_string().contains(refused), "{error}");
    }
    // Hexadecimal digits are compared by value.
    let mut purse = buyer::purse();
    let asset = terms().asset.to_ascii_lowercase();
    purse.payer = purse.payer.with_policy(PayPolicy::assets([(terms().network, asset)]));
    ask(&purse, &Wire::default().says([asks(&choices()[..1]), paid()])).await.unwrap();
}

/// The selector sees what the limits left. What it chooses over budget it is asked for again, without that entry.
#[tokio::test]
async fn a_selector_chooses_among_what_is_left() {
    let cheapest = || {
        Selector::new(|entries| {
            let ranked = entries.iter().enumerate().map(|(at, terms)| (terms.amount, at));
            ranked.min().map(|(_, at)| at)
        })
    };
    let cases = [
        (None, vec![0]),
        (Some(cheapest()), vec![2]),
        (Some(Selector::networks(["eip155:8453".parse().unwrap()])), vec![1]),
        (Some(Selector::schemes([x402_types::SchemeName::UPTO])), vec![0]),
        // The daily budget is 50,000 for each host and asset: 40,000 fit once.
        (Some(Selector::new(|entries| entries.len().checked_sub(1))), vec![3, 2]),
    ];
    for (selector, chosen) in cases {
        let mut purse = buyer::purse();
        if let Some(selector) = selector {
            purse.payer = purse.payer.with_selector(selector);
        }
        for chosen in chosen {
            let wire = Wire::default().says([asks(&choices()), paid()]);
            let request = http::Request::get(format!("{URL}?{chosen}")).body(Full::default()).unwrap();
            ask_with(&purse, &wire, request).await.unwrap();
            let expected = serde_json::to_value(choices()[chosen].to_v2()).unwrap();
            assert_eq!(payment_of(&wire, 1)["accepted"], expected);
        }
    }
    for selector in [Selector::new(|_| None), Selector::new(|entries| Some(entries.len()))] {
        let mut purse = buyer::purse();
        purse.payer = purse.payer.with_selector(selector);
        let error = ask(&purse, &Wire::default().says([asks(&choices()[..2])])).await.unwrap_err();
        let ClientError::Pay(PayError::NothingPayable(reasons)) = error else { panic!("{error:?}") };
        assert_eq!(reasons, [NotPayable::NotSelected, NotPayable::NotSelected]);
        assert_eq!((purse.signed(), purse.used().as_str()), (0, "0"));
    }
}
