//! The rows of the table, and the goals that they are held against.

use std::time::Duration;

use crate::anvil::Blocks;
use crate::facilitator::{ALL, Implementation};

/// What is done.
#[derive(Debug, Clone, Copy)]
pub enum Load {
    /// `/verify`, so often, over so many connections.
    Verify { connections: usize, calls: usize },
    /// `/settle`, one after the other, at times spread over the interval of blocks.
    One { payments: usize },
    /// `/settle`, all at once, each over its own connection.
    AtOnce { payments: usize },
    /// `/settle`, so many a second.
    Paced { payments: usize, a_second: u32 },
    /// The process killed while no block is made and so many payments are pending, and started again.
    Restart { payments: usize },
}

/// A figure's name, as the table prints it.
pub type Metric = &'static str;

pub const A_SECOND: Metric = "a second";
pub const CPU: Metric = "CPU, ms";
pub const CALLS: Metric = "RPC calls";
pub const REQUESTS: Metric = "requests to the node";
pub const SENT: Metric = "sent, median ms";
pub const SENT_99: Metric = "sent, p99 ms";
pub const SENT_RATE: Metric = "sent a second";
pub const ANSWERED: Metric = "answered, median s";
pub const ALL_ANSWERED: Metric = "all answered, s";
/// By the chain.
pub const SETTLED: Metric = "settled";
/// Answered as a success.
pub const SUCCESSES: Metric = "answered as settled";
pub const GAS: Metric = "gas";
pub const ALL_SETTLED: Metric = "all settled, s";
/// The blocks of the clock that pass until then.
pub const BLOCKS_AWAITED: Metric = "blocks until all are answered";
pub const BLOCKS: Metric = "blocks from the first to the last";
pub const MEMORY: Metric = "peak memory, MiB";

/// Figures that a row prints only where a goal names them.
pub const UNDERLYING: &[Metric] = &[SETTLED, SENT_RATE, REQUESTS, GAS, BLOCKS_AWAITED];

/// What this build's figure is held against.
#[derive(Debug, Clone, Copy)]
pub enum Bound {
    /// At most this multiple of another's.
    AtMost(f64, Implementation),
    /// At least this multiple of another's.
    AtLeast(f64, Implementation),
    /// At most this.
    NoMore(f64),
    /// At least this.
    NoLess(f64),
}

/// A row.
pub struct Row {
    pub name: &'static str,
    pub load: Load,
    pub blocks: Blocks,
    pub round_trip: Duration,
    pub signers: usize,
    /// Further lines of TOML, behind the network of this tree's configuration.
    pub further: &'static str,
    pub who: &'static [Implementation],
    pub goals: &'static [(Metric, Bound)],
}

const OURS: &[Implementation] = &[Implementation::This];
const BOTH: &[Implementation] = &[Implementation::Before, Implementation::This];
/// Where the node client's poll decides nothing.
const UNPOLLED: &[Implementation] =
    &[Implementation::Before, Implementation::This, Implementation::X402Rs, Implementation::R402];
const NEAR: Duration = Duration::ZERO;
const FAR: Duration = Duration::from_millis(40);

const fn row(name: &'static str, load: Load, blocks: Blocks, round_trip: Duration) -> Row {
    Row { name, load, blocks, round_trip, signers: 1, further: "", who: &ALL, goals: &[] }
}

impl Row {
    const fn of(mut self, who: &'static [Implementation]) -> Self {
        self.who = who;
        self
    }

    const fn signers(mut self, signers: usize) -> Self {
        self.signers = signers;
        self
    }

    const fn with(mut self, further: &'static str) -> Self {
        self.further = further;
        self
    }

    const fn held_to(mut self, goals: &'static [(Metric, Bound)]) -> Self {
        self.goals = goals;
        self
    }
}

const BATCHED: &str = "[network.batching]";
/// Long enough for all of a batch to be there, however busy the machine is.
const BY_20: &str = "[network.batching]\nmost_payments = 20\ngather_milliseconds = 1000";
const BY_100: &str = "[network.batching]\nmost_payments = 100\ngather_milliseconds = 2000";

/// All callers of a row have one address, which may have 1,024 connections by default.
const MANY: &str = "[limits]\nconnections = 20000\naddress_connections = 20000\n\
    caller_requests_per_second = 1000000\ncaller_burst = 1000000\n\
    address_requests_per_second = 1000000\naddress_burst = 1000000";

