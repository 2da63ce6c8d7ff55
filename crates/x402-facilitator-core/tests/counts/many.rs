//! Any number of payments of one account, on a chain that is set by hand.

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use x402_facilitator_core::conformance::Counted;
use x402_facilitator_core::{
    Attempt, Delivery, HeldLedger, InFlightRequest, LaneId, Lease, Ledger, Mechanism, MemoryLedger, NextStep, Nonces,
    Observation, OnceKey, Outcome, OwnerId, Parcel, Payment, Rail, Receipt, Settlement, SlotId, Step, StepName,
    StepProof, TxId, Verdict,
};
use x402_types::v2::SupportedKind;
use x402_types::{
    AtomicAmount, AuthorizationKind, ChainId, Claim, Fault, Identity, Members, PaymentKey, RawJson, Refusal, Rejection,
    SchemeName, Terms, UnixSeconds, Version,
};

pub const NOW: UnixSeconds = UnixSeconds(100);
const TRANSFER: StepName = StepName::new("transfer");

pub fn wait<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("nothing here waits"),
    }
}

fn network() -> ChainId {
    ChainId::eip155(84_532)
}

fn lane() -> LaneId {
    LaneId::new(network(), "0xaa")
}

pub fn claim(number: u32) -> Claim {
    Claim::of_payload(
        Terms::new(SchemeName::EXACT, network(), AtomicAmount::from(5), "token".to_owned(), "shop".to_owned()),
        RawJson::of(&number).unwrap(),
    )
    .with_identity(Identity::new("shop".to_owned(), String::new()))
}

/// What the chain shows.
#[derive(Default)]
struct Chain {
    landed: bool,
    nonces: Option<Nonces>,
}

#[derive(Clone, Default)]
struct Many(Arc<Mutex<Chain>>);

#[async_trait]
impl Mechanism for Many {
    fn kinds(&self) -> Vec<SupportedKind> {
        let (scheme, network) = (SchemeName::EXACT, network().into());
        vec![SupportedKind { x402_version: Version::V2, scheme, network, extra: Members::new(), rest: Members::new() }]
    }

    fn has_nonce_on_chain(&self) -> bool {
        true
    }

    fn key(&self, claim: &Claim) -> Result<PaymentKey, Rejection> {
        let number: u32 = claim.payload.read().unwrap();
        Ok(PaymentKey::new(AuthorizationKind::Eip3009, network(), b"token", b"payer", &number.to_be_bytes()))
    }

    async fn verify(&self, _: &Claim, now: UnixSeconds) -> Result<Verdict, Refusal> {
        Ok(Verdict::new("payer".to_owned(), vec![lane()], now.plus(900)))
    }

    async fn plan(&self, payment: &Payment, _: UnixSeconds) -> Result<NextStep, Fault> {
        if let Some(proof) = payment.proven(&TRANSFER) {
            return Ok(NextStep::Settled(Receipt::new(Some(proof.tx.clone()), network(), "payer".to_owned())));
        }
        let once_key = OnceKey(payment.key.as_bytes().to_vec());
        let parcel = Parcel::new([1; 32], vec![7; 300]);
        Ok(NextStep::Do { name: TRANSFER, once_key, exclusive: None, parcel })
    }

    async fn observe(&self, _: &Step, _: &[TxId]) -> Result<Observation, Fault> {
        let proof = StepProof::new(TxId::from("0x01"), AtomicAmount::from(5));
        Ok(if self.0.lock().unwrap().landed { Observation::Proven(proof) } else { Observation::Pending })
    }
}

#[async_trait]
impl Rail for Many {
    fn lanes(&self) -> Vec<LaneId> {
        vec![lane()]
    }

    fn fits(&self, aboard: &[&Parcel], _: &Parcel) -> bool {
        aboard.is_empty()
    }

    async fn nonces(&self, _: &LaneId) -> Result<Option<Nonces>, Fault> {
        Ok(self.0.lock().unwrap().nonces)
    }

