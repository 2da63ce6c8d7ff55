//! Bugs put in on purpose. None of them is in the library: each is a mechanism, a rail, a ledger or a worker of
//! this test that does what somebody writing a facilitator might do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use x402_facilitator_core::{LaneId, LaneView, Lease, Ledger, MemoryLedger, Payment, Slot, SlotId, StepState, Write};
use x402_types::{ErrorReason, Fault, PaymentKey, SchemeName, UnixSeconds};

use crate::process::Process;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// The library as it is.
    None,
    /// The rail sends what it signs, before the ledger has it.
    SentBeforeStored,
    /// The worker answers "failed" when a transaction takes long.
    TimeoutTakenForFailure,
    /// The mechanism answers "dead" when a transaction of ours reverted.
    RevertTakenForFailure,
    /// The rail sends each transaction once and never raises a fee.
    NeverResent,
    /// The scheme is part of the key.
    KeyByScheme,
    /// The mechanism reads its proof from the newest block.
    ProofAtHead,
    /// The mechanism reads an operation from one block and its nonce from another.
    ReadOverTwoBlocks,
    /// Nonces that nobody holds stay as they are.
    NoGapFilling,
    /// The mechanism calls an authorization expired by the clock on the wall.
    WallClockExpiry,
    /// The mechanism watches only what it built last.
    NewestParcelOnly,
    /// The mechanism orders again when credits are short again.
    SecondOrder,
    /// That a success was told is kept in memory, and stored nowhere.
    ToldInMemory,
    /// Every caller is taken for one that named its request.
    AllNamed,
    /// The process's memory holds what it read first, whatever a conflict says.
    StaleMemory,
    /// The process's memory holds a write before the ledger has it.
    KeptBeforeStored,
    /// The mechanism takes a payment for made when a transaction that carried it is in a block: a batch succeeds whatever
    /// its members do.
    MemberByStatus,
    /// The worker does not remember what failed once, and puts it into a batch again.
    FailedMemberBatched,
    /// The ledger gives the newest parcel of a step only, so that none is ever the last one.
    ParcelsForgotten,
    /// The ledger counts leases by the clock of the process that asks.
    LeaseByOwnClock,
    /// The worker answers "failed" when it does not learn whether its write was stored.
    LostTakenForFailure,
    /// The move of one payment wakes those who wait for another, and they take its end for theirs.
    WokenByAnother,
}

impl Bug {
    pub const ALL: [Self; 21] = [
        Self::SentBeforeStored,
        Self::TimeoutTakenForFailure,
        Self::RevertTakenForFailure,
        Self::NeverResent,
        Self::KeyByScheme,
        Self::ProofAtHead,
        Self::ReadOverTwoBlocks,
        Self::NoGapFilling,
        Self::WallClockExpiry,
        Self::NewestParcelOnly,
        Self::SecondOrder,
        Self::ToldInMemory,
        Self::AllNamed,
        Self::StaleMemory,
        Self::KeptBeforeStored,
        Self::MemberByStatus,
        Self::FailedMemberBatched,
        Self::ParcelsForgotten,
        Self::LeaseByOwnClock,
        Self::LostTakenForFailure,
        Self::WokenByAnother,
    ];
}

/// A lane in which every nonce seems to be held.
pub async fn hide_gaps(ledger: &MemoryLedger, lane: &LaneId, view: &mut LaneView) -> Result<(), Fault> {
    for nonce in 0..view.next {
        let id = SlotId { lane: lane.clone(), nonce };
        if ledger.slots(std::slice::from_ref(&id)).await?.is_empty() {
            let mut slot = Slot::new(id);
            slot.due = UnixSeconds(u64::MAX);
            view.open.push(slot);
        }
    }
    Ok(())
}

/// A payment whose unaccounted transfer has had one parcel.
pub fn forget_parcels(mut row: Payment) -> Payment {
    let is_exact = row.claim.terms.scheme == SchemeName::EXACT;
    if let Some(step) = row.steps.last_mut().filter(|step| is_exact && step.state == StepState::Unaccounted) {
        step.parcels.drain(..step.parcels.len() - 1);
    }
    row
}

/// A payment that is ready once more, as if nothing had carried it yet.
pub fn forget_carriers(row: &mut Payment) {
    if let Some(step) = row.steps.last_mut().filter(|step| step.state == StepState::Ready) {
        step.carriers.clear();
    }
}

/// Adds what [`forget_carriers`] took away to a row that is stored.
pub fn recall_carriers(row: &mut Payment, stored: &Payment) {
    let (Some(step), Some(before)) = (row.steps.last_mut(), stored.steps.last()) else { return };
    if step.once_key == before.once_key && before.state == StepState::Ready && step.state == StepState::InFlight {
        let newest = step.carriers.last().cloned();
        step.carriers = before.carriers.iter().cloned().chain(newest).collect();
    }
}

/// Since when a worker has seen a payment on its way.
pub type Waiting = Arc<Mutex<BTreeMap<PaymentKey, u64>>>;

/// A worker that gives up after three blocks.
pub async fn give_up(process: &Process, waiting: &Waiting, lease: &Lease, key: &PaymentKey) -> Result<bool, Fault> {
    let now = process.world.now().0;
    let Some(row) = process.ledger.read(key).await? else { return Ok(false) };
    if row.open_step().is_none_or(|step| step.state != StepState::InFlight) {
        return Ok(false);
    }
    let since = *waiting.lock().unwrap().entry(key.clone()).or_insert(now);
    if now < since + 60 {
        return Ok(false);
    }
    Ok(answer_failed(process, lease, row).await)
}

/// A worker that takes a write for lost whose answer was.
pub async fn take_for_lost(process: &Process, lease: &Lease, key: &PaymentKey) {
    if let Ok(Some(row)) = process.ledger.read(key).await
        && row.open_step().is_some_and(|step| step.state == StepState::InFlight)
    {
        answer_failed(process, lease, row).await;
    }
}

async fn answer_failed(process: &Process, lease: &Lease, mut row: Payment) -> bool {
    row.answer = Some(Err(ErrorReason::UNEXPECTED_SETTLE_ERROR));
    let write = Write { lease: Some(lease.clone()), payments: vec![row], ..Write::default() };
    process.ledger.commit(write).await.is_ok()
}
