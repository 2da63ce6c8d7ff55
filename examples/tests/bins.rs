//! The examples do what they say, as processes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use alloy_primitives::{U256, fixed_bytes, hex};
use x402_devchain::{ACCOUNTS, DevChain, TOKEN, signer};
use x402_erc4337::session::zerodev::{Grant, KernelAccount, KernelVersion, issue};
use x402_facilitator::dev::DevFacilitator;

#[test]
fn a_scheme_of_ones_own_is_paid() {
    let done = Command::new(env!("CARGO_BIN_EXE_second_scheme")).output().unwrap();
    assert!(done.status.success(), "{done:?}");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn the_buyer_pays_the_seller() {
    let facilitator = DevFacilitator::start((Ipv4Addr::LOCALHOST, 0).into(), |routes| routes).await.unwrap();
    let (buyer, pay_to) = (ACCOUNTS[1], ACCOUNTS[2].address);
    let folder = tempfile::tempdir().unwrap();
    let mut seller = Command::new(env!("CARGO_BIN_EXE_seller"))
        .env("FACILITATOR_URL", facilitator.url())
        .env("PAY_TO", pay_to.to_string())
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(seller.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let first: serde_json::Value = serde_json::from_str(&line).unwrap();
    let url = format!("{}/paid", first["listening"].as_str().unwrap());

    let chain = facilitator.chain();
    let before = chain.balance_of(pay_to);
    let paid = Command::new(env!("CARGO_BIN_EXE_buyer"))
        .arg(&url)
        .env("X402_PRIVATE_KEY", buyer.key.to_string())
        .output()
        .unwrap();
    assert!(paid.status.success(), "{paid:?}");
    assert_eq!(String::from_utf8(paid.stdout).unwrap(), "{\"report\":\"paid content\"}\n");
    let transfer = chain.transfers().pop().unwrap();
    assert!(String::from_utf8(paid.stderr).unwrap().contains(&transfer.transaction.to_string()));
    assert_eq!((transfer.from, chain.balance_of(pay_to) - before), (buyer.address, U256::from(10_000)));

    seller.kill().unwrap();
    seller.wait().unwrap();
    facilitator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_key_is_used_as_far_as_it_goes() {
    let chain = DevChain::new().unwrap();
    let node = chain.serve("127.0.0.1:0").await.unwrap();
    let [payer, session, to] = [0, 2, 3].map(|index: usize| ACCOUNTS[index]);
    let account = KernelAccount::new(KernelVersion::V031, ACCOUNTS[1].address, U256::ZERO);
    let grant = Grant::new(0, 1 << 40).call(TOKEN, fixed_bytes!("a9059cbb")).at_most(32, U256::from(5));
    let owner = signer(1).unwrap();
    let text = issue(&owner, &account, session.address, &grant, 84532, 1).await.unwrap().write();
    chain.set_balance_of(account.address(), U256::from(20));
    let before = chain.balance_of(to.address);
    let transfer = async |value: u8| {
        let data = [&hex!("a9059cbb000000000000000000000000")[..], to.address.as_slice(), &[0; 31], &[value]].concat();
        let mut child = Command::new(env!("CARGO_BIN_EXE_session_key"))
            .args([node.url.clone(), TOKEN.to_string(), hex::encode_prefixed(data)])
            .env("SESSION_KEY", session.key.to_string())
            .env("PAYER_KEY", payer.key.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap()
    };
    // The first makes the account and enables the key, the second does neither.
    for sum in [5, 10] {
        let done = transfer(5).await;
        assert!(done.status.success(), "{done:?}");
        let line: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(line["success"], true);
        assert_eq!(chain.balance_of(to.address) - before, U256::from(sum));
    }
    let refused = transfer(6).await;
    assert!(!refused.status.success());
    assert_eq!(chain.balance_of(to.address) - before, U256::from(10));
}

/// The cases are of Rhinestone's module SDK.
#[test]
fn a_smart_sessions_signature_is_written_and_read() {
    let run = |args: &[&str], input: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_smart_session"))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let done = child.wait_with_output().unwrap();
        done.status.success().then(|| String::from_utf8(done.stdout).unwrap())
    };
    let cases: Vec<serde_json::Value> =
        serde_json::from_str(include_str!("../../crates/x402-testkit/vectors/smart-sessions.json")).unwrap();
    for case in &cases {
        let ours = run(&["encode", "0xabcdef"], case["biconomyText"].as_str().unwrap()).unwrap();
        let encoded = case["encoded"].as_str().unwrap();
        // The SDK compresses; what is held is the same.
        assert_ne!(ours.trim(), encoded);
        let held = run(&["decode"], encoded).unwrap();
        assert_eq!(run(&["decode"], &ours).unwrap(), held);
        let held: serde_json::Value = serde_json::from_str(&held).unwrap();
        assert_eq!((&held["mode"], &held["permissionId"]), (&case["mode"], &case["permissionId"]));
        assert_eq!(held["signature"], "0xabcdef");
        assert_eq!(run(&["decode"], &encoded[..encoded.len() - 2]), None);
    }
    assert_eq!(run(&["encode", "0xabcdef"], "[]"), None);
}