    async fn sign(&self, slot: &SlotId, _: &[Parcel], _: Option<&Attempt>) -> Result<Attempt, Fault> {
        Ok(Attempt::new(TxId::from(format!("0x{:064x}", slot.nonce)), vec![2; 500], 10))
    }

    async fn send(&self, _: &Attempt) -> Result<Delivery, Fault> {
        Ok(Delivery::Taken)
    }
}

/// A machine over a counted ledger, behind its memory.
pub struct Bench {
    chain: Many,
    pub ledger: Arc<Counted>,
    pub held: Arc<HeldLedger>,
    pub settlement: Settlement,
    pub lease: Lease,
}

impl Bench {
    /// `most`: the transactions that may be in flight.
    pub fn new(most: usize) -> Self {
        let chain = Many::default();
        chain.0.lock().unwrap().nonces = Some(Nonces { head: 0, finalized: 0 });
        let ledger = Arc::new(Counted::new(Arc::new(MemoryLedger::new(|| NOW))));
        let held = Arc::new(wait(HeldLedger::alone(Arc::clone(&ledger) as Arc<dyn Ledger>)).unwrap());
        let settlement = Settlement::new(OwnerId::from("one"), Arc::clone(&held) as Arc<dyn Ledger>)
            .with_mechanism(Arc::new(chain.clone()))
            .and_then(|it| it.with_rail(Arc::new(chain.clone())))
            .unwrap()
            .with_most_in_flight(network(), most);
        let lease = wait(held.lease(&lane(), settlement.owner(), 100)).unwrap().unwrap();
        Self { chain, ledger, held, settlement, lease }
    }

    /// Claims payments, which their callers wait for.
    pub fn claim(&self, numbers: core::ops::Range<u32>) -> Vec<(InFlightRequest, PaymentKey)> {
        let claimed = numbers.map(|number| {
            let (request, claim) = (self.settlement.begin_request(), claim(number));
            let outcome = wait(self.settlement.settle(&request, &claim, NOW)).unwrap();
            assert!(!outcome.is_final());
            request.begin_waiting();
            (request, self.settlement.key(&claim).unwrap())
        });
        claimed.collect()
    }

    /// Plans payments and puts them into slots, as far as there is room.
    pub fn carry(&self, keys: &[(InFlightRequest, PaymentKey)]) {
        let draft = |(_, key): &(InFlightRequest, PaymentKey)| wait(self.settlement.draft(key, NOW)).unwrap();
        let drafts = keys.iter().filter_map(draft).collect();
        assert!(wait(self.settlement.carry_drafts(&self.lease, drafts, NOW)).lane.is_ok());
    }

    /// Looks at the chain for each, and stores what it shows.
    pub fn observe(&self, keys: &[(InFlightRequest, PaymentKey)]) {
        let draft = |(_, key): &(InFlightRequest, PaymentKey)| wait(self.settlement.draft(key, NOW)).unwrap();
        let drafts = keys.iter().filter_map(draft).collect();
        let stored = wait(self.settlement.store(&self.lease, drafts, NOW));
        assert!(stored.iter().all(|(_, stage)| stage.is_ok()));
    }

    /// A block in which the account's transactions up to this nonce landed.
    pub fn land(&self, nonce: u64) {
        let mut chain = self.chain.0.lock().unwrap();
        (chain.landed, chain.nonces) = (true, Some(Nonces { head: nonce, finalized: nonce }));
    }

    /// A block up to whose nonce the account's transactions were mined, and in which none of the payments is seen.
    pub fn land_nonce(&self, nonce: u64) {
        self.chain.0.lock().unwrap().nonces = Some(Nonces { head: nonce, finalized: nonce });
    }

    pub fn look(&self, waits: &[(InFlightRequest, PaymentKey)]) -> Vec<Outcome> {
        waits.iter().map(|(request, key)| wait(self.settlement.look(request, key)).unwrap()).collect()
    }
}
