//! `x402 session register` against the routes of a facilitator.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use alloy_primitives::{U256, keccak256};
use serde_json::{Value, json};
use x402_devchain::{ACCOUNTS, DevChain, DevPlan, signer};
use x402_erc4337::nvm::{Payer, Plans};
use x402_erc4337::session::zerodev::{Approval, KernelAccount, KernelVersion};
use x402_facilitator::dev::{DevFacilitator, SESSION_SIGNER, served};
use x402_types::nvm::{self, Requirements};
use x402_types::v2::ResourceInfo;
use x402_types::{AtomicAmount, ChainId, MakePayment as _, SigningContext, UnixSeconds};

const URL: &str = "https://agent.example/tasks";
const PLAN: u64 = 42;

/// `x402 session register` for this facilitator, with a key at its standard input.
fn register(facilitator: &str, network: &str, more: &[&str], key: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_x402"))
        .args(["session", "register", "--facilitator", facilitator, "--network", network])
        .args(more)
        .env_remove("X402_FACILITATOR_TOKEN")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may refuse its arguments before it reads anything.
    drop(child.stdin.take().unwrap().write_all(key.as_bytes()));
    child.wait_with_output().unwrap()
}

fn refused(output: &Output) -> (Option<i32>, String) {
    assert!(output.stdout.is_empty());
    (output.status.code(), String::from_utf8(output.stderr.clone()).unwrap())
}

/// A facilitator, and a payment for it whose keys lie in it: an order key and a redeem key.
async fn scene() -> (DevFacilitator, Requirements, Value) {
    x402_http::service::install_tls();
    let chain = DevChain::new().unwrap();
    let (id, plan) = (U256::from(PLAN), DevPlan::credits(ACCOUNTS[2].address, 1_000_000, 10));
    chain.register_plan(id, plan).unwrap();
    let account = KernelAccount::new(KernelVersion::V031, ACCOUNTS[1].address, U256::ZERO);
    chain.set_balance_of(account.address(), U256::from(1_000_000));
    let network = ChainId::eip155(chain.chain_id());
    let session = ACCOUNTS[SESSION_SIGNER].address;
    let entry = Requirements::new(network, id.into()).with_session_signer(&session.to_string()).with_verb("POST");

    let plans = Plans::new([served(id, plan)]).unwrap();
    let payer = Payer::new(signer(1).unwrap(), account, plans, vec![session]);
    let context = SigningContext { now: UnixSeconds(chain.time()), entropy: [1; 32], url: URL, method: "POST" };
    let made = payer.make_payment(&entry.to_terms(AtomicAmount::ZERO).unwrap(), &context).await.unwrap();
    let payment = nvm::v03::PaymentPayload::new(Some(ResourceInfo::of(URL)), entry.clone(), made.payload);

    let (listen, wait) = ((Ipv4Addr::LOCALHOST, 0).into(), Duration::from_secs(30));
    let facilitator = DevFacilitator::selling(chain, &[(id, plan)], listen, wait, |routes| routes).await.unwrap();
    (facilitator, entry, serde_json::to_value(payment).unwrap())
}

async fn verify(facilitator: &DevFacilitator, entry: &Requirements, payment: &Value) -> Value {
    let body = json!({
        "paymentRequired": {
            "x402Version": 2, "error": "Payment required", "resource": { "url": URL }, "accepts": [entry], "extensions": {},
        },
        "paymentPayload": payment,
        "maxAmount": "3",
    });
    let request = reqwest::Client::new().post(format!("{}/verify", facilitator.url())).json(&body);
    request.send().await.unwrap().json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_left_with_a_facilitator_named_by_its_hash_and_taken_away() {
    let (facilitator, entry, payment) = scene().await;
    let network = entry.network.to_string();
    let key = payment["payload"]["authorization"]["sessionKeys"][1]["data"].as_str().unwrap();
    let hash = keccak256(key).to_string();
    let mut named = payment.clone();
    named["payload"]["authorization"]["sessionKeys"][1] = json!({ "id": "redeem", "hash": hash });

    let unknown = verify(&facilitator, &entry, &named).await;
    assert_eq!(unknown["invalidReason"], "INVALID_PAYLOAD");
    // White space at its end does not count, nor a slash at the end of the address.
    let output = register(&format!("{}/", facilitator.url()), &network, &["-"], &format!("{key}\n"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{hash}\n"));
    assert!(output.stderr.is_empty());
    assert_eq!(verify(&facilitator, &entry, &named).await["isValid"], true);

    let output = register(facilitator.url(), &network, &["--remove"], key);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{hash}\n"));
    assert_eq!(verify(&facilitator, &entry, &named).await, unknown);
    facilitator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_facilitator_refuses_is_told_from_what_cannot_be_read() {
    let (facilitator, entry, payment) = scene().await;
    let network = entry.network.to_string();
    let key = payment["payload"]["authorization"]["sessionKeys"][1]["data"].as_str().unwrap();
    let mut forged = Approval::read(key).unwrap();
    forged.enable_signature = Some(vec![0; 65].into());

    let (code, said) = refused(&register(facilitator.url(), &network, &[], &forged.write()));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.starts_with("HTTP 400: INVALID_PAYLOAD "), "{said}");
    let (code, said) = refused(&register(facilitator.url(), "eip155:1", &[], key));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.starts_with("HTTP 400: UNSUPPORTED_NETWORK "), "{said}");
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let nobody = format!("http://{closed}");
    for more in [&[][..], &["--remove"]] {
        assert_eq!(refused(&register(facilitator.url(), &network, more, "no key")).0, Some(2));
        assert_eq!(refused(&register(&nobody, &network, more, key)).0, Some(2));
        assert_eq!(refused(&register(facilitator.url(), "base", more, key)).0, Some(2), "no CAIP-2");
    }
    facilitator.stop().await;
}
