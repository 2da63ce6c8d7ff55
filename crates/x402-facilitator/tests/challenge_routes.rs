//! `/initiate`, `/verify` and `/settle` in the x402.v1 dialect, over HTTP, settled on a chain.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod support;

use std::sync::Arc;

use serde_json::{Value, json};
use x402_challenge::{Bind, BoundRequest, ChallengeOffer, Charge, answer, exact_nonce, issue, terms};
use x402_codec::challenge as codec;
use x402_devchain::{ACCOUNTS, TOKEN, signer};
use x402_evm::exact::Payer;
use x402_facilitator::clock::now;
use x402_facilitator::dev::DevFacilitator;
use x402_facilitator::routes::Routes;
use x402_types::challenge::{Challenge, Networks, Payment, Proof, ProofKind};
use x402_types::{Assets, MakePayment, SigningContext, TimeoutSeconds};

use crate::support::{SELLER, send, tls};

const REQUEST: BoundRequest<'static> =
    BoundRequest { method: "GET", host: "api.example.com", path: "/api/protected", query: None, body_sha256: None };
const BUYER: usize = 1;

async fn start() -> DevFacilitator {
    tls();
    DevFacilitator::start(([127, 0, 0, 1], 0).into(), |routes| routes).await.unwrap()
}

fn challenge(n: u8) -> Challenge {
    let offer = ChallengeOffer {
        network: "evm:base:sepolia".parse().unwrap(),
        asset: TOKEN.into(),
        pay_to: ACCOUNTS[SELLER].address.into(),
        amount: 1000.into(),
        charge: Charge::Exact,
        timeout: TimeoutSeconds::try_from(60).unwrap(),
        resource: "urn:res:abc123".parse().unwrap(),
        // As the document's sample has it, and a member that nobody here knows.
        meta: serde_json::from_str(r#"{"description": "One-off access", "later": [1]}"#).unwrap(),
        bind: Bind::default(),
    };
    issue(&offer, &REQUEST, [n; 16]).unwrap()
}

async fn ask(facilitator: &DevFacilitator, end: &str, body: &Value) -> (u16, Value) {
    send(&format!("{}/{end}", facilitator.url()), body.to_string(), None).await
}

async fn ticket(facilitator: &DevFacilitator, challenge: &Challenge) -> String {
    let (status, said) = ask(facilitator, "initiate", &json!({"action": "initiate", "challenge": challenge})).await;
    assert_eq!(status, 200, "{said}");
    said["ticket"].as_str().unwrap().to_owned()
}

/// The payment of a challenge by a ticket, signed for what `signed` asks.
async fn payment(challenge: &Challenge, signed: &Challenge, ticket: &str, n: u8) -> Payment {
    let mut payment = answer(challenge, Proof::new(ProofKind::Facilitator), [n; 16], now());
    let entropy = exact_nonce(&payment);
    let context = SigningContext { now: now(), entropy, url: "https://api.example.com/api/protected", method: "GET" };
    let terms = terms(signed, &Networks::default(), &Assets::default()).unwrap();
    let made = Payer::new(signer(BUYER).unwrap()).make_payment(&terms, &context).await.unwrap();
    payment.proof.ticket = Some(ticket.into());
    payment.proof.payload = Some(made.payload);
    payment
}

fn header(payment: &Payment) -> String {
    codec::encode_payment(payment).unwrap().to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_ticket_is_verified_and_settled_once() {
    let facilitator = start().await;
    let challenge = challenge(1);
    let (status, said) = ask(&facilitator, "initiate", &json!({"action": "initiate", "challenge": challenge})).await;
    let url = |end: &str| json!(format!("{}/{end}", facilitator.url()));
    assert_eq!((status, &said["verifyUrl"], &said["settleUrl"]), (200, &url("verify"), &url("settle")));
    let payment = payment(&challenge, &challenge, said["ticket"].as_str().unwrap(), 1).await;

    let body = |action: &str| json!({"action": action, "header": header(&payment)});
    let with_challenge = json!({"action": "settle", "header": header(&payment), "challenge": challenge});
    let (status, verified) = ask(&facilitator, "verify", &body("verify")).await;
    let details = json!({
        "challengeId": challenge.challenge_id, "network": "evm:base:sepolia", "asset": challenge.asset,
        "payTo": challenge.pay_to, "amount": "1000", "payer": ACCOUNTS[BUYER].address.to_checksum(None),
    });
    assert_eq!((status, &verified), (200, &json!({"ok": true, "resource": "urn:res:abc123", "details": details})));
    assert_eq!(facilitator.chain().transfers().len(), 0, "nothing moved");

    // Both at once: one is told the success, the other that it is used. One transfer.
    let settle = body("settle");
    let both = tokio::join!(ask(&facilitator, "settle", &settle), ask(&facilitator, "settle", &with_challenge));
    let (told, used): (Vec<_>, Vec<_>) = [both.0, both.1].into_iter().partition(|one| one.1["ok"] == json!(true));
    let [again] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(used[0].1["reason"], "replay", "{used:?}");
    // Whoever asks without a name is not told again. Under the payment's own name, as our servers ask, it is the same.
    for body in [&settle, &with_challenge] {
        assert_eq!(ask(&facilitator, "settle", body).await.1["reason"], "replay");
    }
    let named = async |body: &Value, key: &str| {
        send(&format!("{}/settle", facilitator.url()), body.to_string(), Some(key)).await
    };
    let name = format!("x402.v1:{}", x402_challenge::payment_digest(&payment).unwrap());
    assert_eq!(named(&with_challenge, &name).await, *again);
    assert_eq!(named(&with_challenge, "another").await.1["reason"], "replay");
    let second = self::payment(&challenge, &challenge, said["ticket"].as_str().unwrap(), 2).await;
    let second = json!({"action": "settle", "header": header(&second)});
    let (status, taken) = named(&second, &name).await;
    assert_eq!((status, &taken["ok"], &taken["reason"]), (409, &json!(false), &json!("replay")));
    let transfers = facilitator.chain().transfers();
    assert_eq!(transfers.len(), 1);
    assert_eq!((transfers[0].from, transfers[0].to), (ACCOUNTS[BUYER].address, ACCOUNTS[SELLER].address));
    assert_eq!(transfers[0].value.to_string(), "1000");
    assert_eq!(again.1["details"]["transaction"], transfers[0].transaction.to_string());
    let (_, used) = ask(&facilitator, "verify", &body("verify")).await;
    assert_eq!((&used["ok"], &used["reason"]), (&json!(false), &json!("replay")));
    facilitator.stop().await;
}

#[tokio::test]
async fn what_nothing_here_settles_gets_no_ticket() {
    let facilitator = start().await;
    let with = |member: &str, value: Value| {
        let mut other = serde_json::to_value(challenge(1)).unwrap();
        other[member] = value;
        json!({"action": "initiate", "challenge": other})
    };
    for (body, reason, names) in [
        (with("network", json!("evm:nowhere:dev")), "mismatch", "network"),
        (with("network", json!("evm:polygon:mainnet")), "mismatch", "asset"),
        (with("asset", json!("0x742d35Cc6634C0532925a3b844Bc9e7595f0bEb0")), "mismatch", "asset"),
        (with("scheme", json!("upto")), "mismatch", "scheme"),
        (with("resource", json!("r".repeat(1024))), "invalid_schema", "challenge.resource"),
        (with("payTo", json!("me")), "invalid_schema", "$"),
        (json!({"action": "initiate"}), "invalid_schema", "challenge"),
        (json!({"action": "verify", "header": "x"}), "invalid_schema", "action"),
        (json!({"action": "pay"}), "invalid_schema", "$"),
        (json!({}), "invalid_schema", "$"),
        (json!([]), "invalid_schema", "$"),
    ] {
        let (status, said) = ask(&facilitator, "initiate", &body).await;
        assert_eq!((status, &said["ok"], &said["reason"]), (400, &json!(false), &json!(reason)), "{body}: {said}");
        let message = said["details"]["message"].as_str().unwrap();
        assert!(message.contains(names), "{message} names {names}");
    }
    let (status, said) = ask(&facilitator, "initiate", &json!({"more": "x".repeat(70_000)})).await;
    assert_eq!((status, &said["reason"]), (413, &json!("invalid_schema")));
    facilitator.stop().await;
}

#[tokio::test]
async fn refusals_by_name() {
    let facilitator = start().await;
    let (first, second) = (challenge(1), challenge(2));
    let good = ticket(&facilitator, &first).await;
    let paid = payment(&first, &first, &good, 1).await;
    let with = |change: &dyn Fn(&mut Payment)| {
        let mut other = paid.clone();
        change(&mut other);
        header(&other)
    };
    let mut selfish = first.clone();
    selfish.pay_to = ACCOUNTS[BUYER].address.into();
    let forged = ticket(&facilitator, &selfish).await;
    let to_himself = payment(&first, &selfish, &forged, 2).await;
    for (header, code, names) in [
        ("not base64!".to_owned(), "invalid_schema", ""),
        (with(&|p| p.version = "x402.v2".parse().unwrap()), "mismatch", "version"),
        (with(&|p| p.challenge_id = second.challenge_id.clone()), "mismatch", "challengeId"),
        (with(&|p| p.network = "evm:base:mainnet".parse().unwrap()), "mismatch", "network"),
        (with(&|p| p.paid_amount = 999.into()), "insufficient", "paidAmount"),
        (with(&|p| p.paid_amount = 1001.into()), "verification_failed", "nonce"),
        (with(&|p| p.nonce = "another".parse().unwrap()), "verification_failed", "nonce"),
        (with(&|p| p.payer = Some(ACCOUNTS[3].address.into())), "verification_failed", ""),
        (with(&|p| p.proof.payload = None), "verification_failed", "proof.payload"),
        (with(&|p| p.proof.ticket = Some("e30".into())), "verification_failed", "proof.ticket"),
        (with(&|p| p.proof.ticket = Some("x".repeat(1025).into())), "verification_failed", "proof.ticket"),
        (with(&|p| p.proof.kind = ProofKind::Exact), "verification_failed", "proof.type"),
        (header(&to_himself), "mismatch", "proof.ticket"),
    ] {
        for end in ["verify", "settle"] {
            let body = json!({"action": end, "header": header, "challenge": first});
            let (status, said) = ask(&facilitator, end, &body).await;
            assert_eq!((status, &said["ok"], &said["reason"]), (200, &json!(false), &json!(code)), "{said}");
            assert!(said["details"]["message"].as_str().unwrap().contains(names), "{said}");
        }
    }
    // A seller that does not send its challenge is told who is paid.
    let body = json!({"action": "verify", "header": header(&to_himself)});
    let (_, said) = ask(&facilitator, "verify", &body).await;
    assert_eq!(said["details"]["payTo"], json!(ACCOUNTS[BUYER].address.to_checksum(None)));
    // An authorization moves one sum.
    let body = json!({"action": "settle", "header": header(&paid), "amount": "500"});
    let (status, said) = ask(&facilitator, "settle", &body).await;
    assert_eq!((status, &said["reason"]), (200, &json!("mismatch")));
    // Bodies that say another action, or nothing that can be read.
    for (end, body) in [
        ("verify", json!({"action": "settle", "header": header(&paid)})),
        ("settle", json!({"action": "verify", "header": header(&paid)})),
        ("verify", json!({"action": "verify"})),
        ("verify", json!({"action": 7, "header": header(&paid)})),
    ] {
        let (status, said) = ask(&facilitator, end, &body).await;
        assert_eq!((status, &said["reason"]), (400, &json!("invalid_schema")), "{end} {body}");
    }
    assert_eq!(facilitator.chain().transfers().len(), 0);
    facilitator.stop().await;
}

/// Payers ask for tickets, and have no token; what moves money asks for one.
#[tokio::test]
async fn only_callers_verify_and_settle() {
    let facilitator = start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let app = Routes::new(Arc::clone(facilitator.engine()))
        .with_caller("shop", "secret-token".to_owned().into())
        .into_router();
    let serving = tokio::spawn(axum::serve(listener, app).into_future());
    let challenge = challenge(1);
    let asked = json!({"action": "initiate", "challenge": challenge}).to_string();
    let (status, said) = send(&format!("{origin}/initiate"), asked, None).await;
    assert_eq!(status, 200);
    let paid = payment(&challenge, &challenge, said["ticket"].as_str().unwrap(), 1).await;
    for end in ["verify", "settle"] {
        let body = json!({"action": end, "header": header(&paid)}).to_string();
        assert_eq!(send(&format!("{origin}/{end}"), body, None).await.0, 401);
    }
    serving.abort();
    facilitator.stop().await;
}
