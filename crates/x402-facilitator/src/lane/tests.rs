//! The times of these tests are made up: a round gets the time as an argument, and nothing waits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use async_trait::async_trait;
use tokio::task::JoinHandle;
use x402_facilitator_core::conformance::Counted;
use x402_facilitator_core::{
    Attempt, Delivery, Ledger, Mechanism, MemoryLedger, NextStep, Nonces, Observation, OnceKey, Parcel, Payment, Rail,
    Settlement, Slot, SlotId, Step, StepName, StepState, TxId, Verdict, Write,
};
use x402_testkit::Log;
use x402_types::v2::{SettleResponse, SupportedKind};
use x402_types::{
    AtomicAmount, AuthorizationKind, ChainId, Claim, ErrorReason, Identity, Members, RawJson, Refusal, Rejection,
    SchemeName, Terms, Version,
};

use super::*;
use crate::captured::capture;

/// Payments from this number on can be settled; nothing can be found out about the others.
const GOOD: u32 = 1_000;

/// The number of times that each payment was planned.
#[derive(Clone, Default)]
struct World(Arc<Mutex<BTreeMap<u32, usize>>>);

fn network() -> ChainId {
    ChainId::eip155(84_532)
}

fn lane() -> LaneId {
    LaneId::new(network(), "0xaa")
}

fn claim(number: u32) -> Claim {
    Claim::of_payload(
        Terms::new(SchemeName::EXACT, network(), AtomicAmount::from(5), "token", "shop"),
        RawJson::of(&number).unwrap(),
    )
    .with_identity(Identity::new("shop", String::new()))
}

fn number(claim: &Claim) -> u32 {
    claim.payload.read().unwrap()
}

#[async_trait]
impl Mechanism for World {
    fn kinds(&self) -> Vec<SupportedKind> {
        let (scheme, network) = (SchemeName::EXACT, network().into());
        vec![SupportedKind { x402_version: Version::V2, scheme, network, extra: Members::new(), rest: Members::new() }]
    }

    fn has_nonce_on_chain(&self) -> bool {
        true
    }

    fn key(&self, claim: &Claim) -> Result<PaymentKey, Rejection> {
        let nonce = number(claim).to_be_bytes();
        Ok(PaymentKey::new(AuthorizationKind::Eip3009, network(), b"token", b"payer", &nonce))
    }

    async fn verify(&self, _: &Claim, time: UnixSeconds) -> Result<Verdict, Refusal> {
        Ok(Verdict::new("payer".to_owned(), vec![lane()], time.plus(900)))
    }

    async fn plan(&self, payment: &Payment, _: UnixSeconds) -> Result<NextStep, Fault> {
        let number = number(&payment.claim);
        *self.0.lock().unwrap().entry(number).or_default() += 1;
        if number < GOOD {
            return Err(Fault::broken("a stored claim names an unknown token"));
        }
        Ok(NextStep::Failed(ErrorReason::INSUFFICIENT_FUNDS))
    }

    async fn observe(&self, _: &Step, _: &[TxId]) -> Result<Observation, Fault> {
        Ok(Observation::Pending)
    }
}

#[async_trait]
impl Rail for World {
    fn lanes(&self) -> Vec<LaneId> {
        vec![lane()]
    }

    fn fits(&self, aboard: &[&Parcel], _: &Parcel) -> bool {
        aboard.is_empty()
    }

    async fn nonces(&self, _: &LaneId) -> Result<Option<Nonces>, Fault> {
        Ok(None)
    }

    async fn sign(&self, _: &SlotId, _: &[Parcel], _: Option<&Attempt>) -> Result<Attempt, Fault> {
        Err(Fault::broken("nothing is carried here"))
    }

    async fn send(&self, _: &Attempt) -> Result<Delivery, Fault> {
        Err(Fault::broken("nothing is carried here"))
    }
}

struct Bench {
    world: World,
    ledger: Arc<Counted>,
    engine: Arc<Engine>,
    lane: Lane,
    began: Instant,
    at: Instant,
}

impl Bench {
    fn new() -> Self {
        let world = World::default();
        let counted = Arc::new(Counted::new(Arc::new(MemoryLedger::new(now))));
        let ledger = Arc::clone(&counted) as Arc<dyn Ledger>;
        let settlement = Settlement::new("test".into(), Arc::clone(&ledger));
        let settlement = settlement.with_mechanism(Arc::new(world.clone())).unwrap();
        let settlement = settlement.with_rail(Arc::new(world.clone())).unwrap();
        let engine = Arc::new(Engine::new(settlement, ledger));
        let (lane, began) = (Lane::new(Arc::clone(&engine), lane()), Instant::now());
        Self { world, ledger: counted, engine, lane, began, at: began }
    }