/// All rows.
pub fn rows() -> Vec<Row> {
    use Blocks::{Each, Timed};
    use Bound::{AtLeast, AtMost, NoLess, NoMore};
    use Implementation::{Before, X402Rs};
    use Load::{AtOnce, One, Paced, Restart, Verify};
    vec![
        row("verify 16", Verify { connections: 16, calls: 5_000 }, Timed, NEAR).of(UNPOLLED),
        row("verify 64", Verify { connections: 64, calls: 5_000 }, Timed, NEAR)
            .of(UNPOLLED)
            .held_to(&[(A_SECOND, AtLeast(1.5, Before)), (A_SECOND, AtLeast(2.5, X402Rs))]),
        row("verify 64, 40 ms", Verify { connections: 64, calls: 3_000 }, Timed, FAR).of(UNPOLLED),
        row("one at a time, 2 s", One { payments: 10 }, Timed, NEAR).held_to(&[(CALLS, NoMore(8.0))]),
        row("one at a time, 2 s, 40 ms", One { payments: 5 }, Timed, FAR),
        row("10 at once, each", AtOnce { payments: 10 }, Each, NEAR),
        row("10 at once, 2 s", AtOnce { payments: 10 }, Timed, NEAR),
        row("200 at once, each", AtOnce { payments: 200 }, Each, NEAR).held_to(&[
            (CPU, AtMost(0.9, X402Rs)),
            (CPU, AtMost(1.0 / 12.0, Before)),
            (SENT, AtMost(1.2, X402Rs)),
            (SENT_99, AtMost(1.2, X402Rs)),
            (SUCCESSES, NoLess(200.0)),
        ]),
        row("200 at once, 2 s", AtOnce { payments: 200 }, Timed, NEAR),
        row("200 at once, 2 s, 40 ms", AtOnce { payments: 200 }, Timed, FAR)
            .held_to(&[(SENT, AtMost(1.2, X402Rs)), (SENT_99, AtMost(1.2, X402Rs))]),
        row("1000 at once, each", AtOnce { payments: 1_000 }, Each, NEAR).held_to(&[
            (CPU, AtMost(0.9, X402Rs)),
            (CPU, AtMost(1.0 / 50.0, Before)),
            (SENT, AtMost(1.2, X402Rs)),
            (SENT_99, AtMost(1.2, X402Rs)),
            (SUCCESSES, NoLess(1_000.0)),
        ]),
        row("1000 at once, 2 s", AtOnce { payments: 1_000 }, Timed, NEAR)
            .held_to(&[(ALL_ANSWERED, AtMost(0.5, X402Rs)), (SUCCESSES, NoLess(1_000.0))]),
        row("1000 at once, 2 s, 40 ms", AtOnce { payments: 1_000 }, Timed, FAR),
        row("1000 at once, batched, 2 s", AtOnce { payments: 1_000 }, Timed, NEAR)
            .of(OURS)
            .with(BATCHED)
            .held_to(&[(BLOCKS_AWAITED, NoMore(2.0)), (SUCCESSES, NoLess(1_000.0))]),
        // 17f55ea sends the same call in a transaction of its own.
        row("batch of 20", AtOnce { payments: 20 }, Each, NEAR)
            .of(BOTH)
            .with(BY_20)
            .held_to(&[(GAS, AtMost(0.72, Before))]),
        row("batch of 100", AtOnce { payments: 100 }, Each, NEAR)
            .of(BOTH)
            .with(BY_100)
            .held_to(&[(GAS, AtMost(0.68, Before))]),
        row("100 a second, 2 s", Paced { payments: 1_500, a_second: 100 }, Timed, NEAR)
            .held_to(&[(CALLS, NoMore(0.2))]),
        row("100 a second, batched, 2 s", Paced { payments: 1_500, a_second: 100 }, Timed, NEAR)
            .of(OURS)
            .with(BATCHED)
            .held_to(&[(CALLS, NoMore(0.2))]),
        row("4 lanes, 4000 at once, 2 s", AtOnce { payments: 4_000 }, Timed, NEAR)
            .of(OURS)
            .signers(4)
            .with(MANY)
            .held_to(&[(SENT_RATE, NoLess(1_000.0))]),
        row("10000 at once, 2 s", AtOnce { payments: 10_000 }, Timed, NEAR)
            .of(OURS)
            .with(MANY)
            .held_to(&[(SUCCESSES, NoLess(10_000.0))]),
        row("restart, 10000 pending, 2 s", Restart { payments: 10_000 }, Timed, NEAR).of(BOTH).signers(4).held_to(&[
            (CPU, AtMost(1.0 / 20.0, Before)),
            (SETTLED, NoLess(10_000.0)),
            (MEMORY, NoMore(200.0)),
        ]),
    ]
}
