//! Every row that any answers of a mechanism and a rail can lead to, right or wrong.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)]

use std::collections::BTreeSet;

use x402_facilitator_core::{
    Event, LaneId, NextStep, Observation, OnceKey, OwnerId, Parcel, Payment, Receipt, RequestId, SlotId, Step,
    StepName, StepProof, StepState, Todo, TxId,
};
use x402_types::{
    AtomicAmount, ChainId, Claim, ErrorReason, Identity, PaymentKey, RawJson, SchemeName, Terms, UnixSeconds,
};

const NOW: UnixSeconds = UnixSeconds(10);
const ORDER: StepName = StepName::new("order");
const REDEEM: StepName = StepName::new("redeem");

fn start() -> Payment {
    let network = ChainId::eip155(1);
    let terms = Terms::new(SchemeName::EXACT, network, AtomicAmount::from(1), "a", "b");
    let claim = Claim::of_payload(terms, RawJson::null()).with_identity(Identity::new(String::new(), "r"));
    let (key, lane) = (PaymentKey::from_bytes(&[1]), LaneId::from("eip155:1/a"));
    let request = RequestId { owner: OwnerId::from("one"), number: 1 };
    let mut row = Payment::from_row(key, claim, "payer".to_owned(), lane, request);
    (row.keep_until, row.version) = (UnixSeconds(100), 1);
    row
}

fn events() -> Vec<Event> {
    let receipt = Receipt::new(None, ChainId::eip155(1), "payer".to_owned());
    let mut events = vec![
        Event::Reopen,
        Event::Told(RequestId { owner: OwnerId::from("one"), number: 2 }),
        Event::Planned(NextStep::Wait(UnixSeconds(0))),
        Event::Planned(NextStep::Failed(ErrorReason::INSUFFICIENT_FUNDS)),
        Event::Planned(NextStep::Spent { reason: ErrorReason::DUPLICATE_SETTLEMENT, transaction: TxId::from("0x2") }),
        Event::Planned(NextStep::Settled(receipt)),
        Event::InFlight(SlotId { lane: LaneId::from("eip155:1/a"), nonce: 0 }),
    ];
    for name in [ORDER, REDEEM] {
        for once_key in 1..3 {
            let parcel = Parcel::new([0; 32], Vec::new());
            events.push(Event::Planned(NextStep::Do {
                name: name.clone(),
                once_key: OnceKey(vec![once_key]),
                exclusive: None,
                parcel,
            }));
        }
    }
    let proof = StepProof::new(TxId::from("0x1"), AtomicAmount::from(1));
    let dead = Observation::Dead(ErrorReason::AUTHORIZATION_CANCELED);
    for observation in [Observation::Pending, Observation::Proven(proof), dead] {
        for spent in [false, true] {
            events.push(Event::Observed { observation: observation.clone(), spent });
        }
    }
    events
}

fn is_small(row: &Payment) -> bool {
    row.steps.len() <= 4
        && row.reopened <= 1
        && row.steps.iter().all(|step| step.parcels.len() <= 2 && step.carriers.len() <= 2)
}

/// What the machine may look at. Of a decided step that is not how it travelled.
fn shape(row: &Payment) -> String {
    let steps = row.steps.iter().map(|step| match &step.state {
        StepState::Proven(_) => format!("{}{} proven", step.name, step.once_key),
        StepState::Dead(_) => format!("{}{} dead", step.name, step.once_key),
        open => format!("{}{} {open:?} {} {}", step.name, step.once_key, step.parcels.len(), step.carriers.len()),
    });
    format!("{:?} {:?} {}", steps.collect::<Vec<_>>(), row.answer, row.reopened)
}

