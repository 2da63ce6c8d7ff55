//! Sample rows for the rules.

use std::sync::Arc;

use x402_types::{
    AtomicAmount, AuthorizationKind, ChainId, Claim, ErrorReason, Identity, Members, PaymentKey, RawJson, SchemeName,
    Terms, UnixSeconds,
};

use super::Broken;
use crate::{
    Attempt, CommitError, LaneId, Lease, Ledger, OnceKey, OwnerId, Parcel, Payment, Receipt, RequestId, Slot, SlotId,
    Step, StepName, StepProof, StepState, TxId, Verdict, Verified, Write,
};

pub(super) const NETWORK: u64 = 84_532;

pub(super) fn lane(name: &str) -> LaneId {
    LaneId::new(ChainId::eip155(NETWORK), name)
}

pub(super) fn key(number: u8) -> PaymentKey {
    PaymentKey::new(AuthorizationKind::Eip3009, ChainId::eip155(NETWORK), &[1; 20], &[2; 20], &[number; 32])
}

pub(super) fn owner(name: &str) -> OwnerId {
    OwnerId::from(name)
}

/// Returns a payment on the lane `a` that was never planned.
pub(super) fn payment(number: u8) -> Payment {
    let terms = Terms::new(
        SchemeName::EXACT,
        ChainId::eip155(NETWORK),
        AtomicAmount::from(u64::from(number)),
        "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
        "0x90F79bf6EB2c4f870365E785982E1f101E93b906",
    )
    .with_extra(members("name", "USDC"));
    let payload = RawJson::of(&[u64::from(number), u64::MAX]).unwrap_or_else(|_| RawJson::null());
    let claim = Claim::of_payload(terms, payload)
        .with_extensions(members("é \" \\ \u{0}", "kept"))
        .with_identity(Identity::new("shop", format!("request-{number}")));
    let verdict = Verdict::new(format!("payer-{number}"), vec![lane("a")], UnixSeconds(1_000));
    let request = RequestId { owner: owner("one"), number: u64::from(number) };
    Payment::new(Verified::new(claim, key(number), verdict), lane("a"), request, UnixSeconds(10))
}

pub(super) fn members(name: &str, value: &str) -> Members {
    let mut members = Members::new();
    members.insert_text(name, value);
    members
}

pub(super) fn parcel(number: u8) -> Parcel {
    Parcel { id: [number; 32], bytes: vec![0, number, 0xff] }
}

pub(super) fn step(once_key: u8, state: StepState) -> Step {
    Step {
        name: StepName::new("transfer"),
        once_key: OnceKey(vec![once_key]),
        exclusive: None,
        parcels: vec![parcel(once_key)],
        carriers: Vec::new(),
        state,
    }
}

pub(super) fn proven(number: u8) -> StepState {
    StepState::Proven(StepProof {
        tx: tx(number),
        amount: AtomicAmount::from(u64::from(number)),
        extra: members("block", "7"),
    })
}

pub(super) const fn dead() -> StepState {
    StepState::Dead(ErrorReason::AUTHORIZATION_CANCELED)
}

pub(super) fn tx(number: u8) -> TxId {
    TxId::from(format!("0x{number:064x}"))
}

pub(super) fn receipt(number: u8) -> Receipt {
    Receipt {
        transaction: Some(tx(number)),
        network: ChainId::eip155(NETWORK),
        payer: format!("payer-{number}"),
        amount: Some(AtomicAmount::from(u64::from(number))),
        extra: members("remaining", "3"),
        extensions: Members::new(),
    }
}

pub(super) fn slot(lane: &LaneId, nonce: u64, payments: &[u8]) -> Slot {
    Slot {
        id: SlotId { lane: lane.clone(), nonce },
        payments: payments.iter().map(|number| key(*number)).collect(),
        attempts: vec![Attempt { tx: tx(9), bytes: vec![2, 0, 0xfe], fee: u128::MAX }],
        taken: Some(tx(9)),
        opened: UnixSeconds(19),
        used: false,
        resends: 0,
        due: UnixSeconds(20),
        version: 0,
    }
}

/// Leases the lane `a` for a long time.
pub(super) async fn leased(ledger: &Arc<dyn Ledger>) -> Result<Lease, Broken> {
    lease(ledger, "a", "one", 1_000_000).await?.ok_or_else(|| Broken("a free lane was not leased".into()))
}

pub(super) async fn lease(
    ledger: &Arc<dyn Ledger>,
    name: &str,
    by: &str,
    seconds: u64,
) -> Result<Option<Lease>, Broken> {
    Ok(ledger.lease(&lane(name), &owner(by), seconds).await?)
}

/// Claims the payment with this number.
pub(super) async fn claimed(ledger: &Arc<dyn Ledger>, number: u8) -> Result<Payment, Broken> {
    Ok(ledger.claim(payment(number)).await?)
}

pub(super) async fn read(ledger: &Arc<dyn Ledger>, number: u8) -> Result<Payment, Broken> {
    ledger.read(&key(number)).await?.ok_or_else(|| Broken(format!("payment {number} is gone").into()))
}

/// Commits payments under a lease.
pub(super) async fn commit(ledger: &Arc<dyn Ledger>, lease: &Lease, payments: Vec<Payment>) -> Result<(), CommitError> {
    ledger.commit(Write { lease: Some(lease.clone()), payments, ..Write::default() }).await
}
