//! The scheme `capture`: a card pays. The buyer approves a limit, the bank holds it, and what was used is captured: at most
//! the limit. A bank in memory stands for a card processor; nothing here is a chain.
//!
//! One file has all of it: the payload, the seller's, the buyer's and the facilitator's half, and a rail of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alloy_primitives::{U256, hex, keccak256};
use async_trait::async_trait;
use serde_json::{Value, json};
use x402_facilitator_core::{
    Attempt, Delivery, LaneId, Mechanism, NextStep, Nonces, Observation, OnceKey, Parcel, Payment, Rail, Receipt,
    SlotId, Step, StepName, StepProof, StepState, TxId, Verdict,
};
use x402_types::v2::SupportedKind;
use x402_types::{
    AmountRule, AtomicAmount, AuthorizationKind, ChainId, Claim, ErrorReason, Fault, MadePayment, MakePayment,
    Malformed, Members, Offer, PaymentKey, PaymentKeyFn, RawJson, Refusal, Rejection, SchemeName, SigningContext,
    Terms, UnixSeconds, Version,
};

const NAME: &str = "capture";
const NETWORK: &str = "card:demo";
const CURRENCY: &str = "EUR-cent";
const CAPTURE: StepName = StepName::new("capture");

/// What the buyer sends: which card, up to how much, once, and the approval that only the card's holder can make.
struct Payload {
    card: String,
    limit: AtomicAmount,
    nonce: [u8; 32],
    approval: [u8; 32],
}

impl Payload {
    fn read(payload: &RawJson) -> Result<Self, Rejection> {
        let bad = |member: &str, expected| Rejection::field(&format!("payload.{member}"), Malformed::new(expected));
        let members: Members = payload.read().map_err(|_| bad("", "an object"))?;
        let text = |member: &str| members.text(member).ok_or_else(|| bad(member, "a string"));
        let word = |member: &str| -> Result<[u8; 32], Rejection> {
            let bytes = hex::decode(text(member)?).ok().and_then(|bytes| bytes.try_into().ok());
            bytes.ok_or_else(|| bad(member, "32 bytes in hex"))
        };
        let limit = text("limit")?.parse().map_err(|why| Rejection::field("payload.limit", why))?;
        Ok(Self { card: text("card")?, limit, nonce: word("nonce")?, approval: word("approval")? })
    }

    fn key(&self, network: ChainId) -> PaymentKey {
        PaymentKey::new(AuthorizationKind::Other, network, NAME.as_bytes(), self.card.as_bytes(), &self.nonce)
    }
}

/// The holder's word: the card's secret over all that is approved. Every part but the last has one length.
fn approval(secret: &[u8; 32], limit: AtomicAmount, nonce: &[u8; 32], pay_to: &str) -> [u8; 32] {
    keccak256([secret.as_slice(), &limit.value().to_be_bytes::<32>(), nonce, pay_to.as_bytes()].concat()).0
}

/// The seller's half: a price up to which a request may cost.
pub(crate) fn requirements(pay_to: &str, limit: u64) -> Result<Offer, Malformed> {
    let terms = Terms::new(NAME.parse()?, NETWORK.parse()?, limit.into(), CURRENCY.to_owned(), pay_to.to_owned());
    Ok(Offer { terms, key: Arc::new(Key) })
}

/// The server's word on the scheme: which payment is which, and that less may be settled than was approved.
struct Key;

impl PaymentKeyFn for Key {
    fn key(&self, claim: &Claim) -> Result<PaymentKey, Rejection> {
        Ok(Payload::read(&claim.payload)?.key(claim.terms.network))
    }

    fn amount_rule(&self) -> AmountRule {
        AmountRule::AtMost
    }
}

/// The buyer's half: a card and its secret.
pub(crate) struct Card {
    pub(crate) number: &'static str,
    pub(crate) secret: [u8; 32],
}

#[async_trait]
impl MakePayment for Card {
    fn can_pay(&self, terms: &Terms) -> bool {
        terms.scheme.as_str() == NAME && terms.network.as_str() == NETWORK && terms.asset == CURRENCY
    }

