//! The table of refusals, row by row, and its order.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use serde_json::json;
use x402_challenge::{
    Bind, BoundRequest, ChallengeRefusal, Evidence, Gate, MemoryStore, MockProof, ProofError, ProofKey, Proofs, Proven,
    UnnamedMock, VerifyProof, body_sha256,
};
use x402_types::challenge::{Code, Payment, Proof, ProofKind};
use x402_types::{AtomicAmount, Fault, UnixSeconds};

mod common;
use common::{NOW, REQUEST, block_on, challenge, check, gate, offer, payment, refused};

fn code(code: Code, field: &str) -> (Code, String) {
    (code, field.to_owned())
}

#[test]
fn statuses_of_the_document() {
    for (code, status) in [
        ("expired", 402),
        ("insufficient", 402),
        ("mismatch", 402),
        ("replay", 409),
        ("invalid_schema", 400),
        ("invalid_binding", 400),
        ("verification_failed", 402),
    ] {
        assert_eq!(code.parse::<Code>().unwrap().status(), status);
    }
}

#[test]
fn invalid_schema() {
    let gate = gate();
    let good = payment(&challenge(&gate, 1), 1, NOW);
    let header = x402_codec::challenge::encode_payment(&good).unwrap();
    let header = header.to_str().unwrap();
    let with = |field: &str, value: serde_json::Value| {
        let mut json = serde_json::to_value(&good).unwrap();
        json[field] = value;
        x402_codec::base64::encode(json.to_string().as_bytes())
    };
    for (value, place) in [
        ("A".repeat(4097), "byte 4096"),
        (format!("{header}\r\nX-Other: 1"), ""),
        (format!("{header}\n"), ""),
        ("not base64!".to_owned(), ""),
        (x402_codec::base64::encode(b"{"), ""),
        (x402_codec::base64::encode(b"[]"), "$"),
        (String::new(), ""),
        (with("proof", json!({"type": "card"})), "$.proof.type"),
        (with("paidAmount", json!("01000")), "$.paidAmount"),
        (with("paidAmount", json!(1000)), "$.paidAmount"),
        (with("issuedAt", json!("2025-10-19T12:00:00")), "$.issuedAt"),
        (with("nonce", json!("a\r\nb")), "$.nonce"),
    ] {
        let result = block_on(gate.check(value.as_bytes(), &offer(), &REQUEST, None, NOW)).map(drop);
        let (found, field) = refused(result);
        assert_eq!(found, Code::InvalidSchema, "{value}");
        assert!(field.starts_with(place), "{field} is not {place}");
    }
    assert_eq!(check(&gate, &good, &REQUEST, NOW), Ok(()));
}

#[test]
fn mismatch_of_the_version() {
    let gate = gate();
    let mut other = payment(&challenge(&gate, 1), 1, NOW);
    other.version = "x402.v2".parse().unwrap();
    assert_eq!(refused(check(&gate, &other, &REQUEST, NOW)), code(Code::Mismatch, "version"));
}

#[test]
fn expired() {
    let gate = gate();
    let challenge = challenge(&gate, 1);
    let mut unknown = payment(&challenge, 1, NOW);
    unknown.challenge_id = "919108f7-52d1-4320-9bac-f847db4148a8".parse().unwrap();
    assert_eq!(refused(check(&gate, &unknown, &REQUEST, NOW)), code(Code::Expired, "challengeId"));
    // The challenge can be paid to its last second, 300 s after it was issued.
    let late = payment(&challenge, 1, NOW.plus(301));
    assert_eq!(refused(check(&gate, &late, &REQUEST, NOW.plus(301))), code(Code::Expired, "challengeId"));
    for (issued_at, now) in [(0, 61), (161, 100)] {
        let payment = payment(&challenge, 1, NOW.plus(issued_at));
        assert_eq!(refused(check(&gate, &payment, &REQUEST, NOW.plus(now))), code(Code::Expired, "issuedAt"));
    }
    for far in ["1970-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2025-10-19T12:01:00.5Z"] {
        let mut payment = payment(&challenge, 1, NOW);
        payment.issued_at = far.parse().unwrap();
        assert_eq!(refused(check(&gate, &payment, &REQUEST, NOW)), code(Code::Expired, "issuedAt"));
    }
    assert_eq!(check(&gate, &payment(&challenge, 1, NOW.plus(300)), &REQUEST, NOW.plus(300)), Ok(()));
}

