//! Requests at once, and what a payment grants.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)]

use core::future::poll_fn;
use core::task::{Context, Poll, Waker};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier};

use async_trait::async_trait;
use x402_challenge::{
    Allowance, CheckError, EntitlementGrant, EntitlementToken, Evidence, Gate, MemoryStore, ProofError, Proofs, Proven,
    Spent, VerifyProof, answer,
};
use x402_types::UnixSeconds;
use x402_types::challenge::{Carrier, Code, Payment, Proof, ProofKind, ResourceName};

mod common;
use common::{NOW, REQUEST, block_on, challenge, check, gate, offer, payment, refused};

/// How many of the threads passed. Every other was refused as a replay, or told that this very payment is verified.
fn passed(gate: &Gate, payments: Vec<Payment>) -> usize {
    let start = Arc::new(Barrier::new(payments.len()));
    let threads: Vec<_> = payments
        .into_iter()
        .map(|payment| {
            let (gate, start) = (gate.clone(), Arc::clone(&start));
            std::thread::spawn(move || {
                start.wait();
                check(&gate, &payment, &REQUEST, NOW)
            })
        })
        .collect();
    let results: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    for result in &results {
        if let Err(error) = result {
            let replay = matches!(error, CheckError::Refused(refused) if refused.code == Code::Replay);
            assert!(replay || matches!(error, CheckError::Pending { retry_after: 121 }), "{error}");
        }
    }
    results.iter().filter(|result| result.is_ok()).count()
}

#[test]
fn of_200_requests_with_one_header_one_passes() {
    let gate = gate();
    let one = payment(&challenge(&gate, 1), 1, NOW);
    assert_eq!(passed(&gate, vec![one; 200]), 1);
}

#[test]
fn of_200_payments_of_one_challenge_one_passes() {
    let gate = gate();
    let challenge = challenge(&gate, 1);
    assert_eq!(passed(&gate, (0..200).map(|n| payment(&challenge, n, NOW)).collect()), 1);
}

#[test]
fn of_200_challenges_paid_with_one_nonce_one_passes() {
    let gate = gate();
    let payments = (0..200).map(|n| payment(&challenge(&gate, n), 1, NOW)).collect();
    assert_eq!(passed(&gate, payments), 1);
}

/// A proof that takes a while: its first poll waits.
struct Slow(AtomicU32);

#[async_trait]
impl VerifyProof for Slow {
    fn kind(&self) -> ProofKind {
        ProofKind::Facilitator
    }

