//! The linter beside the wire types: an entry that has no error is read, one that is read has no error of form.
//!
//! Every document of the corpus, every recorded message, and each of them with each member of each entry gone or
//! replaced by what people write there.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use x402_types::{PaymentRequired, RawJson, Terms, nvm, v1, v2};
use x402_validate::{Code, Options, Severity, lint};

use crate::corpus;

/// Codes that say of a member that it does not have its form.
const FORM: [Code; 11] = [
    Code::MissingScheme,
    Code::MissingNetwork,
    Code::InvalidNetworkFormat,
    Code::MissingAmount,
    Code::InvalidAmount,
    Code::InvalidTimeout,
    Code::MissingAsset,
    Code::MissingPayTo,
    Code::MissingPlanId,
    Code::InvalidExtra,
    Code::InvalidMember,
];

/// What stands in the place of a member: right, wrong, and right for one reader alone.
fn values() -> Vec<RawJson> {
    let texts = [
        "",
        " ",
        "0",
        "000",
        "1",
        "10000",
        "010000",
        "-1",
        "+1",
        "1.0",
        "1e4",
        "0x10",
        "١",
        "exact",
        "Exact",
        "upto",
        "a b",
        "§",
        "base",
        "Base",
        "base-sepolia",
        "eip155:8453",
        "eip155:08453",
        "eip155:0x1",
        "eip155:",
        "eip155:99999999999999999999",
        "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp",
        "abc:-",
        "a.b:c",
        "stripe",
        "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "https://a.example/",
        "/a",
        "1,5",
        "10_000",
        "115792089237316195423570985008687907853269984665640564039457584007913129639935",
        "115792089237316195423570985008687907853269984665640564039457584007913129639936",
    ];
    let long = "a".repeat(65);
    let texts = texts.into_iter().chain([long.as_str()]).map(|text| json!(text).to_string());
    let plain = [
        "null",
        "true",
        "0",
        "1",
        "60",
        "-1",
        "60.0",
        "6e1",
        "0.6e2",
        "59.5",
        "1e18",
        "1e300",
        "1e-3",
        "-0",
        "0.0",
        "9007199254740991",
        "9007199254740992",
        "9007199254740993",
        "18446744073709551615",
        "18446744073709551616",
        "9007199254740991.4",
        "[]",
        "[1]",
        "{}",
        "{\"a\":1}",
        "{\"url\":\"https://a.example/\"}",
        "{\"url\":7}",
        "{\"version\":\"1\"}",
        "{\"name\":\"USDC\",\"version\":\"2\"}",
        "{\"version\":1}",
        "{\"version\":\"1\",\"agentId\":\"7\"}",
        "{\"version\":\"1\",\"agentId\":7}",
    ];
    texts.chain(plain.map(str::to_owned)).map(|text| RawJson::parse(text).unwrap()).collect()
}

/// The documents of the corpus and of the recorded messages: those with entries.
fn documents() -> Vec<Value> {
    let corpus = corpus::cases().into_iter().filter_map(|case| serde_json::from_slice::<Value>(&case.bytes()).ok());
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../x402-testkit/vectors");
    let mut recorded = Vec::new();
    for part in ["messages", "nvm"] {
        for file in std::fs::read_dir(format!("{folder}/{part}")).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|kind| kind == "json") {
                let message: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
                let json = message["json"].clone();
                match message["type"].as_str().unwrap_or_default() {
                    "v1::PaymentRequirements" => recorded.push(json!({ "x402Version": 1, "accepts": [json] })),
                    "v2::PaymentRequirements" => recorded.push(json!({ "x402Version": 2, "accepts": [json] })),
                    _ => recorded.push(json),
                }
            }
        }
    }
    assert!(recorded.len() > 20, "the recorded messages are there");
    let all = corpus.chain(recorded);
    all.filter(|document| document["accepts"].as_array().is_some_and(|entries| !entries.is_empty())).collect()
}

/// Whether the wire types read the entry, in the document's version and the form of its scheme. `None`: no type of
/// this workspace reads entries of the scheme.
fn read(version: u64, entry: &RawJson) -> Option<bool> {
    let scheme = entry.read::<Value>().unwrap()["scheme"].as_str().map(str::to_owned);
    match scheme.as_deref() {
        Some("nvm:card-delegation") => None,
        Some("nvm:erc4337") if version == 2 => {
            Some(entry.read::<nvm::Requirements>().is_ok_and(|entry| entry.to_terms(1.into()).is_ok()))
        }
        Some("nvm:erc4337") => None,
        _ if version == 1 => {
            Some(entry.read::<v1::PaymentRequirements>().is_ok_and(|entry| Terms::try_from(entry).is_ok()))
        }
        _ => Some(entry.read::<v2::PaymentRequirements>().is_ok()),
    }
}