#[test]
fn the_skew_is_inclusive_both_ways() {
    for (issued_at, now) in [(0, 60), (60, 0)] {
        let gate = gate();
        let payment = payment(&challenge(&gate, 1), 1, NOW.plus(issued_at));
        assert_eq!(check(&gate, &payment, &REQUEST, NOW.plus(now)), Ok(()));
    }
}

#[test]
fn mismatch_of_scheme_network_and_asset() {
    let gate = gate();
    let good = payment(&challenge(&gate, 1), 1, NOW);
    let mut bad = good.clone();
    bad.scheme = "upto".parse().unwrap();
    assert_eq!(refused(check(&gate, &bad, &REQUEST, NOW)), code(Code::Mismatch, "scheme"));
    let mut bad = good.clone();
    bad.network = "evm:base:mainnet".parse().unwrap();
    assert_eq!(refused(check(&gate, &bad, &REQUEST, NOW)), code(Code::Mismatch, "network"));
    let mut bad = good.clone();
    bad.asset = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913".parse().unwrap();
    assert_eq!(refused(check(&gate, &bad, &REQUEST, NOW)), code(Code::Mismatch, "asset"));
    // The case of an address says nothing.
    let mut lower = good;
    lower.asset = "0x036cbd53842c5426634e7929541ec2318f3dcf7e".parse().unwrap();
    assert_eq!(check(&gate, &MockProof::sign(lower), &REQUEST, NOW), Ok(()));
}

#[test]
fn insufficient_by_one_unit() {
    let gate = gate();
    let mut payment = payment(&challenge(&gate, 1), 1, NOW);
    payment.paid_amount = "999".parse().unwrap();
    let short = MockProof::sign(payment.clone());
    assert_eq!(refused(check(&gate, &short, &REQUEST, NOW)), code(Code::Insufficient, "paidAmount"));
    payment.paid_amount = "1001".parse().unwrap();
    assert_eq!(check(&gate, &MockProof::sign(payment), &REQUEST, NOW), Ok(()));
}

#[test]
fn invalid_binding() {
    let gate = gate();
    let payment = payment(&challenge(&gate, 1), 1, NOW);
    for other in [
        BoundRequest { method: "POST", ..REQUEST },
        BoundRequest { method: "get", ..REQUEST },
        BoundRequest { method: "", ..REQUEST },
        BoundRequest { host: "example.com", ..REQUEST },
        BoundRequest { host: "api.example.com:8080", ..REQUEST },
        BoundRequest { host: "", ..REQUEST },
        BoundRequest { path: "/api/other", ..REQUEST },
        BoundRequest { path: "/api/x/../protected", ..REQUEST },
        BoundRequest { path: "/api%2fprotected", ..REQUEST },
        BoundRequest { path: "/api/protected/", ..REQUEST },
        BoundRequest { path: "", ..REQUEST },
    ] {
        let (found, _) = refused(check(&gate, &payment, &other, NOW));
        assert_eq!(found, Code::InvalidBinding, "{other:?}");
    }
    let mut elsewhere = offer();
    elsewhere.resource = "urn:res:other".parse().unwrap();
    let header = x402_codec::challenge::encode_payment(&payment).unwrap();
    let result = block_on(gate.check(header.as_bytes(), &elsewhere, &REQUEST, None, NOW)).map(drop);
    assert_eq!(refused(result), code(Code::InvalidBinding, "resource"));
    // The query is not bound unless a switch says so; the host's spelling says nothing.
    let same = BoundRequest { host: "API.example.com.:443", query: Some("page=2"), ..REQUEST };
    assert_eq!(check(&gate, &payment, &same, NOW), Ok(()));
}

#[test]
fn invalid_binding_of_body_and_query() {
    let gate = gate();
    let mut offer = offer();
    offer.bind = Bind { query: true, body: true };
    let asked = BoundRequest { method: "POST", query: Some("a=1"), body_sha256: Some(body_sha256(b"abc")), ..REQUEST };
    let challenge = block_on(gate.issue(&offer, &asked, [1; 16], NOW)).unwrap();
    let header = x402_codec::challenge::encode_payment(&payment(&challenge, 1, NOW)).unwrap();
    let check =
        |request: &BoundRequest<'_>| block_on(gate.check(header.as_bytes(), &offer, request, None, NOW)).map(drop);
    for other in [
        BoundRequest { body_sha256: Some(body_sha256(b"abd")), ..asked },
        BoundRequest { body_sha256: None, ..asked },
        BoundRequest { query: Some("a=2"), ..asked },
        BoundRequest { query: None, ..asked },
    ] {
        assert_eq!(refused(check(&other)).0, Code::InvalidBinding, "{other:?}");
    }
    assert_eq!(check(&asked), Ok(()));
}

