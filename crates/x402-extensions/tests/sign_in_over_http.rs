//! Signing in over HTTP: what an account has paid for it gets again, from the seller's layer to the paying client.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod stage;

use std::sync::Arc;

use http::HeaderValue;
use serde_json::{Value, json};
use x402_challenge::{MemoryStore, Store};
use x402_extensions::keys::Ed25519Key;
use x402_extensions::sign_in::{NONCE, NOT_ENTITLED, SIGNATURE, SignInGate, SignInWallet};
use x402_http::client::{AdmittedBy, Receipt};
use x402_http::server::price_by;
use x402_store::sqlite::{Database, SqliteChallenges, SqliteGrants};
use x402_types::{Extension, Fault, RawJson};

use crate::stage::{ORIGIN, PAYER, SIGNER, Service, Stage, ask, buy, get, key, offer, required};

const SECRET: [u8; 32] = [5; 32];

fn gate(store: &Arc<dyn Store>) -> SignInGate {
    SignInGate::new(ORIGIN, &SECRET, Arc::clone(store)).unwrap()
}

fn memory() -> Arc<dyn Store> {
    Arc::new(MemoryStore::default())
}

/// A shop behind the gate, with a fixed price.
fn shop(gate: SignInGate) -> (Stage, Service) {
    let stage = Stage::new();
    let layer = stage.seller().with_extension(gate).charge([offer("$0.01")]).unwrap();
    let service = stage.serve(&layer);
    (stage, service)
}

fn wallet(text: &str) -> SignInWallet {
    SignInWallet::evm(key(text))
}

/// Signs the challenge that a path has now.
async fn signed_in(service: &Service, path: &str, wallet: &SignInWallet) -> String {
    let document = required(&ask(service, get(path)).await);
    let declaration = RawJson::of(&document["extensions"]["sign-in-with-x"]).unwrap();
    wallet.sign(&declaration, &format!("{ORIGIN}{path}")).await.unwrap().unwrap()
}

/// Presents a header, and returns the status and the error of a 402.
async fn present(service: &Service, path: &str, header: &str) -> (u16, Option<String>) {
    let mut request = get(path);
    request.headers_mut().insert("sign-in-with-x", HeaderValue::from_str(header).unwrap());
    request.headers_mut().insert("host", HeaderValue::from_static("evil.example"));
    let answer = ask(service, request).await;
    let error = (answer.status() == 402).then(|| required(&answer)["error"].as_str().unwrap().to_owned());
    (answer.status().as_u16(), error)
}

#[tokio::test]
async fn what_was_paid_for_is_served_again_to_who_signs_in() {
    let (stage, service) = shop(gate(&memory()));
    let payer = stage.payer(PAYER).with_extension(wallet(PAYER));
    let first = buy(&payer, &service, "/data").await.unwrap();
    assert!(first.status() == 200 && first.extensions().get::<Receipt>().is_some());
    assert_eq!(stage.settled(), 1);
    for query in ["", "?page=2"] {
        let again = buy(&payer, &service, &format!("/data{query}")).await.unwrap();
        assert_eq!((again.status().as_u16(), &again.body()[..]), (200, &b"content"[..]));
        assert_eq!(again.extensions().get::<AdmittedBy>().map(|AdmittedBy(name)| &**name), Some("sign-in-with-x"));
        assert_eq!(again.headers()["cache-control"], "private");
    }
    assert_eq!((stage.settled(), stage.served()), (1, 3));
    // Another resource, another account, and the same one after its time pay.
    assert_eq!(buy(&payer, &service, "/other").await.unwrap().status(), 200);
    let another = stage.payer(SIGNER).with_extension(wallet(SIGNER));
    assert_eq!(buy(&another, &service, "/data").await.unwrap().status(), 200);
    assert_eq!(stage.settled(), 3);
    stage.clock.pass(3_600);
    assert_eq!(buy(&payer, &service, "/data").await.unwrap().status(), 200);
    assert_eq!(stage.settled(), 4);
}

