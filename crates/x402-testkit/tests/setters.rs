//! One way of naming setters: a public method that takes a value, changes it and returns it is named `with_…`.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Files below `crates` whose methods of that kind have other names, and why. A new setter is no reason.
const OTHERS: &[(&str, &str)] = &[
    ("x402-challenge/src/proof.rs", "collects proofs: `Proofs::with(adapter)`"),
    ("x402-devchain/src/builder.rs", "what `DevChain::builder()` returns"),
    ("x402-devchain/src/plans.rs", "plans of the development chain, in sentences"),
    ("x402-erc4337/src/builder.rs", "steps of an operation, each of which returns what is needed next"),
    ("x402-erc4337/src/session/zerodev/issue.rs", "a grant, written as a sentence: its calls and their limits"),
    ("x402-evm/src/chain/batch_read.rs", "collects reads"),
    ("x402-evm/src/token.rs", "tokens of one network: `Tokens::on`"),
    ("x402-extensions/src/offer_receipt/issuer.rs", "offers `without_end`"),
    ("x402-extensions/src/offer_receipt/signed.rs", "collects keys: `PublicKeys::with`"),
    ("x402-facilitator-core/src/in_flight.rs", "a request that is named"),
    ("x402-facilitator-core/src/receipt.rs", "a receipt of an amount"),
    ("x402-http/src/client/payer.rs", "a payer of one scheme and another"),
    ("x402-types/src/assets.rs", "an asset that is a dollar"),
    ("x402-types/src/nvm/code.rs", "a code with the details of its error"),
    ("x402-types/src/refusal.rs", "a rejection because of something, of a payer, with a detail"),
];

/// The names of the methods that take `mut self` and return `Self`.
fn setters(text: &str) -> Vec<&str> {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let mut found = Vec::new();
    for after in code.split("pub fn ").skip(1).chain(code.split("pub const fn ").skip(1)) {
        let Some((signature, _)) = after.split_once('{') else { continue };
        let Some((name, arguments)) = signature.split_once('(') else { continue };
        let Some((_, result)) = signature.rsplit_once("->") else { continue };
        if arguments.trim_start().starts_with("mut self") && result.contains("Self") {
            found.push(name.split('<').next().unwrap());
        }
    }
    found
}

#[test]
fn setters_are_named_with() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut folders: Vec<_> = fs::read_dir(&crates)
        .unwrap()
        .map(|entry| entry.unwrap().path().join("src"))
        .filter(|it| it.is_dir())
        .collect();
    let (mut named, mut others, mut needed) = (0, Vec::new(), BTreeSet::new());
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let known = OTHERS.iter().find(|(file, _)| path.ends_with(file));
            let text = fs::read_to_string(&path).unwrap();
            for name in setters(&text) {
                match known {
                    _ if name.starts_with("with_") => named += 1,
                    Some((file, _)) => {
                        needed.insert(*file);
                    }
                    None => others.push(format!("{}: {name}", path.display())),
                }
            }
        }
    }
    assert!(named > 80, "{named}");
    assert!(others.is_empty(), "{}", others.join("\n"));
    let stale: Vec<_> = OTHERS.iter().filter(|(file, _)| !needed.contains(file)).collect();
    assert!(stale.is_empty(), "no other setters any more: {stale:?}");
}

#[test]
fn setters_are_found() {
    let code = "pub fn with_a(mut self) -> Self {}\npub const fn b(\n    mut self,\n    c: u8,\n) -> Result<Self, D> {}\n\
                pub fn e(self) -> Self {}\npub fn f(mut self) -> G {}\nfn h(mut self) -> Self {}";
    assert_eq!(setters(code), ["with_a", "b"]);
}
