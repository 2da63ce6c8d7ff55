//! Time, chance, the network and the chain of one run. Everything comes from the seed.

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use x402_facilitator_core::{LaneId, Lease, OwnerId, TxId};
use x402_types::{Fault, PaymentKey, UnixSeconds};

use crate::chain::{Call, Hash, Kind, Op, REVERTING, State, Tx, mix, of};
use crate::client::Log;
use crate::rails::transaction;

/// Lanes that are accounts; the lane after them is a bundler.
pub const ACCOUNTS: u64 = 2;
/// Between blocks.
pub const BLOCK: u64 = 20;
/// Blocks above a final one.
pub const DEPTH: usize = 2;
/// When troubles end.
pub const CALM: u64 = 1_500;
/// When the run ends.
pub const END: u64 = 3_600;

/// A splitmix64 generator.
pub struct Chance(u64);

impl Chance {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn percent(&mut self, p: u64) -> bool {
        self.below(100) < p
    }
}

/// How likely each trouble is in this run; 0: it does not happen.
#[derive(Debug, Clone, Copy, Default)]
pub struct Troubles {
    /// A call outside fails, before or after it took effect.
    pub rpc: u64,
    /// A transaction is accepted and forgotten.
    pub lost: u64,
    /// A node answers from an old block.
    pub stale: u64,
    /// A process dies.
    pub crash: u64,
    /// A process stands still, and its leases end.
    pub freeze: u64,
    /// A caller goes away.
    pub hangup: u64,
    /// Blocks are taken back.
    pub reorg: u64,
    /// The pool forgets transactions.
    pub evict: u64,
    /// Others act on what they have seen.
    pub foreign: u64,
    /// The key of an account is used by somebody else.
    pub elsewhere: u64,
    /// Fees go up.
    pub surge: u64,
    /// The database undoes a transaction because of others.
    pub undone: u64,
    /// What a statement saw is old when its answer arrives.
    pub slow: u64,
    /// A commit takes effect after its caller has given up.
    pub late: u64,
    /// How far apart the processes' clocks are, in seconds.
    pub skew: u64,
}

/// The clock of one process.
#[derive(Clone)]
pub struct Clock {
    pub world: World,
    /// How far it is ahead of the world, or behind.
    pub offset: i64,
}

impl Clock {
    pub fn now(&self) -> UnixSeconds {
        UnixSeconds(self.world.now().0.saturating_add_signed(self.offset))
    }
}

/// What a process runs.
pub struct Task {
    pub future: Pin<Box<dyn Future<Output = ()> + Send>>,
    pub wake: u64,
    pub process: usize,
    pub client: bool,
}

pub struct Inner {
    pub now: u64,
    pub chance: Chance,
    pub troubles: Troubles,
    /// When the future that is polled wants to be polled again.
    pub wake: u64,
    pub spawned: Vec<Task>,
    pub blocks: Vec<(Arc<State>, Vec<Tx>)>,
    pub pool: BTreeMap<(u64, u64), Tx>,
    /// The fee that the next block asks.
    pub fee: u64,
    /// Calls that anybody can have seen.
    heard: Vec<Call>,
    /// Calls of others for the next block.
    outside: Vec<Call>,
    /// The clock by which the ledger counts a lease, if it is not its own.
    pub lease_clock: Option<u64>,
    /// Who holds each lane, and until when by the ledger's own clock.
    leases: BTreeMap<LaneId, (OwnerId, u64)>,
    /// Transactions that the ledger holds.
    pub stored: BTreeSet<Hash>,
    /// Transactions that the node said it has.
    pub taken: BTreeSet<TxId>,
    pub violations: Vec<String>,
    pub log: Log,
    pub tally: BTreeMap<&'static str, u64>,
}

/// A handle on the world.
#[derive(Clone)]
pub struct World(Arc<Mutex<Inner>>);

impl World {
    pub fn new(seed: u64) -> Self {
        let mut chance = Chance(seed);
        let mut odds = |most: u64| if chance.percent(60) { 1 + chance.below(most) } else { 0 };
        let troubles = Troubles {
            rpc: odds(12),
            lost: odds(40),
            stale: odds(40),
            crash: odds(8),
            freeze: odds(6),
            hangup: odds(15),
            reorg: odds(15),
            evict: odds(15),
            foreign: odds(25),
            elsewhere: odds(15),
            surge: odds(30),
            undone: odds(25),
            slow: odds(10),
            late: odds(8),
            skew: odds(1) * 60,
        };
        let mut genesis = State::default();
        for payer in 100..104 {
            genesis.balances.insert(payer, 60);
            genesis.balances.insert(payer + 100, 60);
        }
        genesis.balances.insert(REVERTING, 60);
        for payer in 300..303 {
            genesis.credits.insert(payer, payer % 3 * 6);
        }
        let genesis = Arc::new(genesis);
        Self(Arc::new(Mutex::new(Inner {
            now: 0,
            chance,
            troubles,
            wake: 0,
            spawned: Vec::new(),
            blocks: vec![(genesis, Vec::new()); DEPTH + 1],
            pool: BTreeMap::new(),
            fee: 1,
            heard: Vec::new(),
            outside: Vec::new(),
            lease_clock: None,
            leases: BTreeMap::new(),
            stored: BTreeSet::new(),
            taken: BTreeSet::new(),
            violations: Vec::new(),
            log: Log::default(),
            tally: BTreeMap::new(),
        })))
    }

