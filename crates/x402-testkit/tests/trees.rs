//! What stands below a crate when it is built alone: `cargo tree` on one package, so that no other package's features blur it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeSet;
use std::process::Command;

/// The packages below `package`, for this host.
fn packages(package: &str, edges: &str, features: &[&str]) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--package", package, "--edges", edges, "--prefix", "none", "--format", "{p}"])
        .args(["--no-default-features", "--features", &features.join(",")])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" "));
    lines.filter(|line| line.contains(' ')).collect()
}

/// Their names, `package` itself left out.
fn tree(package: &str, edges: &str, features: &[&str]) -> BTreeSet<String> {
    let names = packages(package, edges, features).into_iter();
    names.filter_map(|line| line.split(' ').next().map(str::to_owned)).filter(|name| name != package).collect()
}

/// The greatest number of packages in each tree, itself and every version counted: a crate, its features, the number.
const COUNTS: [(&str, &[&str], usize); 9] = [
    ("x402-types", &[], 29),
    ("x402-http", &["checkout"], 40),
    ("x402-http", &["server"], 44),
    ("x402-http", &["client"], 74),
    // What a seller and a buyer build: scheme, key, HTTP client and TLS with it.
    ("x402", &["server", "evm"], 129),
    ("x402", &["durable", "evm"], 139),
    ("x402", &["client", "evm"], 179),
    ("x402-facilitator", &[], 219),
    ("x402-facilitator", &["otlp"], 234),
];

#[test]
fn no_tree_grows_over_its_number() {
    for (package, features, most) in COUNTS {
        let tree = packages(package, "normal", features);
        assert!(tree.len() <= most, "{package} {features:?}: {} packages: {tree:?}", tree.len());
    }
}

#[test]
fn types_has_no_chain_and_no_runtime() {
    let tree = tree("x402-types", "normal,build", &[]);
    assert!(tree.contains("ruint"), "{tree:?}");
    for runtime in ["tokio", "alloy-primitives", "time", "chrono", "reqwest"] {
        assert!(!tree.contains(runtime), "{runtime}");
    }
}

#[test]
fn the_halves_of_http_have_no_client_below_them_and_no_chain() {
    for half in ["server", "client"] {
        let tree = tree("x402-http", "normal", &[half]);
        assert!(tree.contains("x402-types") && tree.contains("tower-layer"), "{tree:?}");
        for client in ["reqwest", "rustls", "hyper-rustls", "axum"] {
            assert!(!tree.contains(client), "{half}: {client}");
        }
        assert!(!tree.iter().any(|name| name.starts_with("alloy")), "{half}: {tree:?}");
    }
}

/// A buyer, of plans too, needs no C compiler: signatures are made and recovered in Rust, and by libsecp256k1 where its
/// feature, or a facilitator's half, asks for it.
#[test]
fn secp256k1_in_c_is_there_by_its_feature_alone() {
    let has = |package, features: &[&str]| tree(package, "normal,build", features).contains("secp256k1-sys");
    for (package, features) in [
        ("x402-evm", &["verify", "rpc", "challenge"][..]),
        ("x402-erc4337", &["key"]),
        ("x402-erc4337", &["key", "rpc", "self-bundler"]),
        ("x402", &["client", "plans", "server", "challenge"]),
    ] {
        assert!(!has(package, features), "{package} {features:?}");
    }
    for package in ["x402-evm", "x402-erc4337"] {
        assert!(has(package, &["libsecp256k1"]), "{package}: no such package in its tree");
        assert!(has(package, &["facilitator"]), "{package}: the facilitator's half recovers by libsecp256k1");
    }
}

#[test]
fn a_checkout_without_a_transport_has_none_below_it() {
    let transport = ["tower-layer", "tower-service", "http-body", "pin-project-lite"];
    let bare = tree("x402-http", "normal", &["checkout"]);
    assert!(bare.contains("x402-facilitator-core"), "{bare:?}");
    for package in transport {
        assert!(!bare.contains(package), "{package}");
    }
    let server = tree("x402-http", "normal", &["server"]);
    assert!(
        transport.iter().all(|package| server.contains(*package)),
        "the names are those of the transport: {server:?}"
    );
}

#[test]
fn the_facilitator_has_a_chain_of_its_own_by_one_feature() {
    let plain = tree("x402-facilitator", "normal", &[]);
    for evm in ["revm", "x402-devchain"] {
        assert!(!plain.contains(evm), "{evm}");
    }
    assert!(tree("x402-facilitator", "normal", &["dev"]).contains("revm"));
}

#[test]
fn the_export_of_spans_brings_no_client_and_nothing_without_its_feature() {
    let plain = tree("x402-facilitator", "normal", &[]);
    assert!(!plain.iter().any(|name| name.contains("opentelemetry")), "{plain:?}");
    let packages = packages("x402-facilitator", "normal", &["otlp"]);
    let named = |name: &str| packages.iter().filter(|package| package.split(' ').next() == Some(name)).count();
    assert_eq!((named("opentelemetry-otlp"), named("reqwest"), named("tonic")), (1, 1, 0), "{packages:?}");
}
