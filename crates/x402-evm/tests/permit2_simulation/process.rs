//! A facilitator process: the loop of the core's README, and those who ask it.

use std::sync::Arc;
use std::time::Duration;

use x402_devchain::signer;
use x402_evm::chain::RpcChain;
use x402_evm::permit2::{PermitMechanism, PermitScheme};
use x402_evm::rail::EoaRail;
use x402_facilitator_core::{HeldLedger, LaneId, Ledger, MemoryLedger, OwnerId, Pace, Progress, Rail, Settlement};
use x402_types::{Claim, Fault, Refusal};

use crate::bugs::{Bug, Buggy};
use crate::chain::Hops;
use crate::judge::Judged;
use crate::payments::{LANES, network, tokens};
use crate::wire::Wire;
use crate::world::{DEPTH, Hop, Told, World};

/// How long a lease holds, in seconds.
const LEASE: u64 = 12;

#[derive(Clone)]
pub struct Process {
    world: World,
    memory: Arc<dyn Ledger>,
    settlement: Arc<Settlement>,
    lanes: Vec<LaneId>,
}

impl Process {
    pub fn start(world: &World, number: usize, life: u64, ledger: &Arc<MemoryLedger>, bug: Bug) -> Self {
        world.with(|inner| inner.lives[number] = Some(life));
        let hop = Hop { world: world.clone(), process: number, life };
        let reader = RpcChain::new(world.chain.client(), network(), DEPTH).with_freshness(Duration::ZERO);
        let chain = Arc::new(Hops { chain: Arc::new(reader), hop: hop.clone() });
        let wire = Wire { ledger: Arc::clone(ledger), hop };
        let memory: Arc<dyn Ledger> = Arc::new(HeldLedger::shared(Arc::new(wire)));
        let rails = LANES.map(|lane| EoaRail::new(Arc::clone(&chain), signer(lane).unwrap()).unwrap());
        let lanes: Vec<LaneId> = rails.iter().flat_map(Rail::lanes).collect();
        let mechanism = |scheme| {
            let (chain, lanes) = (Arc::clone(&chain), lanes.clone());
            let inner =
                PermitMechanism::new(scheme, Arc::clone(&chain), tokens(), lanes).with_ledger(Arc::clone(&memory));
            Arc::new(Judged { inner: Buggy { inner, chain, scheme, bug }, world: world.clone() })
        };
        let mut settlement = Settlement::new(OwnerId::from(life.to_string()), Arc::clone(&memory))
            .with_pace(Pace { poll: 2, rebroadcast: 6 })
            .with_mechanism(mechanism(PermitScheme::Exact))
            .and_then(|it| it.with_mechanism(mechanism(PermitScheme::Upto)))
            .unwrap();
        for rail in rails {
            settlement = settlement.with_rail(Arc::new(rail)).unwrap();
        }
        Self { world: world.clone(), memory, settlement: Arc::new(settlement), lanes }
    }

    pub async fn run(self) {
        loop {
            for lane in &self.lanes {
                let lease = self.memory.lease(lane, self.settlement.owner(), LEASE).await;
                let Ok(Some(lease)) = lease else { continue };
                for key in self.memory.due(lane, self.world.now(), 100).await.unwrap_or_default() {
                    self.note(self.settlement.advance(&lease, &key, self.world.now()).await);
                }
                self.note(self.settlement.carry(&lease, self.world.now()).await);
            }
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
    }

    /// The machine must never be led to break a rule.
    fn note(&self, done: Result<Progress, Fault>) {
        if let Err(fault @ Fault::Broken { .. }) = done {
            self.world.violation(format!("refused by the machine: {fault}"));
        }
    }

    /// One request: settles, and looks again for a while.
    pub async fn ask(self, number: usize, claim: Claim) {
        let Self { world, settlement, .. } = &self;
        let request = claim.identity.request.clone();
        let told = |told: Told| world.with(|inner| inner.told.push((number, request.clone(), told)));
        let key = match settlement.key(&claim) {
            Ok(key) => key,
            Err(why) => return told(Told::Refused(why.reason)),
        };
        let call = settlement.begin_request();
        let call = if request.starts_with("key:") { call.named() } else { call };
        let mut outcome = settlement.settle(&call, &claim, world.now()).await;
        for turn in 0.. {
            match outcome {
                Err(Refusal::Rejection(why)) => return told(Told::Refused(why.reason)),
                Err(Refusal::Fault(fault @ Fault::Broken { .. })) => return world.violation(format!("told {fault}")),
                Err(Refusal::Fault(_)) => return,
                Ok(outcome) => {
                    let is_final = outcome.is_final();
                    told(Told::Outcome(outcome));
                    if is_final {
                        return;
                    }
                }
            }
            call.begin_waiting();
            if turn >= 12 && call.end_waiting() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(900)).await;
            outcome = settlement.look(&call, &key).await.map_err(Refusal::from);
        }
    }
}
