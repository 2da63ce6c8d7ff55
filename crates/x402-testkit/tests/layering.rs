//! The arrows between the crates: docs/architecture.md. A crate depends only on those named for it here.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use cargo_metadata::{DependencyKind, MetadataCommand};

/// A crate, what it may depend on, and what it may depend on behind a feature only.
const ARROWS: &[(&str, &[&str], &[&str])] = &[
    ("x402-types", &[], &[]),
    ("x402-codec", &["x402-types"], &[]),
    ("x402-validate", &["x402-types", "x402-codec"], &[]),
    ("x402-facilitator-core", &["x402-types"], &[]),
    ("x402-evm", &["x402-types", "x402-codec"], &["x402-facilitator-core", "x402-challenge"]),
    ("x402-erc4337", &["x402-types", "x402-codec", "x402-evm"], &["x402-facilitator-core"]),
    ("x402-card", &["x402-types", "x402-codec"], &["x402-facilitator-core"]),
    ("x402-challenge", &["x402-types", "x402-codec"], &[]),
    ("x402-extensions", &["x402-types", "x402-codec"], &["x402-challenge", "x402-evm"]),
    ("x402-http", &["x402-types", "x402-codec", "x402-facilitator-core"], &["x402-challenge"]),
    (
        "x402-store",
        &["x402-types"],
        &["x402-facilitator-core", "x402-http", "x402-challenge", "x402-card", "x402-extensions"],
    ),
    ("x402-devchain", &["x402-types", "x402-evm", "x402-erc4337"], &[]),
    (
        "x402-facilitator",
        &[
            "x402-types",
            "x402-codec",
            "x402-validate",
            "x402-facilitator-core",
            "x402-evm",
            "x402-erc4337",
            "x402-card",
            "x402-challenge",
            "x402-http",
            "x402-store",
            "x402-devchain",
        ],
        &["x402-extensions"],
    ),
    (
        "x402-cli",
        &[
            "x402-types",
            "x402-codec",
            "x402-validate",
            "x402-evm",
            "x402-erc4337",
            "x402-card",
            "x402-challenge",
            "x402-extensions",
            "x402-http",
            "x402-facilitator-core",
            "x402-store",
            "x402-facilitator",
            "x402-devchain",
        ],
        &[],
    ),
    (
        "x402",
        &["x402-types"],
        &[
            "x402-evm",
            "x402-erc4337",
            "x402-challenge",
            "x402-extensions",
            "x402-http",
            "x402-store",
            "x402-facilitator",
        ],
    ),
    ("x402-testkit", &[], &[]),
];

/// Packages that stand above every crate: user code, which may name any of them.
const ABOVE: &[&str] = &["x402-examples", "x402-benches"];

struct Edge {
    from: String,
    to: String,
    optional: bool,
}

fn refused(edge: &Edge) -> Option<String> {
    let Edge { from, to, optional } = edge;
    if ABOVE.contains(&from.as_str()) {
        return None;
    }
    let Some((_, always, behind_feature)) = ARROWS.iter().find(|(name, ..)| name == from) else {
        return Some(format!("{from} has no row in ARROWS"));
    };
    if always.contains(&to.as_str()) || (*optional && behind_feature.contains(&to.as_str())) {
        return None;
    }
    let why = if behind_feature.contains(&to.as_str()) { "must be optional" } else { "is not an arrow" };
    Some(format!("{from} -> {to} {why}"))
}

/// Normal and build edges between packages of the workspace, and every package once.
fn workspace() -> (Vec<String>, Vec<Edge>) {
    let metadata = MetadataCommand::new().no_deps().exec().unwrap();
    let names: Vec<String> = metadata.packages.iter().map(|package| package.name.to_string()).collect();
    let edges = metadata
        .packages
        .iter()
        .flat_map(|package| {
            package
                .dependencies
                .iter()
                .filter(|dependency| dependency.kind != DependencyKind::Development)
                .filter(|dependency| names.contains(&dependency.name))
                .map(|dependency| Edge {
                    from: package.name.to_string(),
                    to: dependency.name.clone(),
                    optional: dependency.optional,
                })
        })
        .collect();
    (names, edges)
}

#[test]
fn every_edge_is_an_arrow() {
    let (names, edges) = workspace();
    assert!(names.iter().any(|name| name == "x402-types") && edges.len() >= 8, "{names:?}");
    let wrong: Vec<String> = edges.iter().filter_map(refused).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_package_has_a_row() {
    let (names, _) = workspace();
    let missing: Vec<&String> = names
        .iter()
        .filter(|name| !ABOVE.contains(&name.as_str()) && !ARROWS.iter().any(|(row, ..)| row == name))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn other_edges_are_refused() {
    let edge = |from: &str, to: &str, optional| Edge { from: from.to_owned(), to: to.to_owned(), optional };
    for (wrong, text) in [
        (edge("x402-types", "x402-codec", false), "x402-types -> x402-codec is not an arrow"),
        (edge("x402-types", "x402-codec", true), "x402-types -> x402-codec is not an arrow"),
        (edge("x402-evm", "x402-facilitator-core", false), "x402-evm -> x402-facilitator-core must be optional"),
        (edge("x402-http", "x402-evm", true), "x402-http -> x402-evm is not an arrow"),
        (edge("x402-testkit", "x402-types", false), "x402-testkit -> x402-types is not an arrow"),
        (edge("x402-new", "x402-types", false), "x402-new has no row in ARROWS"),
    ] {
        assert_eq!(refused(&wrong).as_deref(), Some(text));
    }
    assert_eq!(refused(&edge("x402-evm", "x402-facilitator-core", true)), None);
}