    async fn make_payment(&self, terms: &Terms, context: &SigningContext<'_>) -> Result<MadePayment, Refusal> {
        let nonce = context.entropy;
        let approval = approval(&self.secret, terms.amount, &nonce, &terms.pay_to);
        let payload = json!({
            "card": self.number,
            "limit": terms.amount.to_string(),
            "nonce": hex::encode_prefixed(nonce),
            "approval": hex::encode_prefixed(approval),
        });
        let payload = RawJson::of(&payload).map_err(Fault::broken)?;
        let key = Payload::read(&payload)?.key(terms.network);
        let until = context.now.plus(terms.max_timeout_seconds.get());
        Ok(MadePayment::new(payload, self.number.to_owned(), key, until))
    }
}

/// The processor: cards with their secrets and balances, and what was captured under each name.
#[derive(Default)]
pub(crate) struct Bank(Mutex<Books>);

#[derive(Default)]
struct Books {
    cards: BTreeMap<String, ([u8; 32], U256)>,
    /// By the name of the capture: so much, or declined.
    captures: BTreeMap<[u8; 32], Option<U256>>,
}

impl Bank {
    pub(crate) fn issue(&self, card: &Card, balance: u64) {
        self.books().cards.insert(card.number.to_owned(), (card.secret, U256::from(balance)));
    }

    pub(crate) fn balance(&self, card: &Card) -> U256 {
        self.books().cards.get(card.number).map(|(_, balance)| *balance).unwrap_or_default()
    }

    pub(crate) fn lane() -> LaneId {
        LaneId::from(format!("{NETWORK}/acquirer"))
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the sum from the card, once for each name.
    fn capture(&self, name: [u8; 32], card: &str, sum: U256) {
        let mut books = self.books();
        if books.captures.contains_key(&name) {
            return;
        }
        let left = books.cards.get(card).and_then(|(_, balance)| balance.checked_sub(sum));
        if let (Some(left), Some((_, balance))) = (left, books.cards.get_mut(card)) {
            *balance = left;
        }
        books.captures.insert(name, left.map(|_| sum));
    }
}

fn reference(name: &[u8; 32]) -> TxId {
    TxId::from(format!("cap_{}", hex::encode(name)))
}

/// How captures travel. The processor numbers nothing and knows each by its name, so sending one again does no harm.
#[async_trait]
impl Rail for Bank {
    fn lanes(&self) -> Vec<LaneId> {
        vec![Self::lane()]
    }

    fn fits(&self, aboard: &[&Parcel], _next: &Parcel) -> bool {
        aboard.is_empty()
    }

    async fn nonces(&self, _lane: &LaneId) -> Result<Option<Nonces>, Fault> {
        Ok(None)
    }

    async fn sign(&self, _: &SlotId, load: &[Parcel], _: Option<&Attempt>) -> Result<Attempt, Fault> {
        let parcel = load.first().ok_or_else(|| Fault::broken("a capture of nothing"))?;
        Ok(Attempt::new(reference(&parcel.id), parcel.bytes.clone(), 0))
    }

    /// Answers at once: the capture is looked up without a wait.
    async fn send(&self, attempt: &Attempt) -> Result<Delivery, Fault> {
        let order: Value = serde_json::from_slice(&attempt.bytes).map_err(Fault::broken)?;
        let text = |member: &str| order.get(member).and_then(Value::as_str).unwrap_or_default();
        let name = hex::decode(text("name")).ok().and_then(|name| name.try_into().ok());
        let name = name.ok_or_else(|| Fault::broken("a capture without a name"))?;
        let sum: AtomicAmount = text("sum").parse().map_err(Fault::broken)?;
        self.capture(name, text("card"), sum.value());
        Ok(Delivery::Answered)
    }
}

/// The facilitator's half.
pub(crate) struct Capture {
    pub(crate) bank: Arc<Bank>,
    pub(crate) scheme: SchemeName,
    pub(crate) network: ChainId,
}

impl Capture {
    pub(crate) fn new(bank: Arc<Bank>) -> Result<Self, Malformed> {
        Ok(Self { bank, scheme: NAME.parse()?, network: NETWORK.parse()? })
    }

