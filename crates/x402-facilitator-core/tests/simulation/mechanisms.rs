//! Toy schemes: `exact` and `upto`, which share one kind of authorization, and order + redeem.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use x402_facilitator_core::{
    Mechanism, NextStep, Observation, OnceKey, Parcel, Payment, Receipt, Step, StepName, StepProof, TxId, Verdict,
};
use x402_types::v2::SupportedKind;
use x402_types::{
    AmountRule, AtomicAmount, AuthorizationKind, ChainId, Claim, ErrorReason, Fault, Members, PaymentKey, Refusal,
    Rejection, SchemeName, UnixSeconds, Version,
};

use crate::bugs::Bug;
use crate::chain::{Auth, Call, Done, Hash, Kind, Op, State, digest, of};
use crate::rails::{lane, transaction};
use crate::world::{ACCOUNTS, BLOCK, World};

pub const EXPIRED: ErrorReason = ErrorReason::INVALID_VALID_BEFORE;
pub const CANCELLED: ErrorReason = ErrorReason::AUTHORIZATION_CANCELED;
const TRANSFER: StepName = StepName::new("transfer");
pub const ORDER: StepName = StepName::new("order");
pub const REDEEM: StepName = StepName::new("redeem");

/// What the payer signed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Signed {
    pub payer: u64,
    pub nonce: u64,
    /// The most that may be moved; what is moved stands in the terms.
    pub max: u64,
    pub before: u64,
    /// The lane that alone may settle it (`upto`).
    pub only: u64,
    /// Whether more credits may be ordered.
    pub order: bool,
}

pub fn signed(claim: &Claim) -> Signed {
    claim.payload.read().unwrap()
}

pub fn network() -> ChainId {
    ChainId::eip155(84_532)
}

pub fn amount(claim: &Claim) -> u64 {
    claim.terms.amount.value().to::<u64>()
}

pub fn key_of(kind: AuthorizationKind, signed: &Signed) -> PaymentKey {
    PaymentKey::new(kind, network(), b"contract", &signed.payer.to_be_bytes(), &signed.nonce.to_be_bytes())
}

pub fn purchase(key: &PaymentKey) -> Hash {
    digest(key.as_bytes())
}

fn kind(scheme: SchemeName) -> Vec<SupportedKind> {
    vec![SupportedKind {
        x402_version: Version::V2,
        scheme,
        network: network().into(),
        extra: Members::new(),
        rest: Members::new(),
    }]
}

fn proof(done: Done) -> StepProof {
    StepProof::new(transaction(done.tx), AtomicAmount::from(done.amount))
}

fn receipt(payment: &Payment, proof: Option<&StepProof>) -> NextStep {
    let mut extra = Members::new();
    if let Some(order) = payment.proven(&ORDER) {
        extra.insert_text("orderTx", order.tx.as_str());
    }
    let transaction = proof.map(|proof| proof.tx.clone());
    let amount = proof.map_or(AtomicAmount::ZERO, |proof| proof.amount);
    let mut receipt = Receipt::new(transaction, network(), payment.payer.clone()).of_amount(amount);
    receipt.extra = extra;
    NextStep::Settled(receipt)
}

fn parcel(call: &Call) -> Parcel {
    let bytes = serde_json::to_vec(call).unwrap();
    let mut id = [0; 32];
    id[..8].copy_from_slice(&digest(&bytes).to_be_bytes());
    Parcel::new(id, bytes)
}

fn call(parcel: &Parcel) -> Call {
    serde_json::from_slice(&parcel.bytes).unwrap()
}

fn reject<T>(reason: ErrorReason) -> Result<T, Refusal> {
    Err(Rejection::new(reason).into())
}

/// `exact`, and `upto` with the actual amount and a fixed sender. Both spend the same authorizations.
pub struct Pull {
    pub scheme: SchemeName,
    pub world: World,
    pub bug: Bug,
}

impl Pull {
    fn is_upto(&self) -> bool {
        self.scheme == SchemeName::UPTO
    }

    /// Only the block's own time proves a deadline.
    fn now(&self, state: &State) -> u64 {
        if self.bug == Bug::WallClockExpiry { self.world.now().0 } else { state.time }
    }
}

#[async_trait]
impl Mechanism for Pull {
    fn kinds(&self) -> Vec<SupportedKind> {
        kind(self.scheme.clone())
    }

    fn amount_rule(&self) -> AmountRule {
        if self.is_upto() { AmountRule::AtMost } else { AmountRule::Equal }
    }

    fn has_nonce_on_chain(&self) -> bool {
        true
    }

