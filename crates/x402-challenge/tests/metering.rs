//! `upto`: what was used is settled once, never more than the maximum; and refunds, made once.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)]

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use x402_challenge::{
    ChallengeOffer, ChallengeRefusal, Charge, Evidence, Gate, Granted, MemoryStore, Meter, MeterError, Metered,
    ProofError, ProofKey, Proofs, Proven, Refund, RefundError, RefundPayment, VerifyProof, answer,
};
use x402_types::challenge::{Challenge, Code, Proof, ProofKind};
use x402_types::{AtomicAmount, Fault, UnixSeconds};

mod common;
use common::{NOW, REQUEST, block_on, gate, offer, payment, refused};

/// What the facilitator, or whoever pays back, does at each call.
#[derive(Debug, Clone, Copy)]
enum Does {
    Settles,
    Unheard,
    Refuses,
}

/// A facilitator that verifies everything, and whoever pays back: each movement once for its key.
struct Counter {
    does: Mutex<Does>,
    calls: Mutex<Vec<(String, AtomicAmount)>>,
}

impl Counter {
    fn new(does: Does) -> Arc<Self> {
        Arc::new(Self { does: Mutex::new(does), calls: Mutex::default() })
    }

    fn call(&self, key: &str, amount: AtomicAmount) -> Result<(), ProofError> {
        self.calls.lock().unwrap().push((key.to_owned(), amount));
        match *self.does.lock().unwrap() {
            Does::Settles => Ok(()),
            Does::Unheard => Err(ProofError::Unknown(Fault::unreachable("facilitator", "timeout"))),
            Does::Refuses => Err(ChallengeRefusal::new(Code::Insufficient, "no money").into()),
        }
    }

    fn calls(&self) -> Vec<(String, AtomicAmount)> {
        self.calls.lock().unwrap().clone()
    }
}

#[async_trait]
impl VerifyProof for Counter {
    fn kind(&self) -> ProofKind {
        ProofKind::Facilitator
    }

    async fn verify(&self, evidence: &Evidence<'_>, _: UnixSeconds) -> Result<Proven, ProofError> {
        let key = evidence.payment.proof.ticket.clone().map(ProofKey);
        Ok(Proven { amount: evidence.payment.paid_amount, key })
    }

    async fn settle(&self, meter: &Metered, _: UnixSeconds) -> Result<(), ProofError> {
        self.call(meter.payment.proof.ticket.as_deref().unwrap(), meter.used)
    }
}

#[async_trait]
impl RefundPayment for Counter {
    async fn refund(&self, refund: &Refund) -> Result<Box<str>, ProofError> {
        self.call(&refund.proof.0, refund.amount).map(|()| format!("back:{}", refund.amount).into())
    }
}

fn metered() -> ChallengeOffer {
    ChallengeOffer { charge: Charge::UpTo, ..offer() }
}

fn of(facilitator: &Arc<Counter>) -> Gate {
    Gate::new(Arc::new(MemoryStore::default()), Proofs::default().with(facilitator.clone()).unwrap())
}

fn pay(gate: &Gate, n: u8, offer: &ChallengeOffer) -> Result<Granted, x402_challenge::CheckError> {
    let challenge: Challenge = block_on(gate.issue(offer, &REQUEST, [n; 16], NOW)).unwrap();
    let proof = Proof { ticket: Some(format!("t{n}").into()), ..Proof::new(ProofKind::Facilitator) };
    block_on(gate.check_payment(answer(&challenge, proof, [n; 16], NOW), offer, &REQUEST, None, NOW))
}

fn meter(gate: &Gate, n: u8) -> Meter {
    pay(gate, n, &metered()).unwrap().meter.unwrap()
}

fn amount(n: u64) -> AtomicAmount {
    n.into()
}

#[test]
fn what_was_used_is_settled_once() {
    let facilitator = Counter::new(Does::Settles);
    let gate = of(&facilitator);
    let meter = meter(&gate, 1);
    let add = |n| block_on(meter.add(amount(n), NOW));
    assert_eq!(add(300), Ok(amount(300)));
    assert_eq!(add(701), Err(MeterError::Full { left: amount(700) }));
    assert_eq!(add(123), Ok(amount(423)));
    assert_eq!(facilitator.calls(), []);
    for _ in 0..3 {
        assert_eq!(block_on(gate.settle(meter.id(), NOW)), Ok(amount(423)));
    }
    assert_eq!(facilitator.calls(), [("t1".to_owned(), amount(423))]);
    assert_eq!(add(1), Err(MeterError::Closed));
    let nobody = "919108f7-52d1-4320-9bac-f847db4148a8".parse().unwrap();
    assert_eq!(block_on(gate.settle(&nobody, NOW)), Err(MeterError::Unknown));
}

#[test]
fn the_maximum_is_all_there_is_and_nothing_is_free() {
    let facilitator = Counter::new(Does::Settles);
    let gate = of(&facilitator);
    let (full, free) = (meter(&gate, 1), meter(&gate, 2));
    assert_eq!(block_on(full.add(amount(1001), NOW)), Err(MeterError::Full { left: amount(1000) }));
    assert_eq!(block_on(full.add(amount(1000), NOW)), Ok(amount(1000)));
    assert_eq!(block_on(gate.settle(full.id(), NOW)), Ok(amount(1000)));
    assert_eq!(block_on(gate.settle(free.id(), NOW)), Ok(AtomicAmount::ZERO));
    assert_eq!(facilitator.calls(), [("t1".to_owned(), amount(1000))]);
}

