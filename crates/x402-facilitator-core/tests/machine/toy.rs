//! A world of one mechanism and one rail that a test sets as it likes.

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use x402_facilitator_core::{
    Attempt, Delivery, LaneId, Lease, Ledger, Mechanism, MemoryLedger, NextStep, Nonces, Observation, OnceKey, Outcome,
    OwnerId, Parcel, Payment, Progress, Rail, Receipt, Settlement, SlotId, Step, StepName, StepProof, TxId, Verdict,
};
use x402_types::v2::SupportedKind;
use x402_types::{
    AmountRule, AtomicAmount, AuthorizationKind, ChainId, Claim, ErrorReason, Fault, Identity, Members, NotTaken,
    PaymentKey, RawJson, Refusal, Rejection, SchemeName, Terms, UnixSeconds, Version,
};

pub const NOW: UnixSeconds = UnixSeconds(100);
pub const ORDER: StepName = StepName::new("order");
pub const REDEEM: StepName = StepName::new("redeem");

pub fn wait<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("nothing here waits"),
    }
}

pub fn network() -> ChainId {
    ChainId::eip155(84_532)
}

pub fn lane() -> LaneId {
    LaneId::new(network(), "0xaa")
}

pub fn claim(nonce: u8, request: &str) -> Claim {
    Claim::of_payload(
        Terms::new(SchemeName::EXACT, network(), AtomicAmount::from(5), "token", "shop"),
        RawJson::of(&nonce).unwrap(),
    )
    .with_identity(Identity::new("shop", request.to_owned()))
}

pub fn receipt() -> Receipt {
    Receipt::new(Some(TxId::from("0x01")), network(), "payer".to_owned())
}

pub fn proof() -> StepProof {
    StepProof::new(TxId::from("0x01"), AtomicAmount::from(5))
}

/// The world as a test sets it.
#[derive(Default)]
pub struct World {
    pub rejection: Option<ErrorReason>,
    pub plan: Option<NextStep>,
    pub seen: Option<Observation>,
    pub nonces: Option<Nonces>,
    pub cannot_sign: bool,
    /// The payments for which no transaction can be signed, by nonce.
    pub unsignable: Vec<u8>,
    pub cannot_send: bool,
    /// Whether only the ledger keeps a payment from being settled twice.
    pub no_nonce: bool,
    /// Whether the far side answers what is sent.
    pub answers: bool,
    /// Whether the far side never forgets what it took.
    pub remembers: bool,
    pub unfunded: bool,
    /// The reason why the rail does not sign the mechanism's parcel.
    pub unsigned: Option<Refusal>,
    /// The served scheme; `exact` by default.
    pub scheme: Option<SchemeName>,
    /// The lanes that the mechanism names.
    pub lanes: Vec<LaneId>,
    /// The account of the rail's lane; `0xaa` by default.
    pub account: Option<&'static str>,
    pub max_parcels: Option<usize>,
    pub method: Option<&'static str>,
    pub rule: AmountRule,
    pub planned: usize,
    pub sent: Vec<Attempt>,
    pub loads: Vec<usize>,
}

#[derive(Clone, Default)]
pub struct Toy(pub Arc<Mutex<World>>);

impl Toy {
    pub fn set(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.0.lock().unwrap());
    }

    pub fn sent(&self) -> Vec<String> {
        self.0.lock().unwrap().sent.iter().map(|attempt| attempt.tx.to_string()).collect()
    }
}

pub fn step(name: StepName, once_key: u8, nonce: u8) -> NextStep {
    NextStep::Do {
        name,
        once_key: OnceKey(vec![once_key]),
        exclusive: None,
        parcel: Parcel::new([nonce; 32], vec![nonce]),
    }
}

#[async_trait]
impl Mechanism for Toy {
    fn kinds(&self) -> Vec<SupportedKind> {
        vec![SupportedKind {
            x402_version: Version::V2,
            scheme: self.0.lock().unwrap().scheme.clone().unwrap_or(SchemeName::EXACT),
            network: network().into(),
            extra: Members::new(),
            rest: Members::new(),
        }]
    }

    fn lanes(&self) -> Vec<LaneId> {
        self.0.lock().unwrap().lanes.clone()
    }

    fn amount_rule(&self) -> AmountRule {
        self.0.lock().unwrap().rule
    }

    fn method(&self) -> Option<&'static str> {
        self.0.lock().unwrap().method
    }

    /// `extra` names the methods that a claim is for.
    fn is_own(&self, claim: &Claim) -> bool {
        self.method().is_some_and(|method| claim.terms.extra.get(method).is_some())
    }

    fn has_nonce_on_chain(&self) -> bool {
        !self.0.lock().unwrap().no_nonce
    }

    fn key(&self, claim: &Claim) -> Result<PaymentKey, Rejection> {
        let nonce: u8 = claim.payload.read().map_err(|_| Rejection::new(ErrorReason::INVALID_PAYLOAD))?;
        Ok(PaymentKey::new(AuthorizationKind::Eip3009, network(), b"token", b"payer", &[nonce]))
    }

    async fn verify(&self, _: &Claim, _: UnixSeconds) -> Result<Verdict, Refusal> {
        match &self.0.lock().unwrap().rejection {
            Some(reason) => Err(Rejection::new(reason.clone()).into()),
            None => {
                let verdict = Verdict::new("payer".to_owned(), vec![LaneId::from("another"), lane()], NOW.plus(900));
                Ok(verdict.with_parcels([Parcel::new([7; 32], vec![7])]))
            }
        }
    }

    fn max_parcels(&self) -> usize {
        self.0.lock().unwrap().max_parcels.unwrap_or(usize::MAX)
    }

    async fn plan(&self, payment: &Payment, _: UnixSeconds) -> Result<NextStep, Fault> {
        self.set(|world| world.planned += 1);
        let nonce: u8 = payment.claim.payload.read().unwrap();
        Ok(self.0.lock().unwrap().plan.clone().unwrap_or_else(|| step(ORDER, nonce, nonce)))
    }

    async fn observe(&self, _: &Step, _: &[TxId]) -> Result<Observation, Fault> {
        Ok(self.0.lock().unwrap().seen.clone().unwrap_or(Observation::Pending))
    }
}

