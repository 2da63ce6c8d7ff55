//! What stands below a crate when it is built alone: `cargo tree` on one package, so that no other package's features blur it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeSet;
use std::process::Command;

/// Names of the packages below `package`, for this host.
fn tree(package: &str, edges: &str, features: &[&str]) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--package", package, "--edges", edges, "--prefix", "none", "--format", "{p}"])
        .args(["--no-default-features", "--features", &features.join(",")])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let names = text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned);
    names.filter(|name| name != package && !name.starts_with('[')).collect()
}

#[test]
fn types_has_a_small_tree() {
    let tree = tree("x402-types", "normal,build", &[]);
    assert!(tree.contains("alloy-primitives"), "{tree:?}");
    assert!(tree.len() < 40, "{} packages: {tree:?}", tree.len());
    for runtime in ["tokio", "alloy-provider", "time", "chrono", "reqwest"] {
        assert!(!tree.contains(runtime), "{runtime}");
    }
}

#[test]
fn the_server_half_of_http_needs_no_client() {
    let tree = tree("x402-http", "normal", &["server"]);
    assert!(tree.contains("x402-types") && tree.contains("tower-layer"), "{tree:?}");
    for client in ["reqwest", "rustls", "hyper-rustls", "axum"] {
        assert!(!tree.contains(client), "{client}");
    }
    let alloy: Vec<&String> = tree.iter().filter(|name| name.starts_with("alloy")).collect();
    assert_eq!(alloy, ["alloy-primitives"]);
}