#[tokio::test]
async fn a_seller_restarted_between_payment_and_sign_in_serves_what_was_paid_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("seller.sqlite");
    let open = || {
        let database = Database::open(&file).unwrap();
        (Arc::new(SqliteChallenges::new(database.clone())) as Arc<dyn Store>, Arc::new(SqliteGrants::new(database)))
    };
    let stage = Stage::new();
    let start = || {
        let (store, grants) = open();
        let seller = stage.seller().with_grants(grants).with_extension(gate(&store));
        stage.serve(&seller.charge([offer("$0.01")]).unwrap())
    };
    let payer = stage.payer(PAYER).with_extension(wallet(PAYER));
    let before = start();
    assert_eq!(buy(&payer, &before, "/data").await.unwrap().status(), 200);
    let used = signed_in(&before, "/data", &wallet(PAYER)).await;
    assert_eq!(present(&before, "/data", &used).await.0, 200);
    drop(before);
    let after = start();
    let again = buy(&payer, &after, "/data").await.unwrap();
    assert!(again.status() == 200 && again.extensions().get::<AdmittedBy>().is_some());
    assert_eq!(stage.settled(), 1, "nothing is paid twice");
    // A nonce that was used before the restart stays used.
    assert_eq!(present(&after, "/data", &used).await, (402, Some(NONCE.as_str().into())));
}

#[tokio::test]
async fn a_sign_in_is_good_once_for_its_resource_and_its_account() {
    let (stage, service) = shop(gate(&memory()));
    assert_eq!(buy(&stage.payer(PAYER), &service, "/data").await.unwrap().status(), 200);
    let refused = |code: &x402_types::ErrorReason| (402, Some(code.as_str().to_owned()));
    let header = signed_in(&service, "/data", &wallet(PAYER)).await;
    assert_eq!(present(&service, "/data", &header).await, (200, None));
    assert_eq!(present(&service, "/data", &header).await, refused(&NONCE), "it was used");
    assert_eq!(present(&service, "/other", &signed_in(&service, "/data", &wallet(PAYER)).await).await, refused(&NONCE));
    let stranger = signed_in(&service, "/data", &wallet(SIGNER)).await;
    assert_eq!(present(&service, "/data", &stranger).await, refused(&NOT_ENTITLED));
    // A nonce that this seller did not make, and one of another time.
    let decode = |header: &str| -> Value {
        serde_json::from_slice(&x402_codec::base64::decode(header.as_bytes(), 9_000).unwrap()).unwrap()
    };
    let edit = |member: &str, value: &str| {
        let mut payload = decode(&header);
        payload[member] = json!(value);
        x402_codec::base64::encode(payload.to_string().as_bytes())
    };
    assert_eq!(present(&service, "/data", &edit("nonce", "00112233445566778899aabbccddeeff")).await, refused(&NONCE));
    assert_eq!(present(&service, "/data", &edit("nonce", &"é".repeat(16))).await.0, 402);
    let fresh = signed_in(&service, "/data", &wallet(PAYER)).await;
    let mut payload = decode(&fresh);
    payload["statement"] = json!("and pay me");
    let changed = x402_codec::base64::encode(payload.to_string().as_bytes());
    assert_eq!(present(&service, "/data", &changed).await, refused(&SIGNATURE));
    assert_eq!(
        present(&service, "/data", &edit("domain", "evil.example")).await.1.unwrap(),
        "invalid_siwx_domain_mismatch"
    );
    assert_eq!(
        present(&service, "/data", &edit("chainId", "eip155:1")).await.1.unwrap(),
        "invalid_siwx_unsupported_chain"
    );
    assert_eq!(present(&service, "/data", "garbage").await.1.unwrap(), "invalid_siwx_header");
    stage.clock.pass(301);
    assert_eq!(present(&service, "/data", &fresh).await.1.unwrap(), "invalid_siwx_issued_at_too_old");
    assert_eq!(stage.settled(), 1);
}

#[tokio::test]
async fn a_price_of_the_request_is_always_paid() {
    let stage = Stage::new();
    let by_length = price_by(|request| {
        let price = if request.uri.query().is_some() { "$0.50" } else { "$0.01" };
        async move { Ok::<_, Fault>(vec![offer(price)]) }
    });
    let service = stage.serve(&stage.seller().with_extension(gate(&memory())).charge_by(by_length));
    let payer = stage.payer(PAYER).with_extension(wallet(PAYER));
    for _ in 0..2 {
        assert_eq!(buy(&payer, &service, "/data").await.unwrap().status(), 200);
    }
    assert_eq!(buy(&payer, &service, "/data?long").await.unwrap().status(), 200);
    assert_eq!(stage.settled(), 3);
}

#[tokio::test]
async fn a_payment_beside_a_sign_in_that_fails_is_taken() {
    let (stage, service) = shop(gate(&memory()));
    let payer = stage.payer(PAYER).with_extension(wallet(PAYER));
    // The stranger signs in, is refused, and pays with the next request.
    assert_eq!(buy(&payer, &service, "/data").await.unwrap().status(), 200);
    assert_eq!((stage.settled(), stage.served()), (1, 1));
}