    pub fn with<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        f(&mut self.0.lock().unwrap())
    }

    pub fn now(&self) -> UnixSeconds {
        UnixSeconds(self.with(|world| world.now))
    }

    /// The clock of a process.
    pub fn clock(&self, process: usize) -> Clock {
        let half = self.with(|world| world.troubles.skew / 2) as i64;
        Clock { world: self.clone(), offset: [-half, half, 0][process % 3] }
    }

    pub fn tally(&self, what: &'static str) {
        self.with(|world| world.tally(what));
    }

    pub fn violation(&self, what: String) {
        self.with(|world| world.violations.push(what));
    }

    pub fn spawn(&self, process: usize, client: bool, future: impl Future<Output = ()> + Send + 'static) {
        self.with(|world| {
            let task = Task { future: Box::pin(future), wake: world.now, process, client };
            world.spawned.push(task);
        });
    }

    pub fn pause(&self, ticks: u64) -> Pause {
        Pause { world: self.clone(), ticks, until: None }
    }

    /// The way to something outside of the process: a point where it may crash, a call that may be lost.
    pub async fn there(&self) -> Result<(), Fault> {
        self.hop("the call was lost").await
    }

    /// And back: a point where it may crash, an answer that may be lost.
    pub async fn back(&self) -> Result<(), Fault> {
        self.hop("the answer was lost").await
    }

    async fn hop(&self, what: &'static str) -> Result<(), Fault> {
        self.pause(self.with(|world| world.chance.below(3))).await;
        let lost = self.with(|world| world.happens(world.troubles.rpc));
        if lost {
            self.tally("answer lost");
        }
        if lost { Err(Fault::unreachable("outside", what)) } else { Ok(()) }
    }

    /// One call to a node.
    pub async fn rpc<T: Send>(&self, f: impl FnOnce(&mut Inner) -> T + Send) -> Result<T, Fault> {
        self.there().await?;
        let answer = self.with(f);
        self.back().await?;
        Ok(answer)
    }
}

/// Waits.
pub struct Pause {
    world: World,
    ticks: u64,
    until: Option<u64>,
}

