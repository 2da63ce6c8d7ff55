//! A payment whose money moved is granted once, wherever the server died while it was checked.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)]

use core::future::poll_fn;
use core::task::{Context, Poll, Waker};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use x402_challenge::{
    Added, ChallengeHold, ChallengeRefusal, ChallengeState, CheckError, ClaimOutcome, Confirmation, Confirmed,
    Entitlement, Evidence, Gate, Granted, Issued, MemoryStore, MeterState, Metered, PaymentAttempt, PaymentDigest,
    ProofError, ProofKey, Proofs, Proven, Refund, RefundStanding, Spent, Store, TokenHash, VerifyProof, answer,
    payment_digest,
};
use x402_types::challenge::{Challenge, ChallengeId, Code, Nonce, Payment, Proof, ProofKind, ResourceName};
use x402_types::{AtomicAmount, Fault, UnixSeconds};

mod common;
use common::{NOW, REQUEST, block_on, challenge, check, offer, refused};

/// One await that is not done at its first poll.
async fn wait() {
    let mut waited = false;
    poll_fn(|context| {
        context.waker().wake_by_ref();
        if core::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// The store in memory, every call of it with an await before it takes effect and one before it answers.
#[derive(Default)]
struct Waits {
    inner: MemoryStore,
    /// The next confirmation takes effect, and its answer is lost.
    loses_answer: Mutex<bool>,
}

#[async_trait]
impl Store for Waits {
    async fn issue(&self, issued: Issued) -> Result<bool, Fault> {
        self.inner.issue(issued).await
    }

    async fn find(&self, id: &ChallengeId, now: UnixSeconds) -> Result<Option<(Issued, ChallengeState)>, Fault> {
        wait().await;
        self.inner.find(id, now).await
    }

    async fn seen(&self, nonce: &Nonce, now: UnixSeconds) -> Result<bool, Fault> {
        wait().await;
        self.inner.seen(nonce, now).await
    }

    async fn claim(&self, attempt: &PaymentAttempt, now: UnixSeconds) -> Result<ClaimOutcome, Fault> {
        wait().await;
        let claimed = self.inner.claim(attempt, now).await;
        wait().await;
        claimed
    }

    async fn confirm(&self, hold: &ChallengeHold, with: Confirmation) -> Result<Confirmed, Fault> {
        wait().await;
        let confirmed = self.inner.confirm(hold, with).await;
        wait().await;
        if core::mem::take(&mut *self.loses_answer.lock().unwrap()) { Err(Fault::store("lost")) } else { confirmed }
    }

    async fn suspend(&self, hold: &ChallengeHold) -> Result<(), Fault> {
        wait().await;
        self.inner.suspend(hold).await?;
        wait().await;
        Ok(())
    }

    async fn release(&self, hold: &ChallengeHold) -> Result<(), Fault> {
        wait().await;
        self.inner.release(hold).await?;
        wait().await;
        Ok(())
    }

    async fn grant(&self, entitlement: &Entitlement) -> Result<bool, Fault> {
        self.inner.grant(entitlement).await
    }

    async fn spend(&self, token: &TokenHash, resource: &ResourceName, now: UnixSeconds) -> Result<Spent, Fault> {
        self.inner.spend(token, resource, now).await
    }

    async fn look(&self, token: &TokenHash, resource: &ResourceName, now: UnixSeconds) -> Result<Spent, Fault> {
        self.inner.look(token, resource, now).await
    }

    async fn give_back(&self, token: &TokenHash) -> Result<(), Fault> {
        self.inner.give_back(token).await
    }

    async fn waive_meter(&self, id: &ChallengeId, now: UnixSeconds) -> Result<(), Fault> {
        self.inner.waive_meter(id, now).await
    }

    async fn revoke(&self, token: &TokenHash) -> Result<bool, Fault> {
        self.inner.revoke(token).await
    }

    async fn add_use(&self, id: &ChallengeId, amount: AtomicAmount, now: UnixSeconds) -> Result<Added, Fault> {
        self.inner.add_use(id, amount, now).await
    }

    async fn close_meter(&self, id: &ChallengeId, now: UnixSeconds) -> Result<Option<Metered>, Fault> {
        self.inner.close_meter(id, now).await
    }

    async fn end_meter(&self, id: &ChallengeId, end: MeterState) -> Result<(), Fault> {
        self.inner.end_meter(id, end).await
    }

    async fn open_meters(&self, before: UnixSeconds, limit: usize) -> Result<Vec<ChallengeId>, Fault> {
        self.inner.open_meters(before, limit).await
    }

    async fn begin_refund(&self, refund: &Refund) -> Result<RefundStanding, Fault> {
        self.inner.begin_refund(refund).await
    }

    async fn end_refund(&self, refund: &Refund, receipt: Option<&str>) -> Result<(), Fault> {
        self.inner.end_refund(refund, receipt).await
    }

    async fn forget(&self, now: UnixSeconds) -> Result<usize, Fault> {
        self.inner.forget(now).await
    }
}

/// What the settlement beneath does at each call.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Does {
    /// Moves the money once for each payment, and says so.
    Settles,
    /// Moves it, and the answer is lost.
    SettlesUnheard,
    /// Is down before anything could move.
    Down,
    /// Refuses; nothing moved.
    Refuses,
}

/// Settles payments by their digest, once each.
struct Settlement {
    moved: Mutex<BTreeSet<PaymentDigest>>,
    does: Mutex<Does>,
    again: Mutex<Vec<bool>>,
}

impl Settlement {
    fn new(does: Does) -> Arc<Self> {
        Arc::new(Self { moved: Mutex::default(), does: Mutex::new(does), again: Mutex::default() })
    }

    fn now_does(&self, does: Does) {
        *self.does.lock().unwrap() = does;
    }

    fn moved(&self) -> usize {
        self.moved.lock().unwrap().len()
    }
}

#[async_trait]
impl VerifyProof for Settlement {
    fn kind(&self) -> ProofKind {
        ProofKind::Facilitator
    }

    async fn verify(&self, evidence: &Evidence<'_>, _: UnixSeconds) -> Result<Proven, ProofError> {
        self.again.lock().unwrap().push(evidence.again);
        wait().await;
        let does = *self.does.lock().unwrap();
        if matches!(does, Does::Settles | Does::SettlesUnheard) {
            self.moved.lock().unwrap().insert(evidence.digest);
        }
        wait().await;
        let key = evidence.payment.proof.ticket.clone().map(ProofKey);
        match does {
            Does::Settles => Ok(Proven { amount: evidence.payment.paid_amount, key }),
            Does::SettlesUnheard => Err(ProofError::Unknown(Fault::unreachable("facilitator", "timeout"))),
            Does::Down => Err(ProofError::Unmoved(Fault::unreachable("facilitator", "refused"))),
            Does::Refuses => Err(ChallengeRefusal::new(Code::VerificationFailed, "proof: no money").into()),
        }
    }
}

fn stage(does: Does) -> (Arc<Settlement>, Arc<Waits>, Gate) {
    let settlement = Settlement::new(does);
    let proofs = Proofs::default().with(settlement.clone()).unwrap();
    let store = Arc::new(Waits::default());
    (settlement, store.clone(), Gate::new(store, proofs))
}

fn payment(challenge: &Challenge, n: u8) -> Payment {
    let proof = Proof { ticket: Some(format!("t{n}").into()), ..Proof::new(ProofKind::Facilitator) };
    answer(challenge, proof, [n; 16], NOW)
}

/// Asks that often and drops what is not done then.
fn polled(gate: &Gate, payment: &Payment, polls: usize, now: UnixSeconds) -> Option<Result<Granted, CheckError>> {
    let offer = offer();
    let mut request = Box::pin(gate.check_payment(payment.clone(), &offer, &REQUEST, None, now));
    let mut context = Context::from_waker(Waker::noop());
    (0..polls).find_map(|_| match request.as_mut().poll(&mut context) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    })
}

/// The server dies at the first await, at the second, and so on; then the same payment comes again: at once, after the
/// hold, and long after the challenge expired.
#[test]
fn a_crash_at_every_await_loses_no_payment() {
    let mut crashes = 0;
    for later in [0, Gate::HOLD + 1, Gate::RESUME] {
        for polls in 1.. {
            let (settlement, store, gate) = stage(Does::Settles);
            let challenge = challenge(&gate, 1);
            let payment = payment(&challenge, 1);
            if let Some(done) = polled(&gate, &payment, polls, NOW) {
                assert!(done.is_ok());
                assert_eq!(polls, 9, "an await came or went: count again where the server can die");
                break;
            }
            crashes += 1;
            let at = format!("died at await {polls}, again after {later} s");
            let moved = settlement.moved();
            let standing = block_on(store.inner.find(&challenge.challenge_id, NOW)).unwrap().unwrap().1;
            let granted = matches!(standing, ChallengeState::Paid { .. });
            let now = NOW.plus(later);
            block_on(gate.store().forget(now)).unwrap();
            match check(&gate, &payment, &REQUEST, now) {
                Ok(()) => assert!(!granted, "{at}: granted twice"),
                Err(CheckError::Refused(refused)) if refused.code == Code::Replay => assert!(granted, "{at}"),
                // Its grant stood in the store before the server died, and was forgotten at its time.
                Err(CheckError::Refused(refused)) if refused.code == Code::Expired => {
                    assert!(granted || moved == 0, "{at}: paid, and got nothing");
                }
                Err(CheckError::Pending { retry_after }) => {
                    assert!(!granted && later == 0, "{at}");
                    assert_eq!(check(&gate, &payment, &REQUEST, now.plus(retry_after)), Ok(()), "{at}");
                }
                Err(error) => panic!("{at}: {error}"),
            }
            assert!(check(&gate, &payment, &REQUEST, now.plus(1000)).is_err(), "{at}: granted again");
            assert!(settlement.moved() <= 1, "{at}: moved twice");
        }
    }
    assert_eq!(crashes, 3 * 8);
}

/// The answer is lost again and again, past the challenge's end; then it arrives.
#[test]
fn an_unknown_outcome_is_503_until_it_is_known() {
    let (settlement, _, gate) = stage(Does::SettlesUnheard);
    let challenge = challenge(&gate, 1);
    let (first, other) = (payment(&challenge, 1), payment(&challenge, 2));
    for now in [NOW, NOW, NOW.plus(300), NOW.plus(5000)] {
        block_on(gate.store().forget(now)).unwrap();
        let unknown = check(&gate, &first, &REQUEST, now).unwrap_err();
        assert_eq!((unknown.status(), unknown.retry_after()), (503, Some(1)));
        // Meanwhile no other payment gets in, whatever its time.
        let late = payment(&challenge, 3);
        assert_eq!(refused(check(&gate, &other, &REQUEST, NOW)).0, Code::Replay);
        assert_eq!(refused(check(&gate, &late, &REQUEST, NOW.plus(1))).0, Code::Replay);
    }
    assert_eq!(*settlement.again.lock().unwrap(), [false, true, true, true]);
    settlement.now_does(Does::Settles);
    assert_eq!(check(&gate, &first, &REQUEST, NOW.plus(Gate::RESUME)), Ok(()));
    assert_eq!(refused(check(&gate, &first, &REQUEST, NOW.plus(Gate::RESUME))).0, Code::Replay);
    assert_eq!(settlement.moved(), 1);
}

#[test]
fn it_can_be_taken_up_for_its_time() {
    let (settlement, _, gate) = stage(Does::SettlesUnheard);
    let payment = payment(&challenge(&gate, 1), 1);
    assert_eq!(check(&gate, &payment, &REQUEST, NOW).unwrap_err().status(), 503);
    settlement.now_does(Does::Settles);
    let late = NOW.plus(Gate::RESUME + 1);
    assert_eq!(refused(check(&gate, &payment, &REQUEST, late)).0, Code::Expired);
    block_on(gate.store().forget(late)).unwrap();
    assert_eq!(refused(check(&gate, &payment, &REQUEST, late)).0, Code::Expired);
}

/// Another proof, another spelling of it, another request: none of them is the payment that was begun.
#[test]
fn only_the_exact_payment_goes_on() {
    let (settlement, _, gate) = stage(Does::SettlesUnheard);
    let first = payment(&challenge(&gate, 1), 1);
    assert_eq!(check(&gate, &first, &REQUEST, NOW).unwrap_err().status(), 503);
    settlement.now_does(Does::Settles);
    let mut ticket = first.clone();
    ticket.proof.ticket = Some("t2".into());
    let mut url = first.clone();
    url.proof.verify_url = Some("https://thief.example/".into());
    for other in [ticket, url] {
        assert_ne!(payment_digest(&other), payment_digest(&first));
        assert_eq!(refused(check(&gate, &other, &REQUEST, NOW)).0, Code::Replay);
    }
    let elsewhere = x402_challenge::BoundRequest { path: "/other", ..REQUEST };
    assert_eq!(refused(check(&gate, &first, &elsewhere, NOW)).0, Code::InvalidBinding);
    assert_eq!(check(&gate, &first, &REQUEST, NOW), Ok(()));
}

/// What is certain to have moved nothing leaves the challenge to another payment, but only on the first attempt can a
/// facilitator that is down be certain.
#[test]
fn what_moved_nothing_frees_the_challenge() {
    for does in [Does::Refuses, Does::Down] {
        let (settlement, _, gate) = stage(does);
        let challenge = challenge(&gate, 1);
        let failed = check(&gate, &payment(&challenge, 1), &REQUEST, NOW).unwrap_err();
        assert_eq!(failed.status(), if does == Does::Down { 503 } else { 402 });
        settlement.now_does(Does::Settles);
        assert_eq!(check(&gate, &payment(&challenge, 2), &REQUEST, NOW), Ok(()));
    }
    let (settlement, _, gate) = stage(Does::SettlesUnheard);
    let challenge = challenge(&gate, 1);
    let first = payment(&challenge, 1);
    for does in [Does::SettlesUnheard, Does::Down] {
        settlement.now_does(does);
        assert_eq!(check(&gate, &first, &REQUEST, NOW).unwrap_err().status(), 503);
        assert_eq!(refused(check(&gate, &payment(&challenge, 2), &REQUEST, NOW)).0, Code::Replay);
    }
    settlement.now_does(Does::Settles);
    assert_eq!(check(&gate, &first, &REQUEST, NOW), Ok(()));
}

/// The store wrote the payment and its answer was lost: the row is read back, and the payment granted.
#[test]
fn a_lost_confirmation_is_read_back() {
    let (_, store, gate) = stage(Does::Settles);
    let payment = payment(&challenge(&gate, 1), 1);
    *store.loses_answer.lock().unwrap() = true;
    assert_eq!(check(&gate, &payment, &REQUEST, NOW), Ok(()));
    assert_eq!(refused(check(&gate, &payment, &REQUEST, NOW)).0, Code::Replay);
}