    fn key(&self, claim: &Claim) -> Result<PaymentKey, Rejection> {
        let signed = signed(claim);
        if amount(claim) > signed.max {
            return Err(Rejection::new(ErrorReason::INVALID_VALUE));
        }
        let by_scheme = self.bug == Bug::KeyByScheme && self.is_upto();
        let kind = if by_scheme { AuthorizationKind::Eip3009 } else { AuthorizationKind::Permit2 };
        Ok(key_of(kind, &signed))
    }

    async fn verify(&self, claim: &Claim, now: UnixSeconds) -> Result<Verdict, Refusal> {
        let signed = signed(claim);
        let state = self.world.rpc(|world| world.seen_head()).await?;
        if state.auths.contains_key(&(signed.payer, signed.nonce)) {
            return reject(ErrorReason::NONCE_ALREADY_USED);
        }
        if now.0 + 6 > signed.before {
            return reject(EXPIRED);
        }
        if of(&state.balances, &signed.payer) < signed.max {
            return reject(ErrorReason::INSUFFICIENT_FUNDS);
        }
        Ok(Verdict::new(
            signed.payer.to_string(),
            if self.is_upto() { vec![lane(signed.only)] } else { (0..ACCOUNTS).map(lane).collect() },
            UnixSeconds(signed.before + 100),
        ))
    }

    async fn plan(&self, payment: &Payment, now: UnixSeconds) -> Result<NextStep, Fault> {
        let signed = signed(&payment.claim);
        let amount = amount(&payment.claim);
        if amount == 0 {
            return Ok(receipt(payment, None));
        }
        if let Some(proof) = payment.proven(&TRANSFER) {
            return Ok(receipt(payment, Some(proof)));
        }
        if let Some(Step { state: x402_facilitator_core::StepState::Dead(reason), .. }) = payment.steps.last() {
            return Ok(NextStep::Failed(reason.clone()));
        }
        let state = self.world.rpc(|world| world.seen_head()).await?;
        let refusal = if state.auths.contains_key(&(signed.payer, signed.nonce)) {
            Some(ErrorReason::DUPLICATE_SETTLEMENT)
        } else if of(&state.balances, &signed.payer) < amount {
            Some(ErrorReason::INSUFFICIENT_FUNDS)
        } else {
            (now.0 > signed.before).then_some(EXPIRED)
        };
        match (refusal, payment.open_step()) {
            // Bytes have left: a read proves nothing.
            (Some(_), Some(_)) => return Ok(NextStep::Wait(now.plus(BLOCK))),
            (Some(reason), None) => return Ok(NextStep::Failed(reason)),
            (None, _) => {}
        }
        let Signed { payer, nonce, before, only, .. } = signed;
        let pull = Call::Pull { payer, nonce, amount, before, only: self.is_upto().then_some(only) };
        let once_key = OnceKey(payment.key.as_bytes().to_vec());
        Ok(NextStep::Do { name: TRANSFER, once_key, exclusive: None, parcel: parcel(&pull) })
    }

    async fn observe(&self, step: &Step, sent: &[TxId]) -> Result<Observation, Fault> {
        let Call::Pull { payer, nonce, amount, before, .. } = call(&step.parcels[0]) else {
            return Ok(Observation::Pending);
        };
        let at_head = self.bug == Bug::ProofAtHead;
        let state = self.world.rpc(|world| if at_head { world.seen_head() } else { world.seen_final() }).await?;
        Ok(match state.auths.get(&(payer, nonce)) {
            Some(Auth::Used(done)) => Observation::Proven(proof(*done)),
            Some(Auth::Cancelled) => Observation::Dead(CANCELLED),
            None if self.bug == Bug::MemberByStatus && reverted(&state, sent) => {
                Observation::Proven(StepProof::new(sent[0].clone(), amount.into()))
            }
            None if self.now(&state) > before => Observation::Dead(EXPIRED),
            None if self.bug == Bug::RevertTakenForFailure && reverted(&state, sent) => {
                Observation::Dead(ErrorReason::INVALID_TRANSACTION_STATE)
            }
            None => Observation::Pending,
        })
    }
}

/// Something of ours is in a block, and did not do what it should.
fn reverted(state: &State, sent: &[TxId]) -> bool {
    state.landed.iter().any(|hash| sent.contains(&transaction(*hash)))
}

/// Credits are redeemed; when they are short, they are ordered first.
pub struct Credits {
    pub world: World,
    pub bug: Bug,
}

impl Credits {
    async fn head(&self) -> Result<Arc<State>, Fault> {
        self.world.rpc(|world| world.seen_head()).await
    }

    async fn finalized(&self) -> Result<Arc<State>, Fault> {
        let at_head = self.bug == Bug::ProofAtHead;
        self.world.rpc(|world| if at_head { world.seen_head() } else { world.seen_final() }).await
    }
}

#[async_trait]
impl Mechanism for Credits {
    fn kinds(&self) -> Vec<SupportedKind> {
        kind(SchemeName::NVM_ERC4337)
    }

