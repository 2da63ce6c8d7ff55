//! A facilitator process: the loop of the crate's README, run under the scheduler.

use std::sync::Arc;

use x402_facilitator_core::{
    Carried, HeldLedger, LaneId, Lease, Ledger, MemoryLedger, OwnerId, Pace, Progress, Settlement,
};
use x402_types::{Fault, SchemeName};

use crate::bugs::{Bug, Waiting, give_up};
use crate::mechanisms::{Credits, Pull};
use crate::memory::Keeps;
use crate::rails::{Accounts, Bundler, lane};
use crate::store::Wire;
use crate::world::{ACCOUNTS, World};

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
    waiting: Waiting,
}

impl Process {
    /// `owner`: which start of any process this is.
    pub fn start(number: usize, owner: u64, world: &World, ledger: &Arc<MemoryLedger>, bug: Bug) -> Self {
        let wire = Arc::new(Wire { world: world.clone(), ledger: Arc::clone(ledger), bug });
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
        let (settlement, waiting) = (Arc::new(settlement), Waiting::default());
        Self { number, world, ledger: wire, memory, collects, settlement, bug, waiting }
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
                    process.note(process.settlement.carry(&held, process.world.now()).await);
                });
                for key in self.memory.due(&lane, self.world.now(), 100).await.unwrap_or_default() {
                    let (process, held) = (self.clone(), lease.clone());
                    self.world.spawn(self.number, true, async move {
                        if process.bug == Bug::TimeoutTakenForFailure
                            && give_up(&process, &process.waiting, &held, &key).await != Ok(false)
                        {
                            return;
                        }
                        process.note(process.settlement.advance(&held, &key, process.world.now()).await);
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
        for key in self.memory.due(lane, self.world.now(), 100).await.unwrap_or_default() {
            match self.settlement.draft(&key, self.world.now()).await {
                Ok(Some(draft)) if draft.is_ready() => ready.push(draft),
                Ok(draft) => others.extend(draft),
                Err(fault) => self.note(Err(fault)),
            }
        }
        for (_, stored) in self.settlement.store(lease, others, self.world.now()).await {
            self.note(stored.map(|_| Progress::Moved));
        }
        let together = ready.len() > 1;
        let Carried { lane, drafts } = self.settlement.carry_drafts(lease, ready, self.world.now()).await;
        if together && lane == Ok(Progress::Moved) {
            self.world.tally("planned and carried together");
        }
        self.note(lane);
        drafts.into_iter().for_each(|(_, stored)| self.note(stored.map(|_| Progress::Moved)));
    }

    /// The machine must never be led to break a rule.
    fn note(&self, done: Result<Progress, Fault>) {
        if let Err(fault @ Fault::Broken { .. }) = done {
            self.world.violation(format!("refused by the machine: {fault}"));
        }
    }
}
