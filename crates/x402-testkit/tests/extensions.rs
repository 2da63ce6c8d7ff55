//! No generic file names an extension: each stands in its file and in the lines that register it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

const CRATES: [&str; 7] =
    ["x402-codec", "x402-facilitator", "x402-facilitator-core", "x402-http", "x402-store", "x402-types", "x402-evm"];

/// How each extension is spelled, in documents and in code.
const NAMES: [&str; 7] = [
    "payment-identifier",
    "payment_identifier",
    "PaymentIdentifier",
    "offer-receipt",
    "builder-code",
    "bazaar",
    "GasSponsoring",
];

/// Where an extension is written, and where it is registered.
const NAMED: [&str; 11] = [
    // A part of a payment by Permit2, and the buyer's and the facilitator's halves of it.
    "x402-evm/src/permit2/sponsored.rs",
    "x402-evm/src/permit2/signed_approval.rs",
    "x402-evm/src/permit2/allowance.rs",
    "x402-evm/src/permit2/approval_transactions.rs",
    "x402-types/src/extension/payment_identifier.rs",
    "x402-types/src/extension/mod.rs",
    "x402-facilitator/src/mechanisms.rs",
    "x402-store/src/catalog.rs",
    "x402-store/src/sqlite/catalog.rs",
    "x402-store/src/postgres/catalog.rs",
    "x402-facilitator/src/discovery/index.rs",
];

/// The files that are an extension's own.
const OWN: [&str; 9] = [
    "payment_identifier.rs",
    "permit2/sponsored.rs",
    "permit2/signed_approval.rs",
    "permit2/allowance.rs",
    "permit2/approval_transactions.rs",
    "x402-store/src/catalog.rs",
    "x402-store/src/sqlite/catalog.rs",
    "x402-store/src/postgres/catalog.rs",
    "x402-facilitator/src/discovery/index.rs",
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn lines_that_name(text: &str) -> Vec<&str> {
    text.lines().filter(|line| NAMES.iter().any(|name| line.contains(name))).collect()
}

#[test]
fn no_generic_file_names_an_extension() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = Vec::new();
    for name in CRATES {
        sources(&crates.join(name).join("src"), &mut found);
    }
    assert!(found.len() > 150, "{}", found.len());
    let mut named = Vec::new();
    for path in found {
        let lines = lines_that_name(&fs::read_to_string(&path).unwrap()).len();
        let path = path.strip_prefix(crates).unwrap().to_str().unwrap().to_owned();
        if lines > 0 {
            named.push((path, lines));
        }
    }
    named.sort();
    let files: Vec<_> = named.iter().map(|(path, _)| path.as_str()).collect();
    let mut expected = NAMED;
    expected.sort_unstable();
    assert_eq!(files, expected);
    // An extension is registered by one line, and imported by another; the facilitator has two lines of extensions.
    let own = |path: &str| OWN.iter().any(|own| path.ends_with(own));
    let registering = |path: &str| if path.ends_with("mechanisms.rs") { 4 } else { 2 };
    assert!(named.iter().filter(|(path, _)| !own(path)).all(|(path, lines)| *lines == registering(path)), "{named:?}");
}

#[test]
fn a_name_in_a_generic_file_is_found() {
    assert_eq!(lines_that_name("fn a() {}\nlet x = extensions.get(\"payment-identifier\");\n// bazaar\n").len(), 2);
}