    fn has_nonce_on_chain(&self) -> bool {
        false
    }

    fn key(&self, claim: &Claim) -> Result<PaymentKey, Rejection> {
        let signed = signed(claim);
        if amount(claim) > signed.max {
            return Err(Rejection::new(ErrorReason::INVALID_VALUE));
        }
        Ok(key_of(AuthorizationKind::NvmErc4337, &signed))
    }

    async fn verify(&self, claim: &Claim, now: UnixSeconds) -> Result<Verdict, Refusal> {
        let signed = signed(claim);
        let state = self.head().await?;
        if now.0 + 6 > signed.before {
            return reject(EXPIRED);
        }
        if of(&state.credits, &signed.payer) < signed.max && !signed.order {
            return reject(ErrorReason::INSUFFICIENT_FUNDS);
        }
        Ok(Verdict::new(signed.payer.to_string(), (0..=ACCOUNTS).map(lane).collect(), UnixSeconds(signed.before + 100)))
    }

    async fn plan(&self, payment: &Payment, now: UnixSeconds) -> Result<NextStep, Fault> {
        let signed = signed(&payment.claim);
        if let Some(proof) = payment.proven(&REDEEM) {
            return Ok(receipt(payment, Some(proof)));
        }
        let state = self.head().await?;
        let ordered = payment.proven(&ORDER).is_some();
        let short = of(&state.credits, &signed.payer) < amount(&payment.claim);
        let late = now.0 > signed.before;
        let wait = Ok(NextStep::Wait(now.plus(BLOCK)));
        let tries = payment.steps.iter().filter(|step| step.name == REDEEM).count() as u32;
        let patience = 1 + signed.nonce as u32 % 3;
        let kind = match payment.open_step() {
            // Left once and did not land: the same nonce, perhaps with other call data.
            Some(step) => {
                let kind = if step.name == ORDER { Kind::Order } else { Kind::Redeem };
                let taken = step.once_key != once_key(&signed, kind, &state);
                if late || taken || (kind == Kind::Redeem && short) {
                    return wait;
                }
                kind
            }
            None if late || tries >= patience * (payment.reopened + 1) => {
                return Ok(NextStep::Failed(if ordered { ErrorReason::UNEXPECTED_SETTLE_ERROR } else { EXPIRED }));
            }
            // Never a second order: others may have taken the credits.
            None if short && ordered && self.bug != Bug::SecondOrder => return wait,
            None if short && signed.order => Kind::Order,
            None if short => return Ok(NextStep::Failed(ErrorReason::INSUFFICIENT_FUNDS)),
            None => Kind::Redeem,
        };
        let op = Op {
            sender: signed.payer,
            kind,
            seq: of(&state.seqs, &(signed.payer, kind)),
            amount: amount(&payment.claim),
            epoch: of(&state.epochs, &signed.payer),
            salt: payment.steps.iter().map(|step| step.parcels.len() as u64).sum(),
            until: signed.before,
            purchase: purchase(&payment.key),
        };
        let name = if kind == Kind::Order { ORDER } else { REDEEM };
        Ok(NextStep::Do {
            name,
            once_key: once_key(&signed, kind, &state),
            exclusive: None,
            parcel: parcel(&Call::Op(op)),
        })
    }

    async fn observe(&self, step: &Step, sent: &[TxId]) -> Result<Observation, Fault> {
        let mut state = self.finalized().await?;
        let ops: Vec<Op> = step
            .parcels
            .iter()
            .filter_map(|parcel| if let Call::Op(op) = call(parcel) { Some(op) } else { None })
            .collect();
        let watched = if self.bug == Bug::NewestParcelOnly { ops.len() - 1 } else { 0 };
        for op in &ops[watched..] {
            match state.ops.get(&op.hash()) {
                Some((true, done)) => return Ok(Observation::Proven(proof(*done))),
                Some((false, _)) => return Ok(Observation::Dead(ErrorReason::INVALID_TRANSACTION_STATE)),
                None => {}
            }
        }
        if self.bug == Bug::ReadOverTwoBlocks {
            state = self.finalized().await?;
        }
        let op = &ops[0];
        Ok(if of(&state.seqs, &(op.sender, op.kind)) > op.seq {
            Observation::Dead(ErrorReason::NONCE_ALREADY_USED)
        } else if state.time > op.until {
            Observation::Dead(EXPIRED)
        } else if self.bug == Bug::RevertTakenForFailure && reverted(&state, sent) {
            Observation::Dead(ErrorReason::INVALID_TRANSACTION_STATE)
        } else {
            Observation::Pending
        })
    }
}

fn once_key(signed: &Signed, kind: Kind, state: &State) -> OnceKey {
    let seq = of(&state.seqs, &(signed.payer, kind));
    OnceKey(format!("{} {kind:?} {seq}", signed.payer).into_bytes())
}
