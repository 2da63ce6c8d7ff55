//! The examples do what they say, as processes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use alloy_primitives::{U256, fixed_bytes, hex};
use serde_json::json;
use x402_devchain::{ACCOUNTS, DevChain, TOKEN, signer};
use x402_erc4337::session::zerodev::{Grant, KernelAccount, KernelVersion, issue};
use x402_evm::exact::{Exact, Payer, Price};
use x402_facilitator::dev::DevFacilitator;
use x402_types::{MakePayment, SigningContext, UnixSeconds};

#[test]
fn a_scheme_of_ones_own_is_paid() {
    let done = Command::new(env!("CARGO_BIN_EXE_second_scheme")).output().unwrap();
    assert!(done.status.success(), "{done:?}");
}

/// Ten cents are approved, three are used: three are captured, and the receipt says so.
#[test]
fn a_scheme_of_ones_own_settles_what_was_used() {
    let done = Command::new(env!("CARGO_BIN_EXE_card_capture")).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    let text = String::from_utf8(done.stdout).unwrap();
    let left: Vec<&str> = text.lines().map(|line| line.rsplit("; ").next().unwrap()).collect();
    let has = ["the card has 97 cents", "the card has 97 cents", "the card has 94 cents"];
    assert_eq!(left, has, "{text}");
    assert_eq!(text.matches("cap_").count(), 2, "nothing moves for what was not used: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extension_of_ones_own_refuses_and_adds_to_the_receipt() {
    let facilitator = DevFacilitator::start((Ipv4Addr::LOCALHOST, 0).into(), |routes| routes).await.unwrap();
    let (buyer, pay_to) = (ACCOUNTS[1], ACCOUNTS[2].address);
    let done = Command::new(env!("CARGO_BIN_EXE_own_extension"))
        .env("FACILITATOR_URL", facilitator.url())
        .env("PAY_TO", pay_to.to_string())
        .env("X402_PRIVATE_KEY", buyer.key.to_string())
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    let lines = String::from_utf8(done.stdout).unwrap();
    let lines: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        lines[0],
        serde_json::json!({
            "purpose": "research", "status": 200, "said": "data", "receipt": {"info": {"licence": "research only"}},
        })
    );
    assert_eq!(
        (&lines[1]["purpose"], &lines[1]["status"], &lines[1]["receipt"]),
        (&"resale".into(), &403.into(), &().into())
    );
    let said: serde_json::Value = serde_json::from_str(lines[1]["said"].as_str().unwrap()).unwrap();
    assert_eq!(said["error"], "purpose_not_allowed");
    let transfers = facilitator.chain().transfers();
    assert_eq!(transfers.len(), 1, "the refused payment moved nothing");
    assert_eq!((transfers[0].from, transfers[0].to), (buyer.address, pay_to));
    facilitator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dialect_of_ones_own_is_paid() {
    let facilitator = DevFacilitator::start((Ipv4Addr::LOCALHOST, 0).into(), |routes| routes).await.unwrap();
    let (buyer, pay_to) = (ACCOUNTS[1], ACCOUNTS[2].address);
    let mut shop = Command::new(env!("CARGO_BIN_EXE_own_dialect"));
    shop.env("FACILITATOR_URL", facilitator.url()).env("PAY_TO", pay_to.to_string());
    shop.env("X402_PRIVATE_KEY", buyer.key.to_string());
    let done = tokio::task::spawn_blocking(move || shop.output().unwrap()).await.unwrap();
    assert!(done.status.success(), "{done:?}");
    let transfer = facilitator.chain().transfers().pop().unwrap();
    assert_eq!(String::from_utf8(done.stdout).unwrap().trim(), transfer.transaction.to_string());
    assert_eq!((transfer.from, transfer.to, transfer.value), (buyer.address, pay_to, U256::from(10_000)));
    facilitator.stop().await;
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

/// Every extension of a seller's side at once: all are declared, a buyer that knows none of them pays, and one that knows all uses
/// them. `interop/run` has the published SDKs beside both.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_seller_with_every_extension_is_paid() {
    let facilitator = DevFacilitator::start((Ipv4Addr::LOCALHOST, 0).into(), |routes| routes).await.unwrap();
    let (buyer, pay_to) = (ACCOUNTS[1], ACCOUNTS[2].address);
    let seller = |extensions: Option<&str>| {
        let mut seller = Command::new(env!("CARGO_BIN_EXE_extended_seller"));
        seller
            .env("FACILITATOR_URL", facilitator.url())
            .env("PAY_TO", pay_to.to_string())
            .env("SIGNER", ACCOUNTS[4].key.to_string())
            .env_remove("EXTENSIONS");
        if let Some(names) = extensions {
            seller.env("EXTENSIONS", names);
        }
        seller.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let refused = seller(Some("bazaar,none")).wait_with_output().unwrap();
    assert!(!refused.status.success() && String::from_utf8(refused.stderr).unwrap().contains("EXTENSIONS: none"));

    let mut seller = seller(None);
    let mut line = String::new();
    BufReader::new(seller.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let first: serde_json::Value = serde_json::from_str(&line).unwrap();
    let url = format!("{}/paid", first["listening"].as_str().unwrap());
    let unpaid = reqwest::get(&url).await.unwrap();
    assert_eq!(unpaid.status().as_u16(), 402);
    let header = unpaid.headers()["payment-required"].as_bytes();
    let required: x402_types::RawJson = x402_codec::header::decode(header, &x402_codec::Limits::DEFAULT).unwrap();
    let required: serde_json::Value = required.read().unwrap();
    let mut declared: Vec<_> = required["extensions"].as_object().unwrap().keys().map(String::as_str).collect();
    declared.sort_unstable();
    assert_eq!(declared, ["bazaar", "builder-code", "offer-receipt", "payment-identifier", "sign-in-with-x"]);

    let paid = Command::new(env!("CARGO_BIN_EXE_buyer"))
        .arg(&url)
        .env("X402_PRIVATE_KEY", buyer.key.to_string())
        .output()
        .unwrap();
    assert!(paid.status.success(), "{paid:?}");
    assert_eq!(facilitator.chain().transfers().len(), 1);

    // A buyer with all of them pays once, keeps the receipt, and signs in.
    let bought = Command::new(env!("CARGO_BIN_EXE_extended_buyer"))
        .args([&url, "2"])
        .env("X402_PRIVATE_KEY", ACCOUNTS[3].key.to_string())
        .output()
        .unwrap();
    assert!(bought.status.success(), "{bought:?}");
    let text = String::from_utf8(bought.stdout).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[0]["payment"]["success"], &lines[0]["receipts"]), (2, &json!(true), &json!(1)));
    assert_eq!((&lines[1]["status"], &lines[1]["admittedBy"]), (&json!(200), &json!("sign-in-with-x")), "{text}");
    assert_eq!(lines[1]["body"], json!({"report": "paid content"}));
    assert_eq!(facilitator.chain().transfers().len(), 2);
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

/// A till's dialect stands beside x402's own: one payment is paid once, whichever of them asks.
#[tokio::test(flavor = "multi_thread")]
async fn a_facilitator_speaks_a_dialect_of_ones_own() {
    x402_http::service::install_tls();
    let mut facilitator = Command::new(env!("CARGO_BIN_EXE_own_dialect_facilitator"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(facilitator.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let first: serde_json::Value = serde_json::from_str(&line).unwrap();
    let url = first["listening"].as_str().unwrap().to_owned();
    let ask = async |end: &str, body: serde_json::Value| {
        let response = reqwest::Client::new().post(format!("{url}/{end}")).body(body.to_string()).send().await.unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_slice::<serde_json::Value>(&response.bytes().await.unwrap()).unwrap())
    };

    let price = Price::Atomic(10_000.into());
    let terms =
        Exact::default().requirements("eip155:84532".parse().unwrap(), ACCOUNTS[5].address, price).unwrap().terms;
    let now = UnixSeconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs());
    let context = SigningContext { now, entropy: [3; 32], url: "https://shop.example/", method: "GET" };
    let payload = Payer::new(signer(1).unwrap()).make_payment(&terms, &context).await.unwrap().payload;
    let payload: serde_json::Value = payload.read().unwrap();
    let bill = json!({
        "till": "7", "sum": "10000", "authorization": payload["authorization"], "signature": payload["signature"],
    });
    let x402 = json!({
        "paymentPayload": { "x402Version": 2, "accepted": terms.to_v2(), "payload": payload },
        "paymentRequirements": terms.to_v2(),
    });
    let (good, used) = (json!({ "good": true }), json!("duplicate_settlement"));
    assert_eq!(ask("verify", bill.clone()).await, (200, good));
    assert_eq!(ask("verify", x402.clone()).await.1["isValid"], true);
    let (status, paid) = ask("settle", bill.clone()).await;
    assert!(status == 200 && paid["paid"].as_str().is_some_and(|hash| hash.len() == 66), "{paid}");
    // Another dialect is another request, and a success is told once.
    assert_eq!(ask("verify", x402.clone()).await.1["invalidReason"], used);
    assert_eq!(ask("settle", x402).await.1["success"], false);
    assert_eq!(ask("settle", bill).await, (200, json!({ "no": "it is used, or it failed" })));
    let (status, no) = ask("settle", json!({ "till": "7", "sum": "1e4" })).await;
    assert!(status == 400 && no["no"].as_str().unwrap().contains("sum"), "{no}");
    let told = Command::new("kill").args(["-INT", &facilitator.id().to_string()]).status().unwrap();
    assert!(told.success() && facilitator.wait().unwrap().success());
}
