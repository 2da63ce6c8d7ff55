//! What an observer hears.

use std::sync::{Arc, Mutex};

use x402_facilitator_core::{Happening, NextStep, Nonces, Observation, Observer, Progress, Settlement};
use x402_types::{AmountRule, ErrorReason, FaultKind, UnixSeconds};

use crate::toy::*;

/// Writes down what it hears: name, what it is of, age.
#[derive(Default)]
struct Recorder(Mutex<Vec<String>>);

impl Observer for Recorder {
    fn notice(&self, happening: &Happening<'_>, now: UnixSeconds) {
        let of = match happening {
            Happening::Refused { claim, rejection } => format!("{} {}", claim.payload.as_str(), rejection.reason),
            Happening::Claimed { payment } => payment.payer.clone(),
            Happening::Planned { step, .. } | Happening::Landed { step, .. } => step.name.to_string(),
            Happening::Stored { slot, attempt } | Happening::Sent { slot, attempt } => {
                format!("{} in {}", attempt.tx, slot.id.nonce)
            }
            Happening::Answered { payment } => format!("{:?}", payment.answer.as_ref().map(Result::is_ok)),
            Happening::Faulted { during, fault } => {
                format!("{} {} {:?}", during.as_str(), fault.kind(), fault.service())
            }
            other => format!("{other:?}"),
        };
        let age = happening.age(now).map_or(String::new(), |age| format!(" after {age}"));
        self.0.lock().unwrap().push(format!("{}: {of}{age}", happening.as_str()));
    }
}

impl Recorder {
    fn heard(&self) -> Vec<String> {
        core::mem::take(&mut self.0.lock().unwrap())
    }
}

fn observed() -> (Bench, Arc<Recorder>) {
    let recorder = Arc::new(Recorder::default());
    let mut bench = Bench::new();
    let settlement = core::mem::replace(&mut bench.settlement, machine(&bench.toy, &bench.ledger, "nobody"));
    bench.settlement = settlement.with_observer(Arc::clone(&recorder) as Arc<dyn Observer>);
    (bench, recorder)
}

fn settle(settlement: &Settlement, nonce: u8, now: UnixSeconds) {
    drop(wait(settlement.settle(&settlement.begin_request(), &claim(nonce, "a"), now)));
}

/// One payment's life, from its refusal to its answer, with the seconds since its claim or since its nonce was taken.
#[test]
fn the_life_of_a_payment_is_heard_in_order() {
    let (bench, recorder) = observed();
    let at = |seconds| NOW.plus(seconds);
    bench.toy.set(|world| world.rejection = Some(ErrorReason::INSUFFICIENT_FUNDS));
    settle(&bench.settlement, 1, NOW);
    assert!(wait(bench.settlement.verify(&claim(1, "a"), NOW)).is_err());
    assert_eq!(recorder.heard(), ["refused: 1 insufficient_funds"; 2]);

    bench.toy.set(|world| world.rejection = None);
    settle(&bench.settlement, 1, NOW);
    assert_eq!(recorder.heard(), ["claimed: payer after 0"]);
    // The row is there: nothing new happens.
    settle(&bench.settlement, 1, at(1));
    assert!(recorder.heard().is_empty());

    bench.advance_at(1, at(2)).unwrap();
    assert_eq!(recorder.heard(), ["planned: order after 2"]);
    bench.carry(at(3)).unwrap();
    assert_eq!(recorder.heard(), ["stored: 0:10 in 0 after 0", "sent: 0:10 in 0 after 0"]);
    // The same bytes once more, then others that bid more.
    bench.carry(at(20)).unwrap();
    assert_eq!(recorder.heard(), ["sent: 0:10 in 0 after 17"]);
    bench.carry(at(60)).unwrap();
    assert_eq!(recorder.heard(), ["stored: 0:20 in 0 after 57", "sent: 0:20 in 0 after 57"]);
    // It reverted: a parcel more.
    bench.toy.set(|world| world.nonces = Some(Nonces { head: 1, finalized: 1 }));
    bench.carry(at(61)).unwrap();
    bench.advance_at(1, at(62)).unwrap();
    assert!(recorder.heard().is_empty());
    bench.advance_at(1, at(63)).unwrap();
    assert_eq!(recorder.heard(), ["planned: order after 63"]);
    bench.carry(at(64)).unwrap();
    assert_eq!(recorder.heard(), ["stored: 1:10 in 1 after 0", "sent: 1:10 in 1 after 0"]);

    bench.toy.set(|world| {
        world.seen = Some(Observation::Proven(proof()));
        world.plan = Some(NextStep::Settled(receipt()));
    });
    bench.advance_at(1, at(70)).unwrap();
    assert_eq!(recorder.heard(), ["landed: order after 70", "answered: Some(true) after 70"]);
    // Who asks for an answer that is there changes nothing.
    settle(&bench.settlement, 1, at(80));
    assert!(recorder.heard().is_empty());
}