fn check(before: &Payment, event: &Event, after: &Payment) {
    let undecided = after.steps.iter().filter(|step| !step.is_decided()).count();
    assert!(undecided <= 1, "two open steps: {after:?}");
    assert!(after.answer.is_none() || undecided == 0, "answered over an open step: {after:?}");
    for name in [ORDER, REDEEM] {
        let times = after.steps.iter().filter(|step| step.name == name && step.proven().is_some()).count();
        assert!(times <= 1, "{name} done {times} times");
    }
    assert!(after.steps.len() >= before.steps.len(), "a step was lost");
    for (old, new) in before.steps.iter().zip(&after.steps) {
        assert!(old.once_key == new.once_key && old.name == new.name, "a step became another");
        assert!(!old.is_decided() || old == new, "what was decided was changed");
        assert!(new.parcels.starts_with(&old.parcels), "a parcel was forgotten");
        assert!(new.carriers.starts_with(&old.carriers), "a carrier was forgotten");
        let unaccounted_without_carrier = new.state == StepState::Unaccounted && new.carriers.is_empty();
        assert!(!unaccounted_without_carrier, "unaccounted, but nothing ever left");
    }
    // Bytes may have left: only an end, or the same once key again.
    if before.open_step().is_some_and(|step| step.state == StepState::Unaccounted) && after.answer.is_some() {
        panic!("answered while bytes may land");
    }
    if before.answer.is_some() {
        if let Event::Told(call) = event {
            assert!(matches!(before.answer, Some(Ok(_))), "no success was told");
            assert_eq!((&after.request, after.untold), (call, false));
            let mut same = after.clone();
            (same.request, same.untold) = (before.request.clone(), before.untold);
            assert_eq!(same, *before, "telling changed the row");
            return;
        }
        assert_eq!(*event, Event::Reopen, "after the answer only a reopening");
        assert!(matches!(before.answer, Some(Err(_))), "a settled payment was reopened");
        assert!(before.steps.iter().any(|step| step.proven().is_some()), "reopened without a proven step");
    }
    assert!(!after.untold || matches!(after.answer, Some(Ok(_))), "a success to tell, and there is none");
    let made = before.answer.is_none() && matches!(after.answer, Some(Ok(_)));
    assert!(!made || after.untold, "a success that nobody was told of");
    assert!(after.due >= NOW || after.due == before.due, "due in the past");
}

#[test]
fn every_row_keeps_the_rules() {
    let events = events();
    let mut queue = vec![start()];
    let mut seen = BTreeSet::from([shape(&queue[0])]);
    let (mut moved, mut refused) = (0u32, 0u32);
    while let Some(before) = queue.pop() {
        assert_eq!(before.answer.is_some(), before.todo() == Todo::Nothing);
        for event in &events {
            let mut after = before.clone();
            if after.apply(event.clone(), NOW, 2).is_err() {
                assert_eq!(after, before, "a refused event changed the row");
                refused += 1;
                continue;
            }
            moved += 1;
            check(&before, event, &after);
            if is_small(&after) && seen.insert(shape(&after)) {
                queue.push(after);
            }
        }
    }
    println!("{} rows, {moved} transitions, {refused} events refused", seen.len());
    assert!(seen.len() > 1_000);
}

#[test]
fn a_planned_step_waits_for_its_slot() {
    let mut row = start();
    let parcel = Parcel::new([7; 32], vec![1]);
    let plan = NextStep::Do {
        name: ORDER,
        once_key: OnceKey(vec![1]),
        exclusive: Some(OnceKey(vec![2])),
        parcel: parcel.clone(),
    };
    row.apply(Event::Planned(plan), NOW, 2).unwrap();
    let mut expected = Step::new(ORDER, OnceKey(vec![1]));
    (expected.exclusive, expected.parcels) = (Some(OnceKey(vec![2])), vec![parcel]);
    assert_eq!(expected.state, StepState::Ready);
    assert_eq!(row.steps, [expected]);
    assert_eq!(row.due, UnixSeconds(12));
}

#[test]
fn a_revert_is_no_failure() {
    let mut row = start();
    let parcel = Parcel::new([7; 32], vec![1]);
    let slot = SlotId { lane: LaneId::from("eip155:1/a"), nonce: 4 };
    let plan = NextStep::Do { name: ORDER, once_key: OnceKey(vec![1]), exclusive: None, parcel };
    row.apply(Event::Planned(plan.clone()), NOW, 2).unwrap();
    row.apply(Event::InFlight(slot), NOW, 2).unwrap();
    row.apply(Event::Observed { observation: Observation::Pending, spent: true }, NOW, 2).unwrap();
    assert_eq!(row.steps[0].state, StepState::Unaccounted);
    assert_eq!(row.todo(), Todo::Observe { replan: true });
    row.apply(Event::Planned(plan), NOW, 2).unwrap();
    assert_eq!((row.steps[0].parcels.len(), &row.steps[0].state), (2, &StepState::Ready));
}
