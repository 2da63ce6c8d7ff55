//! The `facilitator` proof of the x402.v1 dialect, against a facilitator on a loopback socket.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use serde_json::{Value, json};
use x402_challenge::{
    Bind, BoundRequest, ChallengeOffer, Charge, CheckError, Gate, Granted, MemoryStore, MeterError, Proofs, answer,
};
use x402_http::remote::Timeouts;
use x402_http::ticket::TicketFacilitator;
use x402_types::challenge::{Challenge, Code, Payment, Proof, ProofKind};
use x402_types::{TimeoutSeconds, UnixSeconds};

/// 2025-10-19T12:00:00Z.
const NOW: UnixSeconds = UnixSeconds(1_760_875_200);
const REQUEST: BoundRequest<'static> =
    BoundRequest { method: "GET", host: "api.example.com", path: "/api/protected", query: None, body_sha256: None };

/// Answers what it was told to, in order, and remembers what it was asked.
#[derive(Clone, Default)]
struct Desk {
    answers: Arc<Mutex<VecDeque<(u16, String)>>>,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Desk {
    async fn serve(&self) -> String {
        let app = Router::new().fallback(any(Self::asked)).with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        format!("http://{address}")
    }

    async fn asked(State(desk): State<Self>, uri: Uri, body: String) -> Response {
        desk.asked.lock().unwrap().push((uri.path().to_owned(), serde_json::from_str(&body).unwrap()));
        let next = desk.answers.lock().unwrap().pop_front();
        let Some((status, text)) = next else {
            return core::future::pending().await;
        };
        let status = StatusCode::from_u16(status).unwrap();
        (status, [(header::LOCATION, "/elsewhere")], text).into_response()
    }

    fn will(&self, answers: impl IntoIterator<Item = (u16, Value)>) {
        self.answers.lock().unwrap().extend(answers.into_iter().map(|(status, json)| (status, json.to_string())));
    }

    /// The paths that were asked since the last time.
    fn paths(&self) -> Vec<String> {
        self.asked.lock().unwrap().drain(..).map(|(path, _)| path).collect()
    }
}

fn ok() -> (u16, Value) {
    (
        200,
        json!({"ok": true, "resource": "urn:res:abc123", "details": {"any": 1, "payTo": "0x90f79bf6eb2c4f870365e785982e1f101e93b906"}}),
    )
}

fn offer(charge: Charge) -> ChallengeOffer {
    ChallengeOffer {
        network: "evm:base:sepolia".parse().unwrap(),
        asset: "0x036CbD53842c5426634e7929541eC2318f3dCF7e".parse().unwrap(),
        pay_to: "0x90F79bf6EB2c4f870365E785982E1f101E93b906".parse().unwrap(),
        amount: "1000".parse().unwrap(),
        charge,
        timeout: TimeoutSeconds::try_from(300).unwrap(),
        resource: "urn:res:abc123".parse().unwrap(),
        meta: None,
        bind: Bind::default(),
    }
}

struct Stage {
    desk: Desk,
    /// Where the client says the facilitator is.
    trap: Desk,
    url: String,
    gate: Gate,
    /// The same, for a server that does not wait for its facilitator.
    impatient: Gate,
}

async fn stage(dress: impl FnOnce(TicketFacilitator) -> TicketFacilitator) -> Stage {
    let (desk, trap) = (Desk::default(), Desk::default());
    let (base, url) = (desk.serve().await, trap.serve().await);
    let facilitator = |timeouts| TicketFacilitator::with_timeouts(&format!("{base}/x402/"), timeouts).unwrap();
    let proofs = Proofs::default().with(Arc::new(dress(facilitator(Timeouts::DEFAULT)))).unwrap();
    let soon = Timeouts { verify: Duration::from_millis(20), settle: Duration::from_millis(20), ..Timeouts::DEFAULT };
    let impatient = Proofs::default().with(Arc::new(facilitator(soon))).unwrap();
    let store = Arc::new(MemoryStore::default());
    Stage { desk, trap, url, gate: Gate::new(store.clone(), proofs), impatient: Gate::new(store, impatient) }
}

impl Stage {
    async fn challenge(&self, n: u8, charge: Charge) -> Challenge {
        self.gate.issue(&offer(charge), &REQUEST, [n; 16], NOW).await.unwrap()
    }

    /// A payment whose proof names URLs of the client's choosing.
    async fn payment(&self, n: u8, charge: Charge) -> Payment {
        let proof = Proof {
            ticket: Some(format!("ticket-{n}").into()),
            verify_url: Some(format!("{}/verify", self.url).into()),
            settle_url: Some(format!("{}/settle", self.url).into()),
            ..Proof::new(ProofKind::Facilitator)
        };
        answer(&self.challenge(n, charge).await, proof, [n; 16], NOW)
    }

    async fn check(&self, payment: &Payment, charge: Charge) -> Result<Granted, CheckError> {
        self.gate.check_payment(payment.clone(), &offer(charge), &REQUEST, None, NOW).await
    }