#[test]
fn a_failed_payment_is_answered_too() {
    let (bench, recorder) = observed();
    settle(&bench.settlement, 1, NOW);
    bench.toy.set(|world| world.plan = Some(NextStep::Failed(ErrorReason::INSUFFICIENT_FUNDS)));
    bench.advance_at(1, NOW.plus(5)).unwrap();
    assert_eq!(recorder.heard(), ["claimed: payer after 0", "answered: Some(false) after 5"]);
}

/// What fails is heard with what the machine was at and with its kind, each time that it fails.
#[test]
fn faults_are_heard_with_their_kinds() {
    let (bench, recorder) = observed();
    bench.toy.set(|world| world.unfunded = true);
    settle(&bench.settlement, 1, NOW);
    assert!(wait(bench.settlement.verify(&claim(1, "a"), NOW)).is_err());
    assert_eq!(
        recorder.heard(),
        [r#"faulted: settle not_taken Some("the chain")"#, r#"faulted: verify not_taken Some("the chain")"#]
    );

    bench.toy.set(|world| world.unfunded = false);
    settle(&bench.settlement, 1, NOW);
    // Another amount than was asked, which the rule of this scheme forbids.
    bench.toy.set(|world| {
        world.rule = AmountRule::Equal;
        world.plan = Some(NextStep::Settled(receipt().of_amount(4.into())));
    });
    let fault = bench.advance(1).unwrap_err();
    assert_eq!(fault.kind(), FaultKind::BrokenRule);
    assert_eq!(recorder.heard(), ["claimed: payer after 0", "faulted: advance broken_rule None"]);

    bench.toy.set(|world| (world.plan, world.cannot_sign) = (None, true));
    bench.advance(1).unwrap();
    assert!(bench.carry(NOW).is_err());
    assert_eq!(recorder.heard(), ["planned: order after 0", r#"faulted: carry unreachable Some("signer")"#]);
    bench.toy.set(|world| (world.cannot_sign, world.cannot_send) = (false, true));
    assert!(bench.carry(NOW).is_err());
    let sent = r#"faulted: carry not_taken Some("the chain")"#;
    assert_eq!(recorder.heard(), ["stored: 0:10 in 0 after 0", sent]);

    // A lane that no rail serves.
    let mut lease = bench.lease.clone();
    lease.lane = "another".into();
    assert!(wait(bench.settlement.carry(&lease, NOW)).is_err());
    assert_eq!(recorder.heard(), ["faulted: carry broken_rule None"]);
}

/// What a final block shows is stored although the next plan fails, and the fault is heard, not swallowed.
#[test]
fn a_fault_of_the_plan_after_a_decided_step_is_heard() {
    let (bench, recorder) = observed();
    settle(&bench.settlement, 1, NOW);
    bench.advance(1).unwrap();
    bench.carry(NOW).unwrap();
    drop(recorder.heard());
    bench.toy.set(|world| {
        world.rule = AmountRule::Equal;
        world.seen = Some(Observation::Proven(proof()));
        world.plan = Some(NextStep::Settled(receipt().of_amount(4.into())));
    });
    assert_eq!(bench.advance_at(1, NOW.plus(5)), Ok(Progress::Moved));
    assert_eq!(recorder.heard(), ["faulted: advance broken_rule None", "landed: order after 5"]);
    // The step is proven now, so the next round plans and nothing else.
    bench.toy.set(|world| world.plan = Some(NextStep::Settled(receipt())));
    bench.advance_at(1, NOW.plus(6)).unwrap();
    assert_eq!(recorder.heard(), ["answered: Some(true) after 6"]);
}

/// A row that an older release wrote does not say when it was claimed: no age is made up.
#[test]
fn an_age_that_is_not_known_is_not_told() {
    let (bench, recorder) = observed();
    settle(&bench.settlement, 1, NOW);
    let mut row = bench.row(1);
    row.claimed = UnixSeconds(0);
    let happening = Happening::Answered { payment: &row };
    assert_eq!((happening.age(NOW), recorder.heard().len()), (None, 1));
}