/// The server died before it settled, or the facilitator's answer was lost: what is open is listed, and settled then.
#[test]
fn what_was_left_open_is_found() {
    let facilitator = Counter::new(Does::Unheard);
    let gate = of(&facilitator);
    let (dead, unheard) = (meter(&gate, 1), meter(&gate, 2));
    for meter in [&dead, &unheard] {
        block_on(meter.add(amount(10), NOW)).unwrap();
    }
    assert!(matches!(block_on(gate.settle(unheard.id(), NOW)), Err(MeterError::Fault(_))));
    *facilitator.does.lock().unwrap() = Does::Settles;
    let later = NOW.plus(600);
    for id in block_on(gate.store().open_meters(later, 10)).unwrap() {
        assert_eq!(block_on(gate.settle(&id, later)), Ok(amount(10)));
    }
    assert_eq!(block_on(gate.store().open_meters(later.plus(1), 10)), Ok(vec![]));
    let keys: Vec<String> = facilitator.calls().into_iter().map(|(key, _)| key).collect();
    assert_eq!((keys.len(), &keys[0]), (3, &"t2".to_owned()));
}

#[test]
fn a_refused_settlement_is_the_end() {
    let facilitator = Counter::new(Does::Refuses);
    let gate = of(&facilitator);
    let meter = meter(&gate, 1);
    block_on(meter.add(amount(10), NOW)).unwrap();
    assert!(matches!(block_on(gate.settle(meter.id(), NOW)), Err(MeterError::Refused(Some(_)))));
    assert_eq!(block_on(gate.settle(meter.id(), NOW)), Err(MeterError::Refused(None)));
    assert_eq!(facilitator.calls().len(), 1);
    assert_eq!(block_on(gate.store().open_meters(NOW.plus(1), 10)), Ok(vec![]));
}

#[test]
fn a_mock_carries_it_and_fixed_sums_do_not() {
    let gate = gate();
    let challenge = block_on(gate.issue(&metered(), &REQUEST, [1; 16], NOW)).unwrap();
    assert_eq!(challenge.scheme.as_str(), "upto");
    let good = payment(&challenge, 1, NOW);
    for kind in [ProofKind::Onchain, ProofKind::Exact, ProofKind::Lightning] {
        let mut fixed = good.clone();
        fixed.proof.kind = kind;
        let result = block_on(gate.check_payment(fixed, &metered(), &REQUEST, None, NOW)).map(drop);
        assert_eq!(refused(result).0, Code::Mismatch, "{kind}");
    }
    let granted = block_on(gate.check_payment(good, &metered(), &REQUEST, None, NOW)).unwrap();
    let meter = granted.meter.unwrap();
    block_on(meter.add(amount(5), NOW)).unwrap();
    assert_eq!(block_on(gate.settle(meter.id(), NOW)), Ok(amount(5)));
    // What is not metered has no meter.
    let plain = common::challenge(&gate, 2);
    let granted = block_on(gate.check_payment(payment(&plain, 2, NOW), &offer(), &REQUEST, None, NOW)).unwrap();
    assert_eq!(granted.meter, None);
}

fn refund(key: &str, n: u64) -> Refund {
    Refund {
        proof: ProofKey(key.into()),
        network: offer().network,
        asset: offer().asset,
        to: "0x70997970C51812dc3A010C7d01b50e0d17dc79C8".parse().unwrap(),
        amount: amount(n),
        asked_at: NOW,
    }
}

#[test]
fn a_payment_is_paid_back_once() {
    let gate = of(&Counter::new(Does::Settles));
    assert_eq!(pay(&gate, 1, &offer()).unwrap().proof, Some(ProofKey("t1".into())));
    let bank = Counter::new(Does::Unheard);
    let back = |of: &Refund| block_on(gate.refund(&*bank, of));
    assert_eq!(back(&refund("t1", 1001)), Err(RefundError::Unpaid));
    assert_eq!(back(&refund("t2", 1)), Err(RefundError::Unpaid));
    assert!(matches!(back(&refund("t1", 600)), Err(RefundError::Fault(_))));
    *bank.does.lock().unwrap() = Does::Settles;
    assert_eq!(back(&refund("t1", 1000)), Err(RefundError::Other));
    for _ in 0..3 {
        assert_eq!(back(&refund("t1", 600)).as_deref(), Ok("back:600"));
    }
    // Asked once without an answer, and once with one.
    assert_eq!(bank.calls().len(), 2);
}

#[test]
fn a_refused_refund_leaves_the_payment_as_it_was() {
    let gate = of(&Counter::new(Does::Settles));
    pay(&gate, 1, &offer()).unwrap();
    pay(&gate, 2, &metered()).unwrap();
    let bank = Counter::new(Does::Refuses);
    assert!(matches!(block_on(gate.refund(&*bank, &refund("t1", 600))), Err(RefundError::Refused(_))));
    *bank.does.lock().unwrap() = Does::Settles;
    assert_eq!(block_on(gate.refund(&*bank, &refund("t1", 1000))).as_deref(), Ok("back:1000"));
    // What a metered payment came to is not what was verified.
    assert_eq!(block_on(gate.refund(&*bank, &refund("t2", 1))), Err(RefundError::Unpaid));
}