/// What the linter and the wire types say of entry `at`, where they differ.
fn difference(version: u64, entry: &RawJson) -> Option<String> {
    // A document around the entry that has nothing wrong.
    let document = match version {
        1 => format!(r#"{{"x402Version":1,"accepts":[{}]}}"#, entry.as_str()),
        _ => format!(r#"{{"x402Version":2,"resource":{{"url":"https://a.example/"}},"accepts":[{}]}}"#, entry.as_str()),
    };
    let report = lint(&document, &Options::default());
    let members = entry.read::<Value>().unwrap();
    let is_read = read(version, entry)?;
    let errors: BTreeSet<Code> =
        report.issues().filter(|issue| issue.severity == Severity::Error).map(|issue| issue.code).collect();
    if let Ok(read) = RawJson::parse(document.clone()).unwrap().read::<PaymentRequired>()
        && (read.terms().len() == 1) != is_read
    {
        return Some(format!("the document's terms are others than the entry's: {document}"));
    }
    // `upto` and `batch-settlement` may leave the amount to the settlement. No type here reads that.
    let metered = matches!(members["scheme"].as_str(), Some("upto" | "batch-settlement"));
    let price = if version == 1 { &members["maxAmountRequired"] } else { &members["amount"] };
    if errors.is_empty() && !is_read && !(metered && (price.is_null() || price == "")) {
        return Some(format!("valid for the linter, and not read: {document}"));
    }
    if is_read && let Some(code) = errors.iter().find(|code| FORM.contains(code)) {
        // Named differences. Version 1 has simple names, the document wants CAIP-2 of it too; null and empty text
        // are absent members, which the document requires or, for the timeout, wants left out.
        let named = match code {
            Code::InvalidNetworkFormat => version == 1,
            Code::InvalidTimeout => members["maxTimeoutSeconds"].is_null() || members["scheme"] == "batch-settlement",
            Code::MissingAsset => members["asset"] == "",
            Code::MissingPayTo => members["payTo"] == "",
            // A token's domain is not the type's business.
            Code::InvalidExtra => members["extra"].is_object() && members["scheme"] == "exact",
            // Two prices that differ: the one of the version is read.
            Code::InvalidAmount => !members["amount"].is_null() && !members["maxAmountRequired"].is_null(),
            _ => false,
        };
        // `nvm:` reads its own members alone.
        let other = members["scheme"] == "nvm:erc4337"
            && !matches!(code, Code::MissingPlanId | Code::MissingNetwork | Code::InvalidExtra);
        if !named && !other {
            return Some(format!("{code} for the linter, and read: {document}"));
        }
    }
    None
}

#[test]
fn what_is_valid_is_read_and_what_is_read_has_its_form() {
    let values = values();
    let mut seen = BTreeSet::new();
    let mut differences = Vec::new();
    let mut look = |version: u64, entry: &RawJson| {
        if seen.insert((version, entry.as_str().to_owned())) {
            differences.extend(difference(version, entry));
        }
    };
    let mut shapes = BTreeSet::new();
    for document in documents() {
        for entry in document["accepts"].as_array().unwrap().iter().filter(|entry| entry.is_object()) {
            for version in [1, 2] {
                look(version, &RawJson::of(entry).unwrap());
            }
            // One entry a set of members and scheme is changed, in the version that it is of.
            let members = entry.as_object().unwrap();
            let version = if members.contains_key("maxAmountRequired") { 1 } else { 2 };
            let names: Vec<&String> = members.keys().collect();
            if !shapes.insert(format!("{names:?} {}", entry["scheme"])) {
                continue;
            }
            let known =
                ["scheme", "network", "amount", "maxAmountRequired", "asset", "payTo", "maxTimeoutSeconds", "extra"];
            let more = ["planId", "resource", "description", "mimeType", "outputSchema"];
            for name in known.iter().chain(&more) {
                let rest = members.iter().filter(|(key, _)| key.as_str() != *name);
                let rest: Vec<String> = rest.map(|(key, value)| format!("{}:{value}", json!(key))).collect();
                look(version, &RawJson::parse(format!("{{{}}}", rest.join(","))).unwrap());
                for value in &values {
                    let members = rest.iter().cloned().chain([format!("{}:{}", json!(name), value.as_str())]);
                    let text = members.collect::<Vec<_>>().join(",");
                    look(version, &RawJson::parse(format!("{{{text}}}")).unwrap());
                }
            }
        }
    }
    let (looked, differ) = (seen.len(), differences.len());
    assert!(looked > 5_000, "{looked} entries");
    let shown = differences.iter().take(40).cloned().collect::<Vec<_>>().join("\n");
    assert!(differences.is_empty(), "{differ} of {looked}:\n{shown}");
}