    async fn claim(&self, number: u32) {
        let settlement = self.engine.settlement();
        settlement.settle(&settlement.begin_request(), &claim(number), now()).await.unwrap();
        self.engine.hand_over(&lane(), settlement.key(&claim(number)).unwrap());
    }

    /// Begins to wait for the end of a payment, as `/settle` does.
    async fn waiting(&self, number: u32) -> JoinHandle<Result<SettleResponse, Fault>> {
        let engine = Arc::clone(&self.engine);
        let waiting = tokio::spawn(async move { engine.settle_claim(&claim(number)).await });
        let key = self.engine.settlement().key(&claim(number)).unwrap();
        while self.engine.settlement().payment(&key).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
        waiting
    }

    /// Stores, as another process would, that a node took a transaction of the payment.
    async fn take(&self, number: u32) {
        let ledger = self.engine.ledger();
        let lease = ledger.lease(&lane(), &"another".into(), 60).await.unwrap();
        let key = self.engine.settlement().key(&claim(number)).unwrap();
        let mut row = ledger.read(&key).await.unwrap().unwrap();
        let id = SlotId { lane: lane(), nonce: 0 };
        let mut step = Step::new(StepName::new("transfer"), OnceKey(vec![1]));
        (step.carriers, step.state) = (vec![id.clone()], StepState::InFlight);
        row.steps.push(step);
        let mut slot = Slot::new(id);
        (slot.payments, slot.taken) = (vec![key], Some("0xabc".into()));
        ledger.commit(Write { lease, payments: vec![row], slots: vec![slot], ..Write::default() }).await.unwrap();
    }

    async fn answered(&self, number: u32) -> bool {
        let settlement = self.engine.settlement();
        let key = settlement.key(&claim(number)).unwrap();
        settlement.payment(&key).await.unwrap().unwrap().answer.is_some()
    }

    fn planned(&self, number: u32) -> usize {
        self.world.0.lock().unwrap().get(&number).copied().unwrap_or(0)
    }

    /// Runs the lane's rounds as [`Lane::run`] does, until nothing is to be done before that time.
    async fn work(&mut self, seconds: u64) {
        let end = self.began + Duration::from_secs(seconds);
        loop {
            self.lane.round(false, self.at).await.unwrap();
            if let Some(done) = self.lane.running.next().await {
                self.lane.note(done, self.at);
                continue;
            }
            let next = self.lane.next_rest_over(self.at);
            if next > end {
                return;
            }
            self.at = next;
        }
    }
}

fn lines_with(log: &Log, parts: &[&str]) -> usize {
    log.text().lines().filter(|line| parts.iter().all(|part| line.contains(part))).count()
}

#[tokio::test]
async fn the_log_names_the_payment_that_fails_and_the_start_those_that_nothing_can_finish() {
    let log = Log::default();
    let _guard = capture(&log);
    let mut bench = Bench::new();
    for number in [1, 2, GOOD] {
        bench.claim(number).await;
    }
    bench.work(0).await;
    let key = |number| format!("key={}", bench.engine.settlement().key(&claim(number)).unwrap());
    for number in [1, 2] {
        let parts = [&key(number), "unknown token", "failures=1", "rest=250ms", "a payment will be tried again"];
        assert_eq!(lines_with(&log, &parts), 1);
    }
    assert_eq!(lines_with(&log, &[&key(GOOD)]), 0);

    // The next start serves neither the scheme nor the lane.
    assert_eq!(bench.engine.name_unserved().await, Ok(0));
    let ledger = Arc::clone(&bench.ledger) as Arc<dyn Ledger>;
    let next = Engine::new(Settlement::new("next".into(), Arc::clone(&ledger)), ledger);
    assert_eq!(next.name_unserved().await, Ok(2));
    for number in [1, 2] {
        let parts = [&key(number), "scheme=exact", "network=eip155:84532", "nothing here can finish it"];
        assert_eq!(lines_with(&log, &parts), 1);
    }
}

#[tokio::test]
async fn what_cannot_move_rests_ever_longer_and_holds_up_nothing() {
    let mut bench = Bench::new();
    // More than are worked on at once, and due for as long as the others.
    let stuck = u32::try_from(AT_ONCE).unwrap() + 44;
    for number in 0..stuck {
        bench.claim(number).await;
    }
    bench.work(0).await;
    assert!((0..stuck).all(|number| bench.planned(number) == 1), "each once, and then it rests");
    bench.claim(GOOD).await;
    bench.work(0).await;
    assert!(bench.answered(GOOD).await, "without any rest being over");
    bench.work(600).await;
    // At 0, 1/4, 3/4, 7/4, 15/4, 31/4, 63/4 seconds, then 16 and 30 seconds apart.
    let expected = 8 + (600 - 31) / 30;
    let planned: BTreeSet<usize> = (0..stuck).map(|number| bench.planned(number)).collect();
    assert_eq!(planned, BTreeSet::from([expected]));
    // And those that are claimed later are not behind the ones that rest.
    bench.claim(GOOD + 1).await;
    bench.work(600).await;
    assert!(bench.answered(GOOD + 1).await);
}

