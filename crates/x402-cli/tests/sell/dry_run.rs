//! `x402 sell --dry-run` needs neither upstream nor facilitator.

use std::process::Output;

use serde_json::Value;

use crate::stage::x402_sell;

fn run(more: &[&str]) -> Output {
    let nothing = ["--facilitator", "http://127.0.0.1:9", "--origin", "https://api.example.com", "--dry-run"];
    x402_sell("http://127.0.0.1:9", &[&nothing[..], more].concat()).output().unwrap()
}

#[test]
fn each_route_is_shown_as_the_linter_sees_it() {
    let output = run(&["--route", "GET /a/*=$0.05", "--route", "/b", "--network", "eip155:8453", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(shown["valid"], true);
    let routes = shown["routes"].as_array().unwrap();
    assert_eq!(routes.len(), 2);
    assert_eq!(routes[0]["url"], "https://api.example.com/a/x");
    assert_eq!(routes[0]["report"]["summary"][0]["humanAmount"], "0.05 USDC");
    assert_eq!(routes[1]["report"]["summary"][0]["humanAmount"], "0.01 USDC");
    assert_eq!(routes[0]["report"]["errors"].as_array().map(Vec::len), Some(0));
    let warnings = routes[0]["report"]["warnings"].as_array().unwrap();
    let codes: Vec<_> = warnings.iter().map(|issue| issue["code"].as_str().unwrap()).collect();
    // A proxy does not know how its upstream is called.
    assert_eq!(codes, ["MISSING_INPUT_SCHEMA"]);
    let text = String::from_utf8(run(&["--network", "eip155:8453"]).stdout).unwrap();
    assert!(text.contains("0.01 USDC on Base to 0x"), "{text}");
}

#[test]
fn what_cannot_be_sold_is_named() {
    for (more, named) in [
        (&["--network", "eip155:31337"][..], "eip155:31337"),
        (&["--route", "/a=$0.0000001"], "/a"),
        (&["--origin", "api.example.com"], "origin"),
        (&["--facilitator", "own"], "facilitator_config"),
        (&["--route", "/a//b"], "/a//b"),
    ] {
        let more: Vec<&str> = more.to_vec();
        let mut command = x402_sell("http://127.0.0.1:9", &[&more[..], &["--dry-run"]].concat());
        let output = command.output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && told.contains(named), "{more:?}: {:?} {told}", output.status);
    }
}