    async fn verify(&self, evidence: &Evidence<'_>, _: UnixSeconds) -> Result<Proven, ProofError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let mut waited = false;
        poll_fn(|context| {
            context.waker().wake_by_ref();
            if core::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        Ok(Proven { amount: evidence.payment.paid_amount, key: None })
    }
}

/// Every request is started before the first one's proof is verified.
#[test]
fn while_a_proof_is_verified_no_other_is_asked_for() {
    let slow = Arc::new(Slow(AtomicU32::new(0)));
    let proofs = Proofs::default().with(slow.clone()).unwrap();
    let gate = Gate::new(Arc::new(MemoryStore::default()), proofs);
    let challenge = challenge(&gate, 1);
    let proof = Proof { ticket: Some("t".into()), ..Proof::new(ProofKind::Facilitator) };
    let offer = offer();
    let mut requests: Vec<_> = (0..200)
        .map(|n| answer(&challenge, proof.clone(), [n % 2; 16], NOW))
        .map(|payment| Box::pin(gate.check_payment(payment, &offer, &REQUEST, None, NOW)))
        .collect();
    let mut context = Context::from_waker(Waker::noop());
    let first: Vec<_> = requests.iter_mut().map(|request| request.as_mut().poll(&mut context)).collect();
    assert_eq!(first.iter().filter(|poll| poll.is_pending()).count(), 1);
    assert!(first[0].is_pending());
    for (n, poll) in first.iter().enumerate().skip(1) {
        match poll {
            Poll::Ready(Err(CheckError::Pending { retry_after: 121 })) if n % 2 == 0 => {}
            Poll::Ready(Err(CheckError::Refused(refused))) if n % 2 == 1 => assert_eq!(refused.code, Code::Replay),
            other => panic!("{n}: {other:?}"),
        }
    }
    assert!(matches!(requests[0].as_mut().poll(&mut context), Poll::Ready(Ok(_))));
    assert_eq!(slow.0.load(Ordering::Relaxed), 1);
}

#[test]
fn a_payment_grants_what_the_route_grants() {
    let gate = gate();
    let resource: ResourceName = "urn:res:abc123".parse().unwrap();
    let uses = [(Allowance::Once, Some(1)), (Allowance::Count(3), Some(3)), (Allowance::Unlimited, None)];
    for (n, (allowance, most)) in (1u8..).zip(uses) {
        let token = EntitlementToken::from_random([n; 16]);
        let grant = EntitlementGrant { token: token.clone(), carrier: Carrier::Cookie, allowance, ttl_seconds: 3600 };
        let payment = payment(&challenge(&gate, n), n, NOW);
        let header = x402_codec::challenge::encode_payment(&payment).unwrap();
        let granted = block_on(gate.check(header.as_bytes(), &offer(), &REQUEST, Some(&grant), NOW)).unwrap();
        let response = serde_json::to_value(&granted.response).unwrap();
        assert_eq!(response["entitlement"], serde_json::json!({"type": "cookie", "ttlSeconds": 3600}));
        let cookie = token.set_cookie(3600);
        let presented = EntitlementToken::presented(None, cookie.split(';').next()).unwrap();
        let spend = || block_on(gate.store().spend(&presented.hash(), &resource, NOW.plus(1))).unwrap();
        for used in 1..=most.unwrap_or(10) {
            assert_eq!(spend(), Spent::Good { left: most.map(|most| most - used) });
        }
        if most.is_some() {
            assert_eq!(spend(), Spent::Refused);
        }
    }
}

#[test]
fn a_refused_payment_grants_nothing() {
    let gate = gate();
    let token = EntitlementToken::from_random([1; 16]);
    let grant = EntitlementGrant {
        token: token.clone(),
        carrier: Carrier::Bearer,
        allowance: Allowance::Unlimited,
        ttl_seconds: 60,
    };
    let mut forged = payment(&challenge(&gate, 1), 1, NOW);
    forged.proof.signature = Some("forged".into());
    let header = x402_codec::challenge::encode_payment(&forged).unwrap();
    assert!(block_on(gate.check(header.as_bytes(), &offer(), &REQUEST, Some(&grant), NOW)).is_err());
    let resource = "urn:res:abc123".parse().unwrap();
    assert_eq!(block_on(gate.store().spend(&token.hash(), &resource, NOW)).unwrap(), Spent::Refused);
}

#[test]
fn a_full_store_makes_room_of_what_is_over() {
    let gate = Gate::new(Arc::new(MemoryStore::with_capacity(2)), Proofs::default().with_mock_for_development());
    let issue = |n: u8, now| block_on(gate.issue(&offer(), &REQUEST, [n; 16], now)).map(drop);
    let paid = challenge(&gate, 1);
    assert_eq!(check(&gate, &payment(&paid, 1, NOW), &REQUEST, NOW), Ok(()));
    assert_eq!(issue(2, NOW), Ok(()));
    assert_eq!(issue(3, NOW.plus(300)).unwrap_err().status(), 503);
    // The open one ended; the paid one is still known.
    assert_eq!(issue(3, NOW.plus(301)), Ok(()));
    assert_eq!(issue(4, NOW.plus(420)).unwrap_err().status(), 503);
    assert_eq!(refused(check(&gate, &payment(&paid, 1, NOW), &REQUEST, NOW.plus(420))).0, Code::Replay);
    assert_eq!(issue(4, NOW.plus(421)), Ok(()));
}