impl Future for Pause {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        let ticks = self.ticks;
        let waited = self.until;
        let until = self.world.with(|world| {
            let until = waited.unwrap_or(world.now + ticks);
            if waited.is_some() && world.now >= until {
                return None;
            }
            world.wake = world.wake.min(until);
            Some(until)
        });
        self.until = until;
        if until.is_some() { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl Inner {
    pub fn tally(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    pub fn is_calm(&self) -> bool {
        self.now >= CALM
    }

    pub fn happens(&mut self, percent: u64) -> bool {
        !self.is_calm() && self.chance.percent(percent)
    }

    pub fn head(&self) -> Arc<State> {
        Arc::clone(&self.blocks.last().unwrap().0)
    }

    /// What is true in the end.
    pub fn truth(&self) -> Arc<State> {
        Arc::clone(&self.blocks[self.blocks.len() - 1 - DEPTH].0)
    }

    fn view(&mut self, back: usize) -> Arc<State> {
        let stale = if self.happens(self.troubles.stale) { 1 + self.chance.below(2) as usize } else { 0 };
        Arc::clone(&self.blocks[self.blocks.len().saturating_sub(1 + back + stale)].0)
    }

    /// The newest block, as some node knows it.
    pub fn seen_head(&mut self) -> Arc<State> {
        self.view(0)
    }

    /// The newest final block, as some node knows it.
    pub fn seen_final(&mut self) -> Arc<State> {
        self.view(DEPTH)
    }

    /// One block of the world, with its troubles.
    pub fn tick(&mut self) {
        if self.happens(self.troubles.evict) {
            let odd = self.chance.below(2);
            self.pool.retain(|(_, nonce), _| nonce % 2 != odd);
            self.tally("pool evicted");
        }
        if self.happens(self.troubles.reorg) {
            self.reorganise();
        }
        if self.happens(self.troubles.foreign) {
            self.meddle();
        }
        if self.happens(self.troubles.elsewhere) {
            let lane = self.chance.below(ACCOUNTS);
            self.outside.push(Call::Elsewhere { lane });
            self.tally("key used elsewhere");
        }
        self.mine();
    }

    fn reorganise(&mut self) {
        let depth = 1 + self.chance.below(DEPTH as u64) as usize;
        for _ in 0..depth.min(self.blocks.len() - DEPTH - 1) {
            for tx in self.blocks.pop().map(|block| block.1).unwrap_or_default() {
                if self.chance.percent(70) {
                    self.pool.insert((tx.lane, tx.nonce), tx);
                }
            }
        }
        if self.chance.percent(50) {
            self.fee = 30;
        }
        for _ in 0..depth {
            self.mine();
        }
        self.tally("reorganisation");
    }

    /// Others act on what they have heard.
    fn meddle(&mut self) {
        let recent = self.heard.len().min(6) as u64;
        if recent > 0 {
            let call = self.heard[self.heard.len() - 1 - self.chance.below(recent) as usize].clone();
            match (&call, self.chance.below(4)) {
                // Somebody lands it first.
                (Call::Pull { .. } | Call::Op(_), 0) => self.outside.push(call),
                (&Call::Pull { payer, nonce, .. }, 1) => self.outside.push(Call::Cancel { payer, nonce }),
                (&Call::Pull { payer, .. }, _) => {
                    let left = self.chance.below(2) * 30;
                    self.outside.push(Call::Drain { payer, left });
                }
                // The account's owner redeems something else: what was built for this nonce is dead.
                (Call::Op(op), 1 | 2) => {
                    let seq = of(&self.head().seqs, &(op.sender, Kind::Redeem));
                    let other = Op { kind: Kind::Redeem, seq, amount: 0, purchase: 0, ..op.clone() };
                    self.outside.push(Call::Op(other));
                }
                _ => {}
            }
            self.tally("meddled");
        }
    }

    fn mine(&mut self) {
        let mut state = State::clone(&self.head());
        state.time = self.now;
        self.fee = if self.happens(self.troubles.surge) { 1 + self.chance.below(40) } else { 1 + self.fee / 2 };
        for call in std::mem::take(&mut self.outside) {
            let tx = self.chance.next();
            state.call(&call, tx, None);
        }
        let (mut mined, mut room) = (Vec::new(), 3);
        for lane in 0..ACCOUNTS {
            loop {
                let id = (lane, of(&state.nonces, &lane));
                let pays = self.pool.get(&id).is_some_and(|tx| tx.fee >= self.fee);
                if !pays || room == 0 {
                    break;
                }
                room -= 1;
                let tx = self.pool.remove(&id).unwrap();
                state.execute(&tx);
                mined.push(tx);
            }
        }
        // The bundler sends on what it has, from an account of its own.
        for (_, tx) in self.pool.range((ACCOUNTS, 0)..) {
            if 4 * tx.fee + 4 >= self.fee {
                for call in &tx.calls {
                    state.call(call, tx.hash(), None);
                }
            }
        }
        let is_open = |lane: u64, tx: &Tx| {
            tx.calls.iter().all(|call| match call {
                Call::Op(op) => of(&state.seqs, &(op.sender, op.kind)) <= op.seq,
                _ => lane < ACCOUNTS,
            })
        };
        self.pool.retain(
            |(lane, nonce), tx| {
                if *lane < ACCOUNTS { *nonce >= of(&state.nonces, lane) } else { is_open(*lane, tx) }
            },
        );
        self.blocks.push((Arc::new(state), mined));
    }

    /// A lease was given.
    pub fn leased(&mut self, lease: &Lease, owner: &OwnerId, seconds: u64) {
        let until = self.now + seconds;
        let before = self.leases.insert(lease.lane.clone(), (owner.clone(), until));
        if let Some((other, until)) = before
            && other != *owner
        {
            self.tally("lane changed hands");
            if self.now < until {
                self.violations.push(format!("I9 {} was leased to two at once", lease.lane));
            }
        }
    }

    /// A node is sent a transaction.
    pub fn accept(&mut self, tx: Tx) {
        if !self.stored.contains(&tx.hash()) {
            self.violations.push(format!("I3 sent before it was stored: lane {} nonce {}", tx.lane, tx.nonce));
        }
        self.taken.insert(transaction(tx.hash()));
        let id = (tx.lane, tx.nonce);
        let used = tx.lane < ACCOUNTS && tx.nonce < of(&self.head().nonces, &tx.lane);
        if used || self.pool.get(&id).is_some_and(|other| other.fee >= tx.fee) {
            return;
        }
        if self.happens(self.troubles.lost) {
            self.tally("send lost");
            return;
        }
        self.heard.extend(tx.calls.iter().cloned());
        self.pool.insert(id, tx);
    }
}

/// A key as it is told to people.
pub fn name(key: &PaymentKey) -> String {
    format!("{:016x}", crate::chain::digest(key.as_bytes()))
}