/// A server whose challenge is of another origin.
#[derive(Debug)]
struct Phishing(SignInGate, &'static str);

#[async_trait::async_trait]
impl Extension for Phishing {
    fn name(&self) -> &str {
        self.0.name()
    }
    fn declare(&self, required: &x402_types::extension::Required<'_>) -> Option<RawJson> {
        let text = self.0.declare(required)?.as_str().replace("api.example.com", self.1);
        RawJson::parse(text).ok()
    }
    fn lasts(&self) -> Option<u64> {
        Some(0)
    }
    fn not_compared(&self) -> &[&str] {
        &["nonce", "issuedAt", "expirationTime"]
    }
    fn headers(&self) -> &[&str] {
        self.0.headers()
    }
}

#[tokio::test]
async fn a_client_signs_for_the_origin_that_it_requested_alone() {
    let stage = Stage::new();
    for domain in ["bank.example", "api.example.com:8443", "api.example.com.evil.example"] {
        let phishing = Phishing(gate(&memory()), domain);
        let service = stage.serve(&stage.seller().with_extension(phishing).charge([offer("$0.01")]).unwrap());
        let document = required(&ask(&service, get("/data")).await);
        let declaration = RawJson::of(&document["extensions"]["sign-in-with-x"]).unwrap();
        let url = format!("{ORIGIN}/data");
        assert_eq!(wallet(PAYER).sign(&declaration, &url).await.unwrap(), None, "{domain}");
        // The client still pays: the payment is for the terms, within its limits.
        let payer = stage.payer(PAYER).with_extension(wallet(PAYER));
        assert_eq!(buy(&payer, &service, "/data").await.unwrap().status(), 200);
    }
    let gate = gate(&memory());
    let service = stage.serve(&stage.seller().with_extension(gate).charge([offer("$0.01")]).unwrap());
    let document = required(&ask(&service, get("/data")).await);
    let declaration = RawJson::of(&document["extensions"]["sign-in-with-x"]).unwrap();
    for url in ["http://api.example.com/data", "https://api.example.com:444/data", "https://api.example.org/data"] {
        assert_eq!(wallet(PAYER).sign(&declaration, url).await.unwrap(), None, "{url}");
    }
    // An account of another kind of chain has nothing to sign.
    let solana = SignInWallet::ed25519(Ed25519Key::from_seed(&[1; 32]).unwrap());
    assert_eq!(solana.sign(&declaration, &format!("{ORIGIN}/data")).await.unwrap(), None);
    for bad in ["{}", "null", r#"{"info":{},"supportedChains":[{"chainId":"eip155:84532","type":"eip191"}]}"#] {
        let bad = RawJson::parse(bad.into()).unwrap();
        assert_eq!(wallet(PAYER).sign(&bad, &format!("{ORIGIN}/data")).await.unwrap(), None);
    }
}

#[tokio::test]
async fn the_declaration_is_the_sdk_s() {
    let all: Value = serde_json::from_str(&x402_testkit::vector("extensions.json").unwrap()).unwrap();
    let recorded = &all["sign-in-with-x.serverEmits"][0]["paymentRequired"];
    let sdk = &recorded["extensions"]["sign-in-with-x"];
    let (stage, service) = shop(gate(&memory()).with_statement("Sign in to read"));
    let ours = required(&ask(&service, get("/siwx")).await)["extensions"]["sign-in-with-x"].clone();
    assert_eq!((&ours["supportedChains"], &ours["schema"]), (&sdk["supportedChains"], &sdk["schema"]));
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&ours["info"]), keys(&sdk["info"]));
    assert_eq!(ours["info"]["nonce"].as_str().unwrap().len(), sdk["info"]["nonce"].as_str().unwrap().len());
    assert_eq!(ours["info"]["domain"], "api.example.com");
    let second = required(&ask(&service, get("/siwx")).await)["extensions"]["sign-in-with-x"].clone();
    assert_ne!(ours["info"]["nonce"], second["info"]["nonce"], "each document has its own");
    assert_eq!(stage.served(), 0);
}

#[test]
fn an_origin_is_configured_and_bare() {
    let store = memory();
    for origin in ["https://api.example.com", "https://api.example.com/", "http://127.0.0.1:4021"] {
        assert!(SignInGate::new(origin, &SECRET, Arc::clone(&store)).is_ok(), "{origin}");
    }
    for origin in
        ["", "api.example.com", "https://api.example.com/v1", "https://api.example.com?x", "https://u@h", "ftp://h"]
    {
        assert!(SignInGate::new(origin, &SECRET, Arc::clone(&store)).is_err(), "{origin}");
    }
}