#[async_trait]
impl Rail for Toy {
    fn lanes(&self) -> Vec<LaneId> {
        vec![self.0.lock().unwrap().account.map_or_else(lane, |account| LaneId::new(network(), account))]
    }

    fn fits(&self, aboard: &[&Parcel], _: &Parcel) -> bool {
        aboard.len() < self.most_aboard()
    }

    fn most_aboard(&self) -> usize {
        2
    }

    async fn nonces(&self, _: &LaneId) -> Result<Option<Nonces>, Fault> {
        Ok(self.0.lock().unwrap().nonces)
    }

    async fn sign(&self, slot: &SlotId, load: &[Parcel], replaces: Option<&Attempt>) -> Result<Attempt, Fault> {
        let mut world = self.0.lock().unwrap();
        if world.cannot_sign || load.iter().any(|parcel| world.unsignable.contains(&parcel.bytes[0])) {
            return Err(Fault::unreachable("signer", "asleep"));
        }
        world.loads.push(load.len());
        let fee = replaces.map_or(10, |attempt| attempt.fee * 2);
        Ok(Attempt::new(TxId::from(format!("{}:{fee}", slot.nonce)), vec![slot.nonce as u8], fee))
    }

    fn funded(&self, lane: &LaneId) -> Result<(), Fault> {
        if self.0.lock().unwrap().unfunded { Err(no_gas(lane)) } else { Ok(()) }
    }

    fn forgets(&self) -> bool {
        !self.0.lock().unwrap().remembers
    }

    fn check_parcel(&self, parcel: &Parcel) -> Result<(), Refusal> {
        assert_eq!(parcel.bytes, [7]);
        self.0.lock().unwrap().unsigned.clone().map_or(Ok(()), Err)
    }

    async fn send(&self, attempt: &Attempt) -> Result<Delivery, Fault> {
        let mut world = self.0.lock().unwrap();
        if world.cannot_send {
            return Err(no_gas(&lane()));
        }
        world.sent.push(attempt.clone());
        Ok(if world.answers { Delivery::Answered } else { Delivery::Taken })
    }
}

pub fn no_gas(lane: &LaneId) -> Fault {
    Fault::NotTaken { service: "the chain", why: NotTaken::NoGasFunds, detail: lane.to_string().into() }
}

pub struct Bench {
    pub toy: Toy,
    pub ledger: Arc<MemoryLedger>,
    pub settlement: Settlement,
    pub lease: Lease,
}

impl Bench {
    pub fn new() -> Self {
        let ledger = Arc::new(MemoryLedger::new(|| NOW));
        let toy = Toy::default();
        toy.set(|world| world.nonces = Some(Nonces { head: 0, finalized: 0 }));
        let settlement = machine(&toy, &ledger, "one");
        let lease = wait(ledger.lease(&lane(), settlement.owner(), 100)).unwrap().unwrap();
        Self { toy, ledger, settlement, lease }
    }

    pub fn row(&self, nonce: u8) -> Payment {
        let key = self.settlement.key(&claim(nonce, "")).unwrap();
        wait(self.ledger.read(&key)).unwrap().unwrap()
    }

    pub fn advance(&self, nonce: u8) -> Result<Progress, Fault> {
        self.advance_at(nonce, NOW)
    }

    pub fn advance_at(&self, nonce: u8, now: UnixSeconds) -> Result<Progress, Fault> {
        let key = self.settlement.key(&claim(nonce, "")).unwrap();
        wait(self.settlement.advance(&self.lease, &key, now))
    }

    pub fn carry(&self, now: UnixSeconds) -> Result<Progress, Fault> {
        wait(self.settlement.carry(&self.lease, now))
    }

    /// Plans, sends and proves the payment's step, and answers with `end`.
    pub fn finish(&self, nonce: u8, end: NextStep) {
        assert_eq!(self.advance(nonce), Ok(Progress::Moved));
        assert_eq!(self.carry(NOW), Ok(Progress::Moved));
        self.toy.set(|world| {
            world.seen = Some(Observation::Proven(proof()));
            world.plan = Some(end);
        });
        assert_eq!(self.advance(nonce), Ok(Progress::Moved));
    }
}

pub fn machine(toy: &Toy, ledger: &Arc<MemoryLedger>, owner: &str) -> Settlement {
    Settlement::new(OwnerId::from(owner), Arc::clone(ledger) as Arc<dyn Ledger>)
        .with_mechanism(Arc::new(toy.clone()))
        .unwrap()
        .with_rail(Arc::new(toy.clone()))
        .unwrap()
}

pub fn pending(transaction: Option<&str>) -> Outcome {
    Outcome::Pending { transaction: transaction.map(TxId::from), payer: "payer".to_owned() }
}

pub fn duplicate(transaction: Option<&str>) -> Outcome {
    Outcome::Duplicate { transaction: transaction.map(TxId::from) }
}

pub fn spent(transaction: &str) -> Outcome {
    Outcome::Spent { transaction: Some(TxId::from(transaction)), payer: "payer".to_owned() }
}

pub fn settled(replayed: bool) -> Outcome {
    Outcome::Settled { receipt: receipt(), replayed }
}