#[test]
fn replay() {
    let gate = gate();
    let (first, second) = (challenge(&gate, 1), challenge(&gate, 2));
    let paid = payment(&first, 1, NOW);
    assert_eq!(check(&gate, &paid, &REQUEST, NOW), Ok(()));
    assert_eq!(refused(check(&gate, &paid, &REQUEST, NOW)), code(Code::Replay, "challengeId"));
    // A new nonce does not reopen it, a new time neither.
    let again = payment(&first, 2, NOW.plus(10));
    assert_eq!(refused(check(&gate, &again, &REQUEST, NOW.plus(10))), code(Code::Replay, "challengeId"));
    // The nonce of one challenge does not pay another.
    let other = payment(&second, 1, NOW);
    assert_eq!(refused(check(&gate, &other, &REQUEST, NOW)), code(Code::Replay, "nonce"));
    assert_eq!(check(&gate, &payment(&second, 2, NOW), &REQUEST, NOW), Ok(()));
}

#[test]
fn a_future_dated_header_does_not_replay_after_its_window() {
    let gate = gate();
    let challenge = challenge(&gate, 1);
    let future = payment(&challenge, 1, NOW.plus(60));
    assert_eq!(check(&gate, &future, &REQUEST, NOW), Ok(()));
    let end = 300 + 2 * Gate::SKEW;
    for seconds in 1..=end {
        let now = NOW.plus(seconds);
        block_on(gate.store().forget(now)).unwrap();
        assert_eq!(refused(check(&gate, &future, &REQUEST, now)).0, Code::Replay, "after {seconds} s");
    }
    block_on(gate.store().forget(NOW.plus(end + 1))).unwrap();
    for seconds in [end + 1, end + 100_000] {
        assert_eq!(refused(check(&gate, &future, &REQUEST, NOW.plus(seconds))).0, Code::Expired);
    }
}

#[test]
fn verification_failed() {
    let gate = gate();
    let challenge = challenge(&gate, 1);
    let good = payment(&challenge, 1, NOW);
    let mut forged = good.clone();
    forged.proof.signature = Some("forged".into());
    assert_eq!(refused(check(&gate, &forged, &REQUEST, NOW)), code(Code::VerificationFailed, "proof.signature"));
    let mut off = good.clone();
    off.proof = Proof { ticket: Some("t".into()), ..Proof::new(ProofKind::Facilitator) };
    assert_eq!(refused(check(&gate, &off, &REQUEST, NOW)), code(Code::VerificationFailed, "proof.type"));
    // Neither consumed anything.
    assert_eq!(check(&gate, &good, &REQUEST, NOW), Ok(()));
}

#[test]
fn mock_is_refused_unless_switched_on_by_name() {
    let gate = Gate::new(Arc::new(MemoryStore::default()), Proofs::default());
    let challenge = challenge(&gate, 1);
    let result = check(&gate, &payment(&challenge, 1, NOW), &REQUEST, NOW);
    assert_eq!(refused(result), code(Code::VerificationFailed, "proof.type"));
    assert_eq!(Proofs::default().with(Arc::new(MockProof)).unwrap_err(), UnnamedMock);
}

