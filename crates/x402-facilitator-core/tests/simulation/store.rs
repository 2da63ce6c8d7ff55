//! The ledger behind a wire, as PostgreSQL is: calls and answers get lost, a crash may strike on either side, a transaction
//! is undone because of others (SQLSTATE 40001) and run again, a statement's snapshot is old when its answer arrives, and a
//! commit takes effect after its caller has given up.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use x402_facilitator_core::{
    CommitError, LaneId, LaneView, Lease, Ledger, MemoryLedger, OwnerId, Payment, Share, Slot, SlotId, Write,
};
use x402_types::{Fault, PaymentKey, UnixSeconds};

use crate::bugs::{Bug, forget_parcels, hide_gaps};
use crate::chain::Tx;
use crate::scheduler::{DATABASE, now_or_never};
use crate::world::{Clock, World};

/// How often a transaction is tried.
const TRIES: u64 = 8;
/// How long the caller waits for an answer.
const ANSWER: u64 = 15;
/// How late a statement's answer, or its effect, may be: later than a lease.
const LATE: u64 = 90;

#[derive(Clone)]
pub struct Wire {
    pub world: World,
    /// The clock of the process that is on this end.
    pub clock: Clock,
    pub process: usize,
    pub ledger: Arc<MemoryLedger>,
    pub bug: Bug,
}

impl Wire {
    /// The way to the database, until one try is not undone.
    async fn begin(&self) -> Result<(), Fault> {
        self.world.there().await?;
        for tries in 1..=TRIES {
            if !self.world.with(|world| world.happens(world.troubles.undone)) {
                return Ok(());
            }
            self.world.tally("undone by others");
            self.world.pause(tries).await;
        }
        Err(Fault::store("could not serialize access, 8 times in a row"))
    }

    /// The way back of what a statement saw when it began.
    async fn end(&self) -> Result<(), Fault> {
        let late = self.world.with(|world| world.happens(world.troubles.slow).then(|| world.chance.below(LATE)));
        if let Some(late) = late {
            self.world.tally("old snapshot");
            self.world.pause(late).await;
            self.world.with(|world| *world.log.old.entry(self.process).or_default() += 1);
        }
        self.world.back().await
    }

    /// A transaction that writes. It may take effect when nobody waits for it any more.
    async fn write<T: Send + 'static>(&self, work: impl FnOnce(&Self) -> T + Send + 'static) -> Result<T, Fault> {
        self.begin().await?;
        let late = self.world.with(|world| world.happens(world.troubles.late).then(|| 1 + world.chance.below(LATE)));
        let Some(late) = late else {
            let done = work(self);
            self.world.back().await?;
            return Ok(done);
        };
        let answer = Arc::new(Mutex::new(None));
        let (wire, there) = (self.clone(), Arc::clone(&answer));
        self.world.spawn(DATABASE, false, async move {
            wire.world.pause(late).await;
            let done = work(&wire);
            *there.lock().unwrap() = Some(done);
        });
        self.world.pause(late.min(ANSWER) + 1).await;
        let done = answer.lock().unwrap().take();
        if done.is_none() {
            self.world.tally("took effect late");
        }
        let done = done.ok_or_else(|| Fault::store("no answer within 15 s"))?;
        self.world.back().await?;
        Ok(done)
    }

    fn read_forgetful(&self, row: Payment) -> Payment {
        if self.bug == Bug::ParcelsForgotten { forget_parcels(row) } else { row }
    }

    /// Takes or renews a lease, by the clock of the database.
    fn take(&self, lane: &LaneId, owner: &OwnerId, seconds: u64) -> Result<Option<Lease>, Fault> {
        let clock = (self.bug == Bug::LeaseByOwnClock).then(|| self.clock.now().0);
        self.world.with(|world| world.lease_clock = clock);
        let lease = now_or_never(self.ledger.lease(lane, owner, seconds));
        self.world.with(|world| {
            world.lease_clock = None;
            if let Ok(Some(lease)) = &lease {
                world.leased(lease, owner, seconds);
            }
        });
        lease
    }

    fn store(&self, write: Write) -> Result<(), CommitError> {
        let attempts = write.slots.iter().flat_map(|slot| slot.attempts.iter());
        let stored: Vec<_> =
            attempts.map(|attempt| serde_json::from_slice::<Tx>(&attempt.bytes).unwrap().hash()).collect();
        let tells = write.lease.is_none() && write.payments.iter().any(|row| matches!(row.answer, Some(Ok(_))));
        let done =
            if tells && self.bug == Bug::ToldInMemory { Ok(()) } else { now_or_never(self.ledger.commit(write)) };
        match &done {
            Ok(()) => self.world.with(|world| world.stored.extend(stored)),
            Err(CommitError::Fenced) => self.world.tally("fenced"),
            Err(CommitError::Conflict) => self.world.tally("conflict"),
            Err(CommitError::Taken(_)) => self.world.tally("keyed"),
            Err(_) => {}
        }
        done
    }
}

#[async_trait]
impl Ledger for Wire {
    async fn claim(&self, payment: Payment) -> Result<Payment, Fault> {
        self.write(move |wire| now_or_never(wire.ledger.claim(payment))).await?
    }

    async fn read(&self, key: &PaymentKey) -> Result<Option<Payment>, Fault> {
        self.begin().await?;
        let row = self.ledger.read(key).await?;
        self.end().await?;
        Ok(row.map(|row| self.read_forgetful(row)))
    }

    async fn payments(&self, keys: &[PaymentKey]) -> Result<Vec<Payment>, Fault> {
        self.begin().await?;
        let rows = self.ledger.payments(keys).await?;
        self.end().await?;
        Ok(rows.into_iter().map(|row| self.read_forgetful(row)).collect())
    }

    async fn unanswered(&self, prefix: &[u8]) -> Result<Vec<Arc<Payment>>, Fault> {
        self.begin().await?;
        let rows = self.ledger.unanswered(prefix).await?;
        self.end().await?;
        Ok(rows)
    }

    async fn slots(&self, ids: &[SlotId]) -> Result<Vec<Slot>, Fault> {
        self.begin().await?;
        let slots = self.ledger.slots(ids).await?;
        self.end().await?;
        Ok(slots)
    }

    async fn lease(&self, lane: &LaneId, owner: &OwnerId, seconds: u64) -> Result<Option<Lease>, Fault> {
        let (lane, owner) = (lane.clone(), owner.clone());
        self.write(move |wire| wire.take(&lane, &owner, seconds)).await?
    }

    async fn share(&self, _owner: &OwnerId, _seconds: u64) -> Result<Share, Fault> {
        Ok(Share::ALL)
    }

    async fn due(&self, lane: &LaneId, now: UnixSeconds, limit: usize) -> Result<Vec<PaymentKey>, Fault> {
        self.begin().await?;
        let due = self.ledger.due(lane, now, limit).await?;
        self.end().await?;
        Ok(due)
    }

    async fn lane(&self, lane: &LaneId, ready: usize) -> Result<LaneView, Fault> {
        self.begin().await?;
        let mut view = self.ledger.lane(lane, ready).await?;
        if self.bug == Bug::NoGapFilling {
            hide_gaps(&self.ledger, lane, &mut view).await?;
        }
        self.end().await?;
        Ok(view)
    }

    async fn commit(&self, write: Write) -> Result<(), CommitError> {
        self.write(move |wire| wire.store(write)).await?
    }

    async fn forget(&self, now: UnixSeconds, limit: usize) -> Result<usize, Fault> {
        self.ledger.forget(now, limit).await
    }
}
