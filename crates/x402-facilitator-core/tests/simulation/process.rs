//! A facilitator process: the loop of the crate's README, run under the scheduler.

use std::sync::Arc;

use x402_facilitator_core::{
    Carried, HeldLedger, LaneId, Lease, Ledger, MemoryLedger, OwnerId, Pace, Progress, Settlement, Stage,
};
use x402_types::{Fault, PaymentKey, SchemeName, UnixSeconds};

use crate::bugs::{Bug, Waiting, give_up, take_for_lost};
use crate::mechanisms::{Credits, Pull};
use crate::memory::Keeps;
use crate::rails::{Accounts, Bundler, lane};
use crate::store::Wire;
use crate::wakes::Wakes;
use crate::world::{ACCOUNTS, Clock, World};

/// How long a lease holds.
const LEASE: u64 = 60;

#[derive(Clone)]
pub struct Process {
    pub number: usize,
    pub world: World,
    pub ledger: Arc<Wire>,
    /// The ledger behind the process's memory.
    memory: Arc<dyn Ledger>,
    /// Whether drafts are collected, or each payment is advanced for itself.
    collects: bool,
    pub settlement: Arc<Settlement>,
    pub bug: Bug,
    pub wakes: Wakes,
    clock: Clock,
    waiting: Waiting,
}

impl Process {
    /// `owner`: which start of any process this is.
    pub fn start(number: usize, owner: u64, world: &World, ledger: &Arc<MemoryLedger>, bug: Bug) -> Self {
        let clock = world.clock(number);
        let wire =
            Wire { world: world.clone(), clock: clock.clone(), process: number, ledger: Arc::clone(ledger), bug };
        let wire = Arc::new(wire);
        let held = HeldLedger::shared(Arc::clone(&wire) as Arc<dyn Ledger>);
        let memory: Arc<dyn Ledger> = Arc::new(Keeps::new(held, bug));
        let world = world.clone();
        let pull = |scheme| Arc::new(Pull { scheme, world: world.clone(), bug });
        let accounts = Accounts { world: world.clone(), bug, sent: Default::default() };
        let settlement = Settlement::new(OwnerId::from(owner.to_string()), Arc::clone(&memory))
            .with_pace(Pace { poll: 10, rebroadcast: 40 })
            .with_mechanism(pull(SchemeName::EXACT))
            .and_then(|it| it.with_mechanism(pull(SchemeName::UPTO)))
            .and_then(|it| it.with_mechanism(Arc::new(Credits { world: world.clone(), bug })))
            .and_then(|it| it.with_rail(Arc::new(accounts)))
            .and_then(|it| it.with_rail(Arc::new(Bundler(world.clone()))))
            .unwrap();
        // Both ways to work a lane, at the same time and one after the other.
        let collects = owner.is_multiple_of(2) || owner.is_multiple_of(3);
        let (settlement, wakes, waiting) = (Arc::new(settlement), Wakes::default(), Waiting::default());
        Self { number, world, ledger: wire, memory, collects, settlement, bug, wakes, clock, waiting }
    }

    /// The time, as this process has it.
    pub fn now(&self) -> UnixSeconds {
        self.clock.now()
    }

    pub async fn run(self) {
        loop {
            for number in 0..=ACCOUNTS {
                let lane = lane(number);
                let Ok(Some(lease)) = self.memory.lease(&lane, self.settlement.owner(), LEASE).await else { continue };
                let (process, held) = (self.clone(), lease.clone());
                if self.collects && self.bug != Bug::TimeoutTakenForFailure {
                    self.world.spawn(self.number, true, async move { process.round(&lane, &held).await });
                    continue;
                }
                self.world.spawn(self.number, true, async move {
                    process.note(process.settlement.carry(&held, process.now()).await);
                });
                for key in self.memory.due(&lane, self.now(), 100).await.unwrap_or_default() {
                    let (process, held) = (self.clone(), lease.clone());
                    self.world.spawn(self.number, true, async move {
                        if process.bug == Bug::TimeoutTakenForFailure
                            && give_up(&process, &process.waiting, &held, &key).await != Ok(false)
                        {
                            return;
                        }
                        let done = process.settlement.advance(&held, &key, process.now()).await;
                        process.note_of(&held, &key, done).await;
                    });
                }
            }
            let calm = self.world.with(|world| world.is_calm());
            self.world.pause(if calm { 24 } else { 5 }).await;
        }
    }

    /// Collects what the calls of a lane come to, and stores it together.
    async fn round(&self, lane: &LaneId, lease: &Lease) {
        let (mut ready, mut others) = (Vec::new(), Vec::new());
        for key in self.memory.due(lane, self.now(), 100).await.unwrap_or_default() {
            match self.settlement.draft(&key, self.now()).await {
                Ok(Some(draft)) if draft.is_ready() => ready.push(draft),
                Ok(draft) => others.extend(draft),
                Err(fault) => self.note(Err(fault)),
            }
        }
        for (key, stored) in self.settlement.store(lease, others, self.now()).await {
            self.note_of(lease, &key, stored.map(progress)).await;
        }
        let together = ready.len() > 1;
        let Carried { lane, drafts } = self.settlement.carry_drafts(lease, ready, self.now()).await;
        if together && lane == Ok(Progress::Moved) {
            self.world.tally("planned and carried together");
        }
        self.note(lane);
        for (key, stored) in drafts {
            self.note_of(lease, &key, stored.map(progress)).await;
        }
    }

    /// Wakes those who wait for a payment that has moved.
    async fn note_of(&self, lease: &Lease, key: &PaymentKey, done: Result<Progress, Fault>) {
        match &done {
            Ok(Progress::Moved) => self.wakes.wake(key, self.bug),
            Err(_) if self.bug == Bug::LostTakenForFailure => take_for_lost(self, lease, key).await,
            _ => {}
        }
        self.note(done);
    }

    /// The machine must never be led to break a rule.
    fn note(&self, done: Result<Progress, Fault>) {
        if let Err(fault @ Fault::Broken { .. }) = done {
            self.world.violation(format!("refused by the machine: {fault}"));
        }
    }
}

/// A payment whose row was not as it was read has not moved.
fn progress(stage: Stage) -> Progress {
    if stage == Stage::Overtaken { Progress::Overtaken } else { Progress::Moved }
}