#[tokio::test]
async fn a_lane_that_another_has_is_asked_for_at_its_pace() {
    let mut bench = Bench::new();
    bench.engine.ledger().lease(&lane(), &"another".into(), 3_600).await.unwrap().unwrap();
    assert_eq!(bench.lane.round(false, bench.at).await, Ok(true));
    assert_eq!(bench.lane.next_rest_over(bench.at), bench.at + IDLE);
}

/// Checks that the cost of an answer does not depend on the number of callers that wait for other payments.
#[tokio::test(start_paused = true)]
async fn an_answer_wakes_the_callers_of_its_payment_and_reads_no_row_of_another() {
    let mut costs = BTreeSet::new();
    for others in [2, 200] {
        let mut bench = Bench::new();
        let mut waiting = Vec::new();
        for number in 0..others {
            waiting.push(bench.waiting(number).await);
        }
        bench.work(0).await;
        let one = bench.waiting(GOOD).await;
        tokio::task::yield_now().await;
        bench.ledger.take();
        bench.work(0).await;
        let answer = one.await.unwrap().unwrap();
        assert_eq!(answer.error_reason, Some(ErrorReason::INSUFFICIENT_FUNDS));
        let cost = bench.ledger.take();
        costs.insert((cost.reads, cost.rows_read, cost.commits));
        assert!(waiting.iter().all(|waiting| !waiting.is_finished()));
    }
    // The payment's call, and its caller's look.
    assert_eq!(costs, BTreeSet::from([(2, 2, 1)]));
}

#[tokio::test(start_paused = true)]
async fn what_another_process_brings_to_its_end_is_found_by_a_look() {
    let bench = Bench::new();
    let one = bench.waiting(GOOD).await;
    let ledger = bench.engine.ledger();
    let lease = ledger.lease(&lane(), &"another".into(), 60).await.unwrap();
    let key = bench.engine.settlement().key(&claim(GOOD)).unwrap();
    let mut row = ledger.read(&key).await.unwrap().unwrap();
    row.answer = Some(Err(ErrorReason::INSUFFICIENT_FUNDS));
    ledger.commit(Write { lease, payments: vec![row], ..Write::default() }).await.unwrap();
    let began = tokio::time::Instant::now();
    let answer = one.await.unwrap().unwrap();
    assert_eq!(answer.error_reason, Some(ErrorReason::INSUFFICIENT_FUNDS));
    assert!(began.elapsed() <= Duration::from_secs(1), "{:?}", began.elapsed());
}

/// Checks that a payment that waits its turn is no fault: its caller may try again. The answer comes late, since
/// published servers take one without a transaction for a refusal.
#[tokio::test(start_paused = true)]
async fn a_payment_that_only_waits_is_answered_as_pending_after_few_looks() {
    let bench = Bench::new();
    let began = tokio::time::Instant::now();
    let one = bench.waiting(1).await;
    bench.ledger.take();
    let answer = one.await.unwrap().unwrap();
    assert_eq!((answer.success, answer.error_reason), (false, Some(ErrorReason::SETTLEMENT_PENDING)));
    assert_eq!((&*answer.transaction, answer.payer.as_deref()), ("", Some("payer")));
    assert_eq!(began.elapsed().as_secs(), 60);
    // After 0.5, 1.5, 3.5, 7.5, 12.5, 17.5, 22.5, 27.5, 30 and then every 5 s to 60 s; and once for its lane.
    assert!(bench.ledger.take().reads <= 16);
}

/// Checks that the usual wait counts as soon as a transaction is named, and is over at once if it has passed.
#[tokio::test(start_paused = true)]
async fn a_payment_with_a_transaction_is_answered_as_pending_after_the_usual_wait() {
    // The transaction is taken after so many seconds, and the answer comes after so many.
    for (taken, expected) in [(0, 30), (10, 30), (29, 30), (30, 30), (31, 35), (54, 55), (58, 60)] {
        let bench = Bench::new();
        let began = tokio::time::Instant::now();
        let one = bench.waiting(1).await;
        tokio::time::sleep_until(began + Duration::from_secs(taken)).await;
        bench.take(1).await;
        let answer = one.await.unwrap().unwrap();
        assert_eq!(answer.error_reason, Some(ErrorReason::SETTLEMENT_PENDING));
        assert_eq!(&*answer.transaction, "0xabc");
        assert_eq!(began.elapsed().as_secs(), expected, "taken after {taken} s");
    }
}
