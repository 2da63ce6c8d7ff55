//! One word, one thing: docs/glossary.md defines the public types, and no two types share a name without a reason.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The crates whose public types the glossary must define: those that a reader of the architecture meets first.
const DEFINED: &[&str] = &["x402-facilitator-core", "x402-http", "x402-store"];

/// Names that several public types have, each with the reason. A new type must not add a name.
const SHARED: &[(&str, &str)] = &[
    ("Authorization", "a member of the payload in EIP-3009's scheme and in the Smart Accounts Extension"),
    ("Body", "a request's body in the facilitator, a message's body in the tower layers"),
    ("Call", "a read of a chain in x402-evm, a call that a smart account executes in x402-erc4337"),
    ("Code", "the error codes of three documents: x402.v1, the Smart Accounts Extension, the linter's rules"),
    ("Dialect", "the interface of a protocol at a facilitator, and the one at a seller"),
    ("Payer", "the client's half of each scheme, and the client that chooses among them"),
    ("Payload", "a member of the payment in EIP-3009's scheme and in the Smart Accounts Extension"),
    ("Payment", "the message of x402.v1, and the row of the settlement machine"),
    ("PaymentPayload", "the specifications' message, in each version"),
    ("PaymentRequired", "the specifications' message, in each version"),
    ("PaymentRequirements", "the specifications' message, in each version"),
    ("Receipt", "the extension's message, the record of the settlement machine, and the client's view of a response"),
    ("Subject", "the implementation under test, of a ledger and of a challenge store"),
    ("Violation", "a broken rule of a ledger, and of a challenge store"),
];

/// A public type: its name, and the file that declares it.
struct Type {
    name: String,
    file: PathBuf,
}

#[test]
fn every_public_type_is_in_the_glossary_once() {
    let glossary = fs::read_to_string(root().join("docs/glossary.md")).unwrap();
    let mut defined: BTreeMap<&str, u32> = BTreeMap::new();
    for line in glossary.lines().filter(|line| line.starts_with("| `")) {
        *defined.entry(line.split('`').nth(1).unwrap()).or_default() += 1;
    }
    let mut words = glossary.lines().filter_map(|line| line.strip_prefix("| **")?.split_once("**"));
    let mut seen = BTreeSet::new();
    assert_eq!(words.find(|(word, _)| !seen.insert(*word)), None, "a word has two definitions");
    assert!(seen.len() > 50, "{seen:?}");
    let twice: Vec<_> = defined.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "defined more than once: {twice:?}");
    let types: Vec<Type> = DEFINED.iter().flat_map(|name| types_of(name)).collect();
    let names: BTreeSet<&str> =
        types.iter().map(|of| of.name.as_str()).filter(|name| !is_plumbing(name, &types)).collect();
    assert!(names.len() > 50, "{names:?}");
    let defined: BTreeSet<&str> = defined.into_keys().collect();
    let missing: Vec<_> = names.difference(&defined).collect();
    assert!(missing.is_empty(), "not in docs/glossary.md: {missing:?}");
    let stale: Vec<_> = defined.difference(&names).collect();
    assert!(stale.is_empty(), "in docs/glossary.md, but no public type of {DEFINED:?}: {stale:?}");
}

#[test]
fn no_two_public_types_share_a_name_without_a_reason() {
    let mut named: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for entry in fs::read_dir(root().join("crates")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        for of in types_of(&name) {
            named.entry(of.name).or_default().push(of.file);
        }
    }
    named.retain(|_, files| files.len() > 1);
    let reasons: BTreeSet<&str> = SHARED.iter().map(|(name, _)| *name).collect();
    let shared: BTreeSet<&str> = named.keys().map(String::as_str).collect();
    let new: Vec<_> = shared.difference(&reasons).map(|name| (name, &named[*name])).collect();
    assert!(new.is_empty(), "one name, several types; rename all but one: {new:#?}");
    let stale: Vec<_> = reasons.difference(&shared).collect();
    assert!(stale.is_empty(), "no longer shared: {stale:?}");
}

#[test]
fn public_types_are_found() {
    let text = "pub struct A;\npub(crate) struct B;\n    pub enum C {\npub trait D: Send {\npub type E<T> = F<T>;\n/// pub struct G\n";
    assert_eq!(declared(text), ["A", "C", "D", "E"]);
    assert_eq!(
        declared("string! {\n    /// A lane.\n    LaneId\n}\n#[cfg(test)]\nmod tests {\n    pub struct X;\n}\n"),
        ["LaneId"]
    );
}

/// The futures and services of tower layers, which the layer explains.
fn is_plumbing(name: &str, types: &[Type]) -> bool {
    let layer = format!("{}Layer", name.trim_end_matches("Future"));
    types.iter().any(|of| of.name == layer)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn types_of(name: &str) -> Vec<Type> {
    let (mut folders, mut found) = (vec![root().join("crates").join(name).join("src")], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let names = declared(&fs::read_to_string(&path).unwrap());
                found.extend(names.into_iter().map(|name| Type { name, file: path.clone() }));
            }
        }
    }
    found
}

/// The public types that a file declares before its unit tests, by `pub` or by the macro of text identifiers.
fn declared(text: &str) -> Vec<String> {
    let end = text.find("\n#[cfg(test)]\nmod ").unwrap_or(text.len());
    let mut names = Vec::new();
    let mut lines = text[..end].lines().map(str::trim).peekable();
    while let Some(line) = lines.next() {
        let item =
            ["pub struct ", "pub enum ", "pub trait ", "pub type "].iter().find_map(|kind| line.strip_prefix(kind));
        let by_macro = line.chars().all(char::is_alphanumeric) && line.ends_with("Id") && lines.peek() == Some(&"}");
        if let Some(rest) = item.or_else(|| by_macro.then_some(line)) {
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric()).collect();
            if !name.is_empty() {
                names.push(name);
            }
        }
    }
    names
}
