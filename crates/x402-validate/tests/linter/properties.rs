//! Properties over the corpus and over documents made up from what documents are made of.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};
use x402_validate::fuzz::holds;
use x402_validate::{Options, Registry};

use crate::corpus;

#[test]
fn the_corpus_holds() {
    for case in corpus::cases() {
        holds(&case.bytes(), &Options::default());
    }
}

/// Names and values that rules look at, right and wrong.
fn name() -> impl Strategy<Value = String> {
    select(vec![
        "x402Version",
        "accepts",
        "resource",
        "error",
        "extensions",
        "endpoints",
        "payTo",
        "maxAmountRequired",
        "version",
        "scheme",
        "network",
        "amount",
        "asset",
        "maxTimeoutSeconds",
        "extra",
        "outputSchema",
        "planId",
        "url",
        "method",
        "headers",
        "body",
        "bazaar",
        "info",
        "schema",
        "input",
        "output",
        "type",
        "properties",
        "$ref",
        "payment-identifier",
        "required",
        "id",
        "routeTemplate",
        "receiverAuthorizer",
        "withdrawDelay",
        "a.b",
        "a[0]",
        "",
        "…",
    ])
    .prop_map(str::to_owned)
}

fn leaf() -> impl Strategy<Value = Value> {
    let text = select(vec![
        "",
        "0",
        "000",
        "1",
        "10000",
        "-1",
        "exact",
        "upto",
        "batch-settlement",
        "nvm:erc4337",
        "nvm:card-delegation",
        "x402.v1",
        "base",
        "eip155:8453",
        "eip155:1",
        "solana",
        "stellar:pubnet",
        "aptos:1",
        "near:mainnet",
        "stripe",
        "https://a.example/",
        "/a",
        "mcp://tool/a",
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed",
        "native",
        "http",
        "GET",
        "object",
        "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v",
        "0x1::aptos_coin::AptosCoin",
        "#",
        "…",
    ]);
    prop_oneof![
        4 => text.prop_map(Value::from),
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        2 => select(vec![0, 1, 2, 3, 60, -1]).prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        1 => ".*".prop_map(Value::from),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            4 => prop::collection::vec((name(), inner), 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// A document of some format whose members are right or wrong.
fn document() -> impl Strategy<Value = Value> {
    let member = |right: Value| prop_oneof![3 => Just(right), 1 => value()];
    let entry = (
        member(json!("exact")),
        member(json!("eip155:8453")),
        member(json!("10000")),
        member(json!("0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913")),
        member(json!("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed")),
        select(vec!["amount", "maxAmountRequired"]),
        value(),
    )
        .prop_map(|(scheme, network, amount, asset, pay_to, named, more)| {
            let mut entry = json!({ "scheme": scheme, "network": network, "asset": asset, "payTo": pay_to });
            entry[named] = amount;
            if let (Some(entry), Value::Object(more)) = (entry.as_object_mut(), more) {
                for (name, value) in more {
                    entry.entry(name).or_insert(value);
                }
            }
            entry
        });
    let accepts = prop::collection::vec(prop_oneof![4 => entry, 1 => value()], 0..4).prop_map(Value::from);
    (
        member(json!(2)),
        prop_oneof![4 => accepts, 1 => value()],
        member(json!({ "url": "https://a.example/" })),
        value(),
        any::<bool>(),
    )
        .prop_map(|(version, accepts, resource, extensions, manifest)| {
            let document =
                json!({ "x402Version": version, "accepts": accepts, "resource": resource, "extensions": extensions });
            if manifest { json!({ "endpoints": { "a.b": document } }) } else { document }
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_json_holds(value in value()) {
        holds(&serde_json::to_vec(&value).unwrap(), &Options::default());
    }

    #[test]
    fn any_document_holds(value in document(), all in any::<bool>()) {
        let registry = if all { Registry::all() } else { Registry::document() };
        holds(&serde_json::to_vec(&value).unwrap(), &Options::default().with_registry(registry));
    }

    #[test]
    fn any_bytes_hold(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        holds(&bytes, &Options::default());
    }

    #[test]
    fn any_text_holds(text in "[\\[\\]{}:,\"0-9a-z. \\\\]{0,64}") {
        holds(text.as_bytes(), &Options::default());
    }
}