    /// Everything that the payload and the books say. `limit` and nothing less must be there: the handler may use it all.
    fn check(&self, claim: &Claim) -> Result<Payload, Rejection> {
        let payload = Payload::read(&claim.payload)?;
        let refuse = |reason| Rejection::new(reason).of(payload.card.as_str());
        if !AmountRule::AtMost.allows(claim.terms.amount, payload.limit) {
            return Err(refuse(ErrorReason::INVALID_VALUE));
        }
        let books = self.bank.books();
        let (secret, balance) = books.cards.get(&payload.card).ok_or_else(|| refuse(ErrorReason::INVALID_PAYLOAD))?;
        if payload.approval != approval(secret, payload.limit, &payload.nonce, &claim.terms.pay_to) {
            return Err(refuse(ErrorReason::INVALID_SIGNATURE));
        }
        if books.captures.contains_key(&payload.nonce) {
            return Err(refuse(ErrorReason::NONCE_ALREADY_USED));
        }
        if *balance < payload.limit.value() {
            return Err(refuse(ErrorReason::INSUFFICIENT_FUNDS));
        }
        drop(books);
        Ok(payload)
    }
}

#[async_trait]
impl Mechanism for Capture {
    fn kinds(&self) -> Vec<SupportedKind> {
        vec![SupportedKind {
            x402_version: Version::V2,
            scheme: self.scheme.clone(),
            network: self.network.into(),
            extra: Members::new(),
            rest: Members::new(),
        }]
    }

    fn amount_rule(&self) -> AmountRule {
        Key.amount_rule()
    }

    fn has_nonce_on_chain(&self) -> bool {
        false
    }

    fn key(&self, claim: &Claim) -> Result<PaymentKey, Rejection> {
        Key.key(claim)
    }

    async fn verify(&self, claim: &Claim, now: UnixSeconds) -> Result<Verdict, Refusal> {
        let payload = self.check(claim)?;
        Ok(Verdict::new(payload.card, vec![Bank::lane()], now.plus(3600)))
    }

    async fn plan(&self, payment: &Payment, now: UnixSeconds) -> Result<NextStep, Fault> {
        let sum = payment.claim.terms.amount;
        let receipt = |transaction| Receipt::new(transaction, self.network, payment.payer.clone()).of_amount(sum);
        match payment.steps.last().map(|step| &step.state) {
            Some(StepState::Proven(proof)) => return Ok(NextStep::Settled(receipt(Some(proof.tx.clone())))),
            Some(StepState::Dead(reason)) => return Ok(NextStep::Failed(reason.clone())),
            Some(StepState::Ready | StepState::InFlight) => return Ok(NextStep::Wait(now.plus(1))),
            // Nothing was used: nothing has to move.
            None if sum.is_zero() => return Ok(NextStep::Settled(receipt(None))),
            None | Some(StepState::Unaccounted) => {}
        }
        let payload = Payload::read(&payment.claim.payload).map_err(Fault::broken)?;
        let name = payload.nonce;
        let order = json!({ "name": hex::encode(name), "card": payload.card, "sum": sum.to_string() });
        Ok(NextStep::Do {
            name: CAPTURE,
            once_key: OnceKey(payment.key.as_bytes().to_vec()),
            exclusive: None,
            parcel: Parcel::new(name, order.to_string().into_bytes()),
        })
    }

    async fn observe(&self, step: &Step, _sent: &[TxId]) -> Result<Observation, Fault> {
        let parcel = step.parcels.first().ok_or_else(|| Fault::broken("a step without a parcel"))?;
        Ok(match self.bank.books().captures.get(&parcel.id) {
            None => Observation::Pending,
            Some(None) => Observation::Dead(ErrorReason::INSUFFICIENT_FUNDS),
            Some(Some(sum)) => Observation::Proven(StepProof::new(reference(&parcel.id), (*sum).into())),
        })
    }
}
