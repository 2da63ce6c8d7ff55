//! A chain that moves toy money, and everything that can happen to it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// A hash, as everything here is hashed.
pub type Hash = u64;

/// What a transaction does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Call {
    /// An authorized transfer. `only`: the one lane that may send it, and alone (`upto`).
    Pull { payer: u64, nonce: u64, amount: u64, before: u64, only: Option<u64> },
    /// An operation of a smart account.
    Op(Op),
    /// The payer cancels an authorization.
    Cancel { payer: u64, nonce: u64 },
    /// The payer's balance changes.
    Drain { payer: u64, left: u64 },
    /// Somebody uses a lane's key elsewhere.
    Elsewhere { lane: u64 },
}

/// An operation of a smart account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Op {
    pub sender: u64,
    pub kind: Kind,
    pub seq: u64,
    pub amount: u64,
    /// How often the account had ordered when it was built: it reverts at any other number.
    pub epoch: u64,
    pub salt: u64,
    pub until: u64,
    /// What it is for.
    pub purchase: Hash,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    Order,
    Redeem,
}

impl Op {
    pub fn hash(&self) -> Hash {
        digest(&serde_json::to_vec(self).unwrap())
    }
}

/// A signed transaction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tx {
    pub lane: u64,
    pub nonce: u64,
    pub fee: u64,
    pub calls: Vec<Call>,
}

impl Tx {
    pub fn hash(&self) -> Hash {
        digest(&serde_json::to_vec(self).unwrap())
    }
}

pub fn digest(bytes: &[u8]) -> Hash {
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)))
}

pub fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What became of an authorization.
#[derive(Debug, Clone, PartialEq)]
pub enum Auth {
    Used(Done),
    Cancelled,
}

/// What happened, and in which transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    pub tx: Hash,
    pub amount: u64,
}

/// What the invariants count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    Pulled { payer: u64, nonce: u64 },
    Ordered(Hash),
    Redeemed(Hash),
}

/// The chain after a block.
#[derive(Debug, Clone, Default)]
pub struct State {
    pub time: u64,
    pub nonces: BTreeMap<u64, u64>,
    pub auths: BTreeMap<(u64, u64), Auth>,
    pub balances: BTreeMap<u64, u64>,
    pub credits: BTreeMap<u64, u64>,
    pub epochs: BTreeMap<u64, u64>,
    pub seqs: BTreeMap<(u64, Kind), u64>,
    pub ops: BTreeMap<Hash, (bool, Done)>,
    pub landed: BTreeSet<Hash>,
    pub effects: Vec<(Effect, Done)>,
}

pub fn of<K: Ord>(map: &BTreeMap<K, u64>, key: &K) -> u64 {
    map.get(key).copied().unwrap_or(0)
}

/// From this one on payers are contracts that pass in every simulation and revert in every transaction.
pub const REVERTING: u64 = 900;

/// What an order buys.
pub const CREDITS: u64 = 10;

impl State {
    pub fn execute(&mut self, tx: &Tx) {
        *self.nonces.entry(tx.lane).or_default() += 1;
        self.landed.insert(tx.hash());
        // handleOps reverts as a whole for one operation that is not valid.
        let valid = |call: &Call| match call {
            Call::Op(op) => of(&self.seqs, &(op.sender, op.kind)) == op.seq && self.time <= op.until,
            _ => true,
        };
        if tx.calls.iter().all(valid) {
            for call in &tx.calls {
                self.call(call, tx.hash(), Some((tx.lane, tx.calls.len())));
            }
        }
    }

    /// `from`: the lane and with how many calls it travels; `None`: somebody else.
    pub fn call(&mut self, call: &Call, tx: Hash, from: Option<(u64, usize)>) {
        match *call {
            Call::Pull { payer, nonce, amount, before, only } => {
                let allowed = only.is_none_or(|only| from == Some((only, 1)));
                let used = self.auths.contains_key(&(payer, nonce));
                if payer >= REVERTING || !allowed || used || self.time > before || of(&self.balances, &payer) < amount {
                    return;
                }
                *self.balances.entry(payer).or_default() -= amount;
                let done = Done { tx, amount };
                self.auths.insert((payer, nonce), Auth::Used(done));
                self.effects.push((Effect::Pulled { payer, nonce }, done));
            }
            Call::Op(ref op) => self.operate(op, tx),
            Call::Cancel { payer, nonce } => {
                self.auths.entry((payer, nonce)).or_insert(Auth::Cancelled);
            }
            Call::Drain { payer, left } => {
                self.balances.insert(payer, left);
            }
            Call::Elsewhere { lane } => *self.nonces.entry(lane).or_default() += 1,
        }
    }

    fn operate(&mut self, op: &Op, tx: Hash) {
        if of(&self.seqs, &(op.sender, op.kind)) != op.seq || self.time > op.until {
            return;
        }
        *self.seqs.entry((op.sender, op.kind)).or_default() += 1;
        let credits = self.credits.entry(op.sender).or_default();
        let epoch = self.epochs.entry(op.sender).or_default();
        let ok = match op.kind {
            Kind::Order => {
                *credits += CREDITS;
                *epoch += 1;
                true
            }
            Kind::Redeem if *credits >= op.amount && *epoch == op.epoch => {
                *credits -= op.amount;
                true
            }
            Kind::Redeem => false,
        };
        let done = Done { tx, amount: op.amount };
        self.ops.insert(op.hash(), (ok, done));
        if ok {
            let effect = match op.kind {
                Kind::Order => Effect::Ordered(op.purchase),
                Kind::Redeem => Effect::Redeemed(op.purchase),
            };
            self.effects.push((effect, done));
        }
    }
}
