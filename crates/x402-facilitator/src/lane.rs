//! One lane's worker: takes the lease, asks the settlement machine for one thing after the other, waits to be woken.
//!
//! It keeps nothing that a restart would miss: what is to be done stands in the ledger.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::watch;
use x402_facilitator_core::{LaneId, Lease, Progress};
use x402_types::{Fault, PaymentKey, UnixSeconds};

use crate::clock::now;
use crate::engine::Engine;

/// Payments worked on at once.
const AT_ONCE: usize = 256;
/// How long nothing happens at most before the lane looks again.
const IDLE: Duration = Duration::from_millis(500);
/// How long something rests after it failed.
const REST: Duration = Duration::from_millis(250);
/// How long something rests after another writer was first.
const YIELD: Duration = Duration::from_millis(10);

enum Done {
    Advanced(PaymentKey, Result<Progress, Fault>),
    Carried(Result<Progress, Fault>),
}

type Work = Pin<Box<dyn Future<Output = Done> + Send>>;

/// The worker of one lane.
pub(crate) struct Lane {
    engine: Arc<Engine>,
    id: LaneId,
    lease: Option<(Lease, Instant)>,
    running: FuturesUnordered<Work>,
    /// What is worked on (`None`) or rests until a time.
    busy: BTreeMap<PaymentKey, Option<Instant>>,
    carrying: bool,
    /// There may be something to carry.
    wanted: bool,
    carry_from: Instant,
}

impl Lane {
    pub(crate) fn new(engine: Arc<Engine>, id: LaneId) -> Self {
        Self {
            engine,
            id,
            lease: None,
            running: FuturesUnordered::new(),
            busy: BTreeMap::new(),
            carrying: false,
            wanted: true,
            carry_from: Instant::now(),
        }
    }

    /// Works until `stop` says so and nothing of the lane is unfinished.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut claims = self.engine.claims();
        let mut blocks = self.engine.blocks();
        let mut nonces = self.engine.nonces();
        let mut block = true;
        loop {
            match self.round(block).await {
                Ok(open) if *stop.borrow() && !open && self.running.is_empty() => return,
                // Nothing is carried here: another process has the lane and finishes it.
                Ok(_) if *stop.borrow() && self.lease.is_none() && self.running.is_empty() => return,
                Ok(_) => block = false,
                Err(fault) => {
                    tracing::warn!(lane = %self.id, %fault, "the ledger does not answer");
                    tokio::time::sleep(REST).await;
                }
            }
            let rest_over = self.next_rest_over();
            tokio::select! {
                Some(done) = self.running.next(), if !self.running.is_empty() => self.note(done),
                _ = claims.changed() => {}
                _ = blocks.changed() => { block = true; self.wanted = true; }
                _ = nonces.changed() => self.wanted = true,
                _ = stop.changed() => {}
                () = tokio::time::sleep(IDLE) => self.wanted = true,
                () = tokio::time::sleep_until(rest_over.into()) => {}
            }
        }
    }

    /// Starts what is due. Answers whether the lane has unfinished payments.
    async fn round(&mut self, block: bool) -> Result<bool, Fault> {
        let Some(lease) = self.hold().await? else { return Ok(true) };
        let at = Instant::now();
        self.busy.retain(|_, rest| rest.is_none_or(|until| until > at));
        let time = now();
        // A new block is looked at at once, whatever the pace says.
        let horizon = if block { UnixSeconds(time.0.saturating_add(self.engine.pace().poll)) } else { time };
        for key in self.engine.ledger().due(&self.id, horizon, AT_ONCE).await? {
            if self.busy.contains_key(&key) {
                continue;
            }
            self.busy.insert(key.clone(), None);
            let (engine, lease) = (Arc::clone(&self.engine), lease.clone());
            self.running.push(Box::pin(async move {
                let done = engine.settlement().advance(&lease, &key, now()).await;
                Done::Advanced(key, done)
            }));
        }
        if self.wanted && !self.carrying && self.carry_from <= at {
            (self.wanted, self.carrying) = (false, true);
            let engine = Arc::clone(&self.engine);
            self.running.push(Box::pin(async move { Done::Carried(engine.settlement().carry(&lease, now()).await) }));
        }
        let open = !self.engine.ledger().due(&self.id, UnixSeconds(u64::MAX), 1).await?.is_empty();
        self.engine.note_unfinished(&self.id, open);
        Ok(open)
    }

    /// The lease, renewed after a third of its time.
    async fn hold(&mut self) -> Result<Option<Lease>, Fault> {
        let seconds = self.engine.lease_seconds();
        if let Some((lease, since)) = &self.lease
            && since.elapsed() < Duration::from_secs(seconds) / 3
        {
            return Ok(Some(lease.clone()));
        }
        let asked = Instant::now();
        let lease = self.engine.ledger().lease(&self.id, self.engine.settlement().owner(), seconds).await?;
        self.lease = lease.clone().map(|lease| (lease, asked));
        Ok(lease)
    }

    /// When the next of those that rest may be tried again.
    fn next_rest_over(&self) -> Instant {
        let carry = (self.wanted && !self.carrying).then_some(self.carry_from);
        let rests = self.busy.values().filter_map(|rest| *rest).chain(carry);
        rests.min().unwrap_or_else(|| Instant::now() + IDLE)
    }

    fn note(&mut self, done: Done) {
        let rest = |progress: &Result<Progress, Fault>| match progress {
            Ok(Progress::Idle | Progress::Moved) => None,
            Ok(Progress::Overtaken) => Some(YIELD),
            Err(_) => Some(REST),
        };
        let progress = match done {
            Done::Advanced(key, progress) => {
                match rest(&progress) {
                    Some(rest) => self.busy.insert(key, Some(Instant::now() + rest)),
                    None => self.busy.remove(&key),
                };
                progress
            }
            Done::Carried(progress) => {
                self.carrying = false;
                if let Some(rest) = rest(&progress) {
                    self.wanted = true;
                    self.carry_from = Instant::now() + rest;
                }
                progress
            }
        };
        match progress {
            Ok(Progress::Moved) => {
                self.wanted = true;
                self.engine.moved();
            }
            // Perhaps another process has the lane: ask before anything else is tried.
            Ok(Progress::Overtaken) => self.lease = None,
            Ok(Progress::Idle) => {}
            Err(fault) => tracing::warn!(lane = %self.id, %fault, "it will be tried again"),
        }
    }
}