    async fn refused(&self, payment: &Payment) -> (Code, String) {
        match self.check(payment, Charge::Exact).await {
            Err(CheckError::Refused(refused)) => (refused.code, refused.message.into()),
            other => panic!("not refused: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_ticket_is_verified_and_settled_where_the_server_says() {
    let stage = stage(|facilitator| facilitator).await;
    let payment = stage.payment(1, Charge::Exact).await;
    stage.desk.will([ok(), ok()]);
    let granted = stage.check(&payment, Charge::Exact).await.unwrap();
    let challenge = serde_json::to_value(&granted.challenge).unwrap();
    assert!(granted.proof.unwrap().0.ends_with("/x402:ticket-1"));
    let header = x402_codec::challenge::encode_payment(&payment).unwrap();
    let header = header.to_str().unwrap();
    let asked = stage.desk.asked.lock().unwrap().clone();
    let expected = [
        ("/x402/verify".to_owned(), json!({"action": "verify", "header": header, "challenge": challenge})),
        ("/x402/settle".to_owned(), json!({"action": "settle", "header": header, "challenge": challenge})),
    ];
    assert_eq!(asked, expected);
    assert_eq!(stage.trap.paths(), [""; 0], "a URL in the proof was called");
}

#[tokio::test]
async fn a_facilitator_that_settles_at_verification_is_asked_once() {
    let stage = stage(TicketFacilitator::with_verification_only).await;
    stage.desk.will([ok()]);
    assert!(stage.check(&stage.payment(1, Charge::Exact).await, Charge::Exact).await.is_ok());
    assert_eq!(stage.desk.paths(), ["/x402/verify"]);
}

#[tokio::test]
async fn a_ticket_is_asked_for_by_challenge() {
    let desk = Desk::default();
    let facilitator = TicketFacilitator::new(&desk.serve().await).unwrap();
    let stage = stage(|facilitator| facilitator).await;
    let challenge = stage.challenge(1, Charge::Exact).await;
    desk.will([
        (200, json!({"ticket": "t", "verifyUrl": "https://f.example/v", "settleUrl": "https://f.example/s"})),
        (200, json!({"ticket": ""})),
        (200, json!({"verifyUrl": "https://f.example/v"})),
        (500, json!({"ticket": "t"})),
    ]);
    let proof = facilitator.initiate(&challenge).await.unwrap();
    assert_eq!(proof.ticket.as_deref(), Some("t"));
    assert_eq!(
        *desk.asked.lock().unwrap(),
        [("/initiate".to_owned(), json!({"action": "initiate", "challenge": challenge}))]
    );
    for _ in 0..3 {
        assert!(facilitator.initiate(&challenge).await.is_err());
    }
}

#[tokio::test]
async fn a_reason_is_the_code_of_its_name() {
    let stage = stage(|facilitator| facilitator).await;
    let payment = stage.payment(1, Charge::Exact).await;
    for code in Code::ALL {
        stage.desk.will([(200, json!({"ok": false, "reason": code.as_str()}))]);
        assert_eq!(stage.refused(&payment).await.0, *code);
    }
    for reason in [json!("declined\r\nX-Evil: 1"), json!(""), json!("REPLAY"), Value::Null] {
        stage.desk.will([(200, json!({"ok": false, "reason": reason}))]);
        let (code, message) = stage.refused(&payment).await;
        assert_eq!(code, Code::VerificationFailed);
        assert!(!message.contains('\n'), "{message}");
    }
    // A yes to something else: the payer's own address, another challenge.
    for other in [
        json!({"ok": true, "resource": "urn:res:other"}),
        json!({"ok": true, "details": {"payTo": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"}}),
        json!({"ok": true, "details": {"asset": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"}}),
        json!({"ok": true, "details": {"network": "evm:base:mainnet"}}),
        json!({"ok": true, "details": {"challengeId": "919108f7-52d1-4320-9bac-f847db4148a8"}}),
    ] {
        stage.desk.will([(200, other)]);
        assert_eq!(stage.refused(&payment).await.0, Code::Mismatch);
    }
    // Refused when it is to be settled, too; then another may be made.
    stage.desk.will([ok(), (200, json!({"ok": false, "reason": "expired"}))]);
    assert_eq!(stage.refused(&payment).await.0, Code::Expired);
    // None of it consumed anything.
    stage.desk.will([ok(), ok()]);
    assert!(stage.check(&payment, Charge::Exact).await.is_ok());
}

/// What cannot be read says nothing, neither yes nor no.
#[tokio::test]
async fn other_answers_are_faults_and_consume_nothing() {
    let stage = stage(|facilitator| facilitator).await;
    let payment = stage.payment(1, Charge::Exact).await;
    let bad = [
        (500, json!({"ok": true})),
        (404, json!({"ok": false, "reason": "expired"})),
        (302, json!({"ok": true})),
        (200, json!({})),
        (200, json!({"ok": "true"})),
        (200, json!([true])),
        (200, json!("x".repeat(70_000))),
    ];
    for (status, body) in bad {
        stage.desk.will([(status, body.clone())]);
        let error = stage.check(&payment, Charge::Exact).await.unwrap_err();
        assert_eq!((error.status(), error.retry_after()), (503, Some(1)), "{status} {body}");
    }
    stage.desk.answers.lock().unwrap().push_back((200, r#"{"ok":true,"ok":false}"#.into()));
    assert_eq!(stage.check(&payment, Charge::Exact).await.unwrap_err().status(), 503);
    // No answer at all.
    let error = stage.impatient.check_payment(payment.clone(), &offer(Charge::Exact), &REQUEST, None, NOW).await;
    assert_eq!(error.unwrap_err().status(), 503);
    assert!(stage.desk.paths().iter().all(|path| path == "/x402/verify"));
    stage.desk.will([ok(), ok()]);
    assert!(stage.check(&payment, Charge::Exact).await.is_ok());
}

/// The answer to `settle` is lost: the payment is settled again and not verified again, and no other gets in.
#[tokio::test]
async fn a_settlement_that_was_not_heard_of_is_asked_for_again() {
    let stage = stage(|facilitator| facilitator).await;
    let payment = stage.payment(1, Charge::Exact).await;
    stage.desk.will([ok(), (502, json!({}))]);
    assert_eq!(stage.check(&payment, Charge::Exact).await.unwrap_err().status(), 503);
    let other = Payment { nonce: "another".parse().unwrap(), ..payment.clone() };
    assert_eq!(stage.refused(&other).await.0, Code::Replay);
    // "Replay" may be our own settlement.
    stage.desk.will([(200, json!({"ok": false, "reason": "replay"}))]);
    assert_eq!(stage.check(&payment, Charge::Exact).await.unwrap_err().status(), 503);
    stage.desk.will([ok()]);
    assert!(stage.check(&payment, Charge::Exact).await.is_ok());
    let end = "/x402/settle";
    assert_eq!(stage.desk.paths(), ["/x402/verify", end, end, end]);
}

/// What was settled for something else has moved money: it is not known whose, so no other payment is let in.
#[tokio::test]
async fn a_settlement_of_something_else_is_not_a_refusal() {
    let stage = stage(|facilitator| facilitator).await;
    let payment = stage.payment(1, Charge::Exact).await;
    stage.desk.will([ok(), (200, json!({"ok": true, "resource": "urn:res:other"}))]);
    assert_eq!(stage.check(&payment, Charge::Exact).await.unwrap_err().status(), 503);
    let other = Payment { nonce: "another".parse().unwrap(), ..payment.clone() };
    assert_eq!(stage.refused(&other).await.0, Code::Replay);
    stage.desk.will([ok()]);
    assert!(stage.check(&payment, Charge::Exact).await.is_ok());
}

#[tokio::test]
async fn a_metered_payment_is_settled_for_what_was_used() {
    let stage = stage(|facilitator| facilitator).await;
    let payment = stage.payment(1, Charge::UpTo).await;
    stage.desk.will([ok()]);
    let granted = stage.check(&payment, Charge::UpTo).await.unwrap();
    let (challenge, meter) = (serde_json::to_value(&granted.challenge).unwrap(), granted.meter.unwrap());
    assert_eq!(stage.desk.paths(), ["/x402/verify"]);
    meter.add(7.into(), NOW).await.unwrap();
    meter.add(35.into(), NOW).await.unwrap();
    stage.desk.will([(503, json!({})), ok()]);
    assert!(matches!(stage.gate.settle(meter.id(), NOW).await, Err(MeterError::Fault(_))));
    assert_eq!(stage.gate.settle(meter.id(), NOW).await, Ok(42.into()));
    let header = x402_codec::challenge::encode_payment(&payment).unwrap();
    let header = header.to_str().unwrap();
    let settle = json!({"action": "settle", "header": header, "challenge": challenge, "amount": "42"});
    let asked = stage.desk.asked.lock().unwrap().clone();
    assert_eq!(asked, [("/x402/settle".to_owned(), settle.clone()), ("/x402/settle".to_owned(), settle)]);
}

#[tokio::test]
async fn a_ticket_pays_one_challenge() {
    let stage = stage(|facilitator| facilitator).await;
    let first = stage.payment(1, Charge::Exact).await;
    let second = Payment { proof: first.proof.clone(), ..stage.payment(2, Charge::Exact).await };
    stage.desk.will([ok(), ok(), ok(), ok()]);
    assert!(stage.check(&first, Charge::Exact).await.is_ok());
    assert_eq!(stage.refused(&second).await.1, "proof: used before");
}

#[test]
fn an_address_is_plain() {
    for bad in
        ["", "ftp://f.example", "http://user@f.example", "http://f.example/?a=1", "http://f.example/#a", "f.example"]
    {
        assert!(TicketFacilitator::new(bad).is_err(), "{bad:?}");
    }
}
