//! One run: two or three processes over one ledger and one chain, polled in an order that the seed decides.

use core::pin::pin;
use core::task::{Context, Poll, Waker};
use std::collections::BTreeMap;
use std::sync::Arc;

use x402_facilitator_core::MemoryLedger;
use x402_types::UnixSeconds;

use crate::bugs::Bug;
use crate::check::{check, next_nonces};
use crate::client::{Ask, ask, asks, claims};
use crate::process::Process;
use crate::world::{BLOCK, END, Inner, Task, Troubles, World};

/// What a run came to. Two runs of one seed are equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub violations: Vec<String>,
    pub tally: BTreeMap<&'static str, u64>,
    pub polls: u64,
}

/// The most processes of a run.
const PROCESSES: usize = 3;
/// The number under which the database works.
pub const DATABASE: usize = PROCESSES;

/// A run with every trouble that the seed brings.
pub fn run(seed: u64, bug: Bug) -> Report {
    simulate(World::new(seed), bug, None)
}

/// A run in which one process dies once, at that poll, and transactions get lost; nothing else goes wrong.
pub fn crash_at(seed: u64, poll: u64) -> Report {
    let world = World::new(seed);
    world.with(|world| world.troubles = Troubles { lost: 20, ..Troubles::default() });
    simulate(world, Bug::None, Some(poll))
}

fn simulate(world: World, bug: Bug, crash_at: Option<u64>) -> Report {
    let clock = world.clone();
    let by = move || UnixSeconds(clock.with(|world| world.lease_clock.unwrap_or(world.now)));
    let ledger = Arc::new(MemoryLedger::new(by));
    let claims = world.with(|world| claims(&mut world.chance));
    let processes = world.with(|world| 2 + usize::from(world.chance.percent(30)));
    let mut asks = world.with(|world| asks(&mut world.chance, &claims));
    asks.sort_by_key(|ask| std::cmp::Reverse(ask.at));
    let mut scheduler = Scheduler {
        world: world.clone(),
        ledger: Arc::clone(&ledger),
        bug,
        crash_at,
        tasks: Vec::new(),
        live: vec![None; processes],
        starts: (0..processes).map(|process| (0, process)).collect(),
        frozen: vec![0; PROCESSES + 1],
        owners: 0,
        asks,
        polls: 0,
    };
    scheduler.run();
    let polls = scheduler.polls;
    drop(scheduler);
    // Tasks hold the world that holds them.
    drop(world.with(|world| std::mem::take(&mut world.spawned)));
    let next = now_or_never(next_nonces(&ledger));
    world.with(|world| {
        check(world, &ledger, &claims, &next);
        Report { violations: world.violations.clone(), tally: world.tally.clone(), polls }
    })
}

struct Scheduler {
    world: World,
    ledger: Arc<MemoryLedger>,
    bug: Bug,
    crash_at: Option<u64>,
    tasks: Vec<Task>,
    live: Vec<Option<Process>>,
    /// Which process starts when.
    starts: Vec<(u64, usize)>,
    frozen: Vec<u64>,
    owners: u64,
    /// Latest first.
    asks: Vec<Ask>,
    polls: u64,
}

impl Scheduler {
    fn run(&mut self) {
        let mut block = 0;
        loop {
            let now = self.world.now().0;
            if now >= END {
                return;
            }
            if now >= block {
                self.world.with(Inner::tick);
                block = now + BLOCK;
            }
            self.start(now);
            self.tasks.append(&mut self.world.with(|world| std::mem::take(&mut world.spawned)));
            let ready: Vec<usize> = (0..self.tasks.len())
                .filter(|&at| self.tasks[at].wake <= now && self.frozen[self.tasks[at].process] <= now)
                .collect();
            if ready.is_empty() {
                self.world.with(|world| world.now += 1);
                continue;
            }
            let at = ready[self.world.with(|world| world.chance.below(ready.len() as u64)) as usize];
            self.poll(at, now);
        }
    }

    fn start(&mut self, now: u64) {
        for (_, number) in self.starts.extract_if(.., |(at, _)| *at <= now) {
            self.owners += 1;
            let process = Process::start(number, self.owners, &self.world, &self.ledger, self.bug);
            self.live[number] = Some(process.clone());
            self.world.spawn(number, false, process.run());
        }
        while self.asks.last().is_some_and(|ask| ask.at <= now) {
            let number = self.world.with(|world| world.chance.below(self.live.len() as u64)) as usize;
            // Nobody there: the caller tries again at the next moment.
            let Some(process) = &self.live[number] else { return };
            let Some(request) = self.asks.pop() else { return };
            self.world.spawn(number, true, ask(process.clone(), request.claim));
        }
    }

    fn poll(&mut self, at: usize, now: u64) {
        self.polls += 1;
        let process = self.tasks[at].process;
        let (crash, freeze, hangup) = self.world.with(|world| {
            let troubles = world.troubles;
            let calm = world.is_calm() || process == DATABASE;
            let mut one_in = |n: u64, odds: u64| !calm && world.chance.below(n) < odds;
            (one_in(4_000, troubles.crash), one_in(4_000, troubles.freeze), one_in(400, troubles.hangup))
        });
        if process != DATABASE && (crash || self.crash_at == Some(self.polls)) {
            self.world.tally("crash");
            self.tasks.retain(|task| task.process != process);
            self.live[process] = None;
            let down = self.world.with(|world| world.chance.below(120));
            self.starts.push((now + down, process));
        } else if freeze {
            self.world.tally("freeze");
            self.frozen[process] = now + self.world.with(|world| world.chance.below(200));
        } else if hangup && self.tasks[at].client {
            self.world.tally("future dropped");
            self.tasks.swap_remove(at);
        } else {
            self.world.with(|world| world.wake = u64::MAX);
            let task = &mut self.tasks[at];
            match task.future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(()) => drop(self.tasks.swap_remove(at)),
                Poll::Pending => task.wake = self.world.with(|world| world.wake),
            }
        }
    }
}

/// What memory answers at once.
pub fn now_or_never<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("memory does not wait"),
    }
}
