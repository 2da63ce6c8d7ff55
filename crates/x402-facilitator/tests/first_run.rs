//! An operator's first hour: `init`, `check`, `serve`, a payment, and another list of callers by SIGHUP.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use alloy_primitives::{Address, U256};
use serde_json::Value;
use x402_devchain::{DevChain, MiningMode};

use crate::support::process::Facilitator;
use crate::support::{body, signed, terms, tls};

fn run(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_x402-facilitator"));
    command.current_dir(folder).args(arguments).env("RUST_LOG", "error").output().unwrap()
}

fn init(folder: &Path, rpc: &str) -> Address {
    let output = run(folder, &["init", "--rpc", rpc, "--finality", "0", "--listen", "127.0.0.1:0"]);
    assert!(output.status.success(), "{output:?}");
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    line["signer"].as_str().unwrap().parse().unwrap()
}

fn check(folder: &Path) -> (Option<i32>, Value) {
    let output = run(folder, &["check", "--json"]);
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}

/// The row of a report whose subject contains these words.
fn row<'a>(report: &'a Value, subject: &str) -> &'a Value {
    let rows = report["findings"].as_array().unwrap();
    rows.iter().find(|row| row["subject"].as_str().unwrap().contains(subject)).unwrap_or_else(|| panic!("{report}"))
}

async fn settle(url: &str, token: &str, now: u64) -> (u16, Value) {
    let terms = terms();
    let body = body(&terms, &signed(1, &terms, now).await).to_string();
    let request = reqwest::Client::new().post(format!("{url}/settle")).header("content-type", "application/json");
    let answer = request.bearer_auth(token).body(body).send().await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
}

async fn until(mut is: impl AsyncFnMut() -> bool) {
    while !is().await {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn from_an_empty_folder_to_a_payment() {
    tls();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let chain = DevChain::builder().block_time(MiningMode::PerTransaction).build().unwrap();
    chain.use_real_time();
    let node = chain.serve("127.0.0.1:0").await.unwrap();
    let signer = init(path, &node.url);
    let config = std::fs::read_to_string(path.join("facilitator.toml")).unwrap();
    let token = std::fs::read_to_string(path.join("secrets/shop-token")).unwrap().trim().to_owned();
    let key = std::fs::read_to_string(path.join("secrets/signer")).unwrap();
    for secret in [&token, key.trim(), &node.url] {
        assert!(!config.contains(secret), "{config}");
    }
    #[cfg(unix)]
    for name in ["signer", "shop-token", "rpc"] {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(path.join("secrets").join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }

    // A second time nothing is overwritten.
    let again = run(path, &["init"]);
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&again.stderr).contains("it exists already"), "{again:?}");
    assert_eq!(std::fs::read_to_string(path.join("secrets/signer")).unwrap(), key);

    // The new signer has no coins, and the check names what it needs.
    let (code, report) = check(path);
    assert_eq!(code, Some(1), "{report}");
    let broke = row(&report, "signer");
    assert_eq!((&broke["state"], report["state"].as_str()), (&"problem".into(), Some("problem")), "{report}");
    assert!(broke["do"].as_str().unwrap().contains(&signer.to_string()), "{report}");
    assert_eq!(row(&report, "token")["state"], "ok", "{report}");
    assert_eq!(row(&report, "ledger")["state"], "ok", "{report}");
    chain.set_ether_of(signer, U256::from(10).pow(U256::from(18)));
    chain.mine(1);
    let (code, report) = check(path);
    assert_eq!((code, &row(&report, "signer")["state"]), (Some(0), &"ok".into()), "{report}");
    let table = run(path, &["check"]);
    assert!(String::from_utf8_lossy(&table.stdout).contains("ok       eip155:84532 signer"), "{table:?}");

    let mut facilitator = Facilitator::start_in(path);
    let (status, answer) = settle(&facilitator.url, &token, chain.time()).await;
    assert_eq!((status, &answer["success"]), (200, &true.into()), "{answer}");
    assert_eq!(chain.transfers().len(), 1);
    // While it runs, its ledger is another process's, which the check takes for right.
    let (code, report) = check(path);
    assert_eq!((code, &row(&report, "ledger")["state"]), (Some(0), &"warning".into()), "{report}");
    facilitator.signal("TERM");
    assert_eq!(facilitator.child.wait().unwrap().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_another_chain_and_a_wrong_file_are_found_without_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let node = DevChain::builder().chain_id(8453).build().unwrap().serve("127.0.0.1:0").await.unwrap();
    init(path, &node.url);
    let (code, report) = check(path);
    assert_eq!((code, &row(&report, "node")["state"]), (Some(1), &"problem".into()), "{report}");
    assert!(row(&report, "node")["found"].as_str().unwrap().contains("eip155:8453"), "{report}");

    let file = path.join("facilitator.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let line = text.lines().position(|line| line.starts_with("finality")).unwrap() + 1;
    std::fs::write(&file, text.replace("finality", "finalty")).unwrap();
    let (code, report) = check(path);
    let found = report["findings"][0]["found"].as_str().unwrap();
    assert_eq!(code, Some(1));
    assert!(found.starts_with(&format!("line {line}, column 1: unknown field `finalty`")), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_callers_are_let_in_by_a_signal_and_a_payment_in_flight_goes_on() {
    tls();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let chain = DevChain::builder().block_time(MiningMode::Manual).build().unwrap();
    let node = chain.serve("127.0.0.1:0").await.unwrap();
    let signer = init(path, &node.url);
    chain.set_ether_of(signer, U256::from(10).pow(U256::from(18)));
    chain.mine(1);
    let token = std::fs::read_to_string(path.join("secrets/shop-token")).unwrap().trim().to_owned();
    let facilitator = Facilitator::start_in(path);

    let (url, first, now) = (facilitator.url.clone(), token.clone(), chain.time());
    let in_flight = tokio::spawn(async move { settle(&url, &first, now).await });
    until(async || chain.calls().of("eth_sendRawTransaction") > 0).await;

    let file = path.join("facilitator.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let known = text.lines().find(|line| line.starts_with("token_sha256")).unwrap();
    // `printf %s another-token | sha256sum`
    let another = "token_sha256 = \"ANOTHER\"".replace("ANOTHER", &sha256("another-token"));
    std::fs::write(&file, text.replace(known, &another)).unwrap();
    facilitator.signal("HUP");
    let verify = async |token: &str| {
        let request = reqwest::Client::new().post(format!("{}/verify", facilitator.url)).bearer_auth(token);
        request.body("{}").send().await.unwrap().status().as_u16()
    };
    until(async || verify(&token).await == 401).await;
    assert_eq!(verify("another-token").await, 400);

    // A file that cannot be read changes nothing, and neither does one without callers.
    std::fs::write(&file, text.replace("finality", "finalty")).unwrap();
    facilitator.signal("HUP");
    std::fs::write(&file, text.replace("[[caller]]\nname = \"shop\"\n", "").replace(known, "")).unwrap();
    facilitator.signal("HUP");
    chain.mine(1);
    let (status, answer) = in_flight.await.unwrap();
    assert_eq!((status, &answer["success"]), (200, &true.into()), "{answer}");
    assert_eq!(verify("another-token").await, 400);
    assert_eq!(verify("").await, 401);
}

/// The hash as the shell makes it.
fn sha256(text: &str) -> String {
    let output = Command::new("sh").args(["-c", "printf %s \"$0\" | sha256sum", text]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().to_owned()
}
