//! A facilitator process: the loop of the crate's README, run under the scheduler.

use std::sync::Arc;

use x402_facilitator_core::{Ledger, MemoryLedger, OwnerId, Pace, Progress, Settlement};
use x402_types::{Fault, SchemeName};

use crate::bugs::{Bug, Waiting, give_up};
use crate::mechanisms::{Credits, Pull};
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
    pub settlement: Arc<Settlement>,
    pub bug: Bug,
    waiting: Waiting,
}

impl Process {
    /// `owner`: which start of any process this is.
    pub fn start(number: usize, owner: u64, world: &World, ledger: &Arc<MemoryLedger>, bug: Bug) -> Self {
        let wire = Arc::new(Wire { world: world.clone(), ledger: Arc::clone(ledger), bug });
        let world = world.clone();
        let pull = |scheme| Arc::new(Pull { scheme, world: world.clone(), bug });
        let accounts = Accounts { world: world.clone(), bug, sent: Default::default() };
        let settlement = Settlement::new(OwnerId::from(owner.to_string()), Arc::clone(&wire) as Arc<dyn Ledger>)
            .with_pace(Pace { poll: 10, rebroadcast: 40 })
            .with_mechanism(pull(SchemeName::EXACT))
            .and_then(|it| it.with_mechanism(pull(SchemeName::UPTO)))
            .and_then(|it| it.with_mechanism(Arc::new(Credits { world: world.clone(), bug })))
            .and_then(|it| it.with_rail(Arc::new(accounts)))
            .and_then(|it| it.with_rail(Arc::new(Bundler(world.clone()))))
            .unwrap();
        Self { number, world, ledger: wire, settlement: Arc::new(settlement), bug, waiting: Waiting::default() }
    }

    pub async fn run(self) {
        loop {
            for number in 0..=ACCOUNTS {
                let lane = lane(number);
                let Ok(Some(lease)) = self.ledger.lease(&lane, self.settlement.owner(), LEASE).await else { continue };
                let (process, held) = (self.clone(), lease.clone());
                self.world.spawn(self.number, true, async move {
                    process.note(process.settlement.carry(&held, process.world.now()).await);
                });
                for key in self.ledger.due(&lane, self.world.now(), 100).await.unwrap_or_default() {
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

    /// The machine must never be led to break a rule.
    fn note(&self, done: Result<Progress, Fault>) {
        if let Err(fault @ Fault::Broken { .. }) = done {
            self.world.violation(format!("refused by the machine: {fault}"));
        }
    }
}