/// Of two things that are wrong, the earlier row of the table answers.
#[test]
fn the_order_of_the_table() {
    let gate = gate();
    let challenge = challenge(&gate, 1);
    let elsewhere = BoundRequest { path: "/other", ..REQUEST };
    let mut worst = payment(&challenge, 1, NOW.plus(1000));
    worst.version = "x402.v0".parse().unwrap();
    worst.network = "evm:base:mainnet".parse().unwrap();
    worst.paid_amount = "1".parse().unwrap();
    worst.proof.signature = Some("forged".into());
    let mut next = |expected: Code, repair: &dyn Fn(&mut Payment)| {
        assert_eq!(refused(check(&gate, &worst, &elsewhere, NOW)).0, expected);
        repair(&mut worst);
    };
    next(Code::Mismatch, &|p| p.version = "x402.v1".parse().unwrap());
    next(Code::Expired, &|p| p.issued_at = "2025-10-19T12:00:00Z".parse().unwrap());
    next(Code::Mismatch, &|p| p.network = "evm:base:sepolia".parse().unwrap());
    next(Code::Insufficient, &|p| p.paid_amount = "1000".parse().unwrap());
    next(Code::InvalidBinding, &|_| {});
    assert_eq!(refused(check(&gate, &worst, &REQUEST, NOW)).0, Code::VerificationFailed);
    assert_eq!(check(&gate, &payment(&challenge, 1, NOW), &REQUEST, NOW), Ok(()));
    // Paid: a forged proof, or one whose time is long past, is a replay; another network is still a mismatch.
    assert_eq!(refused(check(&gate, &worst, &REQUEST, NOW)).0, Code::Replay);
    let old = payment(&challenge, 1, UnixSeconds(0));
    assert_eq!(refused(check(&gate, &old, &REQUEST, NOW)).0, Code::Replay);
    worst.network = "evm:base:mainnet".parse().unwrap();
    assert_eq!(refused(check(&gate, &worst, &REQUEST, NOW)).0, Code::Mismatch);
}

#[test]
fn a_fresh_challenge_stands_beside_a_402_only() {
    let gate = gate();
    let fresh = challenge(&gate, 7);
    for code in Code::ALL {
        let refused = ChallengeRefusal::new(*code, "why");
        let body = serde_json::to_value(refused.body(Some(&fresh))).unwrap();
        assert_eq!((body["error"].as_str(), body["message"].as_str()), (Some(code.as_str()), Some("why")));
        let text = body.to_string();
        if code.status() == 402 {
            assert_eq!(x402_codec::challenge::challenge(text.as_bytes()).unwrap().challenge_id, fresh.challenge_id);
        } else {
            assert_eq!(body, json!({"error": code.as_str(), "message": "why"}));
        }
        assert_eq!(x402_codec::challenge::refusal(text.as_bytes()).unwrap().error, *code);
        assert_eq!(
            serde_json::to_value(refused.body(None)).unwrap(),
            json!({"error": code.as_str(), "message": "why"})
        );
    }
}

/// A proof on a chain, down at its first call; it proves 1000 by a transaction.
struct Scripted(AtomicU32);

#[async_trait]
impl VerifyProof for Scripted {
    fn kind(&self) -> ProofKind {
        ProofKind::Onchain
    }

    async fn verify(&self, evidence: &Evidence<'_>, _: UnixSeconds) -> Result<Proven, ProofError> {
        if self.0.fetch_add(1, Ordering::Relaxed) == 0 {
            return Err(ProofError::Unmoved(Fault::unreachable("node", "refused")));
        }
        let key = evidence.payment.proof.tx_hash.clone().map(ProofKey);
        Ok(Proven { amount: AtomicAmount::from(1000), key })
    }
}

#[test]
fn a_fault_consumes_nothing_and_a_proof_pays_once() {
    let proofs = Proofs::default().with(Arc::new(Scripted(AtomicU32::new(0)))).unwrap();
    let gate = Gate::new(Arc::new(MemoryStore::default()), proofs);
    let by_transaction = |n: u8| {
        let mut payment = payment(&challenge(&gate, n), n, NOW);
        payment.proof =
            Proof { tx_hash: Some(format!("0x{}", "ab".repeat(32)).into()), ..Proof::new(ProofKind::Onchain) };
        payment
    };
    let first = by_transaction(1);
    let down = check(&gate, &first, &REQUEST, NOW).unwrap_err();
    assert_eq!((down.status(), down), (503, Fault::unreachable("node", "refused").into()));
    // More than the proof proves.
    let mut more = first.clone();
    more.paid_amount = "1001".parse().unwrap();
    assert_eq!(refused(check(&gate, &more, &REQUEST, NOW)), code(Code::VerificationFailed, "paidAmount"));
    assert_eq!(check(&gate, &first, &REQUEST, NOW), Ok(()));
    assert_eq!(refused(check(&gate, &by_transaction(2), &REQUEST, NOW)), code(Code::VerificationFailed, "proof"));
}
