//! `x402 pay` keeps the signed receipt of a seller, `x402 receipts` lists it, and `x402 receipt verify` proves it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

use std::io::Write;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::routing::get;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use x402_evm::exact::Exact;
use x402_evm::key::Key;
use x402_extensions::keys::Ed25519Key;
use x402_extensions::offer_receipt::{IssuerKey, OfferIssuer};
use x402_facilitator_core::{Facilitator, PaymentRequest};
use x402_http::server::Seller;
use x402_types::Fault;
use x402_types::v2::{SettleResponse, SupportedResponse, VerifyResponse};

/// anvil's accounts 1, 2 and 3: keys that everybody knows.
const PAYER: &str = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";
const SIGNER: &str = "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a";
const PAYEE: &str = "0x7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6";
const PAYER_ACCOUNT: &str = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";
const SIGNER_ACCOUNT: &str = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC";

/// Accepts every payment.
struct Bank;

#[async_trait]
impl Facilitator for Bank {
    async fn verify(&self, _: &PaymentRequest) -> Result<VerifyResponse, Fault> {
        Ok(serde_json::from_value(json!({"isValid": true, "payer": PAYER_ACCOUNT})).unwrap())
    }
    async fn settle(&self, request: &PaymentRequest) -> Result<SettleResponse, Fault> {
        let network = request.claim.terms.network;
        let settled = json!({"success": true, "payer": PAYER_ACCOUNT, "transaction": "0xabab", "network": network});
        Ok(serde_json::from_value(settled).unwrap())
    }
    async fn supported(&self) -> Result<SupportedResponse, Fault> {
        let kinds = json!({"kinds": [{"x402Version": 2, "scheme": "exact", "network": "eip155:84532"}]});
        Ok(serde_json::from_value(kinds).unwrap())
    }
}

async fn sell(key: IssuerKey) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let payee = PAYEE.parse::<Key>().unwrap().address();
    let offer =
        Exact::default().requirements("eip155:84532".parse().unwrap(), payee, "$0.01".parse().unwrap()).unwrap();
    let seller = Seller::new(&origin, Arc::new(Bank)).unwrap().with_extension(OfferIssuer::new(key).with_transaction());
    let app = Router::new().route("/data", get(async || "content").layer(seller.charge([offer]).unwrap()));
    tokio::spawn(axum::serve(listener, app).into_future());
    format!("{origin}/data")
}

/// Runs the binary without blocking the server's threads.
async fn x402(arguments: Vec<String>, input: Option<String>) -> Output {
    tokio::task::spawn_blocking(move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_x402"));
        command.args(arguments).env("X402_PRIVATE_KEY", PAYER).env_remove("X402_JOURNAL");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.unwrap_or_default().as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    })
    .await
    .unwrap()
}

fn arguments(line: &str, journal: &Path) -> Vec<String> {
    line.split(' ').map(|word| word.replace("JOURNAL", journal.to_str().unwrap())).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Buys once, and returns the exported receipt and its line in the list.
async fn bought(key: IssuerKey, journal: &Path) -> (String, Value) {
    let url = sell(key).await;
    let paid = x402(arguments(&format!("pay {url} --journal JOURNAL"), journal), None).await;
    assert!(paid.status.success() && paid.stdout == b"content", "{}", text(&paid.stderr));
    assert!(!text(&paid.stderr).contains("not kept"), "{}", text(&paid.stderr));
    let listed = x402(arguments("receipts --journal JOURNAL", journal), None).await;
    let line: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let exported = x402(arguments("receipts --journal JOURNAL --export 1", journal), None).await;
    assert!(exported.status.success(), "{}", text(&exported.stderr));
    (text(&exported.stdout), line)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_of_an_account_proves_what_was_paid() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("payments.sqlite");
    let (document, line) = bought(IssuerKey::eip712(SIGNER.parse().unwrap()), &journal).await;
    assert_eq!((&line["number"], &line["method"]), (&json!(1), &json!("GET")));
    let verify = async |document: &str, more: &str| {
        x402(arguments(&format!("receipt verify -{more}"), &journal), Some(document.to_owned())).await
    };
    let proven = verify(&document, "").await;
    assert!(proven.status.success(), "{}", text(&proven.stderr));
    let report: Value = serde_json::from_slice(&proven.stdout).unwrap();
    assert_eq!(report["payer"], PAYER_ACCOUNT);
    assert_eq!(report["signer"], SIGNER_ACCOUNT);
    assert_eq!(report["transaction"], "0xabab");
    assert_eq!(report["offer"]["amount"], "10000");
    assert_eq!(report["signerIsAuthorizedBy"], "not shown by the receipt");
    assert_eq!(line["receipt"], report);
    assert!(verify(&document, &format!(" --signer {SIGNER_ACCOUNT}")).await.status.success());
    for (document, more, why) in [
        (document.clone(), format!(" --signer {PAYER_ACCOUNT}"), "signed by 0x3C44"),
        (document.replace(PAYER_ACCOUNT, SIGNER_ACCOUNT), String::new(), "signed by"),
        (document.replace(r#""amount":"10000""#, r#""amount":"1""#), String::new(), "signed by"),
        ("{}".to_owned(), String::new(), "signature"),
        (String::new(), String::new(), "JSON"),
    ] {
        let refused = verify(&document, &more).await;
        let said = text(&refused.stderr);
        assert!(refused.status.code() == Some(1) && said.starts_with("not proven: "), "{more} {document}: {said}");
        assert!(said.contains(why), "{said}");
        assert!(refused.stdout.is_empty());
    }
    let missing = x402(arguments("receipt verify /no/such/file", &journal), None).await;
    assert_eq!(missing.status.code(), Some(2));
    let none = x402(arguments("receipts --journal JOURNAL --export 9", &journal), None).await;
    assert_eq!(none.status.code(), Some(2), "{}", text(&none.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_by_jws_is_verified_by_a_key_that_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("payments.sqlite");
    let key = Ed25519Key::from_seed(&[7; 32]).unwrap();
    let (document, line) = bought(IssuerKey::ed25519(key), &journal).await;
    let did = line["receipt"]["signer"].as_str().unwrap().split('#').next().unwrap().to_owned();
    let verify = async |more: String| {
        x402(arguments(&format!("receipt verify -{more}"), &journal), Some(document.clone())).await.status.code()
    };
    assert_eq!(verify(String::new()).await, Some(0), "did:key contains its key");
    assert_eq!(verify(format!(" --signer {did}")).await, Some(0));
    assert_eq!(verify(" --signer did:web:api.example.com".into()).await, Some(1));
    let kid = line["receipt"]["signer"].as_str().unwrap();
    let another = "did:key:z6MkneMkZqwqRiU5mJzSG3kDwzt9P8C59N4NGTfBLfSGE7c7";
    assert_eq!(verify(format!(" --key {kid}={did}")).await, Some(0));
    assert_eq!(verify(format!(" --key {kid}={another}")).await, Some(1), "the caller's key decides");
}
