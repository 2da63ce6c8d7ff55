//! The linter and the client agree: an entry that the linter says nothing against is one that the client reads and signs
//! for, and one that the client refuses has a code.
//!
//! Both look at the same documents: the linter's corpus, the cases of public reports, and one entry of each version with
//! each member gone or replaced by what people write there.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

use std::collections::BTreeSet;

use serde_json::{Value, json};
use x402_evm::exact::Payer;
use x402_evm::key::Key;
use x402_types::assets::TransferMethod;
use x402_types::{Assets, MakePayment, PaymentRequired, RawJson};
use x402_validate::{Code, Options, Registry, lint};

/// Issues of an entry that keep no client from paying it.
const HARMLESS: [Code; 7] = [
    Code::NoEvmChecksum,
    Code::MissingMaxTimeout,
    Code::MisplacedMember,
    Code::LargeAmount,
    Code::InvalidOutputSchema,
    Code::InvalidOutputSchemaInput,
    Code::UnknownNetwork,
];

/// The longest authorization that the client signs unless it is told otherwise: `SpendLimits`.
const LONGEST: u64 = 3_600;

fn folder(path: &str) -> Vec<Value> {
    let folder = format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"));
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    files.map(|path| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()).collect()
}

/// The entries of all documents, each with the version of its document.
fn entries() -> Vec<(u64, Value)> {
    let corpus = folder("x402-validate/tests/corpus");
    let cases = corpus.iter().flat_map(|file| ["has", "lacks"].map(|part| file[part].as_array().unwrap().clone()));
    let documents = cases.flatten().map(|case| case["document"].clone());
    let all = documents.chain(folder("x402-testkit/vectors/cases/documents"));
    let of = |document: Value| {
        let version = document["x402Version"].as_u64().filter(|version| *version == 1).unwrap_or(2);
        document["accepts"].as_array().cloned().unwrap_or_default().into_iter().map(move |entry| (version, entry))
    };
    all.flat_map(of).filter(|(_, entry)| entry.is_object()).collect()
}

/// Both versions' entry, each member in turn gone or another.
fn changed() -> Vec<(u64, Value)> {
    let entry = json!({
        "scheme": "exact", "network": "eip155:8453", "amount": "10000",
        "asset": "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913", "payTo": "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "maxTimeoutSeconds": 60, "extra": { "name": "USD Coin", "version": "2" }
    });
    let values = [
        json!(null),
        json!(""),
        json!(" "),
        json!("0"),
        json!("010000"),
        json!("0.01"),
        json!("$0.01"),
        json!(10000),
        json!(60.5),
        json!(300_000),
        json!(3600),
        json!(-1),
        json!("60"),
        json!("Exact"),
        json!("upto"),
        json!("base"),
        json!("Base"),
        json!("eip155:1"),
        json!("eip155:08453"),
        json!("acme:a.b"),
        json!("USDC"),
        json!("seller.example.eth"),
        json!("0x0000000000000000000000000000000000000000"),
        json!("0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"),
        json!("0x833589fcd6edb6e08f4c7c32d4f71b54bda02913"),
        json!("0X833589FCD6EDB6E08F4C7C32D4F71B54BDA02913"),
        json!("0x833589FCD6EDB6E08F4C7C32D4F71B54BDA02913"),
        json!("0x833589fCD6eDb6E08f4c7C32D4f71b54bdA0291"),
        json!("0x833589fCD6eDb6E08f4c7C32D4f71b54bDA02913"),
        json!("10000000000"),
        json!([]),
        json!({}),
        json!({ "name": "USDC", "version": "2" }),
        json!({ "name": "USD Coin" }),
        json!({ "name": "USD Coin", "version": 2 }),
        json!({ "name": "USD Coin", "version": "2", "assetTransferMethod": "eip3009" }),
        json!({ "name": "USD Coin", "version": "2", "assetTransferMethod": "erc20" }),
        json!({ "name": "USD Coin", "version": "2", "verifyingContract": "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed" }),
        json!({ "name": "USD Coin", "version": "2", "verifyingContract": "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913" }),
    ];
    let mut all = Vec::new();
    for version in [1, 2] {
        let mut whole = entry.as_object().unwrap().clone();
        if version == 1 {
            let price = whole.remove("amount").unwrap();
            whole.insert("maxAmountRequired".to_owned(), price);
            whole.insert("network".to_owned(), json!("eip155:8453"));
        }
        for name in whole.keys() {
            let mut less = whole.clone();
            less.remove(name);
            all.push((version, Value::Object(less)));
            for value in &values {
                let mut other = whole.clone();
                other.insert(name.clone(), value.clone());
                all.push((version, Value::Object(other)));
            }
        }
        all.push((version, Value::Object(whole)));
    }
    all
}

/// Whether the client signs for the entry, and why not.
fn client(version: u64, entry: &Value, payer: &Payer<Key>) -> Result<(), String> {
    let document = json!({ "x402Version": version, "accepts": [entry] });
    let read = RawJson::of(&document).unwrap().read::<PaymentRequired>().map_err(|error| error.to_string())?;
    let terms = read.terms().into_iter().next().ok_or("the entry cannot be read")?;
    if let Some(objection) = payer.objection(&terms) {
        return Err(objection.to_string());
    }
    let seconds = terms.max_timeout_seconds.get();
    if seconds > LONGEST { Err(format!("{seconds} seconds are too long")) } else { Ok(()) }
}

#[test]
fn what_the_linter_says_nothing_against_is_signed_for_and_what_is_refused_has_a_code() {
    let payer = Payer::new(Key::from_bytes(&[7; 32]).unwrap());
    let options = Options::default().with_registry(Registry::all());
    let tokens = Assets::default();
    let (mut seen, mut signed, mut differences) = (BTreeSet::new(), 0, Vec::new());
    for (version, entry) in entries().into_iter().chain(changed()) {
        // Schemes and transfer methods of other payers, and networks of other namespaces, are not this payer's to judge.
        let other = |name: &str, own: &dyn Fn(&str) -> bool| entry[name].as_str().is_some_and(|text| !own(text));
        let scheme = |text: &str| text.eq_ignore_ascii_case("exact");
        let network = |text: &str| !text.contains(':') || text.starts_with("eip155:");
        let permit2 = |entry: &Value| {
            let token = entry["network"].as_str().and_then(|id| id.parse().ok()).zip(entry["asset"].as_str());
            let token = token.and_then(|(network, asset)| tokens.find(network, asset));
            entry["extra"]["assetTransferMethod"] == "permit2"
                || token.is_some_and(|token| token.transfer == TransferMethod::Permit2)
        };
        if other("scheme", &scheme)
            || other("network", &network)
            || permit2(&entry)
            || !seen.insert(format!("{version} {entry}"))
        {
            continue;
        }
        let document =
            json!({ "x402Version": version, "resource": { "url": "https://a.example/" }, "accepts": [entry] });
        let report = lint(&document, &options);
        let against: Vec<Code> = report
            .issues()
            .filter(|issue| issue.field.starts_with("accepts[0]") && !HARMLESS.contains(&issue.code))
            .map(|issue| issue.code)
            .collect();
        match client(version, &entry, &payer) {
            Ok(()) => signed += 1,
            Err(why) if against.is_empty() => differences.push(format!("no code, and refused ({why}): {document}")),
            Err(_) => {}
        }
    }
    assert!(seen.len() > 500 && signed > 40, "{} entries, {signed} signed for", seen.len());
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
