//! Chance, troubles, the chain, and what the run has seen of it. Everything comes from the seed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, U256};
use x402_devchain::{DevChain, MiningMode};
use x402_types::{ErrorReason, Fault, UnixSeconds};

use crate::approvals::Approval;

/// The time of the first block.
const START: u64 = 1_740_672_000;
/// The seconds between two blocks.
pub const BLOCK: u64 = 2;
/// The blocks above a final one.
pub const DEPTH: u64 = 2;
/// The block from which nothing goes wrong any more.
pub const CALM: u64 = 34;
/// The block after which a run ends, whatever is open.
pub const END: u64 = 110;

/// A splitmix64 generator.
pub struct Chance(u64);

impl Chance {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn percent(&mut self, p: u64) -> bool {
        self.below(100) < p
    }
}

/// How likely each trouble is in this run; 0: it does not happen.
#[derive(Debug, Clone, Copy)]
pub struct Troubles {
    /// A call outside fails, before or after it took effect, in a thousand.
    pub rpc: u64,
    /// A process dies, in a thousand calls.
    pub crash: u64,
    /// A transaction is forgotten by the pool, in a hundred blocks.
    pub lost: u64,
    /// Blocks are taken back, in a hundred blocks.
    pub reorg: u64,
    /// The base fee goes up, in a hundred blocks.
    pub surge: u64,
    /// Others settle what they have seen, or a payer acts against it, in a hundred blocks.
    pub foreign: u64,
    /// A payer takes an allowance back after the approval, in a hundred blocks.
    pub back: u64,
}

/// A payer and token, as a block had them.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    pub time: u64,
    pub nonce: u64,
    pub ether: U256,
    pub allowance: U256,
    pub balance: U256,
    pub base_fee: u64,
}

/// What a caller was told.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    Outcome(x402_facilitator_core::Outcome),
    Refused(ErrorReason),
}

pub struct Inner {
    pub chance: Chance,
    pub troubles: Troubles,
    pub calm: bool,
    /// By process: which start of it lives.
    pub lives: Vec<Option<u64>>,
    /// By payer and token, oldest first.
    pub history: BTreeMap<(Address, Address), Vec<Seen>>,
    /// The transactions that nodes were given and that may be lost.
    pub sent: Vec<B256>,
    /// The transactions of others that settle.
    pub outsiders: BTreeSet<B256>,
    /// The approvals that payers signed, by their bytes.
    pub approvals: BTreeMap<Bytes, Approval>,
    /// What was told, by payment, spelling and request.
    pub told: Vec<(usize, String, Told)>,
    pub violations: BTreeSet<String>,
    pub tally: BTreeMap<&'static str, u64>,
}

/// A handle on the world.
#[derive(Clone)]
pub struct World {
    pub chain: DevChain,
    inner: Arc<Mutex<Inner>>,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let chain = DevChain::builder()
            .time(START)
            .time_step(BLOCK)
            .block_time(MiningMode::Manual)
            .finality_depth(DEPTH)
            .build()
            .unwrap();
        let mut chance = Chance(seed);
        let mut odds = |most: u64| if chance.percent(60) { 1 + chance.below(most) } else { 0 };
        let troubles = Troubles {
            rpc: odds(60),
            crash: odds(6),
            lost: odds(30),
            reorg: odds(20),
            surge: odds(20),
            foreign: odds(60),
            back: odds(60),
        };
        let inner = Inner {
            chance,
            troubles,
            calm: false,
            lives: Vec::new(),
            history: BTreeMap::new(),
            sent: Vec::new(),
            outsiders: BTreeSet::new(),
            approvals: BTreeMap::new(),
            told: Vec::new(),
            violations: BTreeSet::new(),
            tally: BTreeMap::new(),
        };
        Self { chain, inner: Arc::new(Mutex::new(inner)) }
    }

    pub fn with<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        f(&mut self.inner.lock().unwrap())
    }

    pub fn now(&self) -> UnixSeconds {
        UnixSeconds(self.chain.time())
    }

    pub fn tally(&self, what: &'static str) {
        self.with(|inner| *inner.tally.entry(what).or_default() += 1);
    }

    pub fn violation(&self, what: String) {
        self.with(|inner| inner.violations.insert(what));
    }

    /// What blocks of the last seconds had of a payer and token: a plan may be as old as that.
    pub fn recent(&self, payer: Address, token: Address, seconds: u64) -> Vec<Seen> {
        let since = self.now().0.saturating_sub(seconds);
        self.with(|inner| {
            let all = inner.history.get(&(payer, token)).cloned().unwrap_or_default();
            all.into_iter().filter(|seen| seen.time >= since).collect()
        })
    }
}

/// A process as the world sees it: each of its calls outside takes time, may be lost, and may be its last.
#[derive(Clone)]
pub struct Hop {
    pub world: World,
    pub process: usize,
    pub life: u64,
}

impl Hop {
    /// The way to something outside.
    pub async fn there(&self) -> Result<(), Fault> {
        self.hop("call lost").await
    }

    /// And back.
    pub async fn back(&self) -> Result<(), Fault> {
        self.hop("answer lost").await
    }

    /// What a dead process still does, it does not.
    async fn live(&self) {
        if self.world.with(|inner| inner.lives[self.process] != Some(self.life)) {
            std::future::pending::<()>().await;
        }
    }

    async fn hop(&self, what: &'static str) -> Result<(), Fault> {
        self.live().await;
        let (pause, crash, lost) = self.world.with(|inner| {
            let (pause, crash, lost) = (inner.chance.below(120), inner.chance.below(1_000), inner.chance.below(1_000));
            let Troubles { rpc, crash: dies, .. } = inner.troubles;
            (pause, !inner.calm && crash < dies, !inner.calm && lost < rpc)
        });
        tokio::time::sleep(Duration::from_millis(pause)).await;
        self.live().await;
        if crash {
            self.world.tally("crash");
            self.world.with(|inner| inner.lives[self.process] = None);
            std::future::pending::<()>().await;
        }
        if lost {
            self.world.tally(what);
            return Err(Fault::unreachable("outside", what));
        }
        Ok(())
    }
}
