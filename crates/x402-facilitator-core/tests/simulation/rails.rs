//! Toy rails: accounts on the chain, and a bundler.

use std::collections::BTreeSet;
use std::sync::Mutex;

use async_trait::async_trait;
use x402_facilitator_core::{Attempt, Delivery, LaneId, Nonces, Parcel, Rail, SlotId, TxId};
use x402_types::Fault;

use crate::bugs::Bug;
use crate::chain::{Call, Hash, Tx, of};
use crate::mechanisms::network;
use crate::world::{ACCOUNTS, World};

pub fn lane(number: u64) -> LaneId {
    LaneId::new(network(), &number.to_string())
}

pub fn number(lane: &LaneId) -> u64 {
    lane.account().parse().unwrap()
}

pub fn transaction(hash: Hash) -> TxId {
    TxId::from(format!("0x{hash:016x}"))
}

fn call(parcel: &Parcel) -> Call {
    serde_json::from_slice(&parcel.bytes).unwrap()
}

fn attempt(tx: &Tx) -> Attempt {
    Attempt::new(transaction(tx.hash()), serde_json::to_vec(tx).unwrap(), u128::from(tx.fee))
}

/// How many calls share a transaction.
const MOST: usize = 8;

/// One account per lane; transfers and operations share transactions, `upto` travels alone.
pub struct Accounts {
    pub world: World,
    pub bug: Bug,
    /// What a rail that never sends again has sent.
    pub sent: Mutex<BTreeSet<TxId>>,
}

#[async_trait]
impl Rail for Accounts {
    fn lanes(&self) -> Vec<LaneId> {
        (0..ACCOUNTS).map(lane).collect()
    }

    fn fits(&self, aboard: &[&Parcel], next: &Parcel) -> bool {
        let together = |other: Call| match (other, call(next)) {
            (Call::Pull { only: None, .. }, Call::Pull { only: None, .. }) => true,
            // Of one sender only one operation: the second could not be valid any more.
            (Call::Op(other), Call::Op(next)) => other.sender != next.sender,
            _ => false,
        };
        aboard.len() < MOST && aboard.iter().all(|parcel| together(call(parcel)))
    }

    fn most_aboard(&self) -> usize {
        MOST
    }

    async fn nonces(&self, lane: &LaneId) -> Result<Option<Nonces>, Fault> {
        let lane = number(lane);
        self.world
            .rpc(move |world| {
                let head = of(&world.seen_head().nonces, &lane);
                Some(Nonces { head, finalized: of(&world.seen_final().nonces, &lane) })
            })
            .await
    }

    async fn sign(&self, slot: &SlotId, load: &[Parcel], replaces: Option<&Attempt>) -> Result<Attempt, Fault> {
        if let (Bug::NeverResent, Some(attempt)) = (self.bug, replaces) {
            return Ok(attempt.clone());
        }
        let asked = self.world.rpc(|world| world.fee + 2).await?;
        let bid = replaces.map_or(0, |attempt| attempt.fee as u64 * 3 / 2 + 1);
        let calls = load.iter().map(call).collect();
        let attempt = attempt(&Tx { lane: number(&slot.lane), nonce: slot.nonce, fee: asked.max(bid), calls });
        if self.bug == Bug::SentBeforeStored {
            self.send(&attempt).await?;
        }
        Ok(attempt)
    }

    async fn send(&self, attempt: &Attempt) -> Result<Delivery, Fault> {
        if self.bug == Bug::NeverResent && !self.sent.lock().unwrap().insert(attempt.tx.clone()) {
            return Ok(Delivery::Taken);
        }
        let tx = serde_json::from_slice(&attempt.bytes).unwrap();
        self.world.rpc(move |world| world.accept(tx)).await.map(|()| Delivery::Taken)
    }
}

/// A bundler: takes one operation, numbers nothing, forgets when it likes.
pub struct Bundler(pub World);

#[async_trait]
impl Rail for Bundler {
    fn lanes(&self) -> Vec<LaneId> {
        vec![lane(ACCOUNTS)]
    }

    fn fits(&self, aboard: &[&Parcel], _: &Parcel) -> bool {
        aboard.is_empty()
    }

    async fn nonces(&self, _: &LaneId) -> Result<Option<Nonces>, Fault> {
        Ok(None)
    }

    async fn sign(&self, slot: &SlotId, load: &[Parcel], _: Option<&Attempt>) -> Result<Attempt, Fault> {
        let calls: Vec<Call> = load.iter().map(call).collect();
        let fee = if let Some(Call::Op(op)) = calls.first() { op.salt } else { 0 };
        Ok(attempt(&Tx { lane: number(&slot.lane), nonce: slot.nonce, fee, calls }))
    }

    async fn send(&self, attempt: &Attempt) -> Result<Delivery, Fault> {
        let tx = serde_json::from_slice(&attempt.bytes).unwrap();
        self.0.rpc(move |world| world.accept(tx)).await.map(|()| Delivery::Taken)
    }
}
